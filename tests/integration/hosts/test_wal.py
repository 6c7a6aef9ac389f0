"""Logs in raft/wal on real hosts, as a real Consul 1.18.1 has left them: read, archived, emptied, and whose they are.

The hosts' own Consul is older and knows no such log, so the agents stay stopped; with a newer one the scenarios of
tests/integration/scenarios/test_wal.py start them too.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from lab.datacentre import Lab
from lab.host import Host as LabHost
from recovery.adapters.collect import Probe
from recovery.adapters.ssh import SshPool
from recovery.adapters.world import ClusterWorld
from recovery.boltfile import PageRequest
from recovery.errors import HostRefused
from recovery.model import Holds, RunId, ServerName
from recovery.plan import OneHistory
from recovery.ports import ActKey
from recovery.raftentry import LogPosition
from tests.integration.counted import CountedPool

pytestmark = pytest.mark.lab

KeyMaker = Callable[..., ActKey]
CAPTURED = Path(__file__).parents[2] / "data" / "wal"
RAFT = "/var/lib/consul/raft"
ALL = S1, S2, S3 = (ServerName("s1"), ServerName("s2"), ServerName("s3"))


async def put(host: LabHost, capture: str) -> None:
    """Stop the agent and put a captured raft directory in its own one's place."""
    packed = base64.b64encode((CAPTURED / f"{capture}.tar.gz").read_bytes()).decode()
    await host.run("systemctl kill --signal=SIGKILL consul; systemctl stop consul", check=False)
    await host.run(
        f"mv {RAFT} /root/raft && mkdir /root/new && base64 -d | tar -xzf - -C /root/new && mv /root/new/raft {RAFT}"
        f" && chown -R consul:consul {RAFT}",
        stdin=packed,
    )


@pytest.fixture
async def servers(lab: Lab) -> AsyncIterator[Lab]:
    """The lab, whose servers get their own directories back afterwards."""
    yield lab
    for host in lab.servers:
        await host.run(
            f"systemctl stop holder 2>/dev/null; rm -rf /root/new /root/kept; [ ! -d /root/raft ] || rm -rf {RAFT};"
            f" [ ! -d /root/raft ] || mv /root/raft {RAFT}; [ ! -e /root/perl ] || mv /root/perl /usr/bin/perl",
            check=False,
        )


async def test_stopped_servers_are_ranked_and_one_history(servers: Lab, world: ClusterWorld) -> None:
    """Where each log ends, its term and peers, out of raft/wal over SSH; and their entries are held alike."""
    captures = ("5-tail-cut", "6-graceful-s2", "6-graceful-s3")
    await asyncio.gather(*(put(host, name) for host, name in zip(servers.servers, captures, strict=True)))

    seen = await world.observe()
    fact = await world.check(OneHistory(S1, (S2, S3)), run=RunId("r1"))

    for server in seen.servers:
        assert server.host is not None
        assert server.host.log_store == "raft/wal"
        assert server.stored is not None, server.stored_problem
        assert (server.stored.last, server.stored.term) == (LogPosition(4, 946), 4)
        assert len(server.stored.configuration) == 3
    assert isinstance(fact, Holds), fact
    assert "s2 is alike up to index 946" in fact.evidence


async def test_few_bytes_travel(servers: Lab, probe: Probe, counted: CountedPool) -> None:
    """Of a megabyte that was made for a segment some ten KiB, in a handful of calls."""
    await put(servers.host("s3"), "6-graceful-s3")
    probe.hosts[S3]._runner = counted
    log = await probe.server_log(S3)
    assert log.last == LogPosition(4, 946)
    assert counted.count <= 4


