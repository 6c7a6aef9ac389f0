"""Servers that keep their logs in raft/wal, or one that still has raft.db: recovered as all others are.

Run where LAB_CONSUL names Consul 1.15 or newer (1.18.1 was measured): make test-consul CONSUL=/path/to/consul.
"""

import asyncio
from pathlib import Path

from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from lab.host import CONSUL_CONFIG
from recovery.diagnosis import ServersStopped
from recovery.journal import Outcome
from recovery.model import Holds, RunId, ServerName
from recovery.plan import OneHistory
from recovery.service import RunProposed
from tests.integration.rig import ALICE, open_rig

S1, S2, S3 = (ServerName(name) for name in ("s1", "s2", "s3"))


async def test_one_survivor_with_a_wal_and_two_new_machines(lab: Lab, wal_consul: Path) -> None:
    """peers.json: RecoverCluster empties the wal into a snapshot, the new ones join, and the key is there."""
    await lab.up(servers=3, consul=wal_consul, log_store="wal")
    await lab.host("s1").run("consul kv put before 'still here'")
    await asyncio.gather(
        lab.replace("s2", address="198.51.100.22"), lab.replace("s3", address="198.51.100.23")
    )
    async with open_rig(lab) as rig:
        ended = await rig.recover(lost=("s2", "s3"))
        assert ended.outcome is Outcome.RECOVERED
    for host in lab.servers:
        assert await host.run("consul kv get before") == "still here\n"
        await host.run("test -d /var/lib/consul/raft/wal && test ! -e /var/lib/consul/raft/raft.db")


async def test_servers_with_both_stores_are_ranked_together_and_started(lab: Lab, wal_consul: Path) -> None:
    """While a cluster changes over, one has raft.db: all stopped, they are one history, and starting heals."""
    await lab.up(servers=3, consul=wal_consul, log_store="wal")
    await change_store(lab, "s2")
    await lab.host("s1").run("consul kv put mixed yes")
    await asyncio.gather(*(stop_without_leave(host) for host in lab.servers))
    async with open_rig(lab) as rig:
        status = await rig.status()
        assert isinstance(status.diagnosis, ServersStopped)
        stores = {server.name: server.host.log_store for server in status.observation.servers if server.host}
        assert stores == {S1: "raft/wal", S2: "raft/raft.db", S3: "raft/wal"}
        ends = {server.name: server.last for server in status.observation.servers}
        fresh, *others = sorted(
            ends, key=lambda name: (ends[name] is not None, str(ends[name])), reverse=True
        )
        fact = await rig.core.worlds[rig.cluster].check(OneHistory(fresh, tuple(others)), run=RunId("r"))
        assert isinstance(fact, Holds), fact
        ended = await rig.recover()
        assert (ended.plan.procedure, ended.outcome) == ("start", Outcome.RECOVERED)
    assert await lab.host("s2").run("consul kv get mixed") == "yes\n"


async def test_an_unsound_server_is_fenced_and_comes_back_emptied(lab: Lab, wal_consul: Path) -> None:
    """Consul would start it with an empty log; here it has to be claimed, is fenced, and readmitted without its wal."""
    await lab.up(servers=5, consul=wal_consul, log_store="wal")
    await change_store(lab, "s2")
    await lab.host("s1").run("consul kv put key kept")
    await asyncio.gather(lab.host("s3").kill(), lab.host("s5").kill(), stop_without_leave(lab.host("s4")))
    await lab.host("s4").run("rm /var/lib/consul/raft/wal/*.wal")
    async with open_rig(lab) as rig:
        (seen,) = (each for each in (await rig.status()).observation.servers if each.name == "s4")
        assert "it is unsound: its database knows the segment" in seen.stored_problem
        ended = await rig.recover(lost=("s3", "s4", "s5"), method="peers-json")
        assert ended.outcome is Outcome.RECOVERED
        answer = await rig.core.service.propose(
            rig.cluster, by=ALICE, origin="terminal", method="readmit", server=ServerName("s4")
        )
        assert isinstance(answer, RunProposed), answer
        assert (await rig.drive(answer.view.run)).outcome is Outcome.RECOVERED
    for name in ("s1", "s2", "s4"):
        assert await lab.host(name).run("consul kv get -stale key") == "kept\n"
    archived = await lab.host("s4").run(
        "for each in /var/lib/consul-recovery/archive/*/state.tar; do tar -tf $each; done"
    )
    assert "var/lib/consul/raft/wal/wal-meta.db" in archived


async def change_store(lab: Lab, name: str) -> None:
    """As the documentation says: stopped, its raft directory emptied, started with the other store, joined again."""
    host = lab.host(name)
    await stop_without_leave(host)
    other = 's/"backend": *"wal"/"backend": "boltdb"/'
    await host.run(
        f"rm -rf /var/lib/consul/raft && sed -i '{other}' {CONSUL_CONFIG} && systemctl --no-block start consul"
    )
    await lab.cluster.wait_until_formed()
