"""A procedure as data: actions, checks, steps and the plan that people approve.

Frozen values without callables. One plan is shown in Slack, dry-run in the
terminal, executed, kept in Redis and resumed. The digest covers everything an
approver decides on: steps, claims, assumptions and warnings, but not raw
observations (without a leader the term grows every few seconds, and an
approval must survive that).
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import NewType

import msgspec

from recovery.model import ClusterName, NodeId, ServerName
from recovery.raftentry import LogPosition, Peer

StepId = NewType("StepId", str)
"""Stable and readable: ``start-s1``."""
Digest = NewType("Digest", str)
"""Hex SHA-256 of a plan."""

SCHEMA = 1


class Risk(StrEnum):
    """How bad a step can be."""

    READ_ONLY = "read-only"
    REVERSIBLE = "reversible"
    """Changes a host, with a way back that is part of the plan."""
    IRREVERSIBLE = "irreversible"
    """Cannot be taken back by the plan itself; the archive is the only way back."""

    @property
    def rank(self) -> int:
        """Order from harmless to irreversible."""
        return list(Risk).index(self)


# --- Checks: questions about the world, each answered Holds, Fails or Unknown ---------------------------


class _Check(msgspec.Struct, frozen=True, tag=True):
    pass


class AgentStopped(_Check, frozen=True):
    """No process of the unit is there."""

    server: ServerName


class AgentHeld(_Check, frozen=True):
    """The unit cannot be started, not even by a reboot, until this run releases it."""

    server: ServerName


class AgentRunning(_Check, frozen=True):
    """The unit has a process *and* the agent itself answers on its loopback.

    systemd's word alone is no proof: a Type=notify unit stays *activating*
    until a peer is there (hashicorp/consul 18097).
    """

    server: ServerName


class AgentFenced(_Check, frozen=True):
    """Stopped, disabled and held by a condition that a start or a reboot does not pass."""

    server: ServerName


class HoldReleased(_Check, frozen=True):
    """No hold of any run keeps the unit from starting."""

    server: ServerName


class FenceLifted(_Check, frozen=True):
    """No fence is in force any more; says nothing of a hold."""

    server: ServerName


class StateArchived(_Check, frozen=True):
    """This run's archive of raft/, serf/ and the configuration is there and its checksum is right."""

    server: ServerName


class SnapshotSaved(_Check, frozen=True):
    """This run's stale snapshot lies on the host."""

    server: ServerName


class PeersFileIs(_Check, frozen=True):
    """raft/peers.json lists exactly these peers, raft/peers.info is there, both owned by the unit's user."""

    server: ServerName
    peers: tuple[Peer, ...]


class PeersFileAbsent(_Check, frozen=True):
    """There is no raft/peers.json."""

    server: ServerName


class ConfigurationIs(_Check, frozen=True):
    """The running server's own latest configuration has exactly these ids as voters.

    It proves that peers.json was read: a file that is gone proves nothing,
    Consul also deletes it unread when raft/peers.info is missing
    (agent/consul/server.go, setupRaft).
    """

    server: ServerName
    peers: tuple[Peer, ...]


class LeaderElected(_Check, frozen=True):
    """One of these servers names *itself* leader, twice in succession, and its log holds the entry ``at_least``.

    Others may still name a dead leader for seconds, so their word does not count.
    """

    servers: tuple[ServerName, ...]
    at_least: LogPosition | None = None


class LeaderHolds(_Check, frozen=True):
    """One of these servers alone names *itself* leader, twice in succession, and its log holds the newest entry.

    Not by its index: a stale leader passes that within seconds with entries of its own (measured: five servers,
    two stale ones elected each other, index 30 of term 7, and the newest key was gone on all three). It is one of
    ``holders``, or the entry at the newest index of its log has the newest term, which one leader alone gave out
    (Raft's election safety and log matching).
    """

    servers: tuple[ServerName, ...]
    newest: LogPosition
    holders: tuple[ServerName, ...]
    """Whose log was read and ends at ``newest``."""


