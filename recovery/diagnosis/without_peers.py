"""Situations in which no server knows a peer: emptied by a graceful stop (below 0.7), or without any data.

Sources: consul/server.go @v0.6.4 (a graceful leave clears the peer set), hashicorp/raft of that time
(runFollower: without other peers and without EnableSingleNode no election is ever begun), and
agent/consul/server_serf.go maybeBootstrap for servers without data. Both measured, 0.6.4 and 1.8.7.
"""

from __future__ import annotations

from recovery.diagnosis.evidence import names, server_lines
from recovery.diagnosis.situations import EmptyWhereDataWas, NeverBootstrapped, OutOfSight, PeersEmptied
from recovery.diagnosis.survey import Survey, believed_peers, blank, nobody_has_data, raft_address
from recovery.diagnosis.versions import listed_peers, live_peers_file, version
from recovery.membership import when
from recovery.model import ServerObservation
from recovery.past import Past, told_by_host, told_by_store

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


def without_data(seen: Survey, past: Past) -> NeverBootstrapped | EmptyWhereDataWas | OutOfSight | None:
    """Nobody has data. It is a new cluster only where everybody who could know of data was asked, and is silent."""
    if seen.voters or not nobody_has_data(seen.observation):
        return None
    now_s = seen.observation.taken_at_s
    known = [
        *told_by_store(past, seen.observation),
        *(
            f"{server.name}: {line}"
            for server in seen.observation.servers
            for line in told_by_host(server, past, now_s=now_s)
        ),
    ]
    unknown = [
        *([past.problem] if past.problem else []),
        *(
            f"{server.name}: where its empty data directory comes from could not be seen "
            f"({server.directory_problem or 'not told'})"
            for server in seen.observation.servers
            if server.directory is None
        ),
        *(
            f"{server.name}: {server.host.config_problem}"
            for server in seen.observation.servers
            if server.host is not None and server.host.config_problem
        ),
    ]
    if known:
        return _empty_where_data_was(seen, tuple(known), tuple(unknown))
    if unknown:
        return OutOfSight(
            headline=f"{seen.observation.cluster}: no server has any Raft data, and whether there ever was some "
            "cannot be told",
            evidence=(*unknown, *server_lines(seen)),
            advice="Nothing is founded before that is known. Mend what is named above, then ask again; "
            "`consul-recovery doctor` checks the bot's way to Redis and to the hosts.",
            unseen=tuple(unknown),
        )
    return _never_bootstrapped(seen)


def _empty_where_data_was(
    seen: Survey, known: tuple[str, ...], unknown: tuple[str, ...]
) -> EmptyWhereDataWas:
    servers = seen.observation.servers
    more = f" ({len(known) - 1} more below)" if len(known) > 1 else ""
    return EmptyWhereDataWas(
        headline=f"{seen.observation.cluster} has NO LEADER: empty where data was. No server has any Raft data, yet "
        f"{known[0]}{more}",
        evidence=(*known, *unknown, *_since(seen), *server_lines(seen)),
        advice="Nothing is started or founded on these empty directories: a new cluster would hide the old one's "
        f"data. {_where_to_look(seen)} Then ask again. Only if this really is to be a new, empty cluster: found it by "
        f"hand, with bootstrap_expect = {len(servers)} in the configuration of all {len(servers)} servers and their "
        "agents started; the bot proposes nothing here.",
        servers=tuple(server.name for server in servers),
        known=known,
    )


def _since(seen: Survey) -> tuple[str, ...]:
    """Since when each data directory, as it is now, is there."""
    return tuple(
        f"{server.name}: {server.host.data_dir}, as it is now, is there since "
        f"{when(server.directory.since_s, seen.observation.taken_at_s)}"
        for server in seen.observation.servers
        if server.host is not None and server.directory is not None and server.directory.since_s
    )


def _where_to_look(seen: Survey) -> str:
    points = dict.fromkeys(
        f"{each.point} on {server.name}"
        for server in seen.observation.servers
        for each in (server.directory.unmounted if server.directory is not None else ())
    )
    if points:
        return f"Mount {names(tuple(points))} (`mount POINT`)."
    missing = [
        f"{server.host.data_dir} on {server.name}"
        for server in seen.observation.servers
        if server.host is not None and server.host.data_dir_missing
    ]
    if missing:
        return (
            f"Bring {names(tuple(missing))} back: mount its disk, or correct data_dir in the configuration."
        )
    return (
        "Mount the disks that hold the data directories, or put them back from a backup or an archive "
        "(/var/lib/consul-recovery/archive on the servers)."
    )


def _never_bootstrapped(seen: Survey) -> NeverBootstrapped:
    servers = seen.observation.servers
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
        "and nobody knows of any: it was never bootstrapped",
        evidence=(*_since(seen), *told, *logged, *server_lines(seen)),
        advice="Check first that no server with data was forgotten in the settings. If this cluster is new: "
        f"`/consul recover {seen.observation.cluster}` proposes to found it with exactly one server.",
        servers=tuple(server.name for server in servers),
    )
