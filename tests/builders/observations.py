"""Observations as real Consul gives them, with the few values a test is about spelled out."""

from __future__ import annotations

import msgspec

from recovery.membership import NOBODY
from recovery.model import (
    AgentView,
    ClusterName,
    ClusterObservation,
    DirectoryView,
    HostView,
    KnownNode,
    Member,
    MemberStatus,
    ServerName,
    ServerObservation,
    StoredLog,
)
from recovery.past import Past
from recovery.raftentry import LogPosition, Peer

CLUSTER = ClusterName("demo")


def node_id(name: str) -> str:
    """A node id that a person can recognise in a failure message."""
    return f"{name}-0000-0000-0000-000000000000"


def address(name: str) -> str:
    """s1 lives at 198.51.100.11."""
    return f"198.51.100.{10 + int(name.strip('abcdefghijklmnopqrstuvwxyz'))}"


def peers(*names: str) -> tuple[Peer, ...]:
    """Voters by name, at their own addresses."""
    return tuple(Peer(id=node_id(name), address=f"{address(name)}:8300", voter=True) for name in names)


def host(*, running: bool, **more: object) -> HostView:
    """A host that was looked at."""
    values: dict[str, object] = {
        "active_state": "active" if running else "inactive",
        "enabled": True,
        "main_pid": 101 if running else 0,
        "unit_user": "consul",
        "data_dir": "/var/lib/consul",
        "version": "1.8.7",
        "raft_db_bytes": 65536,
        "peers_info": True,
        "free_bytes": 10**10,
        "state_bytes": 10**5,
    }
    return HostView(**(values | more))  # type: ignore[arg-type]


def running(
    name: str,
    *,
    voters: tuple[Peer, ...],
    last: tuple[int, int] = (2, 15),
    leader: bool = False,
    identity: str | None = None,
    alive: tuple[str, ...] = (),
    at: str | None = None,
    stale_reads: bool = True,
) -> ServerObservation:
    """A server whose agent answers; ``alive`` are the names it sees alive in gossip."""
    own = node_id(name) if identity is None else identity
    return ServerObservation(
        name=ServerName(name),
        address=at or address(name),
        host=host(running=True, node_id=own),
        agent=AgentView(
            leader_address=f"{address(name)}:8300" if leader else "",
            peers=tuple(peer.address for peer in voters),
            names_itself_leader=leader,
            node_name=name,
            node_id=own,
            version="1.8.7",
            raft_protocol=3,
            raft_state="Leader" if leader else "Follower",
            term=last[0],
            last=LogPosition(term=last[0], index=last[1]),
            configuration=voters,
            stale_reads=stale_reads,
            known_nodes=tuple(KnownNode(p.id[:2], p.id, p.address.partition(":")[0]) for p in voters)
            if stale_reads
            else (),
            members=tuple(
                Member(
                    name=other,
                    address=(at or address(name)) if other == name else address(other),
                    status=MemberStatus.ALIVE,
                    server=True,
                    node_id=own if other == name else node_id(other),
                )
                for other in (name, *alive)
            ),
        ),
    )


def stopped(
    name: str,
    *,
    voters: tuple[Peer, ...],
    last: tuple[int, int] = (2, 15),
    **more: object,
) -> ServerObservation:
    """A server whose agent is stopped and whose raft.db was read."""
    return ServerObservation(
        name=ServerName(name),
        address=address(name),
        host=host(running=False, node_id=node_id(name), **more),
        stored=StoredLog(last=LogPosition(term=last[0], index=last[1]), term=last[0], configuration=voters),
    )


def damaged(name: str) -> ServerObservation:
    """A stopped server whose raft.db cannot be read."""
    return ServerObservation(
        name=ServerName(name),
        address=address(name),
        host=host(running=False, node_id=node_id(name)),
        stored_problem="both meta pages are torn",
    )


def blank(
    name: str, *, at: str | None = None, is_running: bool = True, held_by: str = ""
) -> ServerObservation:
    """A new machine of the same name: another id, no log."""
    own = f"{name}-new0-0000-0000-000000000000"
    where = at or f"198.51.100.{20 + int(name[1:])}"
    if is_running:
        seen = running(name, voters=(), last=(0, 0), identity=own, at=where, stale_reads=False)
        return msgspec.structs.replace(seen, directory=DirectoryView())
    return ServerObservation(
        name=ServerName(name),
        address=where,
        host=host(running=False, node_id=own, raft_db_bytes=32768, held_by=held_by),
        stored=StoredLog(last=None, term=0, configuration=()),
        directory=DirectoryView(),
    )


NOTHING_KNOWN = Past(membership=NOBODY)
"""What a store tells that was asked and has never seen this cluster."""


def unreachable(name: str) -> ServerObservation:
    """A host that gave no SSH session."""
    return ServerObservation(
        name=ServerName(name), address=address(name), host_problem="no answer within 5 s"
    )


def cluster(*servers: ServerObservation) -> ClusterObservation:
    """All servers of the settings, looked at just now."""
    return ClusterObservation(cluster=CLUSTER, taken_at_s=1_800_000_000.0, servers=servers)