class NoLeader(_Check, frozen=True):
    """None of these servers names itself leader; Unknown while a running one gives no answer."""

    servers: tuple[ServerName, ...]


class IsVoter(_Check, frozen=True):
    """The running server answers and the leader's configuration has its id as a voter."""

    server: ServerName


class LogIs(_Check, frozen=True):
    """The stopped server with this node id ends its log exactly here, read from raft.db and its snapshots."""

    server: ServerName
    node_id: NodeId
    last: LogPosition | None
    """None: the server is blank."""


class OneHistory(_Check, frozen=True):
    """The logs of the others are a part of the freshest one's history (Raft's log matching property)."""

    freshest: ServerName
    others: tuple[ServerName, ...]


class Silent(_Check, frozen=True):
    """The server with this node id answers nobody: no host we reach carries it, no survivor sees it alive.

    A host that cannot be reached is not dead; that it is gone for good is the
    operator's claim. This check only finds the claim contradicted.
    """

    name: ServerName
    node_id: NodeId
    address: str


class ClusterAnswers(_Check, frozen=True):
    """A consistent read is answered: the leader has confirmed itself with a quorum just now."""

    servers: tuple[ServerName, ...]


class CaughtUp(_Check, frozen=True):
    """Every one of these servers that answers has committed what the leader had committed a moment before.

    A stale follower votes and answers at once, but what it holds is old until the leader has sent it the
    missing entries or a snapshot; one that cannot take them (a full disk, a damaged log) stays behind.
    """

    servers: tuple[ServerName, ...]


class ExpectOverridden(_Check, frozen=True):
    """bootstrap_expect is overridden with this number on the host: the next start takes it."""

    server: ServerName
    expect: int


class OverrideAbsent(_Check, frozen=True):
    """Nothing on the host overrides bootstrap_expect; a running agent may still go by one that is gone."""

    server: ServerName


class ExpectIs(_Check, frozen=True):
    """The running agent itself says that this is its bootstrap_expect (agent/self, `consul info`)."""

    server: ServerName
    expect: int


class NeverHeldData(_Check, frozen=True):
    """Nothing on its host tells that data was in its data directory (recovery.past), the bot's own runs aside."""

    server: ServerName


class LogEndsAlone(_Check, frozen=True):
    """The last peer set in the stopped server's own log is this address alone, read from raft.db.

    Below 0.7 a server replays its log after it was elected. One that finds its own removal there steps
    down for good (measured on 0.6.4: `Removed ourself, transitioning to follower`).
    """

    server: ServerName
    address: str
    """ip:port."""


class LeaderStays(_Check, frozen=True):
    """One of these servers names itself leader in every sample for so long, and its log holds ``at_least``."""

    servers: tuple[ServerName, ...]
    seconds: int
    at_least: LogPosition | None = None


class StillLeads(_Check, frozen=True):
    """The server that was seen to stay leader names itself leader now, and its log goes as far as ``at_least``.

    One sample, where `LeaderHolds` takes two: it has been seen to stay, and what its log holds was proven then.
    """

    server: ServerName
    at_least: LogPosition | None = None


class KnowsLeader(_Check, frozen=True):
    """The running server names a leader (/v1/status/leader); where it names none, `consul exec` fails too."""

    server: ServerName


class IsMember(_Check, frozen=True):
    """The leader, one of these servers, sees this agent alive in gossip."""

    server: ServerName
    servers: tuple[ServerName, ...]


class MembersBack(_Check, frozen=True):
    """The leader, one of these servers, sees all but at most so many of these client agents alive in gossip."""

    clients: tuple[ServerName, ...]
    missing_at_most: int
    servers: tuple[ServerName, ...]


