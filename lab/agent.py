"""What a lab host's Consul agent is configured with, and one plain HTTP call to it.

The call is made from inside the host's own network, because a real agent answers on its loopback only.
"""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.namespaces import tcp_socket_in

HTTP_PORT = 8500
HAS_WAL = (1, 15, 0)


@dataclass(frozen=True, slots=True)
class AclTokens:
    """The secret ids a lab with ACLs was made with; all three are known to the agents' configuration."""

    management: str
    agent_recovery: str
    agent: str


@dataclass(frozen=True, slots=True)
class ConsulProgram:
    """The Consul that the hosts run: the packaged one (`path` None) or another, and its version."""

    path: str | None
    version: tuple[int, int, int]


def consul_program(root: Path, path: Path | None) -> ConsulProgram:
    """Return what Consul the hosts shall run and ask it for its version.

    `path` is another program than the tree's packaged /usr/bin/consul. Raises LabError if it does not run.
    """
    argv = ["chroot", str(root), "/usr/bin/consul"] if path is None else [str(path)]
    try:
        told = subprocess.run([*argv, "version"], check=False, capture_output=True, text=True).stdout
    except OSError as error:
        raise LabError(
            f"The Consul program {path} cannot be run: {error.strerror}. Check LAB_CONSUL."
        ) from error
    found = re.search(r"Consul v?(\d+)\.(\d+)\.(\d+)", told)
    if found is None:
        raise LabError(f"`{argv[-1]} version` does not answer as Consul does. Check LAB_CONSUL.")
    major, minor, patch = (int(part) for part in found.groups())
    return ConsulProgram(path=None if path is None else str(path), version=(major, minor, patch))


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What all agents of one lab cluster have in common.

    raft_multiplier None leaves Consul's own default (elections of 5 to 10 s instead of 1 to 2 s).
    `log_store` is "wal" or "boltdb" for servers of Consul 1.15 and newer; "" is its default.
    `config` is merged over everything else, for what a test wants to differ.
    """

    program: ConsulProgram
    bootstrap_expect: int
    raft_multiplier: int | None
    server_stabilization_time_s: float
    sudoers: str
    tokens: AclTokens | None
    config: dict[str, Any]
    log_store: str = ""


def agent_config(
    settings: ClusterSettings, *, name: str, address: str, server: bool, join: Sequence[str]
) -> dict[str, Any]:
    """Return the content of an agent's configuration file.

    Older agents refuse keys that they do not know, so each key is there from the version that brought it:
    performance 0.7.0, autopilot 0.8.0, the acl block 1.4.0, raft_logstore 1.15.0 (Consul's CHANGELOG).
    """
    version = settings.program.version
    config: dict[str, Any] = {
        "node_name": name,
        "bind_addr": address,
        "server": server,
        "retry_join": list(join),
        "retry_interval": "1s",
        "disable_update_check": True,
    }
    if server:
        config["bootstrap_expect"] = settings.bootstrap_expect
    if version >= (0, 7, 0) and settings.raft_multiplier is not None:
        config["performance"] = {"raft_multiplier": settings.raft_multiplier}
    if server and version >= (0, 8, 0):
        config["autopilot"] = {"server_stabilization_time": f"{settings.server_stabilization_time_s}s"}
    if server and settings.log_store:
        if version < HAS_WAL:
            raise LabError("The lab can choose a log store from Consul 1.15 on only.")
        # The smallest segments: the hosts' disks are in memory.
        config["raft_logstore"] = {"backend": settings.log_store, "wal": {"segment_size_mb": 1}}
    if settings.tokens is not None:
        if version < (1, 4, 0):
            raise LabError("The lab can switch ACLs on from Consul 1.4 on only.")
        renamed = version >= (1, 11, 0)
        config["acl"] = {
            "enabled": True,
            "default_policy": "deny",
            "tokens": {
                "initial_management" if renamed else "master": settings.tokens.management,
                "agent_recovery" if renamed else "agent_master": settings.tokens.agent_recovery,
                "agent": settings.tokens.agent,
            },
        }
    return config | settings.config


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent answered: the HTTP status and the body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON; raises LabError where the agent did not answer 200."""
        if self.status != 200:
            raise LabError(f"The agent answered {self.status}: {self.body.decode(errors='replace').strip()}")
        return json.loads(self.body)


async def ask_agent(
    network: Path,
    path: str,
    *,
    method: str = "GET",
    body: bytes = b"",
    token: str | None = None,
    timeout_s: float = 5.0,
) -> Answer:
    """Make one HTTP call to the agent on the loopback of a network namespace.

    HTTP/1.0, so that the answer ends with the connection. Raises OSError (TimeoutError too) if nobody answers.
    """
    async with asyncio.timeout(timeout_s):
        sock = tcp_socket_in(network)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", HTTP_PORT))
        except BaseException:
            sock.close()
            raise
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            headers: Mapping[str, str] = {"Host": "localhost", "Content-Length": str(len(body))} | (
                {"X-Consul-Token": token} if token else {}
            )
            lines = [f"{method} {path} HTTP/1.0", *(f"{name}: {value}" for name, value in headers.items())]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("ascii") + body)
            answer = await reader.read(-1)
        finally:
            # Not awaited in the ordinary way: a peer that vanished would keep a close waiting.
            writer.transport.abort()
    head, _, content = answer.partition(b"\r\n\r\n")
    match head.split(maxsplit=2):
        case [_, status, *_] if status.isdigit():
            return Answer(status=int(status), body=content)
        case _:
            raise ConnectionResetError(os.strerror(104))
