"""Who belongs to a cluster's gossip: what was last known of it, and the client agents that follow from it.

The servers of a cluster are what the settings name. Its client agents may be
many and come and go, so they are known from up to three sources: the settings,
an Ansible inventory, and gossip, as the servers list it now and as it was
listed before (kept in the store, because after a disaster nobody lists it any
more). The operator's sources say how a client agent is reached; gossip says what
it is called, because that is the name that it has to come back under.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from recovery.inventory.groups import InventoryHost
from recovery.model import (
    Catalogue,
    ClientAgent,
    ClusterObservation,
    Member,
    MemberStatus,
    ServerName,
    ServerObservation,
    ServerSpec,
)
from recovery.raftentry import LogPosition, Peer

MEMO: Final = "members"
"""The name of the memory beside the cluster in the store."""
FORGET_AFTER_S: Final = 72 * 3600.0
"""Consul's own reconnect_timeout: for so long a failed member is waited for before it is forgotten."""


class Known(msgspec.Struct, frozen=True):
    """A member as it was listed last, and when it was last listed alive (Unix time)."""

    member: Member
    seen_at_s: float


class KnownLog(msgspec.Struct, frozen=True, kw_only=True):
    """The furthest that one server's log was ever seen to go."""

    server: ServerName
    node_id: str
    """Below 0.7.3, where there are none: its address."""
    last: LogPosition
    peers: tuple[Peer, ...] = ()
    """The peer set it went by then; empty where it did not tell."""
    at_s: float = 0.0
    """When it was last seen to hold that much, Unix time."""


class Membership(msgspec.Struct, frozen=True):
    """What is remembered of a cluster: its gossip, its logs, and when it was last seen to have a leader."""

    seen_at_s: float
    """When a server last listed its members."""
    known: tuple[Known, ...]
    logs: tuple[KnownLog, ...] = ()
    """Of each node id one, whatever that server holds now."""
    led_at_s: float | None = None
    """When a leader was last seen; 0 if never; None: an older version, which did not note it, has kept this."""
    held: Catalogue | None = None
    """What the leader's catalogue held then."""


NOBODY: Final = Membership(0.0, (), led_at_s=0.0)
_MOST_LOGS: Final = 32


def encode(membership: Membership) -> str:
    """Turn it into text for the store."""
    return msgspec.json.encode(membership).decode()


def decode(text: str | None) -> Membership:
    """Turn the store's text back; what another version wrote is not known here, and the next look writes anew."""
    return (read(text) if text is not None else None) or NOBODY


def read(text: str) -> Membership | None:
    """Turn the store's text back; None where it cannot be read: then nobody knows what is remembered."""
    try:
        return msgspec.json.decode(text, type=Membership)
    except msgspec.MsgspecError:
        return None


def listed(servers: Iterable[ServerObservation]) -> tuple[Member, ...]:
    """Put together what the servers list; alive for one of them is alive.

    A list without the server itself is left out: a weak ACL token gets a filtered one with status 200.
    """
    found: dict[str, Member] = {}
    for server in servers:
        members = server.agent.members if server.agent is not None else ()
        if server.agent is None or server.agent.node_name not in {member.name for member in members}:
            continue
        for member in members:
            before = found.get(member.name)
            if before is None or before.status is not MemberStatus.ALIVE:
                found[member.name] = member
    return tuple(found.values())


def updated(before: Membership, observation: ClusterObservation, *, led: bool) -> Membership:
    """Add what a look has shown."""
    gossip = _gossip_updated(before, observation, led=led)
    held = next(
        (
            server.agent.catalogue
            for server in observation.servers
            if server.agent is not None and server.agent.names_itself_leader and server.agent.catalogue
        ),
        before.held,
    )
    return msgspec.structs.replace(
        gossip,
        logs=_logs_updated(before.logs, observation),
        led_at_s=observation.taken_at_s if led else before.led_at_s,
        held=held if led else before.held,
    )


def _logs_updated(before: tuple[KnownLog, ...], observation: ClusterObservation) -> tuple[KnownLog, ...]:
    """Keep the furthest end of each log; one that is seen to end earlier, or gone, takes nothing away."""
    known = {each.node_id: each for each in before}
    for server in observation.servers:
        node_id, last = server.node_id or server.address, server.last
        if not server.reached or last is None or last.index == 0:
            continue
        earlier = known.get(node_id)
        if earlier is None or last >= earlier.last:
            known[node_id] = KnownLog(
                server=server.name,
                node_id=node_id,
                last=last,
                peers=server.configuration or (earlier.peers if earlier is not None else ()),
                at_s=observation.taken_at_s,
            )
    newest = sorted(known.values(), key=lambda each: each.at_s, reverse=True)[:_MOST_LOGS]
    return tuple(sorted(newest, key=lambda each: (each.server, each.node_id)))


