"""A peers.json recovery that was cut short: one server leads alone, the others still go by the old set."""

import asyncio

from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from recovery.journal import Outcome
from recovery.plan import StartAgent
from tests.integration.rig import open_rig
from tests.integration.scenarios.old_cluster import done, given_up

GONE = ("s4", "s5", "s6")
LEFT = ("s1", "s2", "s3")


async def test_the_rest_joins_the_one_that_leads_alone(lab: Lab) -> None:
    """Aborted once there is a leader: the next plan starts the others beside it, with the old set that they have.

    Their logs end where the leader's did, so no snapshot tells them of the new set; that the leader adds them does.
    """
    await lab.up(servers=6)
    await lab.host("s1").run("consul kv put key kept")
    await asyncio.sleep(1.0)  # Until the key is on every server: equal logs are what this is about.
    await asyncio.gather(*(stop_without_leave(host) for host in lab.servers))
    await asyncio.gather(*(lab.host(name).kill() for name in GONE))
    async with open_rig(lab) as rig:
        run = await rig.proposed(lost=GONE, method="peers-json")
        aborted = await given_up(rig, run, when=done("leader"))
        assert aborted.state.outcome is Outcome.ABORTED
        first = next(s.action for s in aborted.state.plan.steps if isinstance(s.action, StartAgent))
    leader = await lab.cluster.wait_for_leader()
    assert leader.name == first.server
    assert len(await lab.cluster.voters(leader)) == 1
    async with open_rig(lab) as rig:
        back = await rig.recover()
        assert back.plan.procedure == "start"
        assert back.outcome is Outcome.RECOVERED, [s.detail for s in back.steps if s.status == "failed"]
        assert any("off until then" in line for line in back.plan.warnings)
    left = {f"{lab.host(name).address}:8300" for name in LEFT}
    assert await lab.cluster.voters(await lab.cluster.wait_for_leader()) == left
    for name in LEFT:
        assert await lab.host(name).run("consul kv get -stale key") == "kept\n"
