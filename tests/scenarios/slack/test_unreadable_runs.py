"""A run that cannot be read, from Slack: shown with the reason, unlocked with a form, and in nobody's way."""

from __future__ import annotations

from typing import Any

from lab.slack import LocalSlack
from recovery.model import RunId, ServerName
from tests.fakes.slack_bot import DC1, Bot, running_bot, stop


async def unreadable(bot: Bot, lines: list[bytes] | None = None) -> RunId:
    """A run by alice that waits for approval, and whose journal somebody has written to."""
    stop(bot, "s2", "s3")
    await bot.slack.slash("/consul recover dc1", user="alice")
    await bot.wait_card("waiting for approval")
    run = await bot.store.active(DC1)
    assert run is not None
    bot.store.rewrite(DC1, run, lines or [*bot.store.lines(DC1, run), b"not a line of ours"])
    return run


def told(bot: Bot, user: str) -> str:
    """What this person alone was told."""
    return "\n".join(bot.slack.plain_text(message) for message in bot.slack.ephemeral(user))


async def test_status_runs_and_show_tell_the_line_and_the_reason(slack: LocalSlack) -> None:
    """All of Slack's checks pass on what is shown, and the servers are looked at as ever."""
    async with running_bot(slack, drives=False) as bot:
        run = await unreadable_without_driver(bot)
        await slack.slash("/consul status dc1", user="alice")
        shown = await slack.wait_message(lambda m: "NO LEADER" in m.text)
        assert f"Run {run} cannot be read: line 2 of its journal is not signed" in slack.plain_text(shown)
        assert f"/consul unlock {run}" in slack.plain_text(shown)
        assert "run_recover" not in str(shown.blocks)
        await slack.slash("/consul runs dc1", user="alice")
        await slack.wait(lambda: "cannot be read: line 2 of its journal" in told(bot, "alice"))
        await slack.slash(f"/consul show {run}", user="bob")
        await slack.wait(lambda: f"Run {run} cannot be read" in told(bot, "bob"))
        slack.assert_clean()


async def unreadable_without_driver(bot: Bot) -> RunId:
    """The same, where nobody drives."""
    stop(bot, "s2", "s3")
    await bot.slack.slash("/consul recover dc1", user="alice")
    await bot.wait_card("Recovery")
    run = await bot.store.active(DC1)
    assert run is not None
    bot.store.rewrite(DC1, run, [*bot.store.lines(DC1, run), b"not a line of ours"])
    return run


async def test_commands_and_buttons_say_why_they_cannot(slack: LocalSlack) -> None:
    """Recover, abort, retry, resume, and Approve on its old card: refused with the reason and the way out."""
    async with running_bot(slack) as bot:
        stop(bot, "s2", "s3")
        await slack.slash("/consul recover dc1", user="alice")
        card = await bot.wait_card("waiting for approval")
        run = await bot.store.active(DC1)
        assert run is not None
        bot.store.rewrite(DC1, run, [*bot.store.lines(DC1, run), b"not a line of ours"])
        await slack.click(card, "run_approve", user="bob")
        await slack.wait(lambda: "cannot be approved" in told(bot, "bob"))
        commands = ("recover dc1", "abort dc1", f"retry {run}", "resume dc1")
        for command in commands:
            await slack.slash(f"/consul {command}", user="alice")
        await slack.wait(
            lambda: (
                sum("cannot be read" in slack.plain_text(m) for m in slack.ephemeral("alice"))
                == len(commands)
            )
        )
        assert f"unlock {run}" in told(bot, "alice")
        assert [bot.world.servers[ServerName(name)].starts for name in ("s2", "s3")] == [0, 0]
        slack.assert_clean()


async def test_its_driver_stops_and_says_so_once(slack: LocalSlack) -> None:
    """The thread tells why nothing goes on; it is not told again every second, nor is the log filled."""
    async with running_bot(slack) as bot:
        run = await unreadable(bot)
        card = await bot.wait_card("cannot be read")
        thread = await slack.wait(
            lambda: [m for m in slack.thread(card.ts) if "cannot be read" in slack.plain_text(m)]
        )
        assert len(thread) == 1
        assert f"unlock {run}" in slack.plain_text(thread[0])
        assert await bot.store.driver(DC1) is None
        assert await bot.store.epoch(DC1) == 1
        slack.assert_clean()


async def test_it_is_unlocked_with_the_form_and_a_new_plan_is_made(slack: LocalSlack) -> None:
    """The form says that nobody drives it and none will; its lines stay, the record comes behind them."""
    async with running_bot(slack) as bot:
        run = await unreadable(bot)
        lines = bot.store.lines(DC1, run)
        await bot.wait_card("cannot be read")
        await slack.slash("/consul unlock dc1", user="bob")
        form = (await slack.wait(lambda: slack.modals("bob")))[-1]
        shown: Any = str(form.view)
        assert "none will" in shown
        assert "cannot be read: line" in shown
        wrong = await slack.submit(form, {"holder": "dc1", "reason": "x"}, user="bob")
        assert wrong.acked
        assert await bot.store.active(DC1) == run
        await slack.submit(form, {"holder": str(run), "reason": "somebody wrote to Redis"}, user="bob")
        await slack.wait(lambda: "no longer holds the lock" in told(bot, "bob"))
        assert await bot.store.active(DC1) is None
        assert bot.store.lines(DC1, run)[:-1] == lines
        await slack.slash("/consul recover dc1", user="alice")
        await slack.wait(lambda: bot.store._clusters[DC1].active not in {None, run})
        await slack.slash("/consul runs dc1", user="alice")
        await slack.wait(lambda: "somebody wrote to Redis" in told(bot, "alice"))
        slack.assert_clean()


async def test_what_does_not_hold_the_lock_is_not_unlocked(slack: LocalSlack) -> None:
    """No form opens for a run of old that cannot be read and holds nothing."""
    async with running_bot(slack, drives=False) as bot:
        run = await unreadable_without_driver(bot)
        bot.store.forge_active(DC1, None)
        await slack.slash(f"/consul unlock {run}", user="bob")
        await slack.wait(lambda: "does not hold the lock" in told(bot, "bob"))
        assert not slack.modals("bob")
        slack.assert_clean()
