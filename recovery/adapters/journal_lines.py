"""Which lines of an agent's journal tell why it is as it is, with secrets taken out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_TELLING: Final = re.compile(
    r"\[(?:ERR|ERROR|WARN|FATAL)\]|panic|fatal|Error starting agent|initial configuration|peers\.json"
    r"|election won|leader elected|leadership|no known peers|Graceful shutdown|Started consul|Main process exited",
    re.IGNORECASE,
)
_NAMED_SECRET: Final = re.compile(
    r"(?i)\b([\w-]*(?:token|secret|password|encrypt|accessor)[\w-]*\"?\s*[=:]\s*\"?)[^\s\"&,}]+"
)
_GOSSIP_KEY: Final = re.compile(
    r"(?<![A-Za-z0-9+/])(?:[A-Za-z0-9+/]{43}=|[A-Za-z0-9+/]{22}==)(?![A-Za-z0-9+/=])"
)
_MOST_CHARACTERS: Final = 300


def telling(lines: Sequence[str], *, most: int = 8) -> tuple[str, ...]:
    """Give the last telling lines, oldest first; a line that repeats in sense (but for its time) only once."""
    found: list[str] = []
    known: set[str] = set()
    for line in reversed(lines):
        text = line.strip()
        sense = re.sub(r"\d", "", text)
        if _TELLING.search(text) and sense not in known:
            known.add(sense)
            found.append(without_secrets(text)[:_MOST_CHARACTERS])
        if len(found) == most:
            break
    return tuple(reversed(found))


def without_secrets(text: str) -> str:
    """Cut out what stands after a secret's name, and what looks like a gossip key."""
    return _GOSSIP_KEY.sub("***", _NAMED_SECRET.sub(r"\1***", text))
