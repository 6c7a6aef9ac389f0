"""Strict Block Kit validation: what Slack would refuse is refused here, with a message that says where.

Limits: https://docs.slack.dev/reference/block-kit and slack_sdk.models. Only the classic blocks are known;
anything newer is refused, so that the default look of a message stays one that every client can show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lab.slack.workspace import Json, interactive_elements

MESSAGE_BLOCKS = 50
MODAL_BLOCKS = 100
TEXT_HARD_LIMIT = 40_000

Check = Callable[[object, str], list[str]]


@dataclass(frozen=True, slots=True)
class _Key:
    check: Check
    required: bool = False


def message_problems(blocks: object) -> list[str]:
    """Every reason to refuse these blocks of a message, in the form of Slack's response_metadata.messages."""
    return _surface(blocks, limit=MESSAGE_BLOCKS, at="/blocks")


def view_problems(view: object) -> list[str]:
    """Every reason to refuse this modal."""
    problems = _object("view", _VIEW)(view, "/view")
    if not isinstance(view, dict) or problems:
        return problems
    problems += _surface(view["blocks"], limit=MODAL_BLOCKS, at="/view/blocks")
    has_input = any(isinstance(block, dict) and block.get("type") == "input" for block in view["blocks"])
    if has_input and "submit" not in view:
        problems.append(_error("missing required field: submit (the modal has an input)", "/view"))
    return problems


def _surface(blocks: object, *, limit: int, at: str) -> list[str]:
    if not isinstance(blocks, list):
        return [_error("must provide an array of blocks", at)]
    problems = []
    if len(blocks) > limit:
        problems.append(_error(f"no more than {limit} items allowed, got {len(blocks)}", at))
    for number, block in enumerate(blocks):
        problems += _typed("block", _BLOCKS)(block, f"{at}/{number}")
    if problems:
        return problems
    ids = Counter(block["block_id"] for block in blocks if "block_id" in block)
    problems += [_error(f"`block_id` {name!r} is used {n} times", at) for name, n in ids.items() if n > 1]
    for number, block in enumerate(blocks):
        actions = Counter(e["action_id"] for e in interactive_elements(block) if "action_id" in e)
        problems += [
            _error(f"`action_id` {name!r} is used {n} times in one block", f"{at}/{number}")
            for name, n in actions.items()
            if n > 1
        ]
        if block["type"] == "section" and not ("text" in block or "fields" in block):
            problems.append(_error("missing required field: text or fields", f"{at}/{number}"))
    return problems


def _error(message: str, at: str) -> str:
    return f"[ERROR] {message} [json-pointer:{at}]"


def _string(longest: int, *, shortest: int = 1) -> Check:
    def check(value: object, at: str) -> list[str]:
        if not isinstance(value, str):
            return [_error("must be a string", at)]
        if len(value) < shortest:
            return [_error(f"must be at least {shortest} characters", at)]
        if len(value) > longest:
            return [_error(f"must be no more than {longest} characters, got {len(value)}", at)]
        return []

    return check


def _boolean(value: object, at: str) -> list[str]:
    return [] if isinstance(value, bool) else [_error("must be true or false", at)]


def _integer(low: int, high: int) -> Check:
    def check(value: object, at: str) -> list[str]:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return [] if good else [_error(f"must be a number from {low} to {high}", at)]

    return check


def _one_of(*allowed: str) -> Check:
    def check(value: object, at: str) -> list[str]:
        return [] if value in allowed else [_error(f"must be one of {', '.join(allowed)}", at)]

    return check


def _list(item: Check, *, fewest: int, most: int) -> Check:
    def check(value: object, at: str) -> list[str]:
        if not isinstance(value, list):
            return [_error("must be an array", at)]
        problems = []
        if len(value) < fewest:
            problems.append(_error(f"must have at least {fewest} items", at))
        if len(value) > most:
            problems.append(_error(f"no more than {most} items allowed, got {len(value)}", at))
        for number, inner in enumerate(value):
            problems += item(inner, f"{at}/{number}")
        return problems

    return check


