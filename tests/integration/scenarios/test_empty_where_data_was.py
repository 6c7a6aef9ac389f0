"""Empty directories where a cluster's data was: nothing is founded over it, and it is whole once they are mounted."""

from __future__ import annotations

import asyncio
import time

from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from recovery.diagnosis import EmptyWhereDataWas
from recovery.journal import Outcome
from recovery.service import Refused
from tests.integration.rig import Rig, open_rig

DATA = "/var/lib/consul"
HIDDEN = f"mkdir /srv/empty && chown consul: /srv/empty && mount --bind /srv/empty {DATA}"


async def on_all(lab: Lab, command: str) -> None:
    await asyncio.gather(*(host.run(command) for host in lab.servers))


async def until_all_answer(rig: Rig) -> None:
    deadline_s = time.monotonic() + 60.0
    while any(server.agent is None for server in (await rig.status()).observation.servers):
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.2)


async def refused(rig: Rig) -> tuple[EmptyWhereDataWas, str]:
    """The diagnosis, and all that a refusal says; by every way of asking for a founding."""
    asked = await rig.propose(method="bootstrap")
    assert isinstance(asked, Refused), asked
    answer = await rig.propose()
    assert isinstance(answer, Refused), answer
    found = answer.report.diagnosis
    assert isinstance(found, EmptyWhereDataWas), found
    return found, " ".join((*answer.refusal.reasons, answer.refusal.next_step))


async def test_nothing_is_founded_over_a_cluster_whose_disks_are_not_mounted(lab: Lab) -> None:
    """What was known, and since when, is said; by a bot with a new Redis too; and the data comes back whole."""
    await lab.up(servers=3)
    put = await lab.host("s1").api("/v1/kv/key", method="PUT", body=b"acknowledged")
    assert put.body.strip() == b"true"
    async with open_rig(lab) as rig:
        ids = {server.name: server.node_id for server in (await rig.status()).observation.servers}
        await asyncio.gather(*(stop_without_leave(host) for host in lab.servers))
        await on_all(lab, HIDDEN)
        for running in (False, True):
            if running:
                # As blank servers they wait for each other: bootstrap_expect would let them found a cluster.
                await on_all(
                    lab, 'sed -i \'s/"bootstrap_expect": 3/"bootstrap_expect": 5/\' /etc/consul.d/consul.json'
                )
                await on_all(lab, "systemctl start --no-block consul")
                await until_all_answer(rig)
            found, said = await refused(rig)
            assert "the bot saw this cluster with a leader, last 20" in said
            assert "its catalogue held 3 nodes" in said
            for name, node_id in ids.items():
                assert any(f"{name} (id {node_id[:8]}) held a log up to term" in line for line in found.known)
                assert f"{name}: {DATA}/raft/raft.db lies covered, under a mount" in found.known
        await asyncio.gather(*(stop_without_leave(host) for host in lab.servers))
        # Another bot, whose Redis knows nothing of this cluster: the hosts tell it.
        async with open_rig(lab) as other:
            _, said = await refused(other)
            assert f"s1: {DATA}/raft/raft.db lies covered, under a mount" in said
            assert "its agent knew a leader 20" in said
        await on_all(lab, f"umount {DATA}")
        await on_all(
            lab, 'sed -i \'s/"bootstrap_expect": 5/"bootstrap_expect": 3/\' /etc/consul.d/consul.json'
        )
        ended = await rig.recover()
        assert (ended.plan.procedure, ended.outcome) == ("start", Outcome.RECOVERED)
    leader = await lab.cluster.wait_until_formed()
    assert (await leader.api("/v1/kv/key?raw")).body == b"acknowledged"


async def test_a_data_directory_that_is_not_there_is_no_blank_one(lab: Lab) -> None:
    """Where it is on no server nothing is founded; where it is on one of three nobody may call that one gone."""
    await lab.up(servers=3)
    async with open_rig(lab) as rig:
        await asyncio.gather(*(stop_without_leave(host) for host in lab.servers))
        await on_all(lab, f"mv {DATA} {DATA}.elsewhere")
        _, said = await refused(rig)
        assert f"s1: its data directory {DATA}, as consul.service names it, is not there" in said
        assert f"Bring {DATA} on s1" in said
        await lab.host("s1").run(f"mv {DATA}.elsewhere {DATA}")
        answer = await rig.propose(lost=("s2", "s3"))
        assert isinstance(answer, Refused), answer
        said = " ".join(
            (*answer.refusal.reasons, answer.refusal.next_step, *answer.report.diagnosis.evidence)
        )
        assert "s2 is gone for good, but its host answers" in said
        assert f"its data directory {DATA}, as consul.service names it, is not there" in said
        assert "not reachable" not in said
