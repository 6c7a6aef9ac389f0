"""The bot is killed, doubled and cut off in the middle of a run: it goes on, and nothing is done twice."""

import asyncio

import pytest

from lab.bot_process import BotProcess
from lab.datacentre import Lab
from recovery.engine import LEASE_TTL_S
from recovery.journal import Event, GateOpened, Outcome, RunState, StepStatus, StepVerified
from recovery.plan import StepId
from tests.integration.cuts import Trap, cut_in_trap, cut_off, cut_waiting
from tests.integration.replicas import (
    Act,
    Play,
    Story,
    Strike,
    both,
    counted,
    hand_overs,
    kill_between,
    kill_within,
    lease_gaps_s,
    planned,
    replicas,
    running,
    takeovers,
)
from tests.integration.scenarios.killed_stories import (
    PEERS_JSON,
    PEERS_JSON_AND_NEW,
    READMIT,
    STAGED,
    STAGED_WITH_A_CLIENT,
    three_vote_with_the_key,
)

TAKE_OVER_S = 2 * LEASE_TTL_S
"""After the lease has run out: the next look (1 s) and asking the hosts for their epoch, and much slack for both."""


def assert_taken_over_in_time(events: tuple[Event, ...]) -> None:
    """Not before the lease of the one that fell silent ran out, and within the allowance after that."""
    for gap_s in lease_gaps_s(events):
        assert LEASE_TTL_S - 0.1 <= gap_s <= LEASE_TTL_S + TAKE_OVER_S


def served(bot: BotProcess) -> list[str]:
    """Which of a run's first two acts this process says it has served."""
    return [what for what in ("proposed", "approved plan") if f'"event": "{what}"' in bot.log_text]


def approving(play: Play) -> list[Act]:
    """The acts of which each must be one approval."""
    return [act for act in play.acts if act.approves]


async def test_killed_cut_off_and_doubled_a_run_still_does_each_thing_once(lab: Lab) -> None:
    """Two bots: the driver is killed in a stop, after a leader came back and in a wipe, and SSH is cut three times.

    It is cut while an archive waits for the host's lock, while another is at work, and when a start is done and has
    not answered yet. Both bots are sent what people type and press, and nothing of it is lost; whoever takes over
    does so in time. A peers.json recovery and a readmission end as they should; the hosts' journals count exactly
    the starts and stops of the plans; two servers never lead at once.
    """
    await PEERS_JSON.break_it(lab, None)
    before, ran = await counted(lab.servers), await running(lab.servers)
    at_work = Trap(lab.host("s1"), "tar", when='[ "$4" = -cf ]')
    answering = Trap(lab.host("s2"), "sync", when='[ -e "$1/start-s2.1.do" ]')
    await asyncio.gather(at_work.lay(), answering.lay())
    async with replicas(lab, count=2) as bots:
        first, second = bots.fleet.bots
        disturbed = both(
            kill_within("stop-s1"),
            kill_between("leader"),
            cut_waiting(lab.host("s2"), after="stop-s2", within="archive-s2"),
            cut_in_trap(at_work, within="archive-s1", until_asked_again=True),
            cut_in_trap(answering, within="start-s2"),
        )
        play = Play(bots, disturbed)
        run, healed = await play.run(PEERS_JSON.command, timeout_s=300)
        assert healed.outcome is Outcome.RECOVERED
        await PEERS_JSON.heals(lab)
        assert play.hit >= {"stop-s1", "leader"}
        events = await bots.events(run)
        assert len(takeovers(events)) == bots.fleet.killed == 2
        assert_taken_over_in_time(events)
        # An agent that still tries its own retry_join answers a join late; that looks like one that was cut off.
        assert {s for s in cut_off(bots) if not s.startswith("join-")} == {
            "archive-s1",
            "archive-s2",
            "start-s2",
        }
        assert await at_work.calls() == 1
        assert any(isinstance(e, StepVerified) and e.step == "start-s2" and e.resolved for e in events)
        assert (served(first), served(second)) == (["proposed"], ["approved plan"])
        assert len(approving(play)) == len(healed.approvals)
        said = bots.thread(run)
        for taken in takeovers(events):
            assert f"{taken.owner} TOOK OVER from {taken.took_over_from}" in said
        again = Play(bots, kill_within("wipe-s5"))
        _, readmitted = await again.run(READMIT, timeout_s=240)
        assert readmitted.outcome is Outcome.RECOVERED
        assert "wipe-s5" in again.hit
        await three_vote_with_the_key(lab)
    expected = planned([healed, readmitted], ran=ran)
    assert (await counted(lab.servers)).since(before) == expected


