"""A cluster in memory that behaves as the real one does where our decisions depend on it.

For unit tests and sweeps only. It refuses what a host refuses (a write beside
a running agent, an older epoch) and cannot be put into impossible states: a
leader is never set, it follows from who runs, who votes and whose log is
freshest; equal logs hold equal keys; a held or fenced unit does not start by
hand. peers.json is consumed at a start, as real Consul does it. Below 0.7 it is
the live peer set, an elected server replays the peer sets of its log, and one
that expects a single server may lead alone. What we cannot reach we cannot
see, but the servers still see each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from recovery.errors import HostRefused, HostUnreachable
from recovery.model import (
    AgentView,
    Catalogue,
    ClientAgent,
    ClusterName,
    ClusterObservation,
    DirectoryView,
    Fact,
    Fails,
    Holds,
    HostTrace,
    HostView,
    KnownNode,
    Member,
    MemberStatus,
    RunId,
    ServerName,
    ServerObservation,
    Sighting,
    StoredLog,
    Unknown,
)
from recovery.plan import (
    Action,
    AgentFenced,
    AgentHeld,
    AgentRunning,
    AgentStopped,
    ArchiveState,
    CaughtUp,
    Check,
    ClusterAnswers,
    ConfigurationIs,
    ExpectIs,
    ExpectOverridden,
    FenceAgent,
    FenceLifted,
    HoldAgent,
    HoldReleased,
    IsMember,
    IsVoter,
    JoinGossip,
    KnowsLeader,
    LeaderElected,
    LeaderHolds,
    LeaderStays,
    LiftFence,
    LogEndsAlone,
    LogIs,
    MembersBack,
    NeverHeldData,
    NoLeader,
    Observe,
    OneHistory,
    OverrideAbsent,
    OverrideExpect,
    PeersFileAbsent,
    PeersFileIs,
    ReleaseHold,
    RemoveOverride,
    RemovePeers,
    SaveSnapshot,
    Silent,
    SnapshotSaved,
    StartAgent,
    StateArchived,
    StillLeads,
    StopAgent,
    WipeRaft,
    WritePeers,
)
from recovery.ports import ActKey, MembersTold
from recovery.raftentry import LogPosition, Peer

_RECEIPT = tuple[str, str, int, str]


@dataclass(slots=True)
class FakeServer:
    """One host with one agent."""

    name: ServerName
    address: str
    node_id: str
    voters: tuple[Peer, ...]
    last: LogPosition | None
    """None: blank."""
    keys: frozenset[str] = frozenset()
    """What was written and acknowledged, as far as this server's log holds it."""
    past: set[LogPosition] = field(default_factory=set)
    """Where its log ended before: entries that it holds, as far as anybody asks for them."""
    running: bool = True
    reachable: bool = True
    restarted: bool = False
    peers_json: tuple[Peer, ...] | None = None
    recovered_to: tuple[Peer, ...] = ()
    """The set of the snapshot that it made when it read a peers.json: the log never tells the others of it."""
    recovered_at: LogPosition | None = None
    """Where its log ended then; who holds as much gets no snapshot from it."""
    peers_info: bool = True
    held_by: str = ""
    fenced_by: str = ""
    void: str = ""
    """Why its hold and its fence bar nobody; they lie on the host all the same."""
    epoch: int = 0
    owner: str = ""
    epoch_damaged: bool = False
    """Its epoch file says none: nothing is changed there."""
    last_run: str = ""
    starts: int = 0
    stops: int = 0
    archives: set[str] = field(default_factory=set)
    snapshots: set[str] = field(default_factory=set)
    receipts: set[_RECEIPT] = field(default_factory=set)
    over: set[str] = field(default_factory=set)
    """Runs for which nothing more is done here."""
    version: str = "1.8.7"
    """Below 0.7 ``voters`` is the live peers.json, and there is no node id."""
    log_voters: tuple[Peer, ...] = ()
    """Below 0.7: the last peer set in the log, which counts once a leader has replayed it."""
    expect: int = 3
    """bootstrap_expect of the operator's own configuration."""
    override_by: str = ""
    override: int = 0
    took: int = 0
    """The bootstrap_expect of this start."""
    replayed: bool = True
    leads: bool = False
    """Elected and not stopped since; follows from the state, never set from outside."""
    unsteady: bool = False
    """Leads alone for a moment only."""
    deaf_starts: int = 0
    """For so many starts it hears nobody: no leader, no peer."""
    unlisted_starts: int = 0
    """For so many starts it hears of the leader, and the leader does not make it a peer."""
    hindered: bool = False
    """Its host answers, and nobody can look at it: where it is not ``reachable``."""
    damaged: bool = False
    """Its log cannot be read, by nobody: an agent that is started ends at once."""
    covered: str = ""
    """Raft data that lies under a mount on its data directory."""

    @property
    def barred(self) -> bool:
        """Whether a hold or a fence is in force."""
        return bool(self.held_by or self.fenced_by) and not self.void

    @property
    def old(self) -> bool:
        """Whether it is below 0.7."""
        return self.version.startswith("0.")

    @property
    def set_by_snapshot(self) -> LogPosition | None:
        """Where a recovery's snapshot ends, while no other set has followed in the log."""
        return self.recovered_at if self.recovered_to and set(self.voters) == set(self.recovered_to) else None

    @property
    def raft_id(self) -> str:
        """The address where there are no node ids."""
        return self.node_id or f"{self.address}:8300"

    @property
    def me(self) -> Peer:
        """Itself, as a peer set has it."""
        return Peer(self.raft_id, f"{self.address}:8300", voter=True)

    @property
    def hears(self) -> bool:
        """Whether it hears the others in this start."""
        return self.deaf_starts == 0


