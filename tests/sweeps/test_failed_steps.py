"""Each step fails: it is tried again, or the run is stopped and taken back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from recovery.errors import HostRefused, InDoubt
from recovery.journal import Outcome, RunState
from recovery.plan import Undo
from tests.sweeps.judge import judge
from tests.sweeps.points import Killed, Point
from tests.sweeps.process import Process
from tests.sweeps.stage import Choice, Fault, Stage
from tests.sweeps.stories import Story
from tests.sweeps.sweep import Judge, Played, at, nobody_is_asked, play, recovers, retries, sweep, undisturbed


def refuse(point: Point, stage: Stage, process: Process) -> None:
    raise HostRefused(f"{point.host}: no space left; nothing was changed")


def cut(point: Point, stage: Stage, process: Process) -> None:
    raise InDoubt(f"{point.host}: the connection was cut; it may have happened")


def acts(calm: Played, when: str) -> list[Point]:
    """The points of acts that go to a host."""
    return [point for point in calm.points if point.when == when and point.host is not None]


def needed(calm: Played) -> list[Point]:
    """Before each act that the run does not go on without."""
    optional = {step.id for step in calm.state.plan.steps if step.optional}
    return [point for point in acts(calm, "before act") if point.step not in optional]


def aborts(stage: Stage, state: RunState) -> Choice:
    """A person who stops the run, and tries an undo that failed again."""
    return Choice.ABORT if state.aborted_by is None else Choice.RETRY


def ends_aborted(stage: Stage, state: RunState) -> list[str]:
    problems = judge(stage, state)
    if state.outcome is not Outcome.ABORTED:
        problems.append(f"it is {state.outcome or 'not over'}, not aborted")
    return problems


def test_a_step_that_was_refused_is_tried_again_and_the_run_goes_on(story: Story, calm: Played) -> None:
    """A host refuses, a person chooses to retry: the run ends well, every act took effect once."""
    sweep(
        acts(calm, "before act"),
        lambda point: play(story, fault=at(point, refuse), person=retries, judged_by=recovers(calm)),
    )


def test_an_act_whose_answer_was_lost_is_not_done_again(story: Story, calm: Played) -> None:
    """Cut off within the act or right after it: the world says that it happened, and nobody has to be asked."""
    sweep(
        [*acts(calm, "in act"), *acts(calm, "after act")],
        lambda point: play(story, fault=at(point, cut), person=nobody_is_asked, judged_by=recovers(calm)),
    )


def test_an_act_that_was_cut_off_before_it_began_is_asked_about(story: Story, calm: Played) -> None:
    """Cut off and nothing happened: it is never taken for done; a person's retry does it."""
    sweep(
        acts(calm, "before act"),
        lambda point: play(story, fault=at(point, cut), person=retries, judged_by=recovers(calm)),
    )


def test_a_run_stopped_at_a_failed_step_leaves_what_it_says(story: Story, calm: Played) -> None:
    """A host refuses, a person aborts: what would be a trap is taken back, the rest stands in the journal."""
    sweep(
        needed(calm),
        lambda point: play(story, fault=at(point, refuse), person=aborts, judged_by=ends_aborted),
    )


def both(first: Fault, second: Fault) -> Fault:
    """Two faults in one play."""

    def fault(point: Point, stage: Stage, process: Process) -> None:
        first(point, stage, process)
        second(point, stage, process)

    return fault


def kill(point: Point, stage: Stage, process: Process) -> None:
    raise Killed


@dataclass(frozen=True, slots=True)
class Abort:
    """A play that is stopped at a failed step and takes something back."""

    failed: Point
    played: Played
    undoing: tuple[Point, ...]


@cache
def aborted_plays(story: Story) -> tuple[Abort, ...]:
    """One play for each failed step behind which something is taken back."""
    found: list[Abort] = []
    for failed in needed(undisturbed(story)):
        played = play(story, fault=at(failed, refuse), person=aborts, judged_by=ends_aborted)
        undoing = tuple(p for p in played.points if p.what.startswith(("undo ", "Undo")))
        if undoing:
            found.append(Abort(failed, played, undoing))
    return tuple(found)


def sweep_undo(story: Story, strike: Fault, whens: frozenset[str]) -> None:
    """Let something happen at each point of each undo."""
    for abort in aborted_plays(story):

        def judged(stage: Stage, state: RunState, abort: Abort = abort) -> list[str]:
            problems = judge(stage, state, effects=abort.played.effects)
            return problems + ends_aborted(stage, state)

        def one(point: Point, abort: Abort = abort, judged: Judge = judged) -> Played:
            fault = both(at(abort.failed, refuse), at(point, strike))
            return play(story, fault=fault, person=aborts, judged_by=judged)

        sweep([point for point in abort.undoing if point.when in whens], one)


def test_what_is_taken_back_on_an_abort_is_swept(story: Story, calm: Played) -> None:
    """Where a plan has steps whose undo belongs to every abort, the sweeps of undo have points."""
    traps = [s for s in calm.state.plan.steps if isinstance(s.rollback, Undo) and s.rollback.on_abort]
    assert bool(aborted_plays(story)) == bool(traps)


def test_an_undo_is_finished_by_the_next_driver(story: Story, calm: Played) -> None:
    """Killed at each point of an undo: the next driver undoes it, and no more often than once."""
    sweep_undo(story, kill, frozenset({"before append", "after append", "before act", "in act", "after act"}))


def test_an_undo_that_was_refused_waits_for_a_person_and_is_done_then(story: Story, calm: Played) -> None:
    """A refused undo is stuck, says so, and is done when a person has it tried again."""
    sweep_undo(story, refuse, frozenset({"before act"}))


def test_an_undo_whose_answer_was_lost_is_not_done_again(story: Story, calm: Played) -> None:
    """Cut off within an undo or right after it: it is proven by its own checks, once."""
    sweep_undo(story, cut, frozenset({"in act", "after act"}))
