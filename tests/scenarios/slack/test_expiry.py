"""Nobody answers the second question: told before, reminded, and told how it ended and how to go on."""

from __future__ import annotations

from lab.slack import LocalSlack, Message
from recovery.journal import Outcome
from recovery.model import ServerName
from recovery.policy import ApprovalPolicy
from tests.fakes.fake_world import majority_replaced
from tests.fakes.memory_store import MemoryStore
from tests.fakes.slack_bot import DC1, Bot, running_bot

SOON = ApprovalPolicy(expires_after_s=4)
LOST = "/consul recover dc1 --lost s2,s3"
S1, S2 = ServerName("s1"), ServerName("s2")


async def asked_again(bot: Bot) -> Message:
    """Alice asks, bob approves the plan, and the second question is open."""
    await bot.slack.slash(LOST, user="alice")
    card = await bot.wait_card("waiting for approval")
    assert "A second answer will be needed" in bot.slack.plain_text(card)
    assert "s2, s3 and s1 are DOWN" in bot.slack.plain_text(card)
    assert "A second answer will be needed" in (bot.slack.element(card, "run_approve").confirm or "")
    await bot.slack.click(card, "run_approve", user="bob")
    return await bot.wait_card("second approval")


def alone(bot: Bot, user: str) -> list[Message]:
    """What the bot wrote to one person alone."""
    channel = bot.slack.workspace.direct(bot.slack.workspace.person(user).id)
    return [message for message in bot.slack.workspace.messages if message.channel == channel.id]


async def test_people_are_reminded_once_in_the_channel_and_alone(slack: LocalSlack) -> None:
    """At half of the time: one post for all, and one to whoever may still answer; not to the one who asked."""
    async with running_bot(slack, servers=majority_replaced(), approval=SOON) as bot:
        card = await asked_again(bot)
        told = await slack.wait_message(
            lambda m: m.broadcast and "waits for an answer" in m.text, timeout_s=10
        )
        assert told.thread_ts == card.ts
        assert told in slack.mentions("bob")
        assert "s2, s3 and s1 are DOWN" in told.text
        await slack.wait(lambda: alone(bot, "bob"))
        await bot.wait_card("expired, nobody approved in time", timeout_s=10)
        assert len(alone(bot, "bob")) == 1
        assert not alone(bot, "alice")
        reminders = [m for m in slack.thread(card.ts) if m.broadcast and "waits for an answer" in m.text]
        assert reminders == [told]
        slack.assert_clean()


async def test_an_unanswered_second_question_puts_the_survivor_back_and_says_so(slack: LocalSlack) -> None:
    """Expired: s1 runs as before, the blank ones stay down, the end names both and offers the way on."""
    async with running_bot(slack, servers=majority_replaced(), approval=SOON) as bot:
        asked = await asked_again(bot)
        end = await slack.wait_message(
            lambda m: m.broadcast and "expired, nobody approved in time" in m.text, timeout_s=15
        )
        assert end in slack.mentions("bob")
        said = slack.plain_text(end)
        assert "s1 runs again as before" in said
        assert "s2 and s3 are DOWN and held" in said
        assert "The card above" not in said
        assert bot.world.servers[S1].running
        assert not bot.world.servers[S1].held_by
        assert not bot.world.servers[S2].running
        await slack.click(asked, "run_approve_typed", user="bob", stale=True)
        [form] = await slack.wait(lambda: slack.modals("bob"))
        await slack.submit(form, {"type:s2": "s2", "type:s3": "s3"}, user="bob")
        await bot.wait_whisper("bob", "This run has ended (expired). Nothing was done.")
        slack.assert_clean()


async def test_the_button_on_the_end_plans_again_with_the_same_claims(slack: LocalSlack) -> None:
    """One click on the end of an expired run: a new plan with its claims waits, and the old card links to it."""
    async with running_bot(slack, servers=majority_replaced(), approval=SOON) as bot:
        first = await asked_again(bot)
        end = await slack.wait_message(
            lambda m: m.broadcast and "expired, nobody approved in time" in m.text, timeout_s=15
        )
        await slack.click(end, "run_again", user="alice")
        second = await slack.wait_message(
            lambda m: (
                m.metadata is not None
                and m.thread_ts is None
                and m is not first
                and "waiting for approval" in m.text
            ),
            timeout_s=10,
        )
        assert "You say these are gone for good" in slack.plain_text(second)
        await slack.wait(lambda: "The new plan:" in slack.plain_text(first))
        assert "[Plan again" not in slack.plain_text(first)
        slack.assert_clean()


async def test_status_of_held_servers_offers_their_plan_again(slack: LocalSlack) -> None:
    """Aborted behind the stops: status says who holds whom, and its button plans with what that run was told."""
    async with running_bot(slack, servers=majority_replaced()) as bot:
        card = await asked_again(bot)
        await slack.click(card, "run_abort", user="bob")
        await bot.wait_card("aborted by bob")
        await slack.slash("/consul status", user="mallory")
        status = await slack.wait_message(lambda m: "held by run bot-1-r1 (aborted)" in m.text, timeout_s=10)
        assert "by itself" not in slack.plain_text(status)
        await slack.click(status, "run_again", user="mallory")
        await bot.wait_whisper("mallory", "Nothing was done")
        await slack.click(status, "run_again", user="alice")
        await bot.wait_card("waiting for approval", timeout_s=10)
        slack.assert_clean()


async def test_another_process_does_not_remind_again(slack: LocalSlack) -> None:
    """The first bot is gone after the reminder: the next one drives to the end, and nobody is reminded twice."""
    store = MemoryStore()
    async with running_bot(slack, servers=majority_replaced(), approval=SOON, store=store) as first:
        world = first.world
        await asked_again(first)
        await slack.wait(lambda: alone(first, "bob"), timeout_s=10)
    async with running_bot(slack, store=store, world=world, approval=SOON, owner="bot-2") as second:
        await second.wait_card("expired, nobody approved in time", timeout_s=20)
        assert len(alone(second, "bob")) == 1
        assert len([m for m in slack.channel_messages() if "waits for an answer" in m.text]) == 1
        [run] = await store.runs(DC1)
        assert store.folded(DC1, run).outcome is Outcome.EXPIRED
