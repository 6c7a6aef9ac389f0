"""Late, double and stale clicks, and a Slack or a store that fails: a run is never stopped by any of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from bot.registry import MOST_OF_ONE, MOST_REFUSALS
from lab.slack import LocalSlack, Message
from recovery.errors import HostRefused
from recovery.journal import RetryChosen
from recovery.plan import Action, StartAgent
from recovery.ports import ActKey
from tests.fakes.slack_bot import BOB, DC1, Bot, running_bot, stop


async def proposed(bot: Bot) -> Message:
    """A plan by alice that waits for approval, with the call to it in the thread."""
    stop(bot, "s2", "s3")
    await bot.slack.slash("/consul recover dc1", user="alice")
    card = await bot.wait_card("waiting for approval")
    await bot.slack.wait(lambda: bot.slack.mentions("bob"))
    return card


def refuse_starts(bot: Bot, *, times: int, of: tuple[str, ...] = ("s1", "s2", "s3")) -> None:
    """Let the next starts of these be refused by their hosts."""
    left = [times]

    def refuse(action: Action, _key: ActKey) -> None:
        if isinstance(action, StartAgent) and action.server in of and left[0] > 0:
            left[0] -= 1
            raise HostRefused("another call is at work on this host; nothing was done")

    bot.world.before_act = refuse


async def test_the_same_click_delivered_twice_counts_once(bot: Bot) -> None:
    """Slack is not sure of the first delivery and repeats it: one approval, and nobody is told off."""
    card = await proposed(bot)
    bot.slack.duplicate()
    await bot.slack.click(card, "run_approve", user="bob")
    await bot.wait_card("done in")
    view = (await bot.service.runs(DC1))[0]
    assert len(view.state.approvals) == 1
    assert bot.slack.ephemeral("bob") == []


async def test_the_same_command_delivered_twice_is_one_card(bot: Bot) -> None:
    """A repeated slash command is known by its trigger."""
    bot.slack.duplicate()
    await bot.slack.slash("/consul status", user="alice")
    await bot.slack.wait_message(lambda m: "is healthy" in m.text)
    await bot.tasks.drain(timeout_s=2)
    assert len(bot.slack.channel_messages()) == 1


async def test_a_click_after_the_end_does_nothing(bot: Bot) -> None:
    """A screen that was not refreshed still has Approve: it is answered, and nothing happens."""
    card = await proposed(bot)
    await bot.slack.click(card, "run_approve", user="bob")
    await bot.wait_card("done in")
    acts = len(bot.world.performed)
    await bot.slack.click(card, "run_approve", user="bob", stale=True)
    await bot.wait_whisper("bob", "This run has ended")
    assert len(bot.world.performed) == acts


async def test_a_retry_from_an_older_state_is_refused(bot: Bot) -> None:
    """Two people see the failed step; the second press comes when it is done already."""
    refuse_starts(bot, times=1)
    card = await proposed(bot)
    await bot.slack.click(card, "run_approve", user="bob")
    await bot.wait_card("your decision is needed")
    assert "another call is at work" in bot.slack.plain_text(card)
    await bot.slack.click(card, "run_retry", user="bob")
    await bot.wait_card("done in")
    await bot.slack.click(card, "run_retry", user="alice", stale=True)
    await bot.wait_whisper("alice", "Nothing was done")


async def test_a_retry_of_an_earlier_attempt_is_refused_though_the_same_step_waits_again(bot: Bot) -> None:
    """Alice still sees the first failure of a step that has been retried and failed anew: her press is no answer."""
    refuse_starts(bot, times=2, of=("s2",))
    card = await proposed(bot)
    await bot.slack.click(card, "run_approve", user="bob")
    await bot.wait_card("your decision is needed")
    first = retry_value(card)
    await bot.slack.click(card, "run_retry", user="bob")
    await bot.slack.wait(lambda: retry_value(card) not in {"", first})
    assert retry_value(card).split("@")[0] == first.split("@")[0], "the same step waits"
    for version in card.versions:
        for button in retry_buttons(version.blocks):
            button["value"] = first
    await bot.slack.click(card, "run_retry", user="alice")
    await bot.wait_whisper("alice", "older state")
    retries = [e for e in (await bot.service.runs(DC1))[0].events if isinstance(e, RetryChosen)]
    assert [event.by for event in retries] == ["bob"]


async def test_a_retry_button_of_an_earlier_bot_is_refused(bot: Bot) -> None:
    """It named the step alone: the answer says what to do, and nothing is tried."""
    refuse_starts(bot, times=1)
    card = await proposed(bot)
    await bot.slack.click(card, "run_approve", user="bob")
    await bot.wait_card("your decision is needed")
    run, what, digest = retry_value(card).split("|")
    for button in retry_buttons(card.now.blocks):
        button["value"] = f"{run}|{what.split('@')[0]}|{digest}"
    await bot.slack.click(card, "run_retry", user="bob")
    await bot.wait_whisper("bob", "from an old message")
    assert not [e for e in (await bot.service.runs(DC1))[0].events if isinstance(e, RetryChosen)]


def retry_buttons(blocks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The Retry buttons on a screen."""
    rows = [block["elements"] for block in blocks if block["type"] == "actions"]
    return [element for row in rows for element in row if element["action_id"] == "run_retry"]


