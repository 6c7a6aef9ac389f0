"""Servers that a run of ours has stopped and holds: nothing starts them, so nothing comes by itself.

Whatever the situation is called, its headline and its advice are put right here: who is held, by which run, how
that run stands, and the way on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from recovery.diagnosis.evidence import count, names
from recovery.diagnosis.situations import (
    Degraded,
    Diagnosis,
    ElectionInProgress,
    EmptyWhereDataWas,
    Healthy,
    MajorityGone,
    NeverBootstrapped,
    NotRecognised,
    OutOfSight,
    PeersEmptied,
    ServersStopped,
    TwoLeaders,
)
from recovery.diagnosis.survey import Sight, Survey, nobody_has_data
from recovery.model import ClusterObservation, NodeId, RunId, ServerName


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run that holds servers. The diagnosis reads no journal: the use cases tell it."""

    run: RunId
    stands: str = ""
    """How it stands, in a few words (``expired``, ``waits for approval``); "" for a run that nobody knows."""
    over: bool = True
    """Whether it has ended, so that a new plan may take over what it holds."""
    readable: bool = True
    """Whether people can decide on it; one that nobody can read is only unlocked."""
    lost: tuple[NodeId, ...] = ()
    """Whom it was told to be gone for good."""


def held_down(observation: ClusterObservation) -> dict[RunId, tuple[ServerName, ...]]:
    """Name the stopped servers that a run keeps from starting, by run; a fence is no hold."""
    held: dict[RunId, tuple[ServerName, ...]] = {}
    for server in observation.servers:
        host = server.host
        if host is not None and host.held_by and not host.running and not host.fenced_by:
            run = RunId(host.held_by)
            held[run] = (*held.get(run, ()), server.name)
    return held


def with_holds(diagnosis: Diagnosis, seen: Survey, holders: Iterable[Holder]) -> Diagnosis:
    """The same situation, told with the holds: no advice to wait for servers that nothing starts."""
    held = held_down(seen.observation)
    if not held:
        return diagnosis
    known = {holder.run: holder for holder in holders}
    runs = [(known.get(run, Holder(run=run)), servers) for run, servers in held.items()]
    who = "; ".join(
        f"{names(servers)} {_is(servers)} held by run {_shown(holder.run)}"
        + (f" ({holder.stands})" if holder.stands else "")
        for holder, servers in runs
    )
    cluster = seen.observation.cluster
    lost = _to_claim(diagnosis, seen)
    way_on = " ".join(_way_on(cluster, holder, lost) for holder, _ in runs)
    match diagnosis:
        case Healthy() | TwoLeaders():
            return diagnosis
        case Degraded(leader=leader):
            headline, advice = f"{cluster} has a leader ({leader}) but is degraded: {who}", way_on
        case ElectionInProgress():
            # Enough others run: they elect, whoever is held.
            headline, advice = f"{diagnosis.headline}; {who}", f"{diagnosis.advice} {way_on}"
        case EmptyWhereDataWas():
            # No plan comes of it: first the data has to be back.
            later = " ".join(
                _once_it_is_back(holder) if holder.over else _way_on(cluster, holder, {})
                for holder, _ in runs
            )
            headline, advice = f"{diagnosis.headline}; {who}", f"{diagnosis.advice} {later}"
        case OutOfSight() if seen.led_from or _is_barred(seen):
            headline, advice = f"{diagnosis.headline}; {who}", f"{diagnosis.advice} {way_on}"
        case (
            OutOfSight()
            | ServersStopped()
            | MajorityGone()
            | PeersEmptied()
            | NeverBootstrapped()
            | NotRecognised()
        ):
            headline, advice = f"{cluster} has NO LEADER: {who}; {_beside(diagnosis, seen)}", way_on
        case _:
            assert_never(diagnosis)
    return msgspec.structs.replace(diagnosis, headline=headline, advice=advice)


def _is_barred(seen: Survey) -> bool:
    """Whether a voter that answers could not be looked into, or nobody has data: then that is to be mended first."""
    return nobody_has_data(seen.observation) or bool(seen.seen(Sight.UNREAD))


def _once_it_is_back(holder: Holder) -> str:
    return f"Run {_shown(holder.run)} is over: what it holds is started by a plan once the data is back."


def _shown(run: RunId) -> str:
    """A run's name as a host has it, which may be anything: a headline is a push notification too."""
    return "".join(each for each in run if each.isalnum() or each in "._-")[:80] or "of an unreadable name"


def _is(servers: tuple[ServerName, ...]) -> str:
    return "is" if len(servers) == 1 else "are"


def _beside(
    diagnosis: OutOfSight | ServersStopped | MajorityGone | PeersEmptied | NeverBootstrapped | NotRecognised,
    seen: Survey,
) -> str:
    """What else is so, in the words of no situation that would come right by waiting."""
    match diagnosis:
        case OutOfSight(unseen=unseen):
            if not seen.voters:
                return "no server's Raft configuration could be seen"
            return f"{count(seen)}, and {names(unseen)} cannot be seen"
        case ServersStopped():
            return count(seen)
        case MajorityGone(survivors=survivors):
            have = "has" if len(survivors) == 1 else "have"
            return (
                f"{count(seen)}, and the majority is gone: only {names(tuple(v.name for v in survivors))} still "
                f"{have} the data"
            )
        case PeersEmptied():
            return "its peers were emptied, no server knows another one"
        case NeverBootstrapped():
            return "no server has any Raft data"
        case NotRecognised():
            return "beside that, this is none of the situations with a known safe cure"
        case _:
            assert_never(diagnosis)


def _to_claim(diagnosis: Diagnosis, seen: Survey) -> dict[str, str]:
    """Whom `--lost` would have to name for a plan, as it would have to name them now, with their ids."""
    match diagnosis:
        case MajorityGone(unaccounted=unaccounted):
            return {voter.claim_as: voter.node_id for voter in unaccounted}
        case OutOfSight():
            # Nor is one to be called gone whose host answers.
            there = seen.seen(Sight.RUNNING, Sight.STOPPED, Sight.UNREAD)
            return {voter.claim_as: voter.node_id for voter in seen.voters if voter not in there}
        case PeersEmptied(unseen=unseen):
            return dict.fromkeys(unseen, "")
        case _:
            return {}


def _way_on(cluster: str, holder: Holder, lost: dict[str, str]) -> str:
    run = _shown(holder.run)
    if not holder.over and not holder.readable:
        return (
            f"Run {run} cannot be read and holds the lock: `/consul unlock {cluster}` takes it away, then `/consul "
            f"recover {cluster}` plans from the servers as they are."
        )
    if not holder.over:
        return (
            f"Run {run} is not over: answer it on its card (`/consul show {run}`), `/consul retry "
            f"{cluster}` where a step waits, or stop it with `/consul abort {cluster}`."
        )
    command = f"`/consul recover {cluster}{f' --lost {_listed(lost)}' if lost else ''}`"
    why = "" if holder.stands else ", and Redis does not know it"
    told = f"Run {run} is over{why}: only a new plan starts what it holds, no reboot does."
    if lost and set(lost.values()) <= set(holder.lost):
        return f"{told} {command} plans anew with what that run was told (gone for good: {_listed(lost)})."
    if lost:
        return f"{told} Only if {_listed(lost)} {'is' if len(lost) == 1 else 'are'} gone for good: {command}."
    return f"{told} {command} asks for one."


def _listed(items: Iterable[str]) -> str:
    return ",".join(items)
