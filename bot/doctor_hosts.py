"""The doctor's look at the servers: SSH, sudo, unit, agent, tokens, names and clocks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bot.doctor_clients import ClientRuns, check_clients
from bot.finding import Finding, failed, ok, skipped, warning
from config.values import ClusterSettings, Settings, SshSettings
from recovery.errors import RecoveryError
from recovery.model import AgentView, ClusterName, ClusterObservation, HostView, ServerObservation, ServerSpec

Observe = Callable[[ClusterName], Awaitable[ClusterObservation]]
"""World.observe of a cluster."""
HostTime = Callable[[ClusterName, ServerSpec], Awaitable[float]]
"""Unix time as the host's own clock has it; raises RecoveryError."""

CLOCK_DIFFERENCE_S = 5.0
"""Above this the times in a run's history and in the servers' logs no longer fit together."""


async def check_hosts(
    settings: Settings,
    *,
    observe: Observe,
    client_runs: ClientRuns,
    host_time_s: HostTime,
    now_s: Callable[[], float],
) -> list[Finding]:
    """Look at all servers of all clusters at once."""
    found = await asyncio.gather(
        *(
            _check_cluster(
                cluster,
                ssh=settings.ssh,
                observe=observe,
                client_runs=client_runs,
                host_time_s=host_time_s,
                now_s=now_s,
            )
            for cluster in settings.clusters
        )
    )
    return [finding for findings in found for finding in findings]


async def _check_cluster(
    cluster: ClusterSettings,
    *,
    ssh: SshSettings,
    observe: Observe,
    client_runs: ClientRuns,
    host_time_s: HostTime,
    now_s: Callable[[], float],
) -> list[Finding]:
    observation, clocks = await asyncio.gather(
        observe(cluster.name),
        asyncio.gather(
            *(
                _check_clock(cluster, server, host_time_s=host_time_s, now_s=now_s)
                for server in cluster.servers
            )
        ),
    )
    findings: list[Finding] = []
    for server, clock in zip(cluster.servers, clocks, strict=True):
        seen = observation.server(server.name)
        findings += check_server(cluster, ssh, seen)
        if seen.reached:
            findings.append(clock)
    return [*findings, *await check_clients(cluster.name, observation, client_runs=client_runs)]


def check_server(cluster: ClusterSettings, ssh: SshSettings, seen: ServerObservation) -> list[Finding]:
    """Judge one server: host first, then its agent, then what the agent lets us read."""
    subject = f"{cluster.name}/{seen.name}"
    if seen.host is None:
        return [
            failed(
                "host",
                subject,
                seen.host_problem or "could not be looked at",
                next_step=f"Try it as the bot's user: ssh -p {ssh.port} -i {ssh.key_file} "
                f"-o UserKnownHostsFile={ssh.known_hosts_file} {ssh.user}@{seen.address} sudo -n -l. "
                "It has to list the line of config/sudoers; the host key belongs into ssh.known_hosts_file.",
            ),
            skipped("agent", subject, "not asked; the way to it is through the host"),
        ]
    return [
        ok("host", subject, f"logged in, sudo works, the unit {cluster.unit} is {seen.host.active_state}"),
        *_check_data(subject, seen.host),
        *_check_agent(cluster, subject, seen),
    ]


def _check_data(subject: str, host: HostView) -> list[Finding]:
    findings: list[Finding] = []
    if host.free_bytes < host.state_bytes:
        findings.append(
            failed(
                "host",
                subject,
                f"{host.free_bytes >> 20} MiB are free, and an archive of its data may need"
                f" {host.state_bytes >> 20} MiB",
                next_step="Free space for it under /var/lib/consul-recovery; without an archive no run begins.",
            )
        )
    return findings


def _check_agent(cluster: ClusterSettings, subject: str, seen: ServerObservation) -> list[Finding]:
    agent = seen.agent
    if agent is None:
        return [
            failed(
                "agent",
                subject,
                seen.agent_problem or "does not answer",
                next_step=f"If the agent is meant to run: systemctl status {cluster.unit} on the host; else check"
                f" clusters.{cluster.name}.http (port, scheme, ca_file).",
            )
        ]
    return [
        _check_tokens(cluster, subject, agent),
        *_check_name(subject, seen.name, agent),
        *_check_datacenter(cluster, subject, agent),
    ]


def _check_tokens(cluster: ClusterSettings, subject: str, agent: AgentView) -> Finding:
    refused = [text for text in agent.withheld if ": 403" in text]
    if not refused:
        return ok(
            "agent", subject, f"answers, Consul {agent.version or 'of unknown version'}, and lets us read"
        )
    given = cluster.agent_recovery_token is not None or cluster.management_token is not None
    why = (
        "does not accept the tokens of the settings" if given else "wants a token, and the settings have none"
    )
    what = ", ".join(text.partition(":")[0] for text in refused)
    return failed(
        "agent",
        subject,
        f"{why} ({what})",
        next_step=f"Set clusters.{cluster.name}.tokens.agent_recovery_file to the servers' own"
        " acl.tokens.agent_recovery (agent_master before 1.11), which works without a leader.",
    )


def _check_name(subject: str, name: str, agent: AgentView) -> list[Finding]:
    if not agent.node_name or agent.node_name == name:
        return []
    return [
        failed(
            "agent",
            subject,
            f"calls itself {agent.node_name}",
            next_step=f"Write its Consul node name, {agent.node_name}, into the settings, or correct the address.",
        )
    ]


def _check_datacenter(cluster: ClusterSettings, subject: str, agent: AgentView) -> list[Finding]:
    if cluster.datacenter is None or not agent.datacenter or agent.datacenter == cluster.datacenter:
        return []
    return [
        failed(
            "agent",
            subject,
            f"is of datacenter {agent.datacenter}, not {cluster.datacenter}",
            next_step=f"Correct clusters.{cluster.name}.datacenter, or the server's address.",
        )
    ]


async def _check_clock(
    cluster: ClusterSettings, server: ServerSpec, *, host_time_s: HostTime, now_s: Callable[[], float]
) -> Finding:
    subject = f"{cluster.name}/{server.name}"
    before_s = now_s()
    try:
        there_s = await host_time_s(cluster.name, server)
    except RecoveryError as error:
        return warning("clock", subject, str(error), next_step="Run the doctor again.")
    after_s = now_s()
    # Its clock was read somewhere between the two: only what lies outside of them is a difference.
    apart_s = max(before_s - there_s, there_s - after_s, 0.0)
    if apart_s > CLOCK_DIFFERENCE_S:
        return warning(
            "clock",
            subject,
            f"differs from ours by {apart_s:.0f} s",
            next_step="Turn time synchronisation on, on both (chrony, systemd-timesyncd).",
        )
    return ok("clock", subject, "agrees with ours")
