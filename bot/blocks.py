"""Building blocks of a Slack message, and the one place where Slack's limits are kept. Pure.

Everything that comes from Consul, a host or a person goes through
:func:`esc` or :func:`code`, so that it is one line and its signs are shown;
where that is forgotten, bot.outgoing keeps a node called ``<!channel>`` from
waking everybody. Limits: docs.slack.dev/reference/block-kit and slack_sdk.models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from bot.outgoing import BRACKETS, harmless, moment, printable

Block = dict[str, Any]

MOST_BLOCKS = 50
MOST_SECTION = 3000
MOST_CONTEXT = 2000
MOST_BUTTONS = 5
"""Slack allows 25; on a phone more than five are a wall."""
MOST_BUTTON_TEXT = 75
MOST_VALUE = 2000
MOST_ID = 255
MOST_CONFIRM_TITLE = 100
MOST_CONFIRM_TEXT = 300
MOST_CONFIRM_BUTTON = 30
MOST_FALLBACK = 3000
MOST_TITLE = 24
MOST_LABEL = 2000
_CUT = " … (cut; all of it in the terminal: consul-recovery show)"
_SHORT_CUT = "…"


class Message(msgspec.Struct, frozen=True):
    """What is posted: the text of the push notification and screen reader, and the blocks."""

    text: str
    blocks: tuple[Block, ...] = ()


def esc(text: str) -> str:
    """Make foreign text harmless in mrkdwn: no mentions, no links, one line."""
    flat = " ".join(printable(text).split())
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(text: str) -> str:
    """Foreign text as inline code; its own back-ticks would end the code."""
    return f"`{esc(text.replace('`', '')) or ' '}`"


def code_block(lines: Iterable[str], *, most: int = MOST_SECTION - 200) -> str:
    """Foreign lines as a code block, cut at whole lines from the front: the last lines tell most."""
    kept: list[str] = []
    room = most
    for line in reversed(tuple(lines)):
        shown = clamp(_code_line(line), 500)
        if len(shown) + 1 > room:
            break
        room -= len(shown) + 1
        kept.append(shown)
    return "```\n" + "\n".join(reversed(kept)) + "\n```"


def code_blocks(lines: Iterable[str], *, most: int = MOST_SECTION - 200) -> tuple[str, ...]:
    """Commands as code blocks, as many as it takes: not one of them may be missing."""
    parts: list[list[str]] = [[]]
    room = most
    for line in lines:
        shown = _code_line(line)
        if len(shown) + 1 > room and parts[-1]:
            parts.append([])
            room = most
        parts[-1].append(shown)
        room -= len(shown) + 1
    return tuple("```\n" + "\n".join(part) + "\n```" for part in parts if part)


def _code_line(line: str) -> str:
    bare = printable(line).replace("`", "").replace("\t", " ").replace("\n", " ").rstrip()
    return bare.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def date(at_s: float) -> str:
    """A time in the reader's own time zone; the absolute one in UTC where a client cannot show that."""
    shown = f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return moment(int(at_s), "{date_short_pretty} {time_secs}", shown)


def clamp(text: str, most: int, *, cut: str = _SHORT_CUT) -> str:
    """Shorten a text to ``most`` characters, never inside an entity, a link or a code block."""
    if len(text) <= most:
        return text
    kept = text[: most - len(cut) - 4]
    for opener, closer in (("&", ";"), BRACKETS):
        if kept.rfind(opener) > kept.rfind(closer) and most - kept.rfind(opener) < MOST_VALUE:
            kept = kept[: kept.rfind(opener)]
    if kept.count("```") % 2:
        return kept.rstrip("`") + "\n```" + cut
    return kept.rstrip() + cut


def section(text: str) -> Block:
    """A paragraph of mrkdwn; verbatim, so that Slack makes no links or mentions out of names."""
    return {
        "type": "section",
        "text": {"type": "mrkdwn", "text": clamp(harmless(text), MOST_SECTION, cut=_CUT), "verbatim": True},
    }


def context(*texts: str) -> Block:
    """Small print."""
    return {
        "type": "context",
        "elements": [
            {"type": "mrkdwn", "text": clamp(harmless(text), MOST_CONTEXT), "verbatim": True}
            for text in texts
        ],
    }


