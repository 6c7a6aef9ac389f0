"""The staged bootstrap on old Consul: the stand-in of 0.6.4, or the real program that LAB_CONSUL names.

Only the program differs. The sampler that watches every test fails it when two servers lead at once.
"""

import asyncio
from pathlib import Path

from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from recovery.diagnosis import PeersEmptied
from recovery.journal import Outcome, StepStatus
from recovery.plan import OverrideExpect, StepId
from recovery.service import Refused
from tests.integration.rig import open_rig
from tests.integration.scenarios.old_cluster import (
    ALONE,
    OVERRIDE,
    done,
    driven,
    formed_with,
    left_one_after_the_other,
    put,
)


async def test_three_servers_stopped_one_after_the_other(lab: Lab, old_consul: Path) -> None:
    """One leader, never two; never the stalest log as the truth; the last key on all.

    The bot is killed in the middle, and another goes on. s1 hears of no leader at first: it is sorted as an
    error, stopped and started. The client agent is a member again in the end.
    """
    await left_one_after_the_other(lab, old_consul, clients=1)
    await asyncio.gather(*(host.run("systemctl --no-block start consul") for host in lab.servers))
    async with open_rig(lab) as rig:
        run = await rig.proposed()
        state = await rig.state(run)
        assert state.plan.procedure == "staged"
        assert [s.action.server for s in state.plan.steps if isinstance(s.action, OverrideExpect)] == ["s3"]
        assert isinstance((await rig.status()).diagnosis, PeersEmptied)
        await driven(rig, run, once=done("override-s3"))
        s1 = lab.host("s1")
        await s1.run(ALONE.format("add"))
        ended = await driven(
            rig, run, once=done("stop-error-s1"), then=lambda: s1.run(ALONE.format("delete"))
        )
        assert ended.outcome is Outcome.RECOVERED
        for step in ("start-error-s1", "stop-leader-s3", "start-again-s3", "start-client-c1"):
            assert ended.step_state(StepId(step)).status is StepStatus.DONE, step
        assert ended.step_state(StepId("stop-error-s2")).status is StepStatus.NOT_NEEDED
    await formed_with(lab, "first", "last")


async def test_nobody_can_lead_alone(lab: Lab, old_consul: Path) -> None:
    """The peers were emptied while every log still has all three: peers.json in its old form heals."""
    await lab.up(servers=3, consul=old_consul)
    await put(lab.host("s1"), "last")
    await asyncio.sleep(1.0)  # The last key is on every server then: which of them leads does not matter.
    await asyncio.gather(*(stop_without_leave(host) for host in lab.servers))
    await asyncio.gather(*(host.run("echo null >/var/lib/consul/raft/peers.json") for host in lab.servers))
    async with open_rig(lab) as rig:
        ended = await driven(rig, await rig.proposed())
        assert ended.plan.procedure == "peers-json"
        assert any("No staged bootstrap" in line for line in ended.report.findings)
        assert ended.outcome is Outcome.RECOVERED
    await formed_with(lab, "last")


async def test_the_last_to_leave_is_dead(lab: Lab, old_consul: Path) -> None:
    """Refused without a claim; with it peers.json in its old form makes the other two the new set."""
    await left_one_after_the_other(lab, old_consul)
    await lab.host("s3").kill()
    async with open_rig(lab) as rig:
        unclaimed = await rig.propose()
        assert isinstance(unclaimed, Refused)
        assert "--lost s3" in unclaimed.refusal.next_step
        ended = await driven(rig, await rig.proposed(lost=("s3",)))
        assert ended.plan.procedure == "peers-json"
        assert ended.outcome is Outcome.RECOVERED
    await formed_with(lab, "first", "last", servers=("s1", "s2"))


async def test_a_leader_that_does_not_stay(lab: Lab, old_consul: Path) -> None:
    """It dies as soon as it was started: the override goes, and the plan with peers.json that follows heals."""
    await left_one_after_the_other(lab, old_consul)
    s3 = lab.host("s3")
    async with open_rig(lab) as rig:
        first = await driven(
            rig, await rig.proposed(), once=done("start-s3"), then=lambda: stop_without_leave(s3)
        )
        assert first.outcome is Outcome.VOID
        assert await s3.run(OVERRIDE) == ""
        follows = await rig.core.service.active(rig.cluster)
        assert follows is not None
        assert follows.state.plan.procedure == "peers-json"
        ended = await driven(rig, follows.run)
        assert ended.outcome is Outcome.RECOVERED
    await formed_with(lab, "first", "last")
