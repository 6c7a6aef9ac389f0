"""Slack's Web API in memory, below the real `Talk`: one workspace, and the ways in which a call to it fails.

For sweeps only; the local Slack of the lab is the real thing's stand-in. A
message that was never posted cannot be updated, and nothing is posted to a
thread that does not exist: whoever tries is noted in ``problems``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

ANSWER_S = 0.2
RETRY_AFTER_S = 7
HANGS_S = 180.0


class Way(StrEnum):
    """How a call fails."""

    THROTTLED = "throttled"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    BROKEN = "broken"
    """HTTP 503, and nothing was done."""
    LOST = "answer lost"
    """It was done, and the connection broke before the answer."""
    HANGS = "hangs"
    """No answer for minutes, and nothing was done."""


@dataclass(slots=True)
class Posted:
    """A message as people see it."""

    ts: str
    text: str
    blocks: list[dict[str, Any]]
    run: str
    thread_ts: str | None
    broadcast: bool

    @property
    def lines(self) -> list[str]:
        """What its sections say, line by line."""
        return [
            line for block in self.blocks if "text" in block for line in block["text"]["text"].split("\n")
        ]

    @property
    def pressable(self) -> bool:
        """Whether it has buttons."""
        return any(block["type"] == "actions" for block in self.blocks)


@dataclass
class FakeSlack:
    """One channel."""

    messages: list[Posted] = field(default_factory=list)
    unanswered: list[Posted] = field(default_factory=list)
    """Posts that were asked for and not made, and whoever asked cannot know it."""
    orphans: set[str] = field(default_factory=set)
    """Posts that were made, and whoever asked does not know it."""
    problems: list[str] = field(default_factory=list)
    way: Way | None = None
    """How every call fails right now."""
    fails: Mapping[int, Way] = field(default_factory=dict)
    """How the n-th call fails, where it does."""
    calls: int = 0

    def client(self, *, word: Callable[[], Awaitable[None]], dead: Callable[[], bool]) -> FakeSlackClient:
        """A client of a process: ``word`` never returns in one that is dead."""
        return FakeSlackClient(self, word, dead)

    def cards(self) -> list[Posted]:
        """What stands in the channel and is not a reply."""
        return [message for message in self.messages if message.thread_ts is None]

    def post(self, arguments: dict[str, Any]) -> Posted:
        """What a message would be."""
        payload = arguments.get("metadata", {}).get("event_payload", {})
        return Posted(
            ts=f"{len(self.messages) + len(self.unanswered) + 1}.0",
            text=arguments["text"],
            blocks=arguments["blocks"],
            run=payload.get("run", ""),
            thread_ts=arguments.get("thread_ts"),
            broadcast=arguments.get("reply_broadcast", False),
        )

    def message(self, ts: str | None) -> Posted | None:
        """The one that bears this time stamp."""
        return next((message for message in self.messages if message.ts == ts), None)


class FakeSlackClient(AsyncWebClient):
    """The client of one process."""

    def __init__(
        self, slack: FakeSlack, word: Callable[[], Awaitable[None]], dead: Callable[[], bool]
    ) -> None:
        super().__init__(token="xoxb-fake", retry_handlers=[])
        self._slack = slack
        self._word = word
        self._dead = dead

    async def api_call(
        self, api_method: str, *, json: dict[str, Any] | None = None, **others: Any
    ) -> AsyncSlackResponse:
        """One call; it takes time, and whoever asked may be dead when it is done."""
        slack = self._slack
        arguments = json or others.get("params") or {}
        post = slack.post(arguments) if api_method == "chat.postMessage" else None
        if self._dead() and post is not None:
            slack.unanswered.append(post)
        await self._word()
        slack.calls += 1
        way = slack.fails.get(slack.calls) or slack.way
        await asyncio.sleep(ANSWER_S / 2)
        if way not in {None, Way.LOST}:
            if way in {Way.BROKEN, Way.HANGS} and post is not None:
                slack.unanswered.append(post)
            await self._fail(api_method, way)
        answer = self._do(api_method, arguments, post)
        if post is not None and (way is Way.LOST or self._dead()):
            slack.orphans.add(answer["ts"])
        await asyncio.sleep(ANSWER_S / 2)
        if post is not None and self._dead():
            slack.orphans.add(answer["ts"])
        await self._word()
        if way is Way.LOST:
            raise aiohttp.ServerDisconnectedError
        return self._answer(api_method, answer)

    def _do(self, method: str, arguments: dict[str, Any], post: Posted | None) -> dict[str, Any]:
        slack = self._slack
        if post is not None:
            post.ts = f"{len(slack.messages) + 1}.0"
            if post.thread_ts is not None and slack.message(post.thread_ts) is None:
                slack.problems.append(f"posted to a thread that does not exist: {post.text}")
            slack.messages.append(post)
            return {"ok": True, "channel": arguments["channel"], "ts": post.ts}
        if method == "chat.update":
            message = slack.message(arguments["ts"])
            if message is None:
                slack.problems.append(f"updated what was never posted: {arguments['text']}")
                self._say_no(method, "message_not_found")
            else:
                message.text, message.blocks = arguments["text"], arguments["blocks"]
            return {"ok": True}
        if method == "chat.getPermalink":
            return {"ok": True, "permalink": f"https://slack.test/{arguments['message_ts']}"}
        raise AssertionError(f"no call of the notifier: {method}")

    async def _fail(self, method: str, way: Way | None) -> None:
        match way:
            case Way.THROTTLED:
                self._say_no(method, "ratelimited", status=429)
            case Way.REFUSED:
                self._say_no(method, "not_in_channel")
            case Way.UNREACHABLE:
                key = aiohttp.client_reqrep.ConnectionKey("slack.test", 443, True, True, None, None, None)
                raise aiohttp.ClientConnectorError(key, OSError("no route to host"))
            case Way.BROKEN:
                self._say_no(method, "", status=503)
            case Way.HANGS:
                await asyncio.sleep(HANGS_S)
                await self._word()
                raise TimeoutError
            case Way.LOST | None:
                raise AssertionError("no failure before it is done")

    def _say_no(self, method: str, error: str, *, status: int = 200) -> None:
        answer = self._answer(method, {"ok": False, "error": error}, status=status)
        raise SlackApiError(error, answer)  # type: ignore[no-untyped-call]

    def _answer(self, method: str, data: dict[str, Any], *, status: int = 200) -> AsyncSlackResponse:
        return AsyncSlackResponse(
            client=self,
            http_verb="POST",
            api_url=f"https://slack.test/api/{method}",
            req_args={},
            data=data,
            headers={"Retry-After": str(RETRY_AFTER_S)} if status == 429 else {},
            status_code=status,
        )
