"""Pages of a BoltDB file, read without opening it as a database and without any I/O of its own.

Consul keeps its Raft log in BoltDB (`raft/raft.db`). A BoltDB library takes a lock and maps the whole file,
which may be 64 GB; what a recovery must know is in six pages. So every reader here is a generator: it yields
the byte ranges that it needs next, several at once where it can, is sent their bytes, and returns its result.
`drive` runs one over a local file; over SSH an adapter does the same with awaits.

    meta pages 0 and 1 -> root bucket -> a bucket's tree: branch pages -> leaf page -> key and value

BoltDB checksums its two meta pages only. For the others this module leans on how BoltDB writes a page: keys
and values follow the element table without a gap, keys ascend, and a child's keys lie within the bounds its
parent gives. A page that breaks this is refused, so a damaged count, size or pointer is seen. A flipped bit
inside a value is not: who reads values must check them against each other.

The free list is read to refuse a pointer to a page that is no longer in use: such a page still looks sound, and
holds an older state. Newer BoltDB does not always write a free list, and it can be long: then that check is
left out.

Source: go.etcd.io/bbolt, page.go, node.go, bucket.go and db.go.
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

_PAGE_HEADER = struct.Struct("<QHHI")
_META_FIELDS = struct.Struct("<IIIIQQQQQ")
_CHECKSUM = struct.Struct("<Q")
_BRANCH_ELEMENT = struct.Struct("<IIQ")
_LEAF_ELEMENT = struct.Struct("<IIII")
_BUCKET_HEADER = struct.Struct("<QQ")

_META_BYTES: Final = _PAGE_HEADER.size + _META_FIELDS.size + _CHECKSUM.size
_PAGE_SIZES: Final = tuple(1024 << shift for shift in range(7))
_USUAL_PAGE_SIZE: Final = 4096
_MAX_DEPTH: Final = 64
# A damaged overflow count must not make the reader fetch gigabytes: Raft entries are a few MiB at most.
_MAX_PAGE_BYTES: Final = 64 << 20
_PAGES_AT_ONCE: Final = 64
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


# A small bucket has no page of its own: its only page stands inside the value that names it.
Bucket = Page | int


def _fetch(wanted: Sequence[PageRequest]) -> Reads[tuple[bytes, ...]]:
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
    fields = data[_PAGE_HEADER.size : _PAGE_HEADER.size + _META_FIELDS.size]
    magic, version, page_size, _, root, _, free_list, high_water, transaction = _META_FIELDS.unpack(fields)
    (checksum,) = _CHECKSUM.unpack_from(data, _PAGE_HEADER.size + _META_FIELDS.size)
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
    (start,) = yield from _fetch([PageRequest(file, 0, min(size, _USUAL_PAGE_SIZE + _META_BYTES))])
    first = _read_meta(file, size, start[:_META_BYTES], 0)
    second = _read_meta(file, size, start[_USUAL_PAGE_SIZE:], _USUAL_PAGE_SIZE)
    if second is None:
        # The second meta page stands one page in, but only the first one says how long a page is.
        lengths = _PAGE_SIZES if first is None else (first.page_size,)
        wanted = [PageRequest(file, at, _META_BYTES) for at in lengths if at + _META_BYTES <= size]
        for request, data in zip(wanted, (yield from _fetch(wanted)), strict=True):
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
    (data,) = yield from _fetch([PageRequest(db.file, at, db.page_size)])
    number, kind, count, overflow = _PAGE_HEADER.unpack_from(data)
    if number != db.free_list or kind != _FREE_LIST or number + overflow >= db.high_water:
        raise RaftLogUnreadable(f"page {db.free_list} is damaged: it should be the free list")
    length = (overflow + 1) * db.page_size
    if length > _LONGEST_FREE_LIST:
        return db
    if overflow:
        data += (yield from _fetch([PageRequest(db.file, at + db.page_size, length - db.page_size)]))[0]
    start = _PAGE_HEADER.size
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


def _parse_page(number: int, data: bytes) -> Page:
    where = f"page {number}" if number else "an inline bucket"

    def damaged(what: str) -> RaftLogUnreadable:
        return RaftLogUnreadable(f"{where} is damaged: {what}")

    if len(data) < _PAGE_HEADER.size:
        raise damaged("it has no header")
    own_number, kind, count, _ = _PAGE_HEADER.unpack_from(data)
    if own_number != number:
        raise damaged(f"it calls itself page {own_number}")
    if kind not in (_BRANCH, _LEAF):
        raise damaged(f"its type is {kind:#x}, neither branch nor leaf")
    shape = _LEAF_ELEMENT if kind == _LEAF else _BRANCH_ELEMENT
    body = _PAGE_HEADER.size + count * shape.size
    if body > len(data):
        raise damaged(f"{count} elements do not fit into it")
    elements: list[Element] = []
    for at in range(_PAGE_HEADER.size, body, shape.size):
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


def _load(db: Database, numbers: Sequence[int]) -> Reads[tuple[Page, ...]]:
    """Read pages in at most two round trips, the second for those that go on over several pages."""
    for number in numbers:
        if not 2 <= number < db.high_water:
            raise RaftLogUnreadable(f"a pointer leads to page {number}, outside of 2 to {db.high_water - 1}")
        if number in db.unused:
            raise RaftLogUnreadable(f"a pointer leads to page {number}, which is not in use")
    missing = [number for number in numbers if number not in db.pages]
    heads: tuple[bytes, ...] = ()
    if missing:
        heads = yield from _fetch(
            [PageRequest(db.file, number * db.page_size, db.page_size) for number in missing]
        )
    data = dict(zip(missing, heads, strict=True))
    longer: list[PageRequest] = []
    for number, head in data.items():
        overflow: int = _PAGE_HEADER.unpack_from(head)[3]
        if not overflow:
            continue
        if number + overflow >= db.high_water or overflow * db.page_size > _MAX_PAGE_BYTES:
            raise RaftLogUnreadable(f"page {number} is damaged: {overflow} further pages cannot belong to it")
        longer.append(PageRequest(db.file, (number + 1) * db.page_size, overflow * db.page_size))
    if longer:
        for request, tail in zip(longer, (yield from _fetch(longer)), strict=True):
            data[request.offset // db.page_size - 1] += tail
    fresh = {number: _parse_page(number, raw) for number, raw in data.items()}
    return tuple(db.pages[number] if number in db.pages else fresh[number] for number in numbers)


def _check_child(page: Page, low: bytes, high: bytes | None) -> None:
    """Refuse a page below a branch that is empty or whose keys the branch does not send here."""
    if not page.elements:
        raise RaftLogUnreadable(f"page {page.number} is damaged: it is empty below a branch")
    if page.elements[0].key < low or (high is not None and page.elements[-1].key >= high):
        raise RaftLogUnreadable(f"page {page.number} is damaged: its keys are not those its branch points to")


def _descend(db: Database, bucket: Bucket, choose: Callable[[Page], int]) -> Reads[Page]:
    """Follow the child that `choose` names on each branch, down to a leaf."""
    if isinstance(bucket, Page):
        return bucket
    (page,) = yield from _load(db, [bucket])
    low, high = b"", None
    for _ in range(_MAX_DEPTH):
        db.pages[page.number] = page
        if page.is_leaf:
            return page
        if not page.elements:
            raise RaftLogUnreadable(f"page {page.number} is damaged: a branch without children")
        at = choose(page)
        low = max(low, page.elements[at].key)
        if at + 1 < len(page.elements):
            high = page.elements[at + 1].key
        (child,) = yield from _load(db, [page.elements[at].child])
        _check_child(child, low, high)
        page = child
    raise RaftLogUnreadable("its pages point at each other in a circle")


def first_of(db: Database, bucket: Bucket) -> Reads[Element | None]:
    """Return the element with the lowest key, or None in an empty bucket."""
    leaf = yield from _descend(db, bucket, lambda _: 0)
    return leaf.elements[0] if leaf.elements else None


def last_of(db: Database, bucket: Bucket) -> Reads[Element | None]:
    """Return the element with the highest key, or None in an empty bucket."""
    leaf = yield from _descend(db, bucket, lambda page: len(page.elements) - 1)
    return leaf.elements[-1] if leaf.elements else None


def seek(db: Database, bucket: Bucket, key: bytes) -> Reads[Element | None]:
    """Return the element with exactly this key, or None."""
    leaf = yield from _descend(
        db, bucket, lambda page: max(sum(element.key <= key for element in page.elements) - 1, 0)
    )
    return next((element for element in leaf.elements if element.key == key), None)


def scan(db: Database, bucket: Bucket, start: bytes, visit: Callable[[Element], None]) -> Reads[None]:
    """Visit every element from the key `start` on, in order; siblings are asked for together."""
    page = bucket if isinstance(bucket, Page) else (yield from _load(db, [bucket]))[0]
    yield from _scan_below(db, page, start, visit, high=None, depth=_MAX_DEPTH)


def _scan_below(
    db: Database,
    page: Page,
    start: bytes,
    visit: Callable[[Element], None],
    *,
    high: bytes | None,
    depth: int,
) -> Reads[None]:
    if page.is_leaf:
        for element in page.elements:
            if element.key >= start:
                visit(element)
        return
    if not depth or not page.elements:
        raise RaftLogUnreadable(f"page {page.number} is damaged: a branch without an end")
    bounds = [*(element.key for element in page.elements[1:]), high]
    wanted = [
        (element, bound)
        for element, bound in zip(page.elements, bounds, strict=True)
        if bound is None or bound > start
    ]
    for at in range(0, len(wanted), _PAGES_AT_ONCE):
        batch = wanted[at : at + _PAGES_AT_ONCE]
        children = yield from _load(db, [element.child for element, _ in batch])
        for (element, bound), child in zip(batch, children, strict=True):
            _check_child(child, element.key, bound)
            yield from _scan_below(db, child, start, visit, high=bound, depth=depth - 1)


def open_bucket(db: Database, name: bytes) -> Reads[Bucket | None]:
    """Return where the top-level bucket `name` begins, or None when there is none."""
    element = yield from seek(db, db.root_page, name)
    if element is None or not element.is_bucket:
        return None
    if len(element.value) < _BUCKET_HEADER.size:
        raise RaftLogUnreadable(f"the bucket {name.decode(errors='replace')} is damaged: it has no header")
    root: int = _BUCKET_HEADER.unpack_from(element.value)[0]
    if root:
        return root
    inline = element.value[_BUCKET_HEADER.size :]
    page = _parse_page(0, inline)
    if not page.is_leaf:
        raise RaftLogUnreadable("an inline bucket is damaged: it is no leaf")
    return page
