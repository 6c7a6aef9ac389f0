"""peers.json as it was before 0.7, where no server can lead alone: two servers lead as a pair, the rest joins them.

The file is the live peer set, an array of "ip:port". Nothing is consumed and no log line tells that it was read:
the proof is the number of peers and the leader. A server that finds its own removal in its log leads for a moment
only; the set that it was elected with outlives it (see old_logs), so a leader comes that stays. One alone would be
stuck for good, and from a file that names itself alone it begins no election (EnableSingleNode). So the smallest
set in which nobody leads without the freshest one's vote: the freshest and one more. All others still have no
peers, so they elect nobody whoever starts them (docs/adr/0016); they are started beside the leader.
"""

from __future__ import annotations

from recovery.diagnosis import PeersEmptied
from recovery.diagnosis.leaderless import mend_the_look
from recovery.diagnosis.survey import blank, position, raft_address
from recovery.model import ClusterObservation, ServerName, ServerObservation, host_of
from recovery.plan import (
    SCHEMA,
    AgentHeld,
    AgentRunning,
    AgentStopped,
    CannotUndo,
    Check,
    Claim,
    ConfigurationIs,
    IsVoter,
    NoLeader,
    NothingToUndo,
    Observe,
    OneHistory,
    PeersFileAbsent,
    PeersFileIs,
    Plan,
    PlanReport,
    Proposal,
    Refusal,
    RemovePeers,
    Risk,
    Silent,
    StartAgent,
    StateArchived,
    Step,
    StepId,
    Undo,
    WritePeers,
)
from recovery.procedures import old_logs, parts, sorting
from recovery.procedures.clients import client_steps
from recovery.procedures.ranking import ranking
from recovery.raftentry import LogPosition, Peer

NAME = "peers-json"
"""The same word as from 0.7 on: what is written follows from the version."""
RAFT_PROTOCOL = 0


def build(
    observation: ClusterObservation,
    diagnosis: PeersEmptied,
    lost: tuple[ServerName, ...],
    *,
    because: tuple[str, ...] = (),
) -> Proposal | Refusal:
    """Plan it, or say what stands against it; ``because`` is why the staged bootstrap cannot be."""
    ranked = old_logs.holders(observation, diagnosis)
    claimed = old_logs.claimed(observation, lost)
    problems = _problems(observation, ranked, claimed)
    if problems:
        silent = [server.name for server in observation.servers if not server.reached and not server.answers]
        hindered = tuple(server.name for server in observation.servers if server.answers)
        return Refusal(
            procedure=NAME,
            reasons=(*because, *problems),
            next_step="Bring them back, or, only if they are gone for good: "
            f"`/consul recover {observation.cluster} --lost {','.join(silent)}`."
            if any(server not in claimed for server in observation.servers if server.name in silent)
            else mend_the_look(hindered)
            if hindered
            else "Nothing was done. Mend what is named above, then ask again.",
        )
    claims = old_logs.claims_of(claimed, observation)
    findings = tuple(f"No staged bootstrap: {reason}" for reason in because)
    return Proposal(
        _plan(observation, ranked, claims), PlanReport(ranking=ranking(observation), findings=findings)
    )


def _problems(
    observation: ClusterObservation, ranked: list[ServerObservation], claimed: list[ServerObservation]
) -> tuple[str, ...]:
    problems = [
        f"{server.name}: {server.absence}, and not claimed as gone."
        for server in observation.servers
        if not server.reached and server not in claimed
    ]
    problems += old_logs.unknown_logs(ranked)
    problems += old_logs.strangers(observation)
    return tuple(problems)


