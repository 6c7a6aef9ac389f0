"""Redis fails at each point: for a while, for good, or with everything in it."""

from __future__ import annotations

import asyncio

from recovery.errors import StoreUnavailable
from tests.sweeps.points import Point
from tests.sweeps.process import Process
from tests.sweeps.stage import Fault, Stage
from tests.sweeps.stories import Story
from tests.sweeps.sweep import Played, at, play, recovers, sweep

AWAY_S = 45.0
"""Longer than a lease."""


def fail(*, for_s: float | None) -> Fault:
    """Redis goes away; what was being asked of it has no answer, and may have been done."""

    def fault(point: Point, stage: Stage, process: Process) -> None:
        stage.store.down = True
        if for_s is not None:
            asyncio.get_running_loop().call_later(for_s, setattr, stage.store, "down", False)
        if point.when in {"after append", "after lease"}:
            raise StoreUnavailable("Redis: the connection was lost")

    return fault


def test_a_run_goes_on_when_redis_is_back(story: Story, calm: Played) -> None:
    """Away at each point, with and without having done what was asked: the run ends well, nothing is done twice."""
    sweep(
        calm.points,
        lambda point: play(story, fault=at(point, fail(for_s=AWAY_S)), judged_by=recovers(calm)),
    )
