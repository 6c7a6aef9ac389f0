"""Whatever is registered is swept."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import pytest

import recovery.procedures
from recovery.plan import Proposal, Refusal
from recovery.procedures import METHODS
from tests.sweeps.stories import STORIES, Story
from tests.sweeps.sweep import Played, play


def makers() -> list[ModuleType]:
    """The files that make plans."""
    named = pkgutil.iter_modules(recovery.procedures.__path__, "recovery.procedures.")
    modules = [importlib.import_module(module.name) for module in named]
    return [module for module in modules if hasattr(module, "NAME") and hasattr(module, "build")]


def test_every_registered_procedure_has_a_story() -> None:
    """A procedure without a broken world that proposes it would not be swept: add one to tests/sweeps/stories.py."""
    assert {story.procedure for story in STORIES} == set(METHODS)
    # Two files may bear one name, as peers.json of today and as it was before 0.7.
    assert {story.module.__name__ for story in STORIES} == {module.__name__ for module in makers()}


def test_the_plan_of_a_story_is_made_by_its_file(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """A story sweeps the file that it names, not another one of the same name."""
    made_by: list[str] = []
    for module in makers():

        def build(
            *args: object, module: ModuleType = module, real: object = module.build, **kwargs: object
        ) -> Proposal | Refusal:
            answer: Proposal | Refusal = real(*args, **kwargs)  # type: ignore[operator]
            if isinstance(answer, Proposal):
                made_by.append(module.__name__)
            return answer

        monkeypatch.setattr(module, "build", build)
    play(story)
    assert made_by == [story.module.__name__]


def test_the_points_of_a_play_cover_every_step(story: Story, calm: Played) -> None:
    """Every step of the plan has points around its record, and every act one before, within and after it."""
    told = {f"{point.when} {point.what}" for point in calm.points}
    for step in calm.state.plan.steps:
        kinds = ("StepVerified", "StepNotNeeded", *(("StepFailed",) if step.optional else ()))
        assert any(f"{kind} {step.id}" in line for line in told for kind in kinds)
    acts = {point.what for point in calm.points if point.when == "before act"}
    for moment in ("in act", "after act"):
        host_acts = {point.what for point in calm.points if point.when == moment}
        assert host_acts <= acts
        assert host_acts, moment
