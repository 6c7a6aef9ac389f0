"""What was seen of a cluster: ids, observations and three-valued facts.

Values only. Nothing here decides or does anything. Facts about remote hosts
are never booleans: what could not be seen is :class:`Unknown`, which neither
satisfies a check nor counts as dead.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

import msgspec

from recovery.raftentry import LogPosition, Peer

ClusterName = NewType("ClusterName", str)
ServerName = NewType("ServerName", str)
"""The name of a server in our settings; equal to its Consul node name."""
NodeId = NewType("NodeId", str)
"""A server's raft id from Consul 0.7.3 on: the UUID in data_dir/node-id, lower case."""
RunId = NewType("RunId", str)
Person = NewType("Person", str)
"""A person as the settings name them; Slack users and terminal users map to one."""


def host_of(address: str) -> str:
    """The host of an ip:port as a configuration has it; IPv6 without its brackets."""
    return address.rpartition(":")[0].strip("[]")


class Holds(msgspec.Struct, frozen=True, tag="holds"):
    """The fact was seen to be so."""

    evidence: str = ""


class Fails(msgspec.Struct, frozen=True, tag="fails"):
    """The fact was seen not to be so."""

    observed: str
    final: bool = False
    """Nothing that is under way can still make it so: who waits for it may stop waiting."""


class Unknown(msgspec.Struct, frozen=True, tag="unknown"):
    """It could not be seen."""

    reason: str


Fact = Holds | Fails | Unknown


class ServerSpec(msgspec.Struct, frozen=True):
    """A server as the settings name it."""

    name: ServerName
    address: str
    """SSH address: a name or an IP address, never one that Consul DNS resolves."""


class ClientAgent(msgspec.Struct, frozen=True):
    """A client agent of a cluster: it holds no Raft data and is only stopped and started."""

    name: ServerName
    """Its Consul node name; no server of the cluster has the same one."""
    address: str
    """SSH address: a name or an IP address, never one that Consul DNS resolves."""
    source: str
    """Where it is known from, a phrase for people: the settings, an inventory, a membership with its time."""


class ClusterSpec(msgspec.Struct, frozen=True):
    """A cluster as the settings name it: the servers that ought to be there."""

    name: ClusterName
    servers: tuple[ServerSpec, ...]

    def address_of(self, name: ServerName) -> str:
        """Give the SSH address of a server of this cluster; KeyError if it has no such server."""
        return {server.name: server.address for server in self.servers}[name]


class MemberStatus(StrEnum):
    """A member's state in gossip, as serf counts it (0 none to 4 failed)."""

    NONE = "none"
    ALIVE = "alive"
    LEAVING = "leaving"
    LEFT = "left"
    FAILED = "failed"


class Member(msgspec.Struct, frozen=True):
    """One line of an agent's member list (GET /v1/agent/members)."""

    name: str
    address: str
    status: MemberStatus
    server: bool
    node_id: str = ""
    datacenter: str = ""
    build: str = ""


class Catalogue(msgspec.Struct, frozen=True):
    """How much a server's catalogue held, from a stale or a normal read."""

    nodes: int
    services: int
    sessions: int


class KnownNode(msgspec.Struct, frozen=True):
    """A node as a catalogue names it (GET /v1/catalog/nodes?stale): the old name of an id that is gone."""

    name: str
    node_id: str
    address: str


class AgentView(msgspec.Struct, frozen=True, kw_only=True):
    """What a running server's agent says of itself on its own loopback.

    /v1/status/* needs no token; agent/self and agent/members need agent:read
    and node:read, which without a leader only the agent recovery token has
    (reference: Consul ACL documentation, and measured on 1.8.7).
    """

    leader_address: str
    """/v1/status/leader: "" when this server knows none. May name a dead leader for seconds."""
    peers: tuple[str, ...]
    """/v1/status/peers: ip:port of voters and non-voters."""
    names_itself_leader: bool = False
    node_name: str = ""
    node_id: str = ""
    version: str = ""
    datacenter: str = ""
    raft_protocol: int = 0
    raft_state: str = ""
    term: int = 0
    last: LogPosition | None = None
    """The larger of last log and last snapshot: last_log_index is 0 right after a recovery.

    Index 0 is a blank server; None is a server that did not tell.
    """
    commit_index: int = 0
    configuration: tuple[Peer, ...] = ()
    """latest_configuration of agent/self; empty where it was not given."""
    members: tuple[Member, ...] = ()
    data_dir: str = ""
    """Where it keeps its data, in its own words; "" where it did not tell. May be relative to where it was started."""
    leave_on_terminate: bool | None = None
    bootstrap_expect: int = 0
    """With how many servers it would found a cluster; 1 also where it is told to by ``bootstrap``."""
    stale_reads: bool = False
    """Whether ?stale reads (and so a stale snapshot) are still answered."""
    catalogue: Catalogue | None = None
    known_nodes: tuple[KnownNode, ...] = ()
    """From the same stale read; empty where none was answered."""
    withheld: tuple[str, ...] = ()
    """What was refused or not answered, a sentence each (for example 403 without a token)."""


