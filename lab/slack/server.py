"""LocalSlack: the server, and the test API over it."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

from aiohttp import web

from lab.slack.api_base import Context
from lab.slack.cast import (
    DEFAULT_SCOPES,
    Channel,
    Group,
    Person,
    default_channels,
    default_groups,
    default_people,
)
from lab.slack.desk import Desk
from lab.slack.door import guard
from lab.slack.faults import Fault, Faults, RateLimits
from lab.slack.hooks import Hooks, Triggers
from lab.slack.interactions import Interactions
from lab.slack.page import Page
from lab.slack.records import Call, Delivery, Records, Violation
from lab.slack.sockets import SocketHub
from lab.slack.webapi import WebApi
from lab.slack.workspace import Clock, Workspace

MOST_UPLOAD_BYTES = 16 * 1024 * 1024


class LocalSlack(Desk):
    """A Slack workspace with one installed app, on loopback, for as long as the `async with` block lasts.

    `sockets` are bound sockets of 127.0.0.1, possibly of several network namespaces, and are closed at the
    end; the page is reached through the first and `api_url` is the last. Without them one is opened at `port`
    (0: any).
    `public_url` is the base of permalinks, by default the address of the page. `limits="real"` turns on
    Slack's rate limits. `clock` (Unix seconds) rules the life of tickets, triggers and response URLs, not the
    ack timer.
    """

    def __init__(
        self,
        *,
        sockets: Sequence[socket.socket] = (),
        port: int = 0,
        public_url: str | None = None,
        people: tuple[Person, ...] | None = None,
        channels: tuple[Channel, ...] | None = None,
        groups: tuple[Group, ...] | None = None,
        scopes: Sequence[str] = DEFAULT_SCOPES,
        bot_token: str | None = None,
        app_token: str | None = None,
        limits: Literal["off", "real"] = "off",
        ack_timeout_s: float = 3.0,
        clock: Clock = time.time,
        seed: int | None = None,
    ) -> None:
        self.bot_token = bot_token or f"xoxb-local-{secrets.token_hex(12)}"
        self.app_token = app_token or f"xapp-local-{secrets.token_hex(12)}"
        self.ack_timeout_s = ack_timeout_s
        self.files: dict[str, bytes] = {}
        self._listening = list(sockets) or [_loopback(port)]
        self._down: list[tuple[str, int]] = []
        addresses = [_address(listening) for listening in self._listening]
        self._base = f"http://{addresses[-1]}"
        self.api_url = f"{self._base}/api/"
        self.public_url = (public_url or f"http://{addresses[0]}").rstrip("/")
        self._scopes = frozenset(scopes)
        self._file_names: dict[str, str] = {}
        self._records = Records()
        self._faults = Faults()
        workspace = Workspace(
            people=people or default_people(),
            channels=channels or default_channels(),
            groups=groups or default_groups(),
            clock=clock,
        )
        self._triggers = Triggers(clock)
        self._hooks = Hooks(workspace=workspace, records=self._records)
        self.sockets = SocketHub(
            clock=clock, ack_timeout_s=ack_timeout_s, changed=workspace.changes.bump, seed=seed
        )
        self._interactions = Interactions(
            workspace=workspace,
            hub=self.sockets,
            triggers=self._triggers,
            hooks=self._hooks,
            records=self._records,
            base=self._base,
        )
        super().__init__(workspace=workspace, interactions=self._interactions)
        api = WebApi(
            records=self._records,
            faults=self._faults,
            limits=RateLimits(clock) if limits == "real" else None,
            tokens={self.bot_token: "bot", self.app_token: "app"},
            context_for=self._context,
            clock=clock,
        )
        self._page = Page(desk=self, connected=lambda: self.sockets.count)
        app = web.Application(
            middlewares=[guard({*addresses, urlsplit(self.public_url).netloc})],
            client_max_size=MOST_UPLOAD_BYTES,
        )
        app.router.add_route("*", "/api/{method}", api.handle)
        app.router.add_get("/link", self.sockets.handle)
        app.router.add_post("/hook/{hook}", self._hook)
        app.router.add_post("/upload/{file}", self._upload)
        app.add_routes(self._page.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        self._sites: list[web.SockSite] = []

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await self._listen()
        return self

    async def _listen(self) -> None:
        self._sites = [web.SockSite(self._runner, listening) for listening in self._listening]
        for site in self._sites:
            await site.start()

    async def go_down(self) -> None:
        """Be gone: every connection is cut and new ones are refused. What was said stays."""
        addresses = [listening.getsockname() for listening in self._listening]
        for site in self._sites:
            await site.stop()
        await self._page.close()
        await self.sockets.close()
        if self._runner.server is not None:
            await self._runner.server.shutdown(0.1)
        self._down = addresses

    async def come_back(self) -> None:
        """Listen at the same addresses again, in the network of whoever calls this."""
        self._listening = [_loopback(port) for _, port in self._down]
        self._down = []
        await self._listen()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._page.close()
        await self.sockets.close()
        await self._runner.cleanup()

    async def wait_connected(self, count: int = 1, *, timeout_s: float = 5.0) -> None:
        """Wait until that many sockets are open; TimeoutError otherwise."""
        await self.wait(lambda: self.sockets.count >= count, timeout_s=timeout_s)

    # Faults and records

    def fail(
        self,
        method: str,
        *,
        times: int = 1,
        status: int | None = None,
        error: str | None = None,
        retry_after: int | None = None,
        delay_s: float = 0.0,
        drop_after_store: bool = False,
    ) -> None:
        """Let the next `times` calls of a method go wrong, see `Fault`."""
        self._faults.add(
            Fault(
                method=method,
                times=times,
                status=status,
                error=error,
                retry_after=retry_after,
                delay_s=delay_s,
                drop_after_store=drop_after_store,
            )
        )

    def heal(self) -> None:
        """Forget all faults that have not happened yet."""
        self._faults.clear()

    def duplicate(self, *, times: int = 1) -> None:
        """Deliver each of the next `times` payloads twice."""
        self._interactions.duplicate(times=times)

    def calls(self, method: str | None = None) -> list[Call]:
        """The Web API calls so far, oldest first, without tokens."""
        return [call for call in self._records.calls if method in (None, call.method)]

    @property
    def deliveries(self) -> list[Delivery]:
        """Every payload so far and what became of it."""
        return list(self._records.deliveries)

    @property
    def violations(self) -> list[Violation]:
        """Every breach of Slack's rules so far: refused blocks, unknown methods, bad arguments."""
        return list(self._records.violations)

    def assert_clean(self) -> None:
        """AssertionError unless every payload was acked in time and nothing broke Slack's rules."""
        complaints = [
            f"{delivery.kind} not acked after {delivery.ms:.0f} ms: {delivery.error}: {_gist(delivery)}"
            for delivery in self.deliveries
            if not delivery.acked
        ]
        complaints += [f"{v.where}: {v.error}: {'; '.join(v.reasons)}" for v in self.violations]
        if complaints:
            raise AssertionError("\n".join(complaints))

    # The server's inside

    def _context(self, host: str) -> Context:
        return Context(
            workspace=self.workspace,
            hub=self.sockets,
            triggers=self._triggers,
            scopes=self._scopes,
            files=self.files,
            file_names=self._file_names,
            public_url=self.public_url,
            host=host,
        )

    async def _hook(self, request: web.Request) -> web.Response:
        status, text = self._hooks.use(request.match_info["hook"], await request.json())
        return web.Response(status=status, text=text)

    async def _upload(self, request: web.Request) -> web.Response:
        file_id = request.match_info["file"]
        if file_id not in self._file_names:
            return web.Response(status=404)
        self.files[file_id] = await request.read()
        return web.Response(text=f"OK - {len(self.files[file_id])}")


def _gist(delivery: Delivery) -> str:
    payload = delivery.payload
    if delivery.kind == "slash_commands":
        return f"{payload['command']} {payload['text']}"
    return f"{payload['type']} {[action['action_id'] for action in payload.get('actions', [])]}"


def _loopback(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()
    if host != "127.0.0.1":
        raise ValueError(f"the local Slack serves 127.0.0.1 only, not {host}")
    return f"{host}:{port}"
