"""One segment file of a WAL log store: its header, its frames, and one walk through all of them.

    32 bytes header | frame | frame | ...      a frame: 8 bytes header, payload, zeros up to the next 8 bytes

Frames are entries, an index of the entries where a segment is sealed, and commits. A commit carries a checksum of
all since the commit before it. A file is made as long as it may become, so its length says nothing: where it ends
is known only by walking through it. That is done where the file is (`WalkRequest`), because it takes all of its
bytes and gives some hundred; `walked` answers such a request for a local file, host.sh does on a host, in the same
words.

The walk goes as Consul's does at its start (which checks the last commit only) and tells besides what Consul would
not notice: commits before it that do not fit, and what stands behind the end.

Source: hashicorp/raft-wal segment/format.go, segment/writer.go (recoverTail, readThroughSegment).
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

from recovery.boltfile import PageRequest, RaftLogUnreadable

HEADER_BYTES: Final = 32
FRAME_BYTES: Final = 8
_MAGIC: Final = 0x58EB6B0D
_ENTRY, _INDEX, _COMMIT = 1, 2, 3
_HEADER = struct.Struct("<Q3Q")
_BLOCK_BYTES: Final = 1 << 20
_BETWEEN_MARKS_BYTES: Final = 16384
# The real one refuses longer entries.
_LONGEST_FRAME: Final = 64 << 20
# A commit with an entry right behind it. What was committed there was on the disk before that entry was written.
_GONE_ON = re.compile(rb"\x03\0\0\0.{4}\x01\0\0\0.{4}([\x80-\xff]{0,9})([\0-\x7f])", re.DOTALL)
_LONGEST_MATCH: Final = 32
_PLAUSIBLE_GAP: Final = 1 << 24
_PEER_ENTRY = re.compile(rb"[\x80-\xff]{0,9}[\0-\x7f][\x80-\xff]{0,9}[\0-\x7f][\x02\x03\x05]")
_ENTRY_HEAD_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class WalkRequest(PageRequest):
    """A walk through a whole segment, answered where the file is; offset and length mean nothing.

    `checked`: with all checksums, some three seconds for 64 MiB.
    """

    checked: bool = True


@dataclass(frozen=True, slots=True)
class Walk:
    """What a walk through a segment told: where its entries stand, and what is not as it should be.

    `entries` are those that Consul would go on with, `last` is where the last of them stands and `end` where it
    would write next; 0 where there is none. `marks` and `peers` are (number of the entry, where it stands).
    """

    size: int
    header: bytes
    stop: str
    """Why it ended: `zeros` (nothing was written), `end` of the file, or `garbage` that is no frame."""
    stop_at: int
    commits: int
    entries: int
    last: int
    end: int
    loose: int
    """Entries behind the last commit: never acknowledged."""
    torn: bool
    """The last commit does not fit its bytes: that batch was being written, and does not count."""
    rotten: int
    """Where a commit stands that does not fit, though the log goes on behind it; 0 where none does."""
    behind: bool
    """Whether anything but zeros stands where the walk stopped, or behind it."""
    lost: int
    """Where a commit of later entries stands that the walk did not come to; 0 where there is none."""
    index: int
    """Where the array of the last index stands; 0 where there is none."""
    marks: tuple[tuple[int, int], ...]
    peers: tuple[tuple[int, int], ...]


def header_of(base: int, number: int, codec: int) -> bytes:
    """Return the header that a segment of the list has."""
    return _HEADER.pack(_MAGIC, base, number, codec)


def padded(length: int) -> int:
    """Return how long a frame with `length` bytes of payload is."""
    return FRAME_BYTES + -(-length // 8) * 8


def parse_walk(told: bytes) -> Walk:
    """Read the answer to a WalkRequest; raises RaftLogUnreadable for anything else."""
    words = dict(line.split(" ", 1) for line in told.decode("ascii", "replace").splitlines() if " " in line)

    def pairs(text: str) -> tuple[tuple[int, int], ...]:
        return tuple((int(a), int(b)) for a, b in (each.split(":") for each in text.split(",") if each))

    try:
        stop, stop_at = words["stop"].split(" ")
        return Walk(
            size=int(words["size"]),
            header=bytes.fromhex(words["header"]),
            stop=stop,
            stop_at=int(stop_at),
            commits=int(words["commits"]),
            entries=int(words["entries"]),
            last=int(words["last"]),
            end=int(words["end"]),
            loose=int(words["loose"]),
            torn=words["torn"] == "1",
            rotten=int(words["rotten"]),
            behind=words["behind"] == "1",
            lost=int(words["lost"]),
            index=int(words["index"]),
            marks=pairs(words["marks"]),
            peers=pairs(words["peers"]),
        )
    except (KeyError, ValueError):
        raise RaftLogUnreadable("the walk through a segment of raft/wal gave no answer") from None


@cache
def _tables() -> tuple[array[int], array[int]]:
    """Return the tables of CRC-32C for the lower and the upper half of four bytes."""
    first = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        first.append(value)
    four = [first]
    for _ in range(3):
        four.append([first[value & 255] ^ value >> 8 for value in four[-1]])
    low = array("I", (four[3][n & 255] ^ four[2][n >> 8] for n in range(65536)))
    high = array("I", (four[1][n & 255] ^ four[0][n >> 8] for n in range(65536)))
    return low, high


def crc32c(data: bytes | memoryview, value: int = 0) -> int:
    """Return the CRC-32C (Castagnoli) of whole groups of four bytes, going on from that of what was before."""
    low, high = _tables()
    words = array("I")
    words.frombytes(data)
    if sys.byteorder == "big":
        words.byteswap()
    value ^= 0xFFFFFFFF
    for word in words:
        value ^= word
        value = low[value & 65535] ^ high[value >> 16]
    return value ^ 0xFFFFFFFF


class _Blocks:
    """A file as a window that moves forward; what is left behind is summed up."""

    def __init__(self, read: Callable[[int, int], bytes], *, checked: bool) -> None:
        self._read = read
        self._checked = checked
        self._window = b""
        self._start = 0
        self.at = 0
        self._summed = 0
        self._sum = 0

    def peek(self, count: int) -> bytes:
        """Return the next bytes, fewer at the file's end."""
        while len(self._window) - (self.at - self._start) < count:
            self._sum_up()
            left = self._window[self.at - self._start :]
            more = self._read(self.at + len(left), _BLOCK_BYTES)
            self._window, self._start = left + more, self.at
            if not more:
                break
        here = self.at - self._start
        return self._window[here : here + count]

    def skip(self, count: int) -> bool:
        """Go forward; False where the file ends before."""
        while count:
            here = len(self.peek(min(count, _BLOCK_BYTES))) // 8 * 8
            if not here:
                return False
            step = min(count, here)
            self.at += step
            count -= step
        return True

    def take_sum(self) -> int:
        """Return the checksum of all since the last time, up to here."""
        self._sum_up()
        found, self._sum = self._sum, 0
        return found

    def leave_out(self, count: int) -> None:
        """Go forward over what belongs to no checksum."""
        self.skip(count)
        self._summed = self.at

    def _sum_up(self) -> None:
        if self._checked:
            one, two = self._summed - self._start, self.at - self._start
            self._sum = crc32c(memoryview(self._window)[one:two], self._sum)
        self._summed = self.at


