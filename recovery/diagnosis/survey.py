"""The observation put in order: which voters there are, and what is seen of each.

Every voter of the freshest configuration gets exactly one sight, and every
server of the settings is either one of them or not. No diagnosis is made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec

from recovery.diagnosis.versions import listed_peers, live_peers_file
from recovery.model import (
    ClusterObservation,
    Member,
    MemberStatus,
    NodeId,
    ServerName,
    ServerObservation,
    host_of,
)
from recovery.raftentry import LogPosition, Peer


class Sight(StrEnum):
    """What is seen of one voter."""

    RUNNING = "running"
    STOPPED = "stopped"
    FENCED = "fenced"
    DAMAGED = "not readable"
    """Reached and stopped, but its Raft log cannot be read."""
    EMPTIED = "emptied"
    """Reached with its old id, but its log is gone: a blank server."""
    BARE = "an empty data directory"
    """The host of that name or address is reached, and its agent has never run there: a new machine, or an unmounted
    disk. Nobody can tell which, so it has to be claimed like one that is away."""
    UNREACHED = "not reachable"
    UNREAD = "not found on its host"
    """Its host was looked at, but what its agent is configured with, and so where its data is, could not be told; or
    its data directory is not there. It is no more gone than one that runs."""
    HINDERED = "reached, but could not be looked at"
    """Its host answers SSH: the agent may run and lead, or hold the newest entry. Not to be claimed as gone."""
    REPLACED = "replaced"
    """The server of that name is reached and carries another id: the old disk is not there."""
    UNMATCHED = "unknown"
    """No server of the settings can be matched with this id."""


class VoterSight(msgspec.Struct, frozen=True):
    """One voter of the reference configuration."""

    node_id: NodeId
    address: str
    """ip:port as the configuration has it."""
    name: str
    """The server's name in the settings, or the address where no name could be found."""
    sight: Sight

    @property
    def claim_as(self) -> str:
        """What --lost calls it: a name only where the settings have it, so that a mistyped one is refused."""
        return self.address if self.sight is Sight.UNMATCHED else self.name


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What the diagnoses look at."""

    observation: ClusterObservation
    leaders: tuple[ServerName, ...]
    """Those that name themselves leader."""
    freshest: ServerName | None
    """The server with the highest (term, index) among those that could be ranked."""
    voters: tuple[VoterSight, ...]
    """Of the leader's configuration, or of the freshest server's."""
    nonvoters: tuple[VoterSight, ...]
    """Of the same configuration: they hold the log and have no vote."""
    former: tuple[VoterSight, ...]
    """Voters of other servers' sets that the reference does not have: one that a recovery left out may come back."""
    others: tuple[ServerName, ...]
    """Servers of the settings that are no voters: blank, new, or of another history."""
    lost: tuple[ServerName, ...]
    """What the operator says is gone for good."""
    reference: ServerName | None = None
    """Whose configuration names the voters: the leader, or the freshest server that has one."""
    led_from: str = ""
    """A leader's address that a running server names and that is none of the servers we reach."""

    @property
    def quorum(self) -> int:
        """How many voters make a leader; 0 when there are no voters."""
        return len(self.voters) // 2 + 1 if self.voters else 0

    def seen(self, *sights: Sight) -> tuple[VoterSight, ...]:
        """The voters with one of these sights."""
        return tuple(voter for voter in self.voters if voter.sight in sights)

    @property
    def survivors(self) -> tuple[VoterSight, ...]:
        """Whose data is there: voters, and servers without a vote, whose log may be as fresh as a voter's."""
        there = (v for v in self.nonvoters if v.sight in {Sight.RUNNING, Sight.STOPPED})
        return (*self.seen(Sight.RUNNING, Sight.STOPPED), *there)

    def claimed(self, voter: VoterSight) -> bool:
        """Whether the operator called this voter gone: by name, or by address or id where no name is known."""
        host = host_of(voter.address)
        return bool({voter.name, voter.address, host, voter.node_id} & set(self.lost))

    def server(self, name: str) -> ServerObservation:
        """One server's observation."""
        return self.observation.server(name)


