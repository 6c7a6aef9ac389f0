"""A person aborts at each point of the run, whatever it is doing."""

from __future__ import annotations

import asyncio

from recovery.journal import Outcome, RunState
from recovery.model import RunId
from tests.builders.runs import BOB, CLUSTER
from tests.sweeps.judge import judge, judge_world
from tests.sweeps.points import Point
from tests.sweeps.process import Process
from tests.sweeps.stage import Stage
from tests.sweeps.stories import Story
from tests.sweeps.sweep import Played, at, play, sweep


def abort(point: Point, stage: Stage, process: Process) -> None:
    """Bob clicks; the click is served beside the driver."""
    process.clicks.add(asyncio.create_task(stage.people.abort(CLUSTER, RunId("r1"), by=BOB)))


def ended(stage: Stage, state: RunState) -> list[str]:
    problems = judge(stage, state)
    if state.outcome not in {Outcome.ABORTED, Outcome.RECOVERED}:
        problems.append(f"it is {state.outcome or 'not over'}, not aborted")
    return problems


def test_an_aborted_run_ends_and_says_what_it_leaves(story: Story, calm: Played) -> None:
    """Aborted at any point: it ends, no trap is left, and the journal names what is."""
    sweep(calm.points, lambda point: play(story, fault=at(point, abort), judged_by=ended))


def test_an_aborted_run_is_no_dead_end(story: Story, calm: Played) -> None:
    """Aborted at any point, then asked for again: the next run brings the cluster back, with the last key."""

    def judged(stage: Stage, state: RunState) -> list[str]:
        return list(dict.fromkeys(judge(stage, state) + judge_world(stage)))

    sweep(calm.points, lambda point: play(story, fault=at(point, abort), judged_by=judged, asks_again=True))
