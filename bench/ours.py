"""Our own way, for any procedure: proposed, approved by a second person, driven, and watched from outside."""

import asyncio
import time
from collections.abc import Sequence

from bench.bot import open_bot
from bench.onlooker import Trial, until_it_works
from bot.wiring import Core
from lab.datacentre import Lab
from lab.errors import LabError
from lab.host import Host
from recovery.engine import drive_run
from recovery.journal import Event, Outcome, RunState
from recovery.model import ClusterName, Person, RunId, ServerName
from recovery.service import Done, Refused, RunProposed


class Unread:
    """A notifier nobody reads: Slack is never waited for."""

    async def show(self, cluster: ClusterName, run: RunId, state: RunState, events: Sequence[Event]) -> None:
        """Show nothing."""

    async def say(self, cluster: ClusterName, run: RunId, state: RunState, note: str) -> None:
        """Say nothing."""


async def recover(lab: Lab, servers: Sequence[Host], *, method: str, lost: Sequence[str] = ()) -> Trial:
    """Recover the cluster of these servers; the clock starts with the approval. Raises LabError."""
    async with open_bot(lab) as (core, cluster):
        answer = await core.service.propose(
            cluster,
            by=Person("alice"),
            origin="bench",
            method=method,
            lost=tuple(ServerName(name) for name in lost),
        )
        if isinstance(answer, Refused):
            raise LabError(f"No plan was proposed for the benchmark: {'; '.join(answer.refusal.reasons)}")
        if not isinstance(answer, RunProposed):
            raise LabError(f"No plan was proposed for the benchmark: {type(answer).__name__}")
        run = answer.view.run
        driving = asyncio.create_task(
            drive_run(
                cluster,
                run,
                owner=core.owner,
                world=core.worlds[cluster],
                store=core.store,
                notifier=Unread(),
                clock=core.clock,
            )
        )
        try:
            began_s = await _approve(core, cluster, run)
            seen, says_so_s = await asyncio.gather(
                until_it_works(lab, servers, began_s=began_s), _until_ended(core, cluster, run, began_s)
            )
            await driving
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)
    return Trial(seen, says_so_s)


async def _approve(core: Core, cluster: ClusterName, run: RunId) -> float:
    """Approve as the second person as soon as somebody is asked, and give the moment just before."""
    while True:
        state = (await core.service.show(cluster, run)).state
        gate = state.waiting_gate
        if gate is not None:
            break
        await core.store.wait(cluster, run, length=state.length, timeout_s=1.0)
    began_s = time.monotonic()
    done = await core.service.approve(
        cluster, run, by=Person("bob"), gate=gate.id, digest_prefix=state.digest[:12], typed=gate.typed
    )
    if not isinstance(done, Done):
        raise LabError(f"The approval did not count: {done.reason}")
    return began_s


async def _until_ended(core: Core, cluster: ClusterName, run: RunId, began_s: float) -> float:
    while True:
        state = (await core.service.show(cluster, run)).state
        if state.outcome is Outcome.RECOVERED:
            return time.monotonic() - began_s
        if state.outcome is not None or state.waiting_step is not None:
            raise LabError(f"The run did not recover the cluster: {state.outcome}, {state.waiting_step}")
        await core.store.wait(cluster, run, length=state.length, timeout_s=1.0)
