"""The names and values of our buttons: ``run|gate-or-question|digest12[|typed names]``. Pure.

A value says which question the person saw. It is no right: who may, and
whether the question is still open, is decided from the journal at the click.
"""

from __future__ import annotations

import re

import msgspec

from recovery.model import RunId, ServerName
from recovery.plan import Digest

APPROVE = "run_approve"
APPROVE_TYPED = "run_approve_typed"
ABORT = "run_abort"
RETRY = "run_retry"
REFRESH = "status_refresh"
RECOVER = "status_recover"
AGAIN = "run_again"
"""Its value is the run's name alone: what it proposes is asked of the world as it is then."""
TYPED_MODAL = "approve_typed"
TYPED_BLOCK = "type:"
UNLOCK_MODAL = "unlock"
HOLDER_BLOCK = "holder"
REASON_BLOCK = "reason"

DIGEST_CHARACTERS = 12

_VALUE = re.compile(
    r"([A-Za-z0-9._-]{1,80})\|([A-Za-z0-9._@-]{0,200})\|([0-9a-f]{0,64})(?:\|([A-Za-z0-9.,:_\[\]-]*))?"
)


class Press(msgspec.Struct, frozen=True):
    """What a button stands for."""

    run: RunId
    what: str
    """The gate to approve, or the question that a retry answers (a step and its attempt); "" where there is neither."""
    digest_prefix: str
    typed: tuple[ServerName, ...] = ()
    """The names that its modal asks for."""


def value_of(run: RunId, what: str, digest: Digest, typed: tuple[ServerName, ...] = ()) -> str:
    """Write a button's value."""
    value = f"{run}|{what}|{digest[:DIGEST_CHARACTERS]}"
    return f"{value}|{','.join(typed)}" if typed else value


def read_value(value: str) -> Press | None:
    """Read a button's value; None when it is none of ours."""
    match = _VALUE.fullmatch(value)
    if match is None:
        return None
    typed = tuple(ServerName(name) for name in (match[4] or "").split(",") if name)
    return Press(RunId(match[1]), match[2], match[3], typed)
