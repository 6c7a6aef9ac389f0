"""Which runs this process drives: finds open runs without a driver, and takes them over.

Any replica serves any click; the one with the lease acts. When the process
that proposed a run dies, another one's next look (every few seconds) finds the
lease free and goes on from the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import assert_never

import structlog

from recovery.engine import drive_run
from recovery.errors import JournalUnreadable, LeaseLost, RecoveryError
from recovery.journal import Event, Outcome, RunState
from recovery.model import ClusterName, RunId
from recovery.ports import Clock, LeaseHeld, Notifier, RunStore, World
from recovery.runs import RunView, look_at
from recovery.service import (
    HeldByUnreadable,
    Locked,
    NothingToDo,
    ProposeResult,
    RecoveryService,
    Refused,
    RunProposed,
)

LOOK_EVERY_S = 1.0
TELL_LATE_S = 5.0
OLD_NEWS_S = 600.0
"""A run that ended longer ago is history: nobody is told of it at a start."""

log = structlog.get_logger()


def lost_text(cluster: ClusterName) -> str:
    """What people are told when the store no longer knows a run that was under way."""
    return (
        "Redis no longer knows this run: it was emptied, or restored from a dump that is older. Nothing drives it"
        " any more and nothing more is done; what was done so far stays as it is on the servers. Look with"
        f" `status {cluster}`. `recover {cluster}` plans from the world as it is, and takes over what this run holds."
    )


class _Witness:
    """Passes everything on, and keeps a run's last state for the case that the store loses it."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self.seen: RunState | None = None

    async def show(self, cluster: ClusterName, run: RunId, state: RunState, events: Sequence[Event]) -> None:
        self.seen = state
        await self._notifier.show(cluster, run, state, events)

    async def say(self, cluster: ClusterName, run: RunId, state: RunState, note: str) -> None:
        await self._notifier.say(cluster, run, state, note)


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
        self._unfinished: dict[RunId, tuple[ClusterName, RunState]] = {}
        """Runs that this process drove and has not seen end."""
        self._newest: dict[ClusterName, RunId | None] = {}
        """The run of each cluster as it was last seen, active or ended."""
        self._warned: dict[str, str] = {}
        """What was last said in the log about a cluster, or about a run that nobody can drive."""
        self._telling: set[asyncio.Task[None]] = set()
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
            for task in (*self._driving.values(), *self._telling):
                task.cancel()
            await asyncio.gather(*self._driving.values(), *self._telling, return_exceptions=True)

    def drain(self) -> None:
        """Let every run go as soon as the step under way is finished; `serve` ends when all are handed over."""
        self._stop.set()
        self._nudge.set()

    async def _look(self) -> None:
        self._driving = {run: task for run, task in self._driving.items() if not task.done()}
        for cluster in self._worlds:
            try:
                run = await self._store.active(cluster)
                if run is not None and run not in self._driving:
                    self._driving[run] = asyncio.create_task(self._drive(cluster, run), name=f"drive {run}")
                await self._note(cluster, run)
            except RecoveryError as error:
                # The other clusters' runs are looked for all the same.
                self._warn_once(cluster, "cannot look for runs", problem=str(error))
            else:
                self._warned.pop(cluster, None)
        for run, (cluster, state) in list(self._unfinished.items()):
            if run not in self._driving:
                await self._look_for(cluster, run, state)

    def _warn_once(self, about: str, event: str, *, problem: str) -> None:
        """Say it in the log, but not every second again."""
        if self._warned.get(about) != problem:
            self._warned[about] = problem
            log.warning(event, about=about, problem=problem)

    async def _note(self, cluster: ClusterName, active: RunId | None) -> None:
        """Have the end of a run told whose driver may have died before it could tell it."""
        if cluster not in self._newest:
            self._newest[cluster] = next(iter(await self._store.runs(cluster, limit=1)), None)
        before = self._newest[cluster]
        if before is not None and before != active and before not in self._driving:
            task = asyncio.create_task(self._tell_end(cluster, before), name=f"end of {before}")
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        self._newest[cluster] = active

    async def _tell_end(self, cluster: ClusterName, run: RunId) -> None:
        # Whoever drove it has this long to tell it; then it is told by whoever is there, once.
        await self._clock.sleep(TELL_LATE_S)
        try:
            looked = await look_at(self._store, cluster, run)
        except RecoveryError as error:
            log.warning("the end of a run cannot be read", cluster=cluster, run=run, problem=str(error))
            return
        if not isinstance(looked, RunView) or looked.state.outcome is None:
            return
        if self._clock.now_s() - looked.state.ended_s < OLD_NEWS_S:
            await self._notifier.show(cluster, run, looked.state, looked.events)
            if looked.state.outcome is Outcome.VOID and await self._is_newest(cluster, run):
                # Whoever drove it may have died before it planned anew, and its servers are stopped and held.
                await self._go_on_after_void(cluster, run, looked.state)

    async def _is_newest(self, cluster: ClusterName, run: RunId) -> bool:
        try:
            return tuple(await self._store.runs(cluster, limit=1)) == (run,)
        except RecoveryError:
            return False

    async def _look_for(self, cluster: ClusterName, run: RunId, state: RunState) -> None:
        """A run that nobody here drives any more has ended, is driven elsewhere, or was lost by the store."""
        try:
            there = await look_at(self._store, cluster, run)
            if there is not None and await self._store.active(cluster) == run:
                return
        except RecoveryError as error:
            self._warn_once(run, "cannot look for a run", problem=str(error))
            return
        del self._unfinished[run]
        if there is None:
            log.error("redis no longer knows this run", cluster=cluster, run=run)
            await self._notifier.say(cluster, run, state, lost_text(cluster))

    async def _drive(self, cluster: ClusterName, run: RunId) -> None:
        bound = log.bind(cluster=cluster, run=run)
        try:
            await self.drive(cluster, run)
        except LeaseLost as error:
            bound.warning("another driver took this run over; this one has stopped", problem=str(error))
        except JournalUnreadable as error:
            # It is found in the lock again every second, until somebody takes that away.
            self._warn_once(run, "a run cannot be read; nobody drives it", problem=str(error))
            if run in self._unfinished:
                _, state = self._unfinished.pop(run)
                await self._notifier.say(cluster, run, state, str(error))
        except RecoveryError as error:
            bound.error("the run stands still and will be taken up again", problem=str(error))

    async def drive(self, cluster: ClusterName, run: RunId) -> RunState | None:
        """Drive one run to its end; None while somebody else does."""
        witness = _Witness(self._notifier)
        try:
            ended = await drive_run(
                cluster,
                run,
                owner=self._owner,
                world=self._worlds[cluster],
                store=self._store,
                notifier=witness,
                clock=self._clock,
                stop=self._stop,
            )
        finally:
            if witness.seen is not None:
                self._unfinished[run] = (cluster, witness.seen)
        if isinstance(ended, LeaseHeld):
            return None
        if witness.seen is None:
            # It had ended before anybody here drove it: whatever is to follow is not ours to do.
            if await self._store.active(cluster) == run:
                self._warn_once(run, "the lock names a run that has ended", problem=f"it is {ended.outcome}")
            return ended
        if ended.outcome is not None and self._newest.get(cluster) == run:
            self._newest[cluster] = None
        if ended.outcome is Outcome.VOID:
            await self._go_on_after_void(cluster, run, ended)
        return ended

    async def _go_on_after_void(self, cluster: ClusterName, run: RunId, ended: RunState) -> None:
        """Plan anew, and where there is no new plan tell people why: they wait for one."""
        try:
            view = await self._service.show(cluster, run)
            answer = await self._service.propose_again(view, by=ended.requested_by, origin=ended.origin)
            why = _why_no_plan(answer, instead_of=run)
        except RecoveryError as problem:
            why = f"No new plan could be made: {problem}"
        if why:
            log.warning("no new plan after a void one", cluster=cluster, run=run, why=why)
            await self._notifier.say(cluster, run, ended, why)


def _why_no_plan(result: ProposeResult, *, instead_of: RunId) -> str:
    match result:
        case RunProposed():
            return ""
        case Refused(refusal=refusal):
            return f"No new plan is safe as things are: {' '.join(refusal.reasons)} Next: {refusal.next_step}"
        case NothingToDo(report=report):
            return f"No new plan is needed: {report.diagnosis.headline}."
        case HeldByUnreadable(holder=stuck):
            return f"No new plan was made: {stuck.told}. It holds the lock of {stuck.cluster}."
        case Locked(holder=holder) if holder.state.replaces == instead_of:
            # Another process was first: the plan is there.
            return ""
        case Locked(holder=holder):
            return f"No new plan was made: run {holder.run} holds the lock of {holder.cluster} by now."
        case _:
            assert_never(result)
