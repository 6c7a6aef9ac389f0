"""Messages as the API returns them and as a person reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lab.slack.cast import APP_ID, BOT_ID, BOT_USER, HOME_TEAM
from lab.slack.workspace import Json, Message, Modal


def message_json(message: Message) -> Json:
    """The message object of the Web API and of interaction payloads."""
    shown: Json = {
        "type": "message",
        "ts": message.ts,
        "user": message.user,
        "text": message.text,
        "team": HOME_TEAM,
    }
    if message.user == BOT_USER:
        shown |= {"bot_id": BOT_ID, "app_id": APP_ID}
    if message.blocks:
        shown["blocks"] = list(message.blocks)
    if message.metadata is not None:
        shown["metadata"] = message.metadata
    if message.thread_ts is not None:
        shown["thread_ts"] = message.thread_ts
    return shown


def view_json(modal: Modal) -> Json:
    """The view object of the Web API and of view payloads, without input values."""
    return {
        **modal.view,
        "id": modal.id,
        "team_id": HOME_TEAM,
        "app_id": APP_ID,
        "bot_id": BOT_ID,
        "root_view_id": modal.root_id,
        "previous_view_id": modal.previous_id,
    }


def plain_text(message: Message, names: Mapping[str, str] | None = None) -> str:
    """All that a person reads in the message, one line a block, without formatting.

    `names` maps ids of people, channels and groups to what is shown for them. Buttons read `[Approve]`.
    """
    if not message.blocks:
        return plain_mrkdwn(message.text, names or {})
    return "\n".join(line for block in message.blocks if (line := _block(block, names or {})))


def plain_mrkdwn(text: str, names: Mapping[str, str]) -> str:
    """Slack's mrkdwn as read on the screen: links by their label, people by name, no markers."""

    def angle(match: re.Match[str]) -> str:
        target, _, label = match[1].partition("|")
        if target.startswith("!date^"):
            return label
        if target.startswith("!subteam^"):
            return label or "@" + names.get(target.removeprefix("!subteam^"), target)
        if target[:1] in ("@", "#", "!"):
            sign = "#" if target[0] == "#" else "@"
            return sign + (label or names.get(target[1:], target[1:]))
        return label or target

    pieces = re.split(r"(```.*?```|`[^`\n]+`)", text, flags=re.DOTALL)
    shown = []
    for piece in pieces:
        if piece.startswith("`"):
            bare = piece.strip("`").strip("\n")
        else:
            bare = re.sub(r"(?<!\w)([*_~])(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2", piece)
        shown.append(re.sub(r"<([^<>]+)>", angle, bare))
    return "".join(shown).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _block(block: Json, names: Mapping[str, str]) -> str:
    match block["type"]:
        case "divider":
            return ""
        case "image":
            return f"[{block['alt_text']}]"
        case "input":
            return f"{_text(block['label'], names)}: [{block['element']['type']}]"
        case "actions" | "context":
            return " ".join(_element(element, names) for element in block["elements"])
        case _:
            parts = [_text(block["text"], names)] if "text" in block else []
            parts += [_text(field, names) for field in block.get("fields", [])]
            if "accessory" in block:
                parts.append(_element(block["accessory"], names))
            return "\n".join(parts)


def _element(element: Json, names: Mapping[str, str]) -> str:
    match element["type"]:
        case "mrkdwn" | "plain_text":
            return _text(element, names)
        case "button":
            return f"[{_text(element['text'], names)}]"
        case "image":
            return f"[{element['alt_text']}]"
        case "users_select":
            return "[choose a person]"
        case _:
            return "[" + " | ".join(_text(option["text"], names) for option in element["options"]) + "]"


def _text(text: Json, names: Mapping[str, str]) -> str:
    shown: str = text["text"]
    return plain_mrkdwn(shown, names) if text["type"] == "mrkdwn" else shown
