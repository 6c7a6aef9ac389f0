"""The chat.* methods: https://docs.slack.dev/reference/methods?family=chat."""

from __future__ import annotations

from typing import Any

from lab.slack import blockkit
from lab.slack.api_base import ApiError, Context, Method, flag, required, visible_channel, writable_channel
from lab.slack.cast import BOT_USER
from lab.slack.render import message_json
from lab.slack.workspace import Json, Message


def _content(args: Json) -> Json:
    """Text, blocks and metadata of a write, checked; blocks need a text beside them, for notifications."""
    blocks: Any = args.get("blocks") or []
    text = args.get("text") or ""
    metadata = args.get("metadata")
    if problems := blockkit.message_problems(blocks):
        raise ApiError("invalid_blocks", reasons=problems, violation=True)
    if not isinstance(text, str) or not text:
        raise ApiError(
            "no_text", reasons=["[ERROR] text is what notifications and screen readers show"], violation=True
        )
    if len(text) > blockkit.TEXT_HARD_LIMIT:
        raise ApiError("msg_too_long", violation=True)
    if metadata is not None and not blockkit.metadata_is_valid(metadata):
        raise ApiError("invalid_metadata_format", violation=True)
    return {"text": text, "blocks": blockkit.as_blocks(blocks), "metadata": metadata}


def _thread(context: Context, channel: str, args: Json) -> str | None:
    thread_ts = args.get("thread_ts")
    if thread_ts is None:
        return None
    parent = context.workspace.find(channel, str(thread_ts))
    if parent is None or parent.ephemeral_to is not None:
        raise ApiError("thread_not_found")
    return parent.thread_ts or parent.ts


def _own(context: Context, channel: str, ts: str, *, error: str) -> Message:
    message = context.workspace.find(channel, ts)
    if message is None or message.ephemeral_to is not None:
        raise ApiError("message_not_found")
    if message.user != BOT_USER:
        raise ApiError(error)
    return message


def _post_message(context: Context, args: Json) -> Json:
    channel = writable_channel(context, args)
    content = _content(args)
    message = context.workspace.post(
        channel=channel.id,
        user=BOT_USER,
        thread_ts=_thread(context, channel.id, args),
        broadcast=flag(args, "reply_broadcast"),
        **content,
    )
    return {"channel": channel.id, "ts": message.ts, "message": message_json(message)}


def _post_ephemeral(context: Context, args: Json) -> Json:
    channel = writable_channel(context, args)
    user = required(args, "user")
    if user not in channel.members:
        raise ApiError("user_not_in_channel")
    message = context.workspace.post(
        channel=channel.id,
        user=BOT_USER,
        thread_ts=_thread(context, channel.id, args),
        ephemeral_to=user,
        **_content(args),
    )
    return {"message_ts": message.ts}


def _update(context: Context, args: Json) -> Json:
    channel = writable_channel(context, args)
    message = _own(context, channel.id, required(args, "ts"), error="cant_update_message")
    content = _content(args)
    if content["metadata"] is None:
        content["metadata"] = message.metadata
    context.workspace.update(message, **content)
    return {
        "channel": channel.id,
        "ts": message.ts,
        "text": message.text,
        "message": message_json(message),
    }


def _delete(context: Context, args: Json) -> Json:
    channel = visible_channel(context, args)
    message = _own(context, channel.id, required(args, "ts"), error="cant_delete_message")
    context.workspace.delete(message)
    return {"channel": channel.id, "ts": message.ts}


def _get_permalink(context: Context, args: Json) -> Json:
    channel = visible_channel(context, args)
    ts = required(args, "message_ts")
    if context.workspace.find(channel.id, ts) is None:
        raise ApiError("message_not_found")
    return {"channel": channel.id, "permalink": f"{context.public_url}/#{channel.id}/p{ts.replace('.', '')}"}


METHODS = {
    "chat.postMessage": Method(run=_post_message, scope="chat:write"),
    "chat.postEphemeral": Method(run=_post_ephemeral, scope="chat:write"),
    "chat.update": Method(run=_update, scope="chat:write"),
    "chat.delete": Method(run=_delete, scope="chat:write"),
    "chat.getPermalink": Method(run=_get_permalink),
}