def blank(server: ServerObservation) -> bool:
    """Whether a reached server was seen to have no log at all: such a one votes for anybody."""
    if server.agent is not None and server.agent.last is not None:
        return server.agent.last.index == 0
    if server.stored is not None:
        return server.stored.last is None
    return False


def bare(server: ServerObservation) -> bool:
    """Whether an agent has never run in the data directory as it is now: no log, no node id (from 0.7.3 on)."""
    return blank(server) and not has_files(server) and not server.node_id and not live_peers_file(server)


def unread_configuration(server: ServerObservation) -> bool:
    """Whether its host answers, and what the agent there is configured with could not be told."""
    return server.answers if server.host is None else bool(server.host.config_problem)


def directory_is_missing(server: ServerObservation) -> bool:
    """Whether the data directory that the unit names is not there, and no agent tells of a log either."""
    return server.host is not None and server.host.data_dir_missing and server.last is None


def nobody_has_data(observation: ClusterObservation) -> bool:
    """Whether every server is reached and none shows any Raft data: new, or empty where data was."""
    return bool(observation.servers) and all(
        server.reached and (blank(server) or directory_is_missing(server)) for server in observation.servers
    )


def has_files(server: ServerObservation) -> bool:
    """Whether there is a raft directory with something in it: an agent that never ran has made none."""
    return server.host is not None and (bool(server.host.log_store) or server.host.snapshots > 0)


def position(server: ServerObservation) -> LogPosition | None:
    """The server's last log position, None for unknown and for blank ones."""
    return None if blank(server) else server.last


def survey(observation: ClusterObservation, lost: Iterable[ServerName] = ()) -> Survey:
    """Put an observation in order."""
    servers = observation.servers
    leaders = tuple(s.name for s in servers if s.agent is not None and s.agent.names_itself_leader)
    placed = [(s, place) for s in servers if (place := position(s)) is not None]
    # Of logs that end alike one that a recovery has made counts first: its peer set is the newer one.
    ranked = [
        s
        for s, _ in sorted(
            placed, key=lambda pair: (pair[1], pair[0].set_by_snapshot is not None), reverse=True
        )
    ]
    freshest = ranked[0] if ranked else None
    # Below 0.7 the freshest one's peers may have been emptied while a staler one still has them.
    reference = (
        observation.server(leaders[0])
        if leaders
        else next((server for server in ranked if believed_peers(server)), None)
    )
    listed = believed_peers(reference) if reference is not None else ()
    peers = tuple(peer for peer in listed if peer.voter)
    # Raft's own order is arbitrary; people compare two messages by the names.
    voters, nonvoters = (
        tuple(sorted((_sight(p, observation) for p in listed if p.voter is has), key=lambda one: one.name))
        for has in (True, False)
    )
    # By address too: below 0.7.3 there are no node ids, and below protocol 3 no peer set names them.
    others = tuple(
        s.name for s in servers if s.reached and not any(_carries(s, peer, observation) for peer in peers)
    )
    known = {peer.id for peer in peers}
    # Of this cluster's sets only: a server of another history names its own voters.
    sets = (believed_peers(s) for s in servers if _knows(s, reference, observation))
    older = dict.fromkeys(peer for each in sets for peer in each if peer.voter and peer.id not in known)
    return Survey(
        observation=observation,
        leaders=leaders,
        nonvoters=nonvoters,
        former=tuple(_sight(peer, observation) for peer in older),
        freshest=freshest.name if freshest is not None else None,
        voters=voters,
        others=others,
        lost=tuple(lost),
        reference=reference.name if reference is not None else None,
        led_from=_led_from(observation, peers),
    )


def _knows(
    server: ServerObservation, reference: ServerObservation | None, observation: ClusterObservation
) -> bool:
    return reference is not None and any(
        _carries(reference, peer, observation) for peer in believed_peers(server)
    )


