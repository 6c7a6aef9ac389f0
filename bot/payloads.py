"""Slack's payloads as values: who asked, how they are answered, and what makes a payload the same again. Pure.

Keys of repeated payloads: a command by its trigger, a click by message, button, time and person
(docs.slack.dev names no other; bolt has no deduplication).
"""

from __future__ import annotations

from typing import Any

import msgspec

from bot.authz import Caller
from bot.buttons import Press
from recovery.model import RunId

Json = dict[str, Any]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked, and how they are answered."""

    caller: Caller
    channel: str
    response_url: str
    key: str
    """The same for the same payload delivered twice."""
    trigger_id: str = ""
    """Opens a form within 3 s; "" where there is none."""


class Private(msgspec.Struct, frozen=True):
    """What a modal carries: the button that opened it, and how its person is answered."""

    press: Press
    channel: str
    response_url: str
    alone: bool = False
    """Whether the requester approves alone, and a reason is asked for."""


class PrivateUnlock(msgspec.Struct, frozen=True):
    """What the form of an unlock carries: whose lock it showed, and how its person is answered."""

    run: RunId
    holder: str
    """What has to be typed."""
    channel: str
    response_url: str


def read_unlock(text: str) -> PrivateUnlock | None:
    """What an unlock's form carried; None when it is none of ours."""
    try:
        return msgspec.json.decode(text, type=PrivateUnlock)
    except msgspec.MsgspecError:
        return None


def read_private(text: str) -> Private | None:
    """What a modal carried; None when it is none of ours."""
    try:
        return msgspec.json.decode(text, type=Private)
    except msgspec.MsgspecError:
        return None


def caller_of(body: Json) -> Caller:
    """Who a payload is from."""
    user = body.get("user") or {}
    team = body.get("team") or {}
    return Caller(
        user_id=str(user.get("id") or body.get("user_id") or ""),
        # The user's own workspace counts, not the one of the channel.
        team_id=str(user.get("team_id") or body.get("team_id") or team.get("id") or ""),
        enterprise_id=str(body.get("enterprise_id") or (body.get("enterprise") or {}).get("id") or ""),
    )


def asked_by_command(body: Json) -> Asked:
    """A slash command's question."""
    caller = caller_of(body)
    return Asked(
        caller=caller,
        channel=str(body.get("channel_id") or ""),
        response_url=str(body.get("response_url") or ""),
        key=f"command:{body.get('trigger_id')}",
        trigger_id=str(body.get("trigger_id") or ""),
    )


def asked_by_click(body: Json, action: Json) -> Asked:
    """A button's question."""
    container = body.get("container") or {}
    caller = caller_of(body)
    return Asked(
        caller=caller,
        channel=str(container.get("channel_id") or (body.get("channel") or {}).get("id") or ""),
        response_url=str(body.get("response_url") or ""),
        key=f"click:{container.get('message_ts')}:{action.get('action_id')}:{action.get('action_ts')}:"
        f"{caller.user_id}",
        trigger_id=str(body.get("trigger_id") or ""),
    )
