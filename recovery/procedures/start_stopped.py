"""Start what is stopped: the smallest act that heals when enough data is there.

With an unchanged configuration Raft itself keeps every committed entry: it is
on a majority of the voters, and only they elect. The exception is a *blank*
server at a voter's address: it votes for anybody (reference: Raft in Consul,
"blank servers"), so a blank one that runs is stopped first and started last.
Source: Consul's outage recovery guide, "try to bring the servers back first".
"""

from __future__ import annotations

from recovery.diagnosis import Degraded, ServersStopped, Sight, Survey, survey
from recovery.diagnosis.survey import (
    believed_peers,
    blank,
    elects_itself,
    is_peer,
    of_older_sets,
    position,
    raft_address,
    unread_configuration,
)
from recovery.diagnosis.versions import live_peers_file
from recovery.model import ClusterObservation, NodeId, ServerName, ServerObservation, host_of
from recovery.plan import (
    SCHEMA,
    Check,
    LeaderElected,
    PeersFileAbsent,
    Plan,
    PlanReport,
    Proposal,
    Refusal,
    StateArchived,
    Step,
)
from recovery.procedures import configured, parts
from recovery.procedures.claims import left_out_are_silent
from recovery.procedures.ranking import ranking

NAME = "start"

_MUTE = (
    "{} runs and does not tell its log: if it is blank, it votes for anybody, and a stale server could win."
)


