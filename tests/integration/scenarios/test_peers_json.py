"""A majority gone for good: the freshest survivors become the new cluster, and nothing acknowledged is lost."""

import asyncio
import re
import time

import pytest

from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from lab.host import Host
from recovery.diagnosis import Healthy
from recovery.journal import Outcome, RunState, StepStatus
from recovery.model import Fails, NodeId, RunId, ServerName
from recovery.plan import Silent, StepId, WritePeers
from recovery.procedures import parts
from recovery.service import Refused
from tests.integration.rig import ALICE, Rig, open_rig
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


async def test_what_consul_does_not_read_or_take_is_seen_and_said(lab: Lab) -> None:
    """Consul itself ignores, then refuses, what was written: each start fails at once and says so in its words."""
    await _one_survivor(lab)
    async with open_rig(lab) as rig:
        # After our own look and before the agent's: what systemd runs just before it.
        await _before_each_start(lab.host("s1"), "rm /var/lib/consul/raft/peers.info")
        ignored, lines = await _fails_to_start(rig)
        assert "Consul deleted peers.json unread (raft/peers.info was missing" in ignored
        assert "runs with the old peer set: its voters are" in ignored
        assert "abort this run and ask for a new plan" in ignored
        assert any("deleted peers.json file (see peers.info for details)" in line for line in lines)
        assert not await lab.cluster.names_itself_leader(lab.host("s1"))

        await _before_each_start(lab.host("s1"), "echo '[' >/var/lib/consul/raft/peers.json")
        refused, lines = await _fails_to_start(rig)
        assert "systemd has given up starting it" in refused
        assert (
            "Consul refused the new peer set (recovery failed to parse peers.json: unexpected EOF)" in refused
        )
        assert any("Error starting agent" in line and "parse peers.json" in line for line in lines)
        # The trap is taken back with the abort, whatever was in it.
        await lab.host("s1").run("test ! -e /var/lib/consul/raft/peers.json")

        await _before_each_start(lab.host("s1"), "true")
        assert (await rig.recover(lost=("s2", "s3"))).outcome is Outcome.RECOVERED


async def test_a_peers_file_that_consul_would_ignore_or_refuse_is_not_started_with(lab: Lab) -> None:
    """When peers.info has vanished or peers.json is damaged before the start, our own look keeps from it."""
    await _one_survivor(lab)
    spoil = iter(("rm /var/lib/consul/raft/peers.info", "echo '[' > /var/lib/consul/raft/peers.json"))

    async def damage(state: RunState) -> None:
        if state.waiting_gate is not None and state.waiting_gate.id == "start-s1":
            await lab.host("s1").run(next(spoil))

    async with open_rig(lab, approvals={"gates": "each-risky"}) as rig:
        rig.before_approval = damage
        for found in ("raft/peers.info is missing", "raft/peers.json lists other peers"):
            run = await rig.proposed(lost=("s2", "s3"))
            step = (await rig.drive(run)).step_state(StepId("start-s1"))
            assert step.status is StepStatus.BLOCKED
            assert found in step.detail
            await lab.host("s1").run("! systemctl is-active --quiet consul")
            await _abort(rig, run)


async def _fails_to_start(rig: Rig) -> tuple[str, tuple[str, ...]]:
    """Recover until the start of s1 fails, and abort: what the step said of it, and the lines of the journal."""
    began_s = time.monotonic()
    run = await rig.proposed(lost=("s2", "s3"))
    step = (await rig.drive(run)).step_state(StepId("start-s1"))
    assert step.status is StepStatus.FAILED, step
    # Nobody waits for what cannot become true any more, at night least of all.
    assert time.monotonic() - began_s < parts.START_S
    await _abort(rig, run)
    return step.detail, step.lines


async def _abort(rig: Rig, run: RunId) -> None:
    await rig.core.service.abort(rig.cluster, run, by=ALICE)
    assert (await rig.drive(run)).outcome is Outcome.ABORTED


async def _before_each_start(host: Host, command: str) -> None:
    """Let systemd run this as root before it runs the agent."""
    drop_in = "/etc/systemd/system/consul.service.d/spoil.conf"
    await host.run(
        f"mkdir --parents $(dirname {drop_in}) && cat >{drop_in} && systemctl daemon-reload",
        stdin=f'[Service]\nExecStartPre=+/bin/sh -c "{command}"\n',
    )


async def _one_survivor(lab: Lab) -> None:
    await lab.up(servers=3)
    await asyncio.gather(lab.host("s2").kill(), lab.host("s3").kill())
    await stop_without_leave(lab.host("s1"))


@pytest.mark.consul(since=(0, 8, 0), below=(1, 9, 0))
async def test_raft_protocol_2_is_recovered_by_addresses(lab: Lab) -> None:
    """Where addresses are the ids, peers.json is an array of them; Consul takes it, and the key is still there."""
    await lab.up(servers=3, config={"raft_protocol": 2})
    await lab.host("s1").run("consul kv put before 'still here'")
    lost = Silent(ServerName("s2"), NodeId("198.51.100.12:8300"), "198.51.100.12:8300")
    async with open_rig(lab) as rig:
        assert isinstance((await rig.status()).diagnosis, Healthy)
        seen = await rig.core.worlds[rig.cluster].check(lost, run=RunId("r"))
        assert isinstance(seen, Fails), "a server that lives was taken for a lost one"
    await asyncio.gather(
        lab.replace("s2", address="198.51.100.22"), lab.replace("s3", address="198.51.100.23")
    )
    async with open_rig(lab) as rig:
        ended = await rig.recover(lost=("s2", "s3"))
        assert ended.outcome is Outcome.RECOVERED, ended.waiting_step
        [written] = [step.action for step in ended.plan.steps if isinstance(step.action, WritePeers)]
        assert (written.raft_protocol, [peer.id for peer in written.peers]) == (2, ["198.51.100.11:8300"])
    leader = await lab.cluster.wait_for_leader()
    assert await lab.cluster.voters(leader) == {f"{host.address}:8300" for host in lab.servers}
    for host in lab.servers:
        assert await host.run("consul kv get before") == "still here\n"


async def test_the_only_survivor_has_no_vote(lab: Lab) -> None:
    """All voters are gone, a server that was never promoted has the whole log: it leads alone, the key is there."""
    await lab.up(servers=4)
    leader = await lab.cluster.wait_for_leader()
    await leader.run("consul operator autopilot set-config -server-stabilization-time=24h")
    await lab.replace("s4", address="198.51.100.24")
    survivor = lab.host("s4")
    async with asyncio.timeout(60.0):
        while "198.51.100.24:8300  follower  false" not in re.sub(
            r" +", "  ", await lab.host("s1").run("consul operator raft list-peers", check=False)
        ):
            await asyncio.sleep(0.2)
        await lab.host("s1").run("consul kv put key newest")
        while await survivor.run("consul kv get -stale key", check=False) != "newest\n":
            await asyncio.sleep(0.2)
    await asyncio.gather(*(lab.host(name).kill() for name in ("s1", "s2", "s3")))
    async with open_rig(lab) as rig:
        refused = await rig.propose()
        assert isinstance(refused, Refused)
        command = re.search(r"--lost (\S+?)`", refused.refusal.next_step)
        assert command is not None, refused.refusal.next_step
        ended = await rig.recover(lost=tuple(command.group(1).split(",")))
        assert ended.outcome is Outcome.RECOVERED, ended.waiting_step
        assert any("s4 has had no vote so far" in line for line in ended.plan.warnings)
    assert await lab.cluster.voters(survivor) == {"198.51.100.24:8300"}
    assert await survivor.run("consul kv get key") == "newest\n"
