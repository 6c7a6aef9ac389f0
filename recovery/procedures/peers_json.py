"""peers.json recovery (Consul 0.7 and newer): a new peer set from the survivors.

Source: Consul's disaster recovery guide ("manual recovery using peers.json"),
agent/consul/server.go setupRaft and hashicorp/raft RecoverCluster; the order
is our own, from what was measured: the documentation starts all servers
together, and that lost acknowledged writes in 4 of 22 trials, because two
stale servers elected each other before the freshest one voted. So: everything
stopped and held, logs read from the files, archived, approved; then exactly a
quorum that contains the freshest, a leader that has its last index, and only
then the rest; blank servers last and never listed.
"""

from __future__ import annotations

from recovery.diagnosis import MajorityGone, ServersStopped, Sight, Survey, VoterSight, survey
from recovery.diagnosis.survey import blank, has_files, of_older_sets, position, raft_address
from recovery.diagnosis.versions import live_peers_file
from recovery.model import ClusterObservation, NodeId, ServerName, ServerObservation, host_of
from recovery.plan import (
    SCHEMA,
    AgentHeld,
    AgentStopped,
    Check,
    ConfigurationIs,
    IsVoter,
    LeaderElected,
    LogIs,
    NoLeader,
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
    StateArchived,
    Step,
    StepId,
    Undo,
    WritePeers,
)
from recovery.procedures import parts
from recovery.procedures.claims import claims, unaccounted
from recovery.procedures.ranking import ranking
from recovery.raftentry import LogPosition, Peer

NAME = "peers-json"

_BARE = (
    "The data directory of {0} is empty, as if its agent had never run: is a disk not mounted there? Then mount it and "
    "ask again. Started so, it would be a new server beside the one on that disk."
)
_BIGGER = (
    "This was asked for by --method: enough voters are there to elect a leader without it. Starting what is "
    "stopped would heal too, and loses nothing."
)


def build(
    observation: ClusterObservation, diagnosis: MajorityGone | ServersStopped, lost: tuple[ServerName, ...]
) -> Proposal | Refusal:
    """Plan the recovery, or say everything that stands against it at once."""
    seen = survey(observation, lost)
    survivors = seen.seen(Sight.RUNNING, Sight.STOPPED)
    problems = _problems(seen, survivors)
    if problems:
        missing = ",".join(dict.fromkeys((*lost, *(v.claim_as for v in unaccounted(seen)))))
        return Refusal(
            procedure=NAME,
            reasons=problems,
            next_step=f"Bring them back, or, only if they are gone for good: "
            f"`/consul recover {observation.cluster} --lost {missing}`."
            if unaccounted(seen)
            else "Nothing was done. Mend what is named above, then ask again.",
        )
    bigger = isinstance(diagnosis, ServersStopped) and not of_older_sets(seen)
    return Proposal(_plan(seen, survivors, bigger=bigger), PlanReport(ranking=ranking(observation)))


def _problems(seen: Survey, voters: tuple[VoterSight, ...]) -> tuple[str, ...]:
    problems = [
        f"{voter.name} ({voter.address}, id {voter.node_id[:8]}) is {voter.sight} and not claimed: every "
        "voter must be seen or said to be gone for good."
        for voter in unaccounted(seen)
    ]
    for server in seen.observation.servers:
        if not server.reached and not _is_voter(server, seen):
            problems.append(
                f"{server.name}: host not reachable ({server.host_problem}), and it is no voter, so nobody can "
                "claim it: bring it back, or take it out of the settings and restart the bot."
            )
        elif not server.reached and not _claimed(server, seen):
            problems.append(f"{server.name}: host not reachable ({server.host_problem}), and not claimed.")
        if server.host is not None and server.host.wal:
            problems.append(
                f"{server.name} keeps its log in the WAL format, which this bot cannot read: "
                "who holds which entries cannot be confirmed."
            )
    survivors = [seen.server(voter.name) for voter in voters]
    problems += [
        f"{server.name}: its last log position is not known ({server.agent_problem or server.stored_problem})."
        for server in survivors
        if position(server) is None
    ]
    problems += [f"{server.name}: its node id is not known." for server in survivors if not server.node_id]
    problems += [
        f"{server.name} shows no members at all: its token may not read nodes, so no claim can be checked. Give "
        "the bot the agent recovery token."
        for server in survivors
        if server.agent is not None and not server.agent.members
    ]
    problems += _left_out(seen, survivors)
    protocols = {protocol(server) for server in survivors}
    if len(protocols) > 1 or 0 in protocols:
        problems.append(
            "The survivors' Raft protocol version is not known or not the same: the format of peers.json "
            "depends on it. A running agent tells its own: start those that are stopped, one by one."
        )
    for server in survivors:
        if live_peers_file(server):
            problems.append(f"{server.name} runs Consul below 0.7: there peers.json is a live file.")
    return tuple(problems)


def _is_voter(server: ServerObservation, seen: Survey) -> bool:
    return any(
        server.name == v.name or server.address == host_of(v.address) for v in (*seen.voters, *seen.former)
    )


