"""Whatever is registered is swept."""

from __future__ import annotations

from recovery.procedures import METHODS
from tests.sweeps.stories import STORIES, Story
from tests.sweeps.sweep import Played


def test_every_registered_procedure_has_a_story() -> None:
    """A procedure without a broken world that proposes it would not be swept: add one to tests/sweeps/stories.py."""
    assert {story.procedure for story in STORIES} == set(METHODS)


def test_the_points_of_a_play_cover_every_step(story: Story, calm: Played) -> None:
    """Every step of the plan has points around its record, and every act one before, within and after it."""
    told = {f"{point.when} {point.what}" for point in calm.points}
    for step in calm.state.plan.steps:
        assert any(f"{kind} {step.id}" in line for line in told for kind in ("StepVerified", "StepNotNeeded"))
    acts = {point.what for point in calm.points if point.when == "before act"}
    for moment in ("in act", "after act"):
        host_acts = {point.what for point in calm.points if point.when == moment}
        assert host_acts <= acts
        assert host_acts, moment
