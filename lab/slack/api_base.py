"""What the Web API methods share: their context, their errors, and how they read arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lab.slack.cast import BOT_USER, Channel
from lab.slack.hooks import Triggers
from lab.slack.sockets import SocketHub
from lab.slack.workspace import Json, Workspace


class ApiError(Exception):
    """An answer with ok=false; `reasons` go into response_metadata, `violation` means a rule was broken."""

    def __init__(self, error: str, *, reasons: list[str] | None = None, violation: bool = False) -> None:
        super().__init__(error)
        self.error = error
        self.reasons = reasons or []
        self.violation = violation


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What one call may touch; `host` is the host and port that the caller used to reach us."""

    workspace: Workspace
    hub: SocketHub
    triggers: Triggers
    scopes: frozenset[str]
    files: dict[str, bytes]
    file_names: dict[str, str]
    public_url: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One Web API method: what it does, the scope that it needs (if any) and the kind of token."""

    run: Callable[[Context, Json], Json]
    scope: str | None = None
    token: Literal["bot", "app"] = "bot"


def required(args: Json, name: str) -> str:
    """A text argument that must be there; ApiError invalid_arguments otherwise."""
    value = args.get(name)
    if not isinstance(value, str) or not value:
        raise ApiError(
            "invalid_arguments", reasons=[f"[ERROR] missing required field: {name}"], violation=True
        )
    return value


def flag(args: Json, name: str) -> bool:
    """A boolean argument in any of the spellings that JSON, forms and query strings use."""
    return args.get(name) in (True, "true", "True", "1", 1)


def visible_channel(context: Context, args: Json) -> Channel:
    """The channel of the call, if the bot may know of it; ApiError channel_not_found otherwise."""
    name = required(args, "channel")
    if name in context.workspace.people:
        return context.workspace.direct(name)
    channel = context.workspace.find_channel(name)
    if channel is None or (channel.is_private and BOT_USER not in channel.members):
        raise ApiError("channel_not_found")
    return channel


def writable_channel(context: Context, args: Json) -> Channel:
    """The channel of the call, if the bot may write to it; ApiError not_in_channel otherwise."""
    channel = visible_channel(context, args)
    if BOT_USER not in channel.members and "chat:write.public" not in context.scopes:
        raise ApiError("not_in_channel")
    return channel