def build(observation: ClusterObservation, diagnosis: ServersStopped | Degraded) -> Proposal | Refusal:
    """Plan the starts; refuse where an unread peers.json would turn a start into a recovery."""
    unread = {
        server.name: server.host.held_by
        for server in observation.servers
        if server.name in diagnosis.stopped
        and server.host is not None
        and server.host.peers_json is not None
        and not live_peers_file(server)
    }
    # Written only behind a hold: what lies where one is in force, a run of ours has left there.
    loaded = [name for name, run in unread.items() if not run]
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
    voters = {voter.name for voter in seen.seen(Sight.STOPPED)}
    led = isinstance(diagnosis, Degraded)
    # Of another one nobody knows whether it is a voter; it stays as it is.
    known = tuple(name for name in diagnosis.stopped if not unread_configuration(observation.server(name)))
    if not known and (answer := configured.refused(NAME, observation, diagnosis.stopped)):
        return answer
    stopped = [observation.server(name) for name in known]
    unsure = [s for s in observation.servers if s.origin_problem]
    if unsure:
        return Refusal(
            procedure=NAME,
            reasons=tuple(
                f"{s.name}: whether its peer set comes from a recovery could not be seen ({s.origin_problem})."
                for s in unsure
            ),
            next_step="Two servers' peer sets differ, so this has to be known before one is started. Ask again.",
        )
    older = tuple(name for name in of_older_sets(seen) if name in voters)
    first = tuple(
        server.name
        for server in stopped
        if server.name in voters
        and server.name not in older
        and not blank(server)
        and not _stray(server, seen)
    )
    foreign = tuple(
        s.name
        for s in stopped
        if s.name not in (*first, *older) and not blank(s) and not (_may_join(s, seen) or _peerless(s, seen))
    )
    empty = tuple(voter.name for voter in seen.seen(Sight.BARE))
    last = tuple(s.name for s in stopped if s.name not in (*first, *foreign, *older, *empty))
    there = len(seen.seen(Sight.RUNNING, Sight.STOPPED)) - len(of_older_sets(seen))
    if older and not ((first or last) and (led or there >= seen.quorum)):
        reasons = tuple(_older_set_line(name, seen) for name in older)
        return Refusal(procedure=NAME, reasons=reasons, next_step=_after_a_recovery(seen, led=led))
    if not (first or last):
        return Refusal(
            procedure=NAME,
            reasons=(
                *(_foreign_line(name, seen) for name in foreign),
                *(_empty_line(name) for name in empty),
            ),
            next_step="Archive and wipe its raft directory by hand; started blank, it joins as a new server."
            if foreign
            else "Mount the disk, then ask again. If it is a new machine, start its agent by hand: it joins as a new "
            "server.",
        )
    mute = [
        server.name
        for server in observation.servers
        if not led and server.host is not None and server.host.running and server.last is None
    ]
    if mute:
        return Refusal(
            procedure=NAME,
            reasons=(_MUTE.format(", ".join(mute)),),
            next_step="Give the bot the agent recovery token, or stop that agent by hand, and ask again.",
        )
    running_blanks: tuple[ServerName, ...] = ()
    if not led:
        running_blanks = tuple(
            server.name
            for server in observation.servers
            if server.host is not None and server.host.running and blank(server)
        )
    everyone = tuple(server.name for server in observation.servers if server.reached)
    steps: list[Step] = []
    # First: once the rest is well again, nobody asks for a plan any more, and the hold would stay.
    steps += [
        parts.release(server.name, held_by=server.host.held_by)
        for server in observation.servers
        if server.host is not None
        and server.host.running
        and server.host.held_by
        and server.name not in running_blanks
    ]
    steps += [parts.hold(name) for name in running_blanks]
    steps += [parts.stop(name) for name in running_blanks]
    steps += [parts.unload(name, held_by=run) for name, run in unread.items() if name in (*first, *last)]
    steps += [
        parts.start_again(
            name,
            together="start",
            before=(*_unloaded(observation.server(name)), *left_out_are_silent(name, seen)),
        )
        for name in first
    ]
    steps.append(parts.await_leader(everyone))
    steps += [parts.await_voter(name) for name in first]
    gossip = tuple(
        host_of(raft_address(observation.server(voter.name), observation))
        for voter in seen.seen(Sight.RUNNING, Sight.STOPPED)
    )
    joined = tuple(name for name in last if not blank(observation.server(name)))
    without_data = tuple(name for name in last if name not in joined)
    for name in (*without_data, *running_blanks):
        # One by one: two blank ones that see each other before the leader could found a cluster of their own.
        steps.append(parts.start_again(name, together="", before=_unloaded(observation.server(name))))
        steps.append(parts.join(name, gossip))
    for name in joined:
        # Last: what it holds beside the leader's history is then in this archive alone.
        steps += [parts.hold(name), parts.archive(name)]
        harmless = (*_unloaded(observation.server(name)), *left_out_are_silent(name, seen))
        led_now = LeaderElected(everyone)
        steps.append(parts.start_beside(name, before=(led_now, StateArchived(name), *harmless), together=""))
        steps.append(parts.join(name, gossip))
    fenced = {s.name for s in observation.servers if s.host is not None and s.host.fenced_by}
    left_out = {*fenced, *foreign, *older, *empty}
    steps.append(parts.verify(tuple(name for name in everyone if name not in left_out)))
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
    warnings += [_foreign_line(name, seen) for name in foreign]
    warnings += [f"{_older_set_line(name, seen)} It stays stopped." for name in older]
    warnings += [_empty_line(name) for name in empty]
    warnings += [
        f"{name} learns the newest peer set only once it runs: keep {', '.join(away)} off until then."
        for name in (*first, *last)
        if (away := [check.name for check in left_out_are_silent(name, seen)])
    ]
    warnings += [
        f"{name} ends at {position(observation.server(name))}: what it holds beside the history of {seen.reference} "
        "is dropped; it is archived first."
        for name in joined
    ]
    plan = Plan(
        schema=SCHEMA,
        procedure=NAME,
        cluster=observation.cluster,
        summary=f"Start {', '.join((*first, *last))}." + ("" if joined else " No data is lost."),
        claims=(),
        assumptions=(),
        warnings=tuple(warnings),
        steps=_unique(steps),
    )
    return Proposal(plan, PlanReport(ranking=ranking(observation)))


def _older_set_line(name: ServerName, seen: Survey) -> str:
    own = sum(peer.voter for peer in seen.server(name).configuration)
    return (
        f"{name} still goes by the peer set from before a recovery ({own} voters, {seen.reference} has "
        f"{len(seen.voters)}): started so, it could elect a second leader with others of that set."
    )


