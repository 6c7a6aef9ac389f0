"""The stand-in of old Consul writes the files that the real one wrote."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.oldconsul import msgpack
from lab.oldconsul.boltwriter import raft_db
from lab.oldconsul.logstore import LogStore, PeersFile
from lab.oldconsul.rules import COMMAND, Entry
from recovery.boltdb import drive, open_bucket, scan
from recovery.boltfile import Element, open_database, with_free_list
from recovery.raftentry import LogPosition
from recovery.raftlog import entry_at, peer_sets, read_log, reader

CAPTURED = Path(__file__).parents[2] / "data" / "raftdb"


def elements(content: bytes, bucket: bytes) -> list[Element]:
    """Everything in a bucket, read by the bot's own reader."""
    read = reader(lambda offset, length: content[offset : offset + length])
    db = drive(with_free_list(drive(open_database("", len(content)), read)), read)
    found: list[Element] = []
    opened = drive(open_bucket(db, bucket), read)
    assert opened is not None
    drive(scan(db, opened, b"", found.append), read)
    return found


SIZES = st.lists(st.integers(0, 9000) | st.integers(0, 300), max_size=120)


@given(sizes=SIZES, first=st.integers(1, 2**40), transaction=st.integers(2, 9))
def test_what_is_written_is_what_the_reader_finds(sizes: list[int], first: int, transaction: int) -> None:
    """Any log, also with values over several pages and branches over branches, comes back as it was."""
    items = [(struct.pack(">Q", first + at), bytes([at % 256]) * size) for at, size in enumerate(sizes)]
    conf = {b"CurrentTerm": struct.pack(">Q", 7), b"LastVoteCand": b"198.51.100.12:8300"}
    content = raft_db(items, conf, transaction=transaction)
    assert [(each.key, each.value) for each in elements(content, b"logs")] == items
    assert {each.key: each.value for each in elements(content, b"conf")} == conf


def test_a_long_log_has_branches_over_branches() -> None:
    """The tree grows as deep as it must: 60000 entries need three levels."""
    items = [(struct.pack(">Q", at), b"x" * 20) for at in range(60_000)]
    content = raft_db(items, {}, transaction=4)
    assert len(elements(content, b"logs")) == 60_000


@pytest.mark.parametrize("server", ["s1", "s2", "s3"])
def test_a_real_log_is_written_again_byte_for_byte(server: str, tmp_path: Path) -> None:
    """Entries of the real 0.6.4 are understood, and encoded again exactly as it had encoded them."""
    real = (CAPTURED / f"0.6.4-{server}.raft.db").read_bytes()
    file = tmp_path / "raft.db"
    file.write_bytes(real)
    store = LogStore.open(file)
    again = LogStore(tmp_path / "again.db")
    again.append(store.between(1, store.last_index))
    again.set_vote(store.voted_term, store.voted_for)
    again.set_term(store.term)
    written = (tmp_path / "again.db").read_bytes()
    for bucket in (b"logs", b"conf"):
        assert [(each.key, each.value) for each in elements(written, bucket)] == [
            (each.key, each.value) for each in elements(real, bucket)
        ]


@pytest.mark.parametrize("server", ["s1", "s2", "s3"])
def test_commands_are_encoded_as_the_real_ones(server: str) -> None:
    """The MessagePack inside of the real commands decodes, and encodes again to the same bytes."""
    for element in elements((CAPTURED / f"0.6.4-{server}.raft.db").read_bytes(), b"logs"):
        data = msgpack.unpack(element.value)["Data"]
        # Coordinates (kind 6) carry their own nested order of fields.
        if data and data[0] < 5:
            assert data[:1] + msgpack.pack(msgpack.unpack(data[1:])) == data


def test_a_store_reads_what_it_wrote_and_drops_what_is_overwritten(tmp_path: Path) -> None:
    """A new leader's entry takes the place of all from its index on, on the disk too."""
    file = tmp_path / "raft.db"
    store = LogStore.open(file)
    store.append([Entry(at, 1, COMMAND, b"old") for at in range(1, 6)])
    store.set_vote(3, "198.51.100.13:8300")
    store.append([Entry(4, 3, COMMAND, None)])
    again = LogStore.open(file)
    assert (again.last_index, again.last_term, again.term) == (4, 3, 3)
    assert (again.voted_term, again.voted_for) == (3, "198.51.100.13:8300")
    assert again.between(3, 9) == [Entry(3, 1, COMMAND, b"old"), Entry(4, 3, COMMAND, None)]
    content = file.read_bytes()
    log = read_log(lambda offset, length: content[offset : offset + length], len(content))
    assert log.last == LogPosition(3, 4)
    assert log.last_vote is not None
    assert log.last_vote.candidate == "198.51.100.13:8300"


def test_an_empty_log_is_readable(tmp_path: Path) -> None:
    """A server that never saw a cluster has a raft.db without entries."""
    LogStore.open(tmp_path / "raft.db")
    content = (tmp_path / "raft.db").read_bytes()
    log = read_log(lambda offset, length: content[offset : offset + length], len(content))
    assert (log.first, log.last, log.current_term, log.last_vote) == (None, None, 0, None)
    read = reader(lambda offset, length: content[offset : offset + length])
    assert drive(peer_sets(log), read) == ()
    assert drive(entry_at(log, 1), read) is None


@pytest.mark.parametrize(
    ("text", "peers"),
    [(None, ()), ("", ()), ("null\n", ()), ("[]", ()), ('["198.51.100.11:8300"]', ("198.51.100.11:8300",))],
)
def test_peers_json_may_be_missing_empty_or_null(
    tmp_path: Path, text: str | None, peers: tuple[str, ...]
) -> None:
    """All of these are no peers, as the real one takes them."""
    file = tmp_path / "peers.json"
    if text is not None:
        file.write_text(text)
    assert PeersFile(file).read() == peers


def test_peers_json_is_written_as_the_real_one_wrote_it(tmp_path: Path) -> None:
    """An array without spaces and a line end; `null` after a graceful leave."""
    file = PeersFile(tmp_path / "peers.json")
    file.write(["198.51.100.12:8300", "198.51.100.11:8300"])
    assert (tmp_path / "peers.json").read_bytes() == b'["198.51.100.12:8300","198.51.100.11:8300"]\n'
    file.write(None)
    assert (tmp_path / "peers.json").read_bytes() == b"null\n"
    (tmp_path / "peers.json").write_text("[{")
    with pytest.raises(ValueError, match="Expecting"):
        file.read()
