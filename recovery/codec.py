"""Journals as signed lines, plans as versioned JSON; kinds this version does not know are refused.

JSON rather than a compact form: the journal is read by people too, after the
night is over (``redis-cli lrange``). A line is ``s1 MAC JSON``
(:mod:`recovery.signing`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from recovery.errors import IllegalEvent, JournalUnreadable, UnknownKind, Unverified
from recovery.journal import Event, Proposed, RunState, Unlocked, apply, start
from recovery.model import ClusterName, RunId
from recovery.plan import SCHEMA
from recovery.signing import SigningKey, mac_of


class Fault(msgspec.Struct, frozen=True):
    """What of a journal cannot be read."""

    line: int
    """Counted from 1; 0 where it is not about one line."""
    why: str

    def __str__(self) -> str:
        return f"line {self.line} of its journal {self.why}" if self.line else self.why


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """A run's journal as the store has it."""

    events: tuple[Event, ...] = ()
    """Up to the first line that cannot be read."""
    length: int
    """In lines, those that cannot be read too."""
    fault: Fault | None = None
    unlocked: Unlocked | None = None
    """The last line, where a person took the lock away from a run that cannot be read."""
    macs: tuple[str, ...] = ()
    """The signature of each event."""


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
                f"was written by another version of the bot (format {version}, ours is {SCHEMA}): "
                "let that version finish or abort the run"
            )
        event = _decoder.decode(line).event
    except msgspec.MsgspecError as error:
        raise UnknownKind(f"holds what this version of the bot does not know ({error})") from None
    if isinstance(event, Proposed) and event.plan.schema != SCHEMA:
        raise UnknownKind(f"has a plan of format {event.plan.schema}, ours is {SCHEMA}")
    return event


def write_line(
    key: SigningKey, cluster: ClusterName, run: RunId, event: Event, *, position: int, before: str
) -> bytes:
    """Write and sign one journal line for its place, behind the line with the MAC ``before``."""
    return key.sign_line(cluster, run, encode_event(event), position=position, before=before)


def read_lines(
    key: SigningKey,
    cluster: ClusterName,
    run: RunId,
    lines: Sequence[bytes],
    *,
    position: int = 0,
    before: str = "",
) -> Journal:
    """Verify and read a run's lines, the first of which stands at ``position``; never raises."""
    events: list[Event] = []
    macs: list[str] = []
    fault: Fault | None = None
    for at, line in enumerate(lines, start=position):
        try:
            events.append(decode_event(key.verify_line(cluster, run, line, position=at, before=before)))
        except (Unverified, UnknownKind) as problem:
            fault = Fault(at + 1, str(problem))
            break
        before = mac_of(line)
        macs.append(before)
    unlocked = None
    if fault is not None and len(lines) > 1:
        unlocked = _unlocked(key, cluster, run, lines[-2], lines[-1], position=position + len(lines) - 1)
    return Journal(
        events=tuple(events), length=position + len(lines), fault=fault, unlocked=unlocked, macs=tuple(macs)
    )


def _unlocked(
    key: SigningKey, cluster: ClusterName, run: RunId, last_but_one: bytes, last: bytes, *, position: int
) -> Unlocked | None:
    """What a person wrote behind lines that cannot be read."""
    try:
        event = decode_event(
            key.verify_line(cluster, run, last, position=position, before=mac_of(last_but_one))
        )
    except (Unverified, UnknownKind):
        return None
    return event if isinstance(event, Unlocked) else None


def fold_journal(journal: Journal) -> tuple[RunState | None, int, Fault | None]:
    """The state of a run, how many events it is made of, and why it is not made of all lines."""
    state: RunState | None = None
    for number, event in enumerate(journal.events):
        try:
            state = start(event) if state is None else apply(state, event)
        except IllegalEvent as problem:
            return state, number, Fault(number + 1, f"tells what cannot have happened ({problem})")
    return state, len(journal.events), journal.fault


def readable(cluster: ClusterName, run: RunId, journal: Journal) -> RunState:
    """The state of a run whose whole journal can be read; JournalUnreadable for any other."""
    state, _, fault = fold_journal(journal)
    if fault is not None or state is None:
        raise unreadable(cluster, run, fault or Fault(0, "Redis has no journal of it"))
    return state


def unreadable(cluster: ClusterName, run: RunId, fault: Fault) -> JournalUnreadable:
    """The refusal of everything that such a run can not be asked for."""
    return JournalUnreadable(
        f"Run {run} of {cluster} cannot be read: {fault}. It is not driven, and cannot be approved, aborted or"
        f" retried; nothing was done. Where it holds the lock, `unlock {run}` takes it away; its lines stay as they"
        f" are. `status {cluster}` shows what it holds on the servers."
    )
