"""What the local Slack remembers for a test to look at: calls, deliveries and breaches of Slack's rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lab.slack.workspace import Json

DeliveryKind = Literal["slash_commands", "interactive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One Web API call as it came in, without its token; `status` is 0 when the answer was dropped."""

    method: str
    args: Json
    at: float
    status: int
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of one payload.

    `ms` is the time until the ack, or until Slack gave up; `socket` is the number of the socket that it was
    sent to (None: there was none); `response` is the payload of the ack, if it had one; `confirm` is the text
    of the dialog that the person had to confirm before a button counted; `error` is what Slack showed to the
    person; `retry` is above 0 for a repeated delivery.
    """

    kind: DeliveryKind
    acked: bool
    ms: float
    payload: Json
    socket: int | None
    response: Json | None = None
    error: str | None = None
    confirm: str | None = None
    retry: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """Something that a real workspace would refuse, with every reason."""

    where: str
    error: str
    reasons: tuple[str, ...]


@dataclass(slots=True)
class Records:
    """Everything that happened, oldest first."""

    calls: list[Call] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)

    def violation(self, *, where: str, error: str, reasons: list[str]) -> None:
        """Remember one breach of the rules."""
        self.violations.append(Violation(where=where, error=error, reasons=tuple(reasons)))
