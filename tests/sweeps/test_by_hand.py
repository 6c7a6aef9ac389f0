"""Somebody starts or stops an agent by hand at each point."""

from __future__ import annotations

from recovery.journal import RunState
from recovery.model import ServerName
from tests.sweeps.judge import judge
from tests.sweeps.points import Point
from tests.sweeps.process import Process
from tests.sweeps.stage import Fault, Stage
from tests.sweeps.stories import Story
from tests.sweeps.sweep import Played, at, play, retries_then_aborts, sweep


def start(name: ServerName) -> Fault:
    def by_hand(point: Point, stage: Stage, process: Process) -> None:
        stage.world.start_by_hand(name)

    return by_hand


def stop(name: ServerName) -> Fault:
    def by_hand(point: Point, stage: Stage, process: Process) -> None:
        stage.world.stop_by_hand(name)

    return by_hand


def before(calm: Played) -> list[Point]:
    """Before each record and each act: between a look at the world and what is done about it."""
    return [point for point in calm.points if point.when in {"before append", "before act"}]


def test_a_start_by_hand_makes_no_second_leader_and_loses_no_key(story: Story, calm: Played) -> None:
    """Whichever stopped agent, whenever: never two leaders, the key is kept, and the run ends or asks."""
    for name in story.world().servers:

        def one(point: Point, name: ServerName = name) -> Played:
            return play(story, fault=at(point, start(name)), person=retries_then_aborts)

        sweep([point for point in before(calm) if name in point.startable], one)


def test_a_stop_by_hand_makes_no_second_leader_and_loses_no_key(story: Story, calm: Played) -> None:
    """Whichever running agent, whenever: never two leaders, the key is kept, and the run ends or asks."""

    def judged(stage: Stage, state: RunState) -> list[str]:
        return judge(stage, state, still_led=False)

    for name in story.world().servers:

        def one(point: Point, name: ServerName = name) -> Played:
            return play(story, fault=at(point, stop(name)), person=retries_then_aborts, judged_by=judged)

        sweep([point for point in before(calm) if name in point.running], one)
