"""The Slack end of Socket Mode: tickets, sockets, envelopes and their acks.

Rules kept: a ticket works once and expires; at most ten sockets; each payload goes to one socket, any
of them; an ack later than the limit does not count. https://docs.slack.dev/apis/events-api/using-socket-mode
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aiohttp import WSMsgType, web

from lab.slack.cast import APP_ID
from lab.slack.records import DeliveryKind
from lab.slack.workspace import Clock, Json

MOST_SOCKETS = 10
TICKET_TTL_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of one envelope; `socket` is None when nobody was connected."""

    acked: bool
    ms: float
    socket: int | None
    response: Json | None


@dataclass(slots=True, kw_only=True, eq=False)
class _Link:
    number: int
    ws: web.WebSocketResponse
    request: web.Request
    client_port: int
    silent: bool = False


class SocketHub:
    """All open sockets of the app."""

    def __init__(
        self, *, clock: Clock, ack_timeout_s: float, changed: Callable[[], None], seed: int | None
    ) -> None:
        self._clock = clock
        self._ack_timeout_s = ack_timeout_s
        self._changed = changed
        self._random = random.Random(seed)
        self._tickets: dict[str, float] = {}
        self._links: list[_Link] = []
        self._opened = 0
        self._refusals = 0
        self._preferred: frozenset[int] = frozenset()
        self._acks: dict[str, asyncio.Future[Json | None]] = {}
        self.late_acks: list[str] = []

    @property
    def count(self) -> int:
        """How many sockets are open now."""
        return len(self._links)

    @property
    def opened(self) -> int:
        """How many sockets were ever opened."""
        return self._opened

    @property
    def client_ports(self) -> dict[int, int]:
        """The TCP port at the client's end of each open socket, by the socket's number."""
        return {link.number: link.client_port for link in self._links}

    def prefer(self, numbers: frozenset[int]) -> None:
        """Send payloads to one of these sockets as long as any of them is open, else to any."""
        self._preferred = numbers

    def new_ticket(self) -> str:
        """A ticket for one handshake."""
        ticket = secrets.token_urlsafe(16)
        self._tickets[ticket] = self._clock() + TICKET_TTL_S
        return ticket

    def expire_tickets(self) -> None:
        """Make every ticket that was not used yet worthless."""
        self._tickets.clear()

    def refuse_handshake(self, *, times: int = 1) -> None:
        """Answer the next handshakes with 503; their tickets stay valid."""
        self._refusals += times

    def abort(self) -> None:
        """Reset every connection without a close frame."""
        for link in self._links:
            if link.request.transport is not None:
                link.request.transport.abort()

    def black_hole(self) -> None:
        """Stop answering on every open socket, pings included, without closing it."""
        for link in self._links:
            link.silent = True

    async def disconnect(self, reason: Literal["warning", "refresh_requested", "link_disabled"]) -> None:
        """Tell every socket to go; Slack closes at once unless it is only the warning."""
        for link in list(self._links):
            await _send(link, {"type": "disconnect", "reason": reason, "debug_info": {"host": "local-slack"}})
            if reason != "warning":
                await link.ws.close()

    async def close(self) -> None:
        """Close every socket with a close frame."""
        for link in list(self._links):
            await link.ws.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one socket for as long as it lives."""
        if self._refusals:
            self._refusals -= 1
            return web.Response(status=503)
        expires = self._tickets.pop(request.query.get("ticket", ""), None)
        if expires is None or expires < self._clock():
            return web.Response(status=408, text="ticket is used or expired")
        # Pings are answered below by hand, so that a black hole can keep quiet.
        ws = web.WebSocketResponse(autoping=False)
        await ws.prepare(request)
        if len(self._links) >= MOST_SOCKETS:
            await ws.send_json({"type": "disconnect", "reason": "too_many_websockets"})
            await ws.close()
            return ws
        self._opened += 1
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        link = _Link(number=self._opened, ws=ws, request=request, client_port=peer[1] if peer else 0)
        self._links.append(link)
        try:
            await ws.send_json(
                {
                    "type": "hello",
                    "num_connections": len(self._links),
                    "debug_info": {"host": "local-slack", "approximate_connection_time": 18060},
                    "connection_info": {"app_id": APP_ID},
                }
            )
            self._changed()
            async for message in ws:
                if link.silent:
                    continue
                if message.type is WSMsgType.PING:
                    await ws.pong(message.data)
                elif message.type is WSMsgType.TEXT:
                    self._acknowledge(message.data)
        finally:
            self._links.remove(link)
            self._changed()
        return ws

    async def deliver(
        self, kind: DeliveryKind, payload: Json, *, accepts_response: bool, retry: int
    ) -> Receipt:
        """Send the payload to one socket, any of them, and wait for its ack up to the limit."""
        envelope_id = secrets.token_hex(16)
        envelope: Json = {
            "envelope_id": envelope_id,
            "type": kind,
            "payload": payload,
            "accepts_response_payload": accepts_response,
        }
        if retry:
            envelope |= {"retry_attempt": retry, "retry_reason": "timeout"}
        if not self._links:
            return Receipt(acked=False, ms=0.0, socket=None, response=None)
        preferred = [link for link in self._links if link.number in self._preferred]
        link = self._random.choice(preferred or self._links)
        ack: asyncio.Future[Json | None] = asyncio.get_running_loop().create_future()
        self._acks[envelope_id] = ack
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._ack_timeout_s):
                await _send(link, envelope)
                response, acked = await ack, True
        except TimeoutError:
            response, acked = None, False
        finally:
            del self._acks[envelope_id]
        ms = (time.monotonic() - began) * 1000
        return Receipt(acked=acked, ms=ms, socket=link.number, response=response)

    def _acknowledge(self, text: str) -> None:
        ack = json.loads(text)
        waiting = self._acks.get(ack.get("envelope_id", ""))
        if waiting is None or waiting.done():
            self.late_acks.append(str(ack.get("envelope_id")))
        else:
            waiting.set_result(ack.get("payload") or None)


async def _send(link: _Link, message: Json) -> None:
    try:
        await link.ws.send_json(message)
    except ConnectionError:
        # The socket died under the payload: Slack notices by the missing ack only.
        return
