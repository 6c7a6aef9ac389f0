"""Foreign text on each way to Slack: it is shown, wakes nobody, hides nothing."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from bot import outgoing
from bot.blocks import Message, modal, section, typed_input
from bot.talk import Talk, client_for
from lab.slack import LocalSlack
from recovery.errors import RecoveryError
from tests.fakes.slack_bot import Bot, running_bot

EVIL = "s2 <!channel> <!here> <@U0BOB> <https://evil.invalid|x>\x1b[2J\u202e"
HARMLESS = "s2 &lt;!channel&gt; &lt;!here&gt; &lt;@U0BOB&gt; &lt;https://evil.invalid|x&gt; [2J "
MESSAGE = Message(EVIL, (section(f"{EVIL} {outgoing.user('U0ALICE')}"),))

Send = Callable[[Talk, str], Awaitable[object]]


async def update(talk: Talk, channel: str) -> None:
    _, ts = await talk.post(channel, Message("x", (section("x"),)))
    await talk.update(channel, ts, MESSAGE)


WAYS: dict[str, tuple[str, Send]] = {
    "post": ("chat.postMessage", lambda talk, channel: talk.post(channel, MESSAGE)),
    "direct message": ("chat.postMessage", lambda talk, _channel: talk.post("U0ALICE", MESSAGE)),
    "update": ("chat.update", update),
    "whisper": ("chat.postEphemeral", lambda talk, channel: talk.whisper(channel, "U0ALICE", MESSAGE)),
}


@pytest.mark.parametrize("way", WAYS)
async def test_each_message_is_made_harmless_and_calls_whom_we_call(slack: LocalSlack, way: str) -> None:
    """Its blocks and its fallback text alike; only our own mention is one."""
    method, send = WAYS[way]
    talk = Talk(client_for(token=slack.bot_token, api_url=slack.api_url, reads=False))
    await send(talk, slack.workspace.channel("consul-ops").id)
    sent = slack.calls(method)[-1].args
    blocks = sent["blocks"] if isinstance(sent["blocks"], list) else json.loads(sent["blocks"])
    assert sent["text"] == HARMLESS
    assert blocks[0]["text"]["text"] == f"{HARMLESS} <@U0ALICE>"
    assert slack.mentions("bob") == []


async def test_a_command_is_answered_without_repeating_what_it_would_do(bot: Bot) -> None:
    """What a person typed is quoted in the ack and in the answer."""
    for typed in (f"status {EVIL}", f"{EVIL}", f"show {EVIL}", f"readmit dc1 {EVIL}"):
        await bot.slack.slash(f"/consul {typed}", user="alice")
    await bot.wait_whisper("alice", "s2")
    told = [message.text for message in bot.slack.workspace.messages if message.ephemeral_to == "U0ALICE"]
    assert told
    assert not [text for text in told if "<!" in text or "<@" in text or "\x1b" in text or "\u202e" in text]


async def test_an_error_of_a_host_is_told_as_words(slack: LocalSlack) -> None:
    """ssh and Redis quote what the other side said."""
    async with running_bot(slack) as bot:

        async def broken(_cluster: object, **_: object) -> None:
            raise RecoveryError(f"ssh said: {EVIL}")

        bot.service.status = broken  # type: ignore[assignment,method-assign]
        await slack.slash("/consul status", user="alice")
        assert "\x1b" not in await bot.wait_whisper("alice", "ssh said")
        assert slack.mentions("bob") == []
        slack.assert_clean()


async def test_a_form_is_made_harmless(bot: Bot) -> None:
    """A modal quotes names too."""
    talk = Talk(client_for(token=bot.slack.bot_token, api_url=bot.slack.api_url, reads=False))
    view = modal(
        title="t",
        submit="s",
        callback_id="c",
        private="p",
        blocks=[section(EVIL), typed_input(block_id="b", label=EVIL, hint=EVIL)],
    )
    with pytest.raises(Exception, match="trigger"):
        await talk.open_view("none", view)
    sent = bot.slack.calls("views.open")[-1].args["view"]
    made = sent if isinstance(sent, dict) else json.loads(sent)
    assert made["blocks"][0]["text"]["text"] == HARMLESS
    assert "\x1b" not in made["blocks"][1]["label"]["text"]
