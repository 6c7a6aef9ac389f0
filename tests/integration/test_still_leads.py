"""Whether the server that leads alone still does, below 0.7, where its numbers cost starting a program."""

from pathlib import Path

from lab.datacentre import Lab
from recovery.adapters.checks import answer
from recovery.adapters.collect import Probe
from recovery.adapters.consul_api import AgentAccess
from recovery.adapters.host_commands import HostAccess
from recovery.adapters.ssh import SshAccess, SshPool
from recovery.model import (
    AgentView,
    ClusterName,
    ClusterSpec,
    Fact,
    Fails,
    Holds,
    RunId,
    ServerName,
    ServerSpec,
    Unknown,
)
from recovery.plan import StillLeads
from recovery.raftentry import LogPosition
from tests.integration.counted import CountedPool

S1 = ServerName("s1")


class Late(Probe):
    """On a clock of its own, which goes on while an agent is waited for."""

    def __init__(self, spec: ClusterSpec, *, pool: SshPool, user: str) -> None:
        self.now_s = 0.0
        self.takes_s = 0.0
        super().__init__(
            spec, pool=pool, host=HostAccess(user=user), agent=AgentAccess(), monotonic_s=lambda: self.now_s
        )

    async def pulse(self, name: ServerName, *, numbers: bool = True) -> AgentView:
        view = await super().pulse(name, numbers=numbers)
        self.now_s += self.takes_s
        return view


async def test_the_index_told_a_moment_ago_serves_and_who_leads_is_asked_anew(
    lab: Lab, old_consul: Path
) -> None:
    """Within a second no server loses its log and leads again; after that the index is asked for too."""
    await lab.up(servers=1, consul=old_consul)
    host = await lab.cluster.wait_for_leader()
    pool = CountedPool(
        SshAccess(user=lab.ssh_user, key_path=str(lab.ssh_key), known_hosts_path=str(lab.known_hosts))
    )
    probe = Late(
        ClusterSpec(ClusterName("dc1"), (ServerSpec(S1, host.address),)), pool=pool, user=lab.ssh_user
    )

    async def still_leads(index: int) -> Fact:
        return await answer(probe, StillLeads(S1, LogPosition(1, index)), run=RunId("r1"))

    try:
        assert isinstance(await still_leads(1), Holds)
        assert pool.count == 1
        probe.now_s = 0.9
        assert isinstance(await still_leads(1), Holds)
        assert isinstance(await still_leads(9999), Fails)
        assert pool.count == 1
        probe.now_s = 1.0
        assert isinstance(await still_leads(1), Holds)
        assert pool.count == 2
        # Asked within the second, answered after it.
        probe.now_s, probe.takes_s = 1.9, 0.2
        assert isinstance(await still_leads(1), Holds)
        assert pool.count == 3
        await host.run("systemctl stop consul", check=False)
        assert isinstance(await still_leads(1), Unknown)
        assert pool.count == 3
    finally:
        await pool.aclose()