def retry_value(card: Message) -> str:
    """What the Retry of the card as it is now stands for; "" where there is none."""
    return next((str(button["value"]) for button in retry_buttons(card.now.blocks)), "")


async def test_an_abort_after_a_failed_step_says_what_is_left_and_how_to_go_on_by_hand(bot: Bot) -> None:
    """The card of an aborted run has what is left behind and the rest of the plan as commands."""
    card = await proposed(bot)
    calls = [0]

    def refuse(action: Action, _key: ActKey) -> None:
        calls[0] += isinstance(action, StartAgent)
        if isinstance(action, StartAgent) and calls[0] > 1:
            raise HostRefused("no; nothing was done")

    bot.world.before_act = refuse
    await bot.slack.click(card, "run_approve", user="bob")
    await bot.wait_card("your decision is needed")
    await bot.slack.click(card, "run_abort", user="bob")
    await bot.wait_card("aborted by bob")
    shown = bot.slack.plain_text(card)
    assert "Left behind:" in shown
    assert "systemctl start --no-block consul" in shown
    assert await bot.store.active(DC1) is None


async def test_an_unknown_button_is_answered(bot: Bot) -> None:
    """A button of another version: acked, explained, and nothing is done."""
    await bot.slack.slash("/consul status", user="alice")
    card = await bot.slack.wait_message(lambda m: "is healthy" in m.text)
    for element in card.now.blocks[-1]["elements"]:
        element["action_id"] = "of_another_version"
    delivery = await bot.slack.click(card, "of_another_version", user="bob")
    assert delivery.acked
    await bot.wait_whisper("bob", "from an old message")


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "retry_after": 1, "times": 2},
        {"status": 500, "times": 3},
        {"error": "message_not_found", "times": 1},
        {"drop_after_store": True, "times": 2},
    ],
    ids=["429", "500", "gone", "dropped"],
)
@pytest.mark.parametrize("method", ["chat.update", "chat.postMessage"])
async def test_a_failing_slack_never_stops_a_run(bot: Bot, method: str, fault: dict[str, object]) -> None:
    """Approved, then Slack fails: the servers run all the same, and the card says so in the end."""
    card = await proposed(bot)
    bot.slack.fail(method, **fault)  # type: ignore[arg-type]
    await bot.slack.click(card, "run_approve", user="bob")
    await bot.slack.wait(lambda: all(s.running for s in bot.world.servers.values()), timeout_s=15)
    await bot.wait_card("done in", timeout_s=20)


async def test_a_deleted_card_is_posted_again(bot: Bot) -> None:
    """Somebody deletes the live card: a new one takes its place."""
    card = await proposed(bot)
    bot.slack.workspace.delete(card)
    view = (await bot.service.runs(DC1))[0]
    await bot.service.approve(DC1, view.run, by=BOB, gate="plan", digest_prefix=view.state.digest)
    new = await bot.wait_card("done in", timeout_s=15)
    assert new is not card