class FakeWorld:
    """The World port over servers in memory."""

    def __init__(
        self, cluster: ClusterName, servers: Iterable[FakeServer], clients: Iterable[FakeServer] = ()
    ) -> None:
        self.cluster = cluster
        self.clients = {client.name: client for client in clients}
        self.servers = {server.name: server for server in servers}
        self.agents = {**self.servers, **self.clients}
        _refuse_impossible(self.servers.values())
        leading = self.leader()
        self._led_by = leading.name if leading is not None else None
        self.performed: list[tuple[Action, ActKey]] = []
        """What took effect, in order; an act that a receipt or an epoch kept off is not here."""
        self.before_act: Callable[[Action, ActKey], None] = lambda _action, _key: None
        """Called before an act takes effect; may raise what a host or a network raises."""
        self.in_act: Callable[[Action, ActKey], None] = lambda _action, _key: None
        """Called when it took effect and has no receipt yet: a host that dies there leaves none."""
        self.after_act: Callable[[Action, ActKey], None] = lambda _action, _key: None
        """Called after it took effect and left its receipt."""

    # --- what follows from the state

    def leader(self) -> FakeServer | None:
        """The server that a majority of its own voters elects, the freshest first."""
        return next(iter(self.leading()), None)

    def leading(self) -> tuple[FakeServer, ...]:
        """Everybody who is elected by a majority of its own voters; each server votes once."""
        elected: list[FakeServer] = []
        voted: set[ServerName] = set()
        running = [server for server in self.servers.values() if server.running]
        for server in sorted(running, key=lambda each: (_freshness(each), each.leads), reverse=True):
            if not _may_lead(server):
                continue
            electorate, freshness = _electorate(server), _freshness(server)
            votes = {
                other.name
                for other in running
                if other.name not in voted
                and (other is server or (other.hears and server.hears))
                and other.raft_id in electorate
                and _freshness(other) <= freshness
            }
            if server.name in votes and len(votes) >= len(electorate) // 2 + 1:
                elected.append(server)
                voted |= votes
        return tuple(elected)

    def _replay(self) -> None:
        """Below 0.7 who is elected writes its own set, then replays its log: one that was removed steps down."""
        leader = self.leader()
        while leader is not None and not leader.replayed:
            own = (leader.me, *(peer for peer in leader.voters if peer != leader.me))
            was_removed = leader.raft_id not in {peer.id for peer in leader.log_voters}
            leader.replayed, leader.voters, leader.log_voters = True, own, own
            if was_removed:
                leader.took, leader.leads = 0, False
            leader = self.leader()

    def _settle(self) -> None:
        """The leader takes running newcomers in, and its log becomes everybody's."""
        self._replay()
        leader = self.leader()
        if leader is None:
            return
        if leader.name != self._led_by and leader.last is not None:
            # A new leader writes in a term of its own.
            self._led_by = leader.name
            leader.past.add(leader.last)
            leader.last = LogPosition(term=leader.last.term + 1, index=leader.last.index + 1)
        others = self.leading()[1:]
        for server in self.servers.values():
            server.leads = server in (leader, *others)
        ids = {peer.id for peer in leader.voters}
        # Two in bootstrap mode do not take each other in.
        newcomers = tuple(
            server.me
            for server in self.servers.values()
            if server.running
            and server.hears
            and not server.unlisted_starts
            and server.raft_id not in ids
            and server not in others
        )
        if leader.old and leader.raft_id not in ids:
            newcomers = (leader.me, *(peer for peer in newcomers if peer != leader.me))
        leader.voters = (*leader.voters, *newcomers)
        listed = {peer.id for peer in leader.voters}
        for server in self.servers.values():
            if server.running and server.hears and server not in others and server.raft_id in listed:
                keeps_its_set = (
                    leader.set_by_snapshot is not None
                    and server.voters != leader.voters
                    and server.last is not None
                    and server.last >= leader.set_by_snapshot
                )
                if not keeps_its_set:
                    server.voters = leader.voters
                server.last, server.keys, server.past = leader.last, leader.keys, set(leader.past)
                server.log_voters, server.replayed = leader.voters, True

    def _start(self, server: FakeServer) -> None:
        if server.running or server.damaged:
            return
        if server.peers_json is not None:
            if server.peers_info:
                server.voters = server.recovered_to = server.peers_json
                server.recovered_at = server.last
            server.peers_json = None
        server.running, server.restarted = True, True
        server.starts += 1
        server.took = server.override or server.expect
        server.replayed = not server.old
        if server.took == 1 and server.last is None:
            server.voters, server.last = (server.me,), LogPosition(term=1, index=1)
        elif server.took == 1 and server.unsteady and server.last is not None:
            server.past.add(server.last)
            server.last = LogPosition(term=server.last.term + 1, index=server.last.index + 1)
        self._settle()

    def _stop(self, server: FakeServer) -> None:
        server.stops += server.running
        server.deaf_starts = max(0, server.deaf_starts - server.running)
        server.unlisted_starts = max(0, server.unlisted_starts - server.running)
        server.running, server.took, server.leads = False, 0, False
        if server.name == self._led_by:
            self._led_by = None

    # --- what people do behind our back

    def start_by_hand(self, name: ServerName) -> None:
        """``systemctl start``: nothing happens where a hold or a fence is in force."""
        server = self.servers[name]
        if not server.barred:
            self._start(server)

    def start_past_the_hold(self, name: ServerName) -> None:
        """Configuration management takes the drop-ins away and starts the agent: the files of ours stay."""
        server = self.servers[name]
        server.void = "its drop-in is gone"
        self._start(server)

    def stop_by_hand(self, name: ServerName) -> None:
        """``systemctl stop``."""
        self._stop(self.servers[name])

    # --- World

    async def observe(self) -> ClusterObservation:
        """Look at every server."""
        return ClusterObservation(
            cluster=self.cluster,
            taken_at_s=0.0,
            servers=tuple(self._view(s) for s in self.servers.values()),
            clients=tuple(ClientAgent(c.name, c.address, "the settings") for c in self.clients.values()),
        )

    def _view(self, server: FakeServer) -> ServerObservation:
        if not server.reachable:
            return ServerObservation(
                name=server.name,
                address=server.address,
                host_problem=f"no answer from {server.address}",
                answers=server.hindered,
            )
        host = HostView(
            active_state="active" if server.running else "inactive",
            enabled=not server.fenced_by,
            main_pid=100 if server.running else 0,
            unit_user="consul",
            data_dir="/var/lib/consul",
            node_id=server.node_id,
            version=server.version,
            # An agent makes an empty raft.db at its first start.
            raft_db_bytes=65536 if server.last else 32768 if server.running or server.stops else -1,
            peers_info=server.peers_info and not server.old,
            peers_json=_live_file(server) if server.old else None if server.peers_json is None else "[...]",
            override_by=server.override_by,
            override=server.override,
            held_by="" if server.void else server.held_by,
            hold_left=server.held_by,
            hold_void=server.void if server.held_by else "",
            fenced_by="" if server.void else server.fenced_by,
            fence_void=server.void if server.fenced_by else "",
            run_by="consul.service" if server.running else "",
            free_bytes=10**10,
            state_bytes=10**6,
            epoch=0 if server.epoch_damaged else server.epoch,
            epoch_damaged=server.epoch_damaged,
            last_run=server.last_run,
            receipts=_receipts_of(server),
        )
        stored = StoredLog(
            last=server.last,
            term=server.last.term if server.last else 0,
            configuration=server.log_voters if server.old else server.voters,
        )
        if server.damaged:
            problem = "raft.db: a page's checksum is wrong"
            return ServerObservation(
                name=server.name, address=server.address, host=host, stored_problem=problem
            )
        if not server.running:
            return ServerObservation(
                name=server.name,
                address=server.address,
                host=host,
                stored=stored,
                directory=_directory(server),
                set_by_snapshot=server.set_by_snapshot,
            )
        return ServerObservation(
            name=server.name,
            address=server.address,
            host=host,
            agent=self._agent(server),
            directory=_directory(server),
            stored=stored if server.old and not server.voters else None,
            set_by_snapshot=server.set_by_snapshot,
        )

    def _agent(self, server: FakeServer) -> AgentView:
        leader = self.leader()
        knows = (
            leader is not None
            and server.hears
            and (server.raft_id in {p.id for p in leader.voters} or server.unlisted_starts > 0)
        )
        stale = knows or (server.last is not None and not server.restarted)
        last = server.last or LogPosition(term=0, index=0)
        return AgentView(
            leader_address=f"{leader.address}:8300" if leader is not None and knows else "",
            peers=tuple(peer.address for peer in server.voters),
            names_itself_leader=leader is server,
            node_name=server.name,
            node_id=server.node_id,
            version=server.version,
            datacenter="dc1",
            raft_protocol=0 if server.old else 3,
            bootstrap_expect=server.took,
            raft_state="Leader" if leader is server else "Follower",
            term=last.term,
            last=last,
            configuration=server.voters,
            members=tuple(
                Member(
                    name=other.name,
                    address=other.address,
                    status=MemberStatus.ALIVE if other.running else MemberStatus.FAILED,
                    server=True,
                    node_id=other.node_id,
                )
                for other in self.servers.values()
            ),
            stale_reads=stale,
            catalogue=Catalogue(nodes=len(self.servers), services=1, sessions=0) if stale else None,
            known_nodes=tuple(
                KnownNode(peer.id.partition("-")[0], peer.id, peer.address.partition(":")[0])
                for peer in server.voters
            )
            if stale
            else (),
        )

    async def members(self) -> MembersTold | None:
        """The first running server's list."""
        for server in self.servers.values():
            if server.reachable and server.running:
                return MembersTold(server.name, self._agent(server).members)
        return None

    async def check(self, check: Check, *, run: RunId) -> Fact:
        """Answer one question."""
        match check:
            case (
                AgentStopped(server=name)
                | AgentHeld(server=name)
                | AgentRunning(server=name)
                | AgentFenced(server=name)
                | FenceLifted(server=name)
                | HoldReleased(server=name)
                | StateArchived(server=name)
                | SnapshotSaved(server=name)
                | PeersFileIs(server=name)
                | PeersFileAbsent(server=name)
                | ConfigurationIs(server=name)
                | IsVoter(server=name)
                | LogIs(server=name)
                | ExpectOverridden(server=name)
                | OverrideAbsent(server=name)
                | ExpectIs(server=name)
                | LogEndsAlone(server=name)
                | NeverHeldData(server=name)
                | KnowsLeader(server=name)
            ):
                server = self._agent_named(name)
                if not server.reachable:
                    return Unknown(f"{name} is not reachable")
                return self._check_server(check, server, run)
            case (
                LeaderElected(servers=names, at_least=at_least)
                | LeaderStays(servers=names, at_least=at_least)
            ):
                return self._leader_elected(names, at_least)
            case StillLeads(server=name, at_least=at_least):
                return self._leader_elected((name,), at_least)
            case LeaderHolds(servers=names, newest=newest, holders=holders):
                return self._leader_elected(names, newest, holders)
            case IsMember(server=name, servers=names):
                return self._members_back((name,), 0, names)
            case MembersBack(clients=clients, missing_at_most=most, servers=names):
                return self._members_back(clients, most, names)
            case NoLeader(servers=names):
                taken = any(leader.name in names for leader in self.leading() if leader.reachable)
                return Fails("there is a leader") if taken else self._unseen(names) or Holds("no leader")
            case OneHistory(freshest=freshest, others=others):
                past = [n for n in others if _freshness(self.servers[n]) > _freshness(self.servers[freshest])]
                if unseen := self._unseen((freshest, *others)):
                    return unseen
                return _fact(not past, f"all logs are part of {freshest}'s history", f"past it: {past}")
            case Silent(node_id=node_id, name=name):
                return self._silent(name, node_id)
            case ClusterAnswers(servers=names):
                leader = self.leader()
                ids = {peer.id for peer in leader.voters} if leader is not None else set()
                asked = [self.servers[n] for n in names]
                if any(server.reachable and server.running and server.raft_id in ids for server in asked):
                    return Holds("a consistent read is answered")
                return self._unseen(names) or Fails("no cluster leader")
            case CaughtUp(servers=names):
                leader = self.leader()
                if leader is None or leader.name not in names or not leader.reachable:
                    return self._unseen(names) or Fails("no server names itself leader")
                answering = [
                    self.servers[n] for n in names if self.servers[n].reachable and self.servers[n].running
                ]
                behind = [server.name for server in answering if _freshness(server) < _freshness(leader)]
                if not behind and len(answering) < len(names):
                    return self._unseen(names) or Fails("one of them is stopped")
                return _fact(not behind, "nobody is behind", f"behind the leader: {', '.join(behind)}")
            case _:
                assert_never(check)

    def _agent_named(self, name: ServerName) -> FakeServer:
        return self.agents[name]

    def _members_back(
        self, clients: tuple[ServerName, ...], most: int, names: tuple[ServerName, ...]
    ) -> Fact:
        if not any(leader.name in names for leader in self.leading() if leader.reachable):
            return self._unseen(names) or Fails("there is no one leader to ask")
        away = [n for n in clients if not (self.clients[n].running and self.clients[n].hears)]
        return _fact(len(away) <= most, "members again", f"not alive: {', '.join(away)}")

    def _unseen(self, names: Iterable[ServerName]) -> Unknown | None:
        away = [name for name in names if not self.servers[name].reachable]
        return Unknown(f"{', '.join(away)} cannot be reached") if away else None

    def _leader_elected(
        self,
        names: tuple[ServerName, ...],
        at_least: LogPosition | None,
        holders: tuple[ServerName, ...] = (),
    ) -> Fact:
        found = [leader for leader in self.leading() if leader.reachable and leader.name in names]
        if len(found) > 1:
            return Fails(f"{' and '.join(leader.name for leader in found)} name themselves leader at once")
        if not found:
            return self._unseen(names) or Fails("no server names itself leader")
        leader = found[0]
        if at_least is not None and (leader.last is None or leader.last.index < at_least.index):
            return Fails(f"the leader {leader.name} ends before {at_least}")
        if (
            at_least is not None
            and leader.name not in holders
            and at_least not in {*leader.past, leader.last}
        ):
            return Fails(f"{leader.name} leads without the newest entry ({at_least})", final=True)
        return Holds(f"{leader.name} is the leader")

    def _silent(self, name: str, node_id: str) -> Fact:
        reached = [server for server in self.servers.values() if server.reachable]
        if not reached:
            return Unknown("no host of the cluster answers, so nobody could see it alive")
        if any(s.hindered and not s.reachable and s.name == name for s in self.servers.values()):
            return Fails(f"the host of {name} answers")
        # Who runs is seen by every other one that runs, also where we cannot reach it.
        witnesses = [server for server in reached if server.running]
        alive = any(s.running and s.raft_id == node_id for s in self.servers.values() if witnesses)
        if alive:
            return Fails(f"{name} answers")
        loose = any(s.raft_id == node_id and not s.barred for s in reached)
        return Fails(f"nothing keeps {name} from starting") if loose else Holds(f"{name} is silent")

    def _check_server(
        self,
        check: AgentStopped
        | AgentHeld
        | AgentRunning
        | AgentFenced
        | FenceLifted
        | HoldReleased
        | StateArchived
        | SnapshotSaved
        | PeersFileIs
        | PeersFileAbsent
        | ConfigurationIs
        | IsVoter
        | LogIs
        | ExpectOverridden
        | OverrideAbsent
        | ExpectIs
        | LogEndsAlone
        | NeverHeldData
        | KnowsLeader,
        server: FakeServer,
        run: RunId,
    ) -> Fact:
        match check:
            case AgentStopped():
                return _fact(not server.running, f"{server.name} is stopped", f"{server.name} runs")
            case AgentHeld():
                return _fact(
                    server.held_by == run and not server.void,
                    f"{server.name} is held",
                    f"{server.name} is not held{server.void and f': {server.void}'}",
                )
            case AgentRunning():
                return _fact(server.running, f"{server.name} runs", f"{server.name} is stopped")
            case AgentFenced():
                return _fact(
                    bool(server.fenced_by) and not server.void,
                    f"{server.name} is fenced",
                    f"{server.name} is not fenced",
                )
            case HoldReleased():
                return _fact(not server.held_by, f"{server.name} is not held", f"held by {server.held_by}")
            case FenceLifted():
                return _fact(not server.fenced_by, f"{server.name} has no fence", f"{server.name} is fenced")
            case StateArchived():
                return _fact(
                    run in server.archives, f"{server.name} is archived", f"no archive on {server.name}"
                )
            case SnapshotSaved():
                return _fact(run in server.snapshots, "snapshot saved", f"no snapshot on {server.name}")
            case PeersFileIs(peers=peers):
                lies = server.voters if server.old else server.peers_json
                return _fact(lies == peers, "peers.json is there", f"{server.name}: no such peers.json")
            case PeersFileAbsent():
                none = not server.voters if server.old else server.peers_json is None
                return _fact(none, "no peers.json", f"{server.name} has a peers.json")
            case ConfigurationIs(peers=peers):
                want = {peer.id for peer in peers}
                have = {peer.id for peer in server.voters}
                good = server.running and want == have
                return _fact(
                    good, f"{server.name} has the new set", f"{server.name} has another configuration"
                )
            case IsVoter():
                leader = self.leader()
                good = (
                    leader is not None
                    and leader.reachable
                    and server.running
                    and server.raft_id in {p.id for p in leader.voters}
                )
                return _fact(good, f"{server.name} is a voter", f"{server.name} is no voter")
            case LogIs(node_id=node_id, last=last):
                good = not server.running and server.raft_id == node_id and server.last == last
                return _fact(good, f"{server.name} ends at {last}", f"{server.name} ends at {server.last}")
            case ExpectOverridden(expect=expect):
                return _fact(server.override == expect, f"overridden with {expect}", "not overridden")
            case OverrideAbsent():
                return _fact(not server.override_by, "no override", f"overridden by {server.override_by}")
            case ExpectIs(expect=expect):
                good = server.running and server.took == expect
                return _fact(good, f"expects {expect}", f"{server.name} expects {server.took}")
            case NeverHeldData():
                return _fact(not server.covered, "nothing tells of data", f"{server.covered} lies covered")
            case LogEndsAlone(address=address):
                good = not server.running and [peer.address for peer in server.log_voters] == [address]
                return _fact(good, f"ends with {address} alone", f"{server.name} ends with other peers")
            case KnowsLeader():
                knows = server.running and bool(self._agent(server).leader_address)
                return _fact(knows, f"{server.name} follows", f"error: {server.name} knows no leader")
            case _:
                assert_never(check)

    async def perform(self, action: Action, *, key: ActKey, timeout_s: float) -> str:
        """Do it, once for each key."""
        del timeout_s
        if isinstance(action, Observe):
            return ""
        server = self._agent_named(action.server)
        if not server.reachable:
            raise HostUnreachable(f"{server.name} is not reachable; nothing was done")
        self.before_act(action, key)
        if isinstance(action, JoinGossip):
            self._settle()
            return "joined"
        self._claim(server, key)
        receipt = (key.run, key.step, key.attempt, key.direction)
        if receipt in server.receipts:
            return "done before"
        nothing_there = _nothing_to_do(action, server)
        self._do(action, server, key.run)
        if not nothing_there:
            self.performed.append((action, key))
        self.in_act(action, key)
        server.receipts.add(receipt)
        self.after_act(action, key)
        return "done"

    def _do(self, action: Action, server: FakeServer, run: str) -> None:
        match action:
            case HoldAgent():
                server.held_by, server.void = run, ""
            case ReleaseHold():
                server.held_by = ""
            case StopAgent():
                self._stop(server)
            case StartAgent():
                if server.held_by and server.running:
                    raise HostRefused(f"{server.name} is held and runs all the same; nothing was done")
                if server.fenced_by:
                    raise HostRefused(f"{server.name} is fenced; nothing was done")
                server.held_by = ""
                self._start(server)
            case ArchiveState():
                _need_stopped(server)
                server.archives.add(run)
            case SaveSnapshot():
                server.snapshots.add(run)
            case FenceAgent():
                server.fenced_by, server.void = run, ""
                self._stop(server)
            case LiftFence():
                server.fenced_by = ""
            case WipeRaft():
                _need_stopped(server)
                if server.held_by != run or server.void or run not in server.archives:
                    raise HostRefused(
                        f"{server.name} is not held or not archived by this run; nothing was done"
                    )
                server.last, server.voters, server.peers_json = None, (), None
                server.keys, server.past = frozenset(), set()
            case WritePeers(peers=peers):
                _need_stopped(server)
                if server.held_by != run or server.void:
                    raise HostRefused(f"{server.name} is not held by this run; nothing was done")
                if server.old:
                    server.voters = peers
                else:
                    server.peers_json, server.peers_info = peers, True
            case RemovePeers():
                _need_stopped(server)
                server.peers_json = None
                server.voters = () if server.old else server.voters
            case OverrideExpect(expect=expect):
                _need_stopped(server)
                if server.held_by != run or server.void:
                    raise HostRefused(f"{server.name} is not held by this run; nothing was done")
                server.override_by, server.override = run, expect
            case RemoveOverride():
                server.override_by, server.override = "", 0
            case JoinGossip() | Observe():
                raise AssertionError("not an act of host.sh")
            case _:
                assert_never(action)

    async def receipt(self, action: Action, *, key: ActKey) -> Fact:
        """Whether the host says it was done."""
        if isinstance(action, Observe | JoinGossip):
            return Fails("leaves no receipt")
        server = self._agent_named(action.server)
        if not server.reachable:
            return Unknown(f"{server.name} is not reachable")
        there = (key.run, key.step, key.attempt, key.direction) in server.receipts
        return Holds("receipt") if there else Fails("no receipt")

    async def claim(self, servers: Sequence[ServerName], *, key: ActKey) -> Mapping[ServerName, str]:
        """Raise the epoch."""
        problems = {}
        for name in servers:
            server = self._agent_named(name)
            if not server.reachable:
                problems[name] = f"{name} is not reachable"
                continue
            try:
                self._claim(server, key)
            except HostRefused as refusal:
                problems[name] = str(refusal)
        return problems

    def _claim(self, server: FakeServer, key: ActKey) -> None:
        if key.run in server.over:
            raise HostRefused(f"{server.name}: run {key.run} is over; nothing was done")
        if server.epoch_damaged:
            raise HostRefused(f"{server.name}: its epoch file says no epoch; nothing was done")
        if key.epoch < server.epoch:
            raise HostRefused(
                f"{server.name}: epoch {key.epoch} is older than {server.epoch}; nothing was done"
            )
        if key.epoch == server.epoch and server.owner not in {"", key.owner}:
            raise HostRefused(f"{server.name}: epoch {key.epoch} is {server.owner}'s; nothing was done")
        if key.epoch > server.epoch:
            server.last_run = key.run
        server.epoch, server.owner = key.epoch, key.owner

    async def close(self, servers: Sequence[ServerName], *, run: RunId) -> Mapping[ServerName, str]:
        """Bar the run."""
        for name in servers:
            if self._agent_named(name).reachable:
                self._agent_named(name).over.add(run)
        return {n: f"{n} is not reachable" for n in servers if not self._agent_named(n).reachable}

    async def explain(self, server: ServerName) -> tuple[str, ...]:
        """Some lines of a journal."""
        return (f"[INFO] agent of {server}",)

    async def traces(self) -> tuple[HostTrace, ...]:
        """What drivers have left on the reached hosts."""
        return tuple(
            HostTrace(
                server=server.name,
                epoch=0 if server.epoch_damaged else server.epoch,
                run=server.last_run,
                receipts=_receipts_of(server),
            )
            for server in self.servers.values()
            if server.reachable
        )

    async def running(self, servers: Sequence[ServerName]) -> tuple[Sighting, ...]:
        """Which of these run."""
        return tuple(
            Sighting(
                server=name,
                since_s=0.0,
                by="process 100, started as consul.service",
                hold_left=self.agents[name].held_by,
            )
            for name in servers
            if self.agents[name].reachable and self.agents[name].running
        )

    async def leaders(self) -> tuple[ServerName, ...]:
        """Who names itself leader."""
        return tuple(sorted(server.name for server in self.leading() if server.reachable))


