"""What an earlier run left behind and nobody may stumble over: an override of bootstrap_expect, a hold.

Every plan takes an override off first. Where nothing else is to be done, taking off what was left alone is a plan.
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


def releases(observation: ClusterObservation) -> tuple[Step, ...]:
    """Take the hold off every server that runs all the same: its next start would be refused."""
    return tuple(
        parts.release(server.name, held_by=server.host.held_by)
        for server in observation.servers
        if server.host is not None and server.host.running and server.host.held_by
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
    steps = (*removals(observation), *releases(observation))
    plan = Plan(
        schema=SCHEMA,
        procedure=NAME,
        cluster=observation.cluster,
        summary="; ".join(step.title for step in steps) + ".",
        claims=(),
        assumptions=(),
        warnings=(),
        steps=steps,
    )
    return Proposal(plan, PlanReport())
