"""A majority gone for good: the freshest survivors become the new cluster, and nothing acknowledged is lost."""

import asyncio

from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from recovery.journal import Outcome, RunState, StepStatus
from recovery.plan import StepId
from recovery.service import Refused
from tests.integration.rig import open_rig
from tests.integration.scenarios.newest_on_one import last_key, leave_newest_on_one


async def test_one_survivor_of_three_and_two_new_machines(lab: Lab) -> None:
    """With two of three servers replaced by empty machines, all three vote in the end and the key is there."""
    await lab.up(servers=3)
    await lab.host("s1").run("consul kv put before 'still here'")
    await asyncio.gather(
        lab.replace("s2", address="198.51.100.22"), lab.replace("s3", address="198.51.100.23")
    )
    async with open_rig(lab) as rig:
        without_claim = await rig.propose()
        assert isinstance(without_claim, Refused)
        assert "--lost" in without_claim.refusal.next_step
        ended = await rig.recover(lost=("s2", "s3"))
        assert ended.outcome is Outcome.RECOVERED
        assert ended.after is not None
        assert ended.after.catalogue is not None
    leader = await lab.cluster.wait_for_leader()
    assert await lab.cluster.voters(leader) == {f"{host.address}:8300" for host in lab.servers}
    for host in lab.servers:
        assert await host.run("consul kv get before") == "still here\n"


async def test_the_newest_entries_on_one_of_three_are_kept_by_peers_json(lab: Lab) -> None:
    """Of five servers three are left and only one has the last acknowledged key: peers.json keeps it."""
    await leave_newest_on_one(lab)
    async with open_rig(lab) as rig:
        ended = await rig.recover(lost=("s4", "s5"), method="peers-json")
        assert ended.outcome is Outcome.RECOVERED
    assert await last_key(lab) == ["newest"] * 3


async def test_the_newest_entries_on_one_of_three_are_kept_by_starting(lab: Lab) -> None:
    """The smaller act that is proposed by itself keeps the last acknowledged key too."""
    await leave_newest_on_one(lab)
    async with open_rig(lab) as rig:
        ended = await rig.recover()
        assert ended.plan.procedure == "start"
        assert ended.outcome is Outcome.RECOVERED
    assert await last_key(lab) == ["newest"] * 3


async def test_a_peers_file_that_consul_ignored_is_seen_and_said(lab: Lab) -> None:
    """When raft/peers.info vanishes, Consul deletes peers.json unread: the start fails, in so many words."""
    await _one_survivor(lab)

    async def lose_the_sentinel(state: RunState) -> None:
        if state.waiting_gate is not None and state.waiting_gate.id == "start-s1":
            await lab.host("s1").run("rm /var/lib/consul/raft/peers.info")

    async with open_rig(lab, approvals={"gates": "each-risky"}) as rig:
        rig.before_approval = lose_the_sentinel
        waiting = await rig.recover(lost=("s2", "s3"))
        step = waiting.step_state(StepId("start-s1"))
        assert step.status in {StepStatus.FAILED, StepStatus.BLOCKED}
        assert "peers" in step.detail
        assert waiting.outcome is None


async def test_a_peers_file_that_consul_refused_is_seen_and_said(lab: Lab) -> None:
    """When the file is damaged before the start, nothing is started with it."""
    await _one_survivor(lab)

    async def damage(state: RunState) -> None:
        if state.waiting_gate is not None and state.waiting_gate.id == "start-s1":
            await lab.host("s1").run("echo '[' > /var/lib/consul/raft/peers.json")

    async with open_rig(lab, approvals={"gates": "each-risky"}) as rig:
        rig.before_approval = damage
        waiting = await rig.recover(lost=("s2", "s3"))
        step = waiting.step_state(StepId("start-s1"))
        assert step.status is StepStatus.BLOCKED
        assert "peers.json" in step.detail


async def _one_survivor(lab: Lab) -> None:
    await lab.up(servers=3)
    await asyncio.gather(lab.host("s2").kill(), lab.host("s3").kill())
    await stop_without_leave(lab.host("s1"))
