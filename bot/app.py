"""The slack-bolt app: listeners for everything Slack can send, and nothing else.

Catch-alls come last: what nobody listens to is never acked, and its person
sees an error after three seconds.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.web.async_client import AsyncWebClient

from bot.commands import NAME
from bot.handlers import Ack, Handlers
from bot.outgoing import finished
from bot.payloads import Json
from bot.talk import client_for


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who the bot is, from auth.test at the start."""

    team_id: str
    enterprise_id: str
    bot_id: str
    bot_user_id: str


async def who_am_i(client: AsyncWebClient) -> Identity:
    """Ask Slack who our token is; raises SlackApiError when the token is not good."""
    answer = await client.auth_test()
    return Identity(
        team_id=str(answer.get("team_id") or ""),
        enterprise_id=str(answer.get("enterprise_id") or ""),
        bot_id=str(answer.get("bot_id") or ""),
        bot_user_id=str(answer.get("user_id") or ""),
    )


def build_app(client: AsyncWebClient, *, token: str, identity: Identity, handlers: Handlers) -> AsyncApp:
    """Make the app; its own ``authorize`` keeps auth.test off the way of the first command."""

    async def authorize(**_: Any) -> AuthorizeResult:
        return AuthorizeResult(
            enterprise_id=identity.enterprise_id or None,
            team_id=identity.team_id,
            bot_id=identity.bot_id,
            bot_user_id=identity.bot_user_id,
            bot_token=token,
        )

    app = AsyncApp(
        # Without a token of its own: bolt would warn that it does not use it.
        client=client_for(token=None, api_url=client.base_url, reads=True),
        authorize=authorize,
        process_before_response=False,
    )
    everything = re.compile(".*", re.DOTALL)

    async def on_command(ack: Ack, body: Json) -> None:
        await handlers.on_command(_harmless(ack), body)

    async def on_button(ack: Ack, body: Json) -> None:
        await handlers.on_button(_harmless(ack), body)

    async def on_submission(ack: Ack, body: Json) -> None:
        await handlers.on_submission(_harmless(ack), body)

    async def on_closed(ack: Ack) -> None:
        await handlers.on_closed(ack)

    app.command(NAME)(on_command)
    app.command(everything)(on_command)
    app.action(everything)(on_button)
    app.view_submission(everything)(on_submission)
    app.view_closed(everything)(on_closed)
    return app


def _harmless(ack: Ack) -> Ack:
    """An ack whose texts are made harmless: they quote what a person typed."""

    async def acked(**answer: Any) -> Any:
        return await ack(**finished(answer))

    return acked
