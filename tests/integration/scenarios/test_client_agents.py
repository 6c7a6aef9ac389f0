"""Client agents on real hosts: known, reached, remembered when nobody lists them, and given to the real Ansible."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from bot.wiring import open_core
from lab.datacentre import Lab
from recovery.model import Holds, MemberStatus, RunId, ServerName
from recovery.plan import AgentRunning, AgentStopped, Check, StartAgent, StepId, StopAgent
from recovery.ports import ActKey, World
from tests.integration.rig import Rig, open_rig

C1 = ServerName("c1")
RUN = RunId("r1")
PROGRAMS = Path(sys.executable).parent


def key(step: str) -> ActKey:
    """One try of one act."""
    return ActKey(RUN, StepId(step), 1, "do", "bot-1", 1)


async def until_holds(world: World, check: Check) -> None:
    """Wait until a check holds; the last answer is in the failure."""
    for _ in range(300):
        if isinstance(fact := await world.check(check, run=RUN), Holds):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(fact)


async def c1_in_gossip(rig: Rig) -> MemberStatus:
    """What the server that answers first says of c1."""
    told = await rig.core.service.members(rig.cluster)
    return next(member.status for member in told.members if member.name == C1)


async def ansible_inventory(rig: Rig, folder: Path, *arguments: str) -> str:
    """Let the real ansible-inventory read ours, and give what it prints."""
    process = await asyncio.create_subprocess_exec(
        PROGRAMS / "ansible-inventory",
        "-i",
        PROGRAMS / "consul-recovery-inventory",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "ANSIBLE_HOME": str(folder),
            "ANSIBLE_LOCAL_TEMP": str(folder),
            # A source that cannot be read shall be a failure, not an empty answer.
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
            "CONSUL_RECOVERY_SETTINGS": str(rig.core.settings.source),
            "CONSUL_RECOVERY_CLUSTER": rig.cluster,
        },
    )
    out, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    return out.decode()


async def test_client_agents_before_and_after_the_disaster(lab: Lab, tmp_path: Path) -> None:
    """A client agent is stopped without leaving and started again; with all servers gone both are known still."""
    await lab.up(servers=3, clients=2)
    addresses = {host.name: host.address for host in lab.hosts}
    clients = {name: address for name, address in addresses.items() if name.startswith("c")}
    async with open_rig(lab, list_clients=False) as rig:
        seen = (await rig.status()).observation
        assert {agent.name: agent.address for agent in seen.clients} == clients
        assert {agent.source for agent in seen.clients} == {"gossip (alive now)"}
        assert seen.clients_problem == ""

        world = rig.core.worlds[rig.cluster]
        assert isinstance(await world.check(AgentRunning(C1), run=RUN), Holds)
        await world.perform(StopAgent(C1), key=key("stop-c1"), timeout_s=60)
        assert isinstance(await world.check(AgentStopped(C1), run=RUN), Holds)
        async with asyncio.timeout(60):
            while (status := await c1_in_gossip(rig)) is MemberStatus.ALIVE:
                await asyncio.sleep(0.2)
        assert status is MemberStatus.FAILED, "it left, and would join nobody without retry_join"
        listing = json.loads(await ansible_inventory(rig, tmp_path, "--list"))
        assert set(listing["members"]["hosts"]) == {f"{name}.node.consul" for name in addresses}
        assert set(listing["client"]["hosts"]) == {"c1.node.consul", "c2.node.consul"}
        assert "c1.node.consul" not in listing["alive"]["hosts"]
        hostvars = listing["_meta"]["hostvars"]
        assert {name: hostvars[f"{name}.node.consul"]["ansible_host"] for name in addresses} == addresses

        await world.perform(StartAgent(C1), key=key("start-c1"), timeout_s=60)
        await until_holds(world, AgentRunning(C1))
        async with asyncio.timeout(60):
            while await c1_in_gossip(rig) is not MemberStatus.ALIVE:
                await asyncio.sleep(0.2)
        await rig.status()

        for server in lab.servers:
            await server.run("systemctl stop consul", check=False)
        graph = await ansible_inventory(rig, tmp_path, "--graph")
        assert {f"@{group}:" for group in ("members", "server", "client", "alive", "dc1")} <= set(
            graph.replace("|--", " ").split()
        )
        assert "c2.node.consul" in graph
        # Another process, which has never looked, finds the host of a client agent in the store.
        async with open_core(rig.core.settings, kind="other") as other:
            assert isinstance(await other.worlds[rig.cluster].check(AgentRunning(C1), run=RUN), Holds)
            later = (await other.service.status(rig.cluster)).observation
        assert {agent.name: agent.address for agent in later.clients} == clients
        assert all("last known membership" in agent.source for agent in later.clients)
