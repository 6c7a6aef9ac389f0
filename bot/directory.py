"""What Slack knows of its users: account and user groups, remembered for a minute.

A deciding click (approve) always asks afresh: somebody may have been taken
out of the group. What Slack does not answer within a moment is *not seen*,
which closes everything but looking (bot.authz).
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import aiohttp
import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.authz import Account, Membership, NotSeen
from recovery.ports import Clock

REMEMBERED_S = 60.0
PATIENCE_S = 2.0
"""A trigger_id lives 3 s: whoever asks for a modal must know before."""

log = structlog.get_logger()


class Directory(Protocol):
    """Answers who a user is."""

    async def account(self, user_id: str, *, fresh: bool) -> Account | NotSeen:
        """The user's account; never raises."""
        ...

    async def membership(self, user_id: str, groups: frozenset[str], *, fresh: bool) -> Membership:
        """Which of these groups the user is in; never raises."""
        ...


class SlackDirectory:
    """Asks users.info (scope users:read) and usergroups.users.list (usergroups:read)."""

    def __init__(self, client: AsyncWebClient, *, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._accounts: dict[str, tuple[float, Account]] = {}
        self._groups: dict[str, tuple[float, frozenset[str]]] = {}

    async def account(self, user_id: str, *, fresh: bool) -> Account | NotSeen:
        """The user's account, from memory when it is younger than a minute and need not be fresh."""
        now_s = self._clock.monotonic_s()
        known = self._accounts.get(user_id)
        if known is not None and not fresh and now_s - known[0] < REMEMBERED_S:
            return known[1]
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await self._client.users_info(user=user_id)
        except (SlackApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
            return _not_seen("users.info", error)
        user = answer.get("user") or {}
        account = Account(
            team_id=user.get("team_id", ""),
            is_bot=bool(user.get("is_bot")),
            is_guest=bool(
                user.get("is_restricted") or user.get("is_ultra_restricted") or user.get("is_stranger")
            ),
            deleted=bool(user.get("deleted")),
        )
        self._accounts[user_id] = (now_s, account)
        return account

    async def membership(self, user_id: str, groups: frozenset[str], *, fresh: bool) -> Membership:
        """Which of these groups the user is in; one that cannot be read makes the answer *not seen*."""
        found: set[str] = set()
        problem: NotSeen | None = None
        for group, members in zip(
            sorted(groups),
            await asyncio.gather(*(self._members(group, fresh=fresh) for group in sorted(groups))),
            strict=True,
        ):
            if isinstance(members, NotSeen):
                problem = members
            elif user_id in members:
                found.add(group)
        # In one group for sure is enough; else a group that was not seen could be the one.
        return frozenset(found) if found or problem is None else problem

    async def _members(self, group: str, *, fresh: bool) -> frozenset[str] | NotSeen:
        now_s = self._clock.monotonic_s()
        known = self._groups.get(group)
        if known is not None and not fresh and now_s - known[0] < REMEMBERED_S:
            return known[1]
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await self._client.usergroups_users_list(usergroup=group)
        except (SlackApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
            return _not_seen(f"usergroups.users.list {group}", error)
        members = frozenset(answer.get("users") or ())
        self._groups[group] = (now_s, members)
        return members


def _not_seen(what: str, error: Exception) -> NotSeen:
    reason = (
        str(error.response.get("error", "error"))
        if isinstance(error, SlackApiError)
        else type(error).__name__
    )
    log.warning("slack did not say who somebody is", asked=what, problem=reason)
    return NotSeen(f"Slack did not answer {what}: {reason}")
