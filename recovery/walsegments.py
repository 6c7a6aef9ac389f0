"""The list of segments in wal-meta.db, which alone says what belongs to a WAL log, and what of it is there.

Consul believes the list: a file that it does not name is left over from a crash and is deleted. But of a tail that
is named and not there, or cut short, it makes an empty one without a word, and the log is shorter. What it would take
for an empty or a shorter log is called unsound here, and so is all that contradicts itself.

Source: hashicorp/raft-wal metadb/metadb.go, types/segment.go, wal.go (Open).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Final, NamedTuple

import msgspec

from recovery.boltfile import RaftLogUnreadable
from recovery.walsegment import HEADER_BYTES, Walk, header_of

META: Final = "wal-meta.db"
SEGMENT_NAME: Final = re.compile(r"[0-9]{20}-[0-9a-f]{16}\.wal")
_CODEC: Final = 1
_NO_TIME: Final = "0001-01-01T00:00:00"

# How long making a file may take after its time was put into the list.
_MADE_WITHIN_S: Final = 60.0

_Number = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]


def unsound(what: str) -> RaftLogUnreadable:
    """Say why nobody may rely on this log, though Consul might start with it."""
    return RaftLogUnreadable(f"it is unsound: {what}")


class WalFile(NamedTuple):
    """A file in a wal folder: its length in bytes, and when it was last written to, as Unix time."""

    size: int
    modified_s: float


class _Listed(msgspec.Struct):
    ID: _Number
    BaseIndex: _Number
    MinIndex: _Number
    MaxIndex: _Number
    Codec: _Number
    IndexStart: _Number
    CreateTime: datetime
    SealTime: str
    SizeLimit: _Number


class _List(msgspec.Struct):
    NextSegmentID: _Number
    Segments: list[_Listed] | None


_decode = msgspec.json.Decoder(_List).decode


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of the list; `last` is 0 for the tail, which is the one that is still written to."""

    name: str
    number: int
    base: int
    first: int
    last: int
    index_at: int
    size: int
    touched_s: float
    """How long after it was made it was last written to."""

    @property
    def sealed(self) -> bool:
        """Whether its end is known from the list."""
        return self.last > 0

    @property
    def header(self) -> bytes:
        """What its file has to begin with."""
        return header_of(self.base, self.number, _CODEC)


def parse_list(text: bytes | None, files: Mapping[str, WalFile]) -> tuple[Segment, ...]:
    """Read the list, None where there is none, and find its files; raises RaftLogUnreadable.

    `files` is what lies in the folder.
    """
    there = [name for name in files if name.endswith(".wal")]
    for name in there:
        if not SEGMENT_NAME.fullmatch(name):
            raise unsound(f"a file is named {name!r}, which is no segment's name; Consul refuses to start")
    try:
        listed = _decode(text) if text is not None else _List(0, None)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise unsound(f"the list of its segments is damaged ({error})") from None
    if not listed.Segments:
        if there:
            raise unsound(
                f"its database names no segment, but {len(there)} lie there; Consul would delete them"
            )
        return ()
    segments = tuple(_segment(each, files) for each in listed.Segments)
    _check_order(segments, listed)
    return segments


def _segment(listed: _Listed, files: Mapping[str, WalFile]) -> Segment:
    name = f"{listed.BaseIndex:020d}-{listed.ID:016x}.wal"
    sealed = listed.MaxIndex > 0
    if listed.Codec != _CODEC:
        raise RaftLogUnreadable(f"the segment {name} has an encoding ({listed.Codec}) that is not known here")
    if sealed is listed.SealTime.startswith(_NO_TIME):
        raise unsound(f"the list does not agree with itself whether {name} is sealed")
    last = listed.MaxIndex if sealed else max(listed.MinIndex, listed.BaseIndex)
    if not 1 <= listed.BaseIndex <= listed.MinIndex <= last:
        raise unsound(f"the list gives {name} the entries {listed.MinIndex} to {listed.MaxIndex}")
    if name not in files:
        would = "refuses to start" if sealed else "would make an empty one, and say nothing"
        raise unsound(f"its database knows the segment {name}, whose file is not there; Consul {would}")
    size = files[name].size
    made = listed.CreateTime if listed.CreateTime.tzinfo else listed.CreateTime.replace(tzinfo=UTC)
    touched_s = files[name].modified_s - made.timestamp()
    if not sealed and size < listed.SizeLimit:
        raise unsound(f"{name} is cut short: {size} bytes of the {listed.SizeLimit} that it was made with")
    count = listed.MaxIndex - listed.BaseIndex + 1
    if sealed and not (
        listed.IndexStart >= HEADER_BYTES
        and listed.IndexStart % 8 == 0
        and listed.IndexStart + 4 * count <= size
    ):
        raise unsound(f"{name} is cut short: its index does not fit into its {size} bytes")
    return Segment(
        name,
        number=listed.ID,
        base=listed.BaseIndex,
        first=listed.MinIndex,
        last=listed.MaxIndex,
        index_at=listed.IndexStart,
        size=size,
        touched_s=touched_s,
    )