async def test_a_slow_slack_does_not_hold_a_run_up(bot: Bot) -> None:
    """Each update takes seconds: the run is over long before they are."""
    card = await proposed(bot)
    bot.slack.fail("chat.update", delay_s=2.0, times=2)
    await bot.slack.click(card, "run_approve", user="bob")
    await bot.slack.wait(lambda: all(s.running for s in bot.world.servers.values()))
    assert "done in" not in bot.slack.plain_text(card)
    await bot.wait_card("done in", timeout_s=20)


async def test_status_works_without_a_store_and_recover_says_why_not(bot: Bot) -> None:
    """Redis is gone: the ack comes in time, the status is true, a plan is refused with the reason."""
    bot.store.down = True
    stop(bot, "s2", "s3")
    delivery = await bot.slack.slash("/consul status", user="alice")
    assert delivery.acked
    card = await bot.slack.wait_message(lambda m: "NO LEADER" in m.text)
    assert "Runs cannot be shown" in bot.slack.plain_text(card)
    assert "[Plan recovery…]" not in bot.slack.plain_text(card)
    await bot.slack.slash("/consul recover dc1", user="alice")
    await bot.wait_whisper("alice", "cannot be reached; nothing was done")


async def test_a_store_that_hangs_does_not_hold_the_ack_up(bot: Bot) -> None:
    """The ack needs no store at all."""

    async def hang(key: str, *, ttl_s: float) -> bool:
        del key, ttl_s
        await bot.slack.wait(lambda: False, timeout_s=30)
        return True

    bot.store.once = hang  # type: ignore[method-assign]
    delivery = await bot.slack.slash("/consul status", user="alice")
    assert delivery.acked
    await bot.tasks.drain(timeout_s=0)


async def test_a_fault_of_ours_has_an_id_and_no_details(bot: Bot) -> None:
    """What goes wrong inside is told as an error id; the details stay in the log."""

    async def broken(_cluster: object, **_: object) -> None:
        raise ZeroDivisionError("secret inner detail")

    bot.service.status = broken  # type: ignore[assignment,method-assign]
    await bot.slack.slash("/consul status", user="alice")
    told = await bot.wait_whisper("alice", "Something went wrong in the bot itself")
    assert "secret inner detail" not in told


async def test_names_from_consul_cannot_call_the_channel(slack: LocalSlack) -> None:
    """A server that calls itself <!channel> wakes nobody."""
    async with running_bot(slack) as bot:
        s3 = next(s for s in bot.world.servers.values() if s.name == "s3")
        s3.held_by = "<!channel> <@U0BOB>"
        stop(bot, "s3")
        await slack.slash("/consul status", user="alice")
        card = await slack.wait_message(lambda m: "degraded" in m.text)
        assert "<!channel>" in slack.plain_text(card)
        assert slack.mentions("bob") == []


async def test_an_outsiders_crowd_of_clicks_stops_neither_the_run_nor_the_approver(bot: Bot) -> None:
    """150 clicks at once: all acked in time, few under way, the rest told why not; bob's approval counts."""
    card = await proposed(bot)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, bot.tasks.count)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    clicks = [bot.slack.click(card, "run_approve", user="mallory") for _ in range(150)]
    deliveries = await asyncio.gather(*clicks, bot.slack.click(card, "run_approve", user="bob"))
    assert all(delivery.acked for delivery in deliveries)
    await bot.wait_card("done in")
    watching.cancel()
    assert most <= MOST_OF_ONE + MOST_REFUSALS + 1
    told = [bot.slack.plain_text(message) for message in bot.slack.ephemeral("mallory")]
    assert any("of your requests are still under way" in text and "nothing was done" in text for text in told)
    assert bot.slack.ephemeral("bob") == []
    bot.slack.assert_clean()


async def test_a_command_for_which_there_is_no_place_says_so(bot: Bot) -> None:
    """The answer to the command is the refusal: nothing is looked at, and nothing more is sent."""
    go_on = asyncio.Event()

    async def wait() -> None:
        await go_on.wait()

    for _ in range(MOST_OF_ONE):
        bot.tasks.spawn(wait(), name="slow", who="U0ALICE")
    await bot.slack.slash("/consul status", user="alice")
    assert "of your requests are still under way" in await bot.wait_whisper("alice", "was not taken")
    go_on.set()
    await bot.tasks.drain(timeout_s=2)
    await bot.slack.slash("/consul status", user="alice")
    await bot.slack.wait_message(lambda m: "is healthy" in m.text)
