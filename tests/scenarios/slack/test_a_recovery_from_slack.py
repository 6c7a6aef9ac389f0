"""From `/consul recover` to the leader, in Slack."""

from __future__ import annotations

from tests.fakes.slack_bot import Bot


def stop_two(bot: Bot) -> None:
    """s2 and s3 are stopped: no leader, nothing lost."""
    for name in ("s2", "s3"):
        bot.world.servers[name].running = False


async def test_status_is_answered_at_once_and_then_with_a_card(bot: Bot) -> None:
    """The command is acked with a sentence, and the card follows in the channel."""
    delivery = await bot.slack.slash("/consul status", user="mallory")
    assert delivery.response == {"text": "Looking at dc1…"}
    card = await bot.slack.wait_message(lambda m: "is healthy" in m.text)
    assert card.ephemeral_to is None


async def test_stopped_servers_are_started_once_another_person_has_approved(bot: Bot) -> None:
    """Alice asks, the card shows the plan, bob approves, the servers run and the card says done."""
    stop_two(bot)
    await bot.slack.slash("/consul recover dc1", user="alice")
    card = await bot.wait_card("waiting for approval")
    assert not bot.world.performed
    await bot.slack.click(card, "run_approve", user="bob")
    await bot.wait_card("done in")
    assert all(server.running for server in bot.world.servers.values())
    assert "[Approve]" not in bot.slack.plain_text(card)
