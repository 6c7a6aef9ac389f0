"""A run store in memory that refuses what cannot happen.

It passes the same contract tests as the one in Redis. Beyond those it folds
every journal, so that a caller which records an impossible history fails at
once, and it keeps encoded lines, so that everything goes through the codec.
"""

import asyncio
import dataclasses
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from recovery.codec import decode_event, encode_event
from recovery.errors import IllegalEvent, LeaseLost, OutOfDate, StoreUnavailable
from recovery.journal import Ended, Event, RunState, Unlocked, apply, start
from recovery.model import ClusterName, RunId
from recovery.ports import Lease, LeaseHeld


@dataclass
class _Journal:
    lines: list[bytes]
    read: list[Event]
    """The lines, decoded: a journal is asked for many times."""
    state: RunState
    proposed_s: float


@dataclass
class _Cluster:
    active: RunId | None = None
    epoch: int = 0
    holder: LeaseHeld | None = None
    ttl_s: float = 0.0
    expires_s: float = 0.0
    journals: dict[RunId, _Journal] = field(default_factory=dict)
    memos: dict[str, str] = field(default_factory=dict)


class MemoryStore:
    """Keeps everything in this object; ``down`` makes every call fail as a lost Redis would."""

    def __init__(self, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.down = False
        self._monotonic_s = monotonic_s
        self._clusters: dict[ClusterName, _Cluster] = {}
        self._seen: dict[str, float] = {}
        self._grown = asyncio.Condition()

    def dump(self) -> bytes:
        """Everything as it is now; what runs out is not in it, as after a restart of Redis."""
        return pickle.dumps(
            {
                name: dataclasses.replace(kept, holder=None, journals=dict(kept.journals))
                for name, kept in self._clusters.items()
            }
        )

    def restore(self, dump: bytes | None) -> None:
        """Put an older state back; None empties the store."""
        self._clusters = {} if dump is None else pickle.loads(dump)
        self._seen = {}

    async def propose(self, cluster: ClusterName, run: RunId, event: Event) -> RunId:
        kept = self._cluster(cluster)
        if kept.active is not None:
            return kept.active
        if run in kept.journals:
            raise IllegalEvent(f"there was a run {run} before")
        line = encode_event(event)
        kept.journals[run] = _Journal([line], [decode_event(line)], start(event), event.at_s)
        kept.active = run
        await self._tell()
        return run

    async def active(self, cluster: ClusterName) -> RunId | None:
        return self._cluster(cluster).active

    async def events(self, cluster: ClusterName, run: RunId) -> tuple[Event, ...]:
        journal = self._cluster(cluster).journals.get(run)
        return () if journal is None else tuple(journal.read)

    def folded(self, cluster: ClusterName, run: RunId) -> RunState:
        """A run as this store has it, for a test to look at; also while it is down."""
        return self._clusters[cluster].journals[run].state

    def read(self, cluster: ClusterName, run: RunId) -> tuple[Event, ...]:
        """A run's journal, for a test to look at."""
        return tuple(self._clusters[cluster].journals[run].read)

    def all_folded(self, cluster: ClusterName) -> tuple[RunState, ...]:
        """Every run of a cluster, for a test to look at."""
        return tuple(journal.state for journal in self._clusters[cluster].journals.values())

    def knows(self, cluster: ClusterName, run: RunId) -> bool:
        """Whether there is such a run, for a test to look at."""
        return cluster in self._clusters and run in self._clusters[cluster].journals

    def empty(self) -> None:
        """Lose everything, as a Redis that came back without its files."""
        self._clusters.clear()
        self._seen.clear()

    async def runs(self, cluster: ClusterName, *, limit: int = 20) -> tuple[RunId, ...]:
        journals = self._cluster(cluster).journals
        return tuple(sorted(journals, key=lambda run: (journals[run].proposed_s, run), reverse=True)[:limit])

    async def take_lease(
        self, cluster: ClusterName, run: RunId, *, owner: str, ttl_s: float, above_epoch: int
    ) -> Lease | LeaseHeld:
        kept = self._cluster(cluster)
        if (holder := self._holder(kept)) is not None:
            return holder
        kept.epoch = max(kept.epoch, above_epoch) + 1
        kept.holder = LeaseHeld(owner=owner, epoch=kept.epoch)
        kept.ttl_s = ttl_s
        kept.expires_s = self._monotonic_s() + ttl_s
        return Lease(cluster=cluster, run=run, owner=owner, epoch=kept.epoch)

    async def renew_lease(self, lease: Lease, *, ttl_s: float) -> None:
        kept = self._held_by(lease)
        kept.ttl_s = ttl_s
        kept.expires_s = self._monotonic_s() + ttl_s

    async def release_lease(self, lease: Lease) -> None:
        kept = self._cluster(lease.cluster)
        if self._holder(kept) == LeaseHeld(owner=lease.owner, epoch=lease.epoch):
            kept.holder = None

    async def append(self, lease: Lease, event: Event, *, expected_length: int) -> None:
        kept = self._held_by(lease)
        self._write(kept, lease.run, event, expected_length)
        kept.expires_s = self._monotonic_s() + kept.ttl_s
        if isinstance(event, Ended) and kept.active == lease.run:
            kept.active = None
        await self._tell()

    async def decide(self, cluster: ClusterName, run: RunId, event: Event, *, expected_length: int) -> None:
        if isinstance(event, Ended | Unlocked):
            raise IllegalEvent("the end of a run is recorded by the one who drives it")
        self._write(self._cluster(cluster), run, event, expected_length)
        await self._tell()

    async def driver(self, cluster: ClusterName) -> LeaseHeld | None:
        return self._holder(self._cluster(cluster))

    async def unlock(
        self, cluster: ClusterName, run: RunId, event: Unlocked, *, expected_length: int
    ) -> None:
        kept = self._cluster(cluster)
        self._write(kept, run, event, expected_length)
        if kept.active == run:
            kept.active, kept.holder = None, None
        await self._tell()

    async def wait(self, cluster: ClusterName, run: RunId, *, length: int, timeout_s: float) -> None:
        def longer() -> bool:
            journal = self._cluster(cluster).journals.get(run)
            return journal is not None and len(journal.lines) > length

        try:
            async with asyncio.timeout(timeout_s), self._grown:
                await self._grown.wait_for(longer)
        except TimeoutError:
            return

    async def remember(self, cluster: ClusterName, name: str, value: str) -> None:
        self._cluster(cluster).memos[name] = value

    async def epoch(self, cluster: ClusterName) -> int:
        return self._cluster(cluster).epoch

    async def recall(self, cluster: ClusterName, name: str) -> str | None:
        return self._cluster(cluster).memos.get(name)

    async def once(self, key: str, *, ttl_s: float) -> bool:
        self._check_up()
        now_s = self._monotonic_s()
        if self._seen.get(key, now_s) > now_s:
            return False
        self._seen[key] = now_s + ttl_s
        return True

    def _check_up(self) -> None:
        if self.down:
            raise StoreUnavailable("Redis at memory cannot be reached; nothing was done. Turn it on again.")

    def _cluster(self, cluster: ClusterName) -> _Cluster:
        self._check_up()
        return self._clusters.setdefault(cluster, _Cluster())

    def _holder(self, kept: _Cluster) -> LeaseHeld | None:
        if kept.holder is not None and self._monotonic_s() >= kept.expires_s:
            kept.holder = None
        return kept.holder

    def _held_by(self, lease: Lease) -> _Cluster:
        kept = self._cluster(lease.cluster)
        if self._holder(kept) != LeaseHeld(owner=lease.owner, epoch=lease.epoch):
            raise LeaseLost(f"run {lease.run} is no longer driven by {lease.owner} (epoch {lease.epoch})")
        return kept

    def _write(self, kept: _Cluster, run: RunId, event: Event, expected_length: int) -> None:
        journal = kept.journals.get(run)
        line = encode_event(event)
        if journal is not None and len(journal.lines) == expected_length + 1 and journal.lines[-1] == line:
            return  # The same line sent twice, as a client does when an answer was lost.
        if journal is None or kept.active != run:
            raise OutOfDate(f"run {run} has ended, or there is no such run")
        if len(journal.lines) != expected_length:
            raise OutOfDate(f"run {run} has {len(journal.lines)} events, not {expected_length}")
        journal.state = apply(journal.state, event)
        journal.lines.append(line)
        journal.read.append(decode_event(line))

    async def _tell(self) -> None:
        async with self._grown:
            self._grown.notify_all()
