"""What a server's log is to those who rank and compare logs, whatever Consul keeps it in.

Consul has two log stores: raft.db (`recovery.raftlog`) and the WAL of 1.15 and newer (`recovery.wallog`). Servers of
one cluster may have different ones for as long as a change from one to the other takes. The snapshots beside them
are the same, and the newest one's meta.json belongs to the log: after every recovery by peers.json the log is
empty, and the snapshot alone says how far the server is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from recovery.boltfile import Reads
from recovery.raftentry import LogEntry, LogPosition, PeerSet, SnapshotMeta


@dataclass(frozen=True, slots=True)
class Vote:
    """The last vote a server gave: in which term, to whom (an address)."""

    term: int
    candidate: str


class LogStore(Protocol):
    """A log that was opened: its two ends, and what it holds between them."""

    @property
    def first(self) -> LogPosition | None:
        """Where it begins, None when it holds no entry."""
        ...

    @property
    def last(self) -> LogPosition | None:
        """Where it ends, None when it holds no entry."""
        ...

    @property
    def current_term(self) -> int:
        """The newest term the server has heard of."""
        ...

    @property
    def last_vote(self) -> Vote | None:
        """The last vote the server gave."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of it though it can be relied on, a sentence each."""
        ...

    def entry_at(self, index: int) -> Reads[LogEntry | None]:
        """Return the entry at an index, or None when the log does not hold it: compacted, or past its end."""
        ...

    def peer_sets(self, *, after: int = 0) -> Reads[tuple[PeerSet, ...]]:
        """Return every peer set in the log above the index `after`, oldest first."""
        ...

    def unchanged(self) -> Reads[bool]:
        """Tell whether nothing was committed to its database since it was opened: a running agent goes on writing."""
        ...


@dataclass(frozen=True, slots=True)
class ServerLog:
    """A server's whole log: what its log store holds, and the snapshots beside it.

    `configuration` is the peer set the server will go by once it has replayed its log, None if it has none.
    """

    log: LogStore
    snapshots: tuple[SnapshotMeta, ...]
    configuration: PeerSet | None

    @property
    def snapshot(self) -> SnapshotMeta | None:
        """The newest snapshot, which is the one a server starts from."""
        return newest_snapshot(self.snapshots)

    @property
    def last(self) -> LogPosition | None:
        """How far the server is: the later of the log's end and the newest snapshot; None when blank."""
        ends = [self.log.last] if self.log.last else []
        if self.snapshot:
            ends.append(self.snapshot.last)
        return max(ends, default=None)


def newest_snapshot(snapshots: Sequence[SnapshotMeta]) -> SnapshotMeta | None:
    """Return the snapshot that goes furthest, or None."""
    return max(snapshots, key=lambda snapshot: snapshot.last, default=None)


def with_snapshots(log: LogStore, snapshots: Sequence[SnapshotMeta]) -> Reads[ServerLog]:
    """Join a log with its server's snapshots; raises RaftLogUnreadable.

    Entries up to the newest snapshot's index do not count for the configuration: a server that starts takes
    the snapshot's and replays only what follows (hashicorp/raft api.go, NewRaft).
    """
    newest = newest_snapshot(snapshots)
    later = yield from log.peer_sets(after=newest.last.index if newest else 0)
    if later:
        configuration: PeerSet | None = later[-1]
    elif newest is not None:
        configuration = PeerSet(newest.configuration_index, newest.last.term, newest.servers)
    else:
        configuration = None
    return ServerLog(log, tuple(snapshots), configuration)