async def test_an_archive_is_as_small_as_the_blocks_and_gives_all_back(
    servers: Lab, probe: Probe, key: KeyMaker
) -> None:
    """Of a sparse segment no hole is kept; unpacked, each file is as it was. Then the server can be emptied."""
    host = servers.host("s3")
    await put(host, "1-one-segment-killed")
    await host.run(
        f"for each in {RAFT}/wal/*.wal; do cp --sparse=always $each /root/each; mv /root/each $each; done"
    )
    await probe.hosts[S3].act("hold", key("hold"), timeout_s=30)
    await probe.hosts[S3].act("archive", key("archive"), timeout_s=60)

    archive = await probe.hosts[S3].archive("r1")
    assert archive.state == "good"
    assert archive.size < 300_000
    await host.run(
        f"mkdir /root/kept && tar -xf {archive.path} -C /root/kept && diff -r /root/kept{RAFT} {RAFT}"
    )

    await probe.hosts[S3].act("wipe-raft", key("wipe"), timeout_s=60)
    view = await probe.hosts[S3].look()
    stored = await probe.stored(S3, view)
    assert (view.log_store, view.snapshots) == ("", 0)
    assert not isinstance(stored, str)
    assert stored.last is None


async def test_who_holds_the_log_open_is_seen(servers: Lab, probe: Probe, key: KeyMaker) -> None:
    """An agent that was started by hand locks wal-meta.db; nothing is done beside it."""
    host = servers.host("s3")
    await put(host, "1-one-segment-killed")
    await host.run(f"systemd-run --quiet --unit=holder flock {RAFT}/wal/wal-meta.db sleep 300")
    await host.run(f"while flock --nonblock {RAFT}/wal/wal-meta.db true; do sleep 0.1; done")
    holder = int(await host.run("systemctl show holder -p MainPID --value"))

    assert (await probe.hosts[S3].look()).main_pid == holder
    with pytest.raises(HostRefused, match="it has to be stopped"):
        await probe.hosts[S3].act("archive", key("archive"), timeout_s=30)


async def test_an_unsound_log_is_said_and_raft_db_wins(servers: Lab, probe: Probe) -> None:
    """A segment that is gone; and beside a raft.db nobody looks at the wal."""
    host = servers.host("s3")
    await put(host, "made-segment-missing")

    stored = await probe.stored(S3, await probe.hosts[S3].look())
    assert isinstance(stored, str)
    assert stored.startswith("raft/wal cannot be read: it is unsound: its database knows the segment")

    await host.run(f"cp /root/raft/raft.db {RAFT}/")
    view = await probe.hosts[S3].look()
    assert view.wal
    assert view.log_store == "raft/raft.db"
    assert not isinstance(await probe.stored(S3, view), str)


async def test_without_perl_the_reason_is_said(servers: Lab, probe: Probe) -> None:
    """The walk is a perl program; nothing is guessed without it."""
    host = servers.host("s3")
    await put(host, "1-one-segment-killed")
    await host.run("mv /usr/bin/perl /root/perl")

    stored = await probe.stored(S3, await probe.hosts[S3].look())

    assert isinstance(stored, str)
    assert "perl is not on this host" in stored


@pytest.mark.parametrize(
    "name",
    [
        "../raft/peers.info",
        "wal-meta.db.tmp",
        "/etc/shadow",
        "1-1.wal",
        f"{0:020d}-{0:016x}.wal",
        f"{0:020d}-{'G' * 16}.wal",
    ],
)
async def test_only_the_files_of_a_log_are_read(servers: Lab, probe: Probe, pool: SshPool, name: str) -> None:
    """Whoever may call host.sh gets nothing else by it; a link to something else is refused too."""
    del pool
    host = servers.host("s3")
    await put(host, "1-one-segment-killed")
    with pytest.raises(HostRefused):
        await probe.hosts[S3].wal_read([PageRequest(name, 0, 10)])
    await host.run(f"ln -s /etc/shadow {RAFT}/wal/{7:020d}-{7:016x}.wal")
    with pytest.raises(HostRefused, match="symbolic link"):
        await probe.hosts[S3].wal_read([PageRequest("wal-meta.db", 0, 10)])