async def test_a_rolling_deploy_finishes_the_step_and_loses_no_click(lab: Lab) -> None:
    """SIGTERM to the driver as soon as it has acked bob's click, and again within a start: it hands over each time.

    Nobody waits for a lease. Every click and command is acked, at the first try, and each click is one approval;
    nothing is done twice.
    """
    await lab.up(servers=3)
    for name in ("s2", "s3"):
        await lab.host(name).run("systemctl stop consul")
    before, ran = await counted(lab.servers), await running(lab.servers)
    async with replicas(lab, count=2) as bots:
        deploys: list[asyncio.Task[int]] = []

        def deploy(bot: BotProcess) -> None:
            deploys.append(asyncio.create_task(bots.fleet.replace(bot)))

        async def in_a_start(play: Play, events: tuple[Event, ...], state: RunState) -> None:
            del play
            if any(isinstance(event, GateOpened) for event in events):
                # Slack takes its time to say who bob is: his click is under way while its process is being stopped.
                bots.slack.fail("users.info", delay_s=1.0)
            if state.step_state(StepId("start-s2")).status is StepStatus.DOING and len(deploys) == 1:
                driver = bots.fleet.driver(state.owner)
                if driver is not None:
                    deploy(driver)

        def after_the_ack(act: Act) -> None:
            if not deploys:
                deploy(act.bot)

        play = Play(
            bots,
            in_a_start,
            serves=lambda state: bots.fleet.driver(state.owner),
            acknowledged=after_the_ack,
        )
        run, ended = await play.run("recover {cluster}", timeout_s=120)
        assert ended.outcome is Outcome.RECOVERED
        assert await asyncio.gather(*deploys) == [0, 0]
        events = await bots.events(run)
        assert len(hand_overs(events)) == 2
        assert takeovers(events) == []
        assert len(bots.slack.deliveries) == len(play.acts)
        assert len(approving(play)) == len(ended.approvals) == 1
        bots.slack.assert_clean()
    assert (await counted(lab.servers)).since(before) == planned([ended], ran=ran)


@pytest.mark.soak
@pytest.mark.parametrize("strike", [kill_within(), kill_between()], ids=["within", "between"])
@pytest.mark.parametrize(
    "story", [PEERS_JSON, PEERS_JSON_AND_NEW, STAGED, STAGED_WITH_A_CLIENT], ids=lambda story: str(story.name)
)
async def test_killed_at_every_step_a_run_still_does_each_thing_once(
    lab: Lab, request: pytest.FixtureRequest, story: Story, strike: Strike
) -> None:
    """One bot, killed within (or right after) every single step of the plan; a new process finishes each time."""
    await story.break_it(lab, request.getfixturevalue("old_consul") if story.old else None)
    before, ran = await counted(lab.hosts), await running(lab.hosts)
    async with replicas(lab, count=1) as bots:
        play = Play(bots, strike)
        run, ended = await play.run(story.command, timeout_s=3600)
        assert ended.outcome is Outcome.RECOVERED
        # There is one process: how soon the next one takes over is how soon it is up. Never before the lease ran out.
        assert min(lease_gaps_s(await bots.events(run))) >= LEASE_TTL_S - 0.1
        await story.heals(lab)
    done = {
        step.id
        for step, at in zip(ended.plan.steps, ended.steps, strict=True)
        if at.status is StepStatus.DONE
    }
    # The last one's end is the run's end: there is nobody left to kill.
    assert done - play.hit <= {ended.plan.steps[-1].id}
    assert {step for step in story.covers if not any(each.startswith(step) for each in play.hit)} == set()
    assert (await counted(lab.hosts)).since(before) == planned([ended], ran=ran)
