"""The process of the bot is killed at each point, and another one goes on."""

from __future__ import annotations

from tests.sweeps.points import Killed, Point
from tests.sweeps.process import Process
from tests.sweeps.stage import Stage
from tests.sweeps.stories import Story
from tests.sweeps.sweep import Played, at, play, recovers, retries, sweep


def kill(point: Point, stage: Stage, process: Process) -> None:
    raise Killed


def kill_with_the_act_on_its_way(point: Point, stage: Stage, process: Process) -> None:
    """The command was sent; it reaches the host when the next driver asks there."""
    stage.on_its_way = stage.act
    raise Killed


def test_a_run_is_finished_by_the_next_driver_wherever_the_first_was_killed(
    story: Story, calm: Played
) -> None:
    """Killed before or after any record or act, or within one: the next driver finishes, nothing is done twice."""
    sweep(calm.points, lambda point: play(story, fault=at(point, kill), judged_by=recovers(calm)))


def test_an_act_that_outlives_its_driver_is_done_once(story: Story, calm: Played) -> None:
    """A command still on its way when the next driver looks takes effect once, whoever's it is."""
    sweep(
        [point for point in calm.points if point.when == "before act"],
        lambda point: play(
            story,
            fault=at(point, kill_with_the_act_on_its_way),
            person=retries,
            judged_by=recovers(calm),
        ),
    )
