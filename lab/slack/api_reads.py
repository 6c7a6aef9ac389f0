"""The methods that read: auth, team, users, user groups and conversations."""

from __future__ import annotations

from lab.slack.api_base import ApiError, Context, Method, flag, required, visible_channel
from lab.slack.cast import APP_ID, BOT_ID, BOT_USER, HOME_TEAM, Channel, Group, Person
from lab.slack.render import message_json
from lab.slack.workspace import Json, Message


def _auth_test(context: Context, _args: Json) -> Json:
    return {
        "url": f"{context.public_url}/",
        "team": "Local Slack",
        "team_id": HOME_TEAM,
        "user": context.workspace.people[BOT_USER].name,
        "user_id": BOT_USER,
        "bot_id": BOT_ID,
        "is_enterprise_install": False,
    }


def _connections_open(context: Context, _args: Json) -> Json:
    return {"url": f"ws://{context.host}/link?ticket={context.hub.new_ticket()}&app_id={APP_ID}"}


def _team_info(_context: Context, _args: Json) -> Json:
    return {"team": {"id": HOME_TEAM, "name": "Local Slack", "domain": "local-slack"}}


def _bots_info(context: Context, args: Json) -> Json:
    if required(args, "bot") != BOT_ID:
        raise ApiError("bot_not_found")
    name = context.workspace.people[BOT_USER].name
    return {"bot": {"id": BOT_ID, "deleted": False, "name": name, "app_id": APP_ID, "user_id": BOT_USER}}


def _user(person: Person) -> Json:
    return {
        "id": person.id,
        "team_id": person.team_id,
        "name": person.name,
        "real_name": person.real_name,
        "deleted": person.deleted,
        "is_bot": person.is_bot,
        "is_restricted": person.is_restricted,
        "is_ultra_restricted": person.is_ultra_restricted,
        "is_stranger": person.team_id != HOME_TEAM,
        "profile": {"display_name": person.name, "real_name": person.real_name},
    }


def _users_info(context: Context, args: Json) -> Json:
    person = context.workspace.people.get(required(args, "user"))
    if person is None:
        raise ApiError("user_not_found")
    return {"user": _user(person)}


def _usergroup(group: Group) -> Json:
    return {
        "id": group.id,
        "team_id": HOME_TEAM,
        "handle": group.handle,
        "name": group.handle,
        "date_delete": 0,
    }


def _usergroups_list(context: Context, args: Json) -> Json:
    groups = [_usergroup(group) for group in context.workspace.groups.values()]
    if flag(args, "include_users"):
        for shown in groups:
            shown["users"] = sorted(context.workspace.groups[shown["id"]].members)
    return {"usergroups": groups}


def _usergroups_users_list(context: Context, args: Json) -> Json:
    group = context.workspace.groups.get(required(args, "usergroup"))
    if group is None:
        raise ApiError("no_such_subteam")
    return {"users": sorted(group.members)}


def _channel(channel: Channel) -> Json:
    return {
        "id": channel.id,
        "name": channel.name,
        "is_channel": not channel.is_im,
        "is_im": channel.is_im,
        "is_private": channel.is_private,
        "is_archived": False,
        "is_member": BOT_USER in channel.members,
        "num_members": len(channel.members),
    }


def _conversations_info(context: Context, args: Json) -> Json:
    return {"channel": _channel(visible_channel(context, args))}


def _conversations_list(context: Context, _args: Json) -> Json:
    shown = [
        _channel(channel)
        for channel in context.workspace.channels.values()
        if not channel.is_im and (not channel.is_private or BOT_USER in channel.members)
    ]
    return {"channels": shown, "response_metadata": {"next_cursor": ""}}


def _conversations_members(context: Context, args: Json) -> Json:
    members = sorted(visible_channel(context, args).members)
    return {"members": members, "response_metadata": {"next_cursor": ""}}


def _conversations_open(context: Context, args: Json) -> Json:
    user = required(args, "users")
    if user not in context.workspace.people:
        raise ApiError("user_not_found")
    return {"channel": {"id": context.workspace.direct(user).id}}


def _readable(context: Context, args: Json) -> tuple[Channel, list[Message]]:
    channel = visible_channel(context, args)
    if BOT_USER not in channel.members:
        raise ApiError("not_in_channel")
    return channel, [
        message
        for message in context.workspace.messages
        if message.channel == channel.id and message.ephemeral_to is None and not message.deleted
    ]


def _page(args: Json, messages: list[Message]) -> Json:
    limit = int(args.get("limit") or 100)
    shown = [message_json(message) for message in messages[:limit]]
    if not flag(args, "include_all_metadata"):
        for message in shown:
            message.pop("metadata", None)
    return {
        "messages": shown,
        "has_more": len(messages) > limit,
        "response_metadata": {"next_cursor": ""},
    }


def _conversations_history(context: Context, args: Json) -> Json:
    _, messages = _readable(context, args)
    oldest, latest = float(args.get("oldest") or 0), float(args.get("latest") or "inf")
    shown = [m for m in messages if m.thread_ts is None or m.broadcast]
    return _page(args, [m for m in reversed(shown) if oldest <= float(m.ts) <= latest])


def _conversations_replies(context: Context, args: Json) -> Json:
    _, messages = _readable(context, args)
    ts = required(args, "ts")
    thread = [m for m in messages if ts in (m.ts, m.thread_ts)]
    if not thread:
        raise ApiError("thread_not_found")
    return _page(args, thread)


METHODS = {
    "auth.test": Method(run=_auth_test),
    "apps.connections.open": Method(run=_connections_open, scope="connections:write", token="app"),
    "team.info": Method(run=_team_info, scope="team:read"),
    "bots.info": Method(run=_bots_info, scope="users:read"),
    "users.info": Method(run=_users_info, scope="users:read"),
    "usergroups.list": Method(run=_usergroups_list, scope="usergroups:read"),
    "usergroups.users.list": Method(run=_usergroups_users_list, scope="usergroups:read"),
    "conversations.info": Method(run=_conversations_info, scope="channels:read"),
    "conversations.list": Method(run=_conversations_list, scope="channels:read"),
    "conversations.members": Method(run=_conversations_members, scope="channels:read"),
    "conversations.open": Method(run=_conversations_open, scope="im:write"),
    "conversations.history": Method(run=_conversations_history, scope="channels:history"),
    "conversations.replies": Method(run=_conversations_replies, scope="channels:history"),
}
