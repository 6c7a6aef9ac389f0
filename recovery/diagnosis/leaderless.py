"""Situations without a leader, from harmless to hopeless."""

from __future__ import annotations

from recovery.diagnosis.evidence import count, names, server_lines, unread_reason, voter_line
from recovery.diagnosis.situations import (
    ElectionInProgress,
    MajorityGone,
    NotRecognised,
    OutOfSight,
    ServersStopped,
)
from recovery.diagnosis.survey import Sight, Survey, VoterSight, blank, sign_of_life
from recovery.model import ServerName


def led_from_elsewhere(seen: Survey) -> OutOfSight | None:
    """A server follows a leader that we cannot reach: the cluster may well be working without us."""
    if not seen.led_from:
        return None
    followers = tuple(
        s.name
        for s in seen.observation.servers
        if s.agent is not None and s.agent.leader_address == seen.led_from
    )
    return OutOfSight(
        headline=f"{seen.observation.cluster}: {names(followers)} follow{'s' if len(followers) == 1 else ''} a "
        f"leader at {seen.led_from}, which this bot cannot reach",
        evidence=(*(voter_line(v) for v in seen.voters if v.sight is not Sight.RUNNING), *server_lines(seen)),
        advice=mend_the_look(hindered)
        if (hindered := tuple(s.name for s in seen.observation.servers if s.answers))
        else "After a crash others name the dead leader for some seconds: look again in 30 s. If it stays, "
        "the cluster has a leader, and only the bot's way to it is broken: mend that (`consul-recovery doctor`).",
        unseen=(seen.led_from,),
    )


def out_of_sight(seen: Survey) -> OutOfSight | None:
    """Nobody's configuration could be read, and not everybody was looked at."""
    unseen = tuple(
        f"{s.name}: {s.host_problem or 'no answer'}"
        for s in seen.observation.servers
        if not s.reached and not s.answers
    )
    hindered = tuple(s.name for s in seen.observation.servers if s.answers)
    unread = tuple(
        f"{s.name}: {unread_reason(s)}"
        for s in seen.observation.servers
        if (s.reached or s.answers) and s.last is None and not blank(s)
    )
    mute = tuple(line for line in unread if line.partition(":")[0] not in hindered)
    if seen.voters or not (unseen or unread):
        return None
    return OutOfSight(
        headline=f"{seen.observation.cluster}: cannot tell, no server's Raft configuration could be seen",
        evidence=server_lines(seen),
        advice=" ".join(
            (
                *((_BRING_BACK,) if unseen else ()),
                *((mend_the_look(hindered),) if hindered else ()),
                *((_unread(mute),) if mute else ()),
                "`consul-recovery doctor` checks the way step by step.",
            )
        ),
        unseen=unseen + unread,
    )


_BRING_BACK = "Unreachable is not dead. Bring the hosts (or the bot's way to them) back, and look again."


def _unread(who: tuple[str, ...]) -> str:
    """Say what to do about hosts that answered, but did not show what their servers hold: `name: reason` each."""
    return (
        f"{names(tuple(line.partition(':')[0] for line in who))} answered, but what "
        f"{'it holds' if len(who) == 1 else 'they hold'} could not be read: {'; '.join(who)}. Mend that; look again."
    )


def _with_reasons(who: tuple[str, ...], seen: Survey) -> tuple[str, ...]:
    return tuple(f"{name}: {unread_reason(seen.server(ServerName(name)))}" for name in who)


def election_in_progress(seen: Survey) -> ElectionInProgress | None:
    """Enough voters run: a leader comes by itself within seconds, or something keeps them apart."""
    running = seen.seen(Sight.RUNNING)
    if not seen.voters or len(running) < seen.quorum:
        return None
    mute = [v.name for v in running if seen.server(v.name).agent is None]
    return ElectionInProgress(
        headline=f"{seen.observation.cluster} has no leader right now, but {count(seen)}: "
        "an election is in progress",
        evidence=server_lines(seen),
        advice="Wait 30 s and look again. If it stays so, the servers cannot talk to each other: "
        "check port 8300 both ways, TLS certificates and clocks"
        + (f"; {names(tuple(mute))} gave no answer." if mute else "."),
    )


def servers_stopped(seen: Survey) -> ServersStopped | None:
    """Running and stopped voters together are enough: starting heals, and nothing is lost."""
    there = seen.seen(Sight.RUNNING, Sight.STOPPED)
    stopped = tuple(
        server.name
        for server in seen.observation.servers
        if server.host is not None and not server.host.running and not server.host.fenced_by
    )
    if not seen.voters or len(there) < seen.quorum:
        return None
    return ServersStopped(
        headline=f"{seen.observation.cluster} has NO LEADER: {count(seen)}; "
        f"{names(stopped)} only need{'s' if len(stopped) == 1 else ''} to be started",
        evidence=server_lines(seen),
        advice=f"Start what is stopped: `/consul recover {seen.observation.cluster}` proposes it. "
        "No data is lost.",
        stopped=stopped,
        voters=seen.voters,
    )


