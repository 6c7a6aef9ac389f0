"""bootstrap_expect overridden on real hosts: taken by the agent, the operator's files untouched, and gone again."""

import asyncio
import time
from collections.abc import Callable

import pytest

from lab.datacentre import Lab
from recovery.adapters.collect import Probe
from recovery.adapters.world import ClusterWorld
from recovery.errors import HostRefused
from recovery.model import Fact, Fails, Holds, RunId, ServerName
from recovery.plan import Check, ExpectIs, ExpectOverridden, OverrideAbsent
from recovery.ports import ActKey

pytestmark = pytest.mark.lab

KeyMaker = Callable[..., ActKey]
S3 = ServerName("s3")
RUN = RunId("r1")

WITH_FLAG = """
mkdir -p /etc/systemd/system/consul.service.d
printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/consul agent $DAEMON_ARGS \\\\\\n  %s\\n' \
    '-bootstrap-expect 3' >/etc/systemd/system/consul.service.d/site.conf
systemctl daemon-reload
systemctl restart --no-block consul
"""
FILES = "sha256sum /etc/consul.d/* /etc/systemd/system/consul.service.d/site.conf 2>/dev/null; true"


async def holding(world: ClusterWorld, check: Check, *, timeout_s: float = 40.0) -> Fact:
    deadline = time.monotonic() + timeout_s
    while not isinstance(fact := await world.check(check, run=RUN), Holds):
        assert time.monotonic() < deadline, f"{check}: {fact}"
        await asyncio.sleep(0.2)
    return fact


async def held_and_stopped(probe: Probe, key: KeyMaker) -> None:
    await probe.hosts[S3].act("hold", key("hold"), timeout_s=60)
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)


@pytest.mark.parametrize("way", ["file", "flag"])
async def test_an_override_is_taken_by_the_agent_and_gone_after_its_removal(
    lab: Lab, probe: Probe, world: ClusterWorld, key: KeyMaker, way: str
) -> None:
    """A file that is read last, or a drop-in where a flag says it: the agent's own word proves both directions."""
    host = lab.host("s3")
    if way == "flag":
        await host.run(WITH_FLAG)
        await lab.cluster.wait_until_formed()
    before = await host.run(FILES)
    assert isinstance(await world.check(OverrideAbsent(S3), run=RUN), Holds)
    await held_and_stopped(probe, key)

    evidence = await probe.hosts[S3].act("override-expect", key("override"), "1", timeout_s=60)
    assert ("drop-in" in evidence) == (way == "flag")
    assert isinstance(await world.check(ExpectOverridden(S3, 1), run=RUN), Holds)
    assert (await probe.hosts[S3].look()).override_by == RUN
    again = await probe.hosts[S3].act("override-expect", key("override"), "1", timeout_s=60)
    assert again.startswith("done before")

    await probe.hosts[S3].act("start", key("start"), timeout_s=60)
    await holding(world, ExpectIs(S3, 1))

    # The running agent does not mind; only its next start does.
    await probe.hosts[S3].act("remove-override", key("off"), timeout_s=60)
    assert isinstance(await world.check(OverrideAbsent(S3), run=RUN), Holds)
    assert isinstance(await world.check(ExpectIs(S3, 1), run=RUN), Holds)
    assert await host.run(FILES) == before
    await probe.hosts[S3].act("stop", key("stop-again"), timeout_s=60)
    await probe.hosts[S3].act("start", key("start-again"), timeout_s=60)
    await holding(world, ExpectIs(S3, 3))


async def test_a_file_that_sorts_after_ours_is_answered_with_a_drop_in(
    lab: Lab, probe: Probe, world: ClusterWorld, key: KeyMaker
) -> None:
    """A flag beats every file, whatever its name."""
    host = lab.host("s3")
    await host.run(
        """echo '{"bootstrap_expect": 3}' >/etc/consul.d/zzz.json; chmod 644 /etc/consul.d/zzz.json"""
    )
    try:
        await held_and_stopped(probe, key)
        assert "drop-in" in await probe.hosts[S3].act("override-expect", key("override"), "1", timeout_s=60)
        assert isinstance(await world.check(ExpectOverridden(S3, 1), run=RUN), Holds)
        assert "zz-consul-recovery.json" not in await host.run("ls /etc/consul.d")
        await probe.hosts[S3].act("remove-override", key("off"), timeout_s=60)
    finally:
        await host.run("rm -f /etc/consul.d/zzz.json")


async def test_it_is_refused_beside_a_running_agent_or_without_a_hold(
    lab: Lab, probe: Probe, world: ClusterWorld, key: KeyMaker
) -> None:
    """Neither a running agent nor one that anybody may start gets a loaded gun, and nothing is left behind."""
    with pytest.raises(HostRefused, match="the agent runs"):
        await probe.hosts[S3].act("override-expect", key("early"), "1", timeout_s=60)
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    with pytest.raises(HostRefused, match="not held by this run"):
        await probe.hosts[S3].act("override-expect", key("unheld"), "1", timeout_s=60)
    await probe.hosts[S3].act("hold", key("hold"), timeout_s=60)
    await lab.host("s3").run("""echo '{"bootstrap": true}' >/etc/consul.d/zz-b.json""")
    with pytest.raises(HostRefused, match="bootstrap = true"):
        await probe.hosts[S3].act("override-expect", key("twice"), "1", timeout_s=60)
    with pytest.raises(HostRefused, match="not a number of servers"):
        await probe.hosts[S3].act("override-expect", key("words"), "1; reboot", timeout_s=60)
    assert isinstance(await world.check(OverrideAbsent(S3), run=RUN), Holds)
    assert isinstance(await world.check(ExpectOverridden(S3, 1), run=RUN), Fails)


async def test_what_another_run_left_behind_is_seen_and_removed(
    lab: Lab, probe: Probe, world: ClusterWorld, key: KeyMaker
) -> None:
    """Also when only the file is left: the look says it, and the next run takes it off."""
    host = lab.host("s3")
    await host.run("""echo '{"bootstrap_expect": 1}' >/etc/consul.d/zz-consul-recovery.json""")
    view = await probe.hosts[S3].look()
    assert (view.override_by, view.override) == ("unknown", 1)
    seen = (await world.observe()).server("s3").host
    assert seen is not None
    assert (seen.override_by, seen.override) == ("unknown", 1)
    await probe.hosts[S3].act("remove-override", key("off", run="r2"), timeout_s=60)
    assert "zz-consul-recovery.json" not in await host.run("ls /etc/consul.d")


async def test_peers_json_is_copied_before_a_stop(lab: Lab, probe: Probe, key: KeyMaker) -> None:
    """Below 0.7 it is the live peer set, which another kind of stop empties; the first copy of a run is kept."""
    host = lab.host("s3")
    await host.run("""echo '["198.51.100.11:8300"]' >/var/lib/consul/raft/peers.json""")
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    await host.run("echo null >/var/lib/consul/raft/peers.json")
    await probe.hosts[S3].act("stop", key("stop", attempt=2), timeout_s=60)
    kept = await host.run("cat /var/lib/consul-recovery/archive/r1/peers.json")
    assert kept == '["198.51.100.11:8300"]\n'
