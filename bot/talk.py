"""Slack's Web API as the bot uses it: few calls, and every way to fail has a name.

Nothing is repeated by itself here. A post whose answer was lost may stand in
the channel already, and a repetition that sleeps would send what is old by
then: whoever shows something decides anew, with what is newest.
"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_async_handlers import (
    AsyncConnectionErrorRetryHandler,
    AsyncRateLimitErrorRetryHandler,
)
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse
from slack_sdk.webhook.async_client import AsyncWebhookClient

from bot.blocks import Block, Message
from bot.outgoing import finished

TIMEOUT_S = 15

_GONE = frozenset(
    {"message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found", "msg_not_found"}
)
NOT_INVITED = frozenset({"not_in_channel", "channel_not_found", "is_archived"})


class SlackProblem(Exception):
    """Slack did not do it; never shown to people with more than its reason."""


class Throttled(SlackProblem):
    """Too fast: wait this long, then send what is newest."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"rate limit, wait {wait_s:.0f} s")
        self.wait_s = wait_s


class Gone(SlackProblem):
    """The message is not there any more."""


class SaidNo(SlackProblem):
    """Slack refused: its error code."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


class NotReached(SlackProblem):
    """No connection: nothing was sent."""


class NoAnswer(SlackProblem):
    """No answer, or a fault of Slack's: it may or may not have happened."""


def client_for(*, token: str | None, api_url: str, reads: bool) -> AsyncWebClient:
    """A Web API client; only reads are repeated after a lost connection or a rate limit.

    On a loopback address the environment's proxy is not used: slack-sdk takes
    HTTPS_PROXY and does not know NO_PROXY.
    """
    handlers = (
        [AsyncConnectionErrorRetryHandler(), AsyncRateLimitErrorRetryHandler(max_retry_count=1)]
        if reads
        else []
    )
    client = _HarmlessClient(token=token, base_url=api_url, timeout=TIMEOUT_S, retry_handlers=handlers)
    if on_loopback(api_url):
        client.proxy = None
    return client


def on_loopback(url: str) -> bool:
    """Whether an address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _HarmlessClient(AsyncWebClient):
    """Whatever is sent, its texts are made harmless first."""

    async def api_call(self, api_method: str, **options: Any) -> AsyncSlackResponse:
        """Call a method of the Web API."""
        return await super().api_call(api_method, **finished(options))


class Talk:
    """Says things in Slack."""

    def __init__(self, client: AsyncWebClient) -> None:
        self._client = client

    async def post(
        self,
        channel: str,
        message: Message,
        *,
        thread_ts: str | None = None,
        broadcast: bool = False,
        run: str = "",
    ) -> tuple[str, str]:
        """Post a message; its channel id and ts."""
        extra: dict[str, Any] = {}
        if run:
            extra["metadata"] = {"event_type": "consul_recovery_run", "event_payload": {"run": run}}
        if thread_ts is not None:
            extra |= {"thread_ts": thread_ts, "reply_broadcast": broadcast}
        answer = await self._call(
            "chat.postMessage",
            channel=channel,
            text=message.text,
            blocks=list(message.blocks),
            unfurl_links=False,
            unfurl_media=False,
            **extra,
        )
        return str(answer["channel"]), str(answer["ts"])

    async def update(self, channel: str, ts: str, message: Message) -> None:
        """Show something else in a message of ours; nobody is notified."""
        await self._call(
            "chat.update", channel=channel, ts=ts, text=message.text, blocks=list(message.blocks)
        )

    async def whisper(self, channel: str, user: str, message: Message) -> None:
        """Say something that only one person sees."""
        await self._call(
            "chat.postEphemeral",
            channel=channel,
            user=user,
            text=message.text,
            blocks=list(message.blocks),
        )

    async def open_view(self, trigger_id: str, view: Block) -> None:
        """Open a modal, within 3 s of the click."""
        await self._call("views.open", trigger_id=trigger_id, view=view)

    async def permalink(self, channel: str, ts: str) -> str:
        """The link to a message."""
        answer = await self._call("chat.getPermalink", channel=channel, message_ts=ts)
        return str(answer["permalink"])

    async def respond(self, response_url: str, message: Message) -> None:
        """Answer a command or a click to its person alone; works in channels that the bot is not in."""
        webhook = AsyncWebhookClient(response_url, timeout=TIMEOUT_S, retry_handlers=[])
        if on_loopback(response_url):
            webhook.proxy = None
        try:
            answer = await webhook.send_dict(
                finished(
                    {
                        "text": message.text,
                        "blocks": list(message.blocks),
                        "response_type": "ephemeral",
                        "replace_original": False,
                    }
                )
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NoAnswer(f"response_url: {type(error).__name__}") from None
        if answer.status_code != 200:
            raise SaidNo(f"response_url: {answer.status_code} {answer.body[:100]}")

    async def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer = (
                await self._client.api_call(method, json=arguments)
                if method not in _READS
                else (await self._client.api_call(method, http_verb="GET", params=arguments))
            )
        except SlackApiError as error:
            raise _named(method, error) from None
        except aiohttp.ClientConnectorError as error:
            raise NotReached(f"{method}: {type(error).__name__}") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NoAnswer(f"{method}: {type(error).__name__}") from None
        data = answer.data
        return data if isinstance(data, dict) else {}


_READS = frozenset({"chat.getPermalink"})


def _named(method: str, error: SlackApiError) -> SlackProblem:
    response = error.response
    status = getattr(response, "status_code", 0)
    if status == 429:
        return Throttled(_seconds(response.headers.get("Retry-After")))
    if status >= 500:
        return NoAnswer(f"{method}: HTTP {status}")
    code = str(response.get("error", "unknown_error")) if hasattr(response, "get") else "unknown_error"
    if code in {"ratelimited", "rate_limited"}:
        return Throttled(_seconds(response.headers.get("Retry-After")))
    if code in _GONE:
        return Gone(f"{method}: {code}")
    return SaidNo(code)


def _seconds(value: object) -> float:
    try:
        return max(1.0, float(str(value)))
    except ValueError:
        return 1.0
