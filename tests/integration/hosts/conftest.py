"""Real hosts for the tests of the adapters: one lab a module, its cluster healed before each test."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from lab.datacentre import Lab
from lab.namespaces import enter_network
from recovery.adapters.collect import Probe
from recovery.adapters.consul_api import AgentAccess
from recovery.adapters.host_commands import HostAccess
from recovery.adapters.ssh import SshAccess, SshPool
from recovery.adapters.world import ClusterWorld
from recovery.model import ClusterName, ClusterSpec, RunId, ServerName, ServerSpec
from recovery.plan import StepId
from recovery.ports import ActKey
from tests.integration.counted import CountedPool
from tests.integration.watching import watched

AS_NEW = """
# An agent that was started with another unit's flags has them until its next start.
site=no; [ ! -e /etc/systemd/system/consul.service.d/site.conf ] || site=yes
rm -rf /etc/systemd/system/consul.service.d /run/systemd/system/consul.service.d
rm -f /var/lib/consul/raft/peers.json /etc/consul.d/zz-* /etc/test.env
umount /var/lib/consul-recovery 2>/dev/null
rm -rf /var/lib/consul-recovery
systemctl daemon-reload
systemctl --quiet enable consul
[ $site = no ] || systemctl stop consul
systemctl is-active --quiet consul || { systemctl reset-failed consul; systemctl start --no-block consul; }
"""

KeyMaker = Callable[..., ActKey]


@pytest.fixture(scope="module")
def data_centre() -> Iterator[Lab]:
    """Three hosts with a Consul cluster of three servers."""
    lab = Lab.make()
    try:
        asyncio.run(lab.up())
        yield lab
    finally:
        lab.destroy()


@pytest.fixture
async def lab(data_centre: Lab) -> AsyncIterator[Lab]:
    """The module's lab with a healthy cluster, watched for two leaders; this thread is in its network for the test."""
    for host in data_centre.hosts:
        if not host.is_on():
            await host.start()
        await host.link(up=True)
        await host.run(AS_NEW, check=False)
    await data_centre.cluster.wait_until_formed()
    # Another module's session may have entered its own lab: afterwards this thread is back where it was.
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    data_centre.enter()
    try:
        async with watched(data_centre):
            yield data_centre
    finally:
        enter_network(Path(f"/proc/self/fd/{before}"))
        os.close(before)


@pytest.fixture
def ssh_access(lab: Lab) -> SshAccess:
    """How the lab's hosts are reached."""
    return SshAccess(
        user=lab.ssh_user,
        key_path=str(lab.ssh_key),
        known_hosts_path=str(lab.known_hosts),
        connect_timeout_s=3.0,
    )


@pytest.fixture
async def pool(ssh_access: SshAccess) -> AsyncIterator[SshPool]:
    """Connections that are closed after the test."""
    made = SshPool(ssh_access)
    yield made
    await made.aclose()


@pytest.fixture
async def counted(ssh_access: SshAccess) -> AsyncIterator[CountedPool]:
    """The same, with a count of what was run."""
    made = CountedPool(ssh_access)
    yield made
    await made.aclose()


@pytest.fixture
def spec(lab: Lab) -> ClusterSpec:
    """The lab's servers as settings would name them."""
    return ClusterSpec(
        ClusterName("dc1"), tuple(ServerSpec(ServerName(host.name), host.address) for host in lab.servers)
    )


@pytest.fixture
def probe(lab: Lab, spec: ClusterSpec, pool: SshPool) -> Probe:
    """What can be asked about the lab's servers."""
    return Probe(spec, pool=pool, host=HostAccess(user=lab.ssh_user), agent=AgentAccess())


@pytest.fixture
def world(lab: Lab, spec: ClusterSpec, pool: SshPool) -> ClusterWorld:
    """The lab's cluster as the engine sees it."""
    return ClusterWorld(spec, pool=pool, host=HostAccess(user=lab.ssh_user), agent=AgentAccess())


@pytest.fixture
def key() -> KeyMaker:
    """Names an act: key("stop"), of run r1, by owner bot-1 at epoch 5, unless told otherwise."""

    def make(step: str, *, run: str = "r1", attempt: int = 1, owner: str = "bot-1", epoch: int = 5) -> ActKey:
        return ActKey(RunId(run), StepId(step), attempt, "do", owner, epoch)

    return make
