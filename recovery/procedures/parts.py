"""The steps that more than one procedure is made of, with their proofs and ways back."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from recovery.model import ServerName
from recovery.plan import (
    AgentFenced,
    AgentHeld,
    AgentRunning,
    AgentStopped,
    ArchiveState,
    CannotUndo,
    CaughtUp,
    Check,
    ClusterAnswers,
    ExpectIs,
    ExpectOverridden,
    FenceAgent,
    HoldAgent,
    HoldReleased,
    IsVoter,
    JoinGossip,
    LeaderElected,
    LeaderHolds,
    LeaderStays,
    LiftFence,
    NothingToUndo,
    Observe,
    OverrideAbsent,
    OverrideExpect,
    PeersFileAbsent,
    ReleaseHold,
    RemoveOverride,
    RemovePeers,
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
LEADER_STAYS_S = 3
"""One that replays its own removal steps down within the second (measured 0.6.4)."""
VOTER_S = 180
"""Autopilot promotes after server_stabilization_time (10 s); measured about 20 s on 1.8.7."""
VERIFY_S = 300
"""A follower that was far behind is sent a snapshot of the whole store first."""
ARCHIVE_S = 600


def stage(name: str, steps: Iterable[Step]) -> tuple[Step, ...]:
    """Name the stage that these steps are, so that people can watch the stages go by."""
    return tuple(msgspec.structs.replace(step, stage=name) for step in steps)


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
        rollback=Undo(ReleaseHold(server), (HoldReleased(server),)),
        together="hold",
        timeout_s=STOP_S,
    )


def release(server: ServerName, *, held_by: str) -> Step:
    """A hold that an abandoned run left on a running agent shows only at the next reboot: it stays down then."""
    return Step(
        id=StepId(f"release-{server}"),
        title=f"Take the hold of run {held_by} off {server}, which runs",
        risk=Risk.REVERSIBLE,
        targets=(server,),
        before=(AgentRunning(server),),
        action=ReleaseHold(server),
        after=(HoldReleased(server),),
        rollback=NothingToUndo("the agent runs; what held it is over"),
        together="release",
        timeout_s=STOP_S,
    )


def unload(server: ServerName, *, held_by: str) -> Step:
    """A peers.json that an abandoned run wrote and no agent has read would make a start a recovery."""
    return Step(
        id=StepId(f"remove-peers-{server}"),
        title=f"Remove the unread peers.json that run {held_by} left on {server}",
        risk=Risk.REVERSIBLE,
        targets=(server,),
        before=(AgentStopped(server),),
        action=RemovePeers(server),
        after=(PeersFileAbsent(server),),
        rollback=NothingToUndo("the run that wrote it is over; a new plan writes its own"),
        together="unload",
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


def start_recovered(server: ServerName, *, before: tuple[Check, ...], after: tuple[Check, ...]) -> Step:
    """Start a server that will read its peers.json: from here on the old peer set is gone."""
    return Step(
        id=StepId(f"start-{server}"),
        title=f"Start {server} with the new peer set, alone",
        risk=Risk.IRREVERSIBLE,
        targets=(server,),
        before=before,
        action=StartAgent(server),
        after=(AgentRunning(server), *after),
        rollback=CannotUndo(
            "the agent has read peers.json and compacted its log; only the archive holds the old state"
        ),
        timeout_s=START_S,
    )


def start_beside(server: ServerName, *, before: tuple[Check, ...], together: str = "start-rest") -> Step:
    """Start a server with its own data and configuration beside a leader, whose log becomes its own."""
    return Step(
        id=StepId(f"start-{server}"),
        title=f"Start {server} beside the leader, with the data and the configuration it has",
        risk=Risk.IRREVERSIBLE,
        targets=(server,),
        before=before,
        action=StartAgent(server),
        after=(AgentRunning(server),),
        rollback=CannotUndo("the leader's log has become its own; only the archive holds the old state"),
        together=together,
        timeout_s=START_S,
    )


def leader_stays(
    servers: tuple[ServerName, ...],
    *,
    at_least: LogPosition | None,
    rollback: NothingToUndo | CannotUndo,
    timeout_s: int = LEADER_S,
    otherwise: str = "",
) -> Step:
    """Below 0.7 a leader may replay its own removal and step down: only one that stays is one."""
    need = f" and holds index {at_least.index}" if at_least is not None else ""
    who = servers[0] if len(servers) == 1 else "one of them"
    return Step(
        id=StepId("leader"),
        title=f"Wait until {who} leads, stays leader for {LEADER_STAYS_S} s{need}",
        risk=Risk.READ_ONLY,
        targets=servers,
        before=(),
        action=Observe(),
        after=(LeaderStays(servers, LEADER_STAYS_S, at_least),),
        rollback=rollback,
        timeout_s=timeout_s,
        otherwise=otherwise,
    )


def override_one(server: ServerName, *, before: tuple[Check, ...]) -> Step:
    """A loaded gun like a peers.json: whoever starts the agent now founds or leads a cluster with it alone."""
    return Step(
        id=StepId(f"override-{server}"),
        title=f"Override bootstrap_expect with 1 on {server} alone (its own files stay as they are)",
        risk=Risk.IRREVERSIBLE,
        targets=(server,),
        before=before,
        action=OverrideExpect(server, 1),
        after=(ExpectOverridden(server, 1),),
        rollback=Undo(RemoveOverride(server), (OverrideAbsent(server),), on_abort=True, outlasts_start=True),
        timeout_s=STOP_S,
    )


def start_alone(server: ServerName, *, before: tuple[Check, ...]) -> Step:
    """The one server that may lead alone; its own word proves that it took the override."""
    return Step(
        id=StepId(f"start-{server}"),
        title=f"Start {server} alone",
        risk=Risk.IRREVERSIBLE,
        targets=(server,),
        before=(AgentHeld(server), ExpectOverridden(server, 1), *before),
        action=StartAgent(server),
        after=(AgentRunning(server), ExpectIs(server, 1)),
        # Until it is a leader that stays: one that may still be elected must not be left running.
        rollback=Undo(StopAgent(server), (AgentStopped(server),), on_abort=True),
        timeout_s=START_S,
    )


def override_off(server: ServerName, *, before: tuple[Check, ...]) -> Step:
    """From here on a start takes the operator's own number again; the running agent learns it at the next one."""
    return Step(
        id=StepId(f"override-off-{server}"),
        title=f"Take the override off {server} again",
        risk=Risk.REVERSIBLE,
        targets=(server,),
        before=before,
        action=RemoveOverride(server),
        after=(OverrideAbsent(server),),
        rollback=NothingToUndo("the operator's own configuration is as it was"),
        timeout_s=STOP_S,
    )


