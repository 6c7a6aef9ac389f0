"""What real servers' raft.db files say, read page by page."""

import contextlib
import gzip
import json
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.boltfile import PageRequest, drive
from recovery.raftentry import parse_entry, parse_snapshot_meta
from recovery.raftlog import (
    LogPosition,
    Peer,
    RaftLog,
    RaftLogUnreadable,
    ServerLog,
    entry_at,
    load_log,
    load_server,
    peer_sets,
    read_log,
    reader,
)
from tests.unit.recovery.raftdb_writer import Entry, packed, raft_db

DATA = Path(__file__).parents[2] / "data" / "raftdb"


def slice_of(content: bytes, offset: int, length: int) -> bytes:
    return content[offset : offset + length]


def opened(name: str) -> tuple[RaftLog, bytes]:
    content = (DATA / name).read_bytes()
    return read_log(lambda offset, length: content[offset : offset + length], len(content)), content


@pytest.mark.parametrize(
    ("name", "term", "index"),
    [
        ("0.6.4-s1.raft.db", 1, 45),
        ("0.6.4-s2.raft.db", 1, 47),
        ("0.6.4-s3.raft.db", 1, 47),
        ("1.8.7-s1.raft.db", 4, 43),
    ],
)
def test_last_term_and_index_are_what_the_server_said_before_it_stopped(
    name: str, term: int, index: int
) -> None:
    """The end of the log is the one `consul info` gave before the stop."""
    log, _ = opened(name)

    assert log.last == LogPosition(term=term, index=index)


def test_vote_and_current_term_are_read() -> None:
    """The last vote and the current term come from the bucket conf."""
    log, _ = opened("1.8.7-s1.raft.db")

    assert log.current_term == 4
    assert log.last_vote is not None
    assert log.last_vote.term == 4
    assert log.last_vote.candidate == "198.51.100.12:8300"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0.6.4-s1.raft.db", [(1, "12 11 13"), (45, "12 13")]),
        ("0.6.4-s2.raft.db", [(1, "12 11 13"), (45, "12 13"), (47, "13")]),
        ("0.6.4-s3.raft.db", [(1, "12 11 13"), (45, "12 13"), (47, "13")]),
        (
            "1.8.7-s1.raft.db",
            [
                (1, "13 12 11"),
                (15, "12 11"),
                (16, "12 11 13-"),
                (22, "12 11 13"),
                (28, "12 11 13 23-"),
                (30, "12 11 23-"),
                (36, "12 11 23"),
            ],
        ),
    ],
)
def test_peer_sets_come_in_the_order_in_which_they_changed(
    name: str, expected: list[tuple[int, str]]
) -> None:
    """Each configuration entry gives the whole set after the change; `-` marks one without a vote."""
    log, content = opened(name)

    found = drive(peer_sets(log), reader(lambda offset, length: content[offset : offset + length]))

    assert [
        (
            peer_set.index,
            " ".join(
                peer.address.removeprefix("198.51.100.").removesuffix(":8300") + "-" * (not peer.voter)
                for peer in peer_set.servers
            ),
        )
        for peer_set in found
    ] == expected


def test_every_entry_can_be_found_by_its_index() -> None:
    """Seeking by index finds each entry the log holds, and nothing before or after."""
    log, content = opened("1.8.7-s1.raft.db")
    read = reader(lambda offset, length: content[offset : offset + length])

    found = [drive(entry_at(log, index), read) for index in range(1, 44)]

    assert [entry and entry.index for entry in found] == list(range(1, 44))
    assert drive(entry_at(log, 0), read) is None
    assert drive(entry_at(log, 44), read) is None


def test_the_end_of_a_log_costs_few_pages_of_the_file_that_was_named() -> None:
    """Position and vote take at most seven reads of about a page each, all of the named file."""
    content = (DATA / "1.8.7-s1.raft.db").read_bytes()
    asked: list[PageRequest] = []

    def read(request: PageRequest) -> bytes:
        asked.append(request)
        return content[request.offset : request.offset + request.length]

    drive(load_log("s1", len(content)), read)

    assert len(asked) <= 7
    assert sum(request.length for request in asked) <= 7 * 4096
    assert {request.file for request in asked} == {"s1"}


def kept(folder: str) -> tuple[ServerLog, dict[str, int], bytes]:
    """A server's log and snapshots out of a folder, with the numbers it gave before it stopped."""
    directory = DATA / folder
    content = gzip.decompress((directory / "raft.db.gz").read_bytes())
    metas = [parse_snapshot_meta(meta.read_bytes()) for meta in sorted(directory.glob("meta-*.json"))]
    server = drive(
        load_server(folder, len(content), metas),
        lambda request: content[request.offset : request.offset + request.length],
    )
    return server, json.loads((directory / "expected.json").read_bytes()), content


