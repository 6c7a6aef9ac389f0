"""Nobody answers at a later gate: the run expires behind its stops, and puts back what it only stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from recovery.journal import Gate, Outcome, RunState, StepStatus, down
from recovery.model import Fact, Fails, RunId, Unknown
from recovery.plan import Check, LogIs, OverrideAbsent, PeersFileAbsent, Silent, StopAgent
from recovery.policy import ApprovalPolicy, GateMode
from tests.builders.runs import CLUSTER
from tests.sweeps.judge import judge, judge_world
from tests.sweeps.stage import Stage
from tests.sweeps.stories import Story
from tests.sweeps.sweep import Played, at, play, sweep
from tests.sweeps.test_aborted import abort
from tests.sweeps.test_killed import kill, kill_with_the_act_on_its_way

EXPIRES_S = 120
MODES = {mode: ApprovalPolicy(gates=mode, expires_after_s=EXPIRES_S) for mode in GateMode}


@pytest.fixture(params=[GateMode.TWO, GateMode.EACH_RISKY], ids=str)
def mode(request: pytest.FixtureRequest) -> GateMode:
    """Where the settings have people asked."""
    asked: GateMode = request.param
    return asked


@cache
def gates_of(story: Story, mode: GateMode) -> tuple[str, ...]:
    """The gates of a story's plan, in their order."""
    return tuple(gate.id for gate in play(story, approval=MODES[mode]).state.gates)


def approved_until(gates: tuple[str, ...], last: int) -> Callable[[Gate], bool]:
    """Bob approves the gates before this one, and then goes home."""
    return lambda asked: gates.index(asked.id) < last


def unanswered(story: Story, mode: GateMode, last: int, **more: object) -> Played:
    """One play in which nobody answers at this gate."""
    answers = approved_until(gates_of(story, mode), last)
    return play(story, approval=MODES[mode], answers=answers, **more)  # type: ignore[arg-type]


def expired(stage: Stage, state: RunState) -> list[str]:
    """It must end, expired, and leave what the judge allows."""
    problems = judge(stage, state)
    if state.outcome is not Outcome.EXPIRED:
        problems.append(f"it is {state.outcome or 'not over'}, not expired")
    return problems


def later_gates(story: Story, mode: GateMode) -> Iterator[int]:
    """Every gate behind another one."""
    gates = gates_of(story, mode)
    if mode is GateMode.TWO or gates != gates_of(story, GateMode.TWO):
        yield from range(1, len(gates))


def test_who_was_only_stopped_runs_again(story: Story, mode: GateMode) -> None:
    """At every gate: expired, reminded once before, and the survivors run as they did unless it is said why not."""
    for last in later_gates(story, mode):
        played = unanswered(story, mode, last, judged_by=expired)
        state = played.state
        assert not played.problems, (story, mode, last, played.problems)
        stopped = [
            at.status
            for step, at in zip(state.plan.steps, state.steps, strict=True)
            if isinstance(step.action, StopAgent) and at.attempt
        ]
        assert len(state.reminded) == bool(down_at_the_gate(state)), (story, state.reminded)
        if last == 1 and stopped:
            assert StepStatus.UNDONE in stopped or all_blank(state), (story, stopped)


def down_at_the_gate(state: RunState) -> bool:
    """Whether anybody was down while people were waited for."""
    return bool(down(state)) or any(
        isinstance(step.action, StopAgent) and at.status is StepStatus.UNDONE
        for step, at in zip(state.plan.steps, state.steps, strict=True)
    )


def all_blank(state: RunState) -> bool:
    """Whether nobody had any data."""
    return all(check.last is None for check in state.plan.assumptions if isinstance(check, LogIs))


def test_it_expires_as_well_wherever_its_driver_is_killed(story: Story, mode: GateMode) -> None:
    """Killed at any point: the next driver ends it, nothing unread is left, and nobody is forgotten behind a stop."""
    for last in later_gates(story, mode):
        calm = unanswered(story, mode, last)

        def one(point: object, last: int = last, strike: object = kill) -> Played:
            return unanswered(story, mode, last, fault=at(point, strike), judged_by=expired)  # type: ignore[arg-type]

        # What comes before the question is the same in both modes.
        asked = f"GateOpened {gates_of(story, mode)[last]}"
        first = next(point.number for point in calm.points if point.what == asked)
        points = [point for point in calm.points if mode is GateMode.TWO or point.number >= first]
        sweep(points, one)
        in_flight = [point for point in points if point.when == "before act"]
        sweep(in_flight, lambda point, one=one: one(point, strike=kill_with_the_act_on_its_way))  # type: ignore[misc]


