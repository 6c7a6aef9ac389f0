"""Which settings of a Redis can lose a run that is under way: INFO and CONFIG GET -> sentences. Pure.

https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SETTINGS = ("appendonly", "appendfsync", "save", "maxmemory-policy")


def warnings(name: str, info: Mapping[str, Any], settings: Mapping[str, str] | None) -> list[str]:
    """Give a sentence for each risk, with what to set; ``settings`` is None where CONFIG is not allowed."""
    found = []
    if info.get("role") == "slave":
        found.append(f"{name} is a replica and takes no writes: set redis.url to the primary.")
    if not info.get("aof_enabled"):
        found.append(
            f"{name} has appendonly off, so a restart of Redis forgets the run that is going on"
            f"{_snapshots(settings)}: set `appendonly yes` and `appendfsync always`."
        )
    elif settings is None:
        found.append(
            f"Whether {name} writes to its disk before it answers could not be checked (our user may not"
            " CONFIG GET): see to `appendfsync always`."
        )
    elif (fsync := settings.get("appendfsync")) != "always":
        lost = "the last second" if fsync == "everysec" else "the last half minute, perhaps more,"
        found.append(
            f"{name} has appendfsync {fsync}: where its machine dies, {lost} of a run is forgotten: set"
            " `appendfsync always`."
        )
    policy = str(info.get("maxmemory_policy") or (settings or {}).get("maxmemory-policy", "noeviction"))
    if policy != "noeviction" and info.get("maxmemory"):
        found.append(
            f"{name} may throw our keys away when its memory is full (maxmemory-policy {policy}): set"
            " `maxmemory-policy noeviction`, or give the bot its own."
        )
    return found


def _snapshots(settings: Mapping[str, str] | None) -> str:
    if settings is None:
        return ""
    save = settings.get("save", "")
    return f" since its last snapshot (save {save})" if save else ", and it saves no snapshots either"
