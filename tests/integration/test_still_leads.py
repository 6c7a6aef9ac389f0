"""Whether the server that leads alone still does, below 0.7, where its numbers cost starting a program."""

from pathlib import Path

from lab.datacentre import Lab
from recovery.adapters.checks import answer
from recovery.adapters.collect import Probe
from recovery.adapters.consul_api import AgentAccess
from recovery.adapters.host_commands import HostAccess
from recovery.adapters.ssh import SshAccess
from recovery.model import (
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


async def test_the_index_told_a_moment_ago_serves_and_who_leads_is_asked_anew(
    lab: Lab, old_consul: Path
) -> None:
    """Within a second no server loses its log and leads again; after that the index is asked for too."""
    await lab.up(servers=1, consul=old_consul)
    host = await lab.cluster.wait_for_leader()
    clock_s = [0.0]
    pool = CountedPool(
        SshAccess(user=lab.ssh_user, key_path=str(lab.ssh_key), known_hosts_path=str(lab.known_hosts))
    )
    probe = Probe(
        ClusterSpec(ClusterName("dc1"), (ServerSpec(S1, host.address),)),
        pool=pool,
        host=HostAccess(user=lab.ssh_user),
        agent=AgentAccess(),
        monotonic_s=lambda: clock_s[0],
    )

    async def still_leads(index: int) -> Fact:
        return await answer(probe, StillLeads(S1, LogPosition(1, index)), run=RunId("r1"))

    try:
        assert isinstance(await still_leads(1), Holds)
        assert pool.count == 1
        clock_s[0] = 0.9
        assert isinstance(await still_leads(1), Holds)
        assert isinstance(await still_leads(9999), Fails)
        assert pool.count == 1
        clock_s[0] = 1.0
        assert isinstance(await still_leads(1), Holds)
        assert pool.count == 2
        await host.run("systemctl stop consul", check=False)
        assert isinstance(await still_leads(1), Unknown)
        assert pool.count == 2
    finally:
        await pool.aclose()
