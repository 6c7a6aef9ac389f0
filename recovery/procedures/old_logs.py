"""What the logs of servers below 0.7 say about who can lead, beside how far they go.

There a server reads peers.json first. Once elected it adds its peer set to the log, and as soon as that is
committed it replays every peer set before it (hashicorp/raft of January 2016, runLeader and processLog). One
that finds its own removal there steps down (`Removed ourself, transitioning to follower`, measured 0.6.4). If
peers.json named others it is elected again; one that led alone is stuck for good. A leave is in the log of
those who were told; the last one to leave cannot commit its own, so it alone can lead alone.
"""

from __future__ import annotations

from recovery.diagnosis import PeersEmptied
from recovery.diagnosis.survey import alive_at, blank, position, raft_address
from recovery.model import ClusterObservation, MemberStatus, NodeId, ServerName, ServerObservation, host_of
from recovery.plan import Check, Claim, LogIs
from recovery.raftentry import LogPosition


def holders(observation: ClusterObservation, diagnosis: PeersEmptied) -> list[ServerObservation]:
    """The servers with a log, the freshest first; among equals one that can lead alone, then by name."""

    def rank(server: ServerObservation) -> tuple[int, int, bool, str]:
        place = position(server) or LogPosition(0, 0)
        return -place.term, -place.index, not can_lead_alone(server, observation), server.name

    return sorted((observation.server(name) for name in diagnosis.servers), key=rank)


def freshest(ranked: list[ServerObservation]) -> list[ServerObservation]:
    """Those that go as far as the first one."""
    return [server for server in ranked if position(server) == position(ranked[0])]


def can_lead_alone(server: ServerObservation, observation: ClusterObservation) -> bool:
    """Whether the last peer set of its own log is itself alone."""
    stored = server.stored
    own = raft_address(server, observation)
    return stored is not None and {peer.address for peer in stored.configuration} == {own}


def unknown_logs(servers: list[ServerObservation]) -> tuple[str, ...]:
    """What keeps the servers from being ranked."""
    return tuple(
        f"{server.name}: its log could not be read ({server.stored_problem or server.agent_problem or 'not told'})."
        for server in servers
        if position(server) is None or server.stored is None
    )


_GONE = frozenset({MemberStatus.LEFT, MemberStatus.NONE})
"""One that has left was told by everybody; gossip remembers it for three days."""


def strangers(observation: ClusterObservation) -> tuple[str, ...]:
    """Servers that gossip knows and the settings do not: they may hold newer data, or found a second cluster."""
    known: set[str] = {server.name for server in observation.servers}
    known |= {s.agent.node_name for s in observation.servers if s.agent is not None}
    members = (
        (server, member)
        for server in observation.servers
        if server.agent is not None
        for member in server.agent.members
    )
    lines = (
        f"{server.name} sees a server {member.name} at {member.address} ({member.status}), which the settings "
        "do not name."
        for server, member in members
        if member.server and member.name not in known and member.status not in _GONE
    )
    return tuple(dict.fromkeys(lines))


def log_assumptions(servers: list[ServerObservation], observation: ClusterObservation) -> list[Check]:
    """Each log ends where it was seen to; there are no node ids, so the address names the server."""
    return [
        LogIs(server.name, NodeId(server.node_id or raft_address(server, observation)), position(server))
        for server in servers
    ]


def claimed(observation: ClusterObservation, lost: tuple[ServerName, ...]) -> list[ServerObservation]:
    """The servers that the operator calls gone: by name, or by address, which is the id below 0.7."""
    return [server for server in observation.servers if _names_of(server, observation) & set(lost)]


def _names_of(server: ServerObservation, observation: ClusterObservation) -> set[str]:
    address = raft_address(server, observation)
    return {server.name, server.address, address, host_of(address)}


def claims_of(servers: list[ServerObservation], observation: ClusterObservation) -> tuple[Claim, ...]:
    """The claims; none of these can be fenced, because none is reached."""
    return tuple(
        Claim(server.name, NodeId(address), address, fenced=False)
        for server in servers
        for address in [raft_address(server, observation)]
    )


def contradictions(observation: ClusterObservation, lost: tuple[ServerName, ...]) -> tuple[str, ...]:
    """Say which claims do not fit what was seen."""
    found = claimed(observation, lost)
    named = {word for server in found for word in _names_of(server, observation)}
    problems = [f"“{name}” is none of the servers of the settings." for name in lost if name not in named]
    for server in found:
        if server.answers:
            problems.append(
                f"You say {server.name} is gone for good, but its host answers; it only could not be looked at "
                f"({server.host_problem}). Do not claim it as lost."
            )
        elif server.reached:
            state = "blank: it joins at the end" if blank(server) else "its data is there"
            problems.append(
                f"You say {server.name} is gone for good, but its host is reached and {state}. "
                "Do not claim it as lost."
            )
        elif alive := alive_at(raft_address(server, observation), observation):
            problems.append(f"You say {server.name} is gone for good, but {alive}.")
    return tuple(problems)


def loss_warnings(
    observation: ClusterObservation, ranked: list[ServerObservation], claims: tuple[Claim, ...]
) -> tuple[str, ...]:
    """Say what the claimed servers may take with them, and what becomes of one that comes back."""
    few = (
        f"Newer writes may be lost: only {len(ranked)} of {len(observation.servers)} servers could be ranked, "
        "so what only the lost servers held is gone."
    )
    return (
        *((few,) if claims and len(ranked) <= len(observation.servers) // 2 else ()),
        *(
            f"{claim.server} ({claim.address}): if this server ever comes back, wipe its raft directory first."
            for claim in claims
        ),
    )
