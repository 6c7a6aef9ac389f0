"""The Web API of the local Slack, called by the real slack-sdk."""

from __future__ import annotations

import json
import socket
from typing import Any

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_async_handlers import AsyncRateLimitErrorRetryHandler
from slack_sdk.web.async_client import AsyncWebClient

from lab.slack import LocalSlack

OPS = "C0OPS"
SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "hello"}}


async def refused(call: Any) -> str:
    """The error of a call that must be refused."""
    with pytest.raises(SlackApiError) as caught:
        await call
    return str(caught.value.response["error"])


async def test_tokens_are_checked(slack: LocalSlack) -> None:
    """A wrong token, no token and a token of the other kind are each refused in their own way."""
    wrong = AsyncWebClient("xoxb-wrong", base_url=slack.api_url)
    assert await refused(wrong.auth_test()) == "invalid_auth"
    app_token = AsyncWebClient(slack.app_token, base_url=slack.api_url)
    assert await refused(app_token.chat_postMessage(channel=OPS, text="x")) == "not_allowed_token_type"
    assert await refused(AsyncWebClient(None, base_url=slack.api_url).auth_test()) == "not_authed"


async def test_scopes_are_checked_and_told() -> None:
    """A method outside the scopes answers missing_scope with what is needed and what there is."""
    async with LocalSlack(scopes=("chat:write",)) as slack:
        client = AsyncWebClient(slack.bot_token, base_url=slack.api_url)
        with pytest.raises(SlackApiError) as caught:
            await client.users_info(user="U0BOB")
        assert caught.value.response.data == {
            "ok": False,
            "error": "missing_scope",
            "needed": "users:read",
            "provided": "chat:write",
        }
        assert (await client.auth_test()).headers["x-oauth-scopes"] == "chat:write"


async def test_an_unknown_method_breaks_the_rules(slack: LocalSlack, client: AsyncWebClient) -> None:
    """An unknown method is refused and makes the run unclean."""
    assert await refused(client.api_call("chat.shout")) == "unknown_method"
    with pytest.raises(AssertionError, match=r"chat\.shout: unknown_method"):
        slack.assert_clean()


async def test_arguments_come_by_query_form_and_json(slack: LocalSlack) -> None:
    """The same post works with its arguments in the query, in a form and as JSON."""
    headers = {"Authorization": f"Bearer {slack.bot_token}"}
    url = f"{slack.api_url}chat.postMessage"
    args = {"channel": OPS, "text": "x", "blocks": json.dumps([SECTION])}
    async with aiohttp.ClientSession(headers=headers) as session:
        for sent in ({"params": args}, {"data": args}, {"json": {**args, "blocks": [SECTION]}}):
            async with session.post(url, **sent) as answer:
                assert (await answer.json())["ok"] is True
    assert [slack.plain_text(message) for message in slack.channel_messages()] == ["hello"] * 3


async def test_no_record_holds_a_token(slack: LocalSlack, client: AsyncWebClient) -> None:
    """What is recorded of a call holds its arguments and never the token."""
    await client.chat_postMessage(channel=OPS, text="x", token=slack.bot_token)
    [call] = slack.calls("chat.postMessage")
    assert call.args["text"] == "x"
    assert slack.bot_token not in repr(call)


async def test_the_bot_reads_people_groups_and_channels(client: AsyncWebClient) -> None:
    """Users, the on-call group, members and channels are there to read, private channels are not."""
    assert (await client.users_info(user="U0PARTNER"))["user"]["team_id"] == "T0PARTNER"
    assert (await client.users_info(user="U0GUEST"))["user"]["is_restricted"] is True
    assert (await client.usergroups_users_list(usergroup="S0ONCALL"))["users"] == ["U0ALICE", "U0BOB"]
    assert (await client.usergroups_list())["usergroups"][0]["handle"] == "oncall"
    assert await refused(client.usergroups_users_list(usergroup="S0NONE")) == "no_such_subteam"
    assert (await client.conversations_info(channel=OPS))["channel"]["is_member"] is True
    names = [channel["name"] for channel in (await client.conversations_list())["channels"]]
    assert names == ["consul-ops", "general"]
    assert "U0MALLORY" in (await client.conversations_members(channel=OPS))["members"]
    assert await refused(client.conversations_info(channel="C0SECRET")) == "channel_not_found"


async def test_the_bot_writes_only_where_it_is_a_member(client: AsyncWebClient) -> None:
    """A public channel without the bot is not_in_channel, a private one does not exist for it."""
    assert await refused(client.chat_postMessage(channel="C0GENERAL", text="x")) == "not_in_channel"
    assert await refused(client.chat_postMessage(channel="C0SECRET", text="x")) == "channel_not_found"


