"""No plan for a server of which nobody knows what its agent is configured with."""

from __future__ import annotations

from collections.abc import Collection

from recovery.diagnosis.survey import unread_configuration
from recovery.model import ClusterObservation, ServerName
from recovery.plan import Proposal, Refusal


def refusal(observation: ClusterObservation, proposal: Proposal) -> Refusal | None:
    """Refuse a plan that touches such a server: its data directory, where every later step works, is not known."""
    plan = proposal.plan
    return refused(plan.procedure, observation, {name for step in plan.steps for name in step.targets})


def refused(procedure: str, observation: ClusterObservation, names: Collection[ServerName]) -> Refusal | None:
    """Refuse for those of these servers that are such ones; None where none is."""
    reasons = tuple(
        f"{server.name}: {server.absence if server.host is None else server.host.config_problem}."
        for server in observation.servers
        if server.name in names and unread_configuration(server)
    )
    if not reasons:
        return None
    return Refusal(
        procedure=procedure,
        reasons=reasons,
        next_step="Mend what is named there, or start and stop that agent by hand, and ask again.",
    )
