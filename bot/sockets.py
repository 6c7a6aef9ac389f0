"""Two Socket Mode connections, watched.

Two, because Slack refreshes each every few hours and slack-sdk closes the old
socket before the new one is open: with one, what arrives in between is lost
(measured: 20 of 60 commands; with two none). Watched, because slack-sdk
retries a dead address for ever once its ticket has expired
(python-slack-sdk issue 1110): then the address is taken away, so that it asks
for a new one, and if that does not help the whole connection is made anew.
"""

from __future__ import annotations

import asyncio

import structlog
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.app.async_app import AsyncApp

from recovery.ports import Clock

CONNECTIONS = 2
PING_EVERY_S = 5
"""A half-open connection is found after about two of them."""
LOOK_EVERY_S = 3.0
NEW_ADDRESS_AFTER_S = 15.0
NEW_CONNECTION_AFTER_S = 60.0

log = structlog.get_logger()


class _Connection:
    def __init__(self, number: int, handler: AsyncSocketModeHandler, now_s: float) -> None:
        self.number = number
        self.handler = handler
        self.connecting: asyncio.Task[None] | None = None
        self.good_s = now_s
        """When it was last seen connected, or made."""
        self.told = False


class Sockets:
    """Keeps the connections; ``serve`` runs until cancelled and then closes them."""

    def __init__(
        self,
        app: AsyncApp,
        *,
        app_token: str,
        clock: Clock,
        on_loopback: bool,
        connections: int = CONNECTIONS,
        look_every_s: float = LOOK_EVERY_S,
        new_address_after_s: float = NEW_ADDRESS_AFTER_S,
        new_connection_after_s: float = NEW_CONNECTION_AFTER_S,
    ) -> None:
        self._app = app
        self._app_token = app_token
        self._clock = clock
        self._on_loopback = on_loopback
        self._look_every_s = look_every_s
        self._new_address_after_s = new_address_after_s
        self._new_connection_after_s = new_connection_after_s
        self._count = connections
        self._connections: list[_Connection] = []

    async def connected(self) -> int:
        """How many are open now."""
        return sum([await c.handler.client.is_connected() for c in self._connections])

    async def serve(self) -> None:
        """Connect, and watch."""
        try:
            self._connections = [self._new(number) for number in range(self._count)]
            while True:
                await self._clock.sleep(self._look_every_s)
                for index, connection in enumerate(self._connections):
                    self._connections[index] = await self._looked_at(connection)
        finally:
            await asyncio.gather(*(self._close(c) for c in self._connections), return_exceptions=True)

    def _new(self, number: int) -> _Connection:
        handler = AsyncSocketModeHandler(self._app, self._app_token, ping_interval=PING_EVERY_S)
        if self._on_loopback:
            # slack-sdk takes the environment's proxy and does not know NO_PROXY.
            handler.client.proxy = None
        connection = _Connection(number, handler, self._clock.monotonic_s())
        # It does not come back before it is connected, however long that takes.
        connection.connecting = asyncio.create_task(_connect(handler), name=f"socket {number}")
        return connection

    async def _looked_at(self, connection: _Connection) -> _Connection:
        client = connection.handler.client
        now_s = self._clock.monotonic_s()
        if await client.is_connected():
            if connection.told:
                log.info("slack is connected again", socket=connection.number)
            connection.good_s, connection.told = now_s, False
            return connection
        down_s = now_s - connection.good_s
        if down_s > self._new_connection_after_s:
            log.warning("slack's connection is made anew", socket=connection.number, down_s=round(down_s))
            await self._close(connection)
            return self._new(connection.number)
        if down_s > self._new_address_after_s:
            if not connection.told:
                log.warning("slack is not connected, a new address is asked for", socket=connection.number)
            connection.told = True
            client.wss_uri = None
        return connection

    async def _close(self, connection: _Connection) -> None:
        if connection.connecting is not None:
            connection.connecting.cancel()
            await asyncio.gather(connection.connecting, return_exceptions=True)
        await connection.handler.close_async()  # type: ignore[no-untyped-call]


async def _connect(handler: AsyncSocketModeHandler) -> None:
    await handler.connect_async()  # type: ignore[no-untyped-call]
