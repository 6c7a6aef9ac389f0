"""A fenced server stays down until its fence is lifted, whatever else happens to its host."""

from collections.abc import Callable

import pytest

from lab.datacentre import Lab
from recovery.adapters.collect import Probe
from recovery.adapters.world import ClusterWorld
from recovery.errors import HostRefused
from recovery.model import Fails, Holds, RunId, ServerName
from recovery.plan import AgentFenced, AgentStopped, FenceAgent, HoldAgent, LiftFence, StartAgent
from recovery.ports import ActKey

pytestmark = pytest.mark.lab

KeyMaker = Callable[..., ActKey]
S3 = ServerName("s3")
RUN = RunId("r1")


async def test_a_fence_stops_disables_and_bars(lab: Lab, world: ClusterWorld, key: KeyMaker) -> None:
    """All three parts of a fence are seen on the host before it counts as one."""
    assert isinstance(await world.check(AgentFenced(S3), run=RUN), Fails)
    await world.perform(FenceAgent(S3), key=key("fence"), timeout_s=60)
    assert isinstance(await world.check(AgentFenced(S3), run=RUN), Holds)
    assert isinstance(await world.check(AgentStopped(S3), run=RUN), Holds)
    assert (await lab.host("s3").run("systemctl is-enabled consul", check=False)).strip() == "disabled"


async def test_a_fenced_server_does_not_come_up_by_hand_nor_by_a_reboot(
    lab: Lab, probe: Probe, world: ClusterWorld, key: KeyMaker
) -> None:
    """Not by systemctl start, not by enabling it and rebooting the host."""
    host = lab.host("s3")
    await world.perform(FenceAgent(S3), key=key("fence"), timeout_s=60)
    await host.run("systemctl start consul; systemctl restart consul", check=False)
    assert not (await probe.hosts[S3].look()).running
    await host.run("systemctl --quiet enable consul; sync")
    await host.reboot()
    view = await probe.hosts[S3].look()
    assert (view.running, view.fenced_by) == (False, "r1")


async def test_a_fence_without_its_condition_is_none(lab: Lab, world: ClusterWorld, key: KeyMaker) -> None:
    """Somebody took the drop-in away: the check sees it, and says what is missing."""
    await world.perform(FenceAgent(S3), key=key("fence"), timeout_s=60)
    await lab.host("s3").run("rm /etc/systemd/system/consul.service.d/*; systemctl daemon-reload")
    fact = await world.check(AgentFenced(S3), run=RUN)
    assert isinstance(fact, Fails)
    assert fact.observed == (
        "no fence is in force: its drop-in /etc/systemd/system/consul.service.d/zz-consul-recovery-fence.conf is gone"
    )


async def test_our_own_start_does_not_pass_a_fence(lab: Lab, world: ClusterWorld, key: KeyMaker) -> None:
    """A fence is lifted by its own act, never in passing."""
    await world.perform(FenceAgent(S3), key=key("fence"), timeout_s=60)
    with pytest.raises(HostRefused, match="fenced by r1; lift the fence first"):
        await world.perform(StartAgent(S3), key=key("start"), timeout_s=30)


async def test_a_lifted_fence_leaves_the_server_stopped_and_enabled_as_it_was(
    lab: Lab, probe: Probe, world: ClusterWorld, key: KeyMaker
) -> None:
    """Lifting starts nothing; a hold stays in force; afterwards the server can join its cluster again."""
    await world.perform(HoldAgent(S3), key=key("hold"), timeout_s=30)
    await world.perform(FenceAgent(S3), key=key("fence"), timeout_s=60)
    await world.perform(LiftFence(S3), key=key("lift"), timeout_s=30)
    view = await probe.hosts[S3].look()
    assert (view.running, view.fenced_by, view.enabled, view.held_by) == (False, "", True, "r1")
    await world.perform(StartAgent(S3), key=key("start"), timeout_s=30)
    await lab.cluster.wait_until_formed()


async def test_a_second_fence_remembers_what_was_enabled_before_the_first(
    lab: Lab, probe: Probe, world: ClusterWorld, key: KeyMaker
) -> None:
    """A fence over a fence must not make the server lose its place in the boot."""
    await world.perform(FenceAgent(S3), key=key("fence"), timeout_s=60)
    await world.perform(FenceAgent(S3), key=key("fence", run="r2"), timeout_s=60)
    assert (await probe.hosts[S3].look()).fenced_by == "r2"
    await world.perform(LiftFence(S3), key=key("lift", run="r2"), timeout_s=30)
    assert (await probe.hosts[S3].look()).enabled
