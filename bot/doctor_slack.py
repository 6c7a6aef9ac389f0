"""The doctor's look at Slack: tokens, scopes, channels, and whether anybody can approve at all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from bot.finding import Finding, failed, ok, skipped, warning
from bot.wiring import rules_of
from config.values import Settings, SlackSettings
from recovery.model import Person

NEEDED_SCOPES: Mapping[str, str] = {
    "commands": "to receive /consul",
    "chat:write": "to show runs",
    "usergroups:read": "to know who is in an approver group",
    "users:read": "to refuse guests and users of other workspaces",
    "channels:read": "to see whether the bot is in its channels",
}
"""The bot token's scopes, as config/slack-manifest.yaml asks for them; groups:read only for private channels."""

_REINSTALL = (
    "Add the scope under OAuth & Permissions (or paste config/slack-manifest.yaml), reinstall the app."
)
_UNREACHED = (aiohttp.ClientError, OSError, TimeoutError, SlackClientError)


class SlackProbe(Protocol):
    """The four calls that the doctor makes; slack_sdk's AsyncWebClient has them."""

    async def auth_test(self) -> AsyncSlackResponse:
        """Whom the bot token belongs to."""
        ...

    async def apps_connections_open(self, *, app_token: str) -> AsyncSlackResponse:
        """Whether the app token opens Socket Mode."""
        ...

    async def conversations_info(self, *, channel: str) -> AsyncSlackResponse:
        """A channel, with is_member."""
        ...

    async def usergroups_users_list(self, *, usergroup: str) -> AsyncSlackResponse:
        """The members of a user group."""
        ...


async def check_slack(settings: Settings, probe: SlackProbe) -> list[Finding]:
    """Check everything that Slack knows, then whether the approval rules can be met by anybody."""
    slack = settings.slack
    if slack is None:
        return [skipped("slack", "settings", "the settings were read without their Slack section")]
    token, usable = await _check_bot_token(slack, probe)
    if not usable:
        rest = skipped("slack", "channels and groups", "not looked at without a working bot token")
        return [*token, await _check_app_token(slack, probe), rest, *check_approvals(settings, {})]
    channels = sorted({settings.channel_of(cluster.name) or "" for cluster in settings.clusters} - {""})
    app, seen, groups = await asyncio.gather(
        _check_app_token(slack, probe),
        asyncio.gather(*(_check_channel(channel, probe) for channel in channels)),
        asyncio.gather(*(_check_group(group, probe) for group in settings.approvals.approver_groups)),
    )
    members = {
        group: users
        for group, (_, users) in zip(settings.approvals.approver_groups, groups, strict=True)
        if users is not None
    }
    return [
        *token,
        app,
        *seen,
        *_without_channel(settings),
        *(finding for finding, _ in groups),
        *check_approvals(settings, members),
    ]


async def _check_bot_token(slack: SlackSettings, probe: SlackProbe) -> tuple[list[Finding], bool]:
    try:
        answer = await probe.auth_test()
    except SlackApiError as error:
        return [
            failed(
                "slack",
                "bot token",
                f"Slack does not accept it ({_code(error)})",
                next_step="Copy the Bot User OAuth Token (xoxb-...) of the installed app into slack.bot_token_file.",
            )
        ], False
    except _UNREACHED as error:
        return [_unreached("bot token", slack, error)], False
    team = str(answer.get("team_id") or "")
    if slack.team_id is not None and team != slack.team_id:
        return [
            failed(
                "slack",
                "bot token",
                f"it belongs to workspace {team}, and slack.team_id is {slack.team_id}",
                next_step="Correct slack.team_id, or use the token of that workspace.",
            )
        ], False
    accepted = ok("slack", "bot token", f"accepted for {answer.get('team') or team} as {answer.get('user')}")
    return [accepted, *_check_scopes(answer.headers)], True


def _check_scopes(headers: Mapping[str, Any]) -> list[Finding]:
    text = next((str(value) for key, value in headers.items() if key.lower() == "x-oauth-scopes"), "")
    have = {scope.strip() for scope in text.split(",") if scope.strip()}
    if not have:
        return [
            warning(
                "slack",
                "scopes",
                "Slack did not say which scopes the token has",
                next_step="Compare them with config/slack-manifest.yaml under OAuth & Permissions.",
            )
        ]
    missing = [
        failed("slack", f"scope {scope}", f"missing; it is needed {why}", next_step=_REINSTALL)
        for scope, why in NEEDED_SCOPES.items()
        if scope not in have
    ]
    return missing or [ok("slack", "scopes", "all there")]


async def _check_app_token(slack: SlackSettings, probe: SlackProbe) -> Finding:
    try:
        await probe.apps_connections_open(app_token=slack.app_token.reveal())
    except SlackApiError as error:
        return failed(
            "slack",
            "app token",
            f"Slack opens no Socket Mode connection with it ({_code(error)})",
            next_step="Make an app-level token with the scope connections:write (Basic Information), turn Socket"
            " Mode on, and put the token (xapp-...) into slack.app_token_file.",
        )
    except _UNREACHED as error:
        return _unreached("app token", slack, error)
    return ok("slack", "app token", "accepted; Socket Mode is on")


