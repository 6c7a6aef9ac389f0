"""What an earlier run left behind and nobody may stumble over: an override of bootstrap_expect.

Every plan takes it off first. Where nothing else is to be done, that alone is a plan.
"""

from __future__ import annotations

import msgspec

from recovery.model import ClusterObservation
from recovery.plan import SCHEMA, Plan, PlanReport, Proposal, Step
from recovery.procedures import parts

NAME = "remove-override"


def removals(observation: ClusterObservation) -> tuple[Step, ...]:
    """Take every override off that is found, whoever left it."""
    return tuple(
        parts.remove_left_override(server.name, run=server.host.override_by)
        for server in observation.servers
        if server.host is not None and server.host.override_by
    )


def first_of_all(observation: ClusterObservation, proposal: Proposal) -> Proposal:
    """Put the removals before a plan's own steps."""
    left = tuple(step for step in removals(observation) if step not in proposal.plan.steps)
    if not left:
        return proposal
    plan = msgspec.structs.replace(proposal.plan, steps=(*left, *proposal.plan.steps))
    return Proposal(plan, proposal.report)


def build(observation: ClusterObservation) -> Proposal:
    """Plan the removals alone."""
    steps = removals(observation)
    servers = ", ".join(step.targets[0] for step in steps)
    plan = Plan(
        schema=SCHEMA,
        procedure=NAME,
        cluster=observation.cluster,
        summary=f"Take off the override of bootstrap_expect that was left on {servers}.",
        claims=(),
        assumptions=(),
        warnings=(),
        steps=steps,
    )
    return Proposal(plan, PlanReport())
