"""Who may do what: settings, account and groups in, a person or a reason out. Pure.

Nobody named means nobody may, and the answer says how to name them. What
could not be asked (Slack did not answer) closes everything but looking.
Names shown by Slack are never trusted, only ids: anybody can be called alice.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from bot import outgoing
from recovery.model import Person


class Deed(StrEnum):
    """What somebody wants to do."""

    LOOK = "look"
    RECOVER = "propose a recovery"
    APPROVE = "approve"
    RETRY = "retry a step"
    ABORT = "abort a run"
    RESUME = "resume a run"
    UNLOCK = "take a run's lock away"


class Grant(msgspec.Struct, frozen=True):
    """Who has a right: people by their name in the settings, and Slack user groups by id (S0...)."""

    people: frozenset[Person] = frozenset()
    groups: frozenset[str] = frozenset()
    settings_key: str = ""
    """Where an operator names them."""

    @property
    def nobody(self) -> bool:
        """Whether nobody at all is named."""
        return not self.people and not self.groups


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The rights of the settings."""

    teams: frozenset[str]
    """Our workspace's team id, and its enterprise id where there is one."""
    slack: Mapping[str, Person]
    """Slack user id -> person."""
    terminal: Mapping[str, Person]
    """User name of the operating system -> person."""
    recover: Grant
    approve: Grant
    two_people: bool = True
    """Whether it ever takes two people: the requester's own approval does not count, or more than one is needed."""

    def grant_of(self, deed: Deed) -> Grant:
        """Who may do this: retrying, resuming and aborting ask for the right to recover or to approve."""
        match deed:
            # Whoever takes a lock away answers for two recoveries at once, so it is the approvers' right.
            case Deed.APPROVE | Deed.UNLOCK:
                return self.approve
            case Deed.RETRY | Deed.ABORT | Deed.RESUME:
                return Grant(
                    self.recover.people | self.approve.people,
                    self.recover.groups | self.approve.groups,
                    self.recover.settings_key,
                )
            case Deed.LOOK | Deed.RECOVER:
                return self.recover


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """A Slack user as the payload names it; the payload comes from Slack itself."""

    user_id: str
    team_id: str
    enterprise_id: str = ""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What users.info says of a user."""

    team_id: str
    is_bot: bool = False
    is_guest: bool = False
    deleted: bool = False


class NotSeen(msgspec.Struct, frozen=True):
    """Slack did not answer, or refused."""

    reason: str


Membership = frozenset[str] | NotSeen
"""The groups, of those that the settings name, that a user is in."""


class Allowed(msgspec.Struct, frozen=True):
    """Go on, as this person."""

    person: Person


class Denied(msgspec.Struct, frozen=True):
    """No; the message is for the one who asked."""

    message: str


def foreign(caller: Caller, rules: Rules) -> Denied | None:
    """Refuse whoever is not of our workspace: a shared channel has people of other companies in it."""
    if caller.team_id in rules.teams or (caller.enterprise_id and caller.enterprise_id in rules.teams):
        return None
    return Denied(
        "⛔ *This bot answers the people of its own workspace only.* Nothing was done. "
        "Ask somebody of the team that runs it."
    )


def person_of(caller: Caller, rules: Rules) -> Person:
    """The person behind a Slack user: the settings' name, or the user id where they have none."""
    return rules.slack.get(caller.user_id, Person(caller.user_id))


def judge(
    deed: Deed,
    caller: Caller,
    *,
    account: Account | NotSeen,
    membership: Membership,
    rules: Rules,
    own_run: bool = False,
) -> Allowed | Denied:
    """Say whether this Slack user may do this; ``own_run``: the run was asked for by the same person."""
    if (refused := foreign(caller, rules)) is not None:
        return refused
    person = person_of(caller, rules)
    if deed is Deed.LOOK:
        return Allowed(person)
    if isinstance(account, NotSeen):
        return _closed(deed, account.reason)
    if account.team_id not in rules.teams:
        return Denied("⛔ *This account belongs to another workspace.* Nothing was done.")
    if account.is_bot or account.deleted or account.is_guest:
        kind = "bots" if account.is_bot else "deactivated accounts" if account.deleted else "guests"
        return Denied(
            f"⛔ *You can't {deed}:* {kind} may only look. Nothing was done. `/consul status` works for you."
        )
    if deed is Deed.ABORT and own_run:
        return Allowed(person)
    grant = rules.grant_of(deed)
    if grant.nobody:
        return nobody_named(deed, grant)
    if person in grant.people:
        return Allowed(person)
    if isinstance(membership, NotSeen):
        return _closed(deed, membership.reason)
    if membership & grant.groups:
        return Allowed(person)
    return Denied(
        f"⛔ *You can't {deed}.* Nothing was done. {_who(grant)} `/consul status` works for everyone. "
        "This attempt was logged."
    )


