"""What is seen of a real server behind ACLs that deny by default."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from lab.datacentre import Lab
from lab.namespaces import enter_network
from recovery.adapters.consul_api import AgentAccess, Secret
from recovery.adapters.host_commands import HostAccess
from recovery.adapters.ssh import SshAccess, SshPool
from recovery.adapters.world import ClusterWorld
from recovery.model import AgentView, ClusterName, ClusterSpec, Holds, RunId, ServerName, ServerSpec
from recovery.plan import ClusterAnswers, SaveSnapshot, SnapshotSaved
from recovery.ports import ActKey

pytestmark = [pytest.mark.lab, pytest.mark.consul(since=(1, 4, 0))]

S1 = ServerName("s1")
WorldMaker = Callable[[AgentAccess], ClusterWorld]


@pytest.fixture
async def guarded() -> AsyncIterator[Lab]:
    """One server with ACLs."""
    lab = await asyncio.to_thread(Lab.make)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        await lab.up(servers=1, acl=True)
        lab.enter()
        yield lab
    finally:
        enter_network(Path(f"/proc/self/fd/{before}"))
        os.close(before)
        await asyncio.to_thread(lab.destroy)


@pytest.fixture
async def world_with(guarded: Lab) -> AsyncIterator[WorldMaker]:
    """The cluster, asked with these tokens."""
    pool = SshPool(
        SshAccess(
            user=guarded.ssh_user, key_path=str(guarded.ssh_key), known_hosts_path=str(guarded.known_hosts)
        )
    )
    spec = ClusterSpec(ClusterName("dc1"), (ServerSpec(S1, guarded.host("s1").address),))
    yield lambda agent: ClusterWorld(spec, pool=pool, host=HostAccess(user=guarded.ssh_user), agent=agent)
    await pool.aclose()


async def seen(world: ClusterWorld) -> AgentView:
    agent = (await world.observe()).server("s1").agent
    assert agent is not None
    return agent


async def test_tokens_open_what_they_may_and_the_rest_is_said(
    guarded: Lab, world_with: WorldMaker, key: Callable[..., ActKey]
) -> None:
    """Without a token only status/* answers, and the refusals are listed; each token opens its own part."""
    tokens = guarded.cluster.tokens
    assert tokens is not None
    without = await seen(world_with(AgentAccess()))
    assert any("agent/self: 403" in note for note in without.withheld)
    # agent/self is refused, but status/leader names this very server.
    assert without.names_itself_leader
    assert without.last is None

    recovery = await seen(world_with(AgentAccess(recovery_token=Secret(tokens.agent_recovery))))
    assert recovery.last is not None
    assert (recovery.raft_state, len(recovery.members)) == ("Leader", 1)

    both = world_with(
        AgentAccess(token=Secret(tokens.management), recovery_token=Secret("an-old-recovery-token"))
    )
    view = await seen(both)
    assert (view.raft_state, view.withheld) == ("Leader", ())
    assert view.catalogue is not None
    assert view.catalogue.nodes == 1
    assert isinstance(await both.check(ClusterAnswers((S1,)), run=RunId("r1")), Holds)
    await both.perform(SaveSnapshot(S1), key=key("snapshot"), timeout_s=60)
    assert isinstance(await both.check(SnapshotSaved(S1), run=RunId("r1")), Holds)
