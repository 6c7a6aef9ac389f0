"""Where a leader's log ends, told for people and held against what it has to reach."""

from __future__ import annotations

from recovery.model import Fact, Fails, Holds, ServerName
from recovery.raftentry import LogPosition


def position(last: LogPosition | None) -> str:
    """Say where a log ends; None is one without an entry."""
    return "nothing" if last is None else str(last)


def reaches(leader: ServerName, last: LogPosition | None, *, at_least: LogPosition | None, said: str) -> Fact:
    """Tell whether a leader's log goes as far as ``at_least``; ``said`` is what else holds of it.

    By index: a leader writes in a term of its own, so by (term, index) any leader would be "at least".
    """
    if at_least is not None and (last is None or last.index < at_least.index):
        return Fails(f"{leader} leads, but its log ends at {position(last)}, before {at_least}")
    return Holds(f"{said}, its log ends at {position(last)}")
