"""Staged, with a server in error and a follower that is no peer yet: both are stopped and started."""

from __future__ import annotations

import pytest

from recovery.journal import StepStatus
from recovery.plan import StepId
from tests.sweeps.stories import SORTED, Story
from tests.sweeps.sweep import Played, at, play, recovers, retries, sweep
from tests.sweeps.test_failed_steps import acts, cut, needed, refuse
from tests.sweeps.test_killed import kill


@pytest.fixture(params=[SORTED], ids=str)
def story(request: pytest.FixtureRequest) -> Story:
    """This one."""
    told: Story = request.param
    return told


def test_each_is_restarted_for_its_own_reason_and_nobody_else_is(calm: Played) -> None:
    """The one in error by the steps for errors, the one that is no peer by those for followers."""
    done = {step: calm.state.step_state(StepId(step)).status for step in RESTARTS}
    wanted = dict.fromkeys(RESTARTS, StepStatus.NOT_NEEDED)
    wanted |= dict.fromkeys(("stop-error-s1", "start-error-s1"), StepStatus.DONE)
    wanted |= dict.fromkeys(("stop-follower-s2", "start-follower-s2"), StepStatus.DONE)
    assert done == wanted


RESTARTS = tuple(
    f"{act}-{kind}-{name}"
    for kind in ("error", "follower")
    for act in ("stop", "start")
    for name in ("s1", "s2")
)


def test_the_next_driver_goes_on_wherever_the_first_was_killed(story: Story, calm: Played) -> None:
    """Killed at each point: who was sorted is restarted once, whoever drives."""
    sweep(calm.points, lambda point: play(story, fault=at(point, kill), judged_by=recovers(calm)))


def test_a_refused_restart_is_tried_again(story: Story, calm: Played) -> None:
    """Each act is refused: a person's retry goes on, every act took effect once."""
    sweep(
        needed(calm),
        lambda point: play(story, fault=at(point, refuse), person=retries, judged_by=recovers(calm)),
    )


def test_a_restart_whose_answer_was_lost_is_not_done_again(story: Story, calm: Played) -> None:
    """Cut off within the act or after it: nobody is asked, nothing is done twice."""
    points = [*acts(calm, "in act"), *acts(calm, "after act")]
    sweep(points, lambda point: play(story, fault=at(point, cut), judged_by=recovers(calm)))
