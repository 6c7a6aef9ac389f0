"""Host patterns with ranges: ``web[01:20].example.com``, ``db-[a:f]``, ``n[0:10:5]``, each with a port perhaps."""

from __future__ import annotations

import ipaddress
import re
import string
from typing import Final

from recovery.errors import InventoryProblem

MOST_HOSTS: Final = 10_000
"""A slip of the keyboard in a range must not fill the memory."""

_BRACKETED: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?")
_WITH_PORT: Final = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])+):\d+")
_RANGE: Final = re.compile(r"\[([^\]]*)\]")


def expand(pattern: str) -> tuple[str, ...]:
    """Give the names that a pattern stands for, without their port; InventoryProblem for a bad range."""
    bracketed = _BRACKETED.fullmatch(pattern)
    if bracketed and _is_ipv6(bracketed[1]):
        return (bracketed[1],)
    with_port = _WITH_PORT.fullmatch(pattern)
    return _expand(with_port[1] if with_port else pattern)


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _expand(pattern: str) -> tuple[str, ...]:
    found = _RANGE.search(pattern)
    if found is None:
        if "[" in pattern or "]" in pattern:
            raise InventoryProblem(f"{pattern} has a bracket without its other half")
        return (pattern,)
    head, tails = pattern[: found.start()], _expand(pattern[found.end() :])
    parts = _parts(found[1])
    if len(parts) * len(tails) > MOST_HOSTS:
        raise InventoryProblem(f"{pattern} stands for more than {MOST_HOSTS} hosts")
    return tuple(f"{head}{part}{tail}" for part in parts for tail in tails)


def _parts(text: str) -> tuple[str, ...]:
    bounds = text.split(":")
    if len(bounds) not in {2, 3}:
        raise InventoryProblem(f"[{text}] is no range; write [FIRST:LAST] or [FIRST:LAST:STEP]")
    first, last, step_text = (*bounds, "1")[:3]
    first = first or "0"
    if not (step_text.isascii() and step_text.isdecimal() and int(step_text) > 0):
        raise InventoryProblem(f"[{text}]: the step is no number above 0")
    step = int(step_text)
    letters = string.ascii_letters
    if len(first) == len(last) == 1 and first in letters and last in letters:
        found = tuple(letters[letters.index(first) : letters.index(last) + 1 : step])
    elif first.isascii() and last.isascii() and first.isdecimal() and last.isdecimal():
        found = _numbers(text, first, last, step)
    else:
        raise InventoryProblem(f"[{text}] is no range of numbers or of letters")
    if not found:
        raise InventoryProblem(f"[{text}]: the first is behind the last")
    return found


def _numbers(text: str, first: str, last: str, step: int) -> tuple[str, ...]:
    # A first bound with leading zeros gives the width, as in Ansible.
    width = len(first) if first.startswith("0") and len(first) > 1 else 0
    if width and len(first) != len(last):
        raise InventoryProblem(f"[{text}]: with leading zeros both bounds are written equally long")
    numbers = range(int(first), int(last) + 1, step)
    if len(numbers) > MOST_HOSTS:
        raise InventoryProblem(f"[{text}] stands for more than {MOST_HOSTS} hosts")
    return tuple(str(number).zfill(width) for number in numbers)
