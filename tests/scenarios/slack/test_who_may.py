"""Who may do what, at the click."""

from __future__ import annotations

import pytest

from bot.authz import Grant
from lab.slack import LocalSlack, Message
from recovery.model import ServerName
from recovery.policy import ApprovalPolicy
from tests.fakes.slack_bot import ALICE, BOB, Bot, rules, running_bot, stop


async def proposed(bot: Bot) -> Message:
    """A plan by alice that waits for approval."""
    stop(bot, "s2", "s3")
    await bot.slack.slash("/consul recover dc1", user="alice")
    return await bot.wait_card("waiting for approval")


@pytest.mark.parametrize("who", ["mallory", "guest", "partner"])
async def test_whoever_is_not_named_gets_no_plan(bot: Bot, who: str) -> None:
    """A member without the right, a guest and somebody of another workspace are told no, and nothing is proposed."""
    stop(bot, "s2", "s3")
    await bot.slack.slash("/consul recover dc1", user=who)
    await bot.wait_whisper(who, "Nothing was done")
    assert await bot.store.active(bot.world.cluster) is None


@pytest.mark.parametrize("who", ["mallory", "guest", "partner"])
async def test_whoever_is_not_named_approves_nothing(bot: Bot, who: str) -> None:
    """Their press on Approve is answered with the reason, and nothing starts."""
    card = await proposed(bot)
    await bot.slack.click(card, "run_approve", user=who)
    await bot.wait_whisper(who, "Nothing was done")
    assert not bot.world.performed
    assert "waiting for approval" in bot.slack.plain_text(card)


async def test_somebody_of_another_workspace_sees_no_status(bot: Bot) -> None:
    """A shared channel has people of other companies in it; they are not told how a cluster is."""
    await bot.slack.slash("/consul status", user="partner")
    await bot.wait_whisper("partner", "people of its own workspace only")
    assert bot.slack.channel_messages() == []


async def test_the_requester_cannot_approve_alone(bot: Bot) -> None:
    """Alice asked, so her own approval does not count."""
    card = await proposed(bot)
    await bot.slack.click(card, "run_approve", user="alice")
    await bot.wait_whisper("alice", "somebody else must approve")
    assert not bot.world.performed


async def test_the_requester_may_approve_where_the_settings_say_so(slack: LocalSlack) -> None:
    """With requester_may_approve one person is enough."""
    async with running_bot(slack, approval=ApprovalPolicy(requester_counts=True)) as bot:
        card = await proposed(bot)
        await slack.click(card, "run_approve", user="alice")
        await bot.wait_card("done in")


async def test_nobody_named_means_nobody_may_approve(slack: LocalSlack) -> None:
    """Without approvers in the settings the answer says where to name them."""
    nobody = Grant(settings_key="approvals.approvers")
    async with running_bot(slack, who=rules(approve=nobody)) as bot:
        card = await proposed(bot)
        await slack.click(card, "run_approve", user="bob")
        assert "approvals.approvers" in await bot.wait_whisper("bob", "settings name nobody")
        assert not bot.world.performed


async def test_members_of_the_group_may_approve_until_they_leave_it(slack: LocalSlack) -> None:
    """The group is asked again at the approval, not remembered from the minute before."""
    oncall = Grant(frozenset(), frozenset({"S0ONCALL"}), "approvals.approver_groups")
    async with running_bot(slack, who=rules(recover=oncall, approve=oncall)) as bot:
        card = await proposed(bot)
        group = slack.workspace.groups["S0ONCALL"]
        group.members.discard("U0BOB")
        await slack.click(card, "run_approve", user="bob")
        await bot.wait_whisper("bob", "You can't approve")
        assert not bot.world.performed
        group.members.add("U0BOB")
        await slack.click(card, "run_approve", user="bob")
        await bot.wait_card("done in")


async def test_a_member_whom_the_settings_do_not_name_may_propose_and_not_approve(slack: LocalSlack) -> None:
    """Bob could be alice with a second account: his approval does not count, and the entry to write is told."""
    oncall = Grant(frozenset(), frozenset({"S0ONCALL"}), "approvals.approver_groups")
    known = rules(recover=oncall, approve=oncall, slack={"U0ALICE": ALICE}, terminal={"alice": ALICE})
    async with running_bot(slack, who=known) as bot:
        card = await proposed(bot)
        await slack.click(card, "run_approve", user="bob")
        assert "slack: U0BOB" in await bot.wait_whisper("bob", "can't be counted")
        assert not bot.world.performed


async def test_while_slack_does_not_say_who_somebody_is_nobody_approves(slack: LocalSlack) -> None:
    """A group that cannot be read closes the door."""
    oncall = Grant(frozenset(), frozenset({"S0ONCALL"}), "approvals.approver_groups")
    async with running_bot(slack, who=rules(approve=oncall)) as bot:
        card = await proposed(bot)
        slack.fail("usergroups.users.list", error="internal_error", times=5)
        await slack.click(card, "run_approve", user="bob")
        await bot.wait_whisper("bob", "could not be checked")
        assert not bot.world.performed


async def test_the_requester_may_abort_without_any_other_right(slack: LocalSlack) -> None:
    """Who asked may take it back, also when no longer named; mallory may not."""
    names = {"U0ALICE": ALICE, "U0BOB": BOB}
    async with running_bot(slack, who=rules(slack=names)) as bot:
        card = await proposed(bot)
        await slack.click(card, "run_abort", user="mallory")
        await bot.wait_whisper("mallory", "You can't abort a run")
        await slack.click(card, "run_abort", user="alice")
        await bot.wait_card("aborted by alice")
        assert not bot.world.performed
        assert bot.world.servers[ServerName("s2")].running is False


async def test_alone_at_night_the_requester_breaks_the_glass_and_everybody_is_told(slack: LocalSlack) -> None:
    """Where the settings have it: the click asks for a reason, which the card, the channel and the approvers get."""
    async with running_bot(slack, approval=ApprovalPolicy(break_glass=True)) as bot:
        card = await proposed(bot)
        await slack.click(card, "run_approve", user="alice")
        [form] = await slack.wait(lambda: slack.modals("alice"))
        assert not bot.world.performed
        empty = await slack.submit(form, {"reason": "  "}, user="alice")
        assert empty.response is not None
        assert list(empty.response["errors"]) == ["reason"]
        assert not bot.world.performed
        await slack.submit(form, {"reason": "bob does not wake up"}, user="alice")
        card = await bot.wait_card("done in")
        assert "BREAK-GLASS, approved alone: bob does not wake up" in slack.plain_text(card)
        told = await slack.wait_message(lambda m: "BREAK-GLASS: alice approved" in m.text)
        assert told in slack.mentions("bob")
        assert "bob does not wake up" in slack.plain_text(told)
        slack.assert_clean()


async def test_the_glass_is_for_the_requester_alone(slack: LocalSlack) -> None:
    """Bob's approval is one like any other, also where two people are needed: he is asked for no reason."""
    rules_of_two = ApprovalPolicy(break_glass=True, reversible_people=2, irreversible_people=2)
    async with running_bot(slack, approval=rules_of_two) as bot:
        card = await proposed(bot)
        await slack.click(card, "run_approve", user="bob")
        await bot.wait_card("approved so far by bob")
        assert slack.modals("bob") == []
        assert not bot.world.performed
