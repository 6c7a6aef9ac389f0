"""Who holds a cluster's lock, who drives, and how a person takes a lock away: from Slack."""

from __future__ import annotations

import asyncio

from bot.talk import client_for
from lab.slack import LocalSlack, Modal
from recovery.engine import drive_run
from recovery.journal import Outcome
from recovery.model import ClusterObservation, RunId
from recovery.service import RunProposed
from tests.builders.runs import Listener
from tests.fakes.fake_world import FakeWorld, one_fenced, three_servers
from tests.fakes.slack_bot import ALICE, DC1, Bot, RealClock, running_bot, stop


async def proposed(bot: Bot) -> RunId:
    """A plan by alice, shown on its card."""
    stop(bot, "s2", "s3")
    await bot.slack.slash("/consul recover dc1", user="alice")
    await bot.wait_card("Recovery")
    run = await bot.store.active(DC1)
    assert run is not None
    return run


async def form(bot: Bot) -> Modal:
    """Bob asks to unlock, and has the form before him."""
    await bot.slack.slash("/consul unlock dc1", user="bob")
    return (await bot.slack.wait(lambda: bot.slack.modals("bob")))[-1]


class BothAtOnce(FakeWorld):
    """Its first two looks end together: whoever asks for a plan then has seen no other run."""

    def __init__(self) -> None:
        super().__init__(DC1, three_servers())
        self.looks = 0
        self.both = asyncio.Barrier(2)

    async def observe(self) -> ClusterObservation:
        self.looks += 1
        if self.looks <= self.both.parties:
            await self.both.wait()
        return await super().observe()


async def test_of_two_who_ask_at_once_one_is_told_who_holds_the_lock_with_a_link(slack: LocalSlack) -> None:
    """Two bots take two commands of the same moment: one run, and the other person has the link to its card."""
    world = BothAtOnce()
    async with (
        running_bot(slack, world=world) as first,
        running_bot(slack, world=world, store=first.store, owner="bot-2"),
    ):
        await slack.wait_connected(2)
        stop(first, "s2", "s3")
        await asyncio.gather(
            slack.slash("/consul recover dc1", user="alice"), slack.slash("/consul recover dc1", user="bob")
        )
        card = await first.wait_card("waiting for approval")
        told = await slack.wait_message(
            lambda m: m.ephemeral_to is not None and "already being recovered" in slack.plain_text(m)
        )
        run = await first.store.active(DC1)
        assert run is not None
        [holder] = await first.service.runs(DC1)
        asked, other = ("alice", "bob") if holder.state.requested_by == ALICE else ("bob", "alice")
        assert told.ephemeral_to == slack.workspace.person(other).id
        assert f"by {asked}" in slack.plain_text(told)
        assert "Nothing was started" in slack.plain_text(told)
        link = await client_for(token=slack.bot_token, api_url=slack.api_url, reads=True).chat_getPermalink(
            channel=card.channel, message_ts=card.ts
        )
        assert f"<{link['permalink']}|{run}>" in str(told.blocks)
        slack.assert_clean()


async def test_a_living_drivers_lock_is_taken_only_by_its_name_and_with_a_reason(bot: Bot) -> None:
    """The form says that it lives; wrong names and empty reasons stay in it; then card and thread tell of it."""
    run = await proposed(bot)
    await bot.wait_card("waiting for approval")
    asked = await form(bot)
    assert "bot-1 is ALIVE" in str(asked.view)
    wrong = await bot.slack.submit(asked, {"holder": str(run), "reason": "it hangs"}, user="bob")
    assert wrong.acked
    assert bot.slack.modals("bob")
    assert await bot.store.active(DC1) == run
    await bot.slack.submit(asked, {"holder": "bot-1", "reason": "it hangs"}, user="bob")
    card = await bot.wait_card("unlocked by bob")
    assert "Reason: it hangs" in bot.slack.plain_text(card)
    view = await bot.service.find(run)
    assert view.state.outcome is Outcome.UNLOCKED
    await bot.slack.wait(
        lambda: any("UNLOCKED this run" in bot.slack.plain_text(m) for m in bot.slack.thread(card.ts))
    )
    assert await bot.store.active(DC1) is None


