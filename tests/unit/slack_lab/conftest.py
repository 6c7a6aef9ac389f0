"""A real slack-bolt app on a local Slack, closed cleanly at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.app.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from lab.slack import LocalSlack

Connect = Callable[[AsyncApp], Awaitable[AsyncSocketModeHandler]]


@asynccontextmanager
async def connected(slack: LocalSlack, app: AsyncApp) -> AsyncIterator[AsyncSocketModeHandler]:
    """The app behind one open socket."""
    handler = AsyncSocketModeHandler(app, slack.app_token, ping_interval=1)
    await handler.connect_async()  # type: ignore[no-untyped-call]
    try:
        yield handler
    finally:
        await handler.close_async()  # type: ignore[no-untyped-call]


@pytest.fixture
async def slack() -> AsyncIterator[LocalSlack]:
    """A local Slack whose app nobody runs yet."""
    async with LocalSlack(scopes=ALL_SCOPES, ack_timeout_s=1.0) as running:
        yield running


@pytest.fixture
def client(slack: LocalSlack) -> AsyncWebClient:
    """A real Web API client that repeats nothing by itself."""
    return AsyncWebClient(slack.bot_token, base_url=slack.api_url, retry_handlers=[])


@pytest.fixture
def app(client: AsyncWebClient) -> AsyncApp:
    """A real bolt app without listeners."""
    return AsyncApp(client=client)


@pytest.fixture
async def connect(slack: LocalSlack) -> AsyncIterator[Connect]:
    """Opens sockets for an app, and closes them after the test."""
    async with AsyncExitStack() as stack:

        async def open_socket(app: AsyncApp) -> AsyncSocketModeHandler:
            handler = await stack.enter_async_context(connected(slack, app))
            await slack.wait_connected()
            return handler

        yield open_socket


ALL_SCOPES = (
    "commands",
    "chat:write",
    "usergroups:read",
    "users:read",
    "files:write",
    "channels:read",
    "channels:history",
    "im:write",
    "team:read",
)
