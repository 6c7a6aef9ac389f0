"""Servers that only need to be started are started, and nothing else is done."""

import asyncio

import pytest

from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from recovery.journal import Outcome
from recovery.plan import Risk
from recovery.service import NothingToDo
from tests.integration.rig import open_rig


async def test_a_healthy_cluster_has_nothing_to_do(lab: Lab) -> None:
    """A healthy cluster gets no plan, takes no lock, and no host is touched."""
    await lab.up(servers=3)
    async with open_rig(lab) as rig:
        assert isinstance(await rig.propose(), NothingToDo)
        assert await rig.core.store.active(rig.cluster) is None
    for host in lab.servers:
        assert await host.run("ls /var/lib/consul-recovery 2>/dev/null || echo untouched") == "untouched\n"


@pytest.mark.parametrize("stopped", [("s3",), ("s2", "s3")])
async def test_stopped_servers_are_started(lab: Lab, stopped: tuple[str, ...]) -> None:
    """One or two stopped servers are started, all vote again, and what was written is there."""
    await lab.up(servers=3)
    await lab.host("s1").run("consul kv put before 'still here'")
    await asyncio.gather(*(stop_without_leave(lab.host(name)) for name in stopped))
    async with open_rig(lab) as rig:
        ended = await rig.recover()
        assert ended.outcome is Outcome.RECOVERED
        assert all(step.risk is not Risk.IRREVERSIBLE for step in ended.plan.steps)
        leader = await lab.cluster.wait_for_leader()
        assert len(await lab.cluster.voters(leader)) == 3
    for host in lab.servers:
        assert await host.run("consul kv get before") == "still here\n"
