"""Naming the situation a cluster is in: ClusterObservation -> Diagnosis, pure.

The recognisers are asked in order, and the first that knows the situation
answers. Unreachable is not dead: what could not be seen keeps a cluster from
being called anything worse than *out of sight* until the operator claims it.
"""

from __future__ import annotations

from collections.abc import Iterable

from recovery.diagnosis import leaderless, led, without_peers
from recovery.diagnosis.holds import Holder, held_down, with_holds
from recovery.diagnosis.situations import (
    Degraded,
    Diagnosis,
    ElectionInProgress,
    Healthy,
    MajorityGone,
    NeverBootstrapped,
    NotRecognised,
    OutOfSight,
    PeersEmptied,
    ServersStopped,
    TwoLeaders,
)
from recovery.diagnosis.survey import Sight, Survey, VoterSight, survey
from recovery.model import ClusterObservation, ServerName

__all__ = [
    "Degraded",
    "Diagnosis",
    "ElectionInProgress",
    "Healthy",
    "Holder",
    "MajorityGone",
    "NeverBootstrapped",
    "NotRecognised",
    "OutOfSight",
    "PeersEmptied",
    "ServersStopped",
    "Sight",
    "Survey",
    "TwoLeaders",
    "VoterSight",
    "diagnose",
    "held_down",
    "survey",
]


def diagnose(
    observation: ClusterObservation, lost: Iterable[ServerName] = (), *, holders: Iterable[Holder] = ()
) -> Diagnosis:
    """Name the situation; ``lost`` is what the operator says is gone for good.

    ``holders`` are the runs that are known of those which hold servers.
    """
    seen = survey(observation, lost)
    return with_holds(_recognised(seen), seen, holders)


def _recognised(seen: Survey) -> Diagnosis:
    if len(seen.leaders) > 1:
        return led.two_leaders(seen)
    if seen.leaders:
        return led.healthy(seen) or led.degraded(seen)
    return (
        leaderless.led_from_elsewhere(seen)
        or without_peers.peers_emptied(seen)
        or leaderless.out_of_sight(seen)
        or without_peers.never_bootstrapped(seen)
        or leaderless.election_in_progress(seen)
        or leaderless.servers_stopped(seen)
        or leaderless.majority_gone(seen)
        or leaderless.not_recognised(seen)
    )
