"""The staged bootstrap on old Consul: the stand-in of 0.6.4, or the real program that LAB_CONSUL names.

Only the program differs. The sampler that watches every test fails it when two servers lead at once.
"""

import asyncio
from pathlib import Path

from lab.breakage import leave_stopped, stop_without_leave
from lab.datacentre import Lab
from lab.host import Host
from recovery.diagnosis import PeersEmptied
from recovery.journal import Event, Outcome, RunState, StepStatus
from recovery.plan import OverrideExpect, StepId
from recovery.service import Refused
from tests.integration.replicas import (
    Play,
    Strike,
    both,
    counted,
    kill_within,
    planned,
    replicas,
    running,
    takeovers,
)
from tests.integration.rig import Rig, open_rig
from tests.integration.scenarios.old_cluster import (
    ALONE,
    OVERRIDE,
    done,
    driven,
    formed_with,
    leave_one_after_the_other,
    left_one_after_the_other,
    proposed_in_a_hurry,
    put,
    start_all,
)


def hears_nobody(host: Host, *, after: str, until: str) -> Strike:
    """Let a server hear of no other one from the end of one step to the end of another."""
    cut: list[bool] = []

    async def strike(play: Play, events: tuple[Event, ...], state: RunState) -> None:
        del play, events
        for wanted, step, word in (([], after, "add"), ([True], until, "delete")):
            if cut == wanted and done(step)(state):
                await host.run(ALONE.format(word))
                cut.append(True)

    return strike


async def test_three_servers_stopped_one_after_the_other(lab: Lab, old_consul: Path) -> None:
    """One leader, never two; never the stalest log as the truth; the last key on all.

    The bot's process is killed within the override and within the start alone; a new one goes on, and nothing is
    done twice: the hosts' journals count the starts and stops of the plan. s1 hears of no leader at first: it is
    sorted as an error, stopped and started. Of the client agents two are known from the last known membership
    alone: c3 is a member again, c2 is gone with its host, which the budget allows.
    """
    await lab.up(servers=3, clients=3, consul=old_consul)
    async with replicas(lab, count=1, list_clients=False) as bots:
        await bots.core.service.status(bots.cluster)
        await lab.host("c2").kill()
        await stop_without_leave(lab.host("c3"))
        await leave_one_after_the_other(lab)
        await start_all(lab)
        report = await bots.core.service.status(bots.cluster)
        assert isinstance(report.diagnosis, PeersEmptied)
        known = {str(client.name): client.source for client in report.observation.clients}
        assert set(known) == {"c1", "c2", "c3"}
        assert all(known[name].startswith("last known membership") for name in ("c2", "c3")), known
        before, ran = await counted(lab.hosts), await running(lab.hosts)
        strike = both(
            kill_within("override-s3", "start-s3"),
            hears_nobody(lab.host("s1"), after="leader", until="stop-error-s1"),
        )
        play = Play(bots, strike)
        run, ended = await play.run("recover {cluster}", timeout_s=300)
        assert ended.plan.procedure == "staged"
        assert [s.action.server for s in ended.plan.steps if isinstance(s.action, OverrideExpect)] == ["s3"]
        assert ended.outcome is Outcome.RECOVERED
        assert play.hit == {"override-s3", "start-s3"}
        assert len(takeovers(await bots.events(run))) == bots.fleet.killed == 2
        for step in (
            "start-error-s1",
            "stop-leader-s3",
            "start-again-s3",
            "start-client-c1",
            "start-client-c3",
        ):
            assert ended.step_state(StepId(step)).status is StepStatus.DONE, step
        assert ended.step_state(StepId("stop-error-s2")).status is StepStatus.NOT_NEEDED
        assert ended.step_state(StepId("start-client-c2")).status is StepStatus.FAILED
        assert "missing: c2" in ended.step_state(StepId("clients-3")).detail
    assert (await counted(lab.hosts)).since(before) == planned([ended], ran=ran)
    await formed_with(lab, "first", "last")