def test_it_may_be_aborted_while_it_expires(story: Story) -> None:
    """Aborted at any point from the question on: it ends, no trap is left, and who is down is named."""
    for last in later_gates(story, GateMode.TWO):
        calm = unanswered(story, GateMode.TWO, last)
        asked = next(point.number for point in calm.points if "GateOpened irreversible" in point.what)
        sweep(
            [point for point in calm.points if point.number >= asked],
            lambda point, last=last: unanswered(  # type: ignore[misc]
                story, GateMode.TWO, last, fault=at(point, abort), judged_by=ended
            ),
        )


def ended(stage: Stage, state: RunState) -> list[str]:
    """It must end, one way or the other."""
    problems = judge(stage, state)
    if state.outcome not in {Outcome.EXPIRED, Outcome.ABORTED}:
        problems.append(f"it is {state.outcome or 'not over'}")
    return problems


def test_an_expired_run_is_no_dead_end(story: Story, mode: GateMode) -> None:
    """Expired at any gate, then asked for again: the next run brings the cluster back, with the last key."""

    def judged(stage: Stage, state: RunState) -> list[str]:
        return list(dict.fromkeys(judge(stage, state) + judge_world(stage)))

    for last in later_gates(story, mode):
        gates = gates_of(story, mode)
        seen: list[str] = []

        def answers(
            asked: Gate, last: int = last, seen: list[str] = seen, gates: tuple[str, ...] = gates
        ) -> bool:
            """Bob is back for the second run."""
            seen.append(asked.id)
            return gates.index(asked.id) < last if asked.id in gates and len(seen) < 200 else True

        played = play(story, approval=MODES[mode], answers=answers, asks_again=True, judged_by=judged)
        assert not played.problems, (story, mode, last, played.problems)


@pytest.mark.parametrize(
    "answer", [Fails("not as it was"), Unknown("nobody answers")], ids=["fails", "unknown"]
)
def test_who_is_not_seen_to_be_as_before_stays_down_and_is_named(story: Story, answer: Fact) -> None:
    """Whichever of the checks before a start does not hold: that server stays down, the run ends and says so."""

    for last in later_gates(story, GateMode.TWO):
        for kind in (OverrideAbsent, PeersFileAbsent, LogIs, Silent):

            def spoil(stage: Stage, kind: type = kind, answer: Fact = answer) -> None:
                def sees(check: Check, run: RunId) -> Fact | None:
                    told = stage.store.folded(CLUSTER, run)
                    return answer if told.expired and isinstance(check, kind) else None

                stage.sees = sees

            played = unanswered(story, GateMode.TWO, last, prepare=spoil, judged_by=expired)
            assert not played.problems, (story, kind, played.problems)
            asked = [c for c in played.state.plan.assumptions if isinstance(c, kind)]
            if asked or kind is OverrideAbsent:
                again = [s for s in played.state.steps if s.status is StepStatus.UNDONE]
                assert not again, (story, kind)


def void_then_unanswered(story: Story, **more: object) -> Played:
    """The first run finds its approval void behind its stops; nobody answers the plan that takes its place."""
    once = iter([True])

    def prepare(stage: Stage) -> None:
        def sees(check: Check, run: RunId) -> Fact | None:
            return Fails("its log has grown") if run == "r1" and isinstance(check, LogIs) else None

        stage.sees = sees

    return play(
        story,
        approval=MODES[GateMode.TWO],
        answers=lambda _gate: next(once, False),
        prepare=prepare,
        **more,  # type: ignore[arg-type]
    )


def test_what_a_void_run_had_stopped_runs_again_when_its_successor_expires(story: Story) -> None:
    """Also where the driver is killed at any point of either run; a plan without such a line has nothing to void."""
    plain = play(story)
    if len(plain.state.gates) < 2 or not any(
        isinstance(each, LogIs) for each in plain.state.plan.assumptions
    ):
        return
    calm = void_then_unanswered(story, judged_by=expired)
    assert not calm.problems, (story, calm.problems)
    assert calm.state.replaces == "r1"
    if not all_blank(calm.state):
        assert any(at.status is StepStatus.UNDONE for at in calm.state.steps) or not calm.state.report.stopped
    sweep(calm.points, lambda point: void_then_unanswered(story, fault=at(point, kill), judged_by=expired))
