"""Configuration management that puts its own idea of a held server back: the drop-in away, the agent started."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from lab.breakage import stop_without_leave
from lab.host import Host
from recovery.journal import HeldServersSeen, Outcome, RunState
from recovery.model import RunId
from recovery.supervisor import Supervisor
from tests.integration.rig import BOB, Rig

_START = (
    "rm -f /etc/systemd/system/consul.service.d/zz-consul-recovery-hold.conf;"
    " systemctl daemon-reload; systemctl start --no-block consul"
)
PATIENCE_S = 240.0


async def strikes(hosts: Sequence[Host]) -> None:
    """Start these agents, whatever bars them."""
    await asyncio.gather(*(host.run(_START) for host in hosts))


async def recovered_all_the_same(
    rig: Rig, run: RunId, *, when: Callable[[RunState], bool], rogues: Sequence[Host]
) -> tuple[RunState, tuple[HeldServersSeen, ...]]:
    """Drive with Bob approving; once it has come so far, somebody else starts servers that the run may hold.

    Bob does what the card says: he stops who was named, without a leave, and tries again. Where the start was seen as
    a log that may grow, the plan is void, and he approves the one in its place. Gives the end and who was named.
    """
    struck = False

    async def strike(state: RunState) -> None:
        nonlocal struck
        if not struck and when(state):
            struck = True
            await strikes(rogues)

    ended = await _driven(rig, run, strike)
    while ended.outcome is Outcome.VOID:
        following = await rig.core.store.active(rig.cluster)
        assert following is not None, ended.void
        ended = await _driven(rig, following, strike)
    assert struck, "the run was over before"
    return ended, tuple(e for e in rig.journal.events if isinstance(e, HeldServersSeen) and e.running)


async def _driven(rig: Rig, run: RunId, strike: Callable[[RunState], Awaitable[None]]) -> RunState:
    supervisor = Supervisor(
        owner=rig.core.owner,
        service=rig.core.service,
        worlds=rig.core.worlds,
        store=rig.core.store,
        notifier=rig.journal,
        clock=rig.core.clock,
    )
    task = asyncio.create_task(supervisor.drive(rig.cluster, run))
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not task.done():
                state = await rig.state(run)
                await strike(state)
                if state.waiting_gate is not None:
                    await rig.approve(run, state)
                elif (state.rogue and not state.look_at_held) or state.waiting_step is not None:
                    named = {sighting.server for sighting in state.rogues}
                    await asyncio.gather(*(stop_without_leave(rig.lab.host(name)) for name in named))
                    await rig.core.service.retry(rig.cluster, run, by=BOB)
                await asyncio.sleep(0.1)
        ended = await task
        assert ended is not None
        return ended
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
