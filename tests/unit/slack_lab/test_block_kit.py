"""The strict Block Kit validator."""

from __future__ import annotations

from typing import Any

import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from lab.slack import LocalSlack
from lab.slack.blockkit import message_problems, view_problems


def plain(text: str) -> dict[str, str]:
    """A plain_text object."""
    return {"type": "plain_text", "text": text}


def section(**keys: Any) -> dict[str, Any]:
    """A section with those keys."""
    return {"type": "section", **keys}


def button(**keys: Any) -> dict[str, Any]:
    """A button with those keys over good ones."""
    return {"type": "button", "action_id": "a", "text": plain("Go"), **keys}


def actions(*elements: dict[str, Any]) -> dict[str, Any]:
    """An actions block."""
    return {"type": "actions", "elements": list(elements)}


def confirm(**keys: Any) -> dict[str, Any]:
    """A button whose confirm dialog has those keys over good ones."""
    dialog = {"title": plain("t"), "text": plain("x"), "confirm": plain("y"), "deny": plain("n"), **keys}
    return actions(button(confirm=dialog))


def options(count: int, *, text: str = "o") -> list[dict[str, Any]]:
    """That many options."""
    return [{"text": plain(text), "value": str(number)} for number in range(count)]


GOOD = section(text=plain("x"))
AT_THE_LIMIT = [
    [GOOD] * 50,
    [section(text=plain("x" * 3000))],
    [section(fields=[plain("x" * 2000)] * 10)],
    [{"type": "header", "text": plain("x" * 150)}],
    [actions(*[button(action_id=str(number)) for number in range(25)])],
    [{"type": "context", "elements": [plain("x")] * 10}],
    [actions(button(text=plain("x" * 75), value="v" * 2000, action_id="i" * 255))],
    [confirm(title=plain("x" * 100), text=plain("x" * 300), confirm=plain("x" * 30), deny=plain("x" * 30))],
    [actions({"type": "overflow", "action_id": "a", "options": options(5)})],
    [actions({"type": "static_select", "action_id": "a", "options": options(100, text="o" * 75)})],
]
REFUSED = [
    ([GOOD] * 51, "no more than 50 items"),
    ([section(text=plain("x" * 3001))], "no more than 3000 characters"),
    ([section(text=plain(""))], "at least 1 characters"),
    ([section(fields=[plain("x" * 2001)])], "no more than 2000 characters"),
    ([section(fields=[plain("x")] * 11)], "no more than 10 items"),
    ([section()], "text or fields"),
    ([{"type": "header", "text": plain("x" * 151)}], "no more than 150 characters"),
    ([{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}], "unsupported text type"),
    ([actions(*[button(action_id=str(number)) for number in range(26)])], "no more than 25 items"),
    ([actions()], "at least 1 items"),
    ([{"type": "context", "elements": [plain("x")] * 11}], "no more than 10 items"),
    ([actions(button(text=plain("x" * 76)))], "no more than 75 characters"),
    ([actions(button(value="v" * 2001))], "no more than 2000 characters"),
    ([actions(button(action_id="i" * 256))], "no more than 255 characters"),
    ([actions(button(style="purple"))], "one of primary, danger"),
    ([actions({"type": "button"})], "missing required field: text"),
    ([actions(button(), button())], "`action_id` 'a' is used 2 times"),
    ([{**GOOD, "block_id": "b"}, {**GOOD, "block_id": "b"}], "`block_id` 'b' is used 2 times"),
    ([confirm(title=plain("x" * 101))], "no more than 100 characters"),
    ([confirm(text=plain("x" * 301))], "no more than 300 characters"),
    ([confirm(deny=plain("x" * 31))], "no more than 30 characters"),
    ([actions(button(confirm={"title": plain("t")}))], "missing required field: deny"),
    ([actions({"type": "overflow", "action_id": "a", "options": options(6)})], "no more than 5 items"),
    (
        [actions({"type": "static_select", "options": options(1, text="o" * 76)})],
        "no more than 75 characters",
    ),
    ([{"type": "hologram"}], "unsupported block type"),
    ([actions({"type": "lever"})], "unsupported element type"),
    ([{**GOOD, "colour": "red"}], "no such field: colour"),
    ({"type": "section"}, "array of blocks"),
    (["section"], "block must be an object"),
]


@pytest.mark.parametrize("blocks", AT_THE_LIMIT)
def test_what_is_just_allowed(blocks: list[Any]) -> None:
    """Blocks exactly at a limit are accepted."""
    assert message_problems(blocks) == []


@pytest.mark.parametrize(("blocks", "reason"), REFUSED)
def test_what_is_refused(blocks: Any, reason: str) -> None:
    """Blocks past a limit, incomplete or unknown are refused with the reason and the place."""
    problems = message_problems(blocks)
    assert any(reason in problem and "[json-pointer:/blocks" in problem for problem in problems), problems


def modal(**keys: Any) -> dict[str, Any]:
    """A modal with those keys over good ones."""
    return {"type": "modal", "title": plain("t"), "blocks": [GOOD], **keys}


FIELD = {"type": "input", "label": plain("l"), "element": {"type": "plain_text_input", "action_id": "a"}}


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (modal(title=plain("x" * 25)), "no more than 24 characters"),
        (modal(blocks=[GOOD] * 101), "no more than 100 items"),
        (modal(blocks=[FIELD]), "missing required field: submit"),
        (modal(private_metadata="x" * 3001), "no more than 3000 characters"),
        ({"type": "modal", "blocks": []}, "missing required field: title"),
    ],
)
def test_what_is_refused_of_a_modal(view: Any, reason: str) -> None:
    """A modal past its limits is refused with the reason."""
    assert any(reason in problem for problem in view_problems(view))


def test_a_good_modal() -> None:
    """A modal with an input and a submit button is accepted."""
    assert view_problems(modal(blocks=[FIELD], submit=plain("Send"))) == []


async def test_a_refused_write_changes_nothing_and_is_remembered(
    slack: LocalSlack, client: AsyncWebClient
) -> None:
    """Bad blocks are refused with invalid_blocks and messages, nothing is posted, and the run is unclean."""
    with pytest.raises(SlackApiError) as caught:
        await client.chat_postMessage(channel="C0OPS", text="x", blocks=[{"type": "hologram"}])
    assert caught.value.response["error"] == "invalid_blocks"
    assert "hologram" in caught.value.response["response_metadata"]["messages"][0]
    assert slack.channel_messages() == []
    with pytest.raises(AssertionError, match="hologram"):
        slack.assert_clean()


async def test_blocks_need_a_text(slack: LocalSlack, client: AsyncWebClient) -> None:
    """Blocks without a text for notifications and screen readers are refused."""
    with pytest.raises(SlackApiError, match="no_text"):
        await client.api_call("chat.postMessage", json={"channel": "C0OPS", "blocks": [GOOD]})
    assert [violation.error for violation in slack.violations] == ["no_text"]
