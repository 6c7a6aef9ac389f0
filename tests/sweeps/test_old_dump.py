"""An older dump of Redis is restored at each point: the journal is shorter than what was done (ADR 10)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from recovery.journal import Outcome, RunState
from recovery.model import RunId
from tests.builders.runs import CLUSTER
from tests.sweeps.judge import judge_world
from tests.sweeps.points import Point, host_of
from tests.sweeps.process import Process
from tests.sweeps.stage import Choice, Stage
from tests.sweeps.stories import Story
from tests.sweeps.sweep import Played, play, retries_then_aborts, sweep

RUN = RunId("r1")


@dataclass
class OldDump:
    """A dump from one point, put back at a later one, and what must follow from it."""

    taken: Point
    restored: Point
    dump: bytes = b""
    epoch: int = 0
    """The highest that a host had seen by then."""
    unknown: bool = False
    """Whether something was done that the restored journal does not tell."""
    confirmed: bool = False
    early: bool = False
    """Whether something was done before."""

    def fault(self, point: Point, stage: Stage, process: Process) -> None:
        """Dump and restore, in the first process."""
        if process is not stage.processes[0]:
            return
        if point == self.taken:
            self.dump = stage.store.dump()
        if point == self.restored:
            stage.store.restore(self.dump)
            told = stage.store.folded(CLUSTER, RUN)
            self.epoch = max(server.epoch for server in stage.world.agents.values())
            # Client agents are not asked what they have seen: restarted twice, one costs its own services.
            self.unknown = any(
                told.step_state(key.step).attempt < key.attempt
                for action, key in stage.acts
                if host_of(action) in stage.world.servers
            )

    def person(self, stage: Stage, state: RunState) -> Choice:
        """Confirm what the hosts know; where that leads nowhere, abort and ask anew."""
        if state.forgotten and not self.confirmed:
            self.confirmed = True
            if early := [str(key.step) for _, key in stage.acts if key.run == RUN and key.epoch > self.epoch]:
                self.early = True
                stage.problems.append(f"done before a person confirmed: {', '.join(early)}")
            return Choice.RETRY
        return retries_then_aborts(stage, state)

    def judge(self, stage: Stage, state: RunState) -> list[str]:
        """Whole again, and a person was asked wherever the hosts knew more."""
        # What the old driver had begun took effect although the restored journal no longer tells its start.
        problems = [
            problem for problem in judge_world(stage) if "before its start was recorded" not in problem
        ]
        if stage.aborted:
            # The card of an aborted run says what it holds.
            problems = [problem for problem in problems if "still held by" not in problem]
        if state.outcome is None and (state.aborted_by is not None or state.void):
            # What cannot be taken back waits for somebody at the host, and nothing is lost.
            kept = any("last" in server.keys for server in stage.world.servers.values())
            return [] if kept and not self.early else problems
        if self.unknown and not self.confirmed:
            problems.append("the hosts knew more than the journal, and nobody was asked")
        if state.outcome is None:
            problems.append(f"it waits: {state.waiting_step}")
        if self.unknown and state.outcome is Outcome.RECOVERED and not stage.retries:
            problems.append("it went on by itself")
        return problems


@pytest.mark.parametrize("records_back", [1, 3, None], ids=["the last line", "three lines", "nearly all"])
def test_with_an_old_dump_a_person_confirms_and_the_cluster_is_whole_in_the_end(
    story: Story, calm: Played, records_back: int | None
) -> None:
    """Nothing is done before somebody confirms what the hosts know, nothing twice, and the last key is there."""
    records = [point for point in calm.points if point.when == "after append"]

    def one(point: Point) -> Played:
        before = [record for record in records if record.number < point.number]
        old = OldDump(before[0] if records_back is None else before[-1 - records_back], point)
        return play(story, fault=old.fault, person=old.person, judged_by=old.judge, asks_again=True)

    points = [
        point
        for point in calm.points
        if point.when in {"in act", "after append"}
        and sum(record.number < point.number for record in records) > (records_back or 0)
        and not point.what.startswith("Ended")
    ]
    # Each point with one age of the dump; its neighbours have the others.
    ages = [1, 3, None]
    sweep([p for p in points if p.number % len(ages) == ages.index(records_back)], one)
