"""Sort servers that were started beside a leader into follower and error, and restart what has to be.

As the playbook of old did it: a server in *error* knows no leader (`consul exec` fails with "No cluster
leader", /v1/status/leader is ""); it is stopped and started first, one by one, then followers that are no
peers yet. As data: every server has the steps, a healthy one does not need them.
"""

from __future__ import annotations

from recovery.model import ServerName
from recovery.plan import (
    AgentRunning,
    AgentStopped,
    Check,
    IsVoter,
    JoinGossip,
    KnowsLeader,
    NothingToUndo,
    OverrideAbsent,
    Risk,
    StartAgent,
    Step,
    StepId,
    StopAgent,
    Undo,
)
from recovery.procedures import parts

SORT_S = 20
"""A follower hears of a leader with the next heartbeat, and is a peer once it is seen in gossip (under 5 s)."""


def start_blank(server: ServerName, *, before: tuple[Check, ...]) -> Step:
    """A server without data, beside a leader; alone, because two of them could found a cluster of their own."""
    return Step(
        id=StepId(f"start-{server}"),
        title=f"Start {server}, which has no data",
        risk=Risk.REVERSIBLE,
        targets=(server,),
        before=before,
        action=StartAgent(server),
        after=(AgentRunning(server),),
        rollback=Undo(StopAgent(server), (AgentStopped(server),)),
        timeout_s=parts.START_S,
    )


def take_in(
    servers: tuple[ServerName, ...],
    *,
    gossip: tuple[str, ...],
    start_before: tuple[Check, ...],
    restart_before: tuple[Check, ...],
) -> tuple[Step, ...]:
    """Start servers without peers beside a leader, sort them, and restart those that are no peers of it."""
    return (
        *parts.stage(
            "The rest, sorted into follower and error",
            [
                *(parts.start_beside(name, before=(*start_before, OverrideAbsent(name))) for name in servers),
                *_sort(servers, gossip=gossip),
            ],
        ),
        *parts.stage("Stop and start the error ones", _restart_errors(servers, before=restart_before)),
        *parts.stage(
            "Stop and start followers that are no peers yet",
            _restart_followers(servers, before=restart_before),
        ),
    )


def _sort(servers: tuple[ServerName, ...], *, gossip: tuple[str, ...]) -> list[Step]:
    """See who follows the leader and is its peer; who is not is named, and the next steps are for it."""
    return [
        Step(
            id=StepId(f"sort-{server}"),
            title=f"Sort {server}: follower and peer of the leader, or error (knows no leader)",
            risk=Risk.REVERSIBLE,
            targets=(server,),
            before=(),
            action=JoinGossip(server, gossip),
            after=(KnowsLeader(server), IsVoter(server)),
            rollback=NothingToUndo("gossip only; the leader decides whom it adds"),
            together="sort",
            timeout_s=SORT_S,
            optional=True,
        )
        for server in servers
    ]


def _restart_errors(servers: tuple[ServerName, ...], *, before: tuple[Check, ...]) -> list[Step]:
    """Those that know no leader, one by one, each until it is a peer."""
    return [
        step
        for server in servers
        for step in _restart(server, "error", "it knows no leader", KnowsLeader(server), before)
    ]


def _restart_followers(servers: tuple[ServerName, ...], *, before: tuple[Check, ...]) -> list[Step]:
    """Those that are still no peers, one by one, each until it is one."""
    return [
        step
        for server in servers
        for step in _restart(server, "follower", "it is no peer yet", IsVoter(server), before)
    ]


def _restart(
    server: ServerName, kind: str, why: str, unless: Check, before: tuple[Check, ...]
) -> tuple[Step, Step]:
    return (
        Step(
            id=StepId(f"stop-{kind}-{server}"),
            title=f"Stop {server} if {why}, without a leave",
            risk=Risk.REVERSIBLE,
            targets=(server,),
            unless=(unless,),
            before=before,
            action=StopAgent(server),
            after=(AgentStopped(server),),
            rollback=Undo(StartAgent(server), (AgentRunning(server),)),
            timeout_s=parts.STOP_S,
        ),
        Step(
            id=StepId(f"start-{kind}-{server}"),
            title=f"Start {server} again, and wait until it is a peer",
            risk=Risk.REVERSIBLE,
            targets=(server,),
            unless=(unless,),
            before=before,
            action=StartAgent(server),
            after=(AgentRunning(server), IsVoter(server)),
            rollback=Undo(StopAgent(server), (AgentStopped(server),)),
            timeout_s=parts.START_S,
        ),
    )