async def test_threads_and_history(slack: LocalSlack, client: AsyncWebClient) -> None:
    """Replies stay in their thread, a broadcast also shows in the channel, and both can be read back."""
    root = await client.chat_postMessage(
        channel=OPS, text="root", metadata={"event_type": "run", "event_payload": {"id": "r1"}}
    )
    ts = str(root["ts"])
    await client.chat_postMessage(channel=OPS, thread_ts=ts, text="one")
    await client.chat_postMessage(channel=OPS, thread_ts=ts, text="two", reply_broadcast=True)
    assert [message.text for message in slack.thread(ts)] == ["one", "two"]
    assert [message.text for message in slack.channel_messages()] == ["root", "two"]
    replies = await client.conversations_replies(channel=OPS, ts=ts, include_all_metadata=True)
    assert [message["text"] for message in replies["messages"]] == ["root", "one", "two"]
    assert replies["messages"][0]["metadata"]["event_payload"] == {"id": "r1"}
    plain = await client.conversations_history(channel=OPS)
    assert [message["text"] for message in plain["messages"]] == ["two", "root"]
    assert "metadata" not in plain["messages"][1]
    assert (
        await refused(client.chat_postMessage(channel=OPS, thread_ts="1.0", text="x")) == "thread_not_found"
    )


async def test_update_keeps_every_version_and_drops_blocks(slack: LocalSlack, client: AsyncWebClient) -> None:
    """An update without blocks removes them; all versions stay readable; what is gone cannot be updated."""
    ts = str((await client.chat_postMessage(channel=OPS, text="x", blocks=[SECTION]))["ts"])
    await client.chat_update(channel=OPS, ts=ts, text="text only")
    assert [len(version.blocks) for version in slack.history(ts)] == [1, 0]
    await client.chat_delete(channel=OPS, ts=ts)
    assert await refused(client.chat_update(channel=OPS, ts=ts, text="y")) == "message_not_found"
    theirs = await slack.say("mine", user="bob")
    assert await refused(client.chat_update(channel=OPS, ts=theirs.ts, text="y")) == "cant_update_message"


async def test_ephemerals_are_seen_by_one(slack: LocalSlack, client: AsyncWebClient) -> None:
    """An ephemeral message is seen by its person alone and is in no channel listing."""
    await client.chat_postEphemeral(channel=OPS, user="U0BOB", text="only bob")
    assert [message.text for message in slack.ephemeral("bob")] == ["only bob"]
    assert slack.ephemeral("alice") == []
    assert slack.channel_messages() == []


async def test_only_new_messages_notify(slack: LocalSlack, client: AsyncWebClient) -> None:
    """A mention in a new message reaches the person and each member of a group; one in an update reaches nobody."""
    first = await client.chat_postMessage(channel=OPS, text="<!subteam^S0ONCALL> decide")
    await client.chat_update(channel=OPS, ts=str(first["ts"]), text="<@U0MALLORY> look")
    assert [message.ts for message in slack.mentions("alice")] == [first["ts"]]
    assert [message.ts for message in slack.mentions("bob")] == [first["ts"]]
    assert slack.mentions("mallory") == []


async def test_a_permalink_points_to_the_page(client: AsyncWebClient) -> None:
    """A permalink is made for a message that is there, on the address that was given for people."""
    async with LocalSlack(public_url="http://127.0.0.1:4321/") as slack:
        other = AsyncWebClient(slack.bot_token, base_url=slack.api_url)
        ts = str((await other.chat_postMessage(channel=OPS, text="x"))["ts"])
        link = await other.chat_getPermalink(channel=OPS, message_ts=ts)
    assert link["permalink"] == f"http://127.0.0.1:4321/#C0OPS/p{ts.replace('.', '')}"
    assert await refused(client.chat_getPermalink(channel=OPS, message_ts="1.0")) == "message_not_found"


async def test_a_file_is_uploaded(slack: LocalSlack, client: AsyncWebClient) -> None:
    """files_upload_v2 stores the content and shows the file in the thread."""
    ts = str((await client.chat_postMessage(channel=OPS, text="run"))["ts"])
    await client.files_upload_v2(channel=OPS, thread_ts=ts, content="# r1", filename="r1.md")
    assert list(slack.files.values()) == [b"# r1"]
    assert [message.text for message in slack.thread(ts)] == ["📎 r1.md"]
    slack.assert_clean()


