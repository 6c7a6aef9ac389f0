"""Runs as the store has them: one to work with, or one that cannot be read and why.

A journal that another version wrote, that somebody rewrote, or that tells what
cannot have happened makes its own run unreadable and nothing else. Such a run is
shown; only `unlock` is left for it.
"""

from __future__ import annotations

import msgspec

from recovery.codec import Fault, fold_journal, unreadable
from recovery.errors import JournalUnreadable
from recovery.journal import Event, RunState, Unlocked
from recovery.model import ClusterName, RunId
from recovery.ports import RunStore


class RunView(msgspec.Struct, frozen=True):
    """A run with its journal."""

    cluster: ClusterName
    run: RunId
    state: RunState
    events: tuple[Event, ...]


class UnreadableRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that cannot be worked with: it is not driven, approved, aborted or retried."""

    cluster: ClusterName
    run: RunId
    fault: Fault
    length: int
    """Lines of its journal."""
    events: tuple[Event, ...] = ()
    """Those before the first that cannot be read."""
    state: RunState | None = None
    """What they make; None where there is none."""
    unlocked: Unlocked | None = None
    """By whom and why its lock was taken away."""

    @property
    def told(self) -> str:
        """What is wrong, in a sentence that still needs its next step."""
        return f"Run {self.run} cannot be read: {self.fault}"

    @property
    def refusal(self) -> JournalUnreadable:
        """For whoever wants more of it than to look."""
        return unreadable(self.cluster, self.run, self.fault)


async def look_at(store: RunStore, cluster: ClusterName, run: RunId) -> RunView | UnreadableRun | None:
    """Read a run; None where the store has no line of it. Raises StoreUnavailable, nothing else."""
    journal = await store.journal(cluster, run)
    if not journal.length and journal.fault is None:
        return None
    state, number, fault = fold_journal(journal)
    if fault is None and state is not None:
        return RunView(cluster, run, state, journal.events)
    last = journal.events[-1] if journal.events else None
    return UnreadableRun(
        cluster=cluster,
        run=run,
        fault=fault or Fault(0, "Redis has no event of it"),
        length=journal.length,
        events=journal.events[:number],
        state=state,
        unlocked=journal.unlocked or (last if isinstance(last, Unlocked) else None),
    )


async def holder_of(store: RunStore, cluster: ClusterName) -> RunView | UnreadableRun | None:
    """The run that holds the cluster's lock.

    A lock outlives no run: it is taken and given back in the same act as the first and the last event. So one
    that names a run without a journal, or one that has ended, was not left by the bot.
    """
    while True:
        run = await store.active(cluster)
        if run is None:
            return None
        looked = await look_at(store, cluster, run)
        over = isinstance(looked, RunView) and looked.state.outcome is not None
        if looked is not None and not over:
            return looked
        # It may have ended between the two looks.
        if await store.active(cluster) != run:
            continue
        if not isinstance(looked, RunView):
            why = "the lock names it, and Redis has no journal of it"
            return UnreadableRun(cluster=cluster, run=run, fault=Fault(0, why), length=0)
        why = f"it has ended ({looked.state.outcome}), and the lock still names it"
        return UnreadableRun(
            cluster=cluster,
            run=run,
            fault=Fault(0, f"{why}: Redis was restored, or somebody else writes there"),
            length=looked.state.length,
            events=looked.events,
            state=looked.state,
        )
