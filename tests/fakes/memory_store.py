"""A run store in memory that refuses what cannot happen.

It passes the same contract tests as the one in Redis. Beyond those it folds
every journal, so that a caller which records an impossible history fails at
once, and it keeps signed lines, so that everything goes through the codec.
``rewrite`` and ``forge_*`` are what somebody does who may write to Redis.
"""

import asyncio
import dataclasses
import pickle
from dataclasses import dataclass, field

from recovery.codec import Fault, Journal, fold_journal, read_lines, unreadable, write_line
from recovery.errors import IllegalEvent, LeaseLost, OutOfDate, StoreForgot, StoreUnavailable, Unverified
from recovery.journal import Ended, Event, RunState, Unlocked, apply, start
from recovery.model import ClusterName, RunId
from recovery.ports import Lease, LeaseHeld
from recovery.signing import SigningKey, mac_of

KEY = SigningKey(b"the key of the store in memory")


@dataclass
class _Journal:
    lines: list[bytes]
    read: list[Event]
    """The lines, decoded: a journal is asked for many times."""
    state: RunState
    proposed_s: float
    fault: Fault | None = None
    """Why it cannot be read to its end, after somebody rewrote it."""
    unlocked: Unlocked | None = None


@dataclass
class _Cluster:
    active: RunId | None = None
    epoch: int = 0
    holder: LeaseHeld | None = None
    ttl_s: float = 0.0
    expires_s: float = 0.0
    journals: dict[RunId, _Journal] = field(default_factory=dict)
    memos: dict[str, bytes] = field(default_factory=dict)


class MemoryStore:
    """Keeps everything in this object; ``down`` makes every call fail as a lost Redis would."""

    def __init__(self) -> None:
        self.down = False
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
        line = write_line(KEY, cluster, run, event, position=0, before="")
        kept.journals[run] = _Journal([line], [event], start(event), event.at_s)
        kept.active = run
        await self._tell()
        return run

    async def active(self, cluster: ClusterName) -> RunId | None:
        return self._cluster(cluster).active

    async def events(self, cluster: ClusterName, run: RunId, *, after: int = 0) -> tuple[Event, ...]:
        journal = self._cluster(cluster).journals.get(run)
        length = 0 if journal is None else len(journal.lines)
        if length < after:
            raise StoreForgot.shorter(run, knows=length, read=after)
        if journal is None:
            return ()
        if journal.fault is not None:
            raise unreadable(cluster, run, journal.fault)
        return tuple(journal.read[after:])

    async def journal(self, cluster: ClusterName, run: RunId) -> Journal:
        journal = self._cluster(cluster).journals.get(run)
        if journal is None:
            return Journal(length=0)
        return Journal(
            events=tuple(journal.read),
            length=len(journal.lines),
            fault=journal.fault,
            unlocked=journal.unlocked,
        )

    # --- what somebody does who may write to Redis

    def lines(self, cluster: ClusterName, run: RunId) -> list[bytes]:
        """The raw lines of a journal."""
        return list(self._clusters[cluster].journals[run].lines)

    def rewrite(self, cluster: ClusterName, run: RunId, lines: list[bytes]) -> None:
        """Make a run's journal these lines."""
        kept = self._clusters.setdefault(cluster, _Cluster())
        told = read_lines(KEY, cluster, run, lines)
        known = kept.journals.get(run)
        state = fold_journal(told)[0] or (known.state if known is not None else None)
        assert state is not None, "a run that never was has no state to be shown"
        kept.journals[run] = _Journal(
            list(lines), list(told.events), state, state.proposed_s, told.fault, told.unlocked
        )

    def forge_active(self, cluster: ClusterName, run: RunId | None) -> None:
        """Make the lock name this run."""
        self._clusters.setdefault(cluster, _Cluster()).active = run

    def forge_memo(self, cluster: ClusterName, name: str, stored: bytes) -> None:
        """Make a memo hold this."""
        self._clusters.setdefault(cluster, _Cluster()).memos[name] = stored

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
        self._write(lease.cluster, lease.run, event, expected_length)
        kept.expires_s = self._monotonic_s() + kept.ttl_s
        if isinstance(event, Ended) and kept.active == lease.run:
            kept.active = None
        await self._tell()

    async def decide(self, cluster: ClusterName, run: RunId, event: Event, *, expected_length: int) -> None:
        if isinstance(event, Ended | Unlocked):
            raise IllegalEvent("the end of a run is recorded by the one who drives it")
        self._write(cluster, run, event, expected_length)
        await self._tell()

    async def driver(self, cluster: ClusterName) -> LeaseHeld | None:
        return self._holder(self._cluster(cluster))

    async def unlock(
        self, cluster: ClusterName, run: RunId, event: Unlocked, *, expected_length: int
    ) -> None:
        kept = self._cluster(cluster)
        self._write(cluster, run, event, expected_length, whatever=True)
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
        self._cluster(cluster).memos[name] = KEY.sign_value(cluster, name, value).encode()

    async def epoch(self, cluster: ClusterName) -> int:
        return self._cluster(cluster).epoch

    async def recall(self, cluster: ClusterName, name: str) -> str | None:
        stored = self._cluster(cluster).memos.get(name)
        try:
            return None if stored is None else KEY.verify_value(cluster, name, stored)
        except Unverified as problem:
            raise Unverified(f"What Redis keeps as {name} of {cluster} {problem}. It was not used.") from None

    async def once(self, key: str, *, ttl_s: float) -> bool:
        self._check_up()
        now_s = self._monotonic_s()
        if self._seen.get(key, now_s) > now_s:
            return False
        self._seen[key] = now_s + ttl_s
        return True

    @staticmethod
    def _monotonic_s() -> float:
        return asyncio.get_running_loop().time()

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

    def _write(
        self, cluster: ClusterName, run: RunId, event: Event, expected_length: int, *, whatever: bool = False
    ) -> None:
        """Record it; ``whatever``: also behind lines that cannot be read."""
        kept = self._cluster(cluster)
        journal = kept.journals.get(run)
        lines = [] if journal is None else journal.lines
        if journal is not None and journal.fault is not None and not whatever:
            raise unreadable(cluster, run, journal.fault)
        before = mac_of(lines[expected_length - 1]) if 0 < expected_length <= len(lines) else ""
        line = write_line(KEY, cluster, run, event, position=expected_length, before=before)
        if len(lines) == expected_length + 1 and lines[-1] == line:
            return  # The same line sent twice, as a client does when an answer was lost.
        if kept.active != run or (journal is None and not whatever):
            raise OutOfDate(f"run {run} has ended, or there is no such run")
        if len(lines) != expected_length:
            raise OutOfDate(f"run {run} has {len(lines)} events, not {expected_length}")
        if journal is None:
            return  # Somebody else made the lock name a run that never was; only the lock goes.
        journal.lines.append(line)
        if journal.fault is None:
            journal.state = apply(journal.state, event)
            journal.read.append(event)
        else:
            journal.unlocked = event if isinstance(event, Unlocked) else None

    async def _tell(self) -> None:
        async with self._grown:
            self._grown.notify_all()
