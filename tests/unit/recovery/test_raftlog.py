"""What real servers' raft.db files say, read page by page."""

from pathlib import Path

import pytest

from recovery.boltdb import PageRequest, drive
from recovery.raftlog import LogPosition, RaftLog, entry_at, load_log, peer_sets, read_log, reader

DATA = Path(__file__).parents[2] / "data" / "raftdb"


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