def _after_a_recovery(seen: Survey, *, led: bool) -> str:
    cluster = seen.observation.cluster
    if led:
        return (
            "Take it out of the peers on the leader (`consul operator raft remove-peer -id=ID`), archive and empty "
            f"its raft directory by hand, then ask again: `/consul recover {cluster}` starts it as a new server."
        )
    gone = {Sight.UNREACHED, Sight.UNMATCHED, Sight.REPLACED, Sight.BARE}
    away = ",".join(dict.fromkeys(v.claim_as for v in seen.former if v.sight in gone))
    lost = f" --lost {away}" if away else ""
    return f"Give them all the same set: `/consul recover {cluster} --method peers-json{lost}`."


def _unloaded(server: ServerObservation) -> tuple[Check, ...]:
    """A peers.json that appears meanwhile would make the start a recovery; below 0.7 it is the live peer set."""
    return () if live_peers_file(server) else (PeersFileAbsent(server.name),)


def _peerless(server: ServerObservation, seen: Survey) -> bool:
    """Whether it can lead nobody and knows no more than the others: below 0.7, with its peers emptied.

    Such a one stays a follower until the leader finds it in gossip and adds it (measured 0.6.4).
    """
    own, place = raft_address(server, seen.observation), position(server)
    newest = position(seen.server(seen.reference)) if seen.reference is not None else None
    return (
        live_peers_file(server)
        and all(peer.address == own for peer in believed_peers(server))
        and place is not None
        and newest is not None
        and place <= newest
    )


def _may_join(server: ServerObservation, seen: Survey) -> bool:
    """Whether it once belonged to this cluster and, beside a leader of it, cannot elect another one.

    Its own peer set must have the server in it whose set counts now (the leader, where there is one). Of the others
    those that this set does not have would vote by the old one: too few of them may be here, and who is away has to
    be silent. The others give it no vote as long as its log ends before theirs.
    """
    own = [peer for peer in server.configuration if peer.voter]
    if seen.reference is None or _newer(server, seen):
        return False
    reference = seen.server(seen.reference)
    if not any(is_peer(reference, NodeId(p.id), p.address, seen.observation) for p in own):
        return False
    ids = {peer.id for peer in own}
    here = [v for v in seen.former if v.node_id in ids and v.sight in {Sight.STOPPED, Sight.RUNNING}]
    return len(here) < len(own) // 2 + 1


def _outside(server: ServerObservation, seen: Survey) -> str:
    return "knows no other voter than itself" if _stray(server, seen) else "is no voter of this cluster"


def _stray(server: ServerObservation, seen: Survey) -> bool:
    """Whether it would elect itself although the set that counts has others: a disk of long ago, mostly."""
    return len(seen.voters) > 1 and elects_itself(server, seen.observation)


def _newer(server: ServerObservation, seen: Survey) -> bool:
    """Whether a log is not seen to end where the reference's does, or before.

    With a later term it would make a leader step down by its mere start, and the voters of now would then elect it:
    all that was written since would be gone (hashicorp/raft: whose log ends later gets the vote).
    """
    place = position(server)
    newest = position(seen.server(seen.reference)) if seen.reference is not None else None
    return place is None or newest is None or place > newest


def _foreign_line(name: ServerName, seen: Survey) -> str:
    place = position(seen.server(name))
    newer = seen.reference is not None and place is not None and _newer(seen.server(name), seen)
    return (
        f"{name} is stopped and holds data, but {_outside(seen.server(name), seen)}: it is not started, because it "
        "could lead a cluster of its own."
    ) + (
        f" {name} ends at {place}, not before {seen.reference}: what it holds may have been acknowledged, so keep it."
        if newer
        else ""
    )


def _empty_line(name: str) -> str:
    return f"{name} is not started: its data directory is empty, as if its agent had never run. Is a disk not mounted?"


def _unique(steps: list[Step]) -> tuple[Step, ...]:
    return tuple({step.id: step for step in steps}.values())
