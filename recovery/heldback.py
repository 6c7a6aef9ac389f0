"""Which servers a run keeps down at a moment, from its journal alone. Pure.

Nothing but this run may start such a server: one that runs all the same was
started by somebody else, and could lead or vote with what it has.
"""

from __future__ import annotations

from recovery.journal import FINISHED, RunState
from recovery.model import ServerName
from recovery.plan import (
    ArchiveState,
    FenceAgent,
    HoldAgent,
    JoinGossip,
    LiftFence,
    Observe,
    OverrideExpect,
    ReleaseHold,
    StartAgent,
    Step,
    StopAgent,
    WipeRaft,
    WritePeers,
)


def kept_down(state: RunState) -> frozenset[ServerName]:
    """Name the servers that this run has seen stopped, holds or fences, and has not begun to start."""
    held: set[ServerName] = set()
    fenced: set[ServerName] = set()
    stopped: set[ServerName] = set()
    for step, step_state in zip(state.plan.steps, state.steps, strict=True):
        done = step_state.status in FINISHED
        match step.action:
            case HoldAgent(server) if done:
                held.add(server)
            case ReleaseHold(server) if done:
                held.discard(server)
            case FenceAgent(server) if done:
                fenced.add(server)
                stopped.add(server)
            case LiftFence(server) if done:
                fenced.discard(server)
            # None but the first of these is begun before the agent was seen stopped.
            case (
                StopAgent(server)
                | ArchiveState(server)
                | WipeRaft(server)
                | OverrideExpect(server)
                | WritePeers(server)
            ) if done:
                stopped.add(server)
            case StartAgent(server) if done or step_state.attempt:
                held.discard(server)
                stopped.discard(server)
            case _:
                pass
    # What was taken back is no longer so; then the step is not finished.
    return frozenset((held | fenced) & stopped) | frozenset(state.held_again)


def holding(state: RunState, server: ServerName, *, until: Step | None = None) -> Step | None:
    """Give the finished step by which this run holds or fences a server, the newest one; None where none does.

    ``until``: as it was right before that step, when an earlier start had ended what was held before it.
    """
    found = None
    for step, step_state in zip(state.plan.steps, state.steps, strict=True):
        if step == until:
            break
        if isinstance(step.action, HoldAgent | FenceAgent) and step.action.server == server:
            found = step if step_state.status in FINISHED else found
        elif until is not None and isinstance(step.action, StartAgent) and step.action.server == server:
            found = None
    return found


def begun_on(state: RunState, *, optional: bool = True) -> frozenset[ServerName]:
    """Name the hosts where an act of this run was begun; not those of steps it may pass over, where so asked."""
    return frozenset(
        step.action.server
        for step, step_state in zip(state.plan.steps, state.steps, strict=True)
        if step_state.attempt
        and not isinstance(step.action, Observe | JoinGossip)
        and (optional or not step.optional)
    )
