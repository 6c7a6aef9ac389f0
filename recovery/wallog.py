"""What a WAL log store says: how far the log goes, what it holds where, for whom the server voted, who its peers were.

`raft/wal/` of Consul 1.15 and newer: a small BoltDB file (`recovery.walsegments`) and segment files
(`recovery.walsegment`) of 64 MiB. Where the unsealed one ends is told by one walk through it, made where the file is;
then single entries are asked for. A segment is read from only once its checksums were looked at.

A request's `file` is `key(SERVER, NAME)`, so whoever answers finds the server and the file in wal/ in it.

Source: hashicorp/raft-wal wal.go, state.go, codec.go; checked against what raft-wal reads of the captured folders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from recovery.boltdb import open_bucket, seek
from recovery.boltfile import (
    Database,
    PageRequest,
    RaftLogUnreadable,
    Reads,
    fetch,
    open_database,
    unchanged,
    with_free_list,
)
from recovery.logstore import ServerLog, Vote, newest_snapshot, with_snapshots
from recovery.raftentry import (
    LogEntry,
    LogPosition,
    PeerSet,
    SnapshotMeta,
    parse_binary_entry,
    parse_binary_peer_set,
)
from recovery.walsegment import FRAME_BYTES, HEADER_BYTES, Walk, WalkRequest, padded, parse_walk
from recovery.walsegments import META, Segment, WalFile, check_sealed, check_tail, parse_list, unsound

_FOLDER: Final = "/wal/"
_FRAME_GUESS_BYTES: Final = 4096
# Between two marks of a walk an entry's header stands no further from the first one.
_SPAN_BYTES: Final = 16384 + _FRAME_GUESS_BYTES
_SPANS_KEPT: Final = 64
_LONGEST_ENTRY: Final = 64 << 20
_MOST_CHECKED_BYTES: Final = 192 << 20
"""Whose checksums are looked at, the newest first: 64 MiB take some three seconds. Of more only the frames are."""


def key(server: str, name: str) -> str:
    """Name a file in the wal folder of a server in a request."""
    return f"{server}{_FOLDER}{name}"


def of_key(file: str) -> tuple[str, str]:
    """Give the server and the name in its wal folder; the name is "" where a request is about raft.db."""
    server, folder, name = file.rpartition(_FOLDER)
    return (server, name) if folder else (file, "")


@dataclass(frozen=True, slots=True)
class WalLog:
    """One wal folder; `first` and `last` are None when it holds no entry."""

    server: str
    meta: Database | None
    segments: tuple[Segment, ...]
    current_term: int
    last_vote: Vote | None
    first: LogPosition | None
    last: LogPosition | None
    left_by_crash: tuple[str, ...] = ()
    walks: dict[str, Walk] = field(default_factory=dict, repr=False, compare=False)
    unchecked: set[str] = field(default_factory=set, repr=False, compare=False)
    spans: dict[tuple[str, int], bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of it though it can be relied on."""
        torn = ("one meta page of wal-meta.db is torn: its last transaction may be missing",)
        too_much = ("it is so long that not all of its checksums were looked at",)
        return (
            *(torn if self.meta is not None and self.meta.torn else ()),
            *self.left_by_crash,
            *(too_much if self.unchecked else ()),
        )

    def entry_at(self, index: int) -> Reads[LogEntry | None]:
        """Return the entry at an index, or None when the log does not hold it."""
        if self.first is None or self.last is None or not self.first.index <= index <= self.last.index:
            return None
        segment = self.segment_of(index)
        yield from self.walk([segment])
        (payload,) = yield from self.payloads([(segment, index)])
        entry = parse_binary_entry(index, payload)
        if not self.first.term <= entry.term <= self.last.term:
            raise unsound(f"the entry at index {index} has term {entry.term}, out of the log's order")
        return entry

    def peer_sets(self, *, after: int = 0) -> Reads[tuple[PeerSet, ...]]:
        """Return every peer set in the log above the index `after`, oldest first; all segments above are walked."""
        if self.first is None or self.last is None:
            return ()
        first, last = max(self.first.index, after + 1), self.last.index
        segments = [each for each in self.segments if not each.sealed or each.last >= first]
        yield from self.walk(segments)
        places = [
            (segment, segment.base + number, at)
            for segment in segments
            for number, at in self.walks[segment.name].peers
            if first <= segment.base + number <= min(last, segment.last or last)
        ]
        found: list[PeerSet] = []
        payloads = yield from self._frames([(segment, at) for segment, _, at in places])
        for (_, index, _), payload in zip(places, payloads, strict=True):
            peer_set = parse_binary_peer_set(index, payload)
            if peer_set is None:
                raise unsound(f"the entry at index {index} is no peer set, though it was taken for one")
            found.append(peer_set)
        return tuple(found)

    def unchanged(self) -> Reads[bool]:
        """Tell whether its database is as it was; whoever reads it looks at the segments' times too."""
        return True if self.meta is None else (yield from unchanged(self.meta))

    def segment_of(self, index: int) -> Segment:
        """Find the segment that holds an index between first and last."""
        return next(each for each in reversed(self.segments) if each.base <= index)

    def walk(self, segments: Iterable[Segment]) -> Reads[None]:
        """Walk through those that were not yet, the newest first, and refuse what is not whole."""
        missing = {each.name: each for each in segments if each.name not in self.walks}
        done = sum(walk.size for name, walk in self.walks.items() if name not in self.unchecked)
        calls: list[list[tuple[Segment, bool]]] = [[]]
        for segment in sorted(missing.values(), key=lambda each: each.base, reverse=True):
            checked = done + segment.size <= _MOST_CHECKED_BYTES or not segment.sealed
            done += segment.size if checked else 0
            if checked:
                calls[0].append((segment, checked))
            else:
                calls.append([(segment, checked)])
        for wanted in filter(None, calls):
            told = yield tuple(
                WalkRequest(key(self.server, segment.name), 0, segment.size, checked=checked)
                for segment, checked in wanted
            )
            for (segment, checked), answer in zip(wanted, told, strict=True):
                walk = parse_walk(bytes(answer))
                if segment.sealed:
                    check_sealed(segment, walk)
                if not checked:
                    self.unchecked.add(segment.name)
                self.walks[segment.name] = walk

    def payloads(self, wanted: Sequence[tuple[Segment, int]]) -> Reads[tuple[bytes, ...]]:
        """Read entries, each of a segment and an index in it, those of one kind in one round trip."""
        sealed = [(segment, index) for segment, index in wanted if segment.sealed]
        asked = [
            PageRequest(key(self.server, each.name), each.index_at + 4 * (index - each.base), 4)
            for each, index in sealed
        ]
        told = (yield from fetch(asked)) if asked else ()
        places = {place: int.from_bytes(offset, "little") for place, offset in zip(sealed, told, strict=True)}
        for segment, index in wanted:
            if not segment.sealed:
                places[segment, index] = yield from self._in_tail(segment, index)
        return (yield from self._frames([(segment, places[segment, index]) for segment, index in wanted]))

    def _in_tail(self, segment: Segment, index: int) -> Reads[int]:
        """Find where an entry of the tail stands: from the mark before it on, frame by frame."""
        walk, number = self.walks[segment.name], index - segment.base
        if number == walk.entries - 1:
            return walk.last
        count, at = next(mark for mark in reversed(walk.marks) if mark[0] <= number)
        if (segment.name, at) not in self.spans:
            length = min(_SPAN_BYTES, segment.size - at)
            (data,) = yield from fetch([PageRequest(key(self.server, segment.name), at, length)])
            if len(self.spans) >= _SPANS_KEPT:
                self.spans.clear()
            self.spans[segment.name, at] = data
        data, place = self.spans[segment.name, at], 0
        while place + FRAME_BYTES <= len(data):
            kind, length = data[place], int.from_bytes(data[place + 4 : place + FRAME_BYTES], "little")
            if kind == 1:
                if count == number:
                    return at + place
                count += 1
            place += FRAME_BYTES if kind == 3 else padded(length)
        raise unsound(f"the entry at index {index} is not where it was seen ({segment.name})")

    def _frames(self, places: Sequence[tuple[Segment, int]]) -> Reads[tuple[bytes, ...]]:
        """Read the entries that stand at these places, in at most two round trips."""
        if not places:
            return ()
        for segment, at in places:
            if not HEADER_BYTES <= at <= segment.size - FRAME_BYTES or at % 8:
                raise unsound(f"the index of {segment.name} leads to {at}, outside of its entries")
        heads = yield from fetch(
            [
                PageRequest(key(self.server, each.name), at, min(_FRAME_GUESS_BYTES, each.size - at))
                for each, at in places
            ]
        )
        longer: dict[int, PageRequest] = {}
        found: list[bytes] = []
        for number, ((segment, at), head) in enumerate(zip(places, heads, strict=True)):
            length = int.from_bytes(head[4:FRAME_BYTES], "little")
            if head[0] != 1 or length > _LONGEST_ENTRY or at + FRAME_BYTES + length > segment.size:
                raise unsound(f"no entry stands where one should be ({segment.name} at {at})")
            found.append(head[FRAME_BYTES : FRAME_BYTES + length])
            if length > len(found[number]):
                rest = length - len(found[number])
                longer[number] = PageRequest(key(self.server, segment.name), at + len(head), rest)
        if longer:
            for number, tail in zip(longer, (yield from fetch(list(longer.values()))), strict=True):
                found[number] += tail
        return tuple(found)