def majority_gone(seen: Survey) -> MajorityGone | OutOfSight | None:
    """Too few voters can come back: replaced ones are seen, unreachable ones must be claimed."""
    survivors = seen.survivors
    missing = tuple(v for v in seen.voters if v not in survivors)
    if not survivors or not missing:
        return None
    hindered = tuple(v.name for v in missing if v.sight is Sight.HINDERED)
    if hindered:
        return OutOfSight(
            headline=f"{seen.observation.cluster}: cannot tell, {names(hindered)} answer"
            f"{'s' if len(hindered) == 1 else ''} but could not be looked at: the cluster may have a leader there",
            evidence=(*(voter_line(v) for v in missing), *server_lines(seen)),
            advice=mend_the_look(hindered),
            unseen=hindered,
        )
    gone = tuple(v for v in missing if v.sight in {Sight.REPLACED, Sight.EMPTIED} or _claimed(v, seen))
    # An emptied server is held and seen itself; nobody has to vouch for it.
    unaccounted = tuple(v for v in missing if v.sight is not Sight.EMPTIED and not _claimed(v, seen))
    if len(seen.voters) - len(gone) >= seen.quorum:
        damaged = tuple(v.name for v in missing if v.sight in {Sight.DAMAGED, Sight.UNREAD})
        silent = tuple(v.name for v in missing if v.sight in {Sight.UNREACHED, Sight.UNMATCHED})
        others = tuple(v.name for v in missing if v.name not in damaged + silent)
        told = (
            *((f"{names(silent)} cannot be seen",) if silent else ()),
            *((f"{names(others)} cannot vote",) if others else ()),
            *(
                (f"what {names(damaged)} hold{'s' if len(damaged) == 1 else ''} cannot be read",)
                if damaged
                else ()
            ),
        )
        back = (
            "Unreachable is not dead: bring these hosts back, and the leader comes by itself. "
            if silent
            else ""
        )
        mend = f"{_unread(_with_reasons(damaged, seen))} " if damaged else ""
        claimable = ",".join(v.claim_as for v in missing if v.sight is not Sight.UNREAD)
        lost = f"`/consul recover {seen.observation.cluster} --lost {claimable}`"
        return OutOfSight(
            headline=f"{seen.observation.cluster} has NO LEADER: {count(seen)}, and {', and '.join(told)}",
            evidence=(*(voter_line(v) for v in missing), *server_lines(seen)),
            advice=f"{back}{mend}" + (f"Only if they are gone for good: {lost}." if claimable else ""),
            unseen=tuple(v.name for v in missing),
        )
    unread = tuple(v.name for v in unaccounted if v.sight is Sight.UNREAD)
    who = tuple(v.claim_as for v in unaccounted if v.sight is not Sight.UNREAD)
    if who:
        advice = (
            f"If {names(who)} {'is' if len(who) == 1 else 'are'} gone for good, say so: "
            f"`/consul recover {seen.observation.cluster} --lost {','.join(who)}`. "
            "It proposes a peers.json recovery and starts nothing before it is approved."
        )
    else:
        advice = "A peers.json recovery from the survivors: the plan says what may be lost."
    if unread:
        advice = f"{_unread(_with_reasons(unread, seen))} {advice if who else ''}".rstrip()
    return MajorityGone(
        headline=f"{seen.observation.cluster} has NO LEADER: {count(seen)}, and the majority is gone: "
        f"only {names(tuple(v.name for v in survivors))} still "
        f"ha{'s' if len(survivors) == 1 else 've'} the data",
        evidence=(*(voter_line(v) for v in missing), *server_lines(seen)),
        advice=advice,
        survivors=survivors,
        gone=gone,
        unaccounted=unaccounted,
    )


def mend_the_look(hindered: tuple[str, ...]) -> str:
    """The next thing to do where a host answers and what is on it could not be seen."""
    return (
        f"Mend what hinders the look at {names(hindered)} (named above), "
        "and look again. Nobody may say that a server is gone whose host answers."
    )


def _claimed(voter: VoterSight, seen: Survey) -> bool:
    """Whether the word that it is gone counts: not against a sign of life, nor where nobody has looked into it."""
    return (
        voter.sight is not Sight.UNREAD and seen.claimed(voter) and not sign_of_life(voter, seen.observation)
    )


def not_recognised(seen: Survey) -> NotRecognised:
    """What is left: say what was seen, and do nothing."""
    return NotRecognised(
        headline=f"{seen.observation.cluster} has NO LEADER, and this is none of the situations with a known "
        "safe cure",
        evidence=(*(voter_line(v) for v in seen.voters), *server_lines(seen)),
        advice="Nothing is done. Look at the evidence; archives and logs are on the servers.",
    )
