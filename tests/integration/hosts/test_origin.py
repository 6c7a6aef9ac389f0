"""What a real host tells of a data directory without Raft data: new, or empty where data was."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from lab.host import Host as LabHost
from recovery.adapters.collect import Probe
from recovery.model import DirectoryView, HostView, ServerName, Unmounted
from recovery.ports import ActKey

pytestmark = pytest.mark.lab

S1 = ServerName("s1")
DATA = "/var/lib/consul"
EMPTY = f"install -d -o consul -g consul -m 0700 {DATA}"
UNIT_D = "/etc/systemd/system/consul.service.d"

BACK = f"""
while umount {DATA} 2>/dev/null; do :; done
while umount /var/lib 2>/dev/null; do :; done
rm -rf {DATA} /srv/away '/srv/a way' /etc/systemd/system/var-lib-consul.mount
mv {DATA}.kept {DATA}
: >/etc/fstab
rm -rf {UNIT_D}
systemctl daemon-reload
"""


@asynccontextmanager
async def emptied(host: LabHost, then: str) -> AsyncIterator[None]:
    """A stopped server whose data lies aside, with something else in its place."""
    await stop_without_leave(host)
    await host.run(f"mv {DATA} {DATA}.kept && {EMPTY}\n{then}")
    try:
        yield
    finally:
        await host.run(BACK)


async def seen(lab: Lab, probe: Probe, then: str) -> tuple[HostView, DirectoryView]:
    """What a look and the question for its origin tell of it."""
    async with emptied(lab.host("s1"), then):
        return await probe.hosts[S1].look(), await probe.hosts[S1].origin()


def silent(view: DirectoryView) -> DirectoryView:
    """All but what the journal of this host tells in each case."""
    return DirectoryView(led=view.led, led_at_s=view.led_at_s, since_s=view.since_s)


async def test_an_empty_directory_alone_tells_nothing_but_the_journal_does(lab: Lab, probe: Probe) -> None:
    """The agent's own words of a leader stay when its data is gone, with their time."""
    led_at_s = float(await lab.host("s1").run("date +%s"))
    host, view = await seen(lab, probe, "true")
    assert view == silent(view)
    assert "leader" in view.led
    assert 0 < view.led_at_s <= led_at_s
    assert view.since_s >= led_at_s
    assert (host.raft_db_bytes, host.data_dir_missing, host.lmdb) == (-1, False, False)
    assert host.unit == "consul.service"


FSTAB = f"echo '/dev/vdb1 {DATA} ext4 defaults,nofail 0 2' >>/etc/fstab"
BEHIND_A_LINK = f"""
rmdir {DATA}; mkdir '/srv/a way'; ln -s '/srv/a way' {DATA}; chown consul: '/srv/a way'
printf '%s\\n' '/dev/vdc /srv/a\\040way ext4 noauto 0 2' >>/etc/fstab
"""
MOUNT_UNIT = f"""
printf '[Mount]\\nWhat=/dev/vdb1\\nWhere={DATA}\\nType=ext4\\n' >/etc/systemd/system/var-lib-consul.mount
systemctl daemon-reload
"""
BY_FSTAB = Unmounted(point=DATA, named_by="/etc/fstab", what="/dev/vdb1 (ext4)")


