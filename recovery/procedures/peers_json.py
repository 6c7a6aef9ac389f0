"""peers.json recovery (Consul 0.7 and newer): the freshest survivor leads alone, then the others join it.

Source: Consul's disaster recovery guide ("manual recovery using peers.json"),
agent/consul/server.go setupRaft and hashicorp/raft RecoverCluster; the order
is our own, from what was measured. The documentation gives all survivors the
same set and starts them together: that lost acknowledged writes in 4 of 22
trials, because two stale servers elected each other before the freshest one
voted. A quorum with the freshest in it is enough only while no other hand
starts a held one: with two stale ones started by configuration management the
key was gone in 3 of 3 (docs/adr/0016). So: everything stopped and held, logs
read from the files, archived, approved; then one server, the freshest, gets a
peers.json with itself as the only voter. Nobody else can be elected: the
majority of the old set is gone, and the new set is one server. Once it leads
and holds the newest entry, the others are started with the data that they
have and no peers.json; gossip brings them, the leader adds them, autopilot
promotes them. Blank servers come last.
"""

from __future__ import annotations

from recovery.diagnosis import MajorityGone, ServersStopped, Sight, Survey, VoterSight, survey
from recovery.diagnosis.leaderless import mend_the_look
from recovery.diagnosis.survey import (
    blank,
    elects_itself,
    has_files,
    is_peer,
    of_older_sets,
    position,
    raft_address,
)
from recovery.diagnosis.versions import live_peers_file
from recovery.model import ClusterObservation, NodeId, ServerName, ServerObservation, host_of
from recovery.plan import (
    SCHEMA,
    AgentHeld,
    AgentStopped,
    Check,
    ConfigurationIs,
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
from recovery.procedures.claims import claimable, claims, left_out_are_silent, unaccounted
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
    survivors = seen.survivors
    problems = _problems(seen, survivors)
    if problems:
        missing = ",".join(dict.fromkeys((*lost, *(v.claim_as for v in claimable(seen)))))
        hindered = tuple(server.name for server in observation.servers if server.answers)
        return Refusal(
            procedure=NAME,
            reasons=problems,
            next_step=f"Bring them back, or, only if they are gone for good: "
            f"`/consul recover {observation.cluster} --lost {missing}`."
            if claimable(seen)
            else mend_the_look(hindered)
            if hindered
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
                f"{server.name}: {server.absence}, and it is no voter, so nobody can "
                "claim it: bring it back, or take it out of the settings and restart the bot."
            )
        elif not server.reached and not _claimed(server, seen):
            problems.append(f"{server.name}: {server.absence}, and not claimed.")
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
    problems += _lead_alone(seen, survivors)
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


def _lead_alone(seen: Survey, survivors: list[ServerObservation]) -> list[str]:
    """Which survivor beside the freshest would elect itself: as leader it makes the others take its stale log."""
    newest = max((place for s in survivors if (place := position(s)) is not None), default=None)
    return [
        f"{server.name} knows no other voter than itself and ends at {position(server)}, the freshest at {newest}: "
        f"started beside the leader {server.name} would elect itself, and the newest entries could be lost. Archive "
        "and empty its raft directory by hand; without data it joins as a new server."
        for server in survivors
        if position(server) != newest and elects_itself(server, seen.observation)
    ]


def protocol(server: ServerObservation) -> int:
    """The Raft protocol a server is configured with, 2 for 1 as well; 0 if nothing tells it.

    Below 3 all name peers by their addresses, and peers.json is written alike (measured on 0.7.5, which says 1).

    From the agent; of a stopped one from its configuration: only protocol 3
    has ids that are not addresses. Where ids still are addresses, a Consul from
    1.0 on may all the same be set to protocol 3, its default (consul#3580).
    """
    if server.agent is not None and server.agent.raft_protocol:
        return max(server.agent.raft_protocol, 2)
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
    alone, rest = ranked[0], tuple(ranked[1:])
    newest = position(observation.server(alone))
    by_name = {voter.name: voter for voter in survivors}
    version = protocol(observation.server(alone))
    address = by_name[alone].address
    # Its own id, not the one that the old set has for it: after an upgrade that may still be an address.
    me = Peer(observation.server(alone).node_id if version >= 3 else address, address, voter=True)
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
    silent = tuple(Silent(claim.server, claim.node_id, claim.address) for claim in claimed)
    steps: list[Step] = [
        parts.save_snapshot(name)
        for name in ranked
        if (agent := observation.server(name).agent) is not None and agent.stale_reads
    ]
    # An approval may be minutes old: nothing is touched where a leader or a lost server is back.
    quiet: tuple[Check, ...] = (
        NoLeader(tuple(server.name for server in observation.servers if server.reached)),
        # Whom this plan fences itself is reached, and kept from starting only then.
        *(check for check in silent if check.name not in {name for name, _ in fenced}),
    )
    steps += [parts.hold(name, before=quiet) for name in touched]
    steps += [parts.stop(name) for name in touched]
    steps += [parts.fence(name, why=why) for name, why in fenced]
    steps += [parts.archive(name) for name in touched if has_files(observation.server(name))]
    steps += [parts.archive(name, fenced=True) for name, _ in fenced]
    steps.append(_write(alone, me, version, touched))
    steps.append(
        parts.start_recovered(
            alone,
            # Asked again at each try: a retry may come hours later, when the lost ones are back and lead.
            before=(
                PeersFileIs(alone, (me,)),
                AgentHeld(alone),
                *(AgentStopped(name) for name in touched if name != alone),
                NoLeader(touched),
                *silent,
            ),
            after=(ConfigurationIs(alone, (me,)),),
        )
    )
    holders = tuple(name for name in ranked if position(observation.server(name)) == newest)
    # All of them are asked: one of the others may lead too, whoever started it.
    led = parts.leads(touched, newest=newest, holders=holders)
    steps.append(parts.await_lone_leader(alone, led=led, newest=newest))
    gossip = (host_of(address),)
    beside = {
        name: (PeersFileAbsent(name), led, *dict.fromkeys((*silent, *left_out_are_silent(name, seen))))
        for name in rest
    }
    if _cannot_elect(rest, seen):
        steps += [parts.start_beside(name, before=beside[name]) for name in rest]
        steps += [parts.join(name, gossip) for name in rest]
    else:
        # Each is told of the new set before the next one starts: together they could still elect by their old one.
        for name in rest:
            steps.append(parts.leads_on(name, led=led))
            steps.append(parts.start_beside(name, before=beside[name], together=""))
            steps.append(parts.join(name, gossip))
    for name in blanks:
        # One by one: two of them that see each other before the leader could found a cluster of their own.
        steps.append(parts.leads_on(name, led=led))
        steps.append(parts.start_again(name, together="", before=(led, PeersFileAbsent(name))))
        steps.append(parts.join(name, gossip))
    steps.append(parts.verify((*ranked, *blanks), led=led))
    assumptions: list[Check] = [
        LogIs(
            name,
            # A rebuilt machine whose agent never ran has no id yet; the address stands for it.
            NodeId(observation.server(name).node_id or raft_address(observation.server(name), observation)),
            position(observation.server(name)),
        )
        for name in touched
    ]
    if rest:
        assumptions.append(OneHistory(alone, rest))
    assumptions += silent
    return Plan(
        schema=SCHEMA,
        procedure=NAME,
        cluster=observation.cluster,
        summary=f"Make {alone}, which has the freshest log, lead alone by peers.json"
        + (f"; then {_and(rest)} join{'s' if len(rest) == 1 else ''} it" if rest else "")
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


def _cannot_elect(rest: tuple[ServerName, ...], seen: Survey) -> bool:
    """Whether these servers, started together with the peer sets they have, are too few to elect one of them.

    The leader and the claimed ones do not count: the one gives no vote while it leads, the others are silent.
    """

    def votes(name: ServerName) -> tuple[int, int]:
        peers = [peer for peer in seen.server(name).configuration if peer.voter]
        there = [
            peer
            for peer in peers
            if any(is_peer(seen.server(n), NodeId(peer.id), peer.address, seen.observation) for n in rest)
        ]
        return len(there), len(peers) // 2 + 1

    return all(there < needed for there, needed in map(votes, rest))


def _rank(server: ServerObservation) -> tuple[int, int, str]:
    place = position(server) or LogPosition(0, 0)
    # Equal logs may start together; the name only makes the order the same every time.
    return place.term, place.index, server.name


def _why_fenced(server: ServerObservation) -> str:
    if server.stored_problem:
        return "its log cannot be read"
    return "it is no voter of this cluster but holds data of its own"


def _write(name: ServerName, me: Peer, version: int, touched: tuple[ServerName, ...]) -> Step:
    return Step(
        id=StepId(f"write-peers-{name}"),
        title=f"Write peers.json on {name} alone, with {name} as the only voter",
        # Still to be taken back, but it is a loaded gun: whoever starts the agent recovers with it.
        risk=Risk.IRREVERSIBLE,
        targets=(name,),
        before=(
            *(AgentStopped(other) for other in touched),
            AgentHeld(name),
            StateArchived(name),
        ),
        action=WritePeers(name, (me,), version),
        after=(PeersFileIs(name, (me,)),),
        rollback=Undo(RemovePeers(name), (PeersFileAbsent(name),), on_abort=True),
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
    voters = [voter for voter in seen.voters if voter.name in ranked]
    if len(voters) < seen.quorum:
        warnings.append(
            f"Newer writes may be lost: only {len(voters)} of {len(seen.voters)} voters could be ranked, "
            "so what only the lost servers held is gone."
        )
    if not any(voter.name == ranked[0] for voter in voters):
        warnings.append(
            f"{ranked[0]} has had no vote so far; no voter that is left has a fresher log, so it becomes the first one."
        )
    if len(ranked) > 1 or blanks:
        warnings.append(
            f"{ranked[0]} is the only voter until another one has joined it, some ten seconds: what is written in that "
            "time is on its disk alone."
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
