"""Runs of the staged bootstrap that end before their end, on old Consul: what is left, said and true, and what heals.

On the stand-in of 0.6.4, or on the real program that LAB_CONSUL names.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from bot import text
from lab.breakage import leave_stopped
from lab.datacentre import Lab
from recovery.journal import FINISHED, Outcome, RunState, StepStatus
from recovery.model import RunId, ServerName
from recovery.plan import RemoveOverride, StepId
from recovery.runs import RunView
from recovery.service import NothingToDo, RunProposed
from tests.builders.left_behind import untold
from tests.integration.rig import BOB, Rig, open_rig
from tests.integration.scenarios.old_cluster import (
    ALONE,
    OVERRIDE,
    formed_with,
    given_up,
    left_one_after_the_other,
    on_hosts,
    proposed_in_a_hurry,
    start_all,
)

S3 = ServerName("s3")


def over(*steps: str) -> Callable[[RunState], bool]:
    """Whether these steps of the run are verified, or were found true before they began."""
    return lambda state: all(state.step_state(StepId(step)).status in FINISHED for step in steps)


async def aborted(rig: Rig, *steps: str, unlock: bool = False) -> RunView:
    """Propose the staged bootstrap and give it up after these steps: what is said to be left is what is left.

    Aborted, no override stays. Unlocked, nothing is taken back.
    """
    before = await on_hosts(rig)
    run = await rig.proposed()
    assert (await rig.state(run)).plan.procedure == "staged"
    view = await given_up(rig, run, when=over(*steps), unlock=unlock)
    assert view.state.outcome is (Outcome.UNLOCKED if unlock else Outcome.ABORTED)
    now = await on_hosts(rig)
    assert untold(view, before, now) == []
    overridden = {name: host.override_by for name, host in now.items() if host.override_by}
    on_now = unlock and status(view, "override-s3") is StepStatus.DONE is not status(view, "override-off-s3")
    assert overridden == ({"s3": view.run} if on_now else {})
    return view


def status(view: RunView, step: str) -> StepStatus:
    """Where a step stands."""
    return view.state.step_state(StepId(step)).status


async def healed(rig: Rig, procedure: str, *, method: str | None = None) -> RunId:
    """The next run is that procedure, and it ends well."""
    run = await rig.proposed(method=method)
    ended = await rig.drive(run)
    assert ended.plan.procedure == procedure
    assert ended.outcome is Outcome.RECOVERED, ended.waiting_step
    return run


async def test_given_up_after_each_stage(lab: Lab, old_consul: Path) -> None:
    """What the card says is stopped, held, overridden and archived is so on the hosts, and nothing else is.

    One cluster, one run after the other; each goes on from what the one before has left. Aborted, no override
    stays. Unlocked, nothing is taken back: a run that finds the override takes it off.
    """
    await left_one_after_the_other(lab, old_consul)
    async with open_rig(lab) as rig:
        await lab.host("s2").run("systemctl start consul")
        view = await aborted(rig, "archive-s1", "archive-s2", "archive-s3")
        assert status(view, "stop-s2") is StepStatus.DONE
        view = await aborted(rig, "override-s3")
        assert status(view, "override-s3") is StepStatus.UNDONE
        view = await aborted(rig, "start-s3")
        if status(view, "start-s3") is not StepStatus.UNDONE:
            # It was seen to lead by then, so it was left running.
            await healed(rig, "start")
            await leave_stopped(lab)
        view = await aborted(rig, "leader", unlock=True)
        run = await healed(rig, "remove-override", method="remove-override")
        (step,) = (await rig.state(run)).plan.steps
        assert step.action == RemoveOverride(S3)
        assert view.run in step.title
        assert await lab.host("s3").run(OVERRIDE) == ""
        await healed(rig, "start")
        await formed_with(lab, "first", "last")

        await leave_stopped(lab)
        view = await aborted(rig, "stop-leader-s3")
        assert status(view, "override-off-s3") is StepStatus.DONE
        await healed(rig, "start")
        assert isinstance(await rig.propose(), NothingToDo)
    await formed_with(lab, "first", "last")


@pytest.mark.soak
@pytest.mark.parametrize("unlock", [False, True], ids=["aborted", "unlocked"])
@pytest.mark.parametrize(
    "step",
    [
        *("hold-s1", "stop-s1", "archive-s1", "override-s3", "start-s3", "leader", "start-s1", "sort-s1"),
        *("start-error-s1", "start-follower-s2", "override-off-s3", "stop-leader-s3", "new-leader"),
        # With the last step, verify, the run is over: nobody can give it up after that.
        "start-again-s3",
    ],
)
async def test_given_up_after_any_step(lab: Lab, old_consul: Path, step: str, *, unlock: bool) -> None:
    """What is said to be left is what is left, and what is proposed next heals, until there is nothing to do."""
    await left_one_after_the_other(lab, old_consul)
    await start_all(lab)
    async with open_rig(lab) as rig:
        await aborted(rig, step, unlock=unlock)
        if step == "start-s3" and unlock:
            # It was started alone and is about to lead: a plan that is made before that would find it leading.
            await lab.cluster.wait_for_leader()
        for _ in range(3):
            if isinstance(answer := await rig.propose(), NothingToDo):
                break
            assert isinstance(answer, RunProposed), answer
            ended = await rig.drive(answer.view.run)
            assert ended.outcome is Outcome.RECOVERED, ended.waiting_step
    await formed_with(lab, "first", "last")


async def test_a_follower_that_does_not_become_a_peer(lab: Lab, old_consul: Path) -> None:
    """s1 hears of nobody, also after its second start: a person is asked, with the reason, and the abort is told.

    Heard again, it comes back with the first command that is shown for it.
    """
    await left_one_after_the_other(lab, old_consul)
    s1 = lab.host("s1")
    await s1.run(ALONE.format("add"))
    async with open_rig(lab) as rig:
        before = await on_hosts(rig)
        run = await proposed_in_a_hurry(rig, {"start-error-s1": 6})
        state = await rig.drive(run)
        waits = state.waiting_step
        assert waits is not None
        assert waits.id == "start-error-s1"
        assert state.step_state(StepId("sort-s1")).status is StepStatus.FAILED
        assert state.step_state(StepId("sort-s2")).status in FINISHED
        asked = text.run(await rig.core.service.show(rig.cluster, run), now_s=0.0, unit="consul")
        why = "not a voter in the configuration of the leader s3"
        assert f"Start s1 again, and wait until it is a peer: failed. {why}" in asked
        assert (await on_hosts(rig))["s3"].override_by == run

        await rig.core.service.abort(rig.cluster, run, by=BOB)
        assert (await rig.drive(run)).outcome is Outcome.ABORTED
        now = await on_hosts(rig)
        view = await rig.core.service.show(rig.cluster, run)
        assert untold(view, before, now) == []
        assert not any(host.override_by for host in now.values())
        assert "s1: an archive of its state, kept until somebody deletes it, started: FAILED" in text.run(
            view, now_s=0.0, unit="consul"
        )
        await s1.run(ALONE.format("delete"))
        # It is heard again, but has joined nobody: the first command of the rest by hand, as the terminal shows it.
        shown = text.run(view, now_s=0.0, unit="consul").splitlines()
        by_hand = next(line for line in shown if line.startswith("  s1: consul "))
        await s1.run(by_hand.removeprefix("  s1: "))
        await lab.cluster.wait_until_formed()
    await formed_with(lab, "first", "last")