@pytest.mark.parametrize(
    ("then", "points"),
    [
        (FSTAB, (BY_FSTAB,)),
        (f"{FSTAB}; systemctl daemon-reload", (BY_FSTAB,)),
        (f"{FSTAB}; mount -t tmpfs tmpfs {DATA}", ("while a tmpfs is mounted there",)),
        ("echo 'nas:/consul /var/lib nfs noauto 0 0' >>/etc/fstab", ("nas:/consul (nfs)",)),
        (f"printf 'UUID=1-2\\t{DATA}/raft\\txfs\\tnoauto\\n' >>/etc/fstab", ("UUID=1-2 (xfs)",)),
        (BEHIND_A_LINK, ("/dev/vdc (ext4)",)),
        (MOUNT_UNIT, (Unmounted(point=DATA, named_by="var-lib-consul.mount", what="/dev/vdb1 (ext4)"),)),
        (
            "echo '#/dev/vdb1 /var/lib/consul ext4 defaults 0 2\n/dev/vda1 / ext4 defaults 0 1' >>/etc/fstab",
            (),
        ),
        ("echo '/dev/vdb1 /var/lib/consul-else ext4 defaults 0 2\ntmpfs /tmp tmpfs rw 0 0' >>/etc/fstab", ()),
    ],
    ids=[
        "fstab",
        "loaded",
        "tmpfs instead",
        "above",
        "in it",
        "behind a link",
        "unit",
        "others",
        "likenesses",
    ],
)
async def test_a_mount_point_without_its_disk_is_named(
    lab: Lab, probe: Probe, then: str, points: tuple[Unmounted | str, ...]
) -> None:
    """Whoever names it, on the data directory, above it or in it, with what belongs there."""
    _, view = await seen(lab, probe, then)
    assert len(view.unmounted) == len(points)
    for told, point in zip(view.unmounted, points, strict=True):
        if isinstance(point, Unmounted):
            assert told == point
        else:
            assert point in told.what


async def test_a_disk_that_is_mounted_is_not_missed(lab: Lab, probe: Probe) -> None:
    """What is where fstab wants it tells nothing against a new cluster."""
    then = f"echo '/srv/away {DATA} none bind 0 0' >>/etc/fstab; mkdir /srv/away; chown consul: /srv/away; mount {DATA}"
    _, view = await seen(lab, probe, then)
    assert view == silent(view)


@pytest.mark.parametrize(
    ("cover", "beneath", "volatile"),
    [
        (
            "mkdir /srv/away; chown consul: /srv/away; mount --bind /srv/away {data}",
            "{data}/raft/raft.db",
            False,
        ),
        ("mount -t tmpfs tmpfs {data}; chown consul: {data}", "{data}/raft/raft.db", True),
        (
            "mount -t tmpfs tmpfs {data}; mkdir /srv/away; mount --bind /srv/away {data}; chown consul: {data}",
            "{data}/raft/raft.db",
            False,
        ),
        (
            "mkdir -p /srv/away/consul; chown consul: /srv/away/consul; mount --bind /srv/away /var/lib",
            "{data}/raft/raft.db",
            False,
        ),
    ],
    ids=["bind", "tmpfs", "twice", "above"],
)
async def test_data_that_something_is_mounted_over_is_found(
    lab: Lab, probe: Probe, cover: str, beneath: str, *, volatile: bool
) -> None:
    """Looked at in a namespace of its own; on the host nothing is unmounted."""
    host = lab.host("s1")
    await stop_without_leave(host)
    await host.run(cover.format(data=DATA))
    try:
        before = await host.run("cat /proc/1/mountinfo")
        look, view = await probe.hosts[S1].look(), await probe.hosts[S1].origin()
        assert await host.run("cat /proc/1/mountinfo") == before
    finally:
        await host.run(
            f"umount -l /var/lib 2>/dev/null; while umount {DATA} 2>/dev/null; do :; done; rm -rf /srv/away"
        )
    assert look.raft_db_bytes == -1
    assert view.beneath == beneath.format(data=DATA)
    assert bool(view.volatile) == volatile


@pytest.mark.parametrize(
    ("then", "told"),
    [
        (f"mkdir {DATA}/raft", f"{DATA}/raft is there"),
        (f"ln -s /mnt/none {DATA}/raft", f"{DATA}/raft is a link to /mnt/none, which is not there"),
        (f"mkdir {DATA}/serf; touch {DATA}/serf/remote.snapshot", f"{DATA}/serf/remote.snapshot is there"),
        (f"mkdir {DATA}/serf; touch {DATA}/serf/local.snapshot", ""),
        (f"echo an-id >{DATA}/node-id", ""),
    ],
    ids=["emptied", "dead link", "a server's gossip", "any agent's gossip", "a node id"],
)
async def test_a_servers_traces_without_its_log_are_told(
    lab: Lab, probe: Probe, then: str, told: str
) -> None:
    """A server makes raft.db at its first start; what a client agent leaves as well tells nothing."""
    _, view = await seen(lab, probe, then)
    assert view.raft_gone.startswith(told) if told else view.raft_gone == ""


