"""The doctor's look at the client agents: whether all sources can be read, and each host be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bot.finding import Finding, ok, warning
from bot.wording import count
from recovery.model import ClusterName, ClusterObservation, Fact, Fails, Holds, ServerName

ClientRuns = Callable[[ClusterName, ServerName], Awaitable[Fact]]
"""Whether a client agent's host can be reached and its agent answers (World.check with AgentRunning)."""

AT_ONCE = 8
"""Hosts looked at side by side: hundreds of logins in one moment look like an attack."""


async def check_clients(
    cluster: ClusterName, observation: ClusterObservation, *, client_runs: ClientRuns
) -> list[Finding]:
    """Judge what is known of the client agents; nothing here keeps the servers from being recovered."""
    findings: list[Finding] = []
    if observation.clients_problem:
        findings.append(
            warning(
                "clients",
                cluster,
                observation.clients_problem,
                next_step="Correct it; till then a plan may leave client agents out.",
            )
        )
    free = asyncio.Semaphore(AT_ONCE)

    async def look(name: ServerName) -> Fact:
        async with free:
            return await client_runs(cluster, name)

    facts = await asyncio.gather(*(look(agent.name) for agent in observation.clients))
    for agent, fact in zip(observation.clients, facts, strict=True):
        if not isinstance(fact, Holds):
            said = fact.observed if isinstance(fact, Fails) else fact.reason
            findings.append(
                warning(
                    "clients",
                    f"{cluster}/{agent.name}",
                    f"{said} (known from {agent.source})",
                    next_step="Its host needs the same SSH user, host key and sudoers line as a server; or write "
                    "its true address under clients in the settings.",
                )
            )
    well = sum(isinstance(fact, Holds) for fact in facts)
    if not observation.clients and not findings:
        findings.append(ok("clients", cluster, "none is known: none is named, and no server lists one"))
    elif well:
        findings.append(ok("clients", cluster, f"{well} of {count(len(facts), 'client agent')} answered"))
    return findings
