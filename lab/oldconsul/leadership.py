"""What a Raft leader does while it leads: replicate, commit by a majority, and step down when its lease is over.

Source: hashicorp/raft raft.go (runLeader, leaderLoop), replication.go and inflight.go of January 2016.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.oldconsul import msgpack
from lab.oldconsul.journal import log
from lab.oldconsul.rules import (
    ADD_PEER,
    BARRIER,
    REMOVE_PEER,
    Entry,
    commit_index,
    next_index,
    quorum_for,
    set_after,
)
from lab.oldconsul.wire import Message, wire_entries

if TYPE_CHECKING:
    from lab.oldconsul.raft import Raft

LEADER_LEASE_S = 0.5
HEARTBEAT_EVERY_S = 0.1
# The real one also sends every 50 ms so that followers learn what is committed; here a commit sends at once.
IDLE_SEND_EVERY_S = 0.25
CALL_TIMEOUT_S = 2.0
LONGEST_BACKOFF_S = 1.0
ENTRIES_AT_ONCE = 64


class NotLeader(Exception):
    """The entry was not committed under this leader, as far as it knows."""


class _Replication:
    """One follower's log, brought up to the leader's."""

    def __init__(self, raft: Raft, peer: str, *, next_index: int, term: int) -> None:
        self.peer = peer
        self.match = 0
        self.contact_s = time.monotonic()
        self._raft = raft
        self._term = term
        self._next = next_index
        self._failures = 0
        self._due = asyncio.Event()
        self._due.set()
        self._stop_at: int | None = None
        self._tasks = [asyncio.create_task(self._replicate()), asyncio.create_task(self._beat())]

    def trigger(self) -> None:
        """Send what is new."""
        self._due.set()

    def stop_at(self, index: int) -> None:
        """Send up to `index` as far as possible, then end: the peer was removed there."""
        self._stop_at = index
        self._tasks[1].cancel()
        self._due.set()

    def stop(self) -> None:
        """End at once, unless it is sending a removed peer its last entries."""
        if self._stop_at is None:
            for task in self._tasks:
                task.cancel()

    async def _beat(self) -> None:
        while True:
            try:
                await self._send(previous=None, entries=[], commit=0, link="beat")
            except OSError as error:
                log("ERR", f"raft: Failed to heartbeat to {self.peer}: {error}")
                await asyncio.sleep(HEARTBEAT_EVERY_S)
            await asyncio.sleep(HEARTBEAT_EVERY_S)

    async def _replicate(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), IDLE_SEND_EVERY_S)
            # With a stop and new entries both waiting the real one takes either: so a leader that replays its
            # own removal sometimes still overwrites the end of the others' logs, and sometimes does not.
            if self._stop_at is not None and (not self._due.is_set() or random.random() < 0.5):
                await self._send_up_to(self._stop_at)
                return
            self._due.clear()
            await self._send_up_to(self._raft.store.last_index)

    async def _send_up_to(self, last: int) -> None:
        """Send until the follower holds `last`, or once what is committed; give up on the first failure."""
        while True:
            if self._failures:
                await asyncio.sleep(min(0.01 * 2**self._failures, LONGEST_BACKOFF_S))
            store = self._raft.store
            entries = store.between(self._next, min(last, self._next + ENTRIES_AT_ONCE - 1))
            before = store.get(self._next - 1)
            try:
                answer = await self._send(
                    previous=before, entries=entries, commit=self._raft.commit_index, link="log"
                )
            except OSError as error:
                self._failures += 1
                log("ERR", f"raft: Failed to AppendEntries to {self.peer}: {error}")
                return
            if answer is None:
                return
            if answer["ok"]:
                self._failures = 0
                if entries:
                    self._next = entries[-1].index + 1
                self.match = self._next - 1
                if self._raft.leadership is not None:
                    self._raft.leadership.count()
            else:
                self._next = next_index(tried=self._next, follower_last=answer["last"])
                self._failures = 0 if answer["at_once"] else self._failures + 1
                log(
                    "WARN",
                    f"raft: AppendEntries to {self.peer} rejected, sending older logs (next: {self._next})",
                )
            if self._next > last:
                return

    async def probe(self) -> bool:
        """Ask the follower now whether it still takes this leader for one."""
        try:
            answer = await self._send(previous=None, entries=[], commit=0, link="probe")
        except OSError:
            return False
        return answer is not None and bool(answer["ok"])

    async def _send(
        self, *, previous: Entry | None, entries: list[Entry], commit: int, link: str
    ) -> Message | None:
        """Send one AppendEntries; None if the follower knows a newer term, which ends this one."""
        message = {
            "kind": "append",
            "link": link,
            "term": self._term,
            "leader": self._raft.own,
            "previous_index": previous.index if previous else 0,
            "previous_term": previous.term if previous else 0,
            "entries": wire_entries(entries),
            "commit": commit,
        }
        answer = await self._raft.call(self.peer, message, CALL_TIMEOUT_S)
        if answer["term"] > self._term:
            log("ERR", f"raft: peer {self.peer} has newer term, stopping replication")
            self._raft.abdicate(self._term)
            return None
        self.contact_s = time.monotonic()
        return answer


class Leadership:
    """One term of one leader, from `begin` to `end`."""

    def __init__(self, raft: Raft) -> None:
        self._raft = raft
        self._first = raft.store.last_index + 1
        self._quorums: dict[int, int] = {}
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._replications: dict[str, _Replication] = {}
        self._leaving = False

    def begin(self) -> None:
        """Start replication, and begin the term with this server's own peer set as its first entry."""
        peers = (self._raft.own, *self._raft.others)
        self._start_replications()
        self._append(ADD_PEER, msgpack.pack(peers), self._quorum_for(ADD_PEER, peers))

    async def run(self) -> None:
        """Lead until something makes this server a follower."""
        while self._raft.state == "Leader":
            self.count()
            wait_s = self._lease_left_s()
            if wait_s is None:
                log("WARN", "raft: Failed to contact quorum of nodes, stepping down")
                self._raft.set_state("Follower")
            else:
                await self._raft.turned(within_s=wait_s)

    def end(self) -> None:
        """Stop replication and tell everybody who waits that this server leads no more."""
        for replication in self._replications.values():
            replication.stop()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(NotLeader("leadership lost while committing log"))
        self._waiting.clear()

    def _lease_left_s(self) -> float | None:
        """Return when to look again whether a quorum was heard of within the lease; None if it was not."""
        now = time.monotonic()
        quiet = [now - each.contact_s for each in self._replications.values()]
        heard = [seconds for seconds in quiet if seconds <= LEADER_LEASE_S]
        if 1 + len(heard) < self._raft.quorum:
            return None
        return max(LEADER_LEASE_S - max(heard, default=0.0), 0.01)

    def _start_replications(self) -> None:
        for peer in self._raft.others:
            if peer not in self._replications:
                self._replications[peer] = _Replication(
                    self._raft, peer, next_index=self._raft.store.last_index + 1, term=self._raft.store.term
                )

    def follow_peers(self, index: int | None) -> None:
        """Replicate to exactly the peers there are; those removed at the entry `index` get it as their last."""
        for peer in self._raft.others:
            if peer not in self._replications:
                log("INFO", f"raft: Added peer {peer}, starting replication")
        self._start_replications()
        if index is None:
            return
        for peer in [each for each in self._replications if each not in self._raft.others]:
            log("INFO", f"raft: Removed peer {peer}, stopping replication (Index: {index})")
            self._replications.pop(peer).stop_at(index)

    def _append(self, entry_type: int, data: bytes | None, needed: int) -> asyncio.Future[object]:
        store = self._raft.store
        entry = Entry(store.last_index + 1, store.term, entry_type, data)
        store.append([entry])
        self._quorums[entry.index] = needed
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        # Nobody has to wait for the first entry of a term, or for one whose asker has gone.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._waiting[entry.index] = future
        for replication in self._replications.values():
            replication.trigger()
        return future

    def _quorum_for(self, entry_type: int, peers: Sequence[str]) -> int:
        return quorum_for(entry_type=entry_type, peers=peers, others=self._raft.others, own=self._raft.own)

    async def append(self, entry_type: int, data: bytes | None) -> object:
        """Append a command or a barrier and wait until it is applied; raises NotLeader."""
        if self._leaving:
            raise NotLeader("leadership lost while committing log")
        future = self._append(entry_type, data, self._raft.quorum)
        self.count()
        return await future

    async def barrier(self) -> None:
        """Wait until everything up to now is applied; raises NotLeader."""
        await self.append(BARRIER, None)

    async def change_peers(self, entry_type: int, peer: str) -> bool:
        """Add or remove a peer; False if there is nothing to change. Raises NotLeader."""
        own, others = self._raft.own, self._raft.others
        peers = set_after(entry_type=entry_type, peer=peer, own=own, others=others)
        if peers is None:
            return False
        if self._leaving:
            raise NotLeader("leadership lost while committing log")
        self._leaving = entry_type == REMOVE_PEER and peer == own
        needed = self._quorum_for(entry_type, peers)
        data = msgpack.pack(peers)
        entry = Entry(self._raft.store.last_index + 1, self._raft.store.term, entry_type, data)
        # Taken before it is committed: the new set decides, except on one's own removal.
        self._raft.take_peers(entry, committed=False)
        future = self._append(entry_type, data, needed)
        self.count()
        await future
        return True

    def count(self) -> None:
        """Commit what a majority holds."""
        index = commit_index(
            committed=self._raft.commit_index,
            own_term_from=self._first,
            quorums=self._quorums,
            matches=[each.match for each in self._replications.values()],
        )
        if index > self._raft.commit_index:
            self._raft.commit_to(index)
            for replication in self._replications.values():
                replication.trigger()

    def answer(self, index: int, result: object) -> None:
        """Tell who waits for an entry that it is applied."""
        future = self._waiting.pop(index, None)
        if future is not None and not future.done():
            future.set_result(result)

    async def verify(self) -> bool:
        """Ask a quorum whether this server still leads: for reads that must not be stale."""
        held = await asyncio.gather(*(each.probe() for each in list(self._replications.values())))
        return 1 + sum(held) >= self._raft.quorum