def load_wal(
    server: str, files: Mapping[str, WalFile], snapshots: Sequence[SnapshotMeta]
) -> Reads[ServerLog]:
    """Read a server's wal folder and join it with its snapshots; raises RaftLogUnreadable.

    `files` is what lies in the folder.
    """
    log = yield from _opened((yield from _listed(server, files)))
    _check_snapshots(log, snapshots)
    return (yield from with_snapshots(log, snapshots))


def term_at(
    server: str, files: Mapping[str, WalFile], snapshots: Sequence[SnapshotMeta], index: int
) -> Reads[int | None]:
    """Return the term of the entry at an index, from the log or a snapshot that ends there; None if neither tells.

    Of a running server too: its files change while they are read, so nothing is concluded from what is missing, and
    an entry is believed because it names its own index.
    """
    log = yield from _listed(server, files)
    if log.segments and log.segments[0].first <= index:
        segment, held = log.segment_of(index), True
        if not segment.sealed:
            (told,) = yield (WalkRequest(key(server, segment.name), 0, segment.size, checked=False),)
            log.walks[segment.name] = parse_walk(bytes(told))
            held = index - segment.base < log.walks[segment.name].entries
        if held:
            (payload,) = yield from log.payloads([(segment, index)])
            return parse_binary_entry(index, payload).term
    return next((snapshot.last.term for snapshot in snapshots if snapshot.last.index == index), None)


