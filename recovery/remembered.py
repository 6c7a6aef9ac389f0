"""What the store remembers of a cluster: who its members were, what its logs held, which runs it had."""

from __future__ import annotations

from typing import Final

from recovery import membership
from recovery.errors import RecoveryError, Unverified
from recovery.journal import FINISHED, RunState
from recovery.membership import Membership
from recovery.model import ClusterName, ClusterObservation, RunId
from recovery.past import EarlierRun, Past
from recovery.plan import StepId
from recovery.ports import RunStore
from recovery.procedures import found
from recovery.runs import RunView, look_at

_NEWEST_RUNS: Final = 30


async def members_of(store: RunStore, cluster: ClusterName) -> Membership:
    """Give what is remembered; nothing where another version's memory cannot be read."""
    return membership.decode(await store.recall(cluster, membership.MEMO))


async def remember(store: RunStore, observation: ClusterObservation, *, led: bool) -> str:
    """Add what a look has shown; gives what is wrong with what was kept before, "" if nothing is.

    A memory that cannot be read, or was not kept by the bot, still stands against calling this cluster new: only a
    cluster that is seen to work takes its place.
    """
    cluster = observation.cluster
    before, problem = await _memory(store, cluster)
    if before is None and not led:
        return problem
    now = membership.updated(before or membership.NOBODY, observation, led=led)
    if now != before:
        await store.remember(cluster, membership.MEMO, membership.encode(now))
    return problem


async def _memory(store: RunStore, cluster: ClusterName) -> tuple[Membership | None, str]:
    """What is remembered; None, and why, where nobody can tell."""
    try:
        text = await store.recall(cluster, membership.MEMO)
    except Unverified as unverified:
        return None, str(unverified)
    if text is None:
        return membership.NOBODY, ""
    memory = membership.read(text)
    problem = (
        f"What Redis keeps as {membership.MEMO} of {cluster} cannot be read: another version wrote it, or it "
        "is damaged."
    )
    return memory, "" if memory is not None else problem


async def past_of(store: RunStore, cluster: ClusterName) -> Past:
    """Ask the store what it knows of the cluster's earlier life; never raises, what it could not tell is in it."""
    try:
        memory, problem = await _memory(store, cluster)
        runs = tuple(
            [await _earlier(store, cluster, run) for run in await store.runs(cluster, limit=_NEWEST_RUNS)]
        )
    except RecoveryError as fault:
        return Past(problem=f"What Redis remembers of this cluster could not be read: {fault}")
    return Past(membership=memory, runs=runs, problem=problem)


async def _earlier(store: RunStore, cluster: ClusterName, run: RunId) -> EarlierRun:
    looked = await look_at(store, cluster, run)
    if not isinstance(looked, RunView):
        return EarlierRun(run=run, at_s=0.0)
    state = looked.state
    return EarlierRun(
        run=run,
        at_s=state.proposed_s,
        procedure=state.plan.procedure,
        founds_nothing=state.plan.procedure == found.NAME and not _led(state),
    )


def _led(state: RunState) -> bool:
    """Whether a founding got as far as a leader that stayed."""
    return state.step_state(StepId("leader")).status in FINISHED