def _object(name: str, keys: Mapping[str, _Key]) -> Check:
    def check(value: object, at: str) -> list[str]:
        if not isinstance(value, dict):
            return [_error(f"{name} must be an object", at)]
        problems = [
            _error(f"{name} has no such field: {key}", at)
            for key in value
            if key != "type" and key not in keys
        ]
        problems += [
            _error(f"missing required field: {key}", at)
            for key, rule in keys.items()
            if rule.required and key not in value
        ]
        for key, rule in keys.items():
            if key in value:
                problems += rule.check(value[key], f"{at}/{key}")
        return problems

    return check


def _typed(kind: str, types: Mapping[str, Mapping[str, _Key]]) -> Check:
    def check(value: object, at: str) -> list[str]:
        if not isinstance(value, dict):
            return [_error(f"{kind} must be an object", at)]
        name = value.get("type")
        if not isinstance(name, str) or name not in types:
            return [_error(f"unsupported {kind} type: {name!r}", at)]
        return _object(name, types[name])(value, at)

    return check


def _text(longest: int, *, plain: bool = False) -> Check:
    plain_keys = {"text": _Key(_string(longest), required=True), "emoji": _Key(_boolean)}
    mrkdwn_keys = {"text": _Key(_string(longest), required=True), "verbatim": _Key(_boolean)}
    types = {"plain_text": plain_keys} if plain else {"plain_text": plain_keys, "mrkdwn": mrkdwn_keys}
    return _typed("text", types)


_ID = _Key(_string(255))
_CONFIRM = _Key(
    _object(
        "confirm",
        {
            "title": _Key(_text(100, plain=True), required=True),
            "text": _Key(_text(300), required=True),
            "confirm": _Key(_text(30, plain=True), required=True),
            "deny": _Key(_text(30, plain=True), required=True),
            "style": _Key(_one_of("primary", "danger")),
        },
    )
)


def _option(*, text_plain: bool) -> Check:
    return _object(
        "option",
        {
            "text": _Key(_text(75, plain=text_plain), required=True),
            "value": _Key(_string(150), required=True),
            "description": _Key(_text(75, plain=text_plain)),
            "url": _Key(_string(3000)),
        },
    )


def _choices(*, fewest: int, most: int, text_plain: bool) -> _Key:
    return _Key(_list(_option(text_plain=text_plain), fewest=fewest, most=most), required=True)


