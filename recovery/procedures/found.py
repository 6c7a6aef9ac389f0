"""Found a cluster that was never bootstrapped: bootstrap_expect overridden with 1 on exactly one server.

A server without data that expects 1 founds a cluster of its own when it starts (agent/consul/server.go,
Bootstrap mode; all versions). On one it is the way to begin; on two it makes two clusters. So everything is
stopped and held first, one starts alone, and the others follow one by one, each a voter before the next:
servers that expect N and see each other before the leader could found a second one.

It is the one plan that can hide a cluster behind a new one: a data directory whose disk is not mounted looks like
one that was never used. So it is only for what nobody ever knew (recovery.past), and every server's name is typed.
"""

from __future__ import annotations

import msgspec

from recovery.diagnosis import NeverBootstrapped
from recovery.diagnosis.survey import has_files, raft_address
from recovery.model import ClusterObservation, NodeId, ServerName, host_of
from recovery.past import FOUNDING
from recovery.plan import (
    SCHEMA,
    AgentHeld,
    AgentStopped,
    CannotUndo,
    Check,
    IsVoter,
    LeaderElected,
    LogIs,
    NeverHeldData,
    NoLeader,
    OverrideAbsent,
    Plan,
    PlanReport,
    Proposal,
    Refusal,
    StateArchived,
    Step,
    StepId,
)
from recovery.procedures import old_logs, parts, sorting

NAME = "bootstrap"
_EMPTY = (
    "The new cluster is empty. Had this cluster data on a server or a disk that the settings do not name, abort, "
    "and bring that back first."
)


def _hold(server: ServerName, *, before: tuple[Check, ...]) -> Step:
    """Named so that the host's receipt tells that this was a founding: it knew of no data there."""
    step = parts.hold(server, before=before)
    return msgspec.structs.replace(step, id=StepId(f"{FOUNDING}{step.id}"))


def build(observation: ClusterObservation, diagnosis: NeverBootstrapped) -> Proposal | Refusal:
    """Plan it, or refuse where a server that the settings do not name may hold the data."""
    strangers = old_logs.strangers(observation)
    if strangers:
        return Refusal(
            procedure=NAME,
            reasons=(*strangers, "It may hold the cluster's data: a new cluster would be a second one."),
            next_step="Name it in the settings, or, if it is another cluster's, keep it away; then ask again.",
        )
    first, *others = diagnosis.servers
    everyone = diagnosis.servers
    rest = tuple(others)
    kept = tuple(name for name in everyone if has_files(observation.server(name)))
    leads: tuple[Check, ...] = (LeaderElected((first,)),)
    gossip = (host_of(raft_address(observation.server(first), observation)),)
    steps: list[Step] = []
    steps += [_hold(name, before=(NoLeader(everyone),)) for name in everyone]
    steps += [parts.stop(name) for name in everyone]
    steps += [parts.archive(name) for name in kept]
    down: tuple[Check, ...] = tuple(AgentStopped(name) for name in everyone)
    archived = (StateArchived(first),) if first in kept else ()
    steps.append(parts.override_one(first, before=(*down, AgentHeld(first), *archived)))
    # A disk may come back at any time, and a server with data would bring the old cluster with it.
    empty: dict[ServerName, Check] = {
        name: LogIs(
            name,
            NodeId(observation.server(name).node_id or raft_address(observation.server(name), observation)),
            None,
        )
        for name in everyone
    }
    steps.append(parts.start_alone(first, before=(*(AgentStopped(name) for name in rest), *empty.values())))
    steps.append(
        parts.leader_stays((first,), at_least=None, rollback=CannotUndo("the new cluster is founded"))
    )
    for name in rest:
        steps.append(sorting.start_blank(name, before=(*leads, OverrideAbsent(name), empty[name])))
        steps.append(parts.join(name, gossip))
    steps.append(parts.override_off(first, before=tuple(IsVoter(name) for name in rest)))
    steps += parts.restart_leader(first, rest, at_least=None)
    steps.append(parts.verify(everyone))
    assumptions: list[Check] = [*empty.values()]
    # Stopped, a host tells more: who may write in the directory, and how its unit would see it.
    assumptions += [NeverHeldData(name) for name in everyone]
    plan = Plan(
        schema=SCHEMA,
        procedure=NAME,
        cluster=observation.cluster,
        summary=f"Found a NEW, EMPTY cluster with {first} alone, then take the others in one by one.",
        claims=(),
        assumptions=tuple(assumptions),
        warnings=(_EMPTY,),
        steps=tuple(steps),
        held_nothing=everyone,
    )
    return Proposal(plan, PlanReport(findings=diagnosis.evidence[: 2 * len(everyone)]))
