"""Socket Mode and interactions of the local Slack, with the real slack-bolt at the other end."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from slack_bolt.app.async_app import AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from lab.slack import LocalSlack, Message, NotOnScreenError

OPS = "C0OPS"


def button(action_id: str, value: str) -> dict[str, Any]:
    """An actions block with one button."""
    text = {"type": "plain_text", "text": action_id}
    element = {"type": "button", "action_id": action_id, "value": value, "text": text}
    return {"type": "actions", "elements": [element]}


async def post(slack: LocalSlack, client: AsyncWebClient, *blocks: dict[str, Any]) -> Message:
    """A message of the bot with those blocks."""
    answer = await client.chat_postMessage(channel=OPS, text="card", blocks=list(blocks))
    return await slack.wait_message(lambda message: message.ts == answer["ts"])


def acks_all(app: AsyncApp) -> list[dict[str, Any]]:
    """Let the app ack every command and press; the list fills with their bodies."""
    bodies: list[dict[str, Any]] = []

    async def take(ack: Any, body: dict[str, Any]) -> None:
        await ack()
        bodies.append(body)

    app.command("/consul")(take)
    app.action("go")(take)
    return bodies


async def test_nobody_connected(slack: LocalSlack) -> None:
    """Without a socket the person sees dispatch_failed at once."""
    delivery = await slack.slash("/consul status")
    assert (delivery.acked, delivery.socket, delivery.error) == (False, None, "dispatch_failed")
    assert [notice.error for notice in slack.notices("alice")] == ["dispatch_failed"]


async def test_a_late_ack_is_an_operation_timeout(slack: LocalSlack, app: AsyncApp, connect: Any) -> None:
    """An ack after the limit does not count: the person sees operation_timeout, and the run is unclean."""
    release = asyncio.Event()

    @app.command("/consul")
    async def slow(ack: Any) -> None:
        await release.wait()
        await ack()

    await connect(app)
    delivery = await slack.slash("/consul status")
    release.set()
    assert delivery.error == "operation_timeout"
    assert "operation_timeout" in slack.notices("alice")[0].text
    with pytest.raises(AssertionError, match="/consul status"):
        slack.assert_clean()


async def test_each_payload_goes_to_one_socket(slack: LocalSlack, app: AsyncApp, connect: Any) -> None:
    """With three sockets each command arrives once, and not always at the same one."""
    bodies = acks_all(app)
    for _ in range(3):
        await connect(app)
    await slack.wait_connected(3)
    deliveries = [await slack.slash(f"/consul {number}") for number in range(30)]
    assert sorted(int(body["text"]) for body in bodies) == list(range(30))
    assert {delivery.socket for delivery in deliveries} == {1, 2, 3}
    slack.assert_clean()


async def test_a_test_may_choose_the_socket(slack: LocalSlack, app: AsyncApp, connect: Any) -> None:
    """While a preferred socket is open everything goes there; once none is, to any other."""
    acks_all(app)
    handlers = [await connect(app) for _ in range(3)]
    await slack.wait_connected(3)
    assert len(set(slack.sockets.client_ports.values())) == 3
    slack.sockets.prefer(frozenset({2}))
    assert {(await slack.slash("/consul status")).socket for _ in range(10)} == {2}
    await handlers[1].close_async()
    await slack.wait(lambda: slack.sockets.count == 2)
    assert (await slack.slash("/consul status")).socket in {1, 3}


async def test_a_payload_can_come_twice(slack: LocalSlack, app: AsyncApp, connect: Any) -> None:
    """A duplicate delivery reaches the app twice with the same trigger_id, the second marked as a retry."""
    bodies = acks_all(app)
    await connect(app)
    slack.duplicate()
    await slack.slash("/consul recover dc1")
    await slack.wait(lambda: len(slack.deliveries) == 2)
    await slack.slash("/consul status")
    assert [body["text"] for body in bodies] == ["recover dc1", "recover dc1", "status"]
    assert bodies[0]["trigger_id"] == bodies[1]["trigger_id"]
    assert [delivery.retry for delivery in slack.deliveries] == [0, 1, 0]


async def test_the_sdk_comes_back_after_each_kind_of_loss(
    slack: LocalSlack, app: AsyncApp, connect: Any
) -> None:
    """A refresh, a close, a reset and a silent socket are each followed by a new socket that works."""
    acks_all(app)
    await connect(app)
    for lose in ("refresh", "close", "reset", "black hole"):
        opened = slack.sockets.opened

        def is_back(opened: int = opened) -> bool:
            return slack.sockets.opened > opened and slack.sockets.count > 0

        match lose:
            case "refresh":
                await slack.sockets.disconnect("refresh_requested")
            case "close":
                await slack.sockets.close()
            case "reset":
                slack.sockets.abort()
            case _:
                slack.sockets.black_hole()
        await slack.wait(is_back, timeout_s=20)
        assert (await slack.slash("/consul status")).acked


async def test_a_refused_handshake_is_tried_again(slack: LocalSlack, app: AsyncApp, connect: Any) -> None:
    """A handshake answered with 503 keeps its ticket, and the SDK's next try gets in."""
    acks_all(app)
    slack.sockets.refuse_handshake(times=1)
    await connect(app)
    assert (await slack.slash("/consul status")).acked