class Nobody(msgspec.Struct, frozen=True):
    """Whoever sits at a terminal is not known."""

    why: str
    """Ends the sentence "this terminal is nobody's: ..."."""
    mend: str
    """What to do, as sentences."""


def judge_terminal(user: str | Nobody, deed: Deed, rules: Rules) -> Allowed | Denied:
    """Say whether this user of the operating system may do this; groups of Slack cannot be asked here.

    Nobody may only look: under another's name one could propose what one approves as oneself.
    """
    if isinstance(user, Nobody):
        if deed is Deed.LOOK:
            return Allowed(Person("nobody"))
        return Denied(
            f"Who sits at this terminal is not known, so it may not {deed}, only look (status, plan, runs, show): "
            f"{user.why}. Nothing was done. {user.mend}"
        )
    person = rules.terminal.get(user)
    if deed is Deed.LOOK:
        return Allowed(person if person is not None else Person(user))
    if person is None:
        return Denied(
            f"The settings name no person for the user “{user}” of this machine, so you may only look "
            "(status, plan, runs, show). Nothing was done. A person is named under `people:` with "
            f"`terminal: {user}`."
        )
    grant = rules.grant_of(deed)
    if grant.nobody:
        return nobody_named(deed, grant)
    if person in grant.people:
        return Allowed(person)
    return Denied(
        f"{person} may not {deed}: {grant.settings_key} does not name {person}. Nothing was done. "
        "From a terminal only people who are named there count, Slack groups cannot be asked."
    )


def maybe_the_same(person: Person, *, requested_by: Person, rules: Rules) -> Denied | None:
    """Refuse an approval whose giver could be counted twice, or be the one who asked, under another account.

    A group of Slack lets people in whom the settings do not name, and these are known by a Slack id only.
    """
    if not rules.two_people:
        return None
    in_slack = frozenset(rules.slack.values())
    if person not in in_slack | frozenset(rules.terminal.values()):
        return Denied(
            f"⛔ *Your approval can't be counted:* the settings do not say which person the Slack user {person} "
            "is, so you could be counted twice. Nothing was done. Ask for an entry under `people:` in the "
            f"settings file with `slack: {person}`, or let somebody approve who has one."
        )
    asked_by_name = requested_by in in_slack | frozenset(rules.terminal.values())
    if not asked_by_name and person not in in_slack:
        return Denied(
            f"⛔ *Your approval can't be counted:* the run was asked for by the Slack user {requested_by}, whom "
            f"the settings do not name, and they name no Slack account of {person}: both could be one person. "
            f"Nothing was done. Add `slack: U...` to {person} under `people:` in the settings file, or let "
            "somebody approve who has it."
        )
    return None


def nobody_named(deed: Deed, grant: Grant) -> Denied:
    """The answer where the settings leave a right to nobody."""
    return Denied(
        f"⛔ *Nobody can {deed}:* the settings name nobody. Nothing was done. Name people or Slack user groups "
        f"under `{grant.settings_key}` in the settings file and start the bot again."
    )


def _closed(deed: Deed, reason: str) -> Denied:
    return Denied(
        f"⛔ *Who you are could not be checked, so you can't {deed} right now* ({reason}). Nothing was done. "
        "Try again in a moment, or use the terminal: `consul-recovery`."
    )


def _who(grant: Grant) -> str:
    named = [outgoing.group(group) for group in sorted(grant.groups)]
    named += sorted(grant.people)
    return f"{' and '.join(named)} can (`{grant.settings_key}` in the settings)."
