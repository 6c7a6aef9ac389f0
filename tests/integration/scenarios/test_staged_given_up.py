"""Runs of the staged bootstrap that end before their end, on old Consul: what is left, said and true, and what heals.

On the stand-in of 0.6.4, or on the real program that LAB_CONSUL names.
"""

from collections.abc import Callable
from pathlib import Path

from lab.breakage import leave_stopped
from lab.datacentre import Lab
from recovery.journal import FINISHED, Outcome, RunState, StepStatus
from recovery.model import RunId
from recovery.plan import RemoveOverride, StepId
from recovery.service import RunView
from tests.builders.left_behind import untold
from tests.integration.rig import Rig, open_rig
from tests.integration.scenarios.old_cluster import (
    OVERRIDE,
    formed_with,
    given_up,
    left_one_after_the_other,
    on_hosts,
)


def over(*steps: str) -> Callable[[RunState], bool]:
    """Whether these steps of the run are verified, or were found true before they began."""
    return lambda state: all(state.step_state(StepId(step)).status in FINISHED for step in steps)


async def aborted(rig: Rig, *steps: str, unlock: bool = False) -> RunView:
    """Propose the staged bootstrap and give it up after these steps: what is said to be left is what is left."""
    before = await on_hosts(rig)
    run = await rig.proposed()
    assert (await rig.state(run)).plan.procedure == "staged"
    view = await given_up(rig, run, when=over(*steps), unlock=unlock)
    assert view.state.outcome is (Outcome.UNLOCKED if unlock else Outcome.ABORTED)
    now = await on_hosts(rig)
    assert untold(view, before, now) == []
    overridden = {name: host.override_by for name, host in now.items() if host.override_by}
    assert overridden == ({"s3": view.run} if unlock else {})
    return view


def status(view: RunView, step: str) -> StepStatus:
    """Where a step stands."""
    return view.state.step_state(StepId(step)).status


async def healed(rig: Rig, procedure: str) -> RunId:
    """The next run is that procedure, and it ends well."""
    run = await rig.proposed()
    ended = await rig.drive(run)
    assert ended.plan.procedure == procedure
    assert ended.outcome is Outcome.RECOVERED, ended.waiting_step
    return run


async def test_given_up_after_each_stage(lab: Lab, old_consul: Path) -> None:
    """What the card says is stopped, held, overridden and archived is so on the hosts, and nothing else is.

    One cluster, one run after the other; each goes on from what the one before has left. Aborted, no override
    stays. Unlocked, nothing is taken back: the next run finds the override, and takes it off.
    """
    await left_one_after_the_other(lab, old_consul)
    async with open_rig(lab) as rig:
        await lab.host("s2").run("systemctl start consul")
        view = await aborted(rig, "archive-s1", "archive-s2", "archive-s3")
        assert status(view, "stop-s2") is StepStatus.DONE
        view = await aborted(rig, "override-s3")
        assert status(view, "override-s3") is StepStatus.UNDONE
        view = await aborted(rig, "start-s3")
        # It is stopped again, unless it was seen to lead by then.
        if status(view, "start-s3") is StepStatus.UNDONE:
            view = await aborted(rig, "leader")
        assert status(view, "start-s3") is StepStatus.DONE
        await healed(rig, "start")
        await formed_with(lab, "first", "last")

        await leave_stopped(lab)
        view = await aborted(rig, "start-s1", "start-s2", unlock=True)
        await lab.cluster.wait_until_formed()
        assert await lab.host("s3").run(OVERRIDE) != ""
        run = await healed(rig, "remove-override")
        (step,) = (await rig.state(run)).plan.steps
        assert step.action == RemoveOverride(step.targets[0])
        assert view.run in step.title
    await formed_with(lab, "first", "last")
