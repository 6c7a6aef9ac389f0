"""Slack is gone altogether: the run goes on, the terminal steers it, and Slack is told everything once it is back."""

from __future__ import annotations

import pytest

from lab.slack import LocalSlack, Message
from recovery.journal import Outcome
from recovery.service import RunProposed
from tests.fakes.slack_bot import ALICE, BOB, DC1, Bot, running_bot, stop


async def proposed(bot: Bot) -> Message:
    """A plan by alice that waits for approval."""
    stop(bot, "s2", "s3")
    await bot.slack.slash("/consul recover dc1", user="alice")
    card = await bot.wait_card("waiting for approval")
    await bot.slack.wait(lambda: bot.slack.mentions("bob"))
    return card


async def approve(bot: Bot) -> None:
    """Bob approves from a terminal."""
    view = (await bot.service.runs(DC1))[0]
    await bot.service.approve(DC1, view.run, by=BOB, gate="plan", digest_prefix=view.state.digest)


async def ended(bot: Bot) -> Outcome | None:
    """Wait for the end of the newest run, without Slack."""
    async with bot.until() as looking:
        while True:
            view = (await bot.service.runs(DC1))[0]
            if view.state.outcome is not None:
                return view.state.outcome
            await looking()


def thread(bot: Bot, card: Message) -> str:
    """Everything that the thread says."""
    return "\n".join(bot.slack.plain_text(m) for m in bot.slack.workspace.messages if m.thread_ts == card.ts)


@pytest.fixture
async def gone(bot: Bot) -> Message:
    """A plan waits for approval; then Slack is gone, bob approves elsewhere, and the run ends."""
    card = await proposed(bot)
    await bot.slack.go_down()
    await approve(bot)
    assert await ended(bot) is Outcome.RECOVERED
    return card


async def test_the_run_ends_without_slack_and_the_card_is_redrawn(bot: Bot, gone: Message) -> None:
    """The card that waited says done; the thread has each missed line once, and people are called to the end."""
    assert "waiting for approval" in bot.slack.plain_text(gone)
    await bot.slack.come_back()
    await bot.wait_card("done in", timeout_s=40)
    assert bot.card() is gone
    await bot.slack.wait(lambda: "The card above has the details" in thread(bot, gone), timeout_s=20)
    told = thread(bot, gone)
    for once in ("bob approved “plan”", "(Start the agent of s2) verified", "ended: recovered"):
        assert told.count(once) == 1, once
    assert "[Approve]" not in "\n".join(
        bot.slack.plain_text(m) for m in bot.slack.workspace.messages if m.channel == gone.channel
    )


async def test_a_run_proposed_without_slack_gets_its_card_when_slack_is_back(bot: Bot) -> None:
    """Asked for and approved in the terminal, while Slack is away: the channel learns of it afterwards."""
    await bot.slack.go_down()
    stop(bot, "s2", "s3")
    answer = await bot.service.propose(DC1, by=ALICE, origin="terminal")
    assert isinstance(answer, RunProposed)
    async with bot.until() as looking:
        while (await bot.service.runs(DC1))[0].state.waiting_gate is None:
            await looking()
    await approve(bot)
    assert await ended(bot) is Outcome.RECOVERED
    assert bot.slack.channel_messages() == []
    await bot.slack.come_back()
    card = await bot.wait_card("done in", timeout_s=40)
    await bot.slack.wait(lambda: "ended: recovered" in thread(bot, card), timeout_s=20)


async def test_another_process_tells_what_its_predecessor_could_not(slack: LocalSlack) -> None:
    """The run ended and its process was restarted before Slack came back: the next one redraws the card."""
    async with running_bot(slack) as first:
        card = await proposed(first)
        await slack.go_down()
        await approve(first)
        assert await ended(first) is Outcome.RECOVERED
    await slack.come_back()
    async with running_bot(
        slack, store=first.store, world=first.world, owner="bot-2", drives=False
    ) as second:
        for view in await second.service.runs(DC1):
            await second.notifier.catch_up(view)
        await second.wait_card("done in", timeout_s=20)
        await slack.wait(lambda: "The card above has the details" in thread(second, card), timeout_s=20)
        posts = len(slack.workspace.messages)
        for view in await second.service.runs(DC1):
            await second.notifier.catch_up(view)
        assert len(slack.workspace.messages) == posts
