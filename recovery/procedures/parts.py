"""The steps that more than one procedure is made of, with their proofs and ways back."""

from __future__ import annotations

from recovery.model import ServerName
from recovery.plan import (
    AgentFenced,
    AgentHeld,
    AgentRunning,
    AgentStopped,
    ArchiveState,
    CannotUndo,
    Check,
    ClusterAnswers,
    FenceAgent,
    HoldAgent,
    IsVoter,
    JoinGossip,
    LeaderElected,
    LiftFence,
    NothingToUndo,
    Observe,
    ReleaseHold,
    Risk,
    SaveSnapshot,
    SnapshotSaved,
    StartAgent,
    StateArchived,
    Step,
    StepId,
    StopAgent,
    Undo,
)
from recovery.raftentry import LogPosition

STOP_S = 60
START_S = 180
"""The agent's HTTP opens only after Raft has replayed its log: refused connections are no failure before."""
LEADER_S = 120
"""raft_multiplier 5: 5 to 10 s an election, several after a split vote (measured 8 s)."""
VOTER_S = 180
"""Autopilot promotes after server_stabilization_time (10 s); measured about 20 s on 1.8.7."""
ARCHIVE_S = 600


def save_snapshot(server: ServerName) -> Step:
    """Before anything is stopped: after a restart without a leader there is nothing to snapshot."""
    return Step(
        id=StepId(f"snapshot-{server}"),
        title=f"Save a stale snapshot of {server} (beside its archive)",
        risk=Risk.REVERSIBLE,
        targets=(server,),
        before=(),
        action=SaveSnapshot(server),
        after=(SnapshotSaved(server),),
        rollback=NothingToUndo("a file in the run's archive folder"),
        together="snapshot",
        timeout_s=120,
        optional=True,
    )


def hold(server: ServerName, *, before: tuple[Check, ...] = ()) -> Step:
    """Not even a reboot starts it now."""
    return Step(
        id=StepId(f"hold-{server}"),
        title=f"Hold {server}: nothing but this run starts its agent",
        risk=Risk.REVERSIBLE,
        targets=(server,),
        before=before,
        action=HoldAgent(server),
        after=(AgentHeld(server),),
        rollback=Undo(ReleaseHold(server), ()),
        together="hold",
        timeout_s=STOP_S,
    )


def stop(server: ServerName) -> Step:
    """Stopped without leaving: a leave would change the peer set where a leader comes back."""
    return Step(
        id=StepId(f"stop-{server}"),
        title=f"Stop the agent of {server}, without a leave",
        risk=Risk.REVERSIBLE,
        targets=(server,),
        unless=(AgentStopped(server),),
        before=(AgentHeld(server),),
        action=StopAgent(server),
        after=(AgentStopped(server),),
        rollback=Undo(StartAgent(server), (AgentRunning(server),)),
        together="stop",
        timeout_s=STOP_S,
    )


def archive(server: ServerName, *, fenced: bool = False) -> Step:
    """The only way back from what is irreversible; before it, nothing can start the server."""
    return Step(
        id=StepId(f"archive-{server}"),
        title=f"Archive raft/, serf/ and the configuration of {server} (kept there)",
        risk=Risk.REVERSIBLE,
        targets=(server,),
        before=(AgentStopped(server), AgentFenced(server) if fenced else AgentHeld(server)),
        action=ArchiveState(server),
        after=(StateArchived(server),),
        rollback=NothingToUndo("an archive is kept until somebody deletes it"),
        together="archive",
        timeout_s=ARCHIVE_S,
    )


def fence(server: ServerName, *, why: str) -> Step:
    """A server that is left out must never come up beside the new cluster."""
    return Step(
        id=StepId(f"fence-{server}"),
        title=f"Fence {server}: stop, disable, keep down across reboots ({why})",
        risk=Risk.REVERSIBLE,
        targets=(server,),
        before=(),
        action=FenceAgent(server),
        after=(AgentStopped(server), AgentFenced(server)),
        rollback=Undo(LiftFence(server), ()),
        together="fence",
        timeout_s=STOP_S,
    )


def start_again(server: ServerName, *, together: str, before: tuple[Check, ...]) -> Step:
    """Start a stopped agent with the data and the configuration it has."""
    return Step(
        id=StepId(f"start-{server}"),
        title=f"Start the agent of {server}",
        risk=Risk.REVERSIBLE,
        targets=(server,),
        before=before,
        action=StartAgent(server),
        after=(AgentRunning(server),),
        rollback=Undo(StopAgent(server), (AgentStopped(server),)),
        together=together,
        timeout_s=START_S,
    )


def start_recovered(
    server: ServerName, *, before: tuple[Check, ...], after: tuple[Check, ...], together: str
) -> Step:
    """Start a server that will read its peers.json: from here on the old peer set is gone."""
    return Step(
        id=StepId(f"start-{server}"),
        title=f"Start {server} with the new peer set",
        risk=Risk.IRREVERSIBLE,
        targets=(server,),
        before=before,
        action=StartAgent(server),
        after=(AgentRunning(server), *after),
        rollback=CannotUndo(
            "the agent has read peers.json and compacted its log; only the archive holds the old state"
        ),
        together=together,
        timeout_s=START_S,
    )


def await_leader(servers: tuple[ServerName, ...], *, at_least: LogPosition | None) -> Step:
    """Nothing else starts before there is a leader that has the newest entry."""
    need = f" that holds index {at_least.index}" if at_least is not None else ""
    return Step(
        id=StepId("leader"),
        title=f"Wait for a leader{need}",
        risk=Risk.READ_ONLY,
        targets=servers,
        before=(),
        action=Observe(),
        after=(LeaderElected(servers, at_least),),
        rollback=NothingToUndo("only looks"),
        timeout_s=LEADER_S,
    )


def await_voter(server: ServerName) -> Step:
    """A server is back when the leader counts its vote."""
    return Step(
        id=StepId(f"voter-{server}"),
        title=f"Wait until {server} is a voter",
        risk=Risk.READ_ONLY,
        targets=(server,),
        before=(),
        action=Observe(),
        after=(IsVoter(server),),
        rollback=NothingToUndo("only looks"),
        together="voter",
        timeout_s=VOTER_S,
    )


def join(server: ServerName, addresses: tuple[str, ...]) -> Step:
    """A new server finds the cluster by gossip; the leader adds it, autopilot promotes it."""
    return Step(
        id=StepId(f"join-{server}"),
        title=f"Join {server} to the cluster, and wait until it is a voter",
        risk=Risk.REVERSIBLE,
        targets=(server,),
        unless=(IsVoter(server),),
        before=(AgentRunning(server),),
        action=JoinGossip(server, addresses),
        after=(IsVoter(server),),
        rollback=NothingToUndo("gossip only; the leader decides whom it adds"),
        together="join",
        timeout_s=VOTER_S,
    )


def verify(servers: tuple[ServerName, ...]) -> Step:
    """The leader confirms itself with a quorum."""
    return Step(
        id=StepId("verify"),
        title="Verify: one leader, and a consistent read is answered",
        risk=Risk.READ_ONLY,
        targets=servers,
        before=(),
        action=Observe(),
        after=(LeaderElected(servers), ClusterAnswers(servers)),
        rollback=NothingToUndo("only looks"),
        timeout_s=LEADER_S,
    )