Check = (
    AgentStopped
    | AgentHeld
    | AgentRunning
    | AgentFenced
    | HoldReleased
    | FenceLifted
    | StateArchived
    | SnapshotSaved
    | PeersFileIs
    | PeersFileAbsent
    | ConfigurationIs
    | LeaderElected
    | LeaderHolds
    | NoLeader
    | IsVoter
    | LogIs
    | OneHistory
    | Silent
    | ClusterAnswers
    | ExpectOverridden
    | OverrideAbsent
    | ExpectIs
    | LogEndsAlone
    | NeverHeldData
    | LeaderStays
    | StillLeads
    | CaughtUp
    | KnowsLeader
    | IsMember
    | MembersBack
)

# --- Actions: the only things the bot can do to a host --------------------------------------------------


class _Action(msgspec.Struct, frozen=True, tag=True):
    pass


class SaveSnapshot(_Action, frozen=True):
    """Save ``snapshot?stale`` beside the archive; only a server that still answers stale reads gives one."""

    server: ServerName


class HoldAgent(_Action, frozen=True):
    """Keep the unit from starting (ConditionPathExists drop-in) until released; does not stop it."""

    server: ServerName


class ReleaseHold(_Action, frozen=True):
    """Take the hold off again, without starting."""

    server: ServerName


class StopAgent(_Action, frozen=True):
    """Stop the agent without letting it leave the cluster."""

    server: ServerName


class StartAgent(_Action, frozen=True):
    """Release the hold and start the unit with --no-block: a packaged unit can block until a peer is there."""

    server: ServerName


class ArchiveState(_Action, frozen=True):
    """Archive raft/, serf/, node-id and the configuration of the stopped server, root only, checksummed."""

    server: ServerName


class FenceAgent(_Action, frozen=True):
    """Stop, disable and hold a server that is left out of the new peer set."""

    server: ServerName


class LiftFence(_Action, frozen=True):
    """Take a fence off; the server stays stopped."""

    server: ServerName


class WipeRaft(_Action, frozen=True):
    """Empty raft/ of a stopped server that this run holds and has archived; node-id and serf/ stay."""

    server: ServerName


class WritePeers(_Action, frozen=True):
    """Write raft/peers.json (and raft/peers.info where missing) on a stopped and held server."""

    server: ServerName
    peers: tuple[Peer, ...]
    raft_protocol: int


class RemovePeers(_Action, frozen=True):
    """Remove a raft/peers.json that no agent has read yet."""

    server: ServerName


class OverrideExpect(_Action, frozen=True):
    """Override bootstrap_expect on a stopped and held server: its next start takes this number.

    The operator's files are not touched: an own file that is read last, or a drop-in of the unit.
    """

    server: ServerName
    expect: int


class RemoveOverride(_Action, frozen=True):
    """Take the override off again, also one that another run left behind; the agent may run."""

    server: ServerName


class JoinGossip(_Action, frozen=True):
    """Ask the running agent to join these addresses (PUT /v1/agent/join): gossip only."""

    server: ServerName
    addresses: tuple[str, ...]


class Observe(_Action, frozen=True):
    """Do nothing: the step waits for its checks."""


Action = (
    SaveSnapshot
    | HoldAgent
    | ReleaseHold
    | StopAgent
    | StartAgent
    | ArchiveState
    | FenceAgent
    | LiftFence
    | WipeRaft
    | WritePeers
    | RemovePeers
    | OverrideExpect
    | RemoveOverride
    | JoinGossip
    | Observe
)

# --- Ways back ------------------------------------------------------------------------------------------


class Undo(msgspec.Struct, frozen=True, tag=True):
    """There is a way back, proven by its own checks."""

    action: Action
    after: tuple[Check, ...]
    on_abort: bool = False
    """Undone at every abort, because what it leaves is a trap (an unread peers.json)."""
    outlasts_start: bool = False
    """A start of the server does not use it up (as it does a peers.json), so it is undone after one too."""