def _claimed(server: ServerObservation, seen: Survey) -> bool:
    return server.name in seen.lost or any(
        seen.claimed(voter) and (server.name == voter.name or server.address == host_of(voter.address))
        for voter in (*seen.voters, *seen.former)
    )


def _left_out(seen: Survey, survivors: list[ServerObservation]) -> list[str]:
    """What stands against leaving a reached server with data out: it may know more, or belong elsewhere."""
    newest = max((place for s in survivors if (place := position(s)) is not None), default=None)
    home = {s.agent.datacenter for s in survivors if s.agent is not None and s.agent.datacenter}
    problems: list[str] = []
    for server in seen.observation.servers:
        if not server.reached or server in survivors or blank(server):
            continue
        place = position(server)
        claimed = any(seen.claimed(voter) and voter.name == server.name for voter in seen.voters)
        if place is None and not claimed:
            problems.append(
                f"{server.name} is no voter that could be used, and its log is not known "
                f"({server.agent_problem or server.stored_problem or 'not told'}): it may hold newer writes."
            )
        if place is not None and newest is not None and place > newest:
            problems.append(
                f"{server.name} ends at {place}, after every survivor: leaving "
                "it out would lose what only it holds."
            )
        agent = server.agent
        if agent is not None and (agent.leader_address or (home and agent.datacenter not in {"", *home})):
            problems.append(
                f"{server.name} follows a leader or belongs to another datacenter: is its address in the "
                "settings right?"
            )
    return problems


def protocol(server: ServerObservation) -> int:
    """The Raft protocol a server is configured with; 0 if nothing tells it.

    From the agent; of a stopped one from its configuration: only protocol 3
    has ids that are not addresses. Where ids still are addresses, a Consul from
    1.0 on may all the same be set to protocol 3, its default (consul#3580).
    """
    if server.agent is not None and server.agent.raft_protocol:
        return server.agent.raft_protocol
    if not server.configuration:
        return 0
    if all(peer.id != peer.address for peer in server.configuration):
        return 3
    return 2 if server.host is not None and server.host.version.startswith("0.") else 0


def _plan(seen: Survey, survivors: tuple[VoterSight, ...], *, bigger: bool) -> Plan:
    observation = seen.observation
    ranked = sorted(
        (ServerName(voter.name) for voter in survivors),
        key=lambda name: _rank(observation.server(name)),
        reverse=True,
    )
    freshest = ranked[0]
    newest = position(observation.server(freshest))
    by_name = {voter.name: voter for voter in survivors}
    version = protocol(observation.server(freshest))
    peers = tuple(
        Peer(
            # Its own id, not the one that the old set has for it: after an upgrade that may still be an address.
            id=observation.server(name).node_id if version >= 3 else by_name[name].address,
            address=by_name[name].address,
            voter=True,
        )
        for name in sorted(ranked)
    )
    quorum = len(ranked) // 2 + 1
    first, rest = tuple(ranked[:quorum]), tuple(ranked[quorum:])
    blanks = tuple(
        server.name
        for server in observation.servers
        if server.reached and server.name not in by_name and blank(server)
    )
    fenced = tuple(
        (server.name, _why_fenced(server))
        for server in observation.servers
        if server.reached and server.name not in by_name and server.name not in blanks
    )
    touched = (*blanks, *ranked)
    claimed = claims(seen)
    steps: list[Step] = [
        parts.save_snapshot(name)
        for name in ranked
        if (agent := observation.server(name).agent) is not None and agent.stale_reads
    ]
    # An approval may be minutes old: nothing is touched where a leader or a lost server is back.
    quiet: tuple[Check, ...] = (
        NoLeader(tuple(server.name for server in observation.servers if server.reached)),
        *(
            Silent(claim.server, claim.node_id, claim.address)
            for claim in claimed
            # Whom this plan fences itself is reached, and kept from starting only then.
            if claim.server not in {name for name, _ in fenced}
        ),
    )
    steps += [parts.hold(name, before=quiet) for name in touched]
    steps += [parts.stop(name) for name in touched]
    steps += [parts.fence(name, why=why) for name, why in fenced]
    steps += [parts.archive(name) for name in touched if has_files(observation.server(name))]
    steps += [parts.archive(name, fenced=True) for name, _ in fenced]
    steps += [_write(name, peers, version, touched) for name in sorted(ranked)]
    # Exactly these start now. One more that somebody started by hand would be a vote nobody planned.
    others_down = tuple(AgentStopped(name) for name in touched if name not in first)
    silent = tuple(Silent(claim.server, claim.node_id, claim.address) for claim in claimed)
    # Asked again at each try: a retry may come hours later, when the lost ones are back and lead.
    still_quiet: tuple[Check, ...] = (
        NoLeader(touched),
        *silent,
    )
    steps += [
        parts.start_recovered(
            name,
            before=(PeersFileIs(name, peers), AgentHeld(name), *others_down, *still_quiet),
            after=(ConfigurationIs(name, peers),),
            together="start-quorum",
        )
        for name in first
    ]
    steps.append(parts.await_leader(first, at_least=newest))
    led = LeaderElected(tuple(ranked), newest)
    steps += [
        parts.start_recovered(
            name,
            before=(PeersFileIs(name, peers), led),
            after=(ConfigurationIs(name, peers), IsVoter(name)),
            together="start-rest",
        )
        for name in rest
    ]
    gossip = tuple(by_name[name].address.rpartition(":")[0] for name in ranked)
    for name in blanks:
        # One by one: two of them that see each other before the leader could found a cluster of their own.
        steps.append(parts.start_again(name, together="", before=(led, PeersFileAbsent(name))))
        steps.append(parts.join(name, gossip))
    steps.append(parts.verify((*ranked, *blanks)))
    assumptions: list[Check] = [
        LogIs(
            name,
            # A rebuilt machine whose agent never ran has no id yet; the address stands for it.
            NodeId(observation.server(name).node_id or raft_address(observation.server(name), observation)),
            position(observation.server(name)),
        )
        for name in touched
    ]
    if len(ranked) > 1:
        assumptions.append(OneHistory(freshest, tuple(ranked[1:])))
    assumptions += silent
    return Plan(
        schema=SCHEMA,
        procedure=NAME,
        cluster=observation.cluster,
        summary=f"Make {_and(ranked)} the new peer set by peers.json, starting with the freshest ({freshest})"
        + (f"; then take {_and(blanks)} in as new servers" if blanks else "")
        + ".",
        claims=claimed,
        assumptions=tuple(assumptions),
        warnings=(
            *((_BIGGER,) if bigger else ()),
            *_warnings(seen, ranked, blanks, fenced, newest),
        ),
        steps=tuple(steps),
    )


