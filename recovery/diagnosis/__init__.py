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
from recovery.diagnosis.survey import Sight, Survey, VoterSight, nobody_has_data, survey
from recovery.model import ClusterObservation, ServerName
from recovery.past import UNASKED, Past

__all__ = [
    "Degraded",
    "Diagnosis",
    "ElectionInProgress",
    "EmptyWhereDataWas",
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
    "nobody_has_data",
    "survey",
]


def diagnose(
    observation: ClusterObservation,
    lost: Iterable[ServerName] = (),
    *,
    holders: Iterable[Holder] = (),
    past: Past = UNASKED,
) -> Diagnosis:
    """Name the situation; ``lost`` is what the operator says is gone for good.

    ``holders`` are the runs that are known of those which hold servers. ``past`` is what the store knows: it
    matters only where nobody has data, and where it was not asked, no cluster is called new.
    """
    seen = survey(observation, lost)
    return with_holds(_recognised(seen, past), seen, holders)


def _recognised(seen: Survey, past: Past) -> Diagnosis:
    if len(seen.leaders) > 1:
        return led.two_leaders(seen)
    if seen.leaders:
        return led.healthy(seen) or led.degraded(seen)
    return (
        leaderless.led_from_elsewhere(seen)
        or without_peers.peers_emptied(seen)
        or without_peers.without_data(seen, past)
        or leaderless.out_of_sight(seen)
        or leaderless.election_in_progress(seen)
        or leaderless.servers_stopped(seen)
        or leaderless.majority_gone(seen)
        or leaderless.not_recognised(seen)
    )
