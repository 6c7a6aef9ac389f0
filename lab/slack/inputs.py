"""What a person may type into a modal: the checks that Slack's client makes before it submits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.slack.workspace import Json


def read_inputs(view: Json, values: Mapping[str, Any]) -> Json:
    """The `state.values` of a submission.

    `values` is keyed by block_id or action_id: a text, an option's value, a user id, or a list of option
    values for checkboxes. ValueError where the client would refuse to submit, or when a key fits no input.
    """
    state: Json = {}
    left = set(values)
    for block in view["blocks"]:
        if block["type"] != "input":
            continue
        element = block["element"]
        key = next((name for name in (block["block_id"], element["action_id"]) if name in values), None)
        left.discard(key or "")
        given = values[key] if key is not None else _initial(element)
        if given in (None, "", []) and not block.get("optional", False):
            raise ValueError(f"{block['label']['text']!r} must be filled in")
        state.setdefault(block["block_id"], {})[element["action_id"]] = _state(element, given)
    if left:
        raise ValueError(f"the modal has no input called {', '.join(sorted(left))}")
    return state


def _initial(element: Json) -> Any:
    match element["type"]:
        case "plain_text_input":
            return element.get("initial_value")
        case "users_select":
            return element.get("initial_user")
        case "checkboxes":
            return [option["value"] for option in element.get("initial_options", [])]
        case _:
            return element.get("initial_option", {}).get("value")


def _state(element: Json, given: Any) -> Json:
    kind = element["type"]
    match kind:
        case "plain_text_input":
            return {"type": kind, "value": _typed(element, given)}
        case "users_select":
            return {"type": kind, "selected_user": given}
        case "checkboxes":
            return {"type": kind, "selected_options": [_option(element, value) for value in given or []]}
        case _:
            return {"type": kind, "selected_option": _option(element, given) if given else None}


def _typed(element: Json, given: Any) -> str | None:
    if given in (None, ""):
        return None
    if not isinstance(given, str):
        raise TypeError(f"{element['action_id']!r} takes a text")
    shortest, longest = element.get("min_length", 0), element.get("max_length", 3000)
    if not shortest <= len(given) <= longest:
        raise ValueError(f"{element['action_id']!r} takes {shortest} to {longest} characters")
    return given


def _option(element: Json, value: str) -> Json:
    for option in element["options"]:
        if option["value"] == value:
            found: Json = option
            return found
    raise ValueError(f"{element['action_id']!r} has no option {value!r}")
