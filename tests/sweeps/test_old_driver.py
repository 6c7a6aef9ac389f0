"""A driver stands still at each point, another takes over, and the old one wakes."""

from __future__ import annotations

from tests.sweeps.points import Paused, Point
from tests.sweeps.process import Process
from tests.sweeps.stage import Stage
from tests.sweeps.stories import Story
from tests.sweeps.sweep import Played, at, play, recovers, retries, sweep


def stand_still(point: Point, stage: Stage, process: Process) -> None:
    raise Paused


def wake(stage: Stage) -> None:
    for process in stage.processes:
        process.woken.set()


def test_a_driver_that_wakes_after_the_end_does_nothing(story: Story, calm: Played) -> None:
    """Woken when the run is over, it neither records nor touches a server."""
    # Within an act it is the host that works, not the driver: nothing stands still there.
    points = [point for point in calm.points if point.when != "in act"]
    sweep(
        points,
        lambda point: play(story, fault=at(point, stand_still), judged_by=recovers(calm), epilogue=wake),
    )


def test_a_driver_that_wakes_beside_the_new_one_does_nothing(story: Story, calm: Played) -> None:
    """Woken as soon as the new driver has its lease, it does not add to what that one does."""

    def one(point: Point) -> Played:
        strike = at(point, stand_still)

        def fault(reached: Point, stage: Stage, process: Process) -> None:
            strike(reached, stage, process)
            if process is not stage.processes[0] and reached.what.startswith("LeaseTaken"):
                wake(stage)

        return play(story, fault=fault, person=retries, judged_by=recovers(calm))

    sweep([point for point in calm.points if point.when != "in act"], one)
