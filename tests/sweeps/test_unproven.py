"""The proof of each step does not come within its time, also where the step only looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from recovery.journal import FINISHED, WAITS_FOR_PERSON, Outcome, RunState, StepStatus
from recovery.model import Fact, Fails, RunId, Unknown
from recovery.plan import Check, Observe, Risk, StartAgent, Step
from tests.builders.runs import BOB, CLUSTER
from tests.sweeps.judge import judge, led_with_all_data
from tests.sweeps.points import Point
from tests.sweeps.process import Process
from tests.sweeps.stage import Choice, Person, Stage
from tests.sweeps.stories import Story
from tests.sweeps.sweep import Judge, Played, play, recovers, retries_then_aborts
from tests.sweeps.virtual_time import VirtualClock

WHY = "the proof is kept back"
LATE_S = 10.0
"""A step ends at its limit, but for a poll and for what stood before it."""

CLICK_AFTER_S = 3.0
AT_ONCE_S = 2.0
"""A poll, and what the abort takes back."""

Click = Callable[[Stage, Process], None]


@dataclass
class Proof:
    """The proof of one step of the first run, kept back until somebody has been told so."""

    step: Step
    fact: Fact
    kept_back: bool = True

    def onto(self, stage: Stage) -> None:
        """Keep it back on this stage."""

        def sees(check: Check, run: RunId) -> Fact | None:
            hidden = self.kept_back and run == "r1" and check in self.step.after
            return self.fact if hidden and self._turn(stage.store.folded(CLUSTER, run)) else None

        stage.sees = sees

    def _turn(self, state: RunState) -> bool:
        """Whether the run has come to this step: others may ask the same."""
        index = state.index_of(self.step.id)
        together = self.step.together
        return state.steps[index].status in {StepStatus.TODO, StepStatus.DOING} and all(
            told.status in FINISHED or earlier.optional or (together and earlier.together == together)
            for earlier, told in zip(state.plan.steps[:index], state.steps[:index], strict=True)
        )

    def told(self, stage: Stage, state: RunState) -> None:
        """The run must say which step it is, what was seen, and no later than the step may last."""
        told = state.step_state(self.step.id)
        wanted = StepStatus.FAILED if isinstance(self.fact, Fails) else StepStatus.IN_DOUBT
        if isinstance(self.fact, Unknown) and set(self.step.unless) & set(self.step.after):
            # Whether it is needed at all could not be seen: nothing was tried.
            wanted = StepStatus.BLOCKED
        if told.status is not wanted or WHY not in told.detail:
            stage.problems.append(f"{self.step.id} is {told.status}, not {wanted}: {told.detail}")
        if told.started_s and told.ended_s - told.started_s > self.step.timeout_s + LATE_S:
            stage.problems.append(f"{self.step.id} was waited for for {told.ended_s - told.started_s:.0f} s")

    def then(self, choice: Choice) -> Person:
        """A person who reads it, and does this; the proof is there from then on."""

        def person(stage: Stage, state: RunState) -> Choice:
            if self.kept_back:
                self.told(stage, state)
                self.kept_back = False
                return choice
            stage.problems.append("a person is asked again")
            return Choice.LEAVE

        return person


def proven(calm: Played) -> list[Step]:
    """The steps whose proof the run waits for, but those without which it goes on."""
    waited = zip(calm.state.plan.steps, calm.state.steps, strict=True)
    return [
        step
        for step, told in waited
        if step.after
        and not step.optional
        # Where it was not needed because of what is no proof of its own, it would be done for nothing.
        and (told.status is StepStatus.DONE or isinstance(step.action, Observe))
    ]


def swept(
    story: Story, steps: Iterable[Step], fact: Fact, choice: Choice, judged_by: Callable[[Step], Judge]
) -> None:
    """Play once for each step; AssertionError names every one at which something was wrong."""
    wrong: list[str] = []
    for step in steps:
        proof = Proof(step, fact)
        played = play(
            story,
            person=proof.then(choice),
            judged_by=judged_by(step),
            prepare=proof.onto,
            asks_again=choice is Choice.RETRY,
        )
        wrong += [f"{step.id}: {problem}" for problem in played.problems]
        if proof.kept_back and not step.otherwise:
            wrong.append(f"{step.id}: nobody was told that its proof does not come")
    assert not wrong, f"{len(wrong)} problems:\n" + "\n".join(wrong)


def well_in_the_end(stage: Stage, state: RunState) -> list[str]:
    """The cluster is whole, be it that the plan was void and nothing was left to do."""
    problems = [*judge(stage, state), *led_with_all_data(stage)]
    ended = state.outcome in {Outcome.RECOVERED, Outcome.VOID}
    return problems if ended else [*problems, f"it is {state.outcome}"]


def begins(step: Step, calm: Played) -> bool:
    """Whether it is the first start that changes what the plan was made from.

    Tried again, the assumptions are looked at before it, as after every wait for a person: it took effect, so they
    no longer hold, the run is void, and whoever asks again gets a plan from what is there.
    """
    starts = (
        s for s in calm.state.plan.steps if s.risk is Risk.IRREVERSIBLE and isinstance(s.action, StartAgent)
    )
    return step == next(starts, None)


def test_a_step_whose_proof_does_not_come_has_failed_and_a_retry_goes_on(story: Story, calm: Played) -> None:
    """Seen not to hold until its time is up: failed, with what was seen; a retry ends well without a second act."""
    swept(
        story,
        proven(calm),
        Fails(WHY),
        Choice.RETRY,
        lambda step: well_in_the_end if step.otherwise or begins(step, calm) else recovers(calm),
    )


def test_a_step_whose_proof_cannot_be_seen_is_in_doubt_and_a_retry_goes_on(
    story: Story, calm: Played
) -> None:
    """Not seen until its time is up: in doubt, not failed; a retry ends well without a second act."""
    swept(story, proven(calm), Unknown(WHY), Choice.RETRY, lambda _step: recovers(calm))


@pytest.mark.parametrize("fact", [Fails(WHY), Unknown(WHY)], ids=["fails", "unknown"])
def test_a_run_stopped_at_a_look_that_failed_leaves_what_it_says(
    story: Story, calm: Played, fact: Fact
) -> None:
    """A step that only looks fails or is in doubt, a person aborts: the run ends, and what it leaves is named."""

    def ended(stage: Stage, state: RunState) -> list[str]:
        problems = judge(stage, state)
        return (
            problems
            if state.outcome is Outcome.ABORTED
            else [*problems, f"it is {state.outcome}, not aborted"]
        )

    looks = [step for step in proven(calm) if isinstance(step.action, Observe)]
    voids = isinstance(fact, Fails)
    swept(
        story,
        looks,
        fact,
        Choice.ABORT,
        lambda step: well_in_the_end if step.otherwise and voids else ended,
    )


def stuck(state: RunState) -> bool:
    """Whether an undo waits for somebody at the host: below 0.7 no peers.json is taken from an agent that runs."""
    return any(told.status is StepStatus.STUCK for told in state.steps)


@pytest.mark.parametrize("fact", [Fails(WHY), Unknown(WHY)], ids=["fails", "unknown"])
def test_an_abort_ends_the_wait_for_a_proof_at_once(story: Story, calm: Played, fact: Fact) -> None:
    """While a step is waited for, a person aborts: the run ends within moments, long before the step's time is up."""
    wrong: list[str] = []
    for step in proven(calm):
        proof = Proof(step, fact)
        clicked: list[float] = []

        def click(stage: Stage, process: Process, clicked: list[float] = clicked) -> None:
            clicked.append(VirtualClock().now_s())
            process.clicks.add(asyncio.create_task(stage.people.abort(CLUSTER, RunId("r1"), by=BOB)))

        def started(
            point: Point, stage: Stage, process: Process, step: Step = step, click: Click = click
        ) -> None:
            if point.when == "after append" and point.what == f"StepStarted {step.id}":
                asyncio.get_running_loop().call_later(CLICK_AFTER_S, click, stage, process)

        def ended(
            stage: Stage, state: RunState, step: Step = step, clicked: list[float] = clicked
        ) -> list[str]:
            problems = judge(stage, state)
            if state.outcome is None and stuck(state):
                return problems
            if state.outcome is not Outcome.ABORTED or not clicked:
                return [*problems, f"it is {state.outcome}, not aborted"]
            if state.ended_s - clicked[0] > AT_ONCE_S:
                problems.append(f"it ended {state.ended_s - clicked[0]:.0f} s after the abort")
            if (
                WHY not in state.step_state(step.id).detail
                and state.step_state(step.id).status in WAITS_FOR_PERSON
            ):
                problems.append(f"{step.id} does not say what it waited for")
            return problems

        if isinstance(fact, Unknown) and set(step.unless) & set(step.after):
            continue  # Nothing was begun: there is no proof to wait for.
        played = play(story, fault=started, person=retries_then_aborts, judged_by=ended, prepare=proof.onto)
        wrong += [f"{step.id}: {problem}" for problem in played.problems]
    assert not wrong, f"{len(wrong)} problems:\n" + "\n".join(wrong)
