"""From `/consul recover` to the leader, in Slack."""

from __future__ import annotations

from lab.slack import LocalSlack
from recovery.model import ServerName
from recovery.raftentry import LogPosition
from tests.fakes.fake_world import majority_replaced
from tests.fakes.memory_store import MemoryStore
from tests.fakes.slack_bot import DC1, Bot, running_bot, stop


async def test_status_is_answered_at_once_and_then_with_a_card(bot: Bot) -> None:
    """The command is acked with a sentence, and the card follows in the channel."""
    delivery = await bot.slack.slash("/consul status", user="mallory")
    assert delivery.response == {"text": "Looking at dc1…"}
    card = await bot.slack.wait_message(lambda m: "is healthy" in m.text)
    assert card.ephemeral_to is None


async def test_where_the_bot_was_not_invited_one_person_is_answered(bot: Bot) -> None:
    """The first thing that goes wrong for everybody: the answer says how to invite the bot."""
    await bot.slack.slash("/consul status", user="alice", channel="general")
    assert "is healthy" in await bot.wait_whisper("alice", "Invite me")


async def test_stopped_servers_are_started_once_another_person_has_approved(bot: Bot) -> None:
    """Alice asks, the card shows the plan, bob approves, the servers run and the card says done."""
    stop(bot, "s2", "s3")
    await bot.slack.slash("/consul recover dc1", user="alice")
    card = await bot.wait_card("waiting for approval")
    assert not bot.world.performed
    await bot.slack.click(card, "run_approve", user="bob")
    await bot.wait_card("done in")
    assert all(server.running for server in bot.world.servers.values())
    assert "[Approve]" not in bot.slack.plain_text(card)


async def test_people_are_called_by_a_new_message_for_every_decision_and_the_end(bot: Bot) -> None:
    """An update notifies nobody, so approvers are mentioned in the thread, and the end is shown in the channel."""
    stop(bot, "s2", "s3")
    await bot.slack.slash("/consul recover dc1", user="alice")
    card = await bot.wait_card("waiting for approval")
    await bot.slack.wait(lambda: bot.slack.mentions("bob"))
    await bot.slack.click(card, "run_approve", user="bob")
    end = await bot.slack.wait_message(lambda m: m.broadcast and "done in" in m.text, timeout_s=10)
    assert end.thread_ts == card.ts
    assert end in bot.slack.mentions("alice")


async def test_the_irreversible_part_asks_again_and_has_the_names_typed(slack: LocalSlack) -> None:
    """peers.json: a second question in a new post, a form that takes nothing but the right names, then done."""
    async with running_bot(slack, servers=majority_replaced()) as bot:
        await slack.slash("/consul recover dc1 —lost s2, s3", user="alice")
        card = await bot.wait_card("waiting for approval")
        await slack.click(card, "run_approve", user="bob")
        await bot.wait_card("second approval")
        asked = await slack.wait_message(
            lambda m: m.thread_ts == card.ts and "second approval" in m.text and bool(m.blocks)
        )
        assert asked in slack.mentions("bob")
        assert "IRREVERSIBLE" in slack.plain_text(asked)
        await slack.click(asked, "run_approve_typed", user="bob")
        [form] = await slack.wait(lambda: slack.modals("bob"))
        wrong = await slack.submit(form, {"type:s2": "s2", "type:s3": "S3?"}, user="bob")
        assert wrong.response is not None
        assert list(wrong.response["errors"]) == ["type:s3"]
        assert all(server.peers_json is None for server in bot.world.servers.values())
        await slack.submit(form, {"type:s2": "s2", "type:s3": "s3"}, user="bob")
        await bot.wait_card("done in")
        assert "[Approve…]" not in slack.plain_text(asked)
        slack.assert_clean()


async def test_a_cluster_under_recovery_is_locked_with_a_link(bot: Bot) -> None:
    """Bob asks too: he alone is told which run holds the lock, with a link, and nothing is started."""
    stop(bot, "s2", "s3")
    await bot.slack.slash("/consul recover dc1", user="alice")
    await bot.wait_card("waiting for approval")
    await bot.slack.slash("/consul recover dc1", user="bob")
    assert "Nothing was started" in await bot.wait_whisper("bob", "already being recovered")
    assert len(await bot.store.runs(DC1)) == 1


async def test_two_bots_show_one_card_and_any_of_them_takes_the_click(slack: LocalSlack) -> None:
    """Slack sends a payload to any socket: the one without the lease only records, the other acts."""
    store = MemoryStore()
    async with (
        running_bot(slack, store=store, owner="bot-1") as first,
        running_bot(slack, store=store, world=first.world, owner="bot-2"),
    ):
        await slack.wait_connected(2)
        stop(first, "s2", "s3")
        await slack.slash("/consul recover dc1", user="alice")
        card = await first.wait_card("waiting for approval")
        await slack.click(card, "run_approve", user="bob")
        await first.wait_card("done in")
        cards = [m for m in slack.channel_messages() if m.metadata and m.thread_ts is None]
        assert cards == [card]
        assert len({key for _, key in first.world.performed}) == len(first.world.performed)


