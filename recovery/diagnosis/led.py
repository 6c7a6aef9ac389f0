"""Situations with a leader: healthy, degraded, and one leader too many."""

from __future__ import annotations

from recovery.diagnosis.evidence import hold_lines, names, override_lines, server_lines, voter_line
from recovery.diagnosis.situations import Degraded, Healthy, TwoLeaders
from recovery.diagnosis.survey import Sight, Survey


def two_leaders(seen: Survey) -> TwoLeaders:
    """More than one server names itself leader: only look, a person must judge."""
    return TwoLeaders(
        headline=f"{seen.observation.cluster} has {len(seen.leaders)} servers that name themselves leader: "
        f"{names(seen.leaders)}",
        evidence=server_lines(seen),
        advice="An old leader may not have noticed yet: look again in 10 s. If it stays, these are two "
        "clusters: keep clients away from the wrong one, and stop its server by hand. "
        "The bot does nothing here.",
        leaders=seen.leaders,
    )


def healthy(seen: Survey) -> Healthy | None:
    """One leader; every voter runs, every server of the settings is a voter."""
    problems = _problems(seen)
    if problems:
        return None
    tolerates = len(seen.voters) - seen.quorum
    return Healthy(
        headline=f"{seen.observation.cluster} is healthy: leader {seen.leaders[0]}, "
        f"{len(seen.voters)} of {len(seen.voters)} voters (tolerates {tolerates} "
        f"failure{'' if tolerates == 1 else 's'})",
        evidence=server_lines(seen),
        advice="Nothing to do.",
        leader=seen.leaders[0],
    )


def degraded(seen: Survey) -> Degraded:
    """A leader, but not everybody is there."""
    stopped = tuple(
        server.name
        for server in seen.observation.servers
        if server.host is not None and not server.host.running and not server.host.fenced_by
    )
    problems = _problems(seen)
    fenced = tuple(
        server.name
        for server in seen.observation.servers
        if server.host is not None and server.host.fenced_by
    )
    back = (
        f"`/consul readmit {seen.observation.cluster} {fenced[0]}` takes {fenced[0]} back" if fenced else ""
    )
    if stopped:
        advice = f"Start {names(stopped)}: `/consul recover {seen.observation.cluster}` proposes it." + (
            f" After that: {back}." if back else ""
        )
    elif override_lines(seen) or hold_lines(seen):
        advice = f"`/consul recover {seen.observation.cluster}` proposes to take off what was left behind."
    elif back:
        advice = (
            f"{names(fenced)} {'is' if len(fenced) == 1 else 'are'} fenced, left out by a recovery: {back}."
        )
    else:
        advice = (
            "There is a leader, so nothing is recovered here. Look at the servers named above one by one."
        )
    return Degraded(
        headline=f"{seen.observation.cluster} has a leader ({seen.leaders[0]}) but is degraded: {problems[0]}",
        evidence=(*problems[1:], *server_lines(seen)),
        advice=advice,
        leader=seen.leaders[0],
        stopped=stopped,
    )


def _problems(seen: Survey) -> tuple[str, ...]:
    problems = [voter_line(voter) for voter in seen.voters if voter.sight is not Sight.RUNNING]
    for name in seen.others:
        server = seen.server(name)
        if server.host is not None and server.host.fenced_by:
            problems.append(f"{name} is fenced by run {server.host.fenced_by}, and no voter")
            continue
        running = server.host is not None and server.host.running
        problems.append(f"{name} is {'running' if running else 'stopped'} but no voter")
    problems += override_lines(seen)
    problems += hold_lines(seen)
    for server in seen.observation.servers:
        known = any(voter.name == server.name for voter in seen.voters)
        if not server.reached and not known:
            problems.append(f"{server.name}: {server.absence}")
        if server.reached and server.agent is None and server.host is not None and server.host.running:
            problems.append(f"{server.name}: agent does not answer: {server.agent_problem}")
    return tuple(problems)
