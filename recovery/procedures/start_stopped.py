"""Start what is stopped: the smallest act that heals when enough data is there.

With an unchanged configuration Raft itself keeps every committed entry: it is
on a majority of the voters, and only they elect. The exception is a *blank*
server at a voter's address: it votes for anybody (reference: Raft in Consul,
"blank servers"), so a blank one that runs is stopped first and started last.
Source: Consul's outage recovery guide, "try to bring the servers back first".
"""

from __future__ import annotations

from recovery.diagnosis import Degraded, ServersStopped, survey
from recovery.diagnosis.survey import blank
from recovery.model import ClusterObservation, ServerName
from recovery.plan import SCHEMA, Plan, PlanReport, Proposal, Refusal, Step
from recovery.procedures import parts
from recovery.procedures.ranking import ranking

NAME = "start"


def build(observation: ClusterObservation, diagnosis: ServersStopped | Degraded) -> Proposal | Refusal:
    """Plan the starts; refuse where an unread peers.json would turn a start into a recovery."""
    loaded = [
        server.name
        for server in observation.servers
        if server.name in diagnosis.stopped and server.host is not None and server.host.peers_json is not None
    ]
    if loaded:
        reason = (
            f"An unread peers.json lies on {', '.join(loaded)}: starting there would not start the old "
            "cluster but recover a new one with whatever that file says."
        )
        return Refusal(
            procedure=NAME,
            reasons=(reason,),
            next_step="Find out who wrote it. If nobody needs it, move it away by hand, and ask again.",
        )
    seen = survey(observation)
    voters = {voter.name for voter in seen.voters}
    led = isinstance(diagnosis, Degraded)
    stopped = [observation.server(name) for name in diagnosis.stopped]
    first = tuple(server.name for server in stopped if server.name in voters and not blank(server))
    last = tuple(server.name for server in stopped if server.name not in first)
    running_blanks: tuple[ServerName, ...] = ()
    if not led:
        running_blanks = tuple(
            server.name
            for server in observation.servers
            if server.host is not None and server.host.running and blank(server)
        )
    everyone = tuple(server.name for server in observation.servers if server.reached)
    steps: list[Step] = []
    steps += [parts.hold(name) for name in running_blanks]
    steps += [parts.stop(name) for name in running_blanks]
    steps += [parts.start_again(name, together="start") for name in first]
    steps.append(parts.await_leader(everyone, at_least=None))
    steps += [parts.await_voter(name) for name in first]
    newcomers = (*last, *running_blanks)
    steps += [parts.start_again(name, together="start-new") for name in newcomers]
    steps += [parts.await_voter(name) for name in newcomers]
    steps.append(parts.verify(everyone))
    warnings = [
        f"{server.name} is held by run {server.host.held_by}; starting releases it"
        for server in stopped
        if server.host is not None and server.host.held_by
    ]
    warnings += [
        f"{name} has no data: it is stopped first and started after the leader is back, "
        "because a blank server votes for anybody"
        for name in running_blanks
    ]
    plan = Plan(
        schema=SCHEMA,
        procedure=NAME,
        cluster=observation.cluster,
        summary=f"Start {', '.join((*first, *last))}. No data is lost.",
        claims=(),
        assumptions=(),
        warnings=tuple(warnings),
        steps=_unique(steps),
    )
    return Proposal(plan, PlanReport(ranking=ranking(observation)))


def _unique(steps: list[Step]) -> tuple[Step, ...]:
    return tuple({step.id: step for step in steps}.values())
