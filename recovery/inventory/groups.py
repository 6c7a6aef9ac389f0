"""An inventory as a value, and the hosts of one of its groups with their addresses."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from recovery.errors import InventoryProblem
from recovery.inventory.address import address_problem

ALL: Final = "all"
UNGROUPED: Final = "ungrouped"
_IN_CONSUL_DNS: Final = re.compile(r"(?P<node>.+)\.node(?:\.[A-Za-z0-9_-]+)?\.consul\.?")


class Group(msgspec.Struct, frozen=True):
    """A group's own hosts and the groups below it, by name."""

    hosts: tuple[str, ...] = ()
    children: tuple[str, ...] = ()


class Inventory(msgspec.Struct, frozen=True):
    """Groups by name, and the variables of each host; groups' variables are not kept."""

    groups: Mapping[str, Group]
    variables: Mapping[str, Mapping[str, Any]]


class InventoryHost(msgspec.Struct, frozen=True):
    """A host of an inventory."""

    name: str
    """Its inventory name, without the ending that Consul's DNS gives to a node (NAME.node.consul)."""
    address: str


class Selection(msgspec.Struct, frozen=True):
    """The hosts of a group; those without a usable address are left out, a sentence each."""

    hosts: tuple[InventoryHost, ...]
    left_out: tuple[str, ...] = ()


def node_name(host: str) -> str:
    """Give the Consul node name of an inventory name: ``web-1.node.consul`` is the node web-1."""
    found = _IN_CONSUL_DNS.fullmatch(host)
    return found["node"] if found else host


def hosts_of(inventory: Inventory, group: str) -> tuple[str, ...]:
    """Give the inventory names in a group and in the groups below it, each once.

    Raises InventoryProblem if there is no such group.
    """
    if group == ALL:
        # As Ansible has it: every host is in "all", whether a group of that name is written down or not.
        named = (host for each in inventory.groups.values() for host in each.hosts)
        return tuple(dict.fromkeys((*named, *inventory.variables)))
    if group == UNGROUPED:
        grouped = {
            host
            for name, each in inventory.groups.items()
            if name not in {ALL, UNGROUPED}
            for host in each.hosts
        }
        return tuple(host for host in hosts_of(inventory, ALL) if host not in grouped)
    if group not in inventory.groups:
        raise InventoryProblem(f"has no group {group}{_meant(group, inventory.groups)}")
    hosts: dict[str, None] = {}
    waiting, seen = [group], {group}
    while waiting:
        each = inventory.groups.get(waiting.pop(0), Group())
        hosts.update(dict.fromkeys(each.hosts))
        # A group that is its own grandchild is Ansible's error; here it is only not walked twice.
        below = [child for child in each.children if child not in seen]
        seen.update(below)
        waiting += below
    return tuple(hosts)


def select(inventory: Inventory, group: str) -> Selection:
    """Give a group's hosts with their addresses: ansible_host, else the name itself.

    Raises InventoryProblem if there is no such group.
    """
    hosts: list[InventoryHost] = []
    left_out: list[str] = []
    for name in hosts_of(inventory, group):
        variables = inventory.variables.get(name, {})
        address = str(variables.get("ansible_host", variables.get("ansible_ssh_host", name)))
        problem = (
            "is a template, which only Ansible can fill in" if "{{" in address else address_problem(address)
        )
        if problem:
            left_out.append(f"{name}: its address {address} {problem}; write ansible_host")
        else:
            hosts.append(InventoryHost(node_name(name), address))
    return Selection(tuple(hosts), tuple(left_out))


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; it has {', '.join(sorted(known)) or 'none'}"