def _directory(server: FakeServer) -> DirectoryView | None:
    """What the host tells of a data directory without Raft data."""
    return DirectoryView(beneath=server.covered) if server.last is None else None


def _receipts_of(server: FakeServer) -> tuple[str, ...]:
    """As host.sh names them, of the run that acted last."""
    return tuple(
        f"{step}.{attempt}.{direction}"
        for run, step, attempt, direction in sorted(server.receipts)
        if run == server.last_run
    )


def _freshness(server: FakeServer) -> tuple[int, int]:
    return (server.last.term, server.last.index) if server.last is not None else (0, 0)


def _nothing_to_do(action: Action, server: FakeServer) -> bool:
    match action:
        case RemovePeers():
            return not server.voters if server.old else server.peers_json is None
        case RemoveOverride():
            return not server.override_by
        case StopAgent():
            return not server.running
        case _:
            return False


def _electorate(server: FakeServer) -> set[str]:
    """Whose votes count for it; below 0.7 its own always does."""
    ids = {peer.id for peer in server.voters if peer.voter}
    return ids | {server.raft_id} if server.old else ids


def _may_lead(server: FakeServer) -> bool:
    """Below 0.7 nobody begins an election without another peer, unless it was told to expect itself alone."""
    if server.last is None:
        return False
    if not server.old:
        return True
    if server.took == 1:
        return not server.unsteady
    return server.leads or len(_electorate(server)) > 1