async def test_another_bot_goes_on_with_the_same_card(slack: LocalSlack) -> None:
    """The first bot is gone while people are asked; the second one updates the card that is there."""
    store = MemoryStore()
    async with running_bot(slack, store=store, owner="bot-1") as first:
        world = first.world
        stop(first, "s2", "s3")
        await slack.slash("/consul recover dc1", user="alice")
        card = await first.wait_card("waiting for approval")
        await slack.wait(lambda: slack.mentions("bob"))
    async with running_bot(slack, store=store, world=world, owner="bot-2") as second:
        await slack.click(card, "run_approve", user="bob")
        await second.wait_card("done in", timeout_s=20)
        cards = [m for m in slack.channel_messages() if m.metadata and m.thread_ts is None]
        assert cards == [card]


async def test_runs_are_listed_with_links(bot: Bot) -> None:
    """`/consul runs` shows the newest runs to the one who asks."""
    stop(bot, "s2", "s3")
    await bot.slack.slash("/consul recover", user="alice")
    await bot.wait_card("waiting for approval")
    await bot.slack.slash("/consul runs", user="mallory")
    assert "waiting for approval" in await bot.wait_whisper("mallory", "Runs of dc1")


async def test_help_and_mistakes_are_answered_in_the_ack(bot: Bot) -> None:
    """Nothing typed gives help, a wrong word what was probably meant, an unknown cluster the known ones."""
    for typed, said in (
        ("/consul", "/consul recover"),
        ("/consul statsu", "Did you mean `/consul status`"),
        ("/consul status nowhere", "they name dc1"),
    ):
        delivery = await bot.slack.slash(typed, user="mallory")
        assert delivery.response is not None
        assert said in delivery.response["text"]


async def test_the_refresh_button_updates_the_card_in_place(bot: Bot) -> None:
    """A status card is brought up to date where it stands."""
    await bot.slack.slash("/consul status", user="alice")
    card = await bot.slack.wait_message(lambda m: "is healthy" in m.text)
    stop(bot, "s3")
    await bot.slack.click(card, "status_refresh", user="mallory")
    await bot.slack.wait(lambda: "degraded" in card.text)
    await bot.slack.click(card, "status_recover", user="alice")
    await bot.wait_card("waiting for approval")


async def test_a_plan_that_no_longer_fits_is_void_and_points_to_the_new_one(slack: LocalSlack) -> None:
    """The survivor's log grew while people were asked: the old card says what changed and links the new plan."""
    servers = majority_replaced()
    for server in servers:
        # At the old addresses, so that the lost ones can be named when nobody runs any more.
        server.address = f"198.51.100.1{server.name[1]}"
    async with running_bot(slack, servers=servers) as bot:
        await slack.slash("/consul recover dc1 --lost s2,s3", user="alice")
        card = await bot.wait_card("waiting for approval")
        s1 = bot.world.servers[ServerName("s1")]
        assert s1.last is not None
        s1.last = LogPosition(term=s1.last.term, index=s1.last.index + 1)
        await slack.click(card, "run_approve", user="bob")
        await slack.wait(lambda: "void" in card.text, timeout_s=10)
        await slack.wait(lambda: "bot-1-r2" in slack.plain_text(card), timeout_s=10)
        new = await bot.wait_card("bot-1-r2 of dc1: waiting for approval")
        assert new is not card


async def test_after_an_old_dump_of_the_store_the_card_asks_who_must_confirm(slack: LocalSlack) -> None:
    """The journal is shorter than what was shown: the same process shows it all the same, and the thread goes on."""
    async with running_bot(slack, servers=majority_replaced()) as bot:
        await slack.slash("/consul recover dc1 --lost s2,s3", user="alice")
        card = await bot.wait_card("waiting for approval")
        await slack.wait(lambda: slack.mentions("bob"))
        dump = bot.store.dump()
        await slack.click(card, "run_approve", user="bob")
        await bot.wait_card("second approval")
        bot.store.restore(dump)
        assert await bot.wait_card("BEHIND THE HOSTS") is card
        await slack.click(card, "run_retry", user="bob")
        await bot.wait_card("waiting for approval")
        await slack.click(card, "run_approve", user="bob")
        await bot.wait_card("second approval")

        def thread() -> str:
            return "\n".join(slack.plain_text(message) for message in slack.thread(card.ts))

        await slack.wait(lambda: thread().count("bob approved “plan”") == 2)
        assert thread().count("REDIS IS BEHIND THE HOSTS") == 1