async def test_a_run_that_nobody_drives_is_unlocked_by_its_name(slack: LocalSlack) -> None:
    """The form says that nobody drives it, and what stays behind."""
    async with running_bot(slack, drives=False) as bot:
        run = await proposed(bot)
        asked = await form(bot)
        assert "No process drives it" in str(asked.view)
        await slack.submit(asked, {"holder": str(run), "reason": "left over"}, user="bob")
        await bot.wait_card("unlocked by bob")
        slack.assert_clean()


async def test_resume_says_who_drives_and_that_it_waits_for_people(bot: Bot) -> None:
    """Nothing is done where a driver lives."""
    run = await proposed(bot)
    await bot.wait_card("waiting for approval")
    await bot.slack.slash("/consul resume", user="alice")
    said = await bot.wait_whisper("alice", "is driven by bot-1")
    assert "It waits for people" in said
    await bot.slack.slash(f"/consul show {run}", user="alice")
    shown = await bot.wait_whisper("alice", "Last events:")
    assert "asked for approval" in shown
    assert "waiting for approval" in shown


async def test_a_fenced_server_is_readmitted_from_slack(slack: LocalSlack) -> None:
    """The status names the command; two approvals later the server votes."""
    async with running_bot(slack, servers=one_fenced()) as bot:
        await slack.slash("/consul status", user="alice")
        await slack.wait_message(lambda m: "/consul readmit dc1 s3" in slack.plain_text(m))
        await slack.slash("/consul readmit s3", user="alice")
        plan = await bot.wait_card("waiting for approval")
        assert "Empty the raft directory of s3" in slack.plain_text(plan)
        await slack.click(plan, "run_approve", user="bob")
        gate = await bot.wait_card("waiting for the second approval")
        await slack.click(gate, "run_approve", user="bob")
        await bot.wait_card("done in")
        slack.assert_clean()


async def test_the_end_of_a_run_whose_driver_died_is_told_by_another(slack: LocalSlack) -> None:
    """Ended in the journal and shown by nobody: the next process tells it, once."""
    async with running_bot(slack, drives=False) as gone:
        stop(gone, "s2", "s3")
        answer = await gone.service.propose(DC1, by=ALICE, origin="C0OPS")
        assert isinstance(answer, RunProposed)
        await gone.service.abort(DC1, answer.view.run, by=ALICE)
        await drive_run(
            DC1,
            answer.view.run,
            owner="bot-1",
            world=gone.world,
            store=gone.store,
            notifier=Listener(),
            clock=RealClock(),
        )
    async with running_bot(slack, store=gone.store, world=gone.world, owner="bot-2") as bot:
        await bot.wait_card("aborted by alice", timeout_s=15)
        assert len([m for m in slack.channel_messages() if m.metadata and m.thread_ts is None]) == 1
        slack.assert_clean()


async def test_two_replicas_tell_each_event_of_a_run_once(slack: LocalSlack) -> None:
    """Clicks go to either of two bots; one card, and no line of the thread stands there twice."""
    async with running_bot(slack) as first:
        stop(first, "s2", "s3")
        async with running_bot(slack, store=first.store, world=first.world, owner="bot-2") as second:
            await slack.wait_connected(2)
            await slack.slash("/consul recover dc1", user="alice")
            card = await first.wait_card("waiting for approval")
            await slack.click(card, "run_approve", user="bob")
            done = await first.wait_card("done in")
            await asyncio.gather(first.tasks.drain(timeout_s=2), second.tasks.drain(timeout_s=2))
            await slack.wait(
                lambda: any("ended: recovered" in slack.plain_text(m) for m in slack.thread(done.ts))
            )
    lines = [
        line
        for message in slack.thread(done.ts)
        if not message.broadcast
        for line in slack.plain_text(message).splitlines()
        if line[2:3] == ":"
    ]
    assert len(lines) == len(set(lines))
    cards = [m for m in slack.channel_messages() if m.metadata and m.thread_ts is None]
    assert len(cards) == 1
    slack.assert_clean()