def believed_peers(server: ServerObservation) -> tuple[Peer, ...]:
    """Give the peer set that a server goes by; below 0.7 its live peers.json, not what its log once said."""
    if server.agent is not None and server.agent.configuration:
        return server.agent.configuration
    if live_peers_file(server):
        # An agent that answers and names no peers has none, whatever its file said a moment ago.
        listed = () if server.agent is not None else listed_peers(server) or ()
        return tuple(Peer(address, address, voter=True) for address in listed)
    return server.configuration


def of_older_sets(seen: Survey) -> tuple[ServerName, ...]:
    """Name the voters that would keep a peer set which a recovery of the others has replaced.

    RecoverCluster writes its set into a snapshot as configuration index 1 and compacts the log. Who is behind that
    snapshot is sent it, with the set; but a server whose log ends at the same entry is never told: it would keep
    the old set, and with the others of that set it could elect a second leader (hashicorp/raft api.go,
    RecoverCluster, and replication.go).
    """
    reference = seen.server(seen.reference) if seen.reference is not None else None
    if reference is None or reference.set_by_snapshot is None:
        return ()
    end, now = reference.set_by_snapshot, {voter.node_id for voter in seen.voters}
    return tuple(
        ServerName(voter.name)
        for voter in seen.seen(Sight.RUNNING, Sight.STOPPED)
        if (own := {peer.id for peer in seen.server(voter.name).configuration if peer.voter})
        and own != now
        and ((place := position(seen.server(voter.name))) is None or place >= end)
    )


def raft_address(server: ServerObservation, observation: ClusterObservation) -> str:
    """Give the ip:port by which Raft knows a server; gossip tells it, else it is taken from the settings.

    The port is the one that a peer set names with this host, or Consul's default server port.
    """
    own = server.agent.node_name if server.agent is not None and server.agent.node_name else server.name
    agents = [server.agent] + [s.agent for s in observation.servers if s is not server]
    known = (m for agent in agents if agent is not None for m in agent.members if m.server)
    host = next((member.address for member in known if member.name == own), server.address)
    peers = (peer for s in observation.servers for peer in (*s.configuration, *believed_peers(s)))
    found = next((peer.address for peer in peers if host_of(peer.address) == host), "")
    return found or (f"[{host}]:8300" if ":" in host else f"{host}:8300")


def _led_from(observation: ClusterObservation, peers: Iterable[Peer]) -> str:
    reached = {raft_address(s, observation) for s in observation.servers if s.reached}
    ids = {s.node_id for s in observation.servers if s.reached and s.node_id}
    reached |= {peer.address for peer in peers if peer.id in ids}
    for server in observation.servers:
        if server.agent is not None and server.agent.leader_address not in {"", *reached}:
            return server.agent.leader_address
    return ""


def _sight(peer: Peer, observation: ClusterObservation) -> VoterSight:
    carrier = next((s for s in observation.servers if _carries(s, peer, observation)), None)
    if carrier is not None:
        return VoterSight(NodeId(peer.id), peer.address, carrier.name, _sight_of(carrier))
    name = _name_of(peer, observation)
    namesake = next((s for s in observation.servers if s.name == name), None)
    if namesake is None:
        # Consul's name for it may be another one than that of the settings: its host answers all the same.
        there = next((s for s in observation.servers if s.address == host_of(peer.address)), None)
        if there is None or not (there.answers or unread_configuration(there)):
            return VoterSight(NodeId(peer.id), peer.address, name or peer.address, Sight.UNMATCHED)
        namesake = there
    sight = Sight.UNREACHED
    if namesake.answers:
        sight = Sight.HINDERED
    elif unread_configuration(namesake):
        sight = Sight.UNREAD
    elif namesake.reached and namesake.node_id:
        sight = Sight.REPLACED
    elif bare(namesake):
        sight = Sight.BARE
    elif _unread(namesake, peer):
        sight = Sight.UNREAD
    return VoterSight(NodeId(peer.id), peer.address, namesake.name, sight)


def _unread(server: ServerObservation, peer: Peer) -> bool:
    """Whether a host answers, and nobody can say that it does not hold this voter's data."""
    if not server.reached or blank(server):
        return False
    return server.last is None or not is_address(peer.id)