def _listed(server: str, files: Mapping[str, WalFile]) -> Reads[WalLog]:
    """Read the database: the list of segments and the stable values."""
    if META not in files:
        if any(name.endswith(".wal") for name in files):
            raise unsound(f"{META} is missing beside its segments; Consul refuses to start")
        return WalLog(server, None, (), 0, None, None, None)
    meta = yield from with_free_list((yield from open_database(key(server, META), files[META].size)))
    lists = yield from open_bucket(meta, b"wal-meta")
    stable = yield from open_bucket(meta, b"stable")
    if lists is None or stable is None:
        raise RaftLogUnreadable(f"{META} is a BoltDB file, but not that of a WAL: its buckets are missing")
    listed = yield from seek(meta, lists, b"m")
    numbers: list[int] = []
    for name in (b"CurrentTerm", b"LastVoteTerm"):
        element = yield from seek(meta, stable, name)
        if element is not None and len(element.value) != 8:
            raise unsound(f"{name.decode()} has {len(element.value)} bytes, not 8")
        numbers.append(int.from_bytes(element.value, "little") if element is not None else 0)
    candidate = yield from seek(meta, stable, b"LastVoteCand")
    vote = None
    if numbers[1] and candidate:
        vote = Vote(numbers[1], candidate.value.decode(errors="replace"))
    segments = parse_list(None if listed is None else listed.value, files)
    if not segments and numbers[0]:
        raise unsound(f"its database names no segment, but the server has been in term {numbers[0]}")
    return WalLog(server, meta, segments, numbers[0], vote, None, None)


def _opened(log: WalLog) -> Reads[WalLog]:
    """Walk through the tail, and read where the log begins and ends."""
    if not log.segments:
        return log
    tail = log.segments[-1]
    yield from log.walk([tail, log.segments[0]])
    walk = log.walks[tail.name]
    left = check_tail(tail, walk)
    last = tail.base + walk.entries - 1
    first = log.segments[0].first
    if last < first:
        return _with_ends(log, None, None, left)
    ends = [log.segment_of(first), tail if walk.entries else log.segments[-2]]
    yield from log.walk(ends)
    payloads = yield from log.payloads([(ends[0], first), (ends[1], last)])
    begin, end = (
        parse_binary_entry(index, data) for index, data in zip((first, last), payloads, strict=True)
    )
    if not begin.term <= end.term <= log.current_term:
        raise unsound(
            f"its numbers contradict each other: entries from term {begin.term} to {end.term}, "
            f"current term {log.current_term}"
        )
    return _with_ends(log, begin.position, end.position, left)


def _with_ends(
    log: WalLog, first: LogPosition | None, last: LogPosition | None, left: tuple[str, ...]
) -> WalLog:
    return WalLog(
        log.server,
        log.meta,
        log.segments,
        log.current_term,
        log.last_vote,
        first,
        last,
        left,
        log.walks,
        log.unchecked,
    )


def _check_snapshots(log: WalLog, snapshots: Sequence[SnapshotMeta]) -> None:
    """Refuse a log that leaves a gap behind its snapshots, or ends before one: entries were there that are gone.

    This store takes entries without a gap only, so a server that was sent a snapshot empties it.
    """
    newest = newest_snapshot(snapshots)
    covered = newest.last.index if newest is not None else 0
    if log.meta is None and newest is not None:
        raise unsound("it is empty beside its server's snapshots")
    begin = log.segments[0].first if log.segments else 1
    if begin > covered + 1:
        told = f"its newest snapshot goes to {covered}" if newest is not None else "there is no snapshot"
        raise unsound(f"the log begins at index {begin}, but {told}: what was between them is gone")
    if log.last is not None and log.last.index < covered:
        raise unsound(
            f"the log ends at index {log.last.index}, before the server's own snapshot at {covered}: "
            "entries that it had are gone, or it was stopped while it took a snapshot in"
        )
