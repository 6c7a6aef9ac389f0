"""The procedures, and the choice between them: the smallest act that heals.

propose(observation, diagnosis) -> Proposal | Refusal, pure. A refusal with a
reason is a good answer; guessing is not.
"""

from __future__ import annotations

from recovery.diagnosis import (
    Degraded,
    Diagnosis,
    ElectionInProgress,
    MajorityGone,
    OutOfSight,
    ServersStopped,
    survey,
)
from recovery.model import ClusterObservation, ServerName
from recovery.plan import Proposal, Refusal
from recovery.procedures import peers_json, readmit, start_stopped
from recovery.procedures.claims import contradicted_by_gossip_alone, contradictions

METHODS = (start_stopped.NAME, peers_json.NAME, readmit.NAME)

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
    if method == readmit.NAME:
        return readmit.build(observation, diagnosis, server)
    wrong = contradictions(survey(observation, lost), lost) if lost else ()
    if wrong:
        return _refusal(method or "recover", wrong, diagnosis)
    match diagnosis:
        case ServersStopped(stopped=stopped) | Degraded(stopped=stopped) if stopped and method in {
            None,
            start_stopped.NAME,
        }:
            return start_stopped.build(observation, diagnosis)
        case MajorityGone() if method in {None, peers_json.NAME}:
            return peers_json.build(observation, diagnosis, lost)
        case ServersStopped() if method == peers_json.NAME:
            return peers_json.build(observation, diagnosis, lost)
        case _:
            pass
    return _refusal(method or "recover", (_why_not(diagnosis, method),), diagnosis)


def may_settle(
    observation: ClusterObservation, diagnosis: Diagnosis, *, lost: tuple[ServerName, ...] = ()
) -> bool:
    """Whether some seconds may change the answer: an election, or gossip that has not noticed a death yet."""
    seen = survey(observation, lost)
    return (
        isinstance(diagnosis, ElectionInProgress)
        or (isinstance(diagnosis, OutOfSight) and bool(seen.led_from))
        or contradicted_by_gossip_alone(seen)
        or any(s.host is not None and s.host.running and s.agent is None for s in observation.servers)
    )


def _why_not(diagnosis: Diagnosis, method: str | None) -> str:
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
