"""The host's own memory (epoch, receipts, lock) cannot be read or written: nothing is changed, and it says why."""

import asyncio
from collections.abc import Callable

import pytest

from lab.datacentre import Lab
from recovery.adapters.collect import Probe
from recovery.adapters.world import ClusterWorld
from recovery.errors import HostRefused
from recovery.model import ServerName
from recovery.ports import ActKey
from tests.integration.hosts.test_starts import Fault

pytestmark = pytest.mark.lab

KeyMaker = Callable[..., ActKey]
S3 = ServerName("s3")
STATE = "/var/lib/consul-recovery"
EPOCH = f"{STATE}/epoch"


@pytest.mark.parametrize(
    "written",
    [
        f": >{EPOCH}",
        f"echo >{EPOCH}",
        f"echo 'no epoch' >{EPOCH}",
        f"echo '5 bot-1' >{EPOCH}",
        f"echo '-5 bot-1 r1' >{EPOCH}",
        f"echo '5x bot-1 r1' >{EPOCH}",
        f"echo '5 bot-1 r1 r2' >{EPOCH}",
        f"echo '9999999999999999 bot-1 r1' >{EPOCH}",
        f"printf '5 bot-1 r1' >{EPOCH}",
        f"head -c 40 /dev/zero >{EPOCH}",
        f"mkdir {EPOCH}",
        f"ln -s /nowhere {EPOCH}",
        f"ln -s /etc/hostname {EPOCH}",
    ],
)
async def test_an_epoch_file_that_says_none_keeps_every_driver_off(
    lab: Lab, probe: Probe, world: ClusterWorld, key: KeyMaker, written: str
) -> None:
    """Nobody knows whom it kept off; the refusal says how a person mends it, and that is enough."""
    host = lab.host("s3")
    await probe.hosts[S3].act("hold", key("hold"), timeout_s=30)
    await host.run(f"rm {EPOCH}; {written}")
    with pytest.raises(
        HostRefused, match=r"says no epoch.*no other recovery.*remove that file.*Nothing was changed"
    ):
        await probe.hosts[S3].act("stop", key("stop", epoch=999), timeout_s=60)
    await asyncio.sleep(0.6)
    view = await probe.hosts[S3].look()
    assert (view.running, view.epoch, view.epoch_damaged, view.last_run) == (True, 0, True, "")
    # The next lease's epoch is not made from it.
    assert {trace.server: trace.epoch for trace in await world.traces()}[S3] == 0
    await host.run(f"rm -r {EPOCH}")
    await probe.hosts[S3].act("stop", key("stop", epoch=999), timeout_s=60)
    assert not (await probe.hosts[S3].look()).running


@pytest.mark.parametrize(
    "fault",
    [
        Fault(
            f"mkdir -p {STATE}; mount -t tmpfs -o ro tmpfs {STATE}",
            f"umount {STATE}",
            f"{STATE} cannot be written.*full.*read-only",
        ),
        Fault(
            f"mkdir -p {STATE}; mount -t tmpfs -o mode=700 tmpfs {STATE};"
            f" mkdir {STATE}/receipts {STATE}/archive; mount -o remount,ro {STATE}",
            f"umount {STATE}",
            f"{STATE}/lock cannot be written.*full.*read-only",
        ),
        Fault(
            f"mkdir -p {STATE}; mount -t tmpfs -o mode=700,size=8k tmpfs {STATE};"
            f" dd if=/dev/zero of={STATE}/fill bs=4k count=4 2>/dev/null; true",
            f"umount {STATE}",
            f"{STATE}/epoch cannot be written.*full.*read-only",
        ),
        Fault(
            f"mkdir -p {STATE}; mount -t tmpfs -o mode=700,nr_inodes=4 tmpfs {STATE}",
            f"umount {STATE}",
            rf"{STATE}/\w+ cannot be written.*full.*read-only.*df -i",
        ),
        Fault(f"touch {STATE}", f"rm {STATE}", f"{STATE} is not a directory; move away"),
        Fault(f"ln -s /nowhere {STATE}", f"rm {STATE}", f"{STATE} is a symbolic link"),
        Fault(f"mkdir -p {STATE}/lock/folder", f"rm -r {STATE}/lock", f"{STATE}/lock cannot be written"),
    ],
    ids=["read-only", "read-only with folders", "full", "no inodes", "a file", "a link", "a folder as lock"],
)
async def test_what_cannot_be_remembered_is_not_done(
    lab: Lab, probe: Probe, key: KeyMaker, fault: Fault
) -> None:
    """A clear refusal by the host's own sh, which is dash; no half-written file is left, and mended it works."""
    host = lab.host("s3")
    assert (await host.run("readlink -f /bin/sh")).strip().endswith("/dash")
    await host.run(fault.broken)
    try:
        with pytest.raises(HostRefused, match=f"{fault.says}.*Nothing was changed"):
            await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
        assert (await probe.hosts[S3].look()).running
        assert await host.run(f"find {STATE} -name 'epoch.*'; true") == ""
    finally:
        await host.run(fault.mended)
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    assert not (await probe.hosts[S3].look()).running
