"""Plays a story once undisturbed, and then once for each of its points with a fault there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from recovery.journal import WAITS_FOR_PERSON, Gate, Outcome, RunState, StepStatus
from recovery.policy import ApprovalPolicy
from recovery.ports import Notifier
from tests.sweeps.judge import judge
from tests.sweeps.points import Point, host_of
from tests.sweeps.process import Process, Quiet
from tests.sweeps.stage import Choice, Effects, Fault, Person, Stage, nothing_happens
from tests.sweeps.stories import Story
from tests.sweeps.virtual_time import run_virtually

MANY = 40
FEW = 2


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
    asks_again: bool = False,
    epilogue: Callable[[Stage], None] | None = None,
    epilogue_s: float = 60.0,
    notifier: Callable[[Process], Notifier] = lambda _process: Quiet(),
    act_takes_s: float = 0.0,
    prepare: Callable[[Stage], None] = lambda _stage: None,
    approval: ApprovalPolicy | None = None,
    answers: Callable[[Gate], bool] = lambda _gate: True,
) -> Played:
    """One play, from the proposal to the end or to a wait."""

    async def on_stage() -> Played:
        stage = Stage(
            story,
            fault,
            asks_again=asks_again,
            epilogue=epilogue,
            epilogue_s=epilogue_s,
            notifier_of=notifier,
            act_takes_s=act_takes_s,
            approval=approval or ApprovalPolicy(),
            answers=answers,
        )
        prepare(stage)
        try:
            state = await stage.play(person)
            return Played(state, tuple(stage.points), stage.effects, tuple(judged_by(stage, state)))
        finally:
            await stage.close()

    return run_virtually(on_stage())


def recovers(calm: Played) -> Judge:
    """The run must end well, with exactly the acts of the undisturbed play."""

    def judged(stage: Stage, state: RunState) -> list[str]:
        problems = judge(stage, state, effects=calm.effects - _passed_over(state))
        if state.outcome is not Outcome.RECOVERED:
            problems.append(f"it is {state.outcome or 'not over'}, not recovered")
        return problems

    return judged


def _passed_over(state: RunState) -> Effects:
    """The acts of optional steps that failed, and of those for which there was no more need then."""
    return Counter(
        (type(step.action).__name__, str(host_of(step.action) or ""))
        for step, told in zip(state.plan.steps, state.steps, strict=True)
        if step.optional and told.status in WAITS_FOR_PERSON | {StepStatus.NOT_NEEDED}
    )


def retries(stage: Stage, state: RunState) -> Choice:
    """A person who tries again, and looks in the end."""
    del state
    return Choice.RETRY if stage.retries < MANY else Choice.LEAVE


def retries_then_aborts(stage: Stage, state: RunState) -> Choice:
    """A person who tries again twice, then stops the run, and leaves what is stuck to somebody at the host."""
    if state.aborted_by is None and not state.void:
        return Choice.RETRY if stage.retries < FEW else Choice.ABORT
    return Choice.LEAVE


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
    wrong = [f"{point}: {problem}" for point in points for problem in one(point).problems]
    assert not wrong, f"{len(wrong)} problems:\n" + "\n".join(wrong)
