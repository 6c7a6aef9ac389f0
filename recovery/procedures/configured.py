"""No plan for a server of which nobody knows what its agent is configured with, or that could not be seen once started.

Seen is what the agent answers where the bot asks it: without that a run would go past its irreversible step blind.
"""

from __future__ import annotations

from collections.abc import Collection

from recovery.diagnosis.survey import unread_configuration
from recovery.model import ClusterObservation, ServerName
from recovery.plan import Proposal, Refusal, StartAgent


def refusal(observation: ClusterObservation, proposal: Proposal) -> Refusal | None:
    """Refuse a plan that touches such a server: its data directory, where every later step works, is not known."""
    plan = proposal.plan
    touched = {name for step in plan.steps for name in step.targets}
    started = {step.action.server for step in plan.steps if isinstance(step.action, StartAgent)}
    unseen = tuple(
        f"{server.name}: {server.host.api_problem}."
        for server in observation.servers
        if server.name in started and server.host is not None and server.host.api_problem
    )
    if unseen:
        return Refusal(
            procedure=plan.procedure,
            reasons=unseen,
            next_step="Let the agents answer there too (client_addr or addresses, ports), or set the cluster's "
            "Consul port and scheme in the settings, and ask again.",
        )
    return refused(plan.procedure, observation, touched)


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
