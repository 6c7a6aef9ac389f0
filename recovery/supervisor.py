"""Which runs this process drives: finds open runs without a driver, and takes them over.

Any replica serves any click; the one with the lease acts. When the process
that proposed a run dies, another one's next look (every few seconds) finds the
lease free and goes on from the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import structlog

from recovery.engine import drive_run
from recovery.errors import LeaseLost, RecoveryError
from recovery.journal import Outcome, RunState
from recovery.model import ClusterName, RunId, ServerName
from recovery.ports import Clock, LeaseHeld, Notifier, RunStore, World
from recovery.service import ProposeResult, RecoveryService

LOOK_EVERY_S = 1.0

log = structlog.get_logger()


class Supervisor:
    """Drives every open run that nobody drives."""

    def __init__(
        self,
        *,
        owner: str,
        service: RecoveryService,
        worlds: Mapping[ClusterName, World],
        store: RunStore,
        notifier: Notifier,
        clock: Clock,
    ) -> None:
        self._owner = owner
        self._service = service
        self._worlds = worlds
        self._store = store
        self._notifier = notifier
        self._clock = clock
        self._driving: dict[RunId, asyncio.Task[None]] = {}
        self._nudge = asyncio.Event()
        self._stop = asyncio.Event()

    def nudge(self) -> None:
        """Look now: a run was just proposed."""
        self._nudge.set()

    async def serve(self) -> None:
        """Look for runs until drained or cancelled; a store that does not answer is asked again."""
        try:
            while not self._stop.is_set():
                try:
                    await self._look()
                except RecoveryError as error:
                    log.warning("cannot look for runs", problem=str(error))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._nudge.wait()
                self._nudge.clear()
            await asyncio.gather(*self._driving.values(), return_exceptions=True)
        finally:
            for task in self._driving.values():
                task.cancel()
            await asyncio.gather(*self._driving.values(), return_exceptions=True)

    def drain(self) -> None:
        """Let every run go as soon as the step under way is finished; `serve` ends when all are handed over."""
        self._stop.set()
        self._nudge.set()

    async def _look(self) -> None:
        self._driving = {run: task for run, task in self._driving.items() if not task.done()}
        for cluster in self._worlds:
            run = await self._store.active(cluster)
            if run is not None and run not in self._driving:
                self._driving[run] = asyncio.create_task(self._drive(cluster, run), name=f"drive {run}")

    async def _drive(self, cluster: ClusterName, run: RunId) -> None:
        bound = log.bind(cluster=cluster, run=run)
        try:
            await self.drive(cluster, run)
        except LeaseLost as error:
            bound.warning("another driver took this run over; this one has stopped", problem=str(error))
        except RecoveryError as error:
            bound.error("the run stands still and will be taken up again", problem=str(error))

    async def drive(self, cluster: ClusterName, run: RunId) -> RunState | None:
        """Drive one run to its end; None while somebody else does."""
        ended = await drive_run(
            cluster,
            run,
            owner=self._owner,
            world=self._worlds[cluster],
            store=self._store,
            notifier=self._notifier,
            clock=self._clock,
            stop=self._stop,
        )
        if isinstance(ended, LeaseHeld):
            return None
        if ended.outcome is Outcome.VOID:
            await self.propose_again(cluster, run, ended)
        return ended

    async def propose_again(self, cluster: ClusterName, run: RunId, ended: RunState) -> ProposeResult:
        """An assumption failed: everything is stopped and held, and the new plan is shown."""
        return await self._service.propose(
            cluster,
            by=ended.requested_by,
            origin=ended.origin,
            method=ended.plan.procedure,
            # By id: with everything stopped nobody may be left to tell the old names.
            lost=tuple(ServerName(claim.node_id) for claim in ended.plan.claims),
            replaces=run,
        )