class HostView(msgspec.Struct, frozen=True, kw_only=True):
    """What host.sh sees on a host (verb ``look``)."""

    active_state: str
    """systemd's ActiveState: active, activating, inactive, failed, ..."""
    enabled: bool
    main_pid: int
    unit_user: str
    unit: str = ""
    data_dir: str
    """Where the agent keeps its data, read from its unit, flags and files as Consul reads them; "" is unknown."""
    config_problem: str = ""
    """Why it is not known what the agent is configured with (file, line, word), a phrase; then data_dir is ""."""
    api_problem: str = ""
    """Why the agent, as it is configured, will not answer where the bot asks it, a phrase; "" where it will."""
    node_name: str = ""
    """As configured, else the host's name; "" is unknown."""
    server: bool | None = None
    """Whether it is configured as a server; None is unknown."""
    client_addr: str = ""
    """As configured, for all APIs that have no address of their own; "" is Consul's default, 127.0.0.1."""
    http_addresses: str = ""
    """addresses.http as configured: IP addresses or unix:// paths, with blanks between; "" for client_addr."""
    https_addresses: str = ""
    http_port: int = 0
    """ports.http as configured or by default, -1 for none; 0 is unknown."""
    https_port: int = 0
    data_dir_missing: bool = False
    """Whether it is named and no such directory is there: then nothing is known of what it holds."""
    node_id: str = ""
    """As configured, else from data_dir/node-id; "" when neither is there."""
    version: str = ""
    """What the installed program says of itself."""
    raft_db_bytes: int = -1
    """Size of raft/raft.db, -1 when there is none."""
    wal: bool = False
    """Whether raft/wal/ is there, the log store of newer Consuls. Beside a raft.db it is dead: Consul goes by that."""
    lmdb: bool = False
    """Whether raft/mdb/ is there: the log of Consul 0.5, which no later one opens without conversion."""
    snapshots: int = 0
    peers_info: bool = False
    peers_json: str | None = None
    held_by: str = ""
    """The run that holds this server back from starting, or ""."""
    hold_left: str = ""
    """The run that the hold's file names, also where the hold is not in force: our own start takes it away first."""
    hold_void: str = ""
    """Why a hold that is there keeps nobody from starting: its drop-in is gone, another one resets the conditions."""
    fenced_by: str = ""
    fence_void: str = ""
    """Why a fence that is there keeps nobody from starting."""
    running_s: int = -1
    """How long its process has been there."""
    run_by: str = ""
    """What its process was started by: the unit it is in, and its parent where that is not our unit."""
    free_bytes: int = 0
    state_bytes: int = 0
    """Size of raft/ and serf/, what an archive needs."""
    epoch: int = 0
    """The highest epoch a driver has used here; 0 when none ever did."""
    epoch_damaged: bool = False
    """Whether the host's epoch file says none: then nobody may change anything there until a person has mended it."""
    last_run: str = ""
    """The run of the driver with that epoch."""
    receipts: tuple[str, ...] = ()
    """What that run has done here, each as STEP.ATTEMPT.DIRECTION (host.sh)."""
    archived: bool = False
    """Whether an archive of that run is here, whatever it is worth."""
    leave_on_terminate: bool | None = None
    """As configured; None where nothing says it (Consul's default then counts)."""
    override_by: str = ""
    """The run that overrode bootstrap_expect here and has not taken it back yet, or ""."""
    override: int = 0
    """The number that the next start takes from an override; 0 where none is in force."""

    @property
    def running(self) -> bool:
        """Whether a process of the unit is there, whatever systemd calls its state."""
        return self.main_pid > 0

    @property
    def log_store(self) -> str:
        """Where its Raft log is, below the data directory; "" where there is none."""
        if self.raft_db_bytes >= 0:
            return "raft/raft.db"
        return "raft/wal" if self.wal else ""


class HostRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of the bot has left on a host, whichever run it was."""

    run: str
    at_s: float
    """When it last did something there, Unix time."""
    archived: bool = False
    receipts: tuple[str, ...] = ()
    """What it did, each as STEP.ATTEMPT.DIRECTION."""


class Unmounted(msgspec.Struct, frozen=True, kw_only=True):
    """A mount point on the way to the data on which what belongs there is not mounted."""

    point: str
    named_by: str
    """/etc/fstab, or the systemd unit."""
    what: str
    """What belongs there: a device, a share; and what is there instead, if anything."""


class DirectoryView(msgspec.Struct, frozen=True, kw_only=True):
    """What a host tells of a data directory in which no Raft data was seen (verb ``origin``)."""

    since_s: float = 0.0
    """Since when the directory as it is now is there, Unix time; 0 where the file system does not tell."""
    unmounted: tuple[Unmounted, ...] = ()
    beneath: str = ""
    """Raft data that lies covered, under a mount: the path of what it is."""
    hindered: str = ""
    """Why nobody could look under the mounts, where there is more than one at a place."""
    elsewhere: str = ""
    """Why the agent sees another directory than root does under this path (RootDirectory=, BindPaths=)."""
    not_ours: str = ""
    """Whose the directory is, where the agent could not write in it."""
    volatile: str = ""
    """The file system in memory that it lies on: what it held went with the last boot or unmount."""
    raft_gone: str = ""
    """What shows that a server's raft/ was here and its files are not."""
    led: str = ""
    """The last line of the unit's journal that tells of a leader."""
    led_at_s: float = 0.0
    runs: tuple[HostRun, ...] = ()


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A server whose agent was seen running."""

    server: ServerName
    since_s: float
    """Unix time of its start, as its host tells how long it runs; 0 where that is not known."""
    by: str
    """What it was started by, in words."""
    hold_left: str = ""
    """The run whose hold lies on the host all the same: our own start would have taken it away first."""


class HostTrace(msgspec.Struct, frozen=True, kw_only=True):
    """What drivers have left on a host that could be looked at."""

    server: ServerName
    epoch: int
    """The highest one seen there; 0 if none."""
    run: str = ""
    """Whose it was; "" where that was not kept."""
    receipts: tuple[str, ...] = ()
    """What that run has done there, each as STEP.ATTEMPT.DIRECTION."""


class StoredLog(msgspec.Struct, frozen=True, kw_only=True):
    """What the raft directory of a stopped server holds (its log store and newest snapshot)."""

    last: LogPosition | None
    """None: no entry and no snapshot, a blank server."""
    term: int
    configuration: tuple[Peer, ...]


class ServerObservation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything seen of one server of the settings; each part may be missing with a reason."""

    name: ServerName
    address: str
    host: HostView | None = None
    host_problem: str = ""
    answers: bool = False
    """Whether the host answers SSH although it could not be looked at; nobody may say that such a one is gone."""
    agent: AgentView | None = None
    agent_problem: str = ""
    stored: StoredLog | None = None
    """Also of a running server that has no peers below 0.7: such a one writes nothing."""
    stored_problem: str = ""
    directory: DirectoryView | None = None
    """Of a server in whose data directory no Raft data was seen; None for everybody else."""
    directory_problem: str = ""
    """Why that could not be looked at."""
    journal: tuple[str, ...] = ()
    """Telling lines of a running server that has no peers, secrets removed."""
    set_by_snapshot: LogPosition | None = None
    """Where its newest snapshot ends, if its peer set is that snapshot's, with configuration index 1.

    A recovery leaves it so. So does a first bootstrap; but then every server of the cluster has the same set.
    Looked at only where two servers' sets differ; None for everybody else.
    """
    origin_problem: str = ""
    """Why that could not be seen; "" where it was, or was not looked at."""

    @property
    def reached(self) -> bool:
        """Whether an SSH session could look at the host."""
        return self.host is not None

    @property
    def absence(self) -> str:
        """Say why there is no host, a phrase: what answers is not called unreachable."""
        how = "its host answers, but it could not be looked at" if self.answers else "host not reachable"
        return f"{how} ({self.host_problem or 'no answer'})"

    @property
    def node_id(self) -> str:
        """The node id, from the agent or from the file of a stopped one; "" if unknown."""
        if self.agent is not None and self.agent.node_id:
            return self.agent.node_id
        return self.host.node_id if self.host is not None else ""

    @property
    def last(self) -> LogPosition | None:
        """The last log position, from the agent's numbers or a stopped server's files."""
        if self.agent is not None and self.agent.last is not None:
            return self.agent.last
        return self.stored.last if self.stored is not None else None

    @property
    def configuration(self) -> tuple[Peer, ...]:
        """The peer set this server believes in."""
        if self.agent is not None and self.agent.configuration:
            return self.agent.configuration
        return self.stored.configuration if self.stored is not None else ()


class ClusterObservation(msgspec.Struct, frozen=True, kw_only=True):
    """All servers of a cluster, looked at in parallel."""

    cluster: ClusterName
    taken_at_s: float
    """Unix time."""
    servers: tuple[ServerObservation, ...]
    clients: tuple[ClientAgent, ...] = ()
    """The client agents as they are known, also those that no member list shows any more; not looked at."""
    clients_problem: str = ""
    """Why some of them may be missing (an inventory that cannot be read), a sentence; "" if nothing is wrong."""

    def server(self, name: str) -> ServerObservation:
        """Give one server's observation; KeyError if the cluster has no such server."""
        return {server.name: server for server in self.servers}[ServerName(name)]
