"""Somebody else (configuration management, say) starts a server that the run holds, at each point of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from recovery.heldback import kept_down
from recovery.journal import HeldServersSeen, RunState, StepStatus
from recovery.model import RunId, ServerName
from recovery.plan import StartAgent, StepId
from tests.builders.runs import CLUSTER
from tests.sweeps.judge import judge
from tests.sweeps.points import Point
from tests.sweeps.process import Process
from tests.sweeps.stage import Choice, Stage
from tests.sweeps.stories import Story
from tests.sweeps.sweep import Played, at, play, sweep

ACT_TAKES_S = 1.5
"""Longer than from one look at the held servers to the next one."""


@dataclass
class Rogue:
    """Starts one held server once; a person who is told stops it, and tries again; after that aborts."""

    name: ServerName
    struck: bool = False
    told: bool = False
    acts_before: int = 0
    begun: set[StepId] = field(default_factory=set)
    """Steps that were begun when it struck: their look at the world was before it."""

    def strike(self, point: Point, stage: Stage, process: Process) -> None:
        """Start it, if the run keeps it down now."""
        del process
        state = stage.store.folded(CLUSTER, RunId("r1"))
        server = stage.world.servers[self.name]
        if self.name not in kept_down(state) or server.running or server.damaged or not server.reachable:
            return
        self.struck = True
        self.acts_before = len(stage.acts)
        words = {told.together for told in state.plan.steps if told.id == point.step and told.together}
        self.begun = {
            step.id
            for step, told in zip(state.plan.steps, state.steps, strict=True)
            if told.status is StepStatus.DOING or step.id in point.what.split() or step.together in words
        }
        stage.world.start_past_the_hold(self.name)

    def person(self, stage: Stage, state: RunState) -> Choice:
        """Is told who runs, stops it, and says so."""
        if self.struck and not self.told:
            if not state.rogue:
                # The next look at the held servers is a second away.
                return Choice.WAIT
            self.told = True
            if [seen.server for seen in state.rogues] != [self.name]:
                stage.problems.append(f"told of {state.rogues}, it is {self.name} that runs")
            self._no_start_since(stage)
            # Retried too early: it looks, and goes nowhere.
            return Choice.RETRY
        if state.rogue and stage.world.servers[self.name].running:
            stage.world.stop_by_hand(self.name)
            return Choice.RETRY
        return Choice.ABORT if state.aborted_by is None else Choice.LEAVE

    def _no_start_since(self, stage: Stage) -> None:
        late = [
            key.step
            for action, key in stage.acts[self.acts_before :]
            if isinstance(action, StartAgent) and key.step not in self.begun
        ]
        if late:
            stage.problems.append(f"{', '.join(late)} was started after {self.name} was running")

    def judged(self, stage: Stage, state: RunState) -> list[str]:
        """It was seen, and the run did not end well behind anybody's back."""
        # A rogue may lead beside nobody's will; what the run itself did is judged.
        problems = [problem for problem in judge(stage, state) if "lead at once" not in problem]
        if state.outcome is None and state.waiting_step == state.plan.steps[-1]:
            # It had joined the new cluster, and took its vote along: the end is verified again, and says so.
            problems = [problem for problem in problems if "leaders in the end" not in problem]
        if len(stage.store.all_folded(CLUSTER)) > 1:
            # It read the peers.json: a plan that follows leaves those with the older peer set out, held.
            problems = [problem for problem in problems if "is still held by r1" not in problem]
        seen = [
            e for e in stage.store.read(CLUSTER, RunId("r1")) if isinstance(e, HeldServersSeen) and e.running
        ]
        if self.struck and not seen:
            problems.append(f"{self.name} ran, and nobody was told; it is {state.outcome}")
        return problems


@cache
def slow(story: Story) -> Played:
    """The undisturbed play with acts that take their time."""
    return play(story, act_takes_s=ACT_TAKES_S)


def test_a_held_server_that_somebody_else_starts_stops_the_run(story: Story) -> None:
    """Whichever, whenever: the run says who runs, starts nothing more, and goes on only once it is stopped."""
    calm, struck = slow(story), 0
    for name in story.world().servers:

        def one(point: Point, name: ServerName = name) -> Played:
            nonlocal struck
            rogue = Rogue(name)
            played = play(
                story,
                fault=at(point, rogue.strike),
                person=rogue.person,
                judged_by=rogue.judged,
                act_takes_s=ACT_TAKES_S,
            )
            struck += rogue.struck
            return played

        points = [point for point in calm.points if point.when in {"before append", "before act"}]
        # After the last look it is nobody's run any more.
        points = [point for point in points if not point.what.startswith("Ended")]
        sweep([point for point in points if name not in point.running and name not in point.startable], one)
    held = {name for name, _ in story_holds(calm)}
    assert struck or not held


def story_holds(calm: Played) -> list[tuple[str, str]]:
    """What the story's plan holds or fences."""
    return [(server, kind) for kind, server in calm.effects if kind in {"HoldAgent", "FenceAgent"}]
