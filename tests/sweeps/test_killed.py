"""The process of the bot is killed at each point, and another one goes on."""

from __future__ import annotations

from recovery.journal import Outcome, RunState
from tests.sweeps.judge import judge
from tests.sweeps.points import Killed, Point
from tests.sweeps.process import Process
from tests.sweeps.stage import Stage
from tests.sweeps.stories import Story
from tests.sweeps.sweep import Played, at, play, sweep


def kill(point: Point, stage: Stage, process: Process) -> None:
    raise Killed


def test_a_run_is_finished_by_the_next_driver_wherever_the_first_was_killed(
    story: Story, calm: Played
) -> None:
    """Killed before or after any record or act, or within one: the next driver finishes, nothing is done twice."""

    def judged(stage: Stage, state: RunState) -> list[str]:
        problems = judge(stage, state, effects=calm.effects)
        if state.outcome is not Outcome.RECOVERED:
            problems.append(f"it ended as {state.outcome}")
        return problems

    sweep(calm.points, lambda point: play(story, fault=at(point, kill), judged_by=judged))
