"""A hold or a fence that something else makes void is seen before anybody relies on it, and who runs all the same."""

import asyncio
from collections.abc import Callable

import pytest

from lab.datacentre import Lab
from recovery.adapters.collect import Probe
from recovery.adapters.host_commands import Host, HostAccess
from recovery.adapters.ssh import SshPool
from recovery.adapters.world import ClusterWorld
from recovery.errors import HostRefused
from recovery.model import Fails, RunId, ServerName
from recovery.plan import AgentHeld
from recovery.ports import ActKey
from tests.integration.hosts.test_host_sh import until

pytestmark = pytest.mark.lab

KeyMaker = Callable[..., ActKey]
S3 = ServerName("s3")
RUN = RunId("r1")
ETC, RUNTIME = "/etc/systemd/system", "/run/systemd/system"
OURS = f"{ETC}/consul.service.d/zz-consul-recovery-hold.conf"


def drop_in(path: str, line: str) -> str:
    return f"mkdir -p {path.rpartition('/')[0]}; printf '[Unit]\\n{line}\\n' >{path}; systemctl daemon-reload"


VOID = {
    "behind ours": (
        drop_in(f"{ETC}/consul.service.d/zzz.conf", "ConditionPathExists="),
        f"{ETC}/consul.service.d/zzz.conf resets the unit's conditions",
    ),
    "another condition's reset": (
        drop_in(f"{ETC}/consul.service.d/zzz.conf", "  ConditionFileNotEmpty ="),
        f"{ETC}/consul.service.d/zzz.conf resets the unit's conditions",
    ),
    "in /run": (
        drop_in(f"{RUNTIME}/consul.service.d/zzz.conf", "ConditionPathExists="),
        f"{RUNTIME}/consul.service.d/zzz.conf resets the unit's conditions",
    ),
    "of all services": (
        drop_in(f"{ETC}/service.d/zzz.conf", "ConditionPathExists="),
        f"{ETC}/service.d/zzz.conf resets the unit's conditions",
    ),
    "ours is gone": (f"rm {OURS}; systemctl daemon-reload", f"its drop-in {OURS} is gone"),
    "ours is empty": (f": >{OURS}; systemctl daemon-reload", "no file of consul.service has its condition"),
    "ours was edited": (f"echo '#' >>{OURS}", "systemd has not loaded what is on the disk"),
    "ours is masked in /etc": (
        f"ln -sf /dev/null {OURS}; systemctl daemon-reload",
        "no file of consul.service has its condition",
    ),
}


@pytest.mark.parametrize("without_bus", [False, True], ids=["", "without busctl"])
@pytest.mark.parametrize("way", VOID)
async def test_a_hold_that_is_void_is_none_and_says_why(
    lab: Lab, pool: SshPool, world: ClusterWorld, key: KeyMaker, way: str, *, without_bus: bool
) -> None:
    """What systemd has in force counts, not what we wrote; where it does not tell, its files in their order."""
    host = lab.host("s3")
    mine = Host(pool, host.address, HostAccess(user=lab.ssh_user))
    await mine.act("hold", key("hold"), timeout_s=30)
    void, why = VOID[way]
    if without_bus:
        await host.run(
            "printf '#!/bin/sh\\nexit 1\\n' >/usr/local/bin/busctl; chmod 755 /usr/local/bin/busctl"
        )
    try:
        await asyncio.sleep(0.6)
        assert (await mine.look()).held_by == "r1"
        await host.run(void)
        view = await mine.look()
        assert (view.held_by, view.hold_left) == ("", "r1")
        assert why in view.hold_void or (way.startswith("ours is") and "its drop-in" in view.hold_void)
        fact = await world.check(AgentHeld(S3), run=RUN)
        assert isinstance(fact, Fails)
        assert view.hold_void in fact.observed
    finally:
        await host.run(f"rm -rf /usr/local/bin/busctl {ETC}/service.d; systemctl daemon-reload")


