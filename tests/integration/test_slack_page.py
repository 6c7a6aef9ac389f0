"""The local Slack's page in a real browser, with the real slack-bolt behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.app.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from lab.pictures import CHROMIUM, FLAGS
from lab.slack import LocalSlack


def plain(text: str) -> dict[str, str]:
    """A plain_text object."""
    return {"type": "plain_text", "text": text}


CARD: list[dict[str, Any]] = [
    {"type": "header", "block_id": "head", "text": plain("Recovery r7f3")},
    {
        "type": "section",
        "block_id": "why",
        "text": {
            "type": "mrkdwn",
            "text": "*dc1* has `no leader` <https://example.com/runbook|runbook> &lt;b&gt;",
        },
        "fields": [{"type": "mrkdwn", "text": "*Risk*\nlow"}, {"type": "mrkdwn", "text": "*Touches*\ns1"}],
    },
    {
        "type": "context",
        "block_id": "foot",
        "elements": [{"type": "mrkdwn", "text": "asked by <@U0ALICE> <!date^1700000000^on {date_num}|then>"}],
    },
    {
        "type": "actions",
        "block_id": "acts",
        "elements": [
            {
                "type": "button",
                "action_id": "approve",
                "style": "primary",
                "text": plain("Approve & run"),
                "confirm": {
                    "title": plain("Approve r7f3?"),
                    "text": {"type": "mrkdwn", "text": "5 steps, touches *s1* only."},
                    "confirm": plain("Yes, run it"),
                    "deny": plain("Back"),
                },
            },
            {"type": "button", "action_id": "reason", "text": plain("Give a reason…")},
            {"type": "button", "action_id": "slow", "style": "danger", "text": plain("Never acked")},
        ],
    },
]
MODAL: dict[str, Any] = {
    "type": "modal",
    "title": plain("Why now?"),
    "submit": plain("Send"),
    "blocks": [
        {
            "type": "input",
            "block_id": "why",
            "label": plain("Reason"),
            "element": {"type": "plain_text_input", "action_id": "reason", "multiline": True},
        },
        {
            # Two inputs may have one action_id: Slack tells them apart by their blocks.
            "type": "input",
            "block_id": "who",
            "optional": True,
            "label": plain("Who else"),
            "element": {"type": "plain_text_input", "action_id": "reason"},
        },
    ],
}


def make_app(slack: LocalSlack) -> AsyncApp:
    """A bot with one command, one approval and one modal."""
    app = AsyncApp(client=AsyncWebClient(slack.bot_token, base_url=slack.api_url))

    @app.command("/consul")
    async def recover(ack: Any, command: Any, client: Any) -> None:
        await ack("Looking at dc1…")
        await client.chat_postMessage(channel=command["channel_id"], text="dc1 has no leader", blocks=CARD)

    @app.action("approve")
    async def approve(ack: Any, body: Any, client: Any) -> None:
        await ack()
        channel, ts = body["channel"]["id"], body["message"]["ts"]
        await client.chat_update(channel=channel, ts=ts, text=f"✅ *Approved* by <@{body['user']['id']}>")
        await client.chat_postMessage(channel=channel, thread_ts=ts, text="step 1 done")

    @app.action("reason")
    async def ask(ack: Any, body: Any, client: Any) -> None:
        await ack()
        await client.views_open(trigger_id=body["trigger_id"], view=MODAL)

    @app.view("")
    async def submitted(ack: Any, view: Any, body: Any, client: Any) -> None:
        reason = view["state"]["values"]["why"]["reason"]["value"]
        if len(reason) < 5:
            await ack(response_action="errors", errors={"why": "Say a little more."})
            return
        await ack()
        also = view["state"]["values"]["who"]["reason"]["value"] or "nobody"
        said = f"{body['user']['name']} and {also} say: {reason}"
        await client.chat_postMessage(channel="C0OPS", text=said)

    return app


@pytest.fixture
async def slack() -> AsyncIterator[LocalSlack]:
    """A local Slack with the bot connected."""
    async with LocalSlack(ack_timeout_s=1.0) as running:
        handler = AsyncSocketModeHandler(make_app(running), running.app_token)
        await handler.connect_async()  # type: ignore[no-untyped-call]
        await running.wait_connected()
        yield running
        await handler.close_async()  # type: ignore[no-untyped-call]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Debian's chromium without a window, with a fresh profile."""
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        await chromium.close()


@pytest.fixture(params=[pytest.param((1280, 800), id="desk"), pytest.param((390, 844), id="phone")])
async def page(request: Any, browser: Browser, slack: LocalSlack) -> AsyncIterator[Page]:
    """The page as alice sees it, wide and narrow; script errors fail the test."""
    width, height = request.param
    errors: list[str] = []
    opened = await browser.new_page(viewport={"width": width, "height": height})
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    await opened.goto(f"{slack.public_url}/?as=alice")
    yield opened
    # 409 is how the page learns what a person cannot do; the browser prints it by itself.
    assert [error for error in errors if "409" not in error] == []


