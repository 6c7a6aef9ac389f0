"""A server's own agent, asked on its loopback through SSH; the only importer of py-consul.

py-consul's own calls are passed by where they do not do: agent.self(), agent.members() and status.* send no
token, and the environment (CONSUL_HTTP_TOKEN, ..._ADDR, ..._SSL) beats its arguments. Its request layer and
headers are used, on a Unix socket that leads to the host. Its exceptions do not cover the network's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

import aiohttp
import consul
import msgspec
from consul import aio

from recovery.adapters import answers
from recovery.model import AgentView, Catalogue, KnownNode, host_of

T = TypeVar("T")

_AGENT_TIMEOUT_S: Final = 5.0
_STALE_TIMEOUT_S: Final = 2.0
"""A restarted survivor refuses a stale read only after rpc_hold_timeout (7 s); one that answers does so at once."""
_HELD_TIMEOUT_S: Final = 12.0
"""Above rpc_hold_timeout: for reads that wait for a leader."""


class Secret:
    """A token that does not show in a repr, a log or an error."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the token itself, for a request."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


class AgentAccess(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent is asked on its own loopback."""

    http_port: int = 8500
    scheme: str = "http"
    ca_path: str = ""
    """For https: the CA that signed the agent's certificate; "" takes the machine's own."""
    token: Secret | None = None
    """For reads of the cluster and for snapshots."""
    recovery_token: Secret | None = None
    """acl.tokens.agent_recovery (1.11+; before: agent_master): opens agent endpoints without a leader."""

    @property
    def url(self) -> str:
        """Where it answers, seen from its own host."""
        return f"{self.scheme}://127.0.0.1:{self.http_port}"


class AgentSilent(Exception):
    """The agent did not answer; one sentence why."""


class Answer(NamedTuple):
    """Status and body of an answer."""

    code: int
    body: str


class _SocketClient(aio.HTTPClient):
    """py-consul's asyncio client on a Unix socket; its own makes TCP connections only."""

    def __init__(self, path: str, access: AgentAccess) -> None:
        consul.base.HTTPClient.__init__(self, "127.0.0.1", access.http_port, access.scheme)
        self._tls = (
            ssl.create_default_context(cafile=access.ca_path or None) if access.scheme == "https" else True
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=path),
        )

    async def _request(  # noqa: PLR0917  # the base class calls it so
        self,
        callback: Callable[[consul.base.Response], T],
        method: str,
        uri: str,
        headers: dict[str, str] | None,
        data: str | bytes | None = None,
        connections_timeout: float | None = None,
        raw: bool = False,
    ) -> T:
        """Ask with our own TLS context: py-consul gives one only to the TCP connector that it makes itself."""
        del raw
        timeout = aiohttp.ClientTimeout(total=connections_timeout or _HELD_TIMEOUT_S)
        async with self._session.request(
            method, uri, headers=headers, data=data, timeout=timeout, ssl=self._tls
        ) as response:
            body = await response.text(encoding="utf-8", errors="replace")
            return callback(consul.base.Response(response.status, response.headers, body))


class _Client(aio.Consul):
    def __init__(self, path: str, access: AgentAccess) -> None:
        self._path = path
        self._access = access
        super().__init__(host="127.0.0.1", port=access.http_port)
        # The base class takes CONSUL_HTTP_TOKEN from the environment over its argument.
        self.token = None

    def http_connect(
        self,
        host: str,
        port: int,
        scheme: str,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
    ) -> aio.HTTPClient:
        del host, port, scheme, verify, cert
        return _SocketClient(self._path, self._access)


