"""A slash command, a message, a button and an update through the real slack-bolt."""

from __future__ import annotations

from typing import Any

from slack_bolt.app.async_app import AsyncApp

from lab.slack import LocalSlack

CARD = [
    {"type": "section", "text": {"type": "mrkdwn", "text": "*dc1* has no leader"}},
    {
        "type": "actions",
        "elements": [
            {
                "type": "button",
                "action_id": "approve",
                "text": {"type": "plain_text", "text": "Approve"},
                "value": "r1",
                "confirm": {
                    "title": {"type": "plain_text", "text": "Sure?"},
                    "text": {"type": "mrkdwn", "text": "Touches *s1* only."},
                    "confirm": {"type": "plain_text", "text": "Approve"},
                    "deny": {"type": "plain_text", "text": "Back"},
                },
            }
        ],
    },
]


async def test_a_command_leads_to_a_card_and_its_button_to_an_update(
    slack: LocalSlack, app: AsyncApp, connect: Any
) -> None:
    """A slash command is acked with a text, posts a card, and the press of its button updates the card."""

    @app.command("/consul")
    async def recover(ack: Any, command: dict[str, str], client: Any) -> None:
        await ack(f"checking {command['text']}")
        await client.chat_postMessage(channel=command["channel_id"], text="dc1 has no leader", blocks=CARD)

    @app.action("approve")
    async def approve(ack: Any, body: dict[str, Any], client: Any) -> None:
        await ack()
        await client.chat_update(
            channel=body["channel"]["id"],
            ts=body["message"]["ts"],
            text=f"approved by <@{body['user']['id']}>",
            metadata={"event_type": "run", "event_payload": {"value": body["actions"][0]["value"]}},
        )

    await connect(app)
    delivery = await slack.slash("/consul recover dc1", user="alice")
    assert delivery.acked
    assert delivery.response == {"text": "checking recover dc1"}
    assert [slack.plain_text(message) for message in slack.ephemeral("alice")] == ["checking recover dc1"]

    card = await slack.wait_message(lambda message: "no leader" in message.text)
    assert slack.plain_text(card) == "dc1 has no leader\n[Approve]"
    pressed = await slack.click(card, "approve", user="bob")
    assert pressed.confirm == "Sure?\nTouches s1 only.\n[Approve] [Back]"

    updated = await slack.wait_message(lambda message: "approved" in message.text)
    assert updated is card
    assert slack.plain_text(card) == "approved by @bob"
    assert card.metadata == {"event_type": "run", "event_payload": {"value": "r1"}}
    assert [version.text for version in slack.history(card.ts)] == [
        "dc1 has no leader",
        "approved by <@U0BOB>",
    ]
    slack.assert_clean()