def _live_file(server: FakeServer) -> str:
    return json.dumps([peer.address for peer in server.voters]) if server.voters else "null"


def _refuse_impossible(servers: Iterable[FakeServer]) -> None:
    known: dict[LogPosition | None, frozenset[str]] = {None: frozenset()}
    for server in servers:
        if server.old and server.node_id:
            raise ValueError(f"{server.name}: node ids came with 0.7.3")
        if server.last is None and server.log_voters:
            raise ValueError(f"{server.name}: a blank server has no peer set in its log")
        if server.damaged and server.running:
            raise ValueError(f"{server.name}: no agent runs on a log that cannot be read")
        if known.setdefault(server.last, server.keys) != server.keys:
            raise ValueError(f"{server.name}: a log that ends at {server.last} holds other keys elsewhere")


def _fact(holds: bool, evidence: str, observed: str) -> Fact:
    return Holds(evidence) if holds else Fails(observed)


def _need_stopped(server: FakeServer) -> None:
    if server.running:
        raise HostRefused(f"{server.name}: the agent runs; nothing was done")


def three_servers(*, last: tuple[int, int] = (2, 15)) -> tuple[FakeServer, ...]:
    """s1 to s3, all running with the same log."""
    names = ("s1", "s2", "s3")
    voters = tuple(Peer(f"{n}-id", f"198.51.100.1{n[1]}:8300", voter=True) for n in names)
    return tuple(
        FakeServer(
            name=ServerName(n),
            address=f"198.51.100.1{n[1]}",
            node_id=f"{n}-id",
            voters=voters,
            last=LogPosition(term=last[0], index=last[1]),
            keys=frozenset({"last"}),
        )
        for n in names
    )


