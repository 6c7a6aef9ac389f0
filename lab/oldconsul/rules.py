"""The rules of Raft that safety hangs on, as HashiCorp's library of Consul 0.6 had them: pure functions.

Two things differ from later versions. The peer set is a list of addresses that each change carries as a whole
(AddPeer, RemovePeer), and it lives in peers.json, outside of the log. And a new leader begins its term with an
AddPeer of its own set, so whoever leads makes its peer set everybody's.

Source: hashicorp/raft raft.go of January 2016 (the version that Consul 0.6.4 carries).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

COMMAND, NO_OP, ADD_PEER, REMOVE_PEER, BARRIER = range(5)


@dataclass(frozen=True, slots=True)
class Entry:
    """One log entry; `data` None is written as nil."""

    index: int
    term: int
    type: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Ballot:
    """What a server that is asked for its vote goes by. `leader` is the one it follows now, or ""."""

    term: int
    leader: str
    voted_term: int
    voted_for: str
    last_term: int
    last_index: int


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """What a candidate asks with."""

    term: int
    candidate: str
    last_term: int
    last_index: int


@dataclass(frozen=True, slots=True)
class VoteDecision:
    """The answer: whether the vote is given, the term to go on in, and what the log says of a refusal."""

    granted: bool
    term: int
    why_not: str = ""


def quorum(servers: int) -> int:
    """Return how many of that many servers are a majority."""
    return servers // 2 + 1


def decide_vote(ballot: Ballot, request: VoteRequest) -> VoteDecision:
    """Decide on a vote: no while there is a leader, one a term, and only for a log that is not behind ours."""
    if ballot.leader and ballot.leader != request.candidate:
        return VoteDecision(
            granted=False,
            term=ballot.term,
            why_not=f"Rejecting vote request from {request.candidate} since we have a leader: {ballot.leader}",
        )
    if request.term < ballot.term:
        return VoteDecision(granted=False, term=ballot.term)
    if ballot.voted_term == request.term and ballot.voted_for:
        return VoteDecision(granted=ballot.voted_for == request.candidate, term=request.term)
    for what, ours, theirs in (
        ("term", ballot.last_term, request.last_term),
        ("index", ballot.last_index, request.last_index),
    ):
        if ours > theirs:
            return VoteDecision(
                granted=False,
                term=request.term,
                why_not=f"Rejecting vote request from {request.candidate} since our last {what} is greater"
                f" ({ours}, {theirs})",
            )
        if ours < theirs:
            break
    return VoteDecision(granted=True, term=request.term)


def commit_index(
    *, committed: int, own_term_from: int, quorums: Mapping[int, int], matches: Sequence[int]
) -> int:
    """Return how far a leader may call its log committed.

    `matches` says how far each follower's log is known to be the leader's; the leader counts as one more.
    `quorums` holds, for each entry that this leader made, how many must have it. Only those count, from
    `own_term_from` on: an entry of an earlier term is committed by a later one of the own term alone.
    """
    index = max(committed, own_term_from - 1)
    while (needed := quorums.get(index + 1)) is not None:
        if 1 + sum(match > index for match in matches) < needed:
            break
        index += 1
    return index if index >= own_term_from else committed


@dataclass(frozen=True, slots=True)
class PeerChange:
    """What a peer entry does to a server: its set as peers.json holds it, and the other servers in it.

    `removes_us`: it steps down for good, with nobody but itself in its set.
    """

    stored: tuple[str, ...]
    others: tuple[str, ...]
    removes_us: bool


def peer_change(*, entry_type: int, peers: Sequence[str], own: str) -> PeerChange:
    """Return what a committed AddPeer or RemovePeer means for the server `own`."""
    if entry_type == REMOVE_PEER and own not in peers:
        return PeerChange(stored=(own,), others=(), removes_us=True)
    return PeerChange(tuple(peers), tuple(peer for peer in peers if peer != own), removes_us=False)


def set_after(*, entry_type: int, peer: str, own: str, others: Sequence[str]) -> tuple[str, ...] | None:
    """Return the whole peer set that a change of one peer asks for; None if it would change nothing."""
    known = peer == own or peer in others
    if entry_type == ADD_PEER:
        return None if known else (peer, own, *others)
    return tuple(each for each in (own, *others) if each != peer) if known else None


def quorum_for(*, entry_type: int, peers: Sequence[str], others: Sequence[str], own: str) -> int:
    """Return how many servers must have an entry: peer changes count the new set, except one's own removal."""
    if entry_type == REMOVE_PEER and own not in peers:
        return quorum(1 + len(others))
    return quorum(len(peers)) if entry_type in {ADD_PEER, REMOVE_PEER} else quorum(1 + len(others))


def next_index(*, tried: int, follower_last: int) -> int:
    """Return from where to send to a follower that refused the entries from `tried` on."""
    return max(min(tried - 1, follower_last + 1), 1)