async def test_tickets_work_once_and_expire(slack: LocalSlack) -> None:
    """A ticket opens one socket; used or expired it answers 408."""
    client = AsyncWebClient(slack.app_token, base_url=slack.api_url)
    async with aiohttp.ClientSession() as session:
        url = (await client.apps_connections_open(app_token=slack.app_token))["url"]
        async with session.ws_connect(url) as ws:
            assert (await ws.receive_json())["type"] == "hello"
        with pytest.raises(aiohttp.WSServerHandshakeError, match="408"):
            await session.ws_connect(url)
        fresh = (await client.apps_connections_open(app_token=slack.app_token))["url"]
        slack.sockets.expire_tickets()
        with pytest.raises(aiohttp.WSServerHandshakeError, match="408"):
            await session.ws_connect(fresh)


async def test_the_eleventh_socket_is_one_too_many(slack: LocalSlack) -> None:
    """Ten sockets may be open; the next is told too_many_websockets and closed."""
    client = AsyncWebClient(slack.app_token, base_url=slack.api_url)
    async with aiohttp.ClientSession() as session:
        told = []
        sockets = []
        for _ in range(11):
            url = (await client.apps_connections_open(app_token=slack.app_token))["url"]
            sockets.append(await session.ws_connect(url))
            told.append(await sockets[-1].receive_json())
        assert [message["type"] for message in told] == ["hello"] * 10 + ["disconnect"]
        assert told[-1]["reason"] == "too_many_websockets"
        assert slack.sockets.count == 10
        for each in sockets:
            await each.close()


async def test_names_are_escaped_in_commands(slack: LocalSlack, app: AsyncApp, connect: Any) -> None:
    """With should_escape a name becomes an id, and angle brackets become entities."""
    bodies = acks_all(app)
    await connect(app)
    delivery = await slack.slash("/consul ask @bob <dc1>", user="partner")
    assert delivery.payload["text"] == "ask <@U0BOB|bob> &lt;dc1&gt;"
    assert bodies[0]["team_id"] == "T0PARTNER"


async def test_only_what_is_on_the_screen_can_be_pressed(
    slack: LocalSlack, app: AsyncApp, client: AsyncWebClient, connect: Any
) -> None:
    """A button that is gone is refused unless the press is stale; then it carries the old value."""
    bodies = acks_all(app)
    await connect(app)
    card = await post(slack, client, button("go", "seq-1"))
    await client.chat_update(channel=OPS, ts=card.ts, text="decided")
    with pytest.raises(NotOnScreenError, match="'go' is not in the message as it is now"):
        await slack.click(card, "go", user="bob")
    await slack.click(card, "go", user="bob", stale=True)
    assert bodies[0]["actions"][0]["value"] == "seq-1"
    assert bodies[0]["user"]["team_id"] == "T0LAB"
    with pytest.raises(KeyError, match="nobody is called 'carol'"):
        await slack.click(card, "go", user="carol", stale=True)


async def test_ephemeral_answers_by_response_url(slack: LocalSlack, app: AsyncApp, connect: Any) -> None:
    """A response URL answers one person by default, replaces what it said, deletes it, and works five times."""
    urls: list[str] = []

    @app.command("/consul")
    async def take(ack: Any, command: dict[str, str]) -> None:
        await ack()
        urls.append(command["response_url"])

    await connect(app)
    await slack.slash("/consul status", channel="general")
    hook = AsyncWebhookClient(urls[0])
    await hook.send(text="invite me")
    assert [message.text for message in slack.ephemeral("alice")] == ["invite me"]
    await hook.send(text="replaced", replace_original=True)
    assert [message.text for message in slack.ephemeral("alice")] == ["replaced"]
    await hook.send(text="for all", response_type="in_channel")
    assert [message.text for message in slack.channel_messages("general")] == ["for all"]
    assert (await hook.send(text="x", blocks=[{"type": "hologram"}])).body == "invalid_blocks"
    await hook.send(delete_original=True)
    assert slack.ephemeral("alice") == []
    sixth = await hook.send(text="once more")
    assert (sixth.status_code, sixth.body) == (404, "used_url")
    assert [violation.error for violation in slack.violations] == ["invalid_blocks", "used_url"]