async def _check_channel(channel: str, probe: SlackProbe) -> Finding:
    subject = f"channel {channel}"
    try:
        answer = await probe.conversations_info(channel=channel)
    except SlackApiError as error:
        match _code(error):
            case "missing_scope":
                next_step = f"Missing {error.response.get('needed') or 'channels:read'}. {_REINSTALL}"
            case "channel_not_found":
                next_step = (
                    "Correct the channel's id in the settings; if it is private, invite the bot to it."
                )
            case _:
                next_step = "Look the word in brackets up in Slack's documentation of conversations.info."
        return failed("slack", subject, f"cannot be seen ({_code(error)})", next_step=next_step)
    except _UNREACHED as error:
        return failed("slack", subject, _reason(error), next_step="Try again.")
    found: Mapping[str, Any] = answer.get("channel") or {}
    name = f"#{found.get('name')}"
    if found.get("is_archived"):
        return failed(
            "slack", subject, f"{name} is archived", next_step="Name another channel in the settings."
        )
    if not found.get("is_member"):
        return failed(
            "slack",
            subject,
            f"the bot is not in {name}, so it can show nothing there",
            next_step=f"In {name} write: /invite @ and the bot's name.",
        )
    return ok("slack", subject, f"the bot is in {name}")


def _without_channel(settings: Settings) -> list[Finding]:
    return [
        warning(
            "slack",
            f"cluster {cluster.name}",
            "has no channel; a run that is started in a terminal is not shown in Slack",
            next_step=f"Write slack.channel, or clusters.{cluster.name}.channel.",
        )
        for cluster in settings.clusters
        if settings.channel_of(cluster.name) is None
    ]


async def _check_group(group: str, probe: SlackProbe) -> tuple[Finding, tuple[str, ...] | None]:
    subject = f"approver group {group}"
    try:
        answer = await probe.usergroups_users_list(usergroup=group)
    except SlackApiError as error:
        next_step = (
            f"Missing usergroups:read. {_REINSTALL}"
            if _code(error) == "missing_scope"
            else "Correct approvals.approver_groups (ids, S...), or name people in approvals.approvers."
        )
        return failed("approvals", subject, f"cannot be read ({_code(error)})", next_step=next_step), None
    except _UNREACHED as error:
        return failed("approvals", subject, _reason(error), next_step="Try again."), None
    users = tuple(str(user) for user in answer.get("users") or ())
    if not users:
        return warning(
            "approvals", subject, "has no members", next_step="Add the people on call to it in Slack."
        ), users
    return ok("approvals", subject, f"{len(users)} members"), users


def check_approvals(settings: Settings, members: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Whether every run could be approved: enough different people, beside the one who asks.

    ``members``: the Slack users of each group that could be read. People are counted, not accounts; where it
    takes two people, a member without an entry in ``people`` counts for nobody (`bot.authz.maybe_the_same`).
    """
    approvals = settings.approvals
    unseen = set(approvals.approver_groups) - set(members)
    able: set[Person] = set(approvals.approvers)
    unnamed: set[Person] = set()
    for user in (user for users in members.values() for user in users):
        named = settings.person_of_slack(user)
        (unnamed if named is None else able).add(named or Person(user))
    two_people = rules_of(settings).two_people
    if not two_people:
        able |= unnamed
    if not able and not unseen:
        return [
            failed(
                "approvals",
                "approvers",
                "nobody is named who may approve, so nothing can be approved",
                next_step="Write approvals.approvers (names from people) or approvals.approver_groups.",
            )
        ]
    findings = _without_account(settings)
    if two_people and unnamed:
        findings.append(
            warning(
                "approvals",
                "group members",
                f"{', '.join(sorted(unnamed))} cannot approve: the settings do not say who they are, and one "
                "person could count twice",
                next_step="Give each an entry in people with slack: and the id.",
            )
        )
    needed = max(approvals.policy.reversible_people, approvals.policy.irreversible_people)
    alone = [
        person
        for person in approvals.requesters
        if len(able - (set() if approvals.policy.requester_counts else {person})) < needed
    ]
    if unseen:
        findings.append(skipped("approvals", "how many", f"not counted without {', '.join(sorted(unseen))}"))
    elif alone and approvals.policy.break_glass:
        findings.append(
            warning(
                "approvals",
                "how many",
                f"{needed} must approve, and there are not as many for what {', '.join(alone)} proposes: nothing but "
                "break-glass is left then",
                next_step="Name more approvers, or lower approvals.people_needed.",
            )
        )
    elif alone:
        findings.append(
            failed(
                "approvals",
                "how many",
                f"{needed} must approve, and nobody else can approve what is proposed by {', '.join(alone)}"
                + ("" if approvals.policy.requester_counts else " (nobody approves their own proposal)"),
                next_step="Name more approvers, or lower approvals.people_needed.",
            )
        )
    else:
        findings.append(ok("approvals", "how many", f"{len(able)} can approve, {needed} needed at most"))
    return findings


def _without_account(settings: Settings) -> list[Finding]:
    return [
        warning(
            "approvals",
            person.name,
            "may approve, but has neither a Slack id nor a terminal user",
            next_step=f"Add `slack: U...` to {person.name} in people.",
        )
        for person in settings.people
        if person.name in settings.approvals.approvers and not person.slack_ids and not person.terminal_users
    ]


def _code(error: SlackApiError) -> str:
    return str(error.response.get("error") or "no reason given")


def _reason(error: Exception) -> str:
    # Only the kind: the text of a client's error may hold what was sent.
    return f"Slack cannot be reached ({type(error).__name__})"


def _unreached(subject: str, slack: SlackSettings, error: Exception) -> Finding:
    return failed(
        "slack",
        subject,
        _reason(error),
        next_step=f"Check that this machine reaches {slack.api_url} (proxy, DNS, firewall).",
    )
