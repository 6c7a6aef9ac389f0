"""Somebody starts or stops an agent by hand at each point."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from recovery.model import ServerName
from tests.fakes.fake_world import FakeWorld
from tests.sweeps.points import Point
from tests.sweeps.process import Process
from tests.sweeps.stage import Fault, Stage
from tests.sweeps.stories import Story
from tests.sweeps.sweep import Played, at, play, retries_then_aborts, sweep

Deed = Callable[[FakeWorld, ServerName], None]


@pytest.mark.parametrize("deed", [FakeWorld.start_by_hand, FakeWorld.stop_by_hand], ids=["start", "stop"])
def test_a_hand_on_an_agent_makes_no_second_leader_and_loses_no_key(
    story: Story, calm: Played, deed: Deed
) -> None:
    """Whichever agent, whenever: never two leaders, the key is kept, and the run ends or asks."""
    moments = [point for point in calm.points if point.when in {"before append", "before act", "in act"}]

    for name in story.world().servers:

        def by_hand(point: Point, stage: Stage, process: Process, name: ServerName = name) -> None:
            if stage.world.servers[name].reachable:
                deed(stage.world, name)

        def one(point: Point, by_hand: Fault = by_hand) -> Played:
            return play(story, fault=at(point, by_hand), person=retries_then_aborts)

        sweep(moments, one)
