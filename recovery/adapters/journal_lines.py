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
_STARTING: Final = "Starting Consul agent"
_IGNORED: Final = "deleted peers.json file (see peers.info"
_REFUSED: Final = re.compile(r"Failed to start Raft: ((?:recovery failed|.*peers\.json).*?)\"?$")


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


def ignored_peers_file(lines: Sequence[str]) -> bool:
    """Tell whether the agent, when it last started, deleted peers.json unread (consul/server.go, setupRaft)."""
    return any(_IGNORED in line for line in _last_start(lines))


def refused_peers_file(lines: Sequence[str]) -> str:
    """Give Consul's own word on why it did not start with peers.json the last time; "" where it said none."""
    said = [found.group(1) for line in _last_start(lines) if (found := _REFUSED.search(line.strip()))]
    return without_secrets(said[-1])[:_MOST_CHARACTERS] if said else ""


def _last_start(lines: Sequence[str]) -> Sequence[str]:
    """What came after the last start; all of it where none is to be seen."""
    starts = [number for number, line in enumerate(lines) if _STARTING in line]
    return lines[starts[-1] :] if starts else lines


def without_secrets(text: str) -> str:
    """Cut out what stands after a secret's name, and what looks like a gossip key."""
    return _GOSSIP_KEY.sub("***", _NAMED_SECRET.sub(r"\1***", text))