class NothingToUndo(msgspec.Struct, frozen=True, tag=True):
    """The step leaves nothing that would have to be taken back."""

    reason: str


class CannotUndo(msgspec.Struct, frozen=True, tag=True):
    """There is no way back but the archive."""

    reason: str


Rollback = Undo | NothingToUndo | CannotUndo


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One act with its proof. ``rollback`` has no default: silence is not an answer."""

    id: StepId
    title: str
    risk: Risk
    targets: tuple[ServerName, ...]
    before: tuple[Check, ...]
    """All must hold, or the step is blocked and nothing was tried."""
    action: Action
    after: tuple[Check, ...]
    """The only evidence that it worked. None may hold before the action ran for another reason."""
    rollback: Rollback
    timeout_s: int
    unless: tuple[Check, ...] = ()
    """If there are any and all hold, the step is not needed."""
    together: str = ""
    """Neighbouring steps with the same word are performed at the same time; "" stands alone."""
    optional: bool = False
    """A failure is noted and the run goes on (a stale snapshot that could not be had)."""
    stage: str = ""
    """The stage that it belongs to, for people: neighbours of one stage are shown together; "" for none."""
    otherwise: str = ""
    """The procedure to propose where this step is seen to fail: the run ends, its traps are taken back."""


class Claim(msgspec.Struct, frozen=True):
    """The operator's word that a server is gone for good: about a node id, not a name or an address."""

    server: ServerName
    node_id: NodeId
    address: str
    """ip:port as the survivors' configuration has it."""
    fenced: bool
    """Whether its host is reached and fenced by this plan, or will be a blank server held by it.

    False: only the claim stands against a second leader; the approver types the server's name.
    """


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What people approve and the engine performs.

    A default is not written, so that plans of versions without that field keep their digests.
    """

    schema: int
    procedure: str
    cluster: ClusterName
    summary: str
    """One sentence: what this plan does."""
    claims: tuple[Claim, ...]
    assumptions: tuple[Check, ...]
    warnings: tuple[str, ...]
    """What an approver must know: what may be lost, what could not be seen."""
    steps: tuple[Step, ...]
    held_nothing: tuple[ServerName, ...] = ()
    """Servers that hold no data and, by the approver's word too, never did: each name is typed."""

    def digest(self) -> Digest:
        """Hash everything the approver decides on; equal plans have equal digests in every process."""
        return Digest(hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest())

    @property
    def typed_names(self) -> tuple[ServerName, ...]:
        """Whom only the approver's word is about, who types each name before the irreversible part.

        Servers that cannot be fenced are said to be gone; those of a founding to hold nothing and never to have.
        """
        return (*(claim.server for claim in self.claims if not claim.fenced), *self.held_nothing)

    @property
    def targets(self) -> tuple[ServerName, ...]:
        """All servers that the plan touches, in the order of their first step."""
        return tuple(dict.fromkeys(target for step in self.steps for target in step.targets))


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """No plan, with the reasons and what to do instead: a good answer."""

    procedure: str
    reasons: tuple[str, ...]
    next_step: str


class RankLine(msgspec.Struct, frozen=True):
    """One server in the table of who holds how much of the log, freshest first."""

    server: ServerName
    last: LogPosition | None
    behind: int
    """Entries behind the freshest, by index."""
    source: str
    """Where the numbers come from: the agent, or raft.db."""


class PlanReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a person needs beside the plan; shown, not approved."""

    ranking: tuple[RankLine, ...] = ()
    findings: tuple[str, ...] = ()
    down: tuple[ServerName, ...] = ()
    """The servers that an earlier run had stopped and held when this was planned."""
    stopped: tuple[ServerName, ...] = ()
    """Those of them that ran until that run stopped them, and that nobody has decided to leave so."""


class Proposal(msgspec.Struct, frozen=True):
    """A plan, and what to show beside it."""

    plan: Plan
    report: PlanReport
