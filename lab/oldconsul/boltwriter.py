"""Writes a whole BoltDB file with the two buckets of a Raft log, as `recovery.boltfile` describes the format.

Bolt itself changes a few pages in place; this writes all of them into a new file, which takes the old one's place
by a rename: a process that is killed leaves the old or the new one, never a torn one.

Source: go.etcd.io/bbolt page.go, node.go, bucket.go; hashicorp/raft-boltdb bolt_store.go (`logs`, `conf`).
"""

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

PAGE_SIZE = 4096
# As large as the real one's new file is; it doubles from there, as the real one's memory map does.
SMALLEST_FILE = 65536

_HEADER = struct.Struct("<QHHI")
_BRANCH, _LEAF, _META, _FREE_LIST = 1, 2, 4, 0x10
_BUCKET = 1
_ROOM = PAGE_SIZE - _HEADER.size

Item = tuple[bytes, bytes]


def raft_db(entries: Sequence[Item], conf: Mapping[bytes, bytes], *, transaction: int) -> bytes:
    """Return the bytes of a raft.db: `entries` by ascending key, and the `conf` bucket.

    The meta page of the even or odd `transaction` is the newer one, as Bolt alternates them.
    """
    # Pages 0 and 1 are meta, 2 is the (empty) free list, 3 the root bucket.
    pages: list[bytes] = []
    at = 4

    def add(kind: int, items: Sequence[tuple[bytes, bytes | int]]) -> int:
        nonlocal at
        number = at
        whole = _page(number, kind, items)
        pages.append(whole)
        at += len(whole) // PAGE_SIZE
        return number

    level: list[tuple[bytes, bytes | int]] = [(chunk[0][0], add(_LEAF, chunk)) for chunk in _chunks(entries)]
    while len(level) > 1:
        level = [(chunk[0][0], add(_BRANCH, chunk)) for chunk in _chunks(level)]
    logs = struct.pack("<QQ", level[0][1] if level else add(_LEAF, ()), 0)
    inline = struct.pack("<QQ", 0, 0) + _elements(0, _LEAF, sorted(conf.items()))
    root = _page(3, _LEAF, [(b"conf", inline), (b"logs", logs)], flags=_BUCKET)
    metas = (
        _meta(number=number, transaction=transaction - (transaction - number) % 2, high_water=at)
        for number in (0, 1)
    )
    free = _page(2, _FREE_LIST, ())
    size = SMALLEST_FILE
    while size < at * PAGE_SIZE:
        size *= 2
    return b"".join([*metas, free, root, *pages]).ljust(size, b"\0")


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` in a file's place, in one step, readable by its owner only."""
    draft = path.with_name(f".{path.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.rename(path)


def _chunks(items: Sequence[tuple[bytes, bytes | int]]) -> list[list[tuple[bytes, bytes | int]]]:
    """Cut what belongs into one level of the tree into pages; an element larger than a page has one alone."""
    chunks: list[list[tuple[bytes, bytes | int]]] = []
    room = 0
    for key, value in items:
        need = 16 + len(key) + (len(value) if isinstance(value, bytes) else 0)
        if not chunks or need > room:
            chunks.append([])
            room = _ROOM
        chunks[-1].append((key, value))
        room -= need
    return chunks


def _page(number: int, kind: int, items: Sequence[tuple[bytes, bytes | int]], *, flags: int = 0) -> bytes:
    whole = _elements(number, kind, items, flags=flags)
    pages = -(-len(whole) // PAGE_SIZE)
    return (_HEADER.pack(number, kind, len(items), pages - 1) + whole[_HEADER.size :]).ljust(
        pages * PAGE_SIZE, b"\0"
    )


def _elements(number: int, kind: int, items: Sequence[tuple[bytes, bytes | int]], *, flags: int = 0) -> bytes:
    """Lay out a page without padding: header, element table, then keys and values without a gap."""
    table, body = [], []
    filled = 0
    for position, (key, value) in enumerate(items):
        # Both kinds of element are 16 bytes; pos counts from the element's own start.
        pos = 16 * (len(items) - position) + filled
        if isinstance(value, int):
            table.append(struct.pack("<IIQ", pos, len(key), value))
            body.append(key)
        else:
            table.append(struct.pack("<IIII", flags, pos, len(key), len(value)))
            body.append(key + value)
        filled += len(body[-1])
    return _HEADER.pack(number, kind, len(items), 0) + b"".join(table) + b"".join(body)


def _meta(*, number: int, transaction: int, high_water: int) -> bytes:
    fields = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, PAGE_SIZE, 0, 3, 0, 2, high_water, transaction)
    checksum = 0xCBF29CE484222325
    for byte in fields:
        checksum = (checksum ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return (_HEADER.pack(number, _META, 0, 0) + fields + struct.pack("<Q", checksum)).ljust(PAGE_SIZE, b"\0")