@pytest.mark.parametrize("verb", ["hold", "fence"])
async def test_what_would_bar_nobody_is_refused_with_the_name_of_the_file(
    lab: Lab, probe: Probe, key: KeyMaker, verb: str
) -> None:
    """Nothing is left of it, and the agent runs as before; once the file is gone it works."""
    host = lab.host("s3")
    path = f"{ETC}/consul.service.d/zzz.conf"
    await host.run(drop_in(path, "ConditionPathExists="))
    with pytest.raises(HostRefused, match=f"{path} resets the unit's conditions; it was taken off again"):
        await probe.hosts[S3].act(verb, key(verb), timeout_s=60)
    view = await probe.hosts[S3].look()
    assert (view.running, view.enabled, view.held_by, view.fenced_by) == (True, True, "", "")
    assert await host.run(f"ls {ETC}/consul.service.d") == "zzz.conf\n"
    await host.run(f"rm {path}; systemctl daemon-reload")
    await probe.hosts[S3].act(verb, key(verb, attempt=2), timeout_s=60)
    view = await probe.hosts[S3].look()
    assert "r1" in {view.held_by, view.fenced_by}


async def test_an_alias_of_the_unit_is_held_too(lab: Lab, probe: Probe, key: KeyMaker) -> None:
    """Conditions are the unit's, by whatever name it is started; also where it is asked to ignore what it needs."""
    host = lab.host("s3")
    await host.run(f"ln -s /lib/systemd/system/consul.service {ETC}/other.service; systemctl daemon-reload")
    try:
        await probe.hosts[S3].act("hold", key("hold"), timeout_s=30)
        await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
        await host.run(
            "systemctl start other; systemctl start --job-mode=ignore-dependencies consul; systemctl restart consul",
            check=False,
        )
        assert not (await probe.hosts[S3].look()).running
    finally:
        await host.run(f"rm {ETC}/other.service; systemctl daemon-reload")


AGENT = "/usr/bin/consul agent"
RUN_BY_OTHERS = "systemd-run --quiet --collect --unit=rogue --uid=consul"
SLEEPER = "python3 -c 'import time; time.sleep(300)' agent"
"""Has the command line of an agent, and nothing open yet."""
STRANGERS = {
    "as another unit": f"{RUN_BY_OTHERS} {AGENT} -data-dir=/var/lib/consul -config-dir=/etc/consul.d",
    "through a link": f"ln -sfn /var/lib/consul /srv/data; {RUN_BY_OTHERS} {AGENT} -data-dir /srv/data"
    " -config-dir=/etc/consul.d",
    "with nothing open yet": f"{RUN_BY_OTHERS} {SLEEPER} -config-dir=/etc/consul.d/ -data-dir=/var/lib/consul",
    "with our configuration": f"{RUN_BY_OTHERS} {SLEEPER} --config-dir /etc/consul.d/",
}


@pytest.mark.parametrize("way", STRANGERS)
async def test_an_agent_with_our_data_is_seen_wherever_it_runs(
    lab: Lab, probe: Probe, key: KeyMaker, way: str
) -> None:
    """Since when and in which unit is told; nothing is started beside it."""
    host, s3 = lab.host("s3"), probe.hosts[S3]
    await s3.act("hold", key("hold"), timeout_s=30)
    await s3.act("stop", key("stop"), timeout_s=60)
    await host.run(STRANGERS[way])

    async def seen() -> bool:
        return (await s3.look()).running

    try:
        await until(seen, what="it is seen")
        view = await s3.look()
        assert view.active_state == "inactive"
        assert 0 <= view.running_s < 20
        with pytest.raises(
            HostRefused, match=r"an agent on the same data.*rogue.service, by process 1 \(systemd\)"
        ):
            await s3.act("start", key("start"), timeout_s=30)
    finally:
        await host.run("systemctl stop rogue 2>/dev/null; rm -f /srv/data")


async def test_an_agent_with_other_data_is_none_of_ours(lab: Lab, probe: Probe, key: KeyMaker) -> None:
    """A second agent on the same host, with a data directory of its own, bars nothing."""
    host, s3 = lab.host("s3"), probe.hosts[S3]
    await s3.act("hold", key("hold"), timeout_s=30)
    await s3.act("stop", key("stop"), timeout_s=60)
    await host.run(f"{RUN_BY_OTHERS} {SLEEPER} -data-dir=/srv/other -config-dir=/etc/consul.d")
    try:
        assert not (await s3.look()).running
        await s3.act("start", key("start"), timeout_s=30)
    finally:
        await host.run("systemctl stop rogue")