def _gossip_updated(before: Membership, observation: ClusterObservation, *, led: bool) -> Membership:
    """Add whom the servers list.

    A look forgets nobody that it merely does not show: servers that were all restarted list few clients, and
    clients that have not come back are the ones that are looked for. Only with a leader (``led``) is one forgotten
    that has left, or that was not alive for FORGET_AFTER_S; without one time stands still.
    """
    now_s = observation.taken_at_s
    members = listed(observation.servers)
    if not members:
        return before
    known = {each.member.name: each for each in before.known}
    for member in members:
        earlier = known.get(member.name)
        if member.status is MemberStatus.ALIVE:
            known[member.name] = Known(member, now_s)
        elif led and member.status is MemberStatus.LEFT:
            known.pop(member.name, None)
        elif earlier is not None:
            known[member.name] = Known(
                msgspec.structs.replace(earlier.member, status=member.status), earlier.seen_at_s
            )
        elif member.status is not MemberStatus.LEFT:
            known[member.name] = Known(member, now_s)
    kept = (each for each in known.values() if not led or each.seen_at_s > now_s - FORGET_AFTER_S)
    return msgspec.structs.replace(before, seen_at_s=now_s, known=tuple(kept))


def client_agents(
    *,
    servers: Sequence[ServerSpec],
    settings: Sequence[ClientAgent],
    inventory: Sequence[InventoryHost],
    inventory_name: str,
    now: Sequence[Member],
    before: Membership,
    at_s: float,
) -> tuple[ClientAgent, ...]:
    """Merge the sources; each client agent once, by name and by address, never a server of the cluster.

    The settings' address counts first, then the inventory's, then gossip's. A name of the settings or of the
    inventory that gossip does not know gives way to the one that gossip has for the same address.
    """
    remembered = sorted(before.known, key=lambda each: each.seen_at_s)
    everybody = [*(each.member for each in remembered), *now]
    names = {member.name for member in everybody}
    # The newest counts where an address has changed hands.
    name_at = {member.address: member.name for member in everybody}
    servers_called = {server.name for server in servers} | {m.name for m in everybody if m.server}
    servers_at = {server.address.lower() for server in servers} | {m.address for m in everybody if m.server}
    found: dict[str, ClientAgent] = {}
    taken: dict[str, str] = {}

    def add(name: str, address: str, source: str) -> None:
        if name in servers_called or address.lower() in servers_at:
            return
        if (known := found.get(name)) is not None:
            found[name] = msgspec.structs.replace(known, source=f"{known.source}; {source}")
        elif address not in taken:
            found[name] = ClientAgent(ServerName(name), address, source)
            taken[address] = name

    def called(name: str, address: str) -> str:
        short = name.partition(".")[0]
        return next((each for each in (name, short) if each in names), name_at.get(address, name))

    for agent in settings:
        add(called(agent.name, agent.address), agent.address, agent.source)
    for host in inventory:
        add(called(host.name, host.address), host.address, inventory_name)
    for member in now:
        if member.status is not MemberStatus.LEFT:
            add(member.name, member.address, f"gossip ({member.status} now)")
    listed_now = {member.name for member in now if member.status is not MemberStatus.LEFT}
    for each in reversed(remembered):
        if each.member.name not in listed_now:
            add(each.member.name, each.member.address, _remembered(each.seen_at_s, at_s))
    return tuple(sorted(found.values(), key=lambda agent: agent.name))


def _remembered(seen_at_s: float, at_s: float) -> str:
    return f"last known membership (alive {when(seen_at_s, at_s)})"


def when(then_s: float, now_s: float) -> str:
    """Give a time with its distance: "2026-11-28 22:40 UTC, 5 h before"."""
    told = datetime.fromtimestamp(then_s, UTC).strftime("%Y-%m-%d %H:%M")
    return f"{told} UTC, {_age(max(now_s - then_s, 0.0))} before"


def _age(seconds: float) -> str:
    """Give a duration in its largest unit: "40 s", "12 min", "5 h", "3 d"."""
    for unit_s, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit_s:
            return f"{seconds // unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"
