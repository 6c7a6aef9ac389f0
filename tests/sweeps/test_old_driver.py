"""A driver stands still at each point, another takes over, and the old one wakes."""

from __future__ import annotations

import asyncio

from recovery.journal import RunState
from recovery.model import RunId
from tests.builders.runs import BOB, CLUSTER
from tests.sweeps.judge import judge
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


def test_a_driver_that_wakes_after_an_abort_does_nothing(story: Story, calm: Played) -> None:
    """Aborted as soon as another has taken over: whatever the old one had begun does not happen after the end."""

    def one(point: Point) -> Played:
        strike = at(point, stand_still)
        acts_at_end: list[int] = []

        def fault(reached: Point, stage: Stage, process: Process) -> None:
            strike(reached, stage, process)
            taken_over = reached.when == "after append" and reached.what.startswith("LeaseTaken")
            if process is not stage.processes[0] and taken_over:
                abort = stage.people.abort(CLUSTER, RunId("r1"), by=BOB)
                process.clicks.add(asyncio.create_task(abort))

        def ended(stage: Stage) -> None:
            acts_at_end.append(len(stage.acts))
            wake(stage)

        def judged(stage: Stage, state: RunState) -> list[str]:
            late = (
                [f"{key.direction} {key.step}" for _, key in stage.acts[acts_at_end[0] :]]
                if acts_at_end
                else []
            )
            return judge(stage, state) + [f"{act} took effect after the end" for act in late]

        return play(story, fault=fault, person=retries, judged_by=judged, epilogue=ended)

    sweep([point for point in calm.points if point.when in {"before act", "after append"}], one)


def test_a_driver_that_wakes_after_an_unlock_does_nothing(story: Story, calm: Played) -> None:
    """Somebody took the lock from a driver that stands still: its act does not happen any more."""

    def one(point: Point) -> Played:
        strike = at(point, stand_still)
        acts_at_end: list[int] = []

        async def unlock(stage: Stage, process: Process) -> None:
            await stage.people.unlock(CLUSTER, RunId("r1"), by=BOB, holder=process.owner, reason="it hangs")

        def fault(reached: Point, stage: Stage, process: Process) -> None:
            if process is stage.processes[0] and reached.number == point.number:
                process.clicks.add(asyncio.create_task(unlock(stage, process)))  # type: ignore[arg-type]
            strike(reached, stage, process)

        def ended(stage: Stage) -> None:
            acts_at_end.append(len(stage.acts))
            wake(stage)

        def judged(stage: Stage, state: RunState) -> list[str]:
            del state
            late = (
                [f"{key.direction} {key.step}" for _, key in stage.acts[acts_at_end[0] :]]
                if acts_at_end
                else []
            )
            return [f"{act} took effect after the unlock" for act in late]

        return play(story, fault=fault, person=retries, judged_by=judged, epilogue=ended)

    sweep([point for point in calm.points if point.when == "before act"], one)