def remove_left_override(server: ServerName, *, run: str) -> Step:
    """A run that ended badly left it: the next start would take it."""
    return Step(
        id=StepId(f"remove-override-{server}"),
        title=f"Take off the override of bootstrap_expect that run {run} left on {server}",
        risk=Risk.REVERSIBLE,
        targets=(server,),
        before=(),
        action=RemoveOverride(server),
        after=(OverrideAbsent(server),),
        rollback=NothingToUndo("the operator's own configuration is as it was"),
        together="remove-override",
        timeout_s=STOP_S,
    )


def restart_leader(
    server: ServerName, others: tuple[ServerName, ...], *, at_least: LogPosition | None
) -> tuple[Step, ...]:
    """Stop the one that led alone, see the others elect a leader, start it: nobody runs with the override."""
    steps = [
        Step(
            id=StepId(f"stop-leader-{server}"),
            title=f"Stop {server}, without a leave, so that it forgets the override",
            risk=Risk.REVERSIBLE,
            targets=(server,),
            before=(OverrideAbsent(server), *(IsVoter(name) for name in others)),
            action=StopAgent(server),
            after=(AgentStopped(server),),
            rollback=Undo(StartAgent(server), (AgentRunning(server),)),
            timeout_s=STOP_S,
        )
    ]
    led: tuple[Check, ...] = ()
    # Two servers cannot elect without one of them: there the leader comes with the start.
    if len(others) > 1:
        led = (LeaderElected(others, at_least),)
        steps.append(
            Step(
                id=StepId("new-leader"),
                title="Wait until the others have elected a leader",
                risk=Risk.READ_ONLY,
                targets=others,
                before=(),
                action=Observe(),
                after=led,
                rollback=NothingToUndo("only looks"),
                timeout_s=LEADER_S,
            )
        )
    steps.append(
        Step(
            id=StepId(f"start-again-{server}"),
            title=f"Start {server} again as one of them",
            risk=Risk.REVERSIBLE,
            targets=(server,),
            before=(OverrideAbsent(server), *led),
            action=StartAgent(server),
            after=(AgentRunning(server), IsVoter(server)),
            rollback=Undo(StopAgent(server), (AgentStopped(server),)),
            timeout_s=START_S,
        )
    )
    return tuple(steps)


def await_leader(servers: tuple[ServerName, ...]) -> Step:
    """Nothing else starts before there is a leader."""
    return Step(
        id=StepId("leader"),
        title="Wait for a leader",
        risk=Risk.READ_ONLY,
        targets=servers,
        before=(),
        action=Observe(),
        after=(LeaderElected(servers),),
        rollback=NothingToUndo("only looks"),
        timeout_s=LEADER_S,
    )


def leads(
    servers: tuple[ServerName, ...], *, newest: LogPosition | None, holders: tuple[ServerName, ...]
) -> Check:
    """One of these servers alone leads, and holds the newest entry where there is one; all of them are asked."""
    return LeaderElected(servers) if newest is None else LeaderHolds(servers, newest, holders)


def await_lone_leader(server: ServerName, *, led: Check, newest: LogPosition | None) -> Step:
    """Nothing else starts before the one that leads alone holds the newest entry and has committed a read."""
    need = f" (it holds {newest})" if newest is not None else ""
    return Step(
        id=StepId("leader"),
        title=f"Wait until {server} leads alone{need} and answers a consistent read",
        risk=Risk.READ_ONLY,
        targets=(server,),
        before=(),
        action=Observe(),
        after=(led, ClusterAnswers((server,))),
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


def leads_on(server: ServerName, *, led: Check) -> Step:
    """Before each further start: a newcomer of a higher term may have made the leader stand for election again."""
    return Step(
        id=StepId(f"led-before-{server}"),
        title=f"See that the leader still leads before {server} is started",
        risk=Risk.READ_ONLY,
        targets=(server,),
        before=(),
        action=Observe(),
        after=(led,),
        rollback=NothingToUndo("only looks"),
        timeout_s=LEADER_S,
    )


def verify(servers: tuple[ServerName, ...], *, led: Check | None = None) -> Step:
    """The leader confirms itself with a quorum, and every server that answers holds what the leader holds."""
    return Step(
        id=StepId("verify"),
        title="Verify: one leader, a consistent read is answered, nobody is behind",
        risk=Risk.READ_ONLY,
        targets=servers,
        before=(),
        action=Observe(),
        after=(led or LeaderElected(servers), ClusterAnswers(servers), CaughtUp(servers)),
        rollback=NothingToUndo("only looks"),
        timeout_s=VERIFY_S,
    )