def _sight_of(server: ServerObservation) -> Sight:
    host = server.host
    if host is None:
        # The agent answers through SSH, so without a host nothing of it was seen.
        return Sight.HINDERED if server.answers else Sight.UNREACHED
    if host.fenced_by:
        return Sight.FENCED
    if bare(server):
        return Sight.BARE
    if blank(server):
        return Sight.EMPTIED
    if host.running:
        return Sight.RUNNING
    if host.config_problem or host.data_dir_missing:
        return Sight.UNREAD
    return Sight.DAMAGED if server.stored is None else Sight.STOPPED


def _carries(server: ServerObservation, peer: Peer, observation: ClusterObservation) -> bool:
    """Whether a server is this peer: by its id, or by its address where that *is* the id (below protocol 3)."""
    return is_peer(server, NodeId(peer.id), peer.address, observation)


def is_peer(
    server: ServerObservation, peer_id: NodeId, address: str, observation: ClusterObservation
) -> bool:
    """Whether a server is the peer of this id and ip:port; below Raft protocol 3 the address is the id."""
    if is_address(peer_id):
        return address == raft_address(server, observation)
    return peer_id == server.node_id


def _name_of(peer: Peer, observation: ClusterObservation) -> str:
    """Find the old name of an id that no reached server carries; "" if nothing tells it.

    Gossip first, then a catalogue that is still readable, then the address. A
    replaced machine has the name in gossip under its new id, so gossip alone
    does not do.
    """
    agents = [s.agent for s in observation.servers if s.agent is not None]
    host = host_of(peer.address)
    for agent in agents:
        for member in agent.members:
            same = member.address == host if is_address(peer.id) else member.node_id == peer.id
            if member.server and same and member.status is not MemberStatus.NONE:
                return member.name
    for agent in agents:
        for node in agent.known_nodes:
            if node.node_id == peer.id or (is_address(peer.id) and node.address == host):
                return node.name
    for server in observation.servers:
        if server.address == host:
            return server.name
    return ""


def elects_itself(server: ServerObservation, observation: ClusterObservation) -> bool:
    """Whether its own peer set is itself alone: from 0.7 on it leads as soon as it is started, whoever else does."""
    own = [peer for peer in server.configuration if peer.voter]
    return (
        not live_peers_file(server)
        and len(own) == 1
        and is_peer(server, NodeId(own[0].id), own[0].address, observation)
    )


def is_address(node_id: str) -> bool:
    """Whether a voter's id is its address (below Raft protocol 3), and no node carries it as its own."""
    return ":" in node_id


def sign_of_life(voter: VoterSight, observation: ClusterObservation) -> str:
    """Say who still has a sign of life of this voter; "" when nobody has."""
    for server in observation.servers:
        if (
            server.host is not None
            and server.host.running
            and not blank(server)
            and is_peer(server, voter.node_id, voter.address, observation)
        ):
            return f"{server.name} runs with this id"
    return alive_in_gossip(voter, observation)


def alive_in_gossip(voter: VoterSight, observation: ClusterObservation) -> str:
    """Say who sees this voter alive; "" when nobody does. Gossip needs some seconds to notice a death."""
    if is_address(voter.node_id):
        # Below Raft protocol 3 members may well have ids, but the peer set does not: a blank one that we reach at
        # this address is not the voter, everybody else there is.
        if any(
            s.reached and blank(s) and raft_address(s, observation) == voter.address
            for s in observation.servers
        ):
            return ""
        return alive_at(voter.address, observation)
    return _seen_alive(observation, lambda member: member.node_id == voter.node_id)


def alive_at(address: str, observation: ClusterObservation) -> str:
    """Say who sees a server alive at this ip:port; below 0.7.3 gossip has no ids, only addresses."""
    return _seen_alive(observation, lambda member: member.server and member.address == host_of(address))


def _seen_alive(observation: ClusterObservation, wanted: Callable[[Member], bool]) -> str:
    for server in observation.servers:
        for member in server.agent.members if server.agent is not None else ():
            if member.status is MemberStatus.ALIVE and wanted(member):
                return f"{server.name} sees it alive in gossip as {member.name} at {member.address}"
    return ""
