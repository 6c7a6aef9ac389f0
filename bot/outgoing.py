"""What text becomes on its way out, to Slack or to a terminal, whatever is in it. Pure.

Names of hosts, lines of journals, Consul's answers and error texts are foreign. A terminal obeys the control
characters in them, a reader is deceived by marks that turn the direction of writing, and Slack wakes a channel
for ``<!channel>``. All of it is made harmless at the exits (bot.talk, bot.app, bot.screen), not where a text is
made, because there it could be forgotten once.

What we ourselves want Slack to understand (a mention, a link, a time) is therefore not written with < and >,
which at the exit are nothing but characters, but by the functions below.
"""

from __future__ import annotations

import re
from typing import Any

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
"""Stand for < and > of our own until the exit. Unicode keeps both free for use inside a program; foreign text
loses them in :func:`printable`."""

BRACKETS = (_OPEN, _CLOSE)

_OWN = re.compile(
    rf"{_OPEN}(@[UW][A-Z0-9]+|!subteam\^S[A-Z0-9]+|!date\^[0-9]+\^[^<>|]+\|[^<>|]+|https?://[^<>|\s]+\|[^<>|]+){_CLOSE}"
)


def printable(text: str) -> str:
    """The text without control characters, turns of direction and what else cannot be seen; lines and tabs stay."""
    return "".join(character if character.isprintable() or character in "\n\t" else " " for character in text)


def user(slack_id: str) -> str:
    """Mention one user."""
    return f"{_OPEN}@{slack_id}{_CLOSE}"


def group(slack_id: str) -> str:
    """Mention a user group."""
    return f"{_OPEN}!subteam^{slack_id}{_CLOSE}"


def link(url: str, label: str) -> str:
    """A link to a page, with what is shown for it."""
    return f"{_OPEN}{url}|{label}{_CLOSE}"


def moment(at_s: int, shape: str, otherwise: str) -> str:
    """A time as the reader's Slack shows it; ``otherwise`` where it cannot."""
    return f"{_OPEN}!date^{at_s}^{shape}|{otherwise}{_CLOSE}"


def unmarked(text: str) -> str:
    """Mentions as bare ids, for a reader who is not in Slack."""
    return re.sub(rf"{_OPEN}(?:!subteam\^|@)([A-Z0-9]+){_CLOSE}", r"\1", text)


def mrkdwn(text: str) -> str:
    """A text that Slack reads as mrkdwn: what is not ours mentions nobody and links to nowhere."""
    return _rewritten(text, "<", ">")


def harmless(text: str) -> str:
    """The same before its exit: what is ours is still marked, and the length is the one that Slack will count."""
    return _rewritten(text, _OPEN, _CLOSE)


def _rewritten(text: str, before_own: str, behind_own: str) -> str:
    parts = _OWN.split(text)
    for number, part in enumerate(parts):
        if number % 2:
            parts[number] = f"{before_own}{printable(part)}{behind_own}"
        else:
            parts[number] = printable(part).replace("<", "&lt;").replace(">", "&gt;")
    return "".join(parts)


def finished(payload: Any) -> Any:
    """What is sent to Slack, with every text that a person reads made harmless; ids and values stay as they are."""
    if isinstance(payload, dict):
        plain = payload.get("type") == "plain_text"
        made: dict[str, Any] = {}
        for key, value in payload.items():
            if key == "text" and isinstance(value, str):
                made[key] = printable(value) if plain else mrkdwn(value)
            elif key == "errors" and isinstance(value, dict):
                made[key] = {block: printable(str(message)) for block, message in value.items()}
            else:
                made[key] = finished(value)
        if payload.get("type") == "mrkdwn":
            # Otherwise Slack makes links and mentions out of bare words.
            made.setdefault("verbatim", True)
        return made
    if isinstance(payload, list | tuple):
        return [finished(each) for each in payload]
    return payload
