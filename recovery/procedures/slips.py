"""Words that cannot be meant: a slip of the finger is told before Redis or any host is asked. Pure."""

from __future__ import annotations

import ipaddress
import re

from recovery.errors import RecoveryError
from recovery.model import ClusterSpec, ServerName, host_of
from recovery.procedures import METHODS

_NODE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class UnknownMethod(RecoveryError):
    """There is no such procedure."""


class UnknownServer(RecoveryError):
    """The settings name no such server."""


def refuse_unknown(spec: ClusterSpec, *, method: str | None, lost: tuple[ServerName, ...]) -> None:
    """Raise UnknownMethod or UnknownServer.

    A voter that the settings do not have is claimed by its address or its node id, which only the servers know.
    """
    if method is not None and method not in METHODS:
        raise UnknownMethod(
            f"There is no method “{method}”; there are {', '.join(METHODS)}. Nothing was done."
        )
    known = {word for server in spec.servers for word in (server.name, server.address)}
    strange = [name for name in lost if name not in known and not _address_or_id(name)]
    if strange:
        raise UnknownServer(
            f"{spec.name} has no server “{'”, “'.join(strange)}” in the settings; they name "
            f"{', '.join(server.name for server in spec.servers)}. Nothing was done. A voter that is not in the "
            "settings is claimed by its address (IP:PORT) or its node id, as `status` shows them."
        )


def _address_or_id(word: str) -> bool:
    if _NODE_ID.fullmatch(word):
        return True
    for text in (word, host_of(word)):
        try:
            ipaddress.ip_address(text)
        except ValueError:
            continue
        return True
    return False
