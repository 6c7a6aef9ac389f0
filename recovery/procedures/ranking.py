"""Who holds how much of the log: last term first, then last index.

Not the current term (it grows by failed elections), not commit_index (0 after
a restart), not a file's size or date (hashicorp/raft state.go, getLastEntry).
"""

from __future__ import annotations

from recovery.diagnosis.survey import position
from recovery.model import ClusterObservation, ServerObservation
from recovery.plan import RankLine


def ranking(observation: ClusterObservation) -> tuple[RankLine, ...]:
    """Rank all reached servers, freshest first; those that cannot be ranked come last."""
    placed = [(server, position(server)) for server in observation.servers if server.reached]
    known = sorted(
        ((server, place) for server, place in placed if place is not None),
        key=lambda pair: (pair[1].term, pair[1].index),
        reverse=True,
    )
    top = known[0][1].index if known else 0
    lines = [
        RankLine(server.name, place, max(0, top - place.index), _source(server)) for server, place in known
    ]
    lines += [RankLine(server.name, None, 0, _source(server)) for server, place in placed if place is None]
    return tuple(lines)


def _source(server: ServerObservation) -> str:
    if server.agent is not None and server.agent.last is not None:
        return "agent"
    if server.stored is not None:
        return "raft/wal" if server.host is not None and server.host.log_store == "raft/wal" else "raft.db"
    return server.stored_problem or server.agent_problem or "not read"
