"""The sentences that say what was seen: who said it, and in which numbers."""

from __future__ import annotations

from recovery.diagnosis.survey import Sight, Survey, VoterSight, blank
from recovery.diagnosis.versions import live_peers_file
from recovery.model import ServerObservation


def server_line(server: ServerObservation) -> str:
    """One server in one line: host, agent, log."""
    if server.host is None:
        return f"{server.name}: {server.absence}"
    host = server.host
    parts: list[str] = []
    if host.fenced_by:
        parts.append(f"fenced by run {host.fenced_by}")
    elif host.running:
        parts.append(f"agent running ({_role(server)})")
    else:
        parts.append(f"agent stopped ({host.active_state})")
    if host.held_by:
        parts.append(f"held by run {host.held_by}")
    if blank(server):
        parts.append("no log (blank)")
    elif (last := server.last) is not None:
        parts.append(f"log ends at {last}")
    elif server.stored_problem:
        parts.append(f"log not readable: {server.stored_problem}")
    if host.config_problem and host.config_problem != server.stored_problem:
        parts.append(host.config_problem)
    if host.api_problem:
        parts.append(host.api_problem)
    if host.running and server.agent is None:
        parts.append(f"agent does not answer: {server.agent_problem}")
    if host.peers_json is not None and not live_peers_file(server):
        parts.append("an unread peers.json lies in its raft directory")
    if host.override_by:
        parts.append(f"bootstrap_expect still overridden by run {host.override_by}")
    return f"{server.name}: " + ", ".join(parts)


def unread_reason(server: ServerObservation) -> str:
    """Why it is not known what a server that answers holds."""
    if server.host is None:
        return server.host_problem or "no answer"
    if server.host.config_problem:
        return server.host.config_problem
    if server.stored_problem:
        return server.stored_problem
    if server.agent is None and server.agent_problem:
        return server.agent_problem
    return "its node id cannot be read" if not server.node_id else "its agent did not tell where its log ends"


def override_lines(survey: Survey) -> tuple[str, ...]:
    """Where an override of bootstrap_expect was left behind: a trap, the next start would take it."""
    return tuple(
        f"{server.name}: run {server.host.override_by} left bootstrap_expect overridden"
        for server in survey.observation.servers
        if server.host is not None and server.host.override_by
    )


def hold_lines(survey: Survey) -> tuple[str, ...]:
    """Where a hold was left on a server that runs: it shows only when it stays down after the next reboot."""
    return tuple(
        f"{server.name} runs, but is held by run {server.host.held_by}: it would stay down after a restart"
        for server in survey.observation.servers
        if server.host is not None and server.host.running and server.host.held_by
    )


def _role(server: ServerObservation) -> str:
    if server.agent is None:
        return "role unknown"
    if server.agent.names_itself_leader:
        return "leader"
    return server.agent.raft_state.lower() or "role unknown"


def server_lines(survey: Survey) -> tuple[str, ...]:
    """All servers, in the order of the settings."""
    return tuple(server_line(server) for server in survey.observation.servers)


def voter_line(voter: VoterSight) -> str:
    """One voter that is not simply there."""
    who = voter.name if voter.name == voter.address else f"{voter.name} at {voter.address}"
    match voter.sight:
        case Sight.REPLACED:
            return (
                f"voter {who} (id {voter.node_id[:8]}): the machine named {voter.name} now "
                "carries another id, its old disk is not there"
            )
        case Sight.EMPTIED:
            return f"voter {who} (id {voter.node_id[:8]}): its log is gone, the server is blank"
        case Sight.BARE:
            return (
                f"voter {who} (id {voter.node_id[:8]}): the data directory of its host is empty, as if no agent had "
                "ever run there (a disk that is not mounted?)"
            )
        case Sight.UNREACHED:
            return f"voter {who} (id {voter.node_id[:8]}): its host is not reachable"
        case Sight.UNREAD:
            return f"voter {who} (id {voter.node_id[:8]}): its host answers, but where its data is could not be told"
        case Sight.HINDERED:
            return f"voter {who} (id {voter.node_id[:8]}): its host answers, but it could not be looked at"
        case Sight.UNMATCHED:
            return f"voter {who} (id {voter.node_id[:8]}): no server of the settings is this one"
        case Sight.DAMAGED:
            return f"voter {who} (id {voter.node_id[:8]}): its Raft log cannot be read"
        case Sight.FENCED:
            return f"voter {who} (id {voter.node_id[:8]}): fenced"
        case Sight.RUNNING | Sight.STOPPED:
            return f"voter {who} (id {voter.node_id[:8]}): {voter.sight}"


def count(survey: Survey) -> str:
    """How many answered, how many a run of ours holds, and what quorum needs."""
    running = len(survey.seen(Sight.RUNNING))
    held = sum(_held(survey.server(voter.name)) for voter in survey.seen(Sight.STOPPED))
    kept = f", {held} {'is' if held == 1 else 'are'} held" if held else ""
    return f"{running} of {len(survey.voters)} voters run{kept}, a leader needs {survey.quorum}"


def _held(server: ServerObservation) -> bool:
    return server.host is not None and bool(server.host.held_by)


def names(items: tuple[str, ...]) -> str:
    """Join names for a sentence."""
    return ", ".join(items) if len(items) < 3 else ", ".join(items[:-1]) + f" and {items[-1]}"
