"""Nobody answers the second question: what was only stopped runs again, and the way on is open."""

from __future__ import annotations

import asyncio

from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from recovery.engine import drive_run
from recovery.journal import GateExpired, Outcome, Reminded, RunState, StepStatus, down
from recovery.model import RunId
from recovery.plan import StepId
from recovery.ports import LeaseHeld
from recovery.service import RunProposed
from tests.integration.rig import BOB, Rig, open_rig

LOST = ("s3", "s4", "s5")
EXPIRY_S = 60


async def test_an_unanswered_second_approval_starts_the_survivor_again(lab: Lab) -> None:
    """Expired behind the stops: reminded, who ran runs again, who was stopped stays so; then it is planned again."""
    await lab.up(servers=5)
    await lab.host("s1").run("consul kv put before 'still here'")
    await stop_without_leave(lab.host("s2"))
    await asyncio.gather(*(lab.host(name).kill() for name in LOST))
    # A restarted one knows nobody; a lone agent needs more than a minute to notice that all others are dead.
    await lab.host("s1").run("systemctl kill -s KILL consul; systemctl restart consul")
    async with open_rig(lab, approvals={"expiry_s": EXPIRY_S}) as rig:
        run = await rig.proposed(lost=LOST)
        ended = await _unanswered(rig, run)
        assert ended.outcome is Outcome.EXPIRED, ended.waiting_step
        told = [type(event) for event in rig.journal.events]
        assert told.count(Reminded) == 1
        assert told.index(Reminded) < told.index(GateExpired)
        assert ended.step_state(StepId("stop-s1")).status is StepStatus.UNDONE
        assert down(ended) == ("s2",)
        await _runs_as_before(lab, "s1")
        await lab.host("s2").run("! systemctl is-active --quiet consul")
        for name in ("s1", "s2"):
            await lab.host(name).run("test ! -e /var/lib/consul/raft/peers.json")

        report = await rig.status()
        assert f"s2 is held by run {run} (expired)" in report.diagnosis.headline
        assert "by itself" not in f"{report.diagnosis.headline} {report.diagnosis.advice}"
        view = await rig.core.service.show(rig.cluster, run)
        again = await rig.core.service.propose_again(view, by=BOB, origin="terminal")
        assert isinstance(again, RunProposed), getattr(again, "refusal", again)
        assert [claim.node_id for claim in again.view.state.plan.claims] == [
            claim.node_id for claim in ended.plan.claims
        ]
        await rig.core.service.abort(rig.cluster, again.view.run, by=BOB)
        await rig.drive(again.view.run)
        assert (await rig.recover(lost=LOST)).outcome is Outcome.RECOVERED
    await lab.cluster.wait_for_leader()
    for name in ("s1", "s2"):
        assert await lab.host(name).run("consul kv get before") == "still here\n"


async def _unanswered(rig: Rig, run: RunId) -> RunState:
    """Bob approves the plan, and nobody anything after it."""
    driving = asyncio.create_task(
        drive_run(
            rig.cluster,
            run,
            owner=rig.core.owner,
            world=rig.core.worlds[rig.cluster],
            store=rig.core.store,
            notifier=rig.journal,
            clock=rig.core.clock,
        )
    )
    try:
        while (state := await rig.state(run)).waiting_gate is None:
            await rig.core.store.wait(rig.cluster, run, length=state.length, timeout_s=1.0)
        await rig.approve(run, state)
        ended = await driving
        assert not isinstance(ended, LeaseHeld), ended
        return ended
    finally:
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)


async def _runs_as_before(lab: Lab, name: str) -> None:
    """Active, not held, and it would come up at a reboot."""
    host = lab.host(name)
    await host.run("systemctl is-active --quiet consul")
    await host.run("test ! -e /var/lib/consul-recovery/hold")
    await host.run("! systemctl cat consul | grep -q consul-recovery-hold")
    await host.run("systemctl is-enabled --quiet consul")
