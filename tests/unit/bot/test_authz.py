"""Who may do what, by the settings alone."""

from __future__ import annotations

import msgspec
import pytest

from bot.authz import (
    Account,
    Allowed,
    Caller,
    Deed,
    Denied,
    Grant,
    Nobody,
    NotSeen,
    Rules,
    judge,
    judge_terminal,
    maybe_the_same,
)
from recovery.model import Person

ALICE, BOB = Person("alice"), Person("bob")
RULES = Rules(
    teams=frozenset({"T1"}),
    slack={"U0ALICE": ALICE},
    terminal={"alice": ALICE, "bob": BOB},
    recover=Grant(frozenset({ALICE}), frozenset({"S1"}), "approvals.requesters"),
    approve=Grant(frozenset({BOB}), frozenset({"S1"}), "approvals.approvers"),
)
MEMBER = Account(team_id="T1")
RISKY = [Deed.RECOVER, Deed.APPROVE, Deed.RETRY, Deed.ABORT, Deed.RESUME, Deed.UNLOCK]


def caller(user: str = "U0ALICE", team: str = "T1") -> Caller:
    """Somebody in Slack."""
    return Caller(user_id=user, team_id=team)


def test_a_named_person_may() -> None:
    """Alice is known by her id and may propose."""
    verdict = judge(Deed.RECOVER, caller(), account=MEMBER, membership=frozenset(), rules=RULES)
    assert verdict == Allowed(ALICE)


def test_the_right_to_propose_is_not_the_right_to_approve() -> None:
    """Each right is its own."""
    verdict = judge(Deed.APPROVE, caller(), account=MEMBER, membership=frozenset(), rules=RULES)
    assert isinstance(verdict, Denied)


def test_a_member_of_a_group_counts_as_one_person_by_the_user_id() -> None:
    """Whoever the settings do not name is told apart by the id, never by a name."""
    verdict = judge(Deed.RECOVER, caller("U0X"), account=MEMBER, membership=frozenset({"S1"}), rules=RULES)
    assert verdict == Allowed(Person("U0X"))


def test_an_approval_of_somebody_without_a_name_does_not_count_where_it_takes_two() -> None:
    """One who has a Slack account and a user on the machine would be two people; the id to add is told."""
    refused = maybe_the_same(Person("U0X"), requested_by=ALICE, rules=RULES)
    assert isinstance(refused, Denied)
    assert "slack: U0X" in refused.message
    alone = msgspec.structs.replace(RULES, two_people=False)
    assert maybe_the_same(Person("U0X"), requested_by=ALICE, rules=alone) is None


def test_what_somebody_without_a_name_asked_for_is_approved_by_whom_slack_knows_as_another() -> None:
    """Bob is known on the machine only, so the Slack user who asked may be bob; alice's Slack account is another."""
    refused = maybe_the_same(BOB, requested_by=Person("U0X"), rules=RULES)
    assert isinstance(refused, Denied)
    assert "slack: U..." in refused.message
    assert maybe_the_same(ALICE, requested_by=Person("U0X"), rules=RULES) is None


def test_two_people_with_names_are_two() -> None:
    """Whichever of their accounts they use."""
    assert maybe_the_same(BOB, requested_by=ALICE, rules=RULES) is None


@pytest.mark.parametrize("deed", list(Deed))
def test_people_of_another_workspace_may_nothing(deed: Deed) -> None:
    """Not even look."""
    verdict = judge(deed, caller(team="T2"), account=MEMBER, membership=frozenset({"S1"}), rules=RULES)
    assert isinstance(verdict, Denied)


@pytest.mark.parametrize("deed", RISKY)
@pytest.mark.parametrize(
    "account",
    [
        NotSeen("Slack did not answer"),
        Account(team_id="T1", is_guest=True),
        Account(team_id="T1", is_bot=True),
        Account(team_id="T1", deleted=True),
        Account(team_id="T2"),
    ],
)
def test_who_is_not_surely_a_member_may_only_look(deed: Deed, account: Account | NotSeen) -> None:
    """Guests, bots, deactivated accounts and those that Slack did not tell: closed, also for an own run."""
    membership = frozenset({"S1"})
    verdict = judge(deed, caller(), account=account, membership=membership, rules=RULES, own_run=True)
    assert isinstance(verdict, Denied)
    look = judge(Deed.LOOK, caller(), account=account, membership=membership, rules=RULES)
    assert isinstance(look, Allowed)


@pytest.mark.parametrize("deed", RISKY)
def test_nobody_named_means_nobody_may_and_the_key_is_told(deed: Deed) -> None:
    """An empty right is closed for everybody."""
    empty = Rules(
        teams=frozenset({"T1"}),
        slack={"U0ALICE": ALICE},
        terminal={"alice": ALICE},
        recover=Grant(settings_key="approvals.requesters"),
        approve=Grant(settings_key="approvals.approvers"),
    )
    for verdict in (
        judge(deed, caller(), account=MEMBER, membership=frozenset(), rules=empty),
        judge_terminal("alice", deed, empty),
    ):
        assert isinstance(verdict, Denied)
        assert "approvals." in verdict.message


def test_groups_that_could_not_be_read_close_the_door() -> None:
    """Not seen is never a member."""
    verdict = judge(Deed.APPROVE, caller(), account=MEMBER, membership=NotSeen("no answer"), rules=RULES)
    assert isinstance(verdict, Denied)


def test_the_requester_may_abort_the_own_run_while_groups_cannot_be_read() -> None:
    """Stopping what one began needs no group."""
    seen = judge(
        Deed.ABORT, caller("U0X"), account=MEMBER, membership=NotSeen("x"), rules=RULES, own_run=True
    )
    assert isinstance(seen, Allowed)


def test_an_unknown_user_of_the_machine_may_only_look() -> None:
    """The answer says how to be named."""
    assert isinstance(judge_terminal("mallory", Deed.LOOK, RULES), Allowed)
    refused = judge_terminal("mallory", Deed.RECOVER, RULES)
    assert isinstance(refused, Denied)
    assert "terminal: mallory" in refused.message


@pytest.mark.parametrize("deed", RISKY)
def test_a_terminal_that_is_nobodys_may_only_look(deed: Deed) -> None:
    """Also not propose: under another's name one could propose what one approves oneself. It says what to do."""
    nobody = Nobody("nobody has logged in for it", "Log in to the bot's machine itself.")
    assert isinstance(judge_terminal(nobody, Deed.LOOK, RULES), Allowed)
    refused = judge_terminal(nobody, deed, RULES)
    assert isinstance(refused, Denied)
    assert (
        "nobody has logged in for it. Nothing was done. Log in to the bot's machine itself."
        in refused.message
    )


def test_a_known_user_of_the_machine_is_the_same_person_as_in_slack() -> None:
    """People are counted, not accounts."""
    assert judge_terminal("alice", Deed.RECOVER, RULES) == Allowed(ALICE)
    assert isinstance(judge_terminal("alice", Deed.APPROVE, RULES), Denied)


def test_taking_a_lock_away_is_the_approvers_right() -> None:
    """Alice may propose and resume, but a lock is taken away by bob alone."""
    judged = {
        deed: judge(deed, caller(), account=MEMBER, membership=frozenset(), rules=RULES)
        for deed in (Deed.RESUME, Deed.UNLOCK)
    }
    assert judged[Deed.RESUME] == Allowed(ALICE)
    assert isinstance(judged[Deed.UNLOCK], Denied)
