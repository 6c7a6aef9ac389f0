"""The staged bootstrap: servers below 0.7 whose peers.json was emptied by a graceful stop.

The old playbook set bootstrap_expect to 1 on all and started all: on real 0.6.4 that made two leaders in 2
of 7 trials, and the stalest log the leader in 4. Here one server alone gets it: among the freshest the one
whose own log ends with itself as the only peer. Measured on 0.6.4: 4 of 4 good that way; one that finds its
own removal in its log steps down for good. The stages stay: stop, rank, one alone, a leader that stays, the
rest, sort into leader, follower and error, restart what has to be, the override off, the clients.
"""

from __future__ import annotations

from recovery.diagnosis import PeersEmptied
from recovery.diagnosis.survey import blank, position, raft_address
from recovery.model import ClusterObservation, ServerName, ServerObservation, host_of
from recovery.plan import (
    SCHEMA,
    AgentHeld,
    AgentStopped,
    CannotUndo,
    Check,
    Claim,
    IsVoter,
    LogEndsAlone,
    NoLeader,
    OneHistory,
    OverrideAbsent,
    Plan,
    PlanReport,
    Proposal,
    Refusal,
    Silent,
    StateArchived,
    Step,
    StillLeads,
)
from recovery.procedures import old_logs, parts, sorting
from recovery.procedures.clients import client_steps
from recovery.procedures.ranking import ranking
from recovery.raftentry import LogPosition

NAME = "staged"
INSTEAD = "peers-json"
LEADER_ALONE_S = 20
"""Alone it needs nobody's vote: measured under 3 s on 0.6.4."""


def build(
    observation: ClusterObservation, diagnosis: PeersEmptied, lost: tuple[ServerName, ...]
) -> Proposal | Refusal:
    """Plan the stages, or say why no server can lead alone here."""
    ranked = old_logs.holders(observation, diagnosis)
    claimed = old_logs.claimed(observation, lost)
    problems = _problems(observation, diagnosis, ranked, claimed)
    if problems:
        return Refusal(
            procedure=NAME,
            reasons=problems,
            next_step=f"`/consul recover {observation.cluster} --method {INSTEAD}` writes peers.json as it was "
            "before 0.7 instead, where that can heal.",
        )
    chosen = next(s for s in old_logs.freshest(ranked) if old_logs.can_lead_alone(s, observation))
    claims = old_logs.claims_of(claimed, observation)
    return Proposal(_plan(observation, ranked, chosen, claims), PlanReport(ranking=ranking(observation)))


def _problems(
    observation: ClusterObservation,
    diagnosis: PeersEmptied,
    ranked: list[ServerObservation],
    claimed: list[ServerObservation],
) -> tuple[str, ...]:
    away = {server.name for server in claimed}
    problems = [
        f"{name} is not reachable: the staged bootstrap needs every server there, because its log may be the "
        "freshest."
        for name in diagnosis.unseen
        if name not in away
    ]
    problems += old_logs.unknown_logs(ranked)
    problems += old_logs.strangers(observation)
    if problems:
        return tuple(problems)
    best = old_logs.freshest(ranked)
    if any(old_logs.can_lead_alone(server, observation) for server in best):
        return ()
    return tuple(
        f"{server.name} has the freshest log, but its last peer set is {_set(server)}: it could not lead alone, "
        "only the last one to leave can."
        for server in best
    )


def _set(server: ServerObservation) -> str:
    peers = server.stored.configuration if server.stored is not None else ()
    return ", ".join(sorted(peer.address for peer in peers)) or "empty"


