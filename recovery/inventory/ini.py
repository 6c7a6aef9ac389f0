"""An inventory in Ansible's INI form, read line by line as Ansible's own ini plugin does.

Source: ansible-core, lib/ansible/plugins/inventory/ini.py and lib/ansible/parsing/utils/addresses.py.
"""

from __future__ import annotations

import re
import shlex
from typing import Final

from recovery.errors import InventoryProblem
from recovery.inventory.groups import UNGROUPED, Group, Inventory
from recovery.inventory.ranges import expand

_SECTION: Final = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:[#;].*)?")
_KINDS: Final = ("hosts", "children", "vars")


def parse_ini(text: str) -> Inventory:
    """Read an INI inventory; InventoryProblem names the line that cannot be read."""
    hosts: dict[str, dict[str, None]] = {}
    children: dict[str, dict[str, None]] = {}
    variables: dict[str, dict[str, str]] = {}
    group, kind = UNGROUPED, "hosts"
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        try:
            section = _section(line)
            if section is not None:
                group, kind = section
                hosts.setdefault(group, {})
            elif kind == "hosts":
                names, given = _host_line(line)
                hosts.setdefault(group, {}).update(dict.fromkeys(names))
                for name in names:
                    variables.setdefault(name, {}).update(given)
            elif kind == "children":
                child = line.split("#")[0].strip()
                children.setdefault(group, {})[child] = None
                hosts.setdefault(child, {})
        except InventoryProblem as problem:
            raise InventoryProblem(f"line {number}: {problem}") from None
    groups = {name: Group(tuple(own), tuple(children.get(name, ()))) for name, own in hosts.items()}
    return Inventory(groups, variables)


def _section(line: str) -> tuple[str, str] | None:
    found = _SECTION.fullmatch(line)
    if found is None:
        if line.startswith("[") and line.endswith("]") and "::" not in line:
            raise InventoryProblem(f"{line} is no section; write [GROUP], [GROUP:children] or [GROUP:vars]")
        return None
    kind = found[2] or "hosts"
    if kind not in _KINDS:
        raise InventoryProblem(f"a section may end in :hosts, :children or :vars, not in :{kind}")
    return found[1], kind


def _host_line(line: str) -> tuple[tuple[str, ...], dict[str, str]]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise InventoryProblem(f"cannot be split into words ({error})") from None
    if not words:
        return (), {}
    given: dict[str, str] = {}
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if not equals:
            raise InventoryProblem(f"behind a host stand variables as NAME=VALUE, not {word}")
        given[name] = value
    return expand(words[0]), given
