"""A local Slack, and a bot on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from lab.slack import LocalSlack
from tests.fakes.slack_bot import Bot, running_bot


@pytest.fixture
async def slack() -> AsyncIterator[LocalSlack]:
    """A local Slack that ends every test with: acked in time, no broken rule."""
    async with LocalSlack() as running:
        yield running


@pytest.fixture
async def bot(slack: LocalSlack) -> AsyncIterator[Bot]:
    """A bot over three healthy servers."""
    async with running_bot(slack) as running:
        yield running
        slack.assert_clean()