async def test_a_response_url_ends_after_half_an_hour(app: AsyncApp) -> None:
    """After thirty minutes a response URL is expired."""
    now = [1_700_000_000.0]
    async with LocalSlack(clock=lambda: now[0]) as slack:
        delivery = await slack.slash("/consul status")
        now[0] += 1801
        answer = await AsyncWebhookClient(delivery.payload["response_url"]).send(text="x")
    assert answer.body == "expired_url"


MODAL: dict[str, Any] = {
    "type": "modal",
    "callback_id": "why",
    "private_metadata": "r1",
    "title": {"type": "plain_text", "text": "Why?"},
    "submit": {"type": "plain_text", "text": "Send"},
    "blocks": [
        {
            "type": "input",
            "block_id": "reason",
            "label": {"type": "plain_text", "text": "Reason"},
            "element": {"type": "plain_text_input", "action_id": "text", "max_length": 20},
        },
        {
            "type": "input",
            "block_id": "who",
            "optional": True,
            "label": {"type": "plain_text", "text": "Second person"},
            "element": {"type": "users_select", "action_id": "person"},
        },
    ],
}


async def test_a_modal_is_filled_refused_and_closed(slack: LocalSlack, app: AsyncApp, connect: Any) -> None:
    """A modal opens by trigger, gives back its values, shows the app's errors, and closes when all is well."""
    seen: list[Any] = []

    @app.command("/consul")
    async def ask(ack: Any, command: dict[str, str], client: Any) -> None:
        await ack()
        await client.views_open(trigger_id=command["trigger_id"], view=MODAL)

    @app.view("why")
    async def take(ack: Any, view: dict[str, Any]) -> None:
        seen.append((view["private_metadata"], view["state"]["values"]))
        if len(seen) == 1:
            await ack(response_action="errors", errors={"reason": "Longer, please."})
        else:
            await ack(response_action="clear")

    await connect(app)
    await slack.slash("/consul abort", user="bob")
    [modal] = await slack.wait(lambda: slack.modals("bob"))
    assert slack.modals("alice") == []
    with pytest.raises(ValueError, match="'Reason' must be filled in"):
        await slack.submit(modal, {}, user="bob")
    with pytest.raises(ValueError, match="0 to 20 characters"):
        await slack.submit(modal, {"reason": "x" * 21}, user="bob")
    with pytest.raises(NotOnScreenError):
        await slack.submit(modal, {"reason": "mine"}, user="mallory")
    await slack.submit(modal, {"reason": "short", "person": "U0ALICE"}, user="bob")
    assert modal.errors == {"reason": "Longer, please."}
    await slack.submit(modal, {"text": "long enough"}, user="bob")
    assert slack.modals("bob") == []
    assert seen[0] == (
        "r1",
        {
            "reason": {"text": {"type": "plain_text_input", "value": "short"}},
            "who": {"person": {"type": "users_select", "selected_user": "U0ALICE"}},
        },
    )
    slack.assert_clean()


async def test_a_trigger_opens_one_modal_within_three_seconds(client: AsyncWebClient) -> None:
    """A trigger_id works once and for three seconds; a made-up one never."""
    now = [1_700_000_000.0]
    async with LocalSlack(clock=lambda: now[0]) as slack:
        here = AsyncWebClient(slack.bot_token, base_url=slack.api_url)
        first = (await slack.slash("/consul one")).payload["trigger_id"]
        second = (await slack.slash("/consul two")).payload["trigger_id"]
        await here.views_open(trigger_id=first, view=MODAL)
        now[0] += 3.1
        for trigger, error in (
            (first, "exchanged_trigger_id"),
            (second, "expired_trigger_id"),
            ("made-up", "invalid_trigger_id"),
        ):
            with pytest.raises(SlackApiError, match=error):
                await here.views_open(trigger_id=trigger, view=MODAL)


async def test_a_modal_can_be_updated_and_cancelled(slack: LocalSlack, client: AsyncWebClient) -> None:
    """views.update shows another content in an open modal; a cancelled one is gone for views.update."""
    delivery = await slack.slash("/consul x")
    answer = await client.views_open(trigger_id=delivery.payload["trigger_id"], view=MODAL)
    view_id = answer["view"]["id"]
    await client.views_update(
        view_id=view_id, view={**MODAL, "title": {"type": "plain_text", "text": "Now?"}}
    )
    [modal] = slack.modals("alice")
    assert modal.view["title"]["text"] == "Now?"
    assert await slack.close_modal(modal, user="alice") is None
    with pytest.raises(SlackApiError, match="not_found"):
        await client.views_update(view_id=view_id, view=MODAL)
