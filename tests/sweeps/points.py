"""The points of a run at which a sweep lets something go wrong."""

from __future__ import annotations

from dataclasses import dataclass

from recovery.model import ServerName
from recovery.plan import Action, JoinGossip, Observe


@dataclass(frozen=True, slots=True)
class Point:
    """One moment of the first driver; equal in every play of the same story until something goes wrong."""

    number: int
    when: str
    """``before`` or ``after`` a ``lease``, an ``append`` or an ``act``, or ``in act``."""
    what: str
    step: str
    """The step that the moment is about; empty where it is about none."""
    host: ServerName | None
    """The host that the moment is about; None where it is about none."""
    running: frozenset[ServerName]
    startable: frozenset[ServerName]
    """Who is stopped, and neither held nor fenced."""

    def __str__(self) -> str:
        return f"#{self.number} {self.when} {self.what}"


class Killed(BaseException):
    """Raised at a point: the process ends there, without another word to anybody."""


class Paused(BaseException):
    """Raised at a point: the process stands still there until it is woken."""


def host_of(action: Action) -> ServerName | None:
    """The server that an act is about."""
    return None if isinstance(action, Observe) else action.server


def changes_a_host(action: Action) -> bool:
    """Whether it goes through host.sh: a wait changes nothing, a join may be asked for again."""
    return not isinstance(action, Observe | JoinGossip)
