"""An inventory as a tree: a YAML file, or the JSON that a dynamic-inventory program prints for --list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from recovery.errors import InventoryProblem
from recovery.inventory.groups import Group, Inventory
from recovery.inventory.ranges import expand


class _Loader(yaml.SafeLoader):
    """Ansible's own tags (!vault, !unsafe) stand on values that are not needed here."""


_Loader.add_multi_constructor("!", lambda _loader, _suffix, _node: "")


class _Tree:
    """Collects groups while a file's tree is walked."""

    def __init__(self) -> None:
        self.hosts: dict[str, dict[str, None]] = {}
        self.children: dict[str, dict[str, None]] = {}
        self.variables: dict[str, dict[str, Any]] = {}

    def inventory(self) -> Inventory:
        groups = {
            name: Group(tuple(own), tuple(self.children.get(name, ()))) for name, own in self.hosts.items()
        }
        return Inventory(groups, self.variables)

    def add_host(self, group: str, name: str, given: Mapping[str, Any]) -> None:
        self.hosts.setdefault(group, {})[name] = None
        self.variables.setdefault(name, {}).update(given)

    def add_child(self, group: str, child: str) -> None:
        self.children.setdefault(group, {})[child] = None
        self.hosts.setdefault(child, {})


def parse_yaml(text: str) -> Inventory:
    """Read a YAML inventory (source: ansible-core, lib/ansible/plugins/inventory/yaml.py).

    Raises InventoryProblem.
    """
    try:
        top = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader that passes Ansible's tags by
    except yaml.YAMLError as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        place = f"line {mark.line + 1}: " if mark is not None else ""
        raise InventoryProblem(f"{place}cannot be read as YAML") from None
    tree = _Tree()
    for group, content in _mapping(top, "the file").items():
        _add_group(tree, str(group), content)
    return tree.inventory()


def _add_group(tree: _Tree, group: str, content: Any) -> None:
    tree.hosts.setdefault(group, {})
    parts = _mapping(content, group)
    hosts = parts.get("hosts")
    # Ansible takes one host as a plain text too.
    named = {hosts: None} if isinstance(hosts, str) else _mapping(hosts, f"{group}: hosts")
    for pattern, given in named.items():
        for name in expand(str(pattern)):
            tree.add_host(group, name, _mapping(given, f"{group}: {pattern}"))
    children = parts.get("children")
    below = {children: None} if isinstance(children, str) else _mapping(children, f"{group}: children")
    for child, inside in below.items():
        tree.add_child(group, str(child))
        _add_group(tree, str(child), inside)


def parse_listing(answer: Any) -> tuple[Inventory, bool]:
    """Read what a program answered to --list, and whether the hosts' variables came with it (``_meta``).

    Raises InventoryProblem.
    """
    top = dict(_mapping(answer, "its answer to --list"))
    meta = top.pop("_meta", None)
    known = _mapping(_mapping(meta, "_meta").get("hostvars"), "_meta: hostvars")
    tree = _Tree()
    for name, given in known.items():
        tree.variables[str(name)] = dict(_mapping(given, f"hostvars of {name}"))
    for name, content in top.items():
        group = str(name)
        tree.hosts.setdefault(group, {})
        parts = {"hosts": content} if isinstance(content, list) else _mapping(content, group)
        for host in _names(parts.get("hosts"), f"{group}: hosts"):
            tree.add_host(group, host, {})
        for child in _names(parts.get("children"), f"{group}: children"):
            tree.add_child(group, child)
    return tree.inventory(), meta is not None


def with_variables(inventory: Inventory, variables: Mapping[str, Any]) -> Inventory:
    """Add what a program answered to --host for each host; raises InventoryProblem."""
    given = {name: _mapping(answer, f"its answer to --host {name}") for name, answer in variables.items()}
    return Inventory(inventory.groups, {**inventory.variables, **given})


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InventoryProblem(f"{what} is no mapping")
    return value


def _names(value: Any, what: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InventoryProblem(f"{what} is no list")
    return tuple(str(name) for name in value)
