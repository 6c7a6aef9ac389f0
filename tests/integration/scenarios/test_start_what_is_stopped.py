"""Servers that only need to be started are started, and nothing else is done."""

import asyncio

import pytest

from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from recovery.journal import Outcome
from recovery.plan import Risk
from recovery.service import NothingToDo, Refused
from tests.integration.rig import Rig, open_rig


async def test_a_healthy_cluster_has_nothing_to_do(lab: Lab) -> None:
    """A healthy cluster gets no plan, takes no lock, and no host is touched; nor is it for a staged bootstrap."""
    await lab.up(servers=3)
    async with open_rig(lab) as rig:
        assert isinstance(await rig.propose(), NothingToDo)
        await _is_refused_the_staged_bootstrap(rig)
        # Nor where nobody leads: it is this Consul that forbids it, not the cluster's health.
        await asyncio.gather(*(stop_without_leave(lab.host(name)) for name in ("s2", "s3")))
        await _is_refused_the_staged_bootstrap(rig)
    for host in lab.servers:
        assert await host.run("ls /var/lib/consul-recovery 2>/dev/null || echo untouched") == "untouched\n"
        assert await host.run("systemctl show --property=DropInPaths --value consul") == "\n"


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


async def _is_refused_the_staged_bootstrap(rig: Rig) -> None:
    """From 0.7 on it is refused with the reason, and no lock is taken."""
    answer = await rig.propose(method="staged")
    assert isinstance(answer, Refused), answer
    [reason] = answer.refusal.reasons
    assert "The staged bootstrap is refused from Consul 0.7 on" in reason
    assert "Raft data found, disabling bootstrap mode" in reason
    assert answer.report.diagnosis.headline in reason
    assert answer.refusal.next_step
    assert await rig.core.store.active(rig.cluster) is None
