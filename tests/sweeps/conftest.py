"""Every sweep runs for every story; the log of thousands of runs is of no use to anybody."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache

import pytest
import structlog

from tests.sweeps.stories import STORIES, Story
from tests.sweeps.sweep import Played, undisturbed

plain = cache(undisturbed)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Nothing is logged."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture(params=STORIES, ids=str)
def story(request: pytest.FixtureRequest) -> Story:
    """Each story in turn."""
    told: Story = request.param
    return told


@pytest.fixture
def calm(story: Story, quiet: None) -> Played:
    """The story as it goes when nothing goes wrong."""
    return plain(story)