def _check_order(segments: Sequence[Segment], listed: _List) -> None:
    if segments[-1].sealed or not all(each.sealed for each in segments[:-1]):
        raise unsound("the list of its segments does not end with the one that is written to")
    for one, two in pairwise(segments):
        if two.base != one.last + 1 or two.first != two.base:
            raise unsound(f"entries are missing between {one.name}, which ends at {one.last}, and {two.name}")
        if two.number <= one.number:
            raise unsound(f"the list has {two.name} behind {one.name}, which is younger")
    if segments[-1].number >= listed.NextSegmentID:
        raise unsound("the list of its segments names one whose number was not given yet")


def check_sealed(segment: Segment, walk: Walk) -> None:
    """Refuse a sealed segment that is not whole; its last commit covers its index, so it has to fit too."""
    _check_header(segment, walk)
    _check_rot(segment, walk)
    if walk.torn or walk.index != segment.index_at or walk.end <= segment.index_at:
        raise unsound(f"{segment.name} was sealed, but is not whole: bits have rotted in it")
    if walk.entries < segment.last - segment.base + 1:
        raise unsound(
            f"{segment.name} holds the entries {segment.base} to {segment.base + walk.entries - 1}, "
            f"not up to {segment.last} as the list has it"
        )


def check_tail(segment: Segment, walk: Walk) -> tuple[str, ...]:
    """Refuse a tail that Consul would take for shorter than it is; gives what a crash has left in one that is sound."""
    name = segment.name
    if not walk.commits and walk.stop == "zeros" and walk.stop_at == HEADER_BYTES:
        return _check_empty(segment, walk)
    _check_header(segment, walk)
    _check_rot(segment, walk)
    # A batch is written at once over zeros: where one was torn, each part of it is there or still zeros. So zeros right
    # at its beginning, with data behind them, and something that is no frame, are more than a crash leaves.
    if walk.stop == "garbage" or (walk.behind and walk.stop_at == max(walk.end, HEADER_BYTES)):
        what = "something that is no entry" if walk.stop == "garbage" else "zeros, and data behind them"
        raise unsound(
            f"behind the entry {segment.base + walk.entries - 1} stands {what}; "
            f"Consul would end the log there, and say nothing ({name} at {walk.stop_at})"
        )
    if walk.entries and segment.base + walk.entries - 1 < segment.first:
        raise unsound(
            f"{name} ends at the entry {segment.base + walk.entries - 1}, but the list has it begin at {segment.first}"
        )
    if not walk.entries:
        _check_begins(segment)
    if walk.torn:
        return (
            "its last batch was being written and is torn; it was never acknowledged, and does not count",
        )
    if walk.loose:
        return ("what follows its last commit was never acknowledged, and does not count",)
    return ()


def _check_empty(segment: Segment, walk: Walk) -> tuple[str, ...]:
    """Refuse an empty tail that was not always empty: a new one is written to, header and all, with its first entry."""
    if walk.behind or any(walk.header):
        raise unsound(
            f"{segment.name} has no entry where its first one should be, but is not empty; "
            "Consul would begin it anew, and say nothing"
        )
    if segment.touched_s > _MADE_WITHIN_S:
        raise unsound(
            f"{segment.name} is empty, but was written to {segment.touched_s:.0f} s after it was made: "
            "what it held is gone, and Consul would say nothing"
        )
    _check_begins(segment)
    return ()


def _check_begins(segment: Segment) -> None:
    if segment.first != segment.base:
        raise unsound(
            f"{segment.name} is empty, but the list has it begin in its middle, at the entry {segment.first}"
        )


def _check_header(segment: Segment, walk: Walk) -> None:
    if walk.size != segment.size:
        raise RaftLogUnreadable("it was written to while it was read")
    if walk.header != segment.header:
        raise unsound(
            f"the file {segment.name} does not begin as this segment has to: another one's, or rotten"
        )


def _check_rot(segment: Segment, walk: Walk) -> None:
    if walk.rotten:
        raise unsound(
            f"bits have rotted in {segment.name}: a checksum in its middle does not fit (at {walk.rotten}), "
            "and Consul looks at the last one only; entries that were acknowledged may be wrong"
        )
    if walk.lost:
        raise unsound(
            f"entries behind {segment.base + walk.entries - 1} were acknowledged and cannot be reached any more "
            f"({segment.name} at {walk.lost}); Consul would end the log before them, and say nothing"
        )
