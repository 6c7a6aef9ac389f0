"""A Raft server of the kind that Consul 0.6 carried: follower, candidate, and what it answers to others.

What a leader does is in `leadership.py`; what is decided, and why, in `rules.py`. Everything runs in one event
loop and no handler awaits in the middle, so each is atomic.

Source: hashicorp/raft raft.go of January 2016; its log lines are kept, people and programs look for them.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from lab.oldconsul import msgpack
from lab.oldconsul.journal import log
from lab.oldconsul.leadership import Leadership
from lab.oldconsul.logstore import LogStore, PeersFile
from lab.oldconsul.rules import (
    ADD_PEER,
    COMMAND,
    REMOVE_PEER,
    Ballot,
    Entry,
    VoteRequest,
    decide_vote,
    peer_change,
    quorum,
)
from lab.oldconsul.wire import Message, entries_from_wire

FOLLOWER, CANDIDATE, LEADER = "Follower", "Candidate", "Leader"

# Consul 0.6's own: DefaultConfig of the Raft library, which Consul left as it was.
HEARTBEAT_TIMEOUT_S = 1.0
ELECTION_TIMEOUT_S = 1.0

Call = Callable[[str, Message, float], Awaitable[Message]]
Apply = Callable[[Entry], object]


def between_once_and_twice(seconds: float) -> float:
    """Return the random time that keeps two servers from always being candidates together."""
    return seconds * (1.0 + random.random())


class Raft:
    """One server's Raft. `single` is EnableSingleNode: it may elect itself without knowing any peer."""

    def __init__(
        self, own: str, *, store: LogStore, peers: PeersFile, single: bool, call: Call, apply: Apply
    ) -> None:
        self.own = own
        self.store = store
        self.peers_file = peers
        self.call = call
        self._apply = apply
        self._single = single
        self.state = FOLLOWER
        self.leader = ""
        self.others: tuple[str, ...] = tuple(peer for peer in peers.read() if peer != own)
        self.commit_index = 0
        self.applied_index = 0
        self.last_contact_s: float | None = None
        self.leadership: Leadership | None = None
        self.leading = asyncio.Event()
        """Set for as long as this server leads."""
        self._turned = asyncio.Event()

    @property
    def quorum(self) -> int:
        """How many servers are a majority of the set that this one believes in."""
        return quorum(1 + len(self.others))

    def set_state(self, state: str) -> None:
        """Become follower, candidate or leader. Whoever changes knows no leader at first."""
        self.leader = ""
        self.state = state
        self._turned.set()

    def set_peers(self, peers: Sequence[str]) -> None:
        """Take a peer set from outside (the bootstrap of a new cluster)."""
        self.others = tuple(peer for peer in peers if peer != self.own)
        self.peers_file.write(peers)

    async def run(self) -> None:
        """Be a server until cancelled."""
        while True:
            self._turned.clear()
            match self.state:
                case "Follower":
                    await self._follow()
                case "Candidate":
                    await self._stand()
                case _:
                    await self._lead()

    async def turned(self, *, within_s: float) -> bool:
        """Wait for a change of state; tell whether there was one in time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._turned.wait(), within_s)
            self._turned.clear()
            return True
        return False

    async def _follow(self) -> None:
        log("INFO", f"raft: Node at {self.own} [Follower] entering Follower state")
        warned = False
        while self.state == FOLLOWER:
            await asyncio.sleep(between_once_and_twice(HEARTBEAT_TIMEOUT_S))
            if (
                self.last_contact_s is not None
                and time.monotonic() - self.last_contact_s < HEARTBEAT_TIMEOUT_S
            ):
                continue
            self.leader = ""
            if self.others or self._single:
                log("WARN", "raft: Heartbeat timeout reached, starting election")
                self.set_state(CANDIDATE)
            elif not warned:
                log("WARN", "raft: EnableSingleNode disabled, and no known peers. Aborting election.")
                warned = True

    async def _stand(self) -> None:
        log("INFO", f"raft: Node at {self.own} [Candidate] entering Candidate state")
        self.store.set_vote(self.store.term + 1, self.own)
        request = {
            "kind": "vote",
            "term": self.store.term,
            "candidate": self.own,
            "last_term": self.store.last_term,
            "last_index": self.store.last_index,
        }
        needed, granted = self.quorum, 1
        deadline = time.monotonic() + between_once_and_twice(ELECTION_TIMEOUT_S)
        answers: asyncio.Queue[Message] = asyncio.Queue()
        asking = [asyncio.create_task(self._ask_vote(peer, request, answers)) for peer in self.others]
        try:
            while self.state == CANDIDATE:
                if granted >= needed:
                    log("INFO", f"raft: Election won. Tally: {granted}")
                    self.set_state(LEADER)
                    self.leader = self.own
                    return
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    log("WARN", "raft: Election timeout reached, restarting election")
                    return
                granted += await self._granted(answers, within_s=min(left_s, 0.05))
        finally:
            for task in asking:
                task.cancel()

    async def _granted(self, answers: "asyncio.Queue[Message]", *, within_s: float) -> int:
        try:
            answer = await asyncio.wait_for(answers.get(), within_s)
        except TimeoutError:
            return 0
        if answer["term"] > self.store.term:
            self.set_state(FOLLOWER)
            self.store.set_term(answer["term"])
            return 0
        return int(answer["granted"] and answer["term"] == self.store.term and self.state == CANDIDATE)

    async def _ask_vote(self, peer: str, request: Message, answers: "asyncio.Queue[Message]") -> None:
        try:
            answer = await self.call(peer, request, 2 * ELECTION_TIMEOUT_S)
        except OSError as error:
            log("ERR", f"raft: Failed to make RequestVote RPC to {peer}: {error}")
            return
        if self.own not in answer["peers"]:
            log("WARN", f"raft: Remote peer {peer} does not have local node {self.own} as a peer")
        answers.put_nowait(answer)

    async def _lead(self) -> None:
        log("INFO", f"raft: Node at {self.own} [Leader] entering Leader state")
        self.leadership = Leadership(self)
        try:
            self.leading.set()
            self.leadership.begin()
            if self._single:
                # For good: a leader that is removed later must not elect itself alone.
                log("INFO", "raft: Disabling EnableSingleNode (bootstrap)")
                self._single = False
            await self.leadership.run()
        finally:
            self.last_contact_s = time.monotonic()
            self.leading.clear()
            self.leadership.end()
            self.leadership = None
            if self.leader == self.own:
                self.leader = ""

    def abdicate(self, term: int) -> None:
        """Stop leading in `term`: somebody is in a newer one."""
        if self.state == LEADER and self.store.term == term:
            self.set_state(FOLLOWER)

    # -- what others ask -----------------------------------------------------------------------------------

    def handle_vote(self, message: Message) -> Message:
        """Answer a candidate."""
        request = VoteRequest(
            message["term"], message["candidate"], message["last_term"], message["last_index"]
        )
        ballot = Ballot(
            term=self.store.term,
            leader=self.leader,
            voted_term=self.store.voted_term,
            voted_for=self.store.voted_for,
            last_term=self.store.last_term,
            last_index=self.store.last_index,
        )
        decision = decide_vote(ballot, request)
        if decision.why_not:
            log("WARN", f"raft: {decision.why_not}")
        if decision.term > self.store.term:
            self.set_state(FOLLOWER)
            self.store.set_term(decision.term)
        if decision.granted:
            self.store.set_vote(request.term, request.candidate)
            self.last_contact_s = time.monotonic()
        return {
            "term": self.store.term,
            "granted": decision.granted,
            "peers": list(self.others),
        }

    def handle_append(self, message: Message) -> Message:
        """Take a leader's heartbeat or entries."""
        refused = {"term": self.store.term, "last": self.store.last_index, "ok": False, "at_once": False}
        if message["term"] < self.store.term:
            return refused
        if message["term"] > self.store.term or self.state != FOLLOWER:
            self.set_state(FOLLOWER)
            if message["term"] > self.store.term:
                self.store.set_term(message["term"])
            refused["term"] = self.store.term
        self.leader = message["leader"]
        if message["previous_index"] > 0 and not self._holds(
            message["previous_index"], message["previous_term"]
        ):
            return refused | {"at_once": True}
        entries = entries_from_wire(message["entries"])
        if entries:
            if entries[0].index <= self.store.last_index:
                log("WARN", f"raft: Clearing log suffix from {entries[0].index} to {self.store.last_index}")
            self.store.append(entries)
        if message["commit"] > self.commit_index:
            self.commit_to(min(message["commit"], self.store.last_index))
        self.last_contact_s = time.monotonic()
        return {"term": self.store.term, "last": self.store.last_index, "ok": True, "at_once": False}

    def _holds(self, index: int, term: int) -> bool:
        entry = self.store.get(index)
        if entry is None:
            log(
                "WARN",
                f"raft: Failed to get previous log: {index} log not found (last: {self.store.last_index})",
            )
            return False
        if entry.term != term:
            log("WARN", f"raft: Previous log term mis-match: ours: {entry.term} remote: {term}")
            return False
        return True

    # -- committed entries ---------------------------------------------------------------------------------

    def commit_to(self, index: int) -> None:
        """Apply everything up to `index`, which a majority holds."""
        self.commit_index = index
        while self.applied_index < index:
            entry = self.store.get(self.applied_index + 1)
            if entry is None:
                raise RuntimeError(f"the log lacks the committed entry {self.applied_index + 1}")
            result: object = None
            if entry.type in {ADD_PEER, REMOVE_PEER}:
                self.take_peers(entry)
            elif entry.type == COMMAND:
                result = self._apply(entry)
            self.applied_index = entry.index
            if self.leadership is not None:
                self.leadership.answer(entry.index, result)

    def take_peers(self, entry: Entry, *, committed: bool = True) -> None:
        """Go by the peer set of an entry; a leader goes by its own ones before they are committed.

        A server that meets its own removal, be it an old one that it replays, is a follower without peers.
        """
        peers = [each.decode() for each in msgpack.unpack(entry.data or b"\xc0") or ()]
        change = peer_change(entry_type=entry.type, peers=peers, own=self.own)
        if committed or not change.removes_us:
            self.others = change.others
            self.peers_file.write(change.stored)
        if self.leadership is not None and self.state == LEADER:
            self.leadership.follow_peers(entry.index if committed else None)
        if change.removes_us and committed:
            log("INFO", "raft: Removed ourself, transitioning to follower")
            self.set_state(FOLLOWER)
