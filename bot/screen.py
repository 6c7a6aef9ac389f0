"""The one way to a terminal: nothing that is told there makes it do anything but show it."""

from __future__ import annotations

from typing import TextIO

from bot.outgoing import printable


def tell(out: TextIO, text: str) -> None:
    """Write a text and end the line."""
    out.write(f"{printable(text)}\n")
    out.flush()


def tell_json(out: TextIO, document: str | bytes) -> None:
    """Write a JSON document and end the line; what cannot be seen is written as an escape, and stays the same value."""
    text = document.decode() if isinstance(document, bytes) else document
    out.write("".join(_escaped(character) for character in text) + "\n")
    out.flush()


def _escaped(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    # Outside the strings of a JSON document there are only printable characters and line ends; above U+FFFF
    # an escape is a pair.
    pair = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{pair[at : at + 4]}" for at in range(0, len(pair), 4))
