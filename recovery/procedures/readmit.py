"""Readmit: bring a fenced server back into a cluster that has a leader.

A server that a recovery left out holds data of a history that is over, so it
comes back without it: held, archived, its raft directory emptied, then the
fence is lifted and it is started as a new server. Only a blank server is
taken in by the leader's log (hashicorp/raft: a log that went another way is
not joined, it is overwritten), and a blank one that sees nobody founds a
cluster of its own: so it stays held until there is a leader to join. Source:
Consul's outage recovery guide, "remove the raft directory of a server that
comes back after a peers.json recovery".

A fenced server that the leader still counts as a voter keeps its log: wiped,
it would vote for anybody in the name of one who had promised otherwise.
"""

from __future__ import annotations

from recovery.diagnosis import Diagnosis, Survey, survey
from recovery.diagnosis.survey import blank, is_address, is_peer
from recovery.model import ClusterObservation, NodeId, ServerName, ServerObservation
from recovery.plan import (
    SCHEMA,
    AgentFenced,
    AgentHeld,
    AgentStopped,
    CannotUndo,
    Check,
    FenceAgent,
    FenceLifted,
    LeaderElected,
    LiftFence,
    LogIs,
    PeersFileAbsent,
    Plan,
    PlanReport,
    Proposal,
    Refusal,
    Risk,
    StateArchived,
    Step,
    StepId,
    Undo,
    WipeRaft,
)
from recovery.procedures import parts
from recovery.procedures.ranking import ranking

NAME = "readmit"


def build(
    observation: ClusterObservation, diagnosis: Diagnosis, server: ServerName | None
) -> Proposal | Refusal:
    """Plan the way back of one fenced server, or say why it has none now."""
    seen = survey(observation)
    reasons = _obstacles(seen, server)
    if reasons or server is None:
        return Refusal(procedure=NAME, reasons=reasons, next_step=_next_step(seen, diagnosis))
    target = observation.server(server)
    voter = _votes(target, seen)
    keeps_log = voter and target.stored is not None and not blank(target)
    others = tuple(s.name for s in observation.servers if s.reached and s.name != server)
    led = LeaderElected(others)
    ready: tuple[Check, ...] = (AgentHeld(server),)
    if not keeps_log:
        ready = (*ready, LogIs(server, NodeId(target.node_id), None))
    gossip = tuple(
        peer.address.rpartition(":")[0] for peer in seen.server(seen.leaders[0]).configuration if peer.voter
    )
    steps = [
        parts.hold(server, before=(AgentFenced(server), led)),
        parts.archive(server, fenced=True),
        *(() if keeps_log else (_wipe(target, led),)),
        _lift(server, before=(*ready, led)),
        parts.start_again(server, together="", before=(led, PeersFileAbsent(server))),
        parts.join(server, gossip),
        parts.verify((*(name for name in others if not _fenced_by(observation.server(name))), server)),
    ]
    return Proposal(
        Plan(
            schema=SCHEMA,
            procedure=NAME,
            cluster=observation.cluster,
            summary=f"Take {server}, fenced by run {_fenced_by(target)}, back into the cluster "
            + (
                "with the log it has." if keeps_log else "as a server without data; its old data is archived."
            ),
            claims=(),
            assumptions=(),
            warnings=_warnings(target, keeps_log=keeps_log),
            steps=tuple(steps),
        ),
        PlanReport(ranking=ranking(observation)),
    )


def _obstacles(seen: Survey, server: ServerName | None) -> tuple[str, ...]:
    known = {s.name: s for s in seen.observation.servers}
    fenced = tuple(s.name for s in known.values() if _fenced_by(s))
    if server is None or server not in known:
        said = f"“{server}” is none of the servers of the settings." if server else "No server was named."
        return (f"{said} Fenced: {', '.join(fenced) or 'none that is reached'}.",)
    target = known[server]
    reasons: list[str] = []
    if len(seen.leaders) != 1:
        reasons.append(f"There is no single leader that {server} could join.")
    if not target.reached:
        reasons.append(f"{server}: {target.absence}.")
    elif not _fenced_by(target):
        reasons.append(f"{server} is not fenced: there is no fence to lift.")
    elif not target.node_id:
        reasons.append(f"The node id of {server} cannot be read, so nobody could tell that it came back.")
    elif _votes(target, seen) and (target.stored is None or blank(target)):
        why = target.stored_problem or "it is gone"
        reasons.append(
            f"{server} is still a voter of this cluster, and its log cannot be used ({why}): wiped, it would "
            "vote for anybody. Take it out of the peers first: `consul operator raft remove-peer "
            f"{_peer_flag(target, seen)}` on the leader."
        )
    return tuple(reasons)


def _votes(target: ServerObservation, seen: Survey) -> bool:
    """Whether the leader still counts its vote."""
    return any(is_peer(target, v.node_id, v.address, seen.observation) for v in seen.voters)


def _peer_flag(target: ServerObservation, seen: Survey) -> str:
    """How `remove-peer` calls it: below Raft protocol 3 by its address."""
    voter = next(v for v in seen.voters if is_peer(target, v.node_id, v.address, seen.observation))
    return f"-address={voter.address}" if is_address(voter.node_id) else f"-id={voter.node_id}"


def _next_step(seen: Survey, diagnosis: Diagnosis) -> str:
    fenced = [s.name for s in seen.observation.servers if _fenced_by(s)]
    if len(seen.leaders) == 1 and fenced:
        return (
            f"`/consul readmit {seen.observation.cluster} {fenced[0]}`, once what is said above is settled."
        )
    return diagnosis.advice


def _fenced_by(server: ServerObservation) -> str:
    return server.host.fenced_by if server.host is not None else ""


def _wipe(target: ServerObservation, led: LeaderElected) -> Step:
    server = target.name
    return Step(
        id=StepId(f"wipe-{server}"),
        title=f"Empty the raft directory of {server} (it is archived; its node id stays)",
        risk=Risk.IRREVERSIBLE,
        targets=(server,),
        before=(AgentStopped(server), AgentFenced(server), AgentHeld(server), StateArchived(server), led),
        action=WipeRaft(server),
        after=(LogIs(server, NodeId(target.node_id), None),),
        rollback=CannotUndo("only the archive of this run holds what was there"),
        timeout_s=parts.STOP_S,
    )


def _lift(server: ServerName, *, before: tuple[Check, ...]) -> Step:
    return Step(
        id=StepId(f"lift-{server}"),
        title=f"Lift the fence of {server} (it stays held until it is started)",
        risk=Risk.REVERSIBLE,
        targets=(server,),
        before=before,
        action=LiftFence(server),
        after=(FenceLifted(server),),
        rollback=Undo(FenceAgent(server), (AgentStopped(server), AgentFenced(server))),
        timeout_s=parts.STOP_S,
    )


def _warnings(target: ServerObservation, *, keeps_log: bool) -> tuple[str, ...]:
    if keeps_log:
        return (
            f"{target.name} is still a voter, so it starts with the log it has; the leader brings it up to date.",
        )
    place = target.last
    ends = f"its log ends at {place}" if place is not None else "its log is not read"
    return (
        f"What {target.name} holds is not taken over ({ends}): writes that only it has are in its archive alone.",
    )
