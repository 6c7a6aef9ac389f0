"""What the engine and the use cases need from outside, as protocols.

Adapters implement them; tests give their own. The engine sees nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from recovery.codec import Journal
from recovery.journal import Event, RunState, Unlocked
from recovery.model import (
    ClusterName,
    ClusterObservation,
    Fact,
    HostTrace,
    Member,
    RunId,
    ServerName,
    Sighting,
)
from recovery.plan import Action, Check, StepId


class ActKey(msgspec.Struct, frozen=True):
    """Names one try of one act, on the host too: host.sh skips what its receipt says is done."""

    run: RunId
    step: StepId
    attempt: int
    direction: Literal["do", "undo"]
    owner: str
    epoch: int


class MembersTold(NamedTuple):
    """A member list, and whose it is."""

    by: ServerName
    members: tuple[Member, ...]


class World(Protocol):
    """The cluster's hosts and agents, for one cluster."""

    async def observe(self) -> ClusterObservation:
        """Look at every server in parallel; what cannot be seen is in the observation, never raised."""
        ...

    async def members(self) -> MembersTold | None:
        """Give the member list of the server that answers first; None where none does."""
        ...

    async def check(self, check: Check, *, run: RunId) -> Fact:
        """Answer one question now; never raises for a host that does not answer (that is Unknown)."""
        ...

    async def perform(self, action: Action, *, key: ActKey, timeout_s: float) -> str:
        """Do it, and give one line of evidence.

        Raises HostRefused (nothing was changed), HostUnreachable (nothing was sent)
        or InDoubt (cut off: it may have happened).
        """
        ...

    async def receipt(self, action: Action, *, key: ActKey) -> Fact:
        """Whether the host's receipt says that this try was done: Holds, Fails (no receipt) or Unknown."""
        ...

    async def claim(self, servers: Sequence[ServerName], *, key: ActKey) -> Mapping[ServerName, str]:
        """Have these hosts refuse every driver that is older than the key's; a sentence for each not told."""
        ...

    async def close(self, servers: Sequence[ServerName], *, run: RunId) -> Mapping[ServerName, str]:
        """Have these hosts refuse whatever is still on its way for a run that is over; likewise."""
        ...

    async def explain(self, server: ServerName) -> tuple[str, ...]:
        """The last telling lines of a server's journal, secrets removed; empty where there are none."""
        ...

    async def traces(self) -> tuple[HostTrace, ...]:
        """What drivers have left on each host that could be reached."""
        ...

    async def leaders(self) -> tuple[ServerName, ...]:
        """The servers that name themselves leader right now; those that do not answer are left out."""
        ...

    async def running(self, servers: Sequence[ServerName]) -> tuple[Sighting, ...]:
        """Those of these servers that run an agent right now; those that cannot be looked at are left out."""
        ...


class Lease(msgspec.Struct, frozen=True):
    """The right to drive a cluster's run, until ``epoch`` is no longer the newest."""

    cluster: ClusterName
    run: RunId
    owner: str
    epoch: int


class LeaseHeld(msgspec.Struct, frozen=True):
    """Somebody else drives."""

    owner: str
    epoch: int


class RunStore(Protocol):
    """Lock, lease and journal. Every method raises StoreUnavailable when the store does not answer.

    What the journal tells is signed with a key that is not in the store (:mod:`recovery.signing`); whoever
    writes, reads or decides on a run whose journal does not verify gets JournalUnreadable.
    """

    async def propose(self, cluster: ClusterName, run: RunId, event: Event) -> RunId:
        """Take the cluster's lock for ``run`` and write its first event, in one act.

        Gives the id of the run that holds the lock: ``run`` itself, or the one that had it already.
        """
        ...

    async def active(self, cluster: ClusterName) -> RunId | None:
        """The run that holds the cluster's lock; the lock itself is not signed."""
        ...

    async def events(self, cluster: ClusterName, run: RunId, *, after: int = 0) -> tuple[Event, ...]:
        """The run's journal behind its first ``after`` events; empty if there is no such run.

        Raises JournalUnreadable, and StoreForgot where the first ``after`` are not those that were read.
        """
        ...

    async def journal(self, cluster: ClusterName, run: RunId) -> Journal:
        """The run's journal as far as it can be read, and why no further."""
        ...

    async def runs(self, cluster: ClusterName, *, limit: int = 20) -> tuple[RunId, ...]:
        """The newest runs of a cluster, newest first."""
        ...

    async def take_lease(
        self, cluster: ClusterName, run: RunId, *, owner: str, ttl_s: float, above_epoch: int
    ) -> Lease | LeaseHeld:
        """Become the driver: epoch is above every one before and above ``above_epoch``."""
        ...

    async def renew_lease(self, lease: Lease, *, ttl_s: float) -> None:
        """Keep it; raises LeaseLost."""
        ...

    async def release_lease(self, lease: Lease) -> None:
        """Give it back, if it is still ours."""
        ...

    async def append(self, lease: Lease, event: Event, *, expected_length: int) -> None:
        """Record what the driver did; raises LeaseLost or OutOfDate. An Ended event frees the lock."""
        ...

    async def decide(self, cluster: ClusterName, run: RunId, event: Event, *, expected_length: int) -> None:
        """Record what a person decided (approve, abort, retry): no lease needed; raises OutOfDate."""
        ...

    async def driver(self, cluster: ClusterName) -> LeaseHeld | None:
        """Who drives the cluster's run right now; None when nobody has the lease."""
        ...

    async def unlock(
        self, cluster: ClusterName, run: RunId, event: Unlocked, *, expected_length: int
    ) -> None:
        """End the run as it stands: record it, free the lock and take the lease away, in one act.

        Raises OutOfDate. Whoever drove it learns by LeaseLost. Works whatever the journal holds: nothing of it
        is changed, the record comes behind it.
        """
        ...

    async def wait(self, cluster: ClusterName, run: RunId, *, length: int, timeout_s: float) -> None:
        """Return when the journal is longer than ``length``, or after the timeout."""
        ...

    async def epoch(self, cluster: ClusterName) -> int:
        """The highest epoch this store has ever given for a cluster; 0 if none."""
        ...

    async def remember(self, cluster: ClusterName, name: str, value: str) -> None:
        """Keep a small value beside a cluster (where its card is, last known members)."""
        ...

    async def recall(self, cluster: ClusterName, name: str) -> str | None:
        """Give it back; raises Unverified where it was not kept by the bot."""
        ...

    async def once(self, key: str, *, ttl_s: float) -> bool:
        """True the first time a key is seen within ``ttl_s`` (a payload delivered twice)."""
        ...


class Notifier(Protocol):
    """Whoever shows a run to people. Must not raise: a failed post never stops a run."""

    async def show(self, cluster: ClusterName, run: RunId, state: RunState, events: Sequence[Event]) -> None:
        """The run changed; ``events`` are the new ones."""
        ...

    async def say(self, cluster: ClusterName, run: RunId, state: RunState, note: str) -> None:
        """Tell people about a run what its journal cannot say: that it was lost, that no new plan is safe."""
        ...


class Clock(Protocol):
    """Time, so that tests own it."""

    def now_s(self) -> float:
        """Unix time."""
        ...

    def monotonic_s(self) -> float:
        """For deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...
