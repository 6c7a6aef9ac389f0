"""Client agents as the last stage: stopped and started in batches, each until it is a member again.

They hold no Raft data; a client that stays away costs its own services only. So one that fails is noted and
the run goes on, until more are missing than the budget allows: then something is wrong with all of them.
"""

from __future__ import annotations

from recovery.model import ClientAgent, ServerName
from recovery.plan import (
    AgentRunning,
    AgentStopped,
    IsMember,
    MembersBack,
    NothingToUndo,
    Observe,
    Risk,
    StartAgent,
    Step,
    StepId,
    StopAgent,
    Undo,
)
from recovery.procedures import parts

BATCH = 10
CLIENT_S = 60
"""A client joins by its own configuration; gossip spreads it in seconds."""


def client_steps(clients: tuple[ClientAgent, ...], servers: tuple[ServerName, ...]) -> tuple[Step, ...]:
    """Stop and start all clients; of several one, of more than ten a tenth may be missing after each batch."""
    budget = max(len(clients) // 10, 1 if len(clients) > 1 else 0)
    size = min(BATCH, max(1, -(-len(clients) // 4)))
    steps: list[Step] = []
    for first in range(0, len(clients), size):
        batch = tuple(client.name for client in clients[first : first + size])
        number = first // size + 1
        so_far = tuple(client.name for client in clients[: first + size])
        steps += parts.stage(
            f"Client agents stopped and started: {', '.join(batch)}",
            [
                *(_stop(name, number) for name in batch),
                *(_start(name, number, servers) for name in batch),
                _budget(so_far, number, budget, servers),
            ],
        )
    return tuple(steps)


def _stop(client: ServerName, batch: int) -> Step:
    return Step(
        id=StepId(f"stop-client-{client}"),
        title=f"Stop the client agent {client}",
        risk=Risk.REVERSIBLE,
        targets=(client,),
        before=(),
        action=StopAgent(client),
        after=(AgentStopped(client),),
        rollback=Undo(StartAgent(client), (AgentRunning(client),)),
        together=f"stop-clients-{batch}",
        timeout_s=parts.STOP_S,
        optional=True,
    )


def _start(client: ServerName, batch: int, servers: tuple[ServerName, ...]) -> Step:
    return Step(
        id=StepId(f"start-client-{client}"),
        title=f"Start the client agent {client}, and wait until it is a member",
        risk=Risk.REVERSIBLE,
        targets=(client,),
        before=(),
        action=StartAgent(client),
        after=(AgentRunning(client), IsMember(client, servers)),
        rollback=NothingToUndo("a client agent is meant to run"),
        together=f"start-clients-{batch}",
        timeout_s=CLIENT_S,
        optional=True,
    )


def _budget(
    clients: tuple[ServerName, ...], batch: int, budget: int, servers: tuple[ServerName, ...]
) -> Step:
    return Step(
        id=StepId(f"clients-{batch}"),
        title=f"See that at most {budget} of the {len(clients)} client agents so far are missing"
        if len(clients) > 1
        else f"See that {clients[0]} is not missing",
        risk=Risk.READ_ONLY,
        targets=clients,
        before=(),
        action=Observe(),
        after=(MembersBack(clients, budget, servers),),
        rollback=NothingToUndo("only looks"),
        timeout_s=CLIENT_S,
    )
