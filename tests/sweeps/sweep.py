"""Plays a story once undisturbed, and then once for each of its points with a fault there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from recovery.journal import Outcome, RunState
from tests.sweeps.judge import judge
from tests.sweeps.points import Point
from tests.sweeps.process import Process
from tests.sweeps.stage import Choice, Effects, Fault, Person, Stage, nothing_happens
from tests.sweeps.stories import Story
from tests.sweeps.virtual_time import run_virtually


@dataclass(frozen=True, slots=True)
class Played:
    """How one play went."""

    state: RunState
    points: tuple[Point, ...]
    effects: Effects
    problems: tuple[str, ...]


Judge = Callable[[Stage, RunState], list[str]]


def nobody_is_asked(stage: Stage, state: RunState) -> Choice:
    """A person who is surprised to be asked."""
    waiting = state.waiting_step
    why = (
        "; ".join(state.doubts) if waiting is None else f"{waiting.id}: {state.step_state(waiting.id).detail}"
    )
    stage.problems.append(f"a person is asked where nobody should be: {why}")
    return Choice.LEAVE


def play(
    story: Story,
    *,
    fault: Fault = nothing_happens,
    person: Person = nobody_is_asked,
    judged_by: Judge = judge,
) -> Played:
    """One play, from the proposal to the end or to a wait."""

    async def on_stage() -> Played:
        stage = Stage(story, fault)
        try:
            state = await stage.play(person)
            return Played(state, tuple(stage.points), stage.effects, tuple(judged_by(stage, state)))
        finally:
            await stage.close()

    return run_virtually(on_stage())


def undisturbed(story: Story) -> Played:
    """The play in which nothing goes wrong: its points are what is swept, its acts are those of the plan."""
    played = play(story)
    assert played.state.outcome is Outcome.RECOVERED, (story, played.state.outcome, played.problems)
    assert played.state.plan.procedure == story.procedure
    assert not played.problems, (story, played.problems)
    return played


def at(point: Point, strike: Fault) -> Fault:
    """Let it happen at this point of the first process, and only there."""

    def fault(reached: Point, stage: Stage, process: Process) -> None:
        if process is stage.processes[0] and reached.number == point.number:
            if reached != point:
                stage.problems.append(f"not the same play: at {point} it was at {reached}")
            strike(reached, stage, process)

    return fault


def sweep(points: Iterable[Point], one: Callable[[Point], Played]) -> None:
    """Play once for each point; AssertionError names every point at which something was wrong."""
    wrong: list[str] = []
    count = 0
    for point in points:
        count += 1
        played = one(point)
        wrong += [f"{point}: {problem}" for problem in played.problems]
    assert count, "there is no point to sweep"
    assert not wrong, f"{len(wrong)} problems at {count} points:\n" + "\n".join(wrong)