def _rank(server: ServerObservation) -> tuple[int, int, str]:
    place = position(server) or LogPosition(0, 0)
    # Equal logs may start together; the name only makes the order the same every time.
    return place.term, place.index, server.name


def _why_fenced(server: ServerObservation) -> str:
    if server.stored_problem:
        return "its log cannot be read"
    return "it is no voter of this cluster but holds data of its own"


def _write(name: ServerName, peers: tuple[Peer, ...], version: int, touched: tuple[ServerName, ...]) -> Step:
    return Step(
        id=StepId(f"write-peers-{name}"),
        title=f"Write peers.json with {len(peers)} peer{'' if len(peers) == 1 else 's'} on {name}",
        # Still to be taken back, but it is a loaded gun: whoever starts the agent recovers with it.
        risk=Risk.IRREVERSIBLE,
        targets=(name,),
        before=(
            *(AgentStopped(other) for other in touched),
            AgentHeld(name),
            StateArchived(name),
        ),
        action=WritePeers(name, peers, version),
        after=(PeersFileIs(name, peers),),
        rollback=Undo(RemovePeers(name), (PeersFileAbsent(name),), on_abort=True),
        together="write-peers",
        timeout_s=parts.STOP_S,
    )


def _warnings(
    seen: Survey,
    ranked: list[ServerName],
    blanks: tuple[ServerName, ...],
    fenced: tuple[tuple[ServerName, str], ...],
    newest: LogPosition | None,
) -> tuple[str, ...]:
    observation = seen.observation
    warnings: list[str] = []
    if len(ranked) < seen.quorum:
        warnings.append(
            f"Newer writes may be lost: only {len(ranked)} of {len(seen.voters)} voters could be ranked, "
            "so what only the lost servers held is gone."
        )
    warnings.append(
        "Writes that were never acknowledged may appear: recovery commits every entry of the log."
    )
    for name in ranked[1:]:
        place = position(observation.server(name))
        if place is not None and newest is not None and place != newest:
            warnings.append(
                f"{name} ends at {place}, the freshest at {newest}: "
                f"what {name} holds beside the freshest's history is dropped."
            )
    warnings += [
        f"{voter.name} (id {voter.node_id[:8]}, {voter.address}): if this server ever comes back, "
        "it must not be started; wipe its raft directory first."
        for voter in seen.seen(Sight.UNREACHED, Sight.UNMATCHED, Sight.REPLACED, Sight.BARE)
        if seen.claimed(voter)
    ]
    without_snapshot = [
        name for name in ranked if (agent := observation.server(name).agent) is None or not agent.stale_reads
    ]
    if without_snapshot:
        warnings.append(
            f"{_and(without_snapshot)} give{'s' if len(without_snapshot) == 1 else ''} no stale snapshot "
            "any more; the archive of the raft directory is the way back."
        )
    warnings += [f"{name} is fenced and stays out ({why})." for name, why in fenced]
    warnings += [f"{name} has no data and joins as a new server at the end." for name in blanks]
    warnings += [
        _BARE.format(voter.name) for voter in (*seen.voters, *seen.former) if voter.sight is Sight.BARE
    ]
    return tuple(warnings)


def _and(names: list[ServerName] | tuple[ServerName, ...]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)
