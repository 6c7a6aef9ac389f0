"""A host, or every host, cannot be reached from each point on: for a while, and for good."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from recovery.errors import InDoubt
from recovery.journal import RunState
from tests.fakes.fake_world import FakeServer
from tests.sweeps.judge import judge
from tests.sweeps.points import Point
from tests.sweeps.process import Process
from tests.sweeps.stage import Fault, Stage
from tests.sweeps.stories import Story
from tests.sweeps.sweep import Played, at, play, recovers, retries, retries_then_aborts, sweep

AWAY_S = 30.0
"""Longer than the engine's patience with what it cannot see, shorter than most steps may take."""


def away(servers: Iterable[FakeServer], *, for_s: float | None) -> None:
    """They answer us no more; they go on living."""
    gone = [server for server in servers if server.reachable]
    for server in gone:
        server.reachable = False
    if for_s is not None:
        for server in gone:
            asyncio.get_running_loop().call_later(for_s, setattr, server, "reachable", True)


def lose(*, everybody: bool, for_s: float | None) -> Fault:
    """The fault; an act that is under way there is cut off, and may or may not have happened."""

    def fault(point: Point, stage: Stage, process: Process) -> None:
        hosts = stage.world.agents
        lost = hosts.values() if everybody or point.host is None else [hosts[point.host]]
        away(lost, for_s=for_s)
        if point.when in {"in act", "after act"} and point.host is not None:
            raise InDoubt(f"{point.host}: the connection was lost; it may have happened")

    return fault


def says_where(stage: Stage, state: RunState) -> list[str]:
    """Whoever is asked is told which host it is about."""
    problems = judge(stage, state)
    waiting = state.waiting_step
    if state.outcome is None and waiting is not None:
        detail = state.step_state(waiting.id).detail
        if not any(server.name in detail for server in stage.world.agents.values() if not server.reachable):
            problems.append(f"it waits at {waiting.id} without naming the host that is away: {detail}")
    return problems


def test_a_host_that_was_away_for_a_while_costs_nothing_but_time(story: Story, calm: Played) -> None:
    """Away at each point and back again: with a person's retries the run ends well, every act took effect once."""
    strike = lose(everybody=False, for_s=AWAY_S)
    sweep(
        [point for point in calm.points if point.host is not None],
        lambda point: play(story, fault=at(point, strike), person=retries, judged_by=recovers(calm)),
    )


def test_a_bot_that_was_cut_off_for_a_while_goes_on(story: Story, calm: Played) -> None:
    """No host answers from each point on, then all do: the run ends well, every act took effect once."""
    strike = lose(everybody=True, for_s=AWAY_S)
    sweep(
        calm.points,
        lambda point: play(story, fault=at(point, strike), person=retries, judged_by=recovers(calm)),
    )


def test_a_host_that_is_away_for_good_ends_in_a_clear_state(story: Story, calm: Played) -> None:
    """Never back: the run ends, or waits and says for which host; nothing is there that the journal does not say."""
    strike = lose(everybody=False, for_s=None)
    sweep(
        [point for point in calm.points if point.host is not None],
        lambda point: play(story, fault=at(point, strike), person=retries_then_aborts, judged_by=says_where),
    )