def _plan(
    observation: ClusterObservation,
    ranked: list[ServerObservation],
    chosen: ServerObservation,
    claims: tuple[Claim, ...],
) -> Plan:
    alone = chosen.name
    newest = position(chosen)
    rest = tuple(server.name for server in ranked if server.name != alone)
    blanks = tuple(server.name for server in observation.servers if blank(server))
    everyone = (alone, *rest, *blanks)
    holders = tuple(server.name for server in old_logs.freshest(ranked))
    leads = parts.leads(everyone, newest=newest, holders=holders)
    silent = tuple(Silent(claim.server, claim.node_id, claim.address) for claim in claims)
    gossip = (host_of(raft_address(chosen, observation)),)
    down: tuple[Check, ...] = tuple(AgentStopped(name) for name in everyone)
    others_down = tuple(AgentStopped(name) for name in everyone if name != alone)
    follow: tuple[Check, ...] = (leads, *silent)
    others = (*rest, *blanks)
    steps: list[Step] = []
    steps += parts.stage(
        "Stop without leaving, and archive",
        [
            *(parts.hold(name, before=(NoLeader(everyone), *silent)) for name in everyone),
            *(parts.stop(name) for name in everyone),
            *(parts.archive(name) for name in (alone, *rest)),
        ],
    )
    steps += parts.stage(
        f"{alone} alone",
        [
            parts.override_one(alone, before=(*down, AgentHeld(alone), StateArchived(alone))),
            parts.start_alone(alone, before=(*others_down, *silent)),
            parts.leader_stays(
                (alone,),
                at_least=newest,
                rollback=CannotUndo("it leads: what the others hold beside its log is given up"),
                timeout_s=LEADER_ALONE_S,
                otherwise=INSTEAD,
            ),
        ],
    )
    steps += sorting.take_in(
        rest, gossip=gossip, start_before=(StillLeads(alone, newest), *silent), restart_before=follow
    )
    # A blank one that sees no leader could found a cluster with others like it: last, one by one, with a leader.
    for name in blanks:
        blank_one = sorting.start_blank(name, before=(*follow, OverrideAbsent(name)))
        steps += parts.stage("Servers without data", [blank_one, parts.join(name, gossip)])
    steps += parts.stage(
        f"The override off, and {alone} as one of them",
        [
            parts.override_off(alone, before=tuple(IsVoter(name) for name in others)),
            *parts.restart_leader(alone, others, at_least=newest),
            parts.verify(everyone, led=leads),
        ],
    )
    steps += client_steps(observation.clients, everyone)
    assumptions: list[Check] = [
        *old_logs.log_assumptions([*ranked, *(observation.server(name) for name in blanks)], observation),
        LogEndsAlone(alone, raft_address(chosen, observation)),
    ]
    if rest:
        assumptions.append(OneHistory(alone, rest))
    assumptions += silent
    return Plan(
        schema=SCHEMA,
        procedure=NAME,
        cluster=observation.cluster,
        summary=f"Staged bootstrap: {alone} leads alone at first (it has the freshest log and was the last to leave), "
        f"then {_and(others)} follow{'s' if len(others) == 1 else ''}."
        if others
        else f"Staged bootstrap: {alone} leads alone.",
        claims=claims,
        assumptions=tuple(assumptions),
        warnings=(
            *old_logs.loss_warnings(observation, ranked, claims),
            *_warnings(ranked, chosen, blanks, newest),
        ),
        steps=tuple(steps),
    )


def _warnings(
    ranked: list[ServerObservation],
    chosen: ServerObservation,
    blanks: tuple[ServerName, ...],
    newest: LogPosition | None,
) -> tuple[str, ...]:
    warnings = [
        "Writes that were never acknowledged may appear: the new leader commits every entry of its log."
    ]
    for server in ranked:
        place = position(server)
        if server.name != chosen.name and place is not None and newest is not None and place != newest:
            warnings.append(
                f"{server.name} ends at {place}, the freshest at {newest}: "
                f"what {server.name} holds beside the freshest's history is dropped."
            )
    warnings.append(
        f"If {chosen.name} does not stay leader, its override is taken off, it is stopped, and a plan with peers.json "
        "as it was before 0.7 is shown instead."
    )
    warnings += [f"{name} has no data and joins as a new server at the end." for name in blanks]
    return tuple(warnings)


def _and(names: tuple[ServerName, ...]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)
