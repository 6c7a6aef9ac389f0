"""The reader of BoltDB pages: every shape it may meet, and damage of every kind."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.boltfile import RaftLogUnreadable, drive, unchanged
from recovery.raftlog import LogPosition, RaftLog, entry_at, peer_sets, read_log, reader
from tests.unit.recovery.raftdb_writer import Entry, branch, leaf, meta, raft_db

DATA = Path(__file__).parents[2] / "data" / "raftdb"
CAPTURED = {path.name: path.read_bytes() for path in sorted(DATA.glob("*.raft.db"))}


def bytes_of(content: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: content[offset : offset + length]


def opened(content: bytes) -> RaftLog:
    return read_log(bytes_of(content), len(content))


def replaced(content: bytes, offset: int, new: bytes) -> bytes:
    return content[:offset] + new + content[offset + len(new) :]


@given(
    count=st.integers(0, 60),
    first=st.integers(1, 2**40),
    page_size=st.sampled_from([1024, 2048, 4096, 16384, 65536]),
    fanout=st.integers(2, 7),
    longest=st.sampled_from([0, 10, 3000, 9000]),
    synced=st.booleans(),
)
def test_every_tree_gives_back_what_was_written(
    *, count: int, first: int, page_size: int, fanout: int, longest: int, synced: bool
) -> None:
    """Any page size, depth and size of values: each entry is found at its index, and none beside them."""
    entries = [Entry(first + at, 1 + at // 9, data=bytes([at]) * (at * longest // 60)) for at in range(count)]
    content = raft_db(entries, page_size=page_size, fanout=fanout, synced_free_list=synced)

    log = opened(content)
    found = [drive(entry_at(log, entry.index), reader(bytes_of(content))) for entry in entries]

    assert [(each.index, each.term, each.data_bytes) for each in found if each] == [
        (entry.index, entry.term, len(entry.data)) for entry in entries
    ]
    assert log.last == (LogPosition(entries[-1].term, entries[-1].index) if entries else None)
    assert drive(entry_at(log, first + count), reader(bytes_of(content))) is None


def test_small_buckets_stand_inside_the_root() -> None:
    """A log so small that BoltDB keeps it inline in the root bucket is read like any other."""
    content = raft_db([Entry(1, 1), Entry(2, 3)], inline=True)

    assert opened(content).last == LogPosition(3, 2)


@pytest.mark.parametrize("torn", [0, 1])
def test_a_torn_meta_page_is_ignored_and_told(torn: int) -> None:
    """With one meta page destroyed the other one counts, and the log says so."""
    content = replaced(raft_db([Entry(1, 1)]), torn * 4096 + 40, b"\xff\xff")

    log = opened(content)

    assert log.last == LogPosition(1, 1)
    assert log.db.torn


def test_the_meta_page_of_the_later_transaction_counts() -> None:
    """Two valid meta pages name two states; the later transaction is the present."""
    content = raft_db([Entry(1, 1), Entry(2, 1)])
    nowhere = meta(0, 4096, root=2, free=2, high=5, transaction=1)

    assert opened(nowhere + content[4096:]).last == LogPosition(1, 2)


@pytest.mark.parametrize("page_size", [1024, 65536])
def test_a_torn_first_meta_page_does_not_hide_an_unusual_page_size(page_size: int) -> None:
    """The page size then comes from the second meta page, wherever that is."""
    content = raft_db([Entry(1, 1)], page_size=page_size)

    assert opened(bytes(80) + content[80:]).last == LogPosition(1, 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty or cut short"),
        (b"x" * 9000, "not a BoltDB file"),
        (bytes(40960), "not a BoltDB file"),
        (raft_db([Entry(1, 1)])[:-4096], "cut short"),
    ],
)
def test_what_is_no_whole_boltdb_file_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    """A wrong or cut file is named as such."""
    with pytest.raises(RaftLogUnreadable, match=reason):
        opened(content)


def test_pages_that_point_at_each_other_end() -> None:
    """A branch whose only child is itself is refused instead of followed for ever."""
    content = raft_db([Entry(at, 1) for at in range(1, 12)])
    root = 6
    assert content[root * 4096 + 8] == 1
    circle = branch(root, [((1).to_bytes(8, "big"), root)], 4096)

    with pytest.raises(RaftLogUnreadable, match="circle"):
        opened(replaced(content, root * 4096, circle))


def test_an_entry_cut_off_by_a_damaged_count_is_not_overlooked() -> None:
    """A leaf that counts fewer entries than it holds would pass for a staler log, and is refused."""
    content = raft_db([Entry(1, 1), Entry(2, 1)])
    assert content[3 * 4096 + 10] == 2

    with pytest.raises(RaftLogUnreadable):
        opened(replaced(content, 3 * 4096 + 10, b"\x01"))
    with pytest.raises(RaftLogUnreadable, match="more than it counts"):
        opened(replaced(content, 3 * 4096 + 10, b"\x00"))


def test_a_pointer_to_a_page_out_of_use_is_refused() -> None:
    """A page on the free list still looks sound, and would give an older log."""
    content = raft_db([Entry(1, 1)])
    freed = replaced(content, 2 * 4096 + 10, b"\x01\x00\x00\x00\x00\x00\x03")

    with pytest.raises(RaftLogUnreadable, match="not in use"):
        opened(freed)


def test_a_boltdb_file_of_something_else_is_refused() -> None:
    """Without the buckets logs and conf it is no Raft log."""
    content = raft_db([Entry(1, 1)])
    other = leaf(4, [(b"conf", bytes(16)), (b"wal-", bytes(16))], 4096)
    assert content[4 * 4096] == 4

    with pytest.raises(RaftLogUnreadable, match="not a Raft log"):
        opened(replaced(content, 4 * 4096, other))


def test_a_commit_while_reading_is_noticed() -> None:
    """When a later transaction appears in a meta page, the pages that were read may be mixed."""
    before = raft_db([Entry(1, 1)], transaction=9)
    after = raft_db([Entry(1, 1)], transaction=10)
    log = opened(before)

    assert drive(unchanged(log.db), reader(bytes_of(before)))
    assert not drive(unchanged(log.db), reader(bytes_of(after)))


@given(name=st.sampled_from(sorted(CAPTURED)), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_never_gives_another_end_of_the_log(name: str, place: float, bit: int) -> None:
    """A real file with one bit flipped is refused, or read right, or read as its last sound transaction."""
    content = CAPTURED[name]
    at = int(place * 16 * 4096)
    damaged = replaced(content, at, bytes([content[at] ^ 1 << bit]))
    try:
        log = opened(damaged)
        drive(peer_sets(log), reader(bytes_of(damaged)))
    except RaftLogUnreadable:
        return
    truth = opened(content)
    if log.db.torn:
        assert at < 2 * 4096
    else:
        assert log.last is not None
        assert truth.last is not None
        assert log.last.index == truth.last.index
        assert log.first == truth.first


@given(name=st.sampled_from(sorted(CAPTURED)), length=st.integers(0, 131072))
def test_a_cut_file_is_refused_or_read_right(name: str, length: int) -> None:
    """Cutting a file anywhere never gives another answer."""
    try:
        log = opened(CAPTURED[name][:length])
    except RaftLogUnreadable:
        return
    assert log.last == opened(CAPTURED[name]).last


@given(
    name=st.sampled_from(sorted(CAPTURED)),
    places=st.lists(st.tuples(st.integers(2 * 4096, 16 * 4096 - 1), st.binary(min_size=1, max_size=64))),
)
def test_heavy_damage_ends_in_a_refusal_or_an_answer(name: str, places: list[tuple[int, bytes]]) -> None:
    """Whatever is written over a file, reading it ends, and with no other error than our own."""
    content = CAPTURED[name]
    for at, new in places:
        content = replaced(content, at, new)
    # Any other exception than this one fails the test, and so does the time limit.
    with contextlib.suppress(RaftLogUnreadable):
        log = opened(content)
        drive(peer_sets(log), reader(bytes_of(content)))
        for index in (1, 20, 43):
            drive(entry_at(log, index), reader(bytes_of(content)))
