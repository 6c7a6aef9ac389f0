"""A writer of wal folders as Consul's log store writes them, and as crashes leave them.

It goes the way of the real one: entries in batches, each with a commit; a segment that is full is sealed with an
index; a head truncation changes the list only; a tail truncation seals the segment where it stands and begins a new
one behind what is left.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from recovery.boltfile import PageRequest
from recovery.wallog import of_key
from recovery.walsegment import WalkRequest, crc32c, header_of, walked
from recovery.walsegments import WalFile
from tests.unit.recovery.raftdb_writer import Entry, leaf, meta, page

CREATED_S = 1_790_000_000.0
_NEVER = "0001-01-01T00:00:00Z"


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def encoded(entry: Entry) -> bytes:
    """Codec 1, appended at some time in UTC."""
    return (
        varint(entry.index)
        + varint(entry.term)
        + varint(entry.type)
        + varint(len(entry.data))
        + entry.data
        + varint(0)
        + b"\x01"
        + struct.pack(">qIh", 63_900_000_000, 5, -1)
    )


def frame(kind: int, payload: bytes = b"", *, number: int | None = None) -> bytes:
    whole = struct.pack("<BxxxI", kind, len(payload) if number is None else number) + payload
    return whole + bytes(-len(whole) % 8)


@dataclass
class Written:
    """One segment as it is written: what is on the disk, and what is not committed yet."""

    number: int
    base: int
    limit: int
    first: int
    last: int = 0
    index_at: int = 0
    content: bytearray = field(default_factory=bytearray)
    offsets: list[int] = field(default_factory=list)
    summed: int = 0

    @property
    def name(self) -> str:
        return f"{self.base:020d}-{self.number:016x}.wal"

    def put(self, entries: Sequence[Entry]) -> None:
        """Write entries without a commit."""
        if not self.content:
            self.content += header_of(self.base, self.number, 1)
        for entry in entries:
            self.offsets.append(len(self.content))
            self.content += frame(1, encoded(entry))

    def commit(self) -> None:
        self.content += frame(3, number=crc32c(bytes(self.content[self.summed :])))
        self.summed = len(self.content)

    def seal(self) -> None:
        """Write the index of all entries, as far as the next commit."""
        self.index_at = len(self.content) + 8
        self.content += frame(2, struct.pack(f"<{len(self.offsets)}I", *self.offsets))

    def file(self) -> bytes:
        return bytes(self.content).ljust(self.limit, b"\0")


class Wal:
    """A wal folder that is being written."""

    def __init__(self, *, base: int = 1, limit: int = 4096) -> None:
        self.limit = limit
        self.next_number = 0
        self.segments: list[Written] = []
        self.current_term = 0
        self.vote: tuple[int, bytes] | None = None
        self.orphans: dict[str, bytes] = {}
        self._begin(base)

    @property
    def tail(self) -> Written:
        return self.segments[-1]

    def _begin(self, base: int) -> None:
        self.segments.append(Written(self.next_number, base, self.limit, base))
        self.next_number += 1

    def append(self, *entries: Entry) -> "Wal":
        """Store a batch; like the real one, seals the segment with the batch that fills it."""
        self.current_term = max(self.current_term, *(entry.term for entry in entries))
        tail = self.tail
        tail.put(entries)
        full = len(tail.content) + 16 + 4 * len(tail.offsets) > self.limit
        if full:
            tail.seal()
        tail.commit()
        if full:
            tail.last = entries[-1].index
            self._begin(entries[-1].index + 1)
        return self

    def batches(self, entries: Sequence[Entry], *, size: int = 1) -> "Wal":
        for at in range(0, len(entries), size):
            self.append(*entries[at : at + size])
        return self

    def cut_head(self, first: int) -> "Wal":
        """Drop what is below `first`, as a compaction does."""
        self.segments = [each for each in self.segments if not each.last or each.last >= first]
        self.segments[0].first = first
        return self

    def cut_tail(self, last: int) -> "Wal":
        """Take back what is above `last`, as a new leader does."""
        while self.tail.base > last:
            self.segments.pop()
        tail = self.tail
        if not tail.last:
            tail.seal()
            tail.commit()
        tail.last = last
        self._begin(last + 1)
        return self

    def meta_db(self) -> bytes:
        listed = {
            "NextSegmentID": self.next_number,
            "Segments": [
                {
                    "ID": each.number,
                    "BaseIndex": each.base,
                    "MinIndex": each.first,
                    "MaxIndex": each.last,
                    "Codec": 1,
                    "IndexStart": each.index_at if each.last else 0,
                    "CreateTime": datetime.fromtimestamp(CREATED_S, UTC).isoformat().replace("+00:00", "Z"),
                    "SealTime": "2026-11-28T20:17:54.884109897Z" if each.last else _NEVER,
                    "SizeLimit": each.limit,
                }
                for each in self.segments
            ],
        }
        stable = [(b"CurrentTerm", struct.pack("<Q", self.current_term))] if self.current_term else []
        if self.vote is not None:
            term, candidate = self.vote
            stable += [(b"LastVoteCand", candidate), (b"LastVoteTerm", struct.pack("<Q", term))]
        return meta_db(json.dumps(listed).encode(), stable)

    def folder(self) -> dict[str, bytes]:
        """All files, by name."""
        return {
            "wal-meta.db": self.meta_db(),
            **{each.name: each.file() for each in self.segments},
            **self.orphans,
        }


def meta_db(listed: bytes | None, stable: Sequence[tuple[bytes, bytes]], *, transaction: int = 9) -> bytes:
    """Write wal-meta.db: the list in a page of its own, the stable values inside the root page."""
    size = 4096
    lists = leaf(4, [(b"m", listed)] if listed is not None else [], size)
    inline = struct.pack("<QQ", 0, 0) + leaf(0, sorted(stable), 0)
    root = leaf(3, [(b"stable", inline), (b"wal-meta", struct.pack("<QQ", 4, 0))], size, flags=1)
    high = 4 + len(lists) // size
    metas = [
        meta(number, size, root=3, free=2, high=high, transaction=transaction - 1 + number)
        for number in (0, 1)
    ]
    return b"".join([*metas, page(2, 0x10, 0, b"", size), root, lists])


class Folder:
    """Files of wal folders in memory, and who answers requests about them; counts what is asked for."""

    def __init__(self, *, touched_s: float = 0.0) -> None:
        self.folders: dict[str, dict[str, bytes]] = {}
        self.touched_s = touched_s
        self.asked: list[PageRequest] = []
        self.told_bytes = 0

    def add(self, server: str, files: dict[str, bytes]) -> dict[str, WalFile]:
        self.folders[server] = files
        return {name: WalFile(len(data), CREATED_S + self.touched_s) for name, data in files.items()}

    def read(self, request: PageRequest) -> bytes:
        self.asked.append(request)
        server, name = of_key(request.file)
        data = self.folders[server][name]
        if isinstance(request, WalkRequest):
            told = walked(lambda at, count: data[at : at + count], len(data), checked=request.checked)
        else:
            told = data[request.offset : request.offset + request.length]
        self.told_bytes += len(told)
        return told