def confirm(*, title: str, text: str, yes: str, no: str = "Back") -> Block:
    """The dialog before a button counts; only a courtesy, the server checks everything again."""
    return {
        "title": _plain(title, MOST_CONFIRM_TITLE),
        "text": {"type": "mrkdwn", "text": clamp(harmless(text), MOST_CONFIRM_TEXT)},
        "confirm": _plain(yes, MOST_CONFIRM_BUTTON),
        "deny": _plain(no, MOST_CONFIRM_BUTTON),
    }


def button(text: str, *, action: str, value: str, style: str = "", ask: Block | None = None) -> Block:
    """A button; ``style`` is "", ``primary`` or ``danger``."""
    made: Block = {
        "type": "button",
        "action_id": action,
        "text": _plain(text, MOST_BUTTON_TEXT),
        "value": value,
    }
    if style:
        made["style"] = style
    if ask is not None:
        made["confirm"] = ask
    return made


def actions(block_id: str, *buttons: Block) -> Block:
    """A row of buttons."""
    return {"type": "actions", "block_id": block_id, "elements": list(buttons)}


def typed_input(*, block_id: str, label: str, hint: str) -> Block:
    """One line that a person types into."""
    return {
        "type": "input",
        "block_id": block_id,
        "label": _plain(label, MOST_LABEL),
        "hint": _plain(hint, MOST_LABEL),
        "element": {"type": "plain_text_input", "action_id": "typed", "max_length": MOST_ID},
    }


def modal(*, title: str, submit: str, callback_id: str, private: str, blocks: Sequence[Block]) -> Block:
    """A modal view."""
    return {
        "type": "modal",
        "callback_id": callback_id,
        "title": _plain(title, MOST_TITLE),
        "submit": _plain(submit, MOST_TITLE),
        "close": _plain("Cancel", MOST_TITLE),
        "private_metadata": private,
        "blocks": list(blocks),
    }


def _plain(text: str, most: int) -> Block:
    return {"type": "plain_text", "text": clamp(text, most), "emoji": True}


def finalize(text: str, blocks: Sequence[Block]) -> Message:
    """Make a message that Slack takes: limits kept, text always there.

    What a person can live without is shortened; what would change a meaning
    (a button's value, an id) raises ValueError instead: that is a fault of ours.
    """
    if not text.strip():
        raise ValueError("a message without text is silent in notifications and screen readers")
    kept = list(blocks)
    if len(kept) > MOST_BLOCKS:
        # The buttons stand last; what goes is the middle.
        tail = kept[-3:]
        kept = [
            *kept[: MOST_BLOCKS - len(tail) - 1],
            context("… more in the terminal: consul-recovery show"),
            *tail,
        ]
    for block in kept:
        _check(block)
    ids = [block["block_id"] for block in kept if "block_id" in block]
    if len(set(ids)) != len(ids):
        raise ValueError(f"a block_id is there twice: {ids}")
    return Message(clamp(harmless(text), MOST_FALLBACK), tuple(kept))


def _check(block: Block) -> None:
    if len(block.get("block_id", "")) > MOST_ID:
        raise ValueError("a block_id is too long")
    match block["type"]:
        case "section":
            _within(block["text"]["text"], MOST_SECTION)
        case "context":
            if not 1 <= len(block["elements"]) <= 10:
                raise ValueError("a context has 1 to 10 elements")
            for element in block["elements"]:
                _within(element["text"], MOST_CONTEXT)
        case "actions":
            buttons = block["elements"]
            if not 1 <= len(buttons) <= MOST_BUTTONS:
                raise ValueError(f"{len(buttons)} buttons in a row")
            names = [made["action_id"] for made in buttons]
            if len(set(names)) != len(names):
                raise ValueError(f"an action_id is there twice: {names}")
            for made in buttons:
                _within(made["value"], MOST_VALUE)
                _within(made["action_id"], MOST_ID)
        case "divider" | "input":
            pass
        case other:
            raise ValueError(f"{other} is no block of ours")


def _within(text: str, most: int) -> None:
    if not 1 <= len(text) <= most:
        raise ValueError(f"a text of {len(text)} characters where 1 to {most} are allowed")