def majority_replaced() -> tuple[FakeServer, ...]:
    """s1 survives and was never restarted; s2 and s3 are empty machines at new addresses."""
    s1, s2, s3 = three_servers()
    for server in (s2, s3):
        server.node_id, server.address = f"{server.name}-new", f"198.51.100.2{server.name[1]}"
        server.voters, server.last, server.keys = (), None, frozenset()
    return s1, s2, s3


def one_fenced() -> tuple[FakeServer, ...]:
    """s1 and s2 are a cluster of two; s3 was left out by run r0 and fenced, with a log of its own."""
    s1, s2, s3 = three_servers(last=(4, 40))
    s1.voters = s2.voters = s1.voters[:2]
    s3.running, s3.fenced_by, s3.last = False, "r0", LogPosition(term=2, index=33)
    s3.keys = frozenset({"first"})
    return s1, s2, s3


def peers_emptied(*, running: bool = True) -> tuple[FakeServer, ...]:
    """Three servers of 0.6.4 that left one after the other, s1 first, as captured: only s3 can lead alone."""
    peer = {n: Peer(f"198.51.100.1{n}:8300", f"198.51.100.1{n}:8300", voter=True) for n in "123"}
    told = {"1": (45, "23", {"first"}), "2": (47, "3", {"first", "last"}), "3": (47, "3", {"first", "last"})}
    return tuple(
        FakeServer(
            name=ServerName(f"s{n}"),
            address=f"198.51.100.1{n}",
            node_id="",
            version="0.6.4",
            voters=(),
            last=LogPosition(term=1, index=index),
            keys=frozenset(keys),
            log_voters=tuple(peer[other] for other in peers),
            running=running,
            restarted=True,
            took=3 if running else 0,
        )
        for n, (index, peers, keys) in told.items()
    )


def client_agents(count: int) -> tuple[FakeServer, ...]:
    """c1, c2 and so on, all running: agents without Raft data."""
    return tuple(
        FakeServer(
            name=ServerName(f"c{n}"), address=f"198.51.100.{100 + n}", node_id="", voters=(), last=None
        )
        for n in range(1, count + 1)
    )


def never_bootstrapped(*, expect: int = 5) -> tuple[FakeServer, ...]:
    """Three blank servers that wait for more than there are."""
    servers = three_servers()
    for server in servers:
        server.voters, server.last, server.keys = (), None, frozenset()
        server.expect = server.took = expect
    return servers
