"""The procedures, and the choice between them: the smallest act that heals.

propose(observation, diagnosis) -> Proposal | Refusal, pure. A refusal with a
reason is a good answer; guessing is not.
"""

from __future__ import annotations

from recovery.diagnosis import (
    Degraded,
    Diagnosis,
    ElectionInProgress,
    EmptyWhereDataWas,
    MajorityGone,
    NeverBootstrapped,
    OutOfSight,
    PeersEmptied,
    ServersStopped,
    survey,
)
from recovery.diagnosis.survey import alive_at, raft_address
from recovery.diagnosis.versions import live_peers_file
from recovery.model import ClusterObservation, ServerName
from recovery.plan import Proposal, Refusal
from recovery.procedures import (
    configured,
    found,
    leftovers,
    old_logs,
    peers_json,
    peers_json_live,
    readmit,
    staged,
    start_stopped,
)
from recovery.procedures.claims import contradicted_by_gossip_alone, contradictions

MOST_REASONS = 8

METHODS = (
    start_stopped.NAME,
    peers_json.NAME,
    staged.NAME,
    found.NAME,
    readmit.NAME,
    leftovers.NAME,
)

__all__ = ["METHODS", "may_settle", "propose"]


def propose(
    observation: ClusterObservation,
    diagnosis: Diagnosis,
    *,
    lost: tuple[ServerName, ...] = (),
    method: str | None = None,
    server: ServerName | None = None,
) -> Proposal | Refusal:
    """Choose the smallest procedure that applies, or the one asked for if it does.

    ``server`` is whom a readmission is about; the other methods take none.
    """
    if method is not None and method not in METHODS:
        return _refusal(
            method, (f"There is no method “{method}”; there are {', '.join(METHODS)}.",), diagnosis
        )
    if isinstance(diagnosis, EmptyWhereDataWas):
        reasons = (f"{diagnosis.headline}.", *(f"{line}." for line in diagnosis.known[1:MOST_REASONS]))
        return _refusal(method or "recover", reasons, diagnosis)
    if method == readmit.NAME:
        return _tidied(observation, readmit.build(observation, diagnosis, server))
    wrong = _contradictions(observation, diagnosis, lost) if lost else ()
    if wrong:
        return _refusal(method or "recover", wrong, diagnosis)
    answer = _choose(observation, diagnosis, lost, method)
    if answer is None:
        return _refusal(method or "recover", (_why_not(observation, diagnosis, method),), diagnosis)
    return _tidied(observation, answer)


def _tidied(observation: ClusterObservation, answer: Proposal | Refusal) -> Proposal | Refusal:
    """No plan starts a server that would take an override which an earlier run left behind.

    Nor does it touch one of which nobody knows where its data is.
    """
    if isinstance(answer, Refusal):
        return answer
    plan = leftovers.first_of_all(observation, answer)
    return configured.refusal(observation, plan) or plan


def _choose(
    observation: ClusterObservation,
    diagnosis: Diagnosis,
    lost: tuple[ServerName, ...],
    method: str | None,
) -> Proposal | Refusal | None:
    match diagnosis:
        case ServersStopped(stopped=stopped) | Degraded(stopped=stopped) if stopped and method in {
            None,
            start_stopped.NAME,
        }:
            return start_stopped.build(observation, diagnosis)
        case Degraded() if method in {None, leftovers.NAME} and (
            leftovers.removals(observation) or leftovers.releases(observation)
        ):
            return leftovers.build(observation)
        case MajorityGone() if method in {None, peers_json.NAME}:
            return peers_json.build(observation, diagnosis, lost)
        case ServersStopped() if method == peers_json.NAME:
            return peers_json.build(observation, diagnosis, lost)
        case PeersEmptied() if method in {None, staged.NAME}:
            answer = staged.build(observation, diagnosis, lost)
            if isinstance(answer, Proposal) or method is not None:
                return answer
            return peers_json_live.build(observation, diagnosis, lost, because=answer.reasons)
        case PeersEmptied() if method == peers_json_live.NAME:
            return peers_json_live.build(observation, diagnosis, lost)
        case NeverBootstrapped() if method in {None, found.NAME}:
            return found.build(observation, diagnosis)
        case _:
            return None


def _contradictions(
    observation: ClusterObservation, diagnosis: Diagnosis, lost: tuple[ServerName, ...]
) -> tuple[str, ...]:
    """Below 0.7 without peers nobody names voters or ids: there a claim is about a server of the settings."""
    if isinstance(diagnosis, PeersEmptied | NeverBootstrapped):
        return old_logs.contradictions(observation, lost)
    return contradictions(survey(observation, lost), lost)


def may_settle(
    observation: ClusterObservation, diagnosis: Diagnosis, *, lost: tuple[ServerName, ...] = ()
) -> bool:
    """Whether some seconds may change the answer: an election, or gossip that has not noticed a death yet."""
    seen = survey(observation, lost)
    return (
        isinstance(diagnosis, ElectionInProgress)
        or (isinstance(diagnosis, OutOfSight) and bool(seen.led_from))
        or contradicted_by_gossip_alone(seen)
        or (isinstance(diagnosis, PeersEmptied) and _only_gossip_sees(observation, lost))
        or any(s.host is not None and s.host.running and s.agent is None for s in observation.servers)
    )


def _only_gossip_sees(observation: ClusterObservation, lost: tuple[ServerName, ...]) -> bool:
    return any(
        not server.reached and alive_at(raft_address(server, observation), observation)
        for server in old_logs.claimed(observation, lost)
    )


def barred(observation: ClusterObservation, method: str | None) -> bool:
    """Whether this method is refused on these servers in whatever state they are, healthy too."""
    return method == staged.NAME and not any(live_peers_file(server) for server in observation.servers)


def _why_not(observation: ClusterObservation, diagnosis: Diagnosis, method: str | None) -> str:
    if barred(observation, method):
        return (
            "The staged bootstrap is refused from Consul 0.7 on: with Raft data bootstrap_expect is ignored there "
            "(“Raft data found, disabling bootstrap mode”), and a server without data would found a cluster of its "
            f"own. What was seen: {diagnosis.headline}."
        )
    if method == peers_json.NAME and isinstance(diagnosis, Degraded | ElectionInProgress):
        return (
            "A peers.json recovery is refused: enough voters are there to elect a leader without it, and it "
            "can lose data. " + diagnosis.headline + "."
        )
    if method is not None:
        return f"The method “{method}” does not cure this: {diagnosis.headline}."
    if isinstance(diagnosis, OutOfSight):
        return f"Too little can be seen to act safely: {diagnosis.headline}."
    return f"There is no safe procedure for this situation: {diagnosis.headline}."


def _refusal(procedure: str, reasons: tuple[str, ...], diagnosis: Diagnosis) -> Refusal:
    return Refusal(procedure=procedure, reasons=reasons, next_step=diagnosis.advice)
