"""Slack's limits and foreign text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.blocks import actions, button, clamp, code, code_block, code_blocks, context, esc, finalize, section
from bot.buttons import Press, read_value, value_of
from lab.slack import blockkit
from recovery.model import RunId, ServerName
from recovery.plan import Digest


@given(st.lists(st.text(max_size=9000), min_size=1, max_size=70), st.text(min_size=1, max_size=9000))
def test_whatever_is_said_slack_takes_the_message(texts: list[str], head: str) -> None:
    """Any foreign text of any length gives a message within every limit."""
    blocks = [section(f"*x* {esc(text)}") for text in texts] + [context(f"y {esc(head)}")]
    message = finalize(f"x {head}", blocks)
    assert blockkit.message_problems(list(message.blocks)) == []
    assert 0 < len(message.text) <= 3000


@given(st.text())
def test_escaped_text_mentions_nobody(text: str) -> None:
    """No angle bracket survives, and every ampersand is an entity."""
    for shown in (esc(text), code(text), code_block([text])):
        assert "<" not in shown
        assert ">" not in shown
    assert "`" not in code(text)[1:-1]
    assert code_block([text, text]).count("```") == 2


@given(
    st.lists(
        st.text(alphabet="ab `&", min_size=1, max_size=200).filter(lambda line: line.strip(" `") != ""),
        max_size=60,
    )
)
def test_no_command_is_missing_from_the_code_blocks(lines: list[str]) -> None:
    """A person who goes on by hand must not miss the first ones."""
    shown = "\n".join(part.strip("`").strip("\n") for part in code_blocks(lines))
    assert len(shown.split("\n")) == len(lines) or not lines
    assert all(len(part) <= 3000 for part in code_blocks(lines))


@given(st.text(alphabet="a&<>;|`\n", max_size=400), st.integers(min_value=60, max_value=300))
def test_a_shortened_text_keeps_its_entities_whole(text: str, most: int) -> None:
    """A cut never leaves half an entity behind."""
    shown = clamp(esc(text), most)
    assert len(shown) <= most
    for part in shown.split("&")[1:]:
        assert part.startswith(("amp;", "lt;", "gt;"))


def test_the_buttons_stay_when_a_message_is_too_long() -> None:
    """What goes is the middle."""
    row = actions("run:r1:1", button("Abort", action="run_abort", value="r1||abc"))
    message = finalize("x", [*(section(str(number)) for number in range(80)), row])
    assert len(message.blocks) == 50
    assert message.blocks[-1] == row


def test_a_message_that_would_change_its_meaning_is_refused() -> None:
    """A value or an id is never shortened, and a message always has a text."""
    with pytest.raises(ValueError, match="characters"):
        finalize("x", [actions("a", button("b", action="c", value="v" * 2001))])
    one = button("b", action="c", value="v")
    with pytest.raises(ValueError, match="twice"):
        finalize("x", [actions("a", one, one)])
    with pytest.raises(ValueError, match="without text"):
        finalize(" ", [section("x")])


def test_the_value_of_a_button_comes_back_as_it_was() -> None:
    """Run, gate, the digest's beginning and the names to type."""
    names = (ServerName("s2"), ServerName("s-3.x"))
    value = value_of(RunId("r7f3"), "irreversible", Digest("ab" * 32), names)
    assert read_value(value) == Press(RunId("r7f3"), "irreversible", "ab" * 6, names)
    question = value_of(RunId("r7f3"), "start-s2@17", Digest("ab" * 32))
    assert read_value(question) == Press(RunId("r7f3"), "start-s2@17", "ab" * 6)
    assert read_value(value_of(RunId("r7f3"), "", Digest("ab" * 32))) == Press(RunId("r7f3"), "", "ab" * 6)


@given(st.text(max_size=60))
def test_a_value_that_is_none_of_ours_is_nothing(value: str) -> None:
    """Only a value of exactly our form is read."""
    press = read_value(value)
    assert press is None or value.startswith(f"{press.run}|{press.what}|{press.digest_prefix}")
