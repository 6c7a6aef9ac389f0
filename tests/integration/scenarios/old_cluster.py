"""Old clusters that are broken for the staged bootstrap, and how the tests drive its runs."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from msgspec import structs

from bot.wiring import new_run_id
from lab.breakage import leave_stopped
from lab.datacentre import Lab
from lab.host import Host
from recovery.errors import LeaseLost
from recovery.journal import FINISHED, Event, Proposed, RunState
from recovery.model import ClusterName, RunId
from recovery.plan import StepId
from recovery.policy import gates_of
from recovery.runs import RunView
from recovery.service import Planned
from recovery.supervisor import Supervisor
from tests.builders.left_behind import OnHost, shown_by
from tests.integration.rig import ALICE, BOB, Journal, Rig

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


async def leave_one_after_the_other(lab: Lab) -> None:
    """Stop all 2 s apart, s1 first: a key that s1 still holds, and one that is written when it has left."""
    await put(lab.host("s2"), "first")
    await lab.host("s1").run("systemctl stop consul; systemctl reset-failed consul", check=False)
    await lab.cluster.wait_for_leader()
    await put(lab.host("s3"), "last")
    await leave_stopped(lab)


async def left_one_after_the_other(lab: Lab, old_consul: Path, *, clients: int = 0) -> None:
    """Three servers that have left so, and stay stopped; client agents go on running."""
    await lab.up(servers=3, clients=clients, consul=old_consul)
    await leave_one_after_the_other(lab)


_START = (
    "systemctl --no-block start consul; "
    "until curl --silent --fail --output /dev/null http://127.0.0.1:8500/v1/agent/self; do sleep 0.1; done"
)


async def start_all(lab: Lab) -> None:
    """Start all servers, and wait until each answers: its start belongs to the story, not to the run."""
    await asyncio.gather(*(host.run(_START) for host in lab.servers))


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


@dataclass
class GivesUp(Journal):
    """Gives a run up as soon as it has come so far, before its driver does anything more."""

    rig: Rig = field(kw_only=True)
    when: Callable[[RunState], bool] = field(kw_only=True)
    unlock: bool = field(kw_only=True)
    done: bool = False

    async def show(self, cluster: ClusterName, run: RunId, state: RunState, events: Sequence[Event]) -> None:
        await super().show(cluster, run, state, events)
        if self.done or not self.when(state):
            return
        self.done = True
        core = self.rig.core
        if self.unlock:
            await core.service.unlock(cluster, run, by=BOB, holder=core.owner, reason="nobody answers for it")
        else:
            await core.service.abort(cluster, run, by=BOB)


async def given_up(
    rig: Rig, run: RunId, *, when: Callable[[RunState], bool], unlock: bool = False
) -> RunView:
    """Drive with Bob approving, and abort the run (or take its lock away) ``when`` it has come so far."""
    rig.journal = GivesUp(rig=rig, when=when, unlock=unlock)
    # Whose lock is taken away ends with that as a fault.
    with contextlib.suppress(LeaseLost):
        await rig.drive(run)
    assert rig.journal.done, "the run was over before"
    rig.journal = Journal()
    return await rig.core.service.show(rig.cluster, run)


async def proposed_in_a_hurry(rig: Rig, limits_s: Mapping[str, int]) -> RunId:
    """What Alice would be proposed, but with shorter time limits for these steps: a test need not wait minutes."""
    planned = await rig.core.service.plan(rig.cluster)
    assert isinstance(planned, Planned)
    steps = tuple(
        structs.replace(step, timeout_s=limits_s.get(step.id, step.timeout_s))
        for step in planned.proposal.plan.steps
    )
    plan = structs.replace(planned.proposal.plan, steps=steps)
    run = new_run_id()
    seen = planned.report.observation.servers
    event = Proposed(
        at_s=rig.core.clock.now_s(),
        by=ALICE,
        plan=plan,
        report=planned.proposal.report,
        gates=gates_of(plan, rig.core.settings.approvals.policy),
        origin="terminal",
        epoch=max(planned.report.store_epoch, *(s.host.epoch for s in seen if s.host is not None)),
    )
    assert await rig.core.store.propose(rig.cluster, run, event) == run
    return run


async def on_hosts(rig: Rig) -> dict[str, OnHost]:
    """What the servers' hosts show: what host.sh sees, and whose archives are there."""
    seen = shown_by(await rig.core.worlds[rig.cluster].observe())
    return {
        name: replace(host, archives=frozenset((await rig.lab.host(name).run(_ARCHIVES)).split()))
        for name, host in seen.items()
    }


# Not a shell's glob: where no archive is, `*/state.tar` would stand for every folder.
_ARCHIVES = (
    "find /var/lib/consul-recovery/archive -mindepth 2 -name state.tar -printf '%P\\n' | cut -d / -f 1"
)
