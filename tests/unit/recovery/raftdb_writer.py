"""A writer of small raft.db files, for shapes that no captured server happens to have.

Only what a reader sees: meta pages, free list, one root bucket with `conf` inline and `logs` as a tree or inline.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass

Item = tuple[bytes, bytes]


@dataclass(frozen=True)
class Entry:
    """A log entry to be written."""

    index: int
    term: int
    type: int = 0
    data: bytes = b"data"


def fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def packed(entry: Entry) -> bytes:
    """MessagePack as Consul writes it: sorted keys, data as raw."""

    def raw(data: bytes) -> bytes:
        return b"\xdb" + struct.pack(">I", len(data)) + data

    def number(value: int) -> bytes:
        return b"\xcf" + struct.pack(">Q", value)

    return (
        b"\x85\xa4Data" + raw(entry.data) + b"\xaaExtensions\xc0\xa5Index" + number(entry.index)
        + b"\xa4Term" + number(entry.term) + b"\xa4Type" + number(entry.type)
    )  # fmt: skip


def leaf(number: int, items: Sequence[Item], page_size: int, *, flags: int = 0) -> bytes:
    body, table = b"", b""
    for position, (key, value) in enumerate(items):
        pos = 16 * (len(items) - position) + len(body)
        table += struct.pack("<IIII", flags, pos, len(key), len(value))
        body += key + value
    return page(number, 2, len(items), table + body, page_size)


def branch(number: int, items: Sequence[tuple[bytes, int]], page_size: int) -> bytes:
    body, table = b"", b""
    for position, (key, child) in enumerate(items):
        pos = 16 * (len(items) - position) + len(body)
        table += struct.pack("<IIQ", pos, len(key), child)
        body += key
    return page(number, 1, len(items), table + body, page_size)


def page(number: int, kind: int, count: int, body: bytes, page_size: int) -> bytes:
    """With `page_size` 0 as inside an inline bucket: not padded."""
    pages = -(-(16 + len(body)) // page_size) if page_size else 1
    whole = struct.pack("<QHHI", number, kind, count, pages - 1) + body
    return whole.ljust(pages * page_size, b"\0")


def meta(number: int, page_size: int, *, root: int, free: int, high: int, transaction: int) -> bytes:
    fields = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, page_size, 0, root, 0, free, high, transaction)
    return page(number, 4, 0, fields + struct.pack("<Q", fnv1a(fields)), page_size)


def raft_db(
    entries: Sequence[Entry],
    *,
    page_size: int = 4096,
    fanout: int = 5,
    inline: bool = False,
    current_term: int | None = None,
    synced_free_list: bool = True,
    transaction: int = 9,
) -> bytes:
    """Write a whole file: both meta pages name the same state, the second one with the later transaction."""
    pages: list[bytes] = []
    high = 3

    def add(whole: bytes) -> int:
        nonlocal high
        number = high
        pages.append(whole)
        high += len(whole) // page_size
        return number

    items = [(struct.pack(">Q", entry.index), packed(entry)) for entry in entries]
    if inline:
        logs = struct.pack("<QQ", 0, 0) + leaf(0, items, 0)
    else:
        level: list[tuple[bytes, int]] = [
            (chunk[0][0] if chunk else b"", add(leaf(high, chunk, page_size)))
            for chunk in (items[at : at + fanout] for at in range(0, max(len(items), 1), fanout))
        ]
        while len(level) > 1:
            level = [
                (chunk[0][0], add(branch(high, chunk, page_size)))
                for chunk in (level[at : at + fanout] for at in range(0, len(level), fanout))
            ]
        logs = struct.pack("<QQ", level[0][1], 0)
    term = current_term if current_term is not None else max((entry.term for entry in entries), default=0)
    conf = [
        (b"CurrentTerm", struct.pack(">Q", term)),
        (b"LastVoteCand", b"198.51.100.12:8300"),
        (b"LastVoteTerm", struct.pack(">Q", term)),
    ]
    buckets = [(b"conf", struct.pack("<QQ", 0, 0) + leaf(0, conf, 0)), (b"logs", logs)]
    root = add(leaf(high, buckets, page_size, flags=1))
    free = 2 if synced_free_list else 2**64 - 1
    heads = [
        meta(at, page_size, root=root, free=free, high=high, transaction=transaction - 1 + at)
        for at in (0, 1)
    ]
    return b"".join([*heads, page(2, 0x10, 0, b"", page_size), *pages])


def snapshot_json(index: int, term: int, ids: Sequence[str], *, checksum: str = "", size: int = 1) -> bytes:
    """A snapshot's meta.json with voters of these ids."""
    servers = [{"Suffrage": 0, "ID": each, "Address": f"{each}.example:8300"} for each in ids]
    return json.dumps(
        {
            "Version": 1,
            "ID": f"{term}-{index}-1",
            "Index": index,
            "Term": term,
            "Configuration": {"Servers": servers},
            "ConfigurationIndex": 1,
            "Size": size,
            "CRC": checksum,
        }
    ).encode()
