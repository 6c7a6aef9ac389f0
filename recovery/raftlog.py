"""What a raft.db says: how far the log goes, what it holds where, for whom the server voted, who its peers were.

Read page by page (see `recovery.boltfile`), with the agent stopped: without Consul, without a token, a few KiB.

BoltDB has no checksums on these pages, so the numbers are checked against each other: an entry names its own
index, terms never fall along a log and never pass the current term. What contradicts itself is refused.

Source: hashicorp/raft-boltdb bolt_store.go (buckets, keys); hashicorp/raft api.go (keys of `conf`, what
counts as last); checked against `consul info` of 0.6.4 and 1.8.7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recovery.boltdb import Bucket, first_of, last_of, open_bucket, scan, seek
from recovery.boltfile import (
    Database,
    Element,
    PageRequest,
    RaftLogUnreadable,
    Reads,
    drive,
    open_database,
    with_free_list,
)
from recovery.boltfile import unchanged as database_unchanged
from recovery.logstore import LogStore, ServerLog, Vote, newest_snapshot, with_snapshots
from recovery.raftentry import (
    LogEntry,
    LogPosition,
    Peer,
    PeerSet,
    SnapshotMeta,
    parse_entry,
    parse_peer_set,
)

__all__ = [
    "LogEntry",
    "LogPosition",
    "Peer",
    "PeerSet",
    "RaftLog",
    "RaftLogUnreadable",
    "ServerLog",
    "SnapshotMeta",
    "Vote",
    "entry_at",
    "load_log",
    "load_server",
    "newest_snapshot",
    "peer_sets",
    "read_log",
    "reader",
    "term_at",
]


@dataclass(frozen=True, slots=True)
class RaftLog:
    """One raft.db; `first` and `last` are None when it holds no entry."""

    db: Database
    entries: Bucket
    first: LogPosition | None
    last: LogPosition | None
    current_term: int
    last_vote: Vote | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of it though it can be relied on."""
        return ("one meta page is torn: the last transaction may be missing",) if self.db.torn else ()

    def entry_at(self, index: int) -> Reads[LogEntry | None]:
        """Return the entry at an index, or None when the log does not hold it."""
        if self.first is None or self.last is None or not self.first.index <= index <= self.last.index:
            return None
        element = yield from seek(self.db, self.entries, index_key(index))
        if element is None:
            return None
        entry = parse_entry(element.key, element.value)
        if not self.first.term <= entry.term <= self.last.term:
            raise RaftLogUnreadable(
                f"the entry at index {index} has term {entry.term}, out of the log's order"
            )
        return entry

    def peer_sets(self, *, after: int = 0) -> Reads[tuple[PeerSet, ...]]:
        """Return every peer set in the log above the index `after`, oldest first.

        This reads all entries above `after`: over SSH give the newest snapshot's index.
        """
        found: list[PeerSet] = []

        def visit(element: Element) -> None:
            peer_set = parse_peer_set(element.key, element.value)
            if peer_set is not None:
                found.append(peer_set)

        yield from scan(self.db, self.entries, index_key(after + 1), visit)
        return tuple(found)

    def unchanged(self) -> Reads[bool]:
        """Tell whether no transaction was committed since it was opened."""
        return (yield from database_unchanged(self.db))


def index_key(index: int) -> bytes:
    """Return the key of an entry: its index, 8 bytes, big-endian."""
    return index.to_bytes(8, "big")


def load_log(file: str, size: int) -> Reads[RaftLog]:
    """Read how far a raft.db of `size` bytes goes; raises RaftLogUnreadable."""
    db = yield from with_free_list((yield from open_database(file, size)))
    entries = yield from open_bucket(db, b"logs")
    conf = yield from open_bucket(db, b"conf")
    if entries is None or conf is None:
        raise RaftLogUnreadable(
            "it is a BoltDB file, but not a Raft log: the buckets logs and conf are missing"
        )
    current_term = yield from _number(db, conf, b"CurrentTerm")
    vote_term = yield from _number(db, conf, b"LastVoteTerm")
    candidate = yield from seek(db, conf, b"LastVoteCand")
    vote = None
    if vote_term and candidate:
        vote = Vote(vote_term, candidate.value.decode(errors="replace"))
    first = _position((yield from first_of(db, entries)))
    last = _position((yield from last_of(db, entries)))
    if first and last and not (first.index <= last.index and first.term <= last.term <= current_term):
        raise RaftLogUnreadable(
            f"its numbers contradict each other: entries from term {first.term} to {last.term}, "
            f"current term {current_term}"
        )
    return RaftLog(db, entries, first, last, current_term, vote)


def _position(element: Element | None) -> LogPosition | None:
    return None if element is None else parse_entry(element.key, element.value).position


def _number(db: Database, conf: Bucket, key: bytes) -> Reads[int]:
    element = yield from seek(db, conf, key)
    if element is None:
        return 0
    if len(element.value) != 8:
        raise RaftLogUnreadable(f"{key.decode()} has {len(element.value)} bytes, not 8")
    return int.from_bytes(element.value, "big")


def read_log(read: Callable[[int, int], bytes], size: int) -> RaftLog:
    """Read a log whose bytes are at hand: `read(offset, length)` returns them, fewer at the file's end."""
    return drive(load_log("", size), reader(read))


def reader(read: Callable[[int, int], bytes]) -> Callable[[PageRequest], bytes]:
    """Answer requests about a single file with `read(offset, length)`."""
    return lambda request: read(request.offset, request.length)


def entry_at(log: LogStore, index: int) -> Reads[LogEntry | None]:
    """Return the entry at an index, or None when the log does not hold it: compacted, or past its end."""
    return log.entry_at(index)


def term_at(file: str, size: int, snapshots: Sequence[SnapshotMeta], index: int) -> Reads[int | None]:
    """Return the term of the entry at an index, from raft.db or a snapshot that ends there; None if neither tells.

    One index in one term has one entry in all logs of a cluster, so its term tells whether a log holds an entry
    that another one ends with. A recovery by peers.json compacts the whole log into a snapshot that ends there
    (hashicorp/raft api.go, RecoverCluster).
    """
    log = yield from load_log(file, size)
    entry = yield from entry_at(log, index)
    if entry is not None:
        return entry.term
    return next((snapshot.last.term for snapshot in snapshots if snapshot.last.index == index), None)


def peer_sets(log: LogStore, *, after: int = 0) -> Reads[tuple[PeerSet, ...]]:
    """Return every peer set in the log above the index `after`, oldest first."""
    return log.peer_sets(after=after)


def load_server(file: str, size: int, snapshots: Sequence[SnapshotMeta]) -> Reads[ServerLog]:
    """Read a server's raft.db and join it with its snapshots; raises RaftLogUnreadable."""
    log = yield from load_log(file, size)
    return (yield from with_snapshots(log, snapshots))
