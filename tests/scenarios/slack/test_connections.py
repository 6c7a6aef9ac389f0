"""The two sockets, and what slack-sdk does not mend by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from bot.app import build_app, who_am_i
from bot.sockets import Sockets
from bot.talk import client_for
from bot.wiring import MachineClock
from lab.slack import LocalSlack


class _Answers:
    """Acks whatever comes, as the handlers do."""

    async def on_command(self, ack: Any, body: dict[str, Any]) -> None:
        await ack(text=f"here: {body['text']}")


@contextlib.asynccontextmanager
async def sockets(slack: LocalSlack) -> AsyncIterator[Sockets]:
    """An app behind two watched sockets, impatient ones."""
    client = client_for(token=slack.bot_token, api_url=slack.api_url, reads=True)
    identity = await who_am_i(client)
    app = build_app(client, token=slack.bot_token, identity=identity, handlers=_Answers())  # type: ignore[arg-type]
    watched = Sockets(
        app,
        app_token=slack.app_token,
        clock=MachineClock(),
        on_loopback=True,
        look_every_s=0.1,
        new_address_after_s=0.3,
        new_connection_after_s=1.0,
    )
    serving = asyncio.create_task(watched.serve())
    try:
        yield watched
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_there_are_two_connections_and_one_lost_one_does_not_matter(slack: LocalSlack) -> None:
    """While Slack refreshes the sockets every command is still answered."""
    async with sockets(slack):
        await slack.wait_connected(2)
        assert (await slack.slash("/consul x")).acked
    slack.assert_clean()


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
async def test_it_comes_back_after_slack_asked_it_to_reconnect(
    slack: LocalSlack, reason: Literal["warning", "refresh_requested"]
) -> None:
    """Both connections are there again, on new sockets."""
    async with sockets(slack) as watched:
        await slack.wait_connected(2)
        before = slack.sockets.opened
        await slack.sockets.disconnect(reason)
        await slack.wait(
            lambda: slack.sockets.opened >= before + 2 and slack.sockets.count >= 2, timeout_s=15
        )
        async with asyncio.timeout(15):
            while await watched.connected() < 2:
                await asyncio.sleep(0.02)


async def test_it_comes_back_from_an_address_whose_ticket_has_expired(slack: LocalSlack) -> None:
    """slack-sdk alone would ask the dead address for ever (python-slack-sdk issue 1110)."""
    async with sockets(slack):
        await slack.wait_connected(2)
        slack.sockets.refuse_handshake(times=4)
        await slack.sockets.disconnect("refresh_requested")
        slack.sockets.expire_tickets()
        await slack.wait_connected(2, timeout_s=30)
        assert (await slack.slash("/consul x")).acked


async def test_it_comes_back_when_slack_itself_was_gone(slack: LocalSlack) -> None:
    """Cut off and refused for a while: both connections are there again once Slack is, and commands are answered."""
    async with sockets(slack) as watched:
        await slack.wait_connected(2)
        await slack.go_down()
        async with asyncio.timeout(20):
            while await watched.connected():
                await asyncio.sleep(0.02)
        await slack.come_back()
        await slack.wait_connected(2, timeout_s=30)
        assert (await slack.slash("/consul x")).acked