@pytest.mark.parametrize(
    ("then", "told"),
    [
        (
            f"chown root: {DATA}; chmod 0755 {DATA}",
            f"{DATA} belongs to root, and consul, as whom consul.service runs,",
        ),
        (f"chown root:consul {DATA}; chmod 0770 {DATA}", ""),
        (f"chown root: {DATA}; chmod 0777 {DATA}", ""),
    ],
    ids=["root", "by group", "anybody"],
)
async def test_a_directory_in_which_the_agent_may_not_write_is_not_its_own(
    lab: Lab, probe: Probe, then: str, told: str
) -> None:
    """A mount point without its disk belongs to root; who may write is asked of the system."""
    _, view = await seen(lab, probe, then)
    assert view.not_ours.startswith(told) if told else view.not_ours == ""


async def test_a_directory_that_is_not_there_is_missing_and_not_blank(lab: Lab, probe: Probe) -> None:
    """Its name is told, and a store of Consul 0.5 is no blank either."""
    host, view = await seen(lab, probe, f"rmdir {DATA}")
    assert (host.data_dir, host.data_dir_missing, host.raft_db_bytes) == (DATA, True, -1)
    assert isinstance(stored := await probe.stored(S1, host), str)
    assert f"its data directory {DATA}, as consul.service names it, is not there" in stored
    assert view == silent(view)
    host, _ = await seen(lab, probe, f"mkdir -p {DATA}/raft/mdb; touch {DATA}/raft/mdb/data.mdb")
    assert host.lmdb
    assert isinstance(stored := await probe.stored(S1, host), str)
    assert "Consul 0.5" in stored


async def test_every_run_that_was_here_is_told(lab: Lab, probe: Probe, key: Callable[..., ActKey]) -> None:
    """Not only the last one: what it did, whether it left an archive, and when."""
    host = probe.hosts[S1]
    began_s = float(await lab.host("s1").run("date +%s"))
    await host.act("hold", key("hold-s1"), timeout_s=30)
    await host.act("stop", key("stop-s1"), timeout_s=60)
    await host.act("archive", key("archive-s1"), timeout_s=60)
    await host.act("hold", key("hold-s1", run="r2", epoch=6), timeout_s=30)
    runs = {run.run: run for run in (await host.origin()).runs}
    assert set(runs) == {"r1", "r2"}
    assert set(runs["r1"].receipts) == {"hold-s1.1.do", "stop-s1.1.do", "archive-s1.1.do"}
    assert (runs["r1"].archived, runs["r2"].archived, runs["r2"].receipts) == (True, False, ("hold-s1.1.do",))
    assert all(began_s <= run.at_s <= began_s + 300 for run in runs.values())


async def test_an_agent_that_runs_on_another_file_than_lies_there_is_told(lab: Lab, probe: Probe) -> None:
    """Something was mounted after its start, or its file is gone: what root reads is not what it knows."""
    host = lab.host("s1")
    assert (await probe.hosts[S1].origin()).elsewhere == ""
    await host.run("mkdir /srv/away; mount --bind /srv/away /var/lib/consul/raft")
    try:
        assert "another /var/lib/consul/raft/raft.db open" in (await probe.hosts[S1].origin()).elsewhere
        await host.run("cp /usr/bin/env /srv/away/raft.db")
        assert "another /var/lib/consul/raft/raft.db open" in (await probe.hosts[S1].origin()).elsewhere
    finally:
        await host.run("umount /var/lib/consul/raft; rm -rf /srv/away")