@pytest.mark.parametrize("folder", ["1.8.7-big", "1.8.7-many", "1.8.7-snap", "1.8.7-recovered"])
def test_log_and_snapshot_agree_with_consul_info(folder: str) -> None:
    """Big values, thousands of entries, a compaction and a recovery: the numbers are Consul's own."""
    server, told, _ = kept(folder)

    last = server.log.last or LogPosition(0, 0)
    snapshot = server.snapshot.last if server.snapshot else LogPosition(0, 0)
    assert {
        "last_log_index": last.index,
        "last_log_term": last.term,
        "last_snapshot_index": snapshot.index,
        "last_snapshot_term": snapshot.term,
        "term": server.log.current_term,
    } == told


@pytest.mark.parametrize("folder", ["1.8.7-big", "1.8.7-many"])
def test_entries_over_several_pages_and_below_branches_are_found(folder: str) -> None:
    """Every index of a large log gives its entry."""
    server, told, content = kept(folder)
    read = reader(lambda offset, length: content[offset : offset + length])
    indexes = range(1, told["last_log_index"] + 1)

    found = [drive(entry_at(server.log, index), read) for index in indexes]

    assert [entry and entry.index for entry in found] == list(indexes)
    assert max(entry.data_bytes for entry in found if entry) > (70_000 if folder == "1.8.7-big" else 50)


def test_after_a_recovery_the_snapshot_is_the_end_and_the_configuration() -> None:
    """RecoverCluster empties the log: position and peers then come from the newest snapshot."""
    server, _, _ = kept("1.8.7-recovered")

    assert server.log.last is None
    assert server.last == LogPosition(term=2, index=135)
    assert server.configuration is not None
    assert [peer.address for peer in server.configuration.servers] == ["127.0.0.1:8300"]


def test_configuration_is_the_last_one_in_the_log_when_no_snapshot_is_newer() -> None:
    """s3 of the old cluster believes that it is alone, s1 that s2 and s3 are there."""
    believed = {}
    for name in ("s1", "s3"):
        content = (DATA / f"0.6.4-{name}.raft.db").read_bytes()
        read = reader(partial(slice_of, content))
        server = drive(load_server(name, len(content), ()), read)
        assert server.configuration is not None
        believed[name] = {peer.address for peer in server.configuration.servers}

    assert believed == {
        "s1": {"198.51.100.12:8300", "198.51.100.13:8300"},
        "s3": {"198.51.100.13:8300"},
    }


def test_old_snapshots_name_their_peers_as_packed_addresses() -> None:
    """Below Raft protocol 3 a meta.json has no Configuration: Peers is base64 of MessagePack."""
    meta = parse_snapshot_meta(
        b'{"ID":"1-20-1","Index":20,"Term":1,"Peers":"ka4xMjcuMC4wLjE6ODMwMA==","Size":5,"CRC":"x"}'
    )

    assert meta.last == LogPosition(1, 20)
    assert meta.servers == (Peer("127.0.0.1:8300", "127.0.0.1:8300", voter=True),)


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b'{"Index":1,"Term":0}', b'{"Index":1,"Term":1,"Peers":"%%"}', b"\xff", b"[" * 100_000],
)
def test_a_damaged_snapshot_meta_is_refused(text: bytes) -> None:
    """A meta.json that is no meta.json raises our own error."""
    with pytest.raises(RaftLogUnreadable, match=r"meta\.json"):
        parse_snapshot_meta(text)


@given(st.binary(max_size=200))
def test_any_bytes_as_an_entry_are_an_entry_or_a_refusal(value: bytes) -> None:
    """Nothing that stands in a value makes the decoder fail in another way."""
    with contextlib.suppress(RaftLogUnreadable):
        assert parse_entry(bytes(7) + b"\x01", value).index == 1


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        (Entry(1, 1, 0, b"a"), Entry(1, 1, 0, b"b"), False),
        (Entry(1, 1, 0, b"a"), Entry(1, 1, 1, b"a"), False),
        (Entry(1, 1, 0, b"\xff\xfe"), Entry(1, 1, 0, b"\xff\xfe"), True),
    ],
)
def test_entries_are_alike_only_with_the_same_type_and_data(first: Entry, second: Entry, alike: bool) -> None:
    """Data that is not text counts byte by byte."""
    key = bytes(7) + b"\x01"

    assert (parse_entry(key, packed(first)) == parse_entry(key, packed(second))) is alike


def test_a_log_past_its_own_current_term_is_refused() -> None:
    """Raft stores the term before any entry of it: otherwise something is damaged or mixed."""
    content = raft_db([Entry(1, 5)], current_term=4)

    with pytest.raises(RaftLogUnreadable, match="contradict"):
        read_log(lambda offset, length: content[offset : offset + length], len(content))
