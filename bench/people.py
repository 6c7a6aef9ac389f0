"""Alice and bob before the local Slack: what they type and press, and what they see of a run."""

import re

from lab.errors import LabError
from lab.fleet import Fleet
from lab.slack import Message
from lab.slack.records import Delivery

SEEN_WITHIN_S = 120.0


async def propose(fleet: Fleet) -> tuple[Delivery, Message]:
    """Alice asks for a recovery; her command's delivery and the card that came of it."""
    before = {message.ts for message in _cards(fleet)}
    delivery = await fleet.slack.slash(f"/consul recover {fleet.cluster}", user="alice")
    _need_ack(delivery)
    await fleet.slack.wait(lambda: {m.ts for m in _cards(fleet)} - before, timeout_s=SEEN_WITHIN_S)
    return delivery, next(m for m in _cards(fleet) if m.ts not in before)


async def press(fleet: Fleet, card: Message, button: str) -> Delivery:
    """Bob presses a button of a card."""
    delivery = await fleet.slack.click(card, button, user="bob")
    _need_ack(delivery)
    return delivery


async def until_it_says(fleet: Fleet, card: Message, pattern: str) -> None:
    """Wait until the card's first line says this; LabError where it does not."""

    def says() -> bool:
        return re.search(pattern, fleet.slack.plain_text(card).partition("\n")[0]) is not None

    try:
        await fleet.slack.wait(says, timeout_s=SEEN_WITHIN_S)
    except TimeoutError:
        raise LabError(f"The card does not say {pattern!r}:\n{fleet.slack.plain_text(card)}") from None


def _cards(fleet: Fleet) -> list[Message]:
    return [m for m in fleet.slack.channel_messages() if m.metadata and m.thread_ts is None]


def _need_ack(delivery: Delivery) -> None:
    if not delivery.acked:
        raise LabError(f"The bot did not acknowledge in time ({delivery.ms:.0f} ms): {delivery.error}")