async def command(page: Page) -> None:
    """Type the slash command."""
    line = page.get_by_role("textbox", name="Message #consul-ops")
    await line.fill("/consul recover dc1")
    await line.press("Enter")
    await expect(page.get_by_role("button", name="Approve & run")).to_be_visible()


async def test_a_command_a_confirmed_press_and_the_update(page: Page, slack: LocalSlack) -> None:
    """A person types a command, confirms a button and sees the card change, with its thread and its versions."""
    await command(page)
    await expect(page.get_by_text("Only visible to you")).to_be_visible()
    card = page.get_by_role("article", name="Message from consulbot").filter(has_text="Recovery r7f3")
    await expect(card.get_by_role("heading", name="Recovery r7f3")).to_be_visible()
    await expect(card.locator("code")).to_have_text("no leader")
    await expect(card.get_by_text("<b>")).to_be_visible()
    await expect(card.get_by_role("link", name="runbook")).to_have_attribute(
        "href", "https://example.com/runbook"
    )
    await expect(card.get_by_text("asked by @alice on 2023-11-14")).to_be_visible()

    await page.get_by_label("Act as").select_option("bob")
    await page.get_by_role("button", name="Approve & run").click()
    dialog = page.get_by_role("dialog", name="Approve r7f3?")
    await expect(dialog).to_contain_text("5 steps, touches s1 only.")
    await dialog.get_by_role("button", name="Back").click()
    assert [delivery.kind for delivery in slack.deliveries] == ["slash_commands"]
    await page.get_by_role("button", name="Approve & run").click()
    await page.get_by_role("button", name="Yes, run it").click()
    await expect(page.get_by_text("✅ Approved by @bob")).to_be_visible()
    await expect(page.get_by_role("button", name="Approve & run")).to_have_count(0)

    await page.get_by_role("button", name="1 reply").click()
    thread = page.get_by_role("complementary", name="Thread")
    await expect(thread.get_by_text("step 1 done")).to_be_visible()
    await thread.get_by_role("textbox", name="Reply in thread").fill("thanks")
    await thread.get_by_role("button", name="Reply", exact=True).click()
    await expect(thread.get_by_text("thanks")).to_be_visible()
    await thread.get_by_role("button", name="Close thread").click()
    await expect(thread).to_be_hidden()

    await page.get_by_role("button", name="2 versions").click()
    history = page.get_by_role("dialog", name="Version history")
    await history.get_by_role("slider").fill("1")
    await expect(history.get_by_role("heading", name="Recovery r7f3")).to_be_visible()
    await expect(history.get_by_role("button", name="Approve & run")).to_be_disabled()
    slack.assert_clean()


async def test_a_modal_keeps_what_was_typed_when_it_is_refused(page: Page, slack: LocalSlack) -> None:
    """A refused modal shows the reason beside the input and keeps the text; a good one closes."""
    await command(page)
    await page.get_by_role("button", name="Give a reason…").click()
    modal = page.get_by_role("dialog", name="Why now?")
    await modal.get_by_role("textbox", name="Reason").fill("now")
    await modal.get_by_role("button", name="Send").click()
    await expect(modal.get_by_text("Say a little more.")).to_be_visible()
    await expect(modal.get_by_role("textbox", name="Reason")).to_have_value("now")
    await modal.get_by_role("textbox", name="Reason").fill("the shop is down")
    await modal.get_by_role("textbox", name="Who else").fill("bob")
    await modal.get_by_role("button", name="Send").click()
    await expect(modal).to_have_count(0)
    await expect(page.get_by_text("alice and bob say: the shop is down")).to_be_visible()
    slack.assert_clean()


async def test_a_late_ack_is_told(page: Page, slack: LocalSlack) -> None:
    """A button that the bot never acks ends in an operation_timeout banner for who pressed it."""
    await command(page)
    await page.get_by_role("button", name="Never acked").click()
    await expect(page.get_by_role("alert").filter(has_text="operation_timeout")).to_be_visible()
    with pytest.raises(AssertionError, match="operation_timeout"):
        slack.assert_clean()


async def test_a_permalink_opens_the_thread(page: Page, slack: LocalSlack) -> None:
    """The address of a reply opens its thread, also without the event stream."""
    root = await slack.say("here we go", user="bob")
    reply = await slack.say("in the thread", user="bob", thread_ts=root.ts)
    await page.goto(f"{slack.public_url}/?once&as=mallory#C0OPS/p{reply.ts.replace('.', '')}")
    thread = page.get_by_role("complementary", name="Thread")
    await expect(thread.get_by_text("in the thread")).to_be_visible()
    await expect(page.get_by_label("Act as")).to_have_value("mallory")


def test_chromium_is_there() -> None:
    """Debian's chromium is installed."""
    assert Path(CHROMIUM).is_file()