async def test_a_rate_limit_is_obeyed_by_the_sdk(slack: LocalSlack, client: AsyncWebClient) -> None:
    """Two 429 with Retry-After are waited out by the SDK's own handler, then the post is stored once."""
    client.retry_handlers.append(AsyncRateLimitErrorRetryHandler(max_retry_count=2))
    slack.fail("chat.postMessage", status=429, retry_after=0, times=2)
    await client.chat_postMessage(channel=OPS, text="x")
    assert [call.status for call in slack.calls("chat.postMessage")] == [429, 429, 200]
    assert len(slack.channel_messages()) == 1


async def test_faults_hit_the_next_calls_only(slack: LocalSlack, client: AsyncWebClient) -> None:
    """A server error, an API error and a delay each happen once, to their method."""
    ts = str((await client.chat_postMessage(channel=OPS, text="x"))["ts"])
    slack.fail("chat.update", status=503)
    slack.fail("chat.update", error="message_not_found")
    slack.fail("chat.update", delay_s=0.01)
    with pytest.raises(SlackApiError) as caught:
        await client.chat_update(channel=OPS, ts=ts, text="y")
    assert caught.value.response.status_code == 503
    assert await refused(client.chat_update(channel=OPS, ts=ts, text="y")) == "message_not_found"
    await client.chat_update(channel=OPS, ts=ts, text="y")
    assert [version.text for version in slack.history(ts)] == ["x", "y"]
    slack.fail("chat.update", status=500, times=5)
    slack.heal()
    await client.chat_update(channel=OPS, ts=ts, text="z")


async def test_an_answer_can_be_lost_after_the_store(slack: LocalSlack, client: AsyncWebClient) -> None:
    """With drop_after_store the message is there although the caller saw the connection break."""
    slack.fail("chat.postMessage", drop_after_store=True)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.chat_postMessage(channel=OPS, text="twice?")
    assert [message.text for message in slack.channel_messages()] == ["twice?"]
    assert [call.status for call in slack.calls("chat.postMessage")] == [0]


async def test_a_fault_must_change_something(slack: LocalSlack) -> None:
    """A fault that would change nothing, and a 429 without Retry-After, are mistakes of the test."""
    with pytest.raises(ValueError, match="say what fails"):
        slack.fail("chat.update")
    with pytest.raises(ValueError, match="retry_after"):
        slack.fail("chat.update", status=429)


async def test_real_limits_are_optional() -> None:
    """With the real limits a burst of posts into one channel ends in 429 with Retry-After."""
    async with LocalSlack(limits="real", clock=lambda: 1_700_000_000.0) as slack:
        client = AsyncWebClient(slack.bot_token, base_url=slack.api_url, retry_handlers=[])
        for _ in range(5):
            await client.chat_postMessage(channel=OPS, text="x")
        with pytest.raises(SlackApiError) as caught:
            await client.chat_postMessage(channel=OPS, text="x")
        assert caught.value.response.headers["Retry-After"] == "5"


async def test_a_foreign_host_is_refused(slack: LocalSlack) -> None:
    """Another Host header or origin is refused, and a form cannot write through the page's API."""
    async with aiohttp.ClientSession() as session:
        async with session.get(slack.public_url, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
        async with session.get(slack.public_url, headers={"Origin": "http://evil.example"}) as answer:
            assert answer.status == 403
        async with session.post(f"{slack.public_url}/ui/say", data={"text": "x"}) as answer:
            assert answer.status == 415


async def test_two_sockets_serve_the_same_workspace() -> None:
    """The page comes through the first of two given sockets, the bot through the last, and both see one workspace."""
    given = [socket.socket(), socket.socket()]
    for each in given:
        each.bind(("127.0.0.1", 0))
    first, last = (each.getsockname()[1] for each in given)
    async with LocalSlack(sockets=given) as slack:
        assert slack.public_url == f"http://127.0.0.1:{first}"
        assert slack.api_url == f"http://127.0.0.1:{last}/api/"
        await AsyncWebClient(slack.bot_token, base_url=slack.api_url).chat_postMessage(channel=OPS, text="x")
        url = f"{slack.public_url}/ui/state?as=bob"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            state = await answer.json()
    assert [message["versions"][0]["text"] for message in state["messages"]] == ["x"]


def test_only_loopback_is_served() -> None:
    """A socket of any other address is refused."""
    with socket.socket() as everywhere:
        everywhere.bind(("0.0.0.0", 0))
        with pytest.raises(ValueError, match=r"127\.0\.0\.1 only"):
            LocalSlack(sockets=[everywhere])
