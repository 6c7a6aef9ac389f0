"""The bot is killed, doubled and cut off in the middle of a run: it goes on, and nothing is done twice."""

import asyncio

import pytest

from lab.datacentre import Lab
from lab.host import Host
from recovery.journal import Event, GateOpened, Outcome, RunState, StepStarted, StepStatus, StepVerified
from recovery.plan import StepId
from tests.integration.replicas import (
    Play,
    Story,
    Strike,
    both,
    counted,
    hand_overs,
    kill_between,
    kill_within,
    planned,
    replicas,
    running,
    takeovers,
)
from tests.integration.scenarios.killed_stories import PEERS_JSON, READMIT, STAGED, three_vote_with_the_key


def cut_ssh(host: Host, *, after: str, within: str) -> Strike:
    """Kill the host's SSH sessions while the step's command waits for the host's lock, which we hold for it."""
    holder: list[asyncio.subprocess.Process] = []
    cut: list[str] = []

    async def strike(play: Play, events: tuple[Event, ...], state: RunState) -> None:
        del play, state
        for event in events:
            if isinstance(event, StepVerified) and event.step == after and not holder:
                command = host.enter_command("flock", "/var/lib/consul-recovery/lock", "sleep", "60")
                holder.append(await asyncio.create_subprocess_exec(*command))
            if isinstance(event, StepStarted) and event.step == within and not cut:
                await host.run(_WAIT_FOR_THE_LOCK, timeout_s=15)
                cut.append(await host.run(_KILL_SESSIONS))
                await host.run("kill $(pgrep --full --exact 'sleep 60')")
                await holder[0].wait()

    return strike


_WAIT_FOR_THE_LOCK = "until pgrep --full --exact 'flock -w 20 9' >/dev/null; do sleep 0.02; done"
_KILL_SESSIONS = "pids=$(pgrep --full 'ssh[d]: recovery@notty'); kill -9 $pids && echo $pids"


async def test_killed_cut_off_and_doubled_a_run_still_does_each_thing_once(lab: Lab) -> None:
    """Two bots: the driver is killed in a stop, after a leader came back and in a wipe, SSH is cut in an archive.

    Clicks go to either bot. A peers.json recovery and a readmission end as they should; the hosts' journals
    count exactly the starts and stops of the plans; two servers never lead at once.
    """
    await PEERS_JSON.break_it(lab, None)
    before, ran = await counted(lab.servers), await running(lab.servers)
    async with replicas(lab, count=2) as bots:
        disturbed = both(
            kill_within("stop-s1"),
            kill_between("leader"),
            cut_ssh(lab.host("s2"), after="stop-s2", within="archive-s2"),
        )
        play = Play(bots, disturbed)
        run, healed = await play.run(PEERS_JSON.command, timeout_s=300)
        assert healed.outcome is Outcome.RECOVERED
        await PEERS_JSON.heals(lab)
        assert play.hit >= {"stop-s1", "leader"}
        events = await bots.events(run)
        assert len(takeovers(events)) == bots.fleet.killed == 2
        card = play.card(run)
        assert card is not None
        said = "\n".join(bots.slack.plain_text(m) for m in bots.slack.thread(card.ts))
        for taken in takeovers(events):
            assert f"{taken.owner} TOOK OVER from {taken.took_over_from}" in said
        again = Play(bots, kill_within("wipe-s5"))
        _, readmitted = await again.run(READMIT, timeout_s=240)
        assert readmitted.outcome is Outcome.RECOVERED
        assert "wipe-s5" in again.hit
        await three_vote_with_the_key(lab)
        assert len({delivery.socket for delivery in bots.slack.deliveries}) > 1
    expected = planned([healed, readmitted], ran=ran)
    assert (await counted(lab.servers)).since(before) == expected


async def test_a_rolling_deploy_finishes_the_step_and_loses_no_click(lab: Lab) -> None:
    """SIGTERM to the driver while bob is asked, and again within a start: it hands over, and nobody waits a lease.

    Every click and command is acked; nothing is done twice.
    """
    await lab.up(servers=3)
    for name in ("s2", "s3"):
        await lab.host(name).run("systemctl stop consul")
    before, ran = await counted(lab.servers), await running(lab.servers)
    async with replicas(lab, count=2) as bots:
        deploys: list[asyncio.Task[int]] = []

        async def deploy(play: Play, events: tuple[Event, ...], state: RunState) -> None:
            del play
            asked = any(isinstance(event, GateOpened) for event in events)
            started = state.step_state(StepId("start-s2")).status is StepStatus.DOING
            if (asked and not deploys) or (started and len(deploys) == 1):
                driver = bots.fleet.driver(state.owner)
                assert driver is not None
                deploys.append(asyncio.create_task(bots.fleet.replace(driver)))

        play = Play(bots, deploy)
        run, ended = await play.run("recover {cluster}", timeout_s=120)
        assert ended.outcome is Outcome.RECOVERED
        assert await asyncio.gather(*deploys) == [0, 0]
        events = await bots.events(run)
        assert len(hand_overs(events)) == 2
        assert takeovers(events) == []
        bots.slack.assert_clean()
    assert (await counted(lab.servers)).since(before) == planned([ended], ran=ran)


@pytest.mark.soak
@pytest.mark.parametrize("strike", [kill_within(), kill_between()], ids=["within", "between"])
@pytest.mark.parametrize("story", [PEERS_JSON, STAGED], ids=lambda story: str(story.name))
async def test_killed_at_every_step_a_run_still_does_each_thing_once(
    lab: Lab, request: pytest.FixtureRequest, story: Story, strike: Strike
) -> None:
    """One bot, killed within (or right after) every single step of the plan; a new process finishes each time."""
    await story.break_it(lab, request.getfixturevalue("old_consul") if story.old else None)
    before, ran = await counted(lab.servers), await running(lab.servers)
    async with replicas(lab, count=1) as bots:
        play = Play(bots, strike)
        _, ended = await play.run(story.command, timeout_s=3600)
        assert ended.outcome is Outcome.RECOVERED
        await story.heals(lab)
    done = {
        step.id
        for step, at in zip(ended.plan.steps, ended.steps, strict=True)
        if at.status is StepStatus.DONE
    }
    # The last one's end is the run's end: there is nobody left to kill.
    assert done - play.hit <= {ended.plan.steps[-1].id}
    assert (await counted(lab.servers)).since(before) == planned([ended], ran=ran)