@dataclass(slots=True)
class _Commit:
    at: int
    entries: int
    last: int
    fits: bool


def walked(read: Callable[[int, int], bytes], size: int, *, checked: bool) -> bytes:
    """Answer a WalkRequest about a local file of `size` bytes; host.sh (WAL_WALK) gives the same for the same file."""
    blocks = _Blocks(read, checked=checked)
    header = blocks.peek(HEADER_BYTES)
    entries, last, index, rotten, commits = 0, 0, 0, 0, 0
    marks: list[tuple[int, int]] = []
    peers: list[tuple[int, int]] = []
    before: _Commit | None = None
    final: _Commit | None = None
    stop = "end"
    whole = blocks.skip(HEADER_BYTES)
    while whole:
        at, head = blocks.at, blocks.peek(FRAME_BYTES)
        if len(head) < FRAME_BYTES:
            break
        if not any(head):
            stop = "zeros"
            break
        kind, number = head[0], int.from_bytes(head[4:], "little")
        if kind == _COMMIT:
            commits += 1
            if final is not None and not final.fits:
                rotten = rotten or final.at
            fits = blocks.take_sum() == number or not checked
            before, final = final, _Commit(at, entries, last, fits)
            blocks.leave_out(FRAME_BYTES)
            continue
        if kind not in (_ENTRY, _INDEX) or number > _LONGEST_FRAME:
            stop = "garbage"
            break
        if kind == _INDEX:
            index = at + FRAME_BYTES
        else:
            if not marks or at - marks[-1][1] >= _BETWEEN_MARKS_BYTES:
                marks.append((entries, at))
            if _PEER_ENTRY.match(blocks.peek(FRAME_BYTES + _ENTRY_HEAD_BYTES), FRAME_BYTES):
                peers.append((entries, at))
            entries, last = entries + 1, at
        whole = blocks.skip(padded(number))
    loose, torn = entries - (final.entries if final else 0), False
    if final is not None and not final.fits:
        if loose:
            rotten = rotten or final.at
        else:
            final, torn = before, True
    count = final.entries if final else 0
    end = final.at + FRAME_BYTES if final else 0
    stop_at = blocks.at
    base = int.from_bytes(header[8:16], "little")
    behind, lost = _behind(read, end, stop_at, after=base + count - 1)
    lines = {
        "size": size,
        "header": header.hex(),
        "stop": f"{stop} {stop_at}",
        "commits": commits,
        "entries": count,
        "last": final.last if final else 0,
        "end": end,
        "loose": loose,
        "torn": int(torn),
        "rotten": rotten,
        "behind": int(behind),
        "lost": lost,
        "index": index,
        "marks": ",".join(f"{n}:{at}" for n, at in marks if n < count),
        "peers": ",".join(f"{n}:{at}" for n, at in peers if n < count),
    }
    return "".join(f"{name} {value}\n" for name, value in lines.items()).encode()


def _behind(read: Callable[[int, int], bytes], end: int, stop_at: int, *, after: int) -> tuple[bool, int]:
    """See whether anything stands behind `stop_at`, and where a commit of entries past `after` stands behind `end`."""
    behind, lost, at, window = False, 0, end, b""
    while block := read(at + len(window), _BLOCK_BYTES):
        window += block
        if window.count(0) < len(window):
            rest = window[max(stop_at - at, 0) :]
            behind = behind or rest.count(0) < len(rest)
            place = 0
            while not lost and (found := _GONE_ON.search(window, place)):
                place = found.start() + 1
                index = varint(found.group(1) + found.group(2))
                if not (at + found.start()) % 8 and after < index <= after + _PLAUSIBLE_GAP:
                    lost = at + found.start()
        keep = min(len(window), _LONGEST_MATCH)
        at, window = at + len(window) - keep, window[len(window) - keep :]
    return behind, lost


def varint(data: bytes) -> int:
    """Return the number that these bytes are, seven bits each, the lowest first."""
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data))