class Agent:
    """One server's agent. Make it inside a running loop; close it.

    Methods raise AgentSilent when nothing answers; a refusal is an answer.
    """

    def __init__(self, socket_path: str, access: AgentAccess) -> None:
        self._client = _Client(socket_path, access)
        self._access = access

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.http.close()

    async def view(self, *, own_address: str) -> AgentView:
        """Ask for everything, at once. None of these calls waits for a leader for longer than 2 s.

        `own_address` is the host's IP address: where agent/self is refused, a status/leader that names it
        tells that this server names itself.
        """
        quick, stale = await asyncio.gather(self.pulse(own_address=own_address), self._stale_reads())
        read, notes = stale
        return msgspec.structs.replace(
            quick,
            stale_reads=read is not None,
            catalogue=read[0] if read else None,
            known_nodes=read[1] if read else (),
            withheld=(*quick.withheld, *notes),
        )

    async def pulse(self, *, own_address: str) -> AgentView:
        """Ask only what a server answers at once, with or without a leader."""
        leader, peers, own, members = await asyncio.gather(
            self._get("/v1/status/leader"),
            self._get("/v1/status/peers"),
            self._agent_get("/v1/agent/self"),
            self._agent_get("/v1/agent/members"),
        )
        withheld = [
            _refusal(name, answer)
            for name, answer in (
                ("status/leader", leader),
                ("status/peers", peers),
                ("agent/self", own),
                ("agent/members", members),
            )
            if answer.code != 200
        ]
        address = answers.parse_leader(leader.body) if leader.code == 200 else ""
        view = AgentView(
            leader_address=address,
            peers=answers.parse_addresses(peers.body) if peers.code == 200 else (),
            members=answers.parse_members(members.body) if members.code == 200 else (),
            names_itself_leader=own.code != 200 and bool(address) and host_of(address) == own_address,
            withheld=tuple(withheld),
        )
        return answers.with_self(view, own.body) if own.code == 200 else view

    async def _stale_reads(
        self,
    ) -> tuple[tuple[Catalogue, tuple[KnownNode, ...]] | None, tuple[str, ...]]:
        """Count the catalogue by stale reads; None with the reason where they are not answered."""
        paths = ("/v1/catalog/nodes", "/v1/catalog/services", "/v1/session/list")
        token = self._access.token
        try:
            found = await asyncio.gather(
                *(self._get(path, ("stale",), token=token, timeout_s=_STALE_TIMEOUT_S) for path in paths)
            )
        except AgentSilent:
            return None, (f"stale reads: no answer within {_STALE_TIMEOUT_S:g} s",)
        for path, answer in zip(paths, found, strict=True):
            if answer.code != 200:
                return None, (_refusal(f"stale read of {path}", answer),)
        nodes, services, sessions = (answers.parse_json(answer.body) for answer in found)
        counts = (len(each) if isinstance(each, (list, dict)) else 0 for each in (nodes, services, sessions))
        return (Catalogue(*counts), answers.parse_nodes(found[0].body)), ()

    async def consistent_read(self) -> Answer:
        """Read the catalogue with ?consistent: 200 only when the leader has just asked a quorum."""
        return await self._get(
            "/v1/catalog/nodes", ("consistent",), token=self._access.token, timeout_s=_HELD_TIMEOUT_S
        )

    async def join(self, address: str) -> Answer:
        """Let the agent join a gossip member (PUT /v1/agent/join/ADDRESS)."""
        answer = Answer(0, "")
        for token in self._agent_tokens():
            answer = await self._request("PUT", f"/v1/agent/join/{address}", (), token, _HELD_TIMEOUT_S)
            if answer.code != 403:
                break
        return answer

    def _agent_tokens(self) -> tuple[Secret | None, ...]:
        """Tokens for agent endpoints in the order in which to try them."""
        tokens = tuple(token for token in (self._access.recovery_token, self._access.token) if token)
        return tokens or (None,)

    async def _agent_get(self, path: str) -> Answer:
        answer = Answer(0, "")
        for token in self._agent_tokens():
            answer = await self._get(path, token=token)
            if answer.code != 403:
                break
        return answer

    async def _get(
        self,
        path: str,
        flags: Sequence[str] = (),
        *,
        token: Secret | None = None,
        timeout_s: float = _AGENT_TIMEOUT_S,
    ) -> Answer:
        return await self._request("GET", path, flags, token, timeout_s)

    async def _request(
        self, method: str, path: str, flags: Sequence[str], token: Secret | None, timeout_s: float
    ) -> Answer:
        call = self._client.http.get if method == "GET" else self._client.http.put
        headers = self._client.prepare_headers(token.reveal() if token else None)
        try:
            return await call(
                lambda response: Answer(response.code, response.body),
                path,
                params=[(flag, "") for flag in flags],
                headers=headers,
                connections_timeout=timeout_s,
            )
        except TimeoutError:
            raise AgentSilent(f"the agent gave no answer to {path} within {timeout_s:g} s") from None
        except (OSError, aiohttp.ClientError):
            raise AgentSilent(
                f"nothing answers on {self._access.url} of the host (is the agent up, is that its HTTP address?)"
            ) from None


def _refusal(what: str, answer: Answer) -> str:
    hint = " (no token, or one that this server does not know now)" if answer.code == 403 else ""
    return f"{what}: {answer.code} {answer.body.strip()[:120]}{hint}"
