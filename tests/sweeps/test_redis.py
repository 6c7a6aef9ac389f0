"""Redis fails at each point: for a while, for good, or with everything in it."""

from __future__ import annotations

import asyncio

from recovery.engine import LEASE_TTL_S
from recovery.errors import StoreUnavailable
from recovery.journal import RunState
from tests.sweeps.judge import judge_world
from tests.sweeps.points import Point
from tests.sweeps.process import Process
from tests.sweeps.stage import Fault, Stage
from tests.sweeps.stories import Story
from tests.sweeps.sweep import Played, at, play, recovers, retries, sweep

AWAY_S = 30.0
"""Longer than a lease."""
FOR_LONG_S = 60.0


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


def test_nothing_is_done_while_redis_is_away(story: Story, calm: Played) -> None:
    """Without the store the driver stops within its lease: no act begins until Redis is back."""

    def away(point: Point, stage: Stage, process: Process) -> None:
        loop = asyncio.get_running_loop()
        done: list[int] = []
        loop.call_later(LEASE_TTL_S, lambda: done.append(len(stage.acts)))
        loop.call_later(FOR_LONG_S - 1, lambda: compare(stage, done[0]))
        fail(for_s=FOR_LONG_S)(point, stage, process)

    def compare(stage: Stage, before: int) -> None:
        if len(stage.acts) != before:
            stage.problems.append(f"{len(stage.acts) - before} acts while Redis was away")

    sweep(calm.points, lambda point: play(story, fault=at(point, away), judged_by=recovers(calm)))


HALF_WRITTEN = "below 0.7, nobody can lead alone"
"""Where the stalest server alone has its peers.json, it asks for votes and nobody gives it any: the plan that
follows starts all, waits for a leader, and says that none comes. Nothing is lost, and a person has to look."""


def empty(point: Point, stage: Stage, process: Process) -> None:
    stage.store.empty()


def test_with_an_emptied_redis_a_new_plan_goes_on_from_the_world_as_it_is(story: Story, calm: Played) -> None:
    """The run is gone as a run: its driver stops, and whoever asks again gets a plan that brings the cluster back."""

    def judged(stage: Stage, state: RunState) -> list[str]:
        if story.name == HALF_WRITTEN and state.waiting_step is not None:
            kept = any("last" in server.keys for server in stage.world.servers.values())
            return [] if kept and not stage.world.leading() else judge_world(stage)
        return judge_world(stage)

    sweep(
        calm.points,
        lambda point: play(story, fault=at(point, empty), judged_by=judged, asks_again=True, person=retries),
    )
