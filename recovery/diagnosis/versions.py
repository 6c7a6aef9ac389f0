"""Which Consul a server runs, where that changes what a file means."""

from __future__ import annotations

import json

from recovery.model import ServerObservation


def version(server: ServerObservation) -> tuple[int, int] | None:
    """Major and minor version, from the agent or from the installed program; None if nothing tells it."""
    text = server.agent.version if server.agent is not None and server.agent.version else ""
    if not text and server.host is not None:
        text = server.host.version
    numbers = text.lstrip("v").split(".")
    if len(numbers) < 2 or not (numbers[0].isdigit() and numbers[1].isdigit()):
        return None
    return int(numbers[0]), int(numbers[1])


def listed_peers(server: ServerObservation) -> tuple[str, ...] | None:
    """Read the addresses of a live raft/peers.json (below 0.7): `null`, `[]` or no file is none; None if unreadable."""
    text = server.host.peers_json if server.host is not None else None
    try:
        listed = json.loads(text) if text is not None else None
    except ValueError:
        return None
    if listed is None:
        return ()
    known = isinstance(listed, list) and all(isinstance(each, str) for each in listed)
    return tuple(listed) if known else None


def live_peers_file(server: ServerObservation) -> bool:
    """Whether raft/peers.json is the live peer set (below 0.7) rather than an order to recover (CHANGELOG 0.7.0)."""
    known = version(server)
    return known is not None and known < (0, 7)
