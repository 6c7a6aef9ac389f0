"""Consul's members as an Ansible dynamic inventory: what --list and --host answer.

Source: Ansible's "Developing dynamic inventory": with ``_meta`` in the answer, --host is never called.
"""

from __future__ import annotations

from collections.abc import Iterable

from recovery.inventory.groups import ALL, UNGROUPED, node_name
from recovery.model import Member, MemberStatus

_FIXED = ("members", "server", "client", "alive")
_TAKEN = frozenset({*_FIXED, ALL, UNGROUPED, "_meta"})


def printed_list(members: Iterable[Member], *, plain: bool) -> dict[str, object]:
    """Give the answer to --list: groups of host names, and each host's variables under ``_meta``."""
    groups: dict[str, list[str]] = {name: [] for name in _FIXED}
    variables: dict[str, dict[str, str]] = {}
    for member in sorted(members, key=lambda each: each.name):
        host = _host_name(member, plain=plain)
        groups["members"].append(host)
        groups["server" if member.server else "client"].append(host)
        if member.status is MemberStatus.ALIVE:
            groups["alive"].append(host)
        if member.datacenter:
            groups.setdefault(_datacenter_group(member.datacenter), []).append(host)
        variables[host] = _variables(member)
    printed: dict[str, object] = {name: {"hosts": hosts} for name, hosts in groups.items()}
    return {"_meta": {"hostvars": variables}, **printed}


def printed_host(members: Iterable[Member], name: str) -> dict[str, str] | None:
    """Give the answer to --host, by the node's own name or the one with .node.consul; None for a stranger."""
    wanted = node_name(name)
    return next((_variables(member) for member in members if member.name == wanted), None)


def _host_name(member: Member, *, plain: bool) -> str:
    return member.name if plain else f"{member.name}.node.consul"


def _datacenter_group(datacenter: str) -> str:
    # A datacenter named "client" must not be mixed up with the group of that name.
    return f"dc_{datacenter}" if datacenter in _TAKEN else datacenter


def _variables(member: Member) -> dict[str, str]:
    return {"ansible_host": member.address}