def _plan(
    observation: ClusterObservation, ranked: list[ServerObservation], claims: tuple[Claim, ...]
) -> Plan:
    names = tuple(server.name for server in ranked)
    newest = position(ranked[0])
    addresses = {server.name: raft_address(server, observation) for server in ranked}
    pair, rest = names[:2], names[2:]
    peers = tuple(Peer(address, address, voter=True) for address in sorted(addresses[name] for name in pair))
    everybody = tuple(Peer(address, address, voter=True) for address in sorted(addresses.values()))
    blanks = tuple(server.name for server in observation.servers if server.reached and blank(server))
    everyone = (*names, *blanks)
    silent = tuple(Silent(claim.server, claim.node_id, claim.address) for claim in claims)
    quiet: tuple[Check, ...] = (NoLeader(everyone), *silent)
    holders = tuple(server.name for server in old_logs.freshest(ranked))
    leads = parts.leads(everyone, newest=newest, holders=holders)
    led: tuple[Check, ...] = (leads, *silent)
    gossip = tuple(host_of(addresses[name]) for name in pair)
    steps: list[Step] = []
    steps += [parts.hold(name, before=quiet) for name in everyone]
    steps += [parts.stop(name) for name in everyone]
    steps += [parts.archive(name) for name in names]
    steps += [_write(name, peers, everyone) for name in sorted(pair)]
    down: tuple[Check, ...] = tuple(AgentStopped(name) for name in everyone if name not in pair)
    steps += [
        _start(name, before=(PeersFileIs(name, peers), AgentHeld(name), *down, *quiet)) for name in pair
    ]
    steps.append(parts.leader_stays(pair, at_least=newest, rollback=NothingToUndo("only looks")))
    steps += sorting.take_in(rest, gossip=gossip, start_before=led, restart_before=led)
    steps += [_knows_peers(name, everybody) for name in names]
    for name in blanks:
        steps.append(parts.start_again(name, together="", before=led))
        steps.append(parts.join(name, gossip))
    steps.append(parts.verify(everyone, led=leads))
    steps += client_steps(observation.clients, everyone)
    assumptions: list[Check] = [
        *old_logs.log_assumptions([*ranked, *(observation.server(name) for name in blanks)], observation)
    ]
    if len(ranked) > 1:
        assumptions.append(OneHistory(names[0], names[1:]))
    assumptions += silent
    return Plan(
        schema=SCHEMA,
        procedure=NAME,
        cluster=observation.cluster,
        summary=f"Write peers.json, as it was before 0.7, on {_and(pair)}, which lead together at first "
        f"({names[0]} has the freshest log)" + (f"; then {_and(rest)} join them." if rest else "."),
        claims=claims,
        assumptions=tuple(assumptions),
        warnings=_warnings(observation, ranked, newest, claims),
        steps=tuple(steps),
    )


def _write(name: ServerName, peers: tuple[Peer, ...], everyone: tuple[ServerName, ...]) -> Step:
    return Step(
        id=StepId(f"write-peers-{name}"),
        title=f"Write peers.json with {len(peers)} peer{'' if len(peers) == 1 else 's'} on {name}",
        risk=Risk.IRREVERSIBLE,
        targets=(name,),
        before=(*(AgentStopped(other) for other in everyone), AgentHeld(name), StateArchived(name)),
        action=WritePeers(name, peers, RAFT_PROTOCOL),
        after=(PeersFileIs(name, peers),),
        # Without the file a server has no peers, which is what `null` says too.
        rollback=Undo(RemovePeers(name), (PeersFileAbsent(name),), on_abort=True),
        together="write-peers",
        timeout_s=parts.STOP_S,
    )


def _start(name: ServerName, *, before: tuple[Check, ...]) -> Step:
    return Step(
        id=StepId(f"start-{name}"),
        title=f"Start {name} with these peers",
        risk=Risk.IRREVERSIBLE,
        targets=(name,),
        before=before,
        action=StartAgent(name),
        after=(AgentRunning(name),),
        rollback=CannotUndo("it may vote and take entries; only the archive holds the old state"),
        together="start-pair",
        timeout_s=parts.START_S,
    )


def _knows_peers(name: ServerName, peers: tuple[Peer, ...]) -> Step:
    return Step(
        id=StepId(f"peers-{name}"),
        title=f"Wait until {name} knows all {len(peers)} peers",
        risk=Risk.READ_ONLY,
        targets=(name,),
        before=(),
        action=Observe(),
        after=(IsVoter(name), ConfigurationIs(name, peers)),
        rollback=NothingToUndo("only looks"),
        together="peers",
        timeout_s=parts.VOTER_S,
    )


def _warnings(
    observation: ClusterObservation,
    ranked: list[ServerObservation],
    newest: LogPosition | None,
    claims: tuple[Claim, ...],
) -> tuple[str, ...]:
    warnings = [*old_logs.loss_warnings(observation, ranked, claims)]
    warnings.append(
        "Writes that were never acknowledged may appear: the new leader commits every entry of its log."
    )
    for server in ranked[1:]:
        place = position(server)
        if place is not None and newest is not None and place != newest:
            warnings.append(
                f"{server.name} ends at {place}, the freshest at {newest}: "
                f"what {server.name} holds beside the freshest's history is dropped."
            )
    warnings += [
        f"{server.name} has no data and joins as a new server at the end."
        for server in observation.servers
        if server.reached and blank(server)
    ]
    return tuple(warnings)


def _and(names: tuple[ServerName, ...]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)