async def test_nobody_can_lead_alone(lab: Lab, old_consul: Path) -> None:
    """The peers were emptied while every log still has all three: peers.json in its old form heals.

    When all have left afterwards and s1, the first to leave, is dead, s3 can lead alone: the staged bootstrap of the
    two that are left, with the claim.
    """
    await lab.up(servers=3, consul=old_consul)
    await put(lab.host("s1"), "last")
    await asyncio.sleep(1.0)  # The last key is on every server then: which of them leads does not matter.
    await asyncio.gather(*(stop_without_leave(host) for host in lab.servers))
    await asyncio.gather(*(host.run("echo null >/var/lib/consul/raft/peers.json") for host in lab.servers))
    async with open_rig(lab) as rig:
        ended = await driven(rig, await rig.proposed())
        assert ended.plan.procedure == "peers-json"
        assert any("No staged bootstrap" in line for line in ended.report.findings)
        assert ended.outcome is Outcome.RECOVERED
        await formed_with(lab, "last")

        await leave_stopped(lab)
        await lab.host("s1").kill()
        ended = await driven(rig, await rig.proposed(lost=("s1",)))
        assert ended.plan.procedure == "staged"
        assert ended.outcome is Outcome.RECOVERED
    await formed_with(lab, "last", servers=("s2", "s3"))


async def test_the_last_to_leave_is_dead(lab: Lab, old_consul: Path) -> None:
    """Refused without a claim; with it peers.json in its old form makes the other two the new set."""
    await left_one_after_the_other(lab, old_consul)
    await lab.host("s3").kill()
    async with open_rig(lab) as rig:
        unclaimed = await rig.propose()
        assert isinstance(unclaimed, Refused)
        assert "--lost s3" in unclaimed.refusal.next_step
        ended = await driven(rig, await rig.proposed(lost=("s3",)))
        assert ended.plan.procedure == "peers-json"
        assert ended.outcome is Outcome.RECOVERED
    await formed_with(lab, "first", "last", servers=("s1", "s2"))


async def peers_json_heals(rig: Rig) -> None:
    """No override is left after the run that is void, and the plan that replaces it ends well."""
    assert await rig.lab.host("s3").run(OVERRIDE) == ""
    follows = await rig.core.service.active(rig.cluster)
    assert follows is not None
    assert follows.state.plan.procedure == "peers-json"
    ended = await driven(rig, follows.run)
    assert ended.outcome is Outcome.RECOVERED


async def test_a_leader_that_steps_down_again(lab: Lab, old_consul: Path) -> None:
    """s3 had left and come back before: its log ends with itself alone, and holds its own removal all the same.

    Elected alone it replays that and is a follower without peers for good ("Removed ourself, transitioning to
    follower"): the override goes, and the plan with peers.json that follows heals, because there it is elected
    again.
    """
    await lab.up(servers=3, consul=old_consul)
    s3 = lab.host("s3")
    await s3.run("systemctl stop consul; systemctl reset-failed consul", check=False)
    await lab.cluster.wait_for_leader()
    await s3.run("systemctl start consul")
    await lab.cluster.wait_until_formed()
    await leave_one_after_the_other(lab)
    removed = "journalctl --unit=consul --no-pager | grep --count 'Removed ourself, transitioning to follower'; true"
    before = int(await s3.run(removed))
    async with open_rig(lab) as rig:
        first = await driven(rig, await proposed_in_a_hurry(rig, {"leader": 10}))
        assert first.plan.procedure == "staged"
        assert first.step_state(StepId("start-s3")).status is StepStatus.UNDONE
        assert first.outcome is Outcome.VOID
        assert int(await s3.run(removed)) == before + 1
        await peers_json_heals(rig)
    await formed_with(lab, "first", "last")


async def test_a_leader_that_does_not_stay(lab: Lab, old_consul: Path) -> None:
    """It dies as soon as it was started: the override goes, and the plan with peers.json that follows heals."""
    await left_one_after_the_other(lab, old_consul)
    s3 = lab.host("s3")
    async with open_rig(lab) as rig:
        run = await proposed_in_a_hurry(rig, {"leader": 10})
        first = await driven(rig, run, once=done("start-s3"), then=lambda: stop_without_leave(s3))
        assert first.outcome is Outcome.VOID
        await peers_json_heals(rig)
    await formed_with(lab, "first", "last")
