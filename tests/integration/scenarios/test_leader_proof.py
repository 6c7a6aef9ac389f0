"""A leader counts only if its log holds the newest entry, whatever its index has come to."""

import asyncio

from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from lab.host import Host
from recovery.model import Fact, Fails, Holds, RunId, ServerName
from recovery.plan import LeaderElected, LeaderHolds
from tests.integration.rig import open_rig
from tests.integration.scenarios.newest_on_one import last_key, leave_newest_on_one

LEFT = (ServerName("s1"), ServerName("s2"), ServerName("s3"))
HOLDER = (ServerName("s3"),)


async def _index_of(host: Host) -> int:
    return int(
        (await host.run("consul info | sed -n 's/^[[:space:]]*last_log_index = //p'", check=False)) or 0
    )


async def _peers_file(*hosts: Host) -> str:
    peers = [
        f'{{"id": "{(await host.run("cat /var/lib/consul/node-id")).strip()}", "address": "{host.address}:8300"}}'
        for host in hosts
    ]
    return f"[{', '.join(peers)}]"


async def test_two_stale_servers_that_elected_each_other_are_no_leader(lab: Lab) -> None:
    """Their log soon ends behind the newest entry's index, with entries of their own: that is seen, and said."""
    await leave_newest_on_one(lab)
    async with open_rig(lab) as rig:
        seen = (await rig.status()).observation.server("s3")
        newest = seen.last
        assert newest is not None
        s1, s2, s3 = (lab.host(name) for name in LEFT)
        await stop_without_leave(s3)
        file = await _peers_file(s1, s2)
        for host in (s1, s2):
            await host.run("sudo -u consul tee /var/lib/consul/raft/peers.json >/dev/null", stdin=file)
            await host.run("systemctl start --no-block consul")
        leader = await lab.cluster.wait_for_leader()
        async with asyncio.timeout(60.0):
            while await _index_of(leader) <= newest.index:
                await leader.run("consul kv put own entry", check=False)

        async def told(check: LeaderElected | LeaderHolds) -> Fact:
            return await rig.core.worlds[rig.cluster].check(check, run=RunId("r1"))

        for check in (LeaderHolds(LEFT, newest, HOLDER), LeaderElected(LEFT, newest)):
            fact = await told(check)
            assert isinstance(fact, Fails), fact
            assert f"{leader.name} leads without the newest entry" in fact.observed
            assert fact.final


async def test_a_leader_that_got_the_newest_entry_from_its_holder_is_proven_by_its_log(lab: Lab) -> None:
    """After the recovery another one may lead: the entry in its own log, or the snapshot it was sent, proves it."""
    await leave_newest_on_one(lab)
    async with open_rig(lab) as rig:
        newest = (await rig.status()).observation.server("s3").last
        assert newest is not None
        ended = await rig.recover(lost=("s4", "s5"), method="peers-json")
        assert ended.outcome == "recovered", ended.waiting_step
        world = rig.core.worlds[rig.cluster]
        by_holder = await world.check(LeaderHolds(LEFT, newest, HOLDER), run=RunId("r1"))
        assert isinstance(by_holder, Holds), by_holder
        await stop_without_leave(lab.host("s3"))
        leader = await lab.cluster.wait_for_leader()
        assert leader.name != "s3"
        by_log = await world.check(LeaderHolds(LEFT, newest, HOLDER), run=RunId("r1"))
        assert isinstance(by_log, Holds), by_log
        assert "it holds the newest entry" in by_log.evidence
        await lab.host("s3").run("systemctl start --no-block consul")
        async with asyncio.timeout(60.0):
            while await last_key(lab) != ["newest"] * 3:
                await asyncio.sleep(0.2)