_PLACEHOLDER = _Key(_text(150, plain=True))
_IMAGE_ELEMENT = {
    "image_url": _Key(_string(3000), required=True),
    "alt_text": _Key(_string(2000), required=True),
}
_BUTTON = {
    "text": _Key(_text(75, plain=True), required=True),
    "action_id": _ID,
    "value": _Key(_string(2000)),
    "url": _Key(_string(3000)),
    "style": _Key(_one_of("primary", "danger")),
    "confirm": _CONFIRM,
    "accessibility_label": _Key(_string(75)),
}
_OVERFLOW = {"action_id": _ID, "options": _choices(fewest=1, most=5, text_plain=True), "confirm": _CONFIRM}
_STATIC_SELECT = {
    "action_id": _ID,
    "placeholder": _PLACEHOLDER,
    "options": _choices(fewest=1, most=100, text_plain=True),
    "initial_option": _Key(_option(text_plain=True)),
    "confirm": _CONFIRM,
    "focus_on_load": _Key(_boolean),
}
_USERS_SELECT = {
    "action_id": _ID,
    "placeholder": _PLACEHOLDER,
    "initial_user": _ID,
    "confirm": _CONFIRM,
    "focus_on_load": _Key(_boolean),
}
_CHECKBOXES = {
    "action_id": _ID,
    "options": _choices(fewest=1, most=10, text_plain=False),
    "initial_options": _Key(_list(_option(text_plain=False), fewest=1, most=10)),
    "confirm": _CONFIRM,
    "focus_on_load": _Key(_boolean),
}
_RADIO_BUTTONS = {
    "action_id": _ID,
    "options": _choices(fewest=1, most=10, text_plain=False),
    "initial_option": _Key(_option(text_plain=False)),
    "confirm": _CONFIRM,
    "focus_on_load": _Key(_boolean),
}
_PLAIN_TEXT_INPUT = {
    "action_id": _ID,
    "placeholder": _PLACEHOLDER,
    "initial_value": _Key(_string(3000, shortest=0)),
    "multiline": _Key(_boolean),
    "min_length": _Key(_integer(0, 3000)),
    "max_length": _Key(_integer(1, 3000)),
    "focus_on_load": _Key(_boolean),
}
_PRESSED = {
    "button": _BUTTON,
    "overflow": _OVERFLOW,
    "static_select": _STATIC_SELECT,
    "users_select": _USERS_SELECT,
    "checkboxes": _CHECKBOXES,
    "radio_buttons": _RADIO_BUTTONS,
}
_FILLED = {
    "plain_text_input": _PLAIN_TEXT_INPUT,
    "static_select": _STATIC_SELECT,
    "users_select": _USERS_SELECT,
    "checkboxes": _CHECKBOXES,
    "radio_buttons": _RADIO_BUTTONS,
}


def _context_element(value: object, at: str) -> list[str]:
    if isinstance(value, dict) and value.get("type") == "image":
        return _object("image", _IMAGE_ELEMENT)(value, at)
    return _text(3000)(value, at)


_BLOCKS: Mapping[str, Mapping[str, _Key]] = {
    "section": {
        "block_id": _ID,
        "text": _Key(_text(3000)),
        "fields": _Key(_list(_text(2000), fewest=1, most=10)),
        "accessory": _Key(_typed("element", {**_PRESSED, "image": _IMAGE_ELEMENT})),
        "expand": _Key(_boolean),
    },
    "header": {"block_id": _ID, "text": _Key(_text(150, plain=True), required=True)},
    "divider": {"block_id": _ID},
    "context": {
        "block_id": _ID,
        "elements": _Key(_list(_context_element, fewest=1, most=10), required=True),
    },
    "actions": {
        "block_id": _ID,
        "elements": _Key(_list(_typed("element", _PRESSED), fewest=1, most=25), required=True),
    },
    "image": {"block_id": _ID, **_IMAGE_ELEMENT, "title": _Key(_text(2000, plain=True))},
    "input": {
        "block_id": _ID,
        "label": _Key(_text(2000, plain=True), required=True),
        "element": _Key(_typed("input element", _FILLED), required=True),
        "hint": _Key(_text(2000, plain=True)),
        "optional": _Key(_boolean),
        "dispatch_action": _Key(_boolean),
    },
}


def _anything(_value: object, _at: str) -> list[str]:
    return []


_VIEW: Mapping[str, _Key] = {
    "title": _Key(_text(24, plain=True), required=True),
    "blocks": _Key(_anything, required=True),
    "submit": _Key(_text(24, plain=True)),
    "close": _Key(_text(24, plain=True)),
    "private_metadata": _Key(_string(3000, shortest=0)),
    "callback_id": _Key(_string(255, shortest=0)),
    "external_id": _Key(_string(255, shortest=0)),
    "clear_on_close": _Key(_boolean),
    "notify_on_close": _Key(_boolean),
}


def metadata_is_valid(metadata: object) -> bool:
    """Whether this is message metadata: an event_type and an event_payload object."""
    match metadata:
        case {"event_type": str(), "event_payload": dict()}:
            return True
        case _:
            return False


def as_blocks(value: object) -> tuple[Json, ...]:
    """The blocks of a call that was checked before; nothing given means none."""
    return tuple(value) if isinstance(value, list) else ()
