"""The HTTP API on 127.0.0.1:8500, as far as the bot, the lab and an operator's curl use it; the rest is 404.

Source: command/agent/http.go at v0.6.4, and the captures: what came with 0.7 (operator, snapshot) is 404 there.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from lab.oldconsul import fsm
from lab.oldconsul.journal import log
from lab.oldconsul.server import NoLeader
from lab.oldconsul.views import member_json

if TYPE_CHECKING:
    from lab.oldconsul.agent import Agent

PORT = 8500
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `flags` are the query's parameters."""

    method: str
    path: str
    flags: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: status, body (a value is written as JSON, bytes as they are), and X-Consul headers."""

    status: int
    body: Any = b""
    headers: Mapping[str, str] | None = None


class HttpApi:
    """Answers HTTP for one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def start(self) -> asyncio.Server:
        """Open the port; raises OSError if it is taken."""
        return await asyncio.start_server(self._serve, "127.0.0.1", PORT)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (read := await _read(reader)) is not None:
                request, keep_open = read
                reply = await self._reply(request, writer.get_extra_info("peername"))
                writer.write(_written(reply, keep_open=keep_open))
                await writer.drain()
                if not keep_open:
                    break
        except (OSError, ValueError, EOFError):
            pass
        finally:
            writer.close()

    async def _reply(self, request: Request, peer: tuple[str, int]) -> Reply:
        try:
            return await self._route(request)
        except NoLeader as error:
            query = "&".join(f"{key}={value}" if value else key for key, value in request.flags.items())
            log(
                "ERR",
                f"http: Request {request.method} {request.path}{'?' if query else ''}{query}, error: {error}"
                f" from={peer[0]}:{peer[1]}",
            )
            unknown = {"X-Consul-Index": "0", "X-Consul-Knownleader": "false", "X-Consul-Lastcontact": "0"}
            return Reply(500, str(error).encode(), None if request.path.startswith("/v1/kv/") else unknown)

    async def _route(self, request: Request) -> Reply:
        agent = self._agent
        match request.path.removeprefix("/v1/").split("/", 1) if request.path.startswith("/v1/") else []:
            case ["agent", "self"]:
                return Reply(200, agent.self_json())
            case ["agent", "members"]:
                return Reply(200, [member_json(member) for member in agent.gossip.members.values()])
            case ["agent", rest] if rest.startswith("join/"):
                joined = await agent.gossip.join([unquote(rest.removeprefix("join/"))])
                return Reply(200) if joined else Reply(500, b"0 error(s) occurred: no agent joined")
            case ["agent", rest] if rest.startswith("force-leave/"):
                agent.gossip.force_leave(unquote(rest.removeprefix("force-leave/")))
                return Reply(200)
            case ["status", "leader" | "peers" as what]:
                return Reply(200, (await agent.cluster.status())[what])
            case ["catalog", "datacenters"]:
                return Reply(200, [agent.config.datacenter])
            case ["catalog", "nodes" | "services" as table]:
                return await self._catalog(request, table)
            case ["session", what]:
                return await self._session(request, what)
            case ["kv", key]:
                return await self._key(request, unquote(key))
            case _:
                return Reply(404)

    async def _tables(self, request: Request, table: str) -> tuple[Any, dict[str, str]]:
        found = await self._agent.cluster.read(
            stale="stale" in request.flags, consistent="consistent" in request.flags
        )
        headers = {
            "X-Consul-Index": str(max(found["index"].get(table, 1), 1)),
            "X-Consul-Knownleader": "true" if found["known"] else "false",
            "X-Consul-Lastcontact": str(found["age_ms"]),
        }
        return found, headers

    async def _catalog(self, request: Request, table: str) -> Reply:
        found, headers = await self._tables(request, table)
        if table == "nodes":
            return Reply(200, sorted(found["nodes"].values(), key=lambda node: str(node["Node"])), headers)
        services: dict[str, list[str]] = {}
        for of_node in found["services"].values():
            for name, tags in of_node.items():
                services[name] = sorted({*services.get(name, []), *tags})
        return Reply(200, services, headers)

    async def _session(self, request: Request, what: str) -> Reply:
        datacenter = self._agent.config.datacenter
        if what == "list":
            found, headers = await self._tables(request, "sessions")
            return Reply(200, list(found["sessions"].values()), headers)
        if request.method != "PUT":
            return Reply(405)
        if what == "create":
            wanted = {"Node": self._agent.config.node_name} | (
                json.loads(request.body) if request.body else {}
            )
            made = await self._agent.cluster.write(
                fsm.session_command("create", wanted, datacenter=datacenter)
            )
            return Reply(200, {"ID": made})
        if not what.startswith("destroy/"):
            return Reply(404)
        ended = fsm.session_command("destroy", {"ID": what.partition("/")[2]}, datacenter=datacenter)
        return Reply(200, await self._agent.cluster.write(ended))

    async def _key(self, request: Request, key: str) -> Reply:
        recurse = "recurse" in request.flags
        datacenter = self._agent.config.datacenter
        if request.method in {"PUT", "DELETE"}:
            put = request.method == "PUT"
            operation = "set" if put else "delete-tree" if recurse else "delete"
            command = fsm.key_command(
                operation,
                key,
                request.body if put else None,
                flags=int(request.flags.get("flags") or 0),
                datacenter=datacenter,
            )
            return Reply(200, await self._agent.cluster.write(command))
        found, headers = await self._tables(request, "kvs")
        keys = found["keys"]
        if recurse or "keys" in request.flags:
            hits = [keys[name] for name in sorted(keys) if name.startswith(key)]
        else:
            hits = [keys[key]] if key in keys else []
        if not hits:
            return Reply(404, headers=headers)
        if "keys" in request.flags:
            return Reply(200, [hit["Key"] for hit in hits], headers)
        if "raw" in request.flags:
            return Reply(200, base64.b64decode(hits[0]["Value"] or ""), headers)
        headers["X-Consul-Index"] = str(max(hit["ModifyIndex"] for hit in hits))
        return Reply(200, hits, headers)


async def _read(reader: asyncio.StreamReader) -> tuple[Request, bool] | None:
    """Read one request, and whether the connection stays open after it; None at the end."""
    line = await reader.readline()
    if not line.strip():
        return None
    method, target, version = line.decode("latin-1").split()
    headers: dict[str, str] = {}
    while (line := await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        raise ValueError("not understood")
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    keep_open = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    return Request(method, parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)), body), keep_open


def _written(reply: Reply, *, keep_open: bool) -> bytes:
    is_text = isinstance(reply.body, bytes)
    body = reply.body if is_text else json.dumps(reply.body, separators=(",", ":")).encode()
    lines = [
        f"HTTP/1.1 {reply.status} {_REASONS[reply.status]}",
        *(f"{name}: {value}" for name, value in (reply.headers or {}).items()),
        f"Content-Type: {'text/plain; charset=utf-8' if is_text else 'application/json'}",
        f"Content-Length: {len(body)}",
        *([] if keep_open else ["Connection: close"]),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
