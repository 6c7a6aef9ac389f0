"""Buckets of a BoltDB file: from the root down to one key, to the last one, or through all of them.

    meta page -> root bucket -> a bucket's tree: branch pages -> leaf page -> key and value

A child's keys must lie within the bounds its parent gives, so a damaged pointer is seen.

Source: go.etcd.io/bbolt, bucket.go and cursor.go.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

from recovery.boltfile import (
    PAGE_HEADER,
    Database,
    Element,
    Page,
    PageRequest,
    RaftLogUnreadable,
    Reads,
    drive,
    fetch,
    parse_page,
    unchanged,
)

__all__ = [
    "Bucket",
    "PageRequest",
    "RaftLogUnreadable",
    "Reads",
    "drive",
    "first_of",
    "last_of",
    "open_bucket",
    "scan",
    "seek",
    "unchanged",
]

_BUCKET_HEADER = struct.Struct("<QQ")
_MAX_DEPTH: Final = 64
# A damaged overflow count must not make the reader fetch gigabytes: Raft entries are a few MiB at most.
_MAX_PAGE_BYTES: Final = 64 << 20
_PAGES_AT_ONCE: Final = 64

# A small bucket has no page of its own: its only page stands inside the value that names it.
Bucket = Page | int


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
        heads = yield from fetch(
            [PageRequest(db.file, number * db.page_size, db.page_size) for number in missing]
        )
    data = dict(zip(missing, heads, strict=True))
    longer: list[PageRequest] = []
    for number, head in data.items():
        overflow: int = PAGE_HEADER.unpack_from(head)[3]
        if not overflow:
            continue
        if number + overflow >= db.high_water or overflow * db.page_size > _MAX_PAGE_BYTES:
            raise RaftLogUnreadable(f"page {number} is damaged: {overflow} further pages cannot belong to it")
        longer.append(PageRequest(db.file, (number + 1) * db.page_size, overflow * db.page_size))
    if longer:
        for request, tail in zip(longer, (yield from fetch(longer)), strict=True):
            data[request.offset // db.page_size - 1] += tail
    fresh = {number: parse_page(number, raw) for number, raw in data.items()}
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
    page = parse_page(0, inline)
    if not page.is_leaf:
        raise RaftLogUnreadable("an inline bucket is damaged: it is no leaf")
    return page
