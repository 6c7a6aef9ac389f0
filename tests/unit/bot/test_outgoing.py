"""Whatever is told, to Slack or to a terminal: it only says something, and does nothing."""

import ast
import io
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bot
from bot import logs, outgoing, screen
from bot.blocks import (
    MOST_SECTION,
    code,
    code_block,
    context,
    date,
    esc,
    finalize,
    modal,
    section,
    typed_input,
)

EVIL = (
    "\x1b[2J",
    "\x9b31m",
    "\x1b]0;title\x07",
    "\r",
    "\b\b",
    "\u202e",
    "\u2066",
    "\u200b",
    "\ufeff",
    "\u2028",
    "\ufdd0@U0BOB\ufdd1",
    "\ufdd0!channel\ufdd1",
    "<!channel>",
    "<!here|here>",
    "<@U0BOB>",
    "<#C0OPS>",
    "<!subteam^S0ONCALL>",
    "<https://evil.invalid|your bank>",
    "&lt;!channel&gt;",
    "```",
    "\n",
    "\t",
    "s1",
)
foreign = st.lists(st.one_of(st.sampled_from(EVIL), st.text(max_size=5)), max_size=6).map("".join)

BOB, ONCALL = "<@U0BOB>", "<!subteam^S0ONCALL>"


def hidden(text: str) -> list[str]:
    """What is in a text that a reader does not see, or that a terminal obeys."""
    return [
        f"U+{ord(character):04X}"
        for character in text
        if character not in "\n\t"
        and unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    ]


def texts(payload: Any) -> Iterator[str]:
    """Every text in a payload that a person reads."""
    if isinstance(payload, dict):
        yield from (value for key, value in payload.items() if key == "text" and isinstance(value, str))
        for value in payload.values():
            yield from texts(value)
    elif isinstance(payload, list | tuple):
        for value in payload:
            yield from texts(value)


@given(foreign)
def test_a_text_that_nobody_escaped_mentions_nobody_and_hides_nothing(text: str) -> None:
    """The builders may all forget it: the exit does not. Only what spells a whole marker of ours could pass."""
    text = text.replace("\ufdd0", "<").replace("\ufdd1", ">") * 100
    blocks = [
        section(f"*Bad:* {text}"),
        context(f"({text})", f"`{text}`"),
        typed_input(block_id="b", label=text or "l", hint=text or "h"),
    ]
    message = finalize(f"push {text}", blocks)
    view = modal(title="t", submit=text or "s", callback_id="c", private=text, blocks=blocks)
    sent = outgoing.finished({"text": message.text, "blocks": message.blocks, "view": view})
    assert not any(hidden(shown) for shown in texts(sent))
    assert not any(
        "<" in shown for shown in texts([block for block in sent["blocks"] if block["type"] != "input"])
    )
    assert "<" not in sent["text"]
    assert all(len(shown) <= MOST_SECTION for shown in texts(sent))
    assert sent["view"]["private_metadata"] == text


@given(foreign)
def test_foreign_text_cannot_spell_a_mention_of_ours(text: str) -> None:
    """What is quoted through esc, code or a code block loses the marks that stand for our own brackets."""
    quoted = f"{esc(text)} {code(text)} {code_block(text.splitlines())}"
    sent = outgoing.finished({"text": quoted})
    assert "<" not in sent["text"]
    assert not hidden(sent["text"])


@given(foreign)
def test_our_own_mentions_links_and_times_reach_slack_beside_anything(text: str) -> None:
    """People are called, and the link and the time can be read, whatever stands around them."""
    page = outgoing.link("https://x.invalid/a", "r1")
    own = f"{outgoing.user('U0BOB')} {outgoing.group('S0ONCALL')} {page} {date(7)}"
    (sent,) = texts(outgoing.finished([section(f"{esc(text)} {own}")]))
    assert sent.endswith(
        f"{BOB} {ONCALL} <https://x.invalid/a|r1> "
        "<!date^7^{date_short_pretty} {time_secs}|1970-01-01 00:00:07 UTC>"
    )


@pytest.mark.parametrize(
    "inside",
    [
        "!channel",
        "!here",
        "!everyone",
        "@u0bob",
        "#C0OPS",
        "javascript:x|y",
        "https://x.invalid",
        "@U0BOB|x",
        "",
    ],
)
def test_only_mentions_links_and_times_pass(inside: str) -> None:
    """Nothing of ours calls a whole channel, so nothing may."""
    assert "<" not in outgoing.mrkdwn(f"a \ufdd0{inside}\ufdd1 b")


def test_a_mention_is_cut_whole_or_not_at_all() -> None:
    """A long text is shortened before or behind a mention."""
    for length in range(2960, 3010):
        (sent,) = texts(outgoing.finished([section("x" * length + outgoing.user("U0BOB") + "y" * 100)]))
        assert "<" not in sent.replace(BOB, "")
        assert not hidden(sent)


def test_the_errors_of_a_form_are_shown_as_they_are() -> None:
    """A form's errors are plain text: cleaned, and not escaped."""
    sent = outgoing.finished({"response_action": "errors", "errors": {"typed:s2": "Type <s2>\x1b[2J"}})
    assert sent == {"response_action": "errors", "errors": {"typed:s2": "Type <s2> [2J"}}


@given(foreign)
def test_a_terminal_is_told_text_and_nothing_else(text: str) -> None:
    """No escape sequence and no turn of direction reaches a terminal; lines stay lines."""
    out = io.StringIO()
    screen.tell(out, text)
    assert not hidden(out.getvalue())
    assert out.getvalue().count("\n") == text.count("\n") + 1


@given(
    st.recursive(
        foreign, lambda part: st.lists(part, max_size=3) | st.dictionaries(foreign, part, max_size=3)
    )
)
def test_json_keeps_every_value_and_hides_nothing(value: object) -> None:
    """What cannot be seen is an escape in JSON: the terminal is safe, and the reader of the JSON gets it all."""
    for written in (json.dumps(value, ensure_ascii=False, indent=1), json.dumps(value)):
        out = io.StringIO()
        screen.tell_json(out, written)
        assert not hidden(out.getvalue())
        assert json.loads(out.getvalue()) == value


@given(foreign)
def test_a_log_line_is_one_line_of_json(text: str) -> None:
    """A forged line, or an escape sequence, in what a host said stays inside its string."""
    out = io.StringIO()
    logs.configure((), stream=out)
    import structlog

    structlog.get_logger("t").warning("a host said", problem=text)
    structlog.reset_defaults()
    assert out.getvalue().count("\n") == 1
    assert not hidden(out.getvalue())
    assert json.loads(out.getvalue())["problem"] == text


# --- no other way out

SOURCES = sorted(Path(next(iter(bot.__path__))).glob("*.py"))


def calls(path: Path) -> Iterator[str]:
    """What a module calls, by its last name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = node.func
            yield called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_there_is_one_way_to_a_terminal_and_one_to_slack(path: Path) -> None:
    """Whoever writes past bot.screen, or has a client of Slack past bot.talk, sends what nobody made harmless."""
    found = set(calls(path))
    if path.name != "screen.py":
        assert not found & {"write", "print", "writelines", "print_json"} - allowed(path)
    if path.name != "talk.py":
        assert not found & {"AsyncWebClient", "AsyncWebhookClient", "WebClient", "WebhookClient", "send_dict"}
    assert not [name for name in found if re.match(r"(chat|views|files)_[a-z]", name)]


def allowed(path: Path) -> set[str]:
    """follow prints through rich, whose own sequences draw the live view; what it is given is cleaned there."""
    return {"print"} if path.name == "follow.py" else set()
