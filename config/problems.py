"""What pydantic found, as sentences for a person: the place, what is wrong, what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic_core import ErrorDetails

from config.schema import NOT_OURS, Section


def sentence(section: str, shape: Any, detail: ErrorDetails) -> str:
    """Give one problem of a section; what stood there is never repeated, it may be a secret."""
    place = (section, *(part for part in detail["loc"] if part != "[key]"))
    path = ".".join(str(part) for part in place)
    if detail["type"] == "extra_forbidden":
        known = list(_keys_at(shape, detail["loc"][:-1]))
        return f"{path}: no such setting{did_you_mean(str(place[-1]), known)}"
    if detail["type"] == NOT_OURS:
        return f"{path}: not taken: {detail['ctx']['why']}"
    write = _description(shape, detail["loc"])
    instead = f"; write {write}" if write else "; correct it"
    return f"{path}: {_wrong(detail)}{instead}"


def _wrong(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "missing":
            return "missing"
        case "value_error":
            return str(detail["ctx"]["error"])
        case "too_short":
            return "is empty"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "is no mapping of settings"
        case "tuple_type" | "list_type":
            return "is no list"
        case "greater_than" | "greater_than_equal":
            return "is too small"
        case "less_than" | "less_than_equal":
            return "is too large"
        case kind if kind.startswith(("int_", "float_")):
            return "is no number"
        case kind if kind.startswith("bool_"):
            return "is neither true nor false"
        case "string_type" | "path_type":
            return "is no text (put it in quotes)"
        case "enum" | "literal_error":
            return "is none of the choices"
        case _:
            return detail["msg"]


def did_you_mean(word: str, known: list[str]) -> str:
    """End a sentence about an unknown key with the one that was meant, or with all there are."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; take it out (known are {', '.join(sorted(known))})"


def _inner(shape: Any, part: int | str) -> Any:
    """The shape one step further into the file."""
    if isinstance(shape, type) and issubclass(shape, Section):
        info = shape.model_fields.get(str(part))
        return None if info is None else _without_none(info.annotation)
    arguments = get_args(shape)
    if get_origin(shape) is dict:
        return arguments[1]
    return arguments[0] if arguments else None


def _without_none(shape: Any) -> Any:
    sections = [part for part in get_args(shape) if isinstance(part, type) and issubclass(part, Section)]
    return sections[0] if isinstance(shape, UnionType) and sections else shape


def _keys_at(shape: Any, place: tuple[int | str, ...]) -> Iterator[str]:
    for part in place:
        shape = _inner(shape, part)
    if isinstance(shape, type) and issubclass(shape, Section):
        yield from shape.keys()


def _description(shape: Any, place: tuple[int | str, ...]) -> str:
    """The description of the innermost setting on the way to ``place``."""
    found = ""
    for part in place:
        if isinstance(shape, type) and issubclass(shape, Section) and part in shape.model_fields:
            found = shape.model_fields[str(part)].description or found
        shape = _inner(shape, part)
    return found
