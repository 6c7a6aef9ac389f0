"""Events and plans as versioned JSON; kinds this version does not know are refused.

JSON rather than a compact form: the journal is read by people too, after the
night is over (``redis-cli lrange``).
"""

from __future__ import annotations

import msgspec

from recovery.errors import UnknownKind
from recovery.journal import Event, Proposed
from recovery.plan import SCHEMA, Plan


class _Envelope(msgspec.Struct, frozen=True):
    """A journal line: the version it was written in, and the event."""

    v: int
    event: Event


class _Version(msgspec.Struct, frozen=True):
    v: int


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(_Envelope)
_version_decoder = msgspec.json.Decoder(_Version)


def encode_event(event: Event) -> bytes:
    """Write one journal line."""
    return _encoder.encode(_Envelope(v=SCHEMA, event=event))


def decode_event(line: bytes) -> Event:
    """Read one journal line; UnknownKind if another version wrote it or it is damaged."""
    try:
        version = _version_decoder.decode(line).v
        if version != SCHEMA:
            raise UnknownKind(
                f"this run was written by another version of the bot (format {version}, ours is {SCHEMA}); "
                "nothing was done. Let that version finish or abort it."
            )
        event = _decoder.decode(line).event
    except msgspec.MsgspecError as error:
        raise UnknownKind(
            f"a line of the run's journal cannot be read ({error}); nothing was done."
        ) from None
    if isinstance(event, Proposed) and event.plan.schema != SCHEMA:
        raise UnknownKind(
            f"the run's plan has format {event.plan.schema}, ours is {SCHEMA}; nothing was done."
        )
    return event


def encode_plan(plan: Plan) -> bytes:
    """Write a plan for people and programs (``--json``)."""
    return msgspec.json.format(_encoder.encode(plan), indent=2)
