"""The file under a Raft log: BoltDB's page format, its meta pages and free list, without any I/O of its own.

Consul keeps its Raft log in BoltDB (`raft/raft.db`). A BoltDB library takes a lock and maps the whole file,
which may be 64 GB; what a recovery must know is in six pages. So every reader here is a generator: it yields
the byte ranges that it needs next, several at once where it can, is sent their bytes, and returns its result.
`drive` runs one over a local file; over SSH an adapter does the same with awaits.

BoltDB checksums its two meta pages only. For the others this module leans on how BoltDB writes a page: keys
and values follow the element table without a gap, keys ascend, and nothing stands behind the last. A page that
breaks this is refused, so a damaged count or size is seen. A flipped bit inside a value is not: who reads
values must check them against each other.

The free list is read to refuse a pointer to a page that is no longer in use: such a page still looks sound,
and holds an older state. Newer BoltDB does not always write a free list, and it can be long: then that check
is left out.

Source: go.etcd.io/bbolt, page.go, node.go, freelist.go and db.go.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from recovery.errors import RecoveryError

T = TypeVar("T")

_MAGIC: Final = 0xED0CDAED
_VERSION: Final = 2
_BRANCH, _LEAF, _FREE_LIST = 1, 2, 0x10
_BUCKET_FLAG: Final = 1

PAGE_HEADER = struct.Struct("<QHHI")
_META_FIELDS = struct.Struct("<IIIIQQQQQ")
_CHECKSUM = struct.Struct("<Q")
_BRANCH_ELEMENT = struct.Struct("<IIQ")
_LEAF_ELEMENT = struct.Struct("<IIII")

_META_BYTES: Final = PAGE_HEADER.size + _META_FIELDS.size + _CHECKSUM.size
_PAGE_SIZES: Final = tuple(1024 << shift for shift in range(7))
_USUAL_PAGE_SIZE: Final = 4096
_LONGEST_FREE_LIST: Final = 64 << 10
# A count of 65535 means that the true one is the first number of the list.
_LONG_COUNT: Final = 0xFFFF
_NO_FREE_LIST: Final = 0xFFFFFFFFFFFFFFFF


class RaftLogUnreadable(RecoveryError):
    """The file is no readable raft.db; `reason` is one sentence for a person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A range of bytes that a reader needs next: of which file, from where, how many."""

    file: str
    offset: int
    length: int


Reads = Generator[tuple[PageRequest, ...], Sequence[bytes], T]


def drive(steps: Reads[T], read: Callable[[PageRequest], bytes]) -> T:
    """Run a reader to its end, answering its requests one by one with `read`."""
    try:
        wanted = next(steps)
        while True:
            wanted = steps.send(tuple(read(request) for request in wanted))
    except StopIteration as done:
        result: T = done.value
        return result


@dataclass(frozen=True, slots=True)
class Element:
    """One entry of a page: in a branch a child's number and its lowest key, in a leaf a key and a value."""

    key: bytes
    value: bytes = b""
    child: int = 0
    is_bucket: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A checked branch or leaf page with its elements in the order of their keys."""

    number: int
    is_leaf: bool
    elements: tuple[Element, ...]


@dataclass(frozen=True, slots=True)
class Database:
    """The state that one meta page describes; `torn` when the other meta page was unusable.

    Then the last transaction may be missing here. That is also what Consul would go on with.
    """

    file: str
    size: int
    page_size: int
    root_page: int
    free_list: int
    high_water: int
    transaction: int
    torn: bool
    unused: frozenset[int] = field(default=frozenset(), repr=False, compare=False)
    pages: dict[int, Page] = field(default_factory=dict, repr=False, compare=False)


def fetch(wanted: Sequence[PageRequest]) -> Reads[tuple[bytes, ...]]:
    """Ask for ranges at once; RaftLogUnreadable when an answer is too short."""
    answers = yield tuple(wanted)
    if [len(answer) for answer in answers] != [request.length for request in wanted]:
        raise RaftLogUnreadable(
            "the file ends in the middle of a page that is needed (cut short while copied?)"
        )
    return tuple(bytes(answer) for answer in answers)


def _fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def _read_meta(file: str, size: int, data: bytes, offset: int) -> Database | None:
    """Return what the meta page in `data` says, or None when it does not count: torn, or none at all."""
    if len(data) < _META_BYTES:
        return None
    fields = data[PAGE_HEADER.size : PAGE_HEADER.size + _META_FIELDS.size]
    magic, version, page_size, _, root, _, free_list, high_water, transaction = _META_FIELDS.unpack(fields)
    (checksum,) = _CHECKSUM.unpack_from(data, PAGE_HEADER.size + _META_FIELDS.size)
    if magic != _MAGIC or version != _VERSION or checksum != _fnv1a(fields):
        return None
    if page_size not in _PAGE_SIZES or offset not in (0, page_size):
        return None
    return Database(file, size, page_size, root, free_list, high_water, transaction, torn=False)


def open_database(file: str, size: int) -> Reads[Database]:
    """Read both meta pages of a file of `size` bytes; the valid one of the later transaction counts.

    Raises RaftLogUnreadable for a file that is empty, cut short, or not BoltDB.
    """
    if size < 2 * _PAGE_SIZES[0]:
        raise RaftLogUnreadable(f"it is only {size} bytes long: empty or cut short")
    (start,) = yield from fetch([PageRequest(file, 0, min(size, _USUAL_PAGE_SIZE + _META_BYTES))])
    first = _read_meta(file, size, start[:_META_BYTES], 0)
    second = _read_meta(file, size, start[_USUAL_PAGE_SIZE:], _USUAL_PAGE_SIZE)
    if second is None:
        # The second meta page stands one page in, but only the first one says how long a page is.
        lengths = _PAGE_SIZES if first is None else (first.page_size,)
        wanted = [PageRequest(file, at, _META_BYTES) for at in lengths if at + _META_BYTES <= size]
        for request, data in zip(wanted, (yield from fetch(wanted)), strict=True):
            second = second or _read_meta(file, size, data, request.offset)
    found = [meta for meta in (first, second) if meta is not None]
    if not found:
        raise RaftLogUnreadable(
            "neither of its two meta pages is valid: it is not a BoltDB file, or its head is damaged"
        )
    if len({meta.page_size for meta in found}) > 1:
        raise RaftLogUnreadable("its two meta pages disagree about the page size")
    newest = max(found, key=lambda meta: meta.transaction)
    if newest.high_water * newest.page_size > size:
        raise RaftLogUnreadable(
            f"it is cut short: {size} bytes of at least {newest.high_water * newest.page_size}"
        )
    return replace(newest, torn=len(found) < 2)


def with_free_list(db: Database) -> Reads[Database]:
    """Read which pages are not in use, so that a pointer to one of them is refused."""
    if db.free_list == _NO_FREE_LIST:
        return db
    if not 2 <= db.free_list < db.high_water:
        raise RaftLogUnreadable(f"its free list cannot be at page {db.free_list}")
    at = db.free_list * db.page_size
    (data,) = yield from fetch([PageRequest(db.file, at, db.page_size)])
    number, kind, count, overflow = PAGE_HEADER.unpack_from(data)
    if number != db.free_list or kind != _FREE_LIST or number + overflow >= db.high_water:
        raise RaftLogUnreadable(f"page {db.free_list} is damaged: it should be the free list")
    length = (overflow + 1) * db.page_size
    if length > _LONGEST_FREE_LIST:
        return db
    if overflow:
        data += (yield from fetch([PageRequest(db.file, at + db.page_size, length - db.page_size)]))[0]
    start = PAGE_HEADER.size
    if count == _LONG_COUNT:
        (count,) = _CHECKSUM.unpack_from(data, start)
        start += _CHECKSUM.size
    if start + 8 * count > length:
        raise RaftLogUnreadable(f"page {db.free_list} is damaged: {count} page numbers do not fit into it")
    return replace(db, unused=frozenset(struct.unpack_from(f"<{count}Q", data, start)))


def unchanged(db: Database) -> Reads[bool]:
    """Tell whether no transaction was committed since `db` was opened: a running agent goes on writing."""
    try:
        now = yield from open_database(db.file, db.size)
    except RaftLogUnreadable:
        return False
    return now == db


def parse_page(number: int, data: bytes) -> Page:
    """Take a branch or leaf page apart; number 0 is the page of an inline bucket."""
    where = f"page {number}" if number else "an inline bucket"

    def damaged(what: str) -> RaftLogUnreadable:
        return RaftLogUnreadable(f"{where} is damaged: {what}")

    if len(data) < PAGE_HEADER.size:
        raise damaged("it has no header")
    own_number, kind, count, _ = PAGE_HEADER.unpack_from(data)
    if own_number != number:
        raise damaged(f"it calls itself page {own_number}")
    if kind not in (_BRANCH, _LEAF):
        raise damaged(f"its type is {kind:#x}, neither branch nor leaf")
    shape = _LEAF_ELEMENT if kind == _LEAF else _BRANCH_ELEMENT
    body = PAGE_HEADER.size + count * shape.size
    if body > len(data):
        raise damaged(f"{count} elements do not fit into it")
    elements: list[Element] = []
    for at in range(PAGE_HEADER.size, body, shape.size):
        if kind == _LEAF:
            flags, pos, key_size, value_size = shape.unpack_from(data, at)
            child = 0
        else:
            pos, key_size, child = shape.unpack_from(data, at)
            flags, value_size = 0, 0
        if at + pos != body or flags not in (0, _BUCKET_FLAG):
            raise damaged("an element points outside its place")
        end = body + key_size + value_size
        if end > len(data):
            raise damaged("an element reaches past the end")
        key = data[body : body + key_size]
        if elements and elements[-1].key >= key:
            raise damaged("its keys do not ascend")
        elements.append(Element(key, data[body + key_size : end], child, flags == _BUCKET_FLAG))
        body = end
    # BoltDB writes pages out of zeroed memory: what stands behind the last element was cut off by a damaged
    # count, which would otherwise pass for a shorter log.
    if data.count(0, body) < len(data) - body:
        raise damaged("it holds more than it counts")
    return Page(number, kind == _LEAF, tuple(elements))
