"""Situations in which no server knows a peer: emptied by a graceful stop (below 0.7), or never bootstrapped.

Sources: consul/server.go @v0.6.4 (a graceful leave clears the peer set), hashicorp/raft of that time
(runFollower: without other peers and without EnableSingleNode no election is ever begun), and
agent/consul/server_serf.go maybeBootstrap for servers without data. Both measured, 0.6.4 and 1.8.7.
"""

from __future__ import annotations

from recovery.diagnosis.evidence import names, server_lines
from recovery.diagnosis.situations import NeverBootstrapped, PeersEmptied
from recovery.diagnosis.survey import Survey, believed_peers, blank, raft_address
from recovery.diagnosis.versions import listed_peers, live_peers_file, version
from recovery.model import ServerObservation

_ABORTS = "no known peers"
"""The line that Raft logs once when it gives up electing, in all versions (case varies)."""


def peers_emptied(seen: Survey) -> PeersEmptied | None:
    """Below 0.7: no reached server has another peer than itself, and at least one has a log."""
    reached = [server for server in seen.observation.servers if server.reached]
    if not reached or not all(live_peers_file(server) for server in reached):
        return None
    holders = [server for server in reached if not blank(server)]
    if not any(server.last is not None for server in holders):
        return None
    if not all(_without_peers(server, seen) for server in reached):
        return None
    unseen = tuple(server.name for server in seen.observation.servers if not server.reached)
    blanks = tuple(server.name for server in reached if blank(server))
    cluster = seen.observation.cluster
    return PeersEmptied(
        headline=f"{cluster} has NO LEADER: its peers were emptied. "
        f"{names(tuple(server.name for server in reached))} (Consul {_versions(reached)}) know no other peer, so "
        "all stay followers for ever",
        evidence=(*_peer_lines(reached), *server_lines(seen)),
        advice=f"`/consul recover {cluster}` proposes the safe way: one server, the freshest that can, leads "
        "alone, then the others follow. Starting or restarting servers does not help."
        if not unseen
        else f"{names(unseen)} {'is' if len(unseen) == 1 else 'are'} not reachable, which is not dead: bring "
        f"{'it' if len(unseen) == 1 else 'them'} back. Only if gone for good: "
        f"`/consul recover {cluster} --lost {','.join(unseen)}`.",
        servers=tuple(server.name for server in holders),
        blanks=blanks,
        unseen=unseen,
    )


def _without_peers(server: ServerObservation, seen: Survey) -> bool:
    """Whether it can never begin an election: nobody but itself is in its peer set.

    One whose own removal is in its log is left with itself as only peer (measured 0.6.4), which is no peer.
    """
    if server.agent is not None and (server.agent.names_itself_leader or server.agent.leader_address):
        return False
    if server.agent is None and listed_peers(server) is None:
        return False
    own = raft_address(server, seen.observation)
    return all(peer.address == own for peer in believed_peers(server))


def _versions(servers: list[ServerObservation]) -> str:
    texts = (
        s.agent.version if s.agent is not None and s.agent.version else s.host.version if s.host else ""
        for s in servers
    )
    return names(tuple(dict.fromkeys(text for text in texts if text)))


def _peer_lines(servers: list[ServerObservation]) -> tuple[str, ...]:
    lines: list[str] = []
    for server in servers:
        text = server.host.peers_json if server.host is not None else None
        said = f"holds {text.strip()[:80] or 'nothing'}" if text is not None else "is missing"
        lines.append(f"{server.name}: raft/peers.json {said}")
        told = [line for line in server.journal if _ABORTS in line]
        lines += [f"{server.name} logged: {line}" for line in told[-1:]]
    return tuple(lines)


def never_bootstrapped(seen: Survey) -> NeverBootstrapped | None:
    """Every server is reached and none has a log: there is no data that could be lost or saved."""
    servers = seen.observation.servers
    if seen.voters or not all(server.reached and blank(server) for server in servers):
        return None
    expects = {
        server.name: server.agent.bootstrap_expect
        for server in servers
        if server.agent is not None and version(server) is not None
    }
    told = tuple(f"{name} expects {expect} servers (bootstrap_expect)" for name, expect in expects.items())
    logged = tuple(
        f"{server.name} logged: {line}"
        for server in servers
        for line in [text for text in server.journal if _ABORTS in text][-1:]
    )
    return NeverBootstrapped(
        headline=f"{seen.observation.cluster} has NO LEADER: no server has any Raft data, "
        "it was never bootstrapped (or every disk was emptied)",
        evidence=(*told, *logged, *server_lines(seen)),
        advice="Check first that no server with data was forgotten in the settings. If this cluster is new: "
        f"`/consul recover {seen.observation.cluster}` proposes to found it with exactly one server.",
        servers=tuple(server.name for server in servers),
    )
