"""The closed list of situations a cluster can be found in."""

from __future__ import annotations

import msgspec

from recovery.diagnosis.survey import VoterSight
from recovery.model import ServerName


class _Situation(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    headline: str
    """One sentence: the verdict, readable in a push notification."""
    evidence: tuple[str, ...]
    """What was seen, a sentence each, with who said it."""
    advice: str
    """The one next thing to do."""


class Healthy(_Situation, frozen=True, kw_only=True):
    """One leader, and every server of the settings is a running voter."""

    leader: ServerName


class Degraded(_Situation, frozen=True, kw_only=True):
    """There is a leader, but something is missing."""

    leader: ServerName
    stopped: tuple[ServerName, ...]
    """Voters, or servers that would become one, that only need to be started."""


class ElectionInProgress(_Situation, frozen=True, kw_only=True):
    """Enough voters run; they have not elected a leader yet."""


class ServersStopped(_Situation, frozen=True, kw_only=True):
    """No leader, and enough voters are there to make one: some only need to be started."""

    stopped: tuple[ServerName, ...]
    voters: tuple[VoterSight, ...]


class MajorityGone(_Situation, frozen=True, kw_only=True):
    """No leader, and too few voters can ever come back."""

    survivors: tuple[VoterSight, ...]
    """Voters, and servers without a vote, whose data is there, running or stopped."""
    gone: tuple[VoterSight, ...]
    """Replaced, or claimed by the operator."""
    unaccounted: tuple[VoterSight, ...]
    """Neither seen nor claimed: no plan until the operator has said which."""


class PeersEmptied(_Situation, frozen=True, kw_only=True):
    """Consul below 0.7, and no server that is there knows a peer: all stay followers for ever.

    A graceful stop (SIGINT, `consul leave`) leaves raft/peers.json as `null` there.
    """

    servers: tuple[ServerName, ...]
    """Reached, with a log."""
    blanks: tuple[ServerName, ...]
    """Reached, without a log."""
    unseen: tuple[ServerName, ...]
    """Not reached; gone only where the operator says so."""


class NeverBootstrapped(_Situation, frozen=True, kw_only=True):
    """Every server of the settings is reached, and none has any Raft data."""

    servers: tuple[ServerName, ...]


class EmptyWhereDataWas(_Situation, frozen=True, kw_only=True):
    """Every server is reached and none shows any Raft data, but something tells that there was some, or may be."""

    servers: tuple[ServerName, ...]
    known: tuple[str, ...]
    """What stands against a new cluster, a sentence each, with who told it and since when."""


class OutOfSight(_Situation, frozen=True, kw_only=True):
    """Too little can be seen to say: unreachable is not dead."""

    unseen: tuple[str, ...]


class TwoLeaders(_Situation, frozen=True, kw_only=True):
    """More than one server names itself leader."""

    leaders: tuple[ServerName, ...]


class NotRecognised(_Situation, frozen=True, kw_only=True):
    """No leader, and none of the situations we know a safe cure for."""


Diagnosis = (
    Healthy
    | Degraded
    | ElectionInProgress
    | ServersStopped
    | MajorityGone
    | PeersEmptied
    | NeverBootstrapped
    | EmptyWhereDataWas
    | OutOfSight
    | TwoLeaders
    | NotRecognised
)
