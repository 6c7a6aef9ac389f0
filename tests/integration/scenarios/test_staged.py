"""The staged bootstrap on old Consul: the stand-in of 0.6.4, or the real program that LAB_CONSUL names.

Only the program differs. The sampler that watches every test fails it when two servers lead at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from lab.breakage import leave_stopped, stop_without_leave
from lab.datacentre import Lab
from lab.host import Host
from recovery.diagnosis import PeersEmptied
from recovery.journal import FINISHED, Outcome, RunState, StepStatus
from recovery.model import RunId
from recovery.plan import OverrideExpect, StepId
from recovery.service import Refused
from recovery.supervisor import Supervisor
from tests.integration.rig import BOB, Rig, open_rig

OVERRIDE = "ls /etc/consul.d/zz-consul-recovery.json /var/lib/consul-recovery/override 2>/dev/null; true"
ALONE = "ip route {0} blackhole 198.51.100.12; ip route {0} blackhole 198.51.100.13"
"""On s1: it hears neither of the others, while the bot still reaches it."""


async def put(host: Host, key: str) -> None:
    """Write a key and see it acknowledged."""
    answer = await host.api(f"/v1/kv/{key}", method="PUT", body=b"kept")
    assert answer.json() is True


async def has(host: Host, key: str) -> bool:
    """Whether this server itself holds the key."""
    return (await host.api(f"/v1/kv/{key}?stale")).status == 200


async def formed_with(lab: Lab, *keys: str, servers: tuple[str, ...] = ("s1", "s2", "s3")) -> None:
    """One leader, these peers, and every key on each of them; nothing of ours is left that a start would take."""
    leader = await lab.cluster.wait_for_leader()
    hosts = [lab.host(name) for name in servers]
    assert await lab.cluster.voters(leader) == {f"{host.address}:8300" for host in hosts}
    for host in hosts:
        for key in keys:
            assert await has(host, key), f"{key} is not on {host.name}"
        assert await host.run(OVERRIDE) == ""


async def left_one_after_the_other(lab: Lab, old_consul: Path, *, clients: int = 0) -> None:
    """Stopped 2 s apart, s1 first: a key that s1 still held, and one that was written when it had left."""
    await lab.up(servers=3, clients=clients, consul=old_consul)
    await put(lab.host("s2"), "first")
    await lab.host("s1").run("systemctl stop consul; systemctl reset-failed consul", check=False)
    await lab.cluster.wait_for_leader()
    await put(lab.host("s3"), "last")
    await leave_stopped(lab)


def done(step: str) -> Callable[[RunState], bool]:
    """Whether a step of the run is verified, or was found true before it began: a leader may stay so soon."""
    return lambda state: state.step_state(StepId(step)).status in FINISHED


async def driven(
    rig: Rig,
    run: RunId,
    *,
    once: Callable[[RunState], bool] = lambda _state: False,
    then: Callable[[], Awaitable[object]] | None = None,
) -> RunState:
    """Drive with Bob approving, to the end; ``once`` it has come so far, ``then`` something happens to it.

    Without ``then`` the process that drives is killed there: the run is given back as it was left.
    """
    supervisor = Supervisor(
        owner=rig.core.owner,
        service=rig.core.service,
        worlds=rig.core.worlds,
        store=rig.core.store,
        notifier=rig.journal,
        clock=rig.core.clock,
    )
    task = asyncio.create_task(supervisor.drive(rig.cluster, run))
    happened = False
    try:
        while not task.done():
            state = await rig.state(run)
            if state.waiting_gate is not None:
                await rig.approve(run, state)
            if not happened and once(state):
                happened = True
                if then is None:
                    return state
                await then()
            assert state.waiting_step is None or state.aborted_by is not None, state.waiting_step
            await asyncio.sleep(0.05)
        ended = await task
        assert ended is not None
        return ended
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_three_servers_stopped_one_after_the_other(lab: Lab, old_consul: Path) -> None:
    """One leader, never two; never the stalest log as the truth; the last key on all.

    The bot is killed in the middle, and another goes on. s1 hears of no leader at first: it is sorted as an
    error, stopped and started. The client agent is a member again in the end.
    """
    await left_one_after_the_other(lab, old_consul, clients=1)
    await asyncio.gather(*(host.run("systemctl --no-block start consul") for host in lab.servers))
    async with open_rig(lab) as rig:
        run = await rig.proposed()
        state = await rig.state(run)
        assert state.plan.procedure == "staged"
        assert [s.action.server for s in state.plan.steps if isinstance(s.action, OverrideExpect)] == ["s3"]
        assert isinstance((await rig.status()).diagnosis, PeersEmptied)
        await driven(rig, run, once=done("override-s3"))
        s1 = lab.host("s1")
        await s1.run(ALONE.format("add"))
        ended = await driven(
            rig, run, once=done("stop-error-s1"), then=lambda: s1.run(ALONE.format("delete"))
        )
        assert ended.outcome is Outcome.RECOVERED
        for step in ("start-error-s1", "stop-leader-s3", "start-again-s3", "start-client-c1"):
            assert ended.step_state(StepId(step)).status is StepStatus.DONE, step
        assert ended.step_state(StepId("stop-error-s2")).status is StepStatus.NOT_NEEDED
    await formed_with(lab, "first", "last")


async def test_nobody_can_lead_alone(lab: Lab, old_consul: Path) -> None:
    """The peers were emptied while every log still has all three: peers.json in its old form heals."""
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


async def test_a_leader_that_does_not_stay(lab: Lab, old_consul: Path) -> None:
    """It dies as soon as it was started: the override goes, and the plan with peers.json that follows heals."""
    await left_one_after_the_other(lab, old_consul)
    s3 = lab.host("s3")
    async with open_rig(lab) as rig:
        first = await driven(
            rig, await rig.proposed(), once=done("start-s3"), then=lambda: stop_without_leave(s3)
        )
        assert first.outcome is Outcome.VOID
        assert await s3.run(OVERRIDE) == ""
        follows = await rig.core.service.active(rig.cluster)
        assert follows is not None
        assert follows.state.plan.procedure == "peers-json"
        ended = await driven(rig, follows.run)
        assert ended.outcome is Outcome.RECOVERED
    await formed_with(lab, "first", "last")


async def test_an_abort_in_the_middle(lab: Lab, old_consul: Path) -> None:
    """Once s3 leads alone: the override is off, the card names what is held, and the next run starts the rest."""
    await left_one_after_the_other(lab, old_consul)
    async with open_rig(lab) as rig:
        run = await rig.proposed()
        aborted = await driven(
            rig, run, once=done("leader"), then=lambda: rig.core.service.abort(rig.cluster, run, by=BOB)
        )
        assert aborted.outcome is Outcome.ABORTED
        assert aborted.step_state(StepId("override-s3")).status is StepStatus.UNDONE
        assert await lab.host("s3").run(OVERRIDE) == ""
        ended = await driven(rig, await rig.proposed())
        assert ended.plan.procedure == "start"
        assert ended.outcome is Outcome.RECOVERED
    await formed_with(lab, "first", "last")
