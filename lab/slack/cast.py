"""Who and where: people, channels and user groups, and those that are there unless a test brings its own."""

from __future__ import annotations

from dataclasses import dataclass

HOME_TEAM = "T0LAB"
PARTNER_TEAM = "T0PARTNER"
BOT_USER = "U0CONSULBOT"
BOT_ID = "B0CONSULBOT"
APP_ID = "A0CONSUL"
ONCALL_GROUP = "S0ONCALL"

# What the manifest asks for; a method outside of it answers missing_scope, as a real workspace does.
DEFAULT_SCOPES = ("commands", "chat:write", "channels:read", "groups:read", "usergroups:read", "users:read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One user of the workspace, or one of another workspace in a shared channel."""

    id: str
    name: str
    real_name: str
    team_id: str = HOME_TEAM
    is_restricted: bool = False
    is_ultra_restricted: bool = False
    is_bot: bool = False
    deleted: bool = False


@dataclass(slots=True, kw_only=True)
class Channel:
    """A channel, private channel or direct message, with the ids of its members."""

    id: str
    name: str
    members: set[str]
    is_private: bool = False
    is_im: bool = False


@dataclass(slots=True, kw_only=True)
class Group:
    """A user group (`@oncall`), with the ids of its members."""

    id: str
    handle: str
    members: set[str]


def default_people() -> tuple[Person, ...]:
    """Alice and bob (on call), mallory (a member without rights), a partner of another team, a guest."""
    return (
        Person(id="U0ALICE", name="alice", real_name="Alice"),
        Person(id="U0BOB", name="bob", real_name="Bob"),
        Person(id="U0MALLORY", name="mallory", real_name="Mallory"),
        Person(id="U0PARTNER", name="partner", real_name="Partner", team_id=PARTNER_TEAM),
        Person(id="U0GUEST", name="guest", real_name="Guest", is_restricted=True),
    )


def default_channels() -> tuple[Channel, ...]:
    """One channel with the bot and everybody in it, one public and one private channel without the bot."""
    everybody = {person.id for person in default_people()}
    return (
        Channel(id="C0OPS", name="consul-ops", members={*everybody, BOT_USER}),
        Channel(id="C0GENERAL", name="general", members=set(everybody)),
        Channel(id="C0SECRET", name="secret", members={"U0ALICE"}, is_private=True),
    )


def default_groups() -> tuple[Group, ...]:
    """The on-call group: alice and bob."""
    return (Group(id=ONCALL_GROUP, handle="oncall", members={"U0ALICE", "U0BOB"}),)
