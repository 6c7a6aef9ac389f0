"""A start through host.sh: whatever goes wrong, and whenever it is killed, the server is held or it is started."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest

from lab.datacentre import Lab
from recovery.adapters.collect import Probe
from recovery.adapters.host_commands import script
from recovery.errors import HostRefused
from recovery.model import HostView, ServerName
from recovery.ports import ActKey
from tests.integration.hosts.test_host_sh import until

pytestmark = pytest.mark.lab

KeyMaker = Callable[..., ActKey]
S3 = ServerName("s3")
DROP_INS = "/etc/systemd/system/consul.service.d"


class Fault(NamedTuple):
    """What keeps the unit from starting, what mends it, and what we are told of it."""

    broken: str
    mended: str
    says: str


async def held_and_stopped(probe: Probe, key: KeyMaker) -> None:
    await probe.hosts[S3].act("hold", key("hold"), timeout_s=30)
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("systemctl --quiet mask consul", "systemctl --quiet unmask consul", "consul.service is masked"),
        Fault(
            f"printf '[Service]\\nExecStart=/usr/bin/consul agent\\n' >{DROP_INS}/site.conf",
            f"rm {DROP_INS}/site.conf",
            r"cannot load the unit consul.service \(bad-setting",
        ),
        Fault(
            f"printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/no-consul agent\\n' >{DROP_INS}/site.conf",
            f"rm {DROP_INS}/site.conf",
            "status=203/EXEC|exit status 203|No such file",
        ),
        Fault(
            f"printf '[Unit]\\nConditionPathExists=/nowhere\\n' >{DROP_INS}/site.conf",
            f"rm {DROP_INS}/site.conf",
            "a condition of the unit does not hold.*systemctl status consul.service",
        ),
        Fault(
            f"printf '[Unit]\\nRequires=never.service\\nAfter=never.service\\n' >{DROP_INS}/site.conf",
            f"rm {DROP_INS}/site.conf",
            "never.service",
        ),
        Fault(
            f"printf '[Service]\\nRestart=no\\nExecStartPre=/bin/false\\n' >{DROP_INS}/site.conf",
            f"rm {DROP_INS}/site.conf",
            "exit-code|control process exited",
        ),
    ],
    ids=["masked", "bad unit file", "no such program", "a condition", "a dependency", "a command before it"],
)
async def test_a_start_that_fails_once_leaves_the_server_held_and_the_next_one_works(
    lab: Lab, probe: Probe, key: KeyMaker, fault: Fault
) -> None:
    """The operator is told systemd's own reason; once that is mended, the very next try starts it."""
    host = lab.host("s3")
    await held_and_stopped(probe, key)
    await host.run(f"{fault.broken}; systemctl daemon-reload")
    try:
        with pytest.raises(HostRefused, match=fault.says):
            await probe.hosts[S3].act("start", key("start"), timeout_s=30)
        assert await host.run("cat /var/lib/consul-recovery/hold") == "r1\n"
    finally:
        await host.run(f"{fault.mended}; systemctl daemon-reload")
    view = await probe.hosts[S3].look()
    assert (view.running, view.held_by) == (False, "r1")
    await probe.hosts[S3].act("start", key("start", attempt=2), timeout_s=30)
    await lab.cluster.wait_until_formed()
    assert (await probe.hosts[S3].look()).held_by == ""
    assert "consul-recovery" not in await host.run("ls /etc/systemd/system/*.d /run/systemd/system; true")


async def test_a_held_server_that_somebody_else_started_is_not_started_by_us(
    lab: Lab, probe: Probe, key: KeyMaker
) -> None:
    """Its drop-in was taken away and it runs: that is no start of ours, and no receipt says that it was."""
    host = lab.host("s3")
    await held_and_stopped(probe, key)
    await host.run(f"rm {DROP_INS}/*; systemctl daemon-reload; systemctl start --no-block consul")
    await lab.cluster.wait_until_formed()
    with pytest.raises(
        HostRefused, match=r"held and runs all the same \(process \d+\): somebody else started it"
    ):
        await probe.hosts[S3].act("start", key("start"), timeout_s=30)
    assert not await probe.hosts[S3].receipt(key("start"))


# Before each command of host.sh: the n-th one is its last.
KILLED_AT = """
point() {{
    echo >>/run/points
    [ "$(wc -l </run/points)" -lt {point} ] || kill -9 $$
}}
rm -f /run/points
PS4='$(point)'
set -x
"""


def traced(point: int, key: ActKey) -> str:
    words = (
        "start",
        "consul.service",
        key.run,
        key.step,
        str(key.attempt),
        key.direction,
        key.owner,
        str(key.epoch),
    )
    text = script().decode()
    body, _, last = text.rpartition('\nmain "$@"')
    return f'set -- {shlex.join(words)}\n{body}\n{KILLED_AT.format(point=point)}main "$@"{last}'


async def held_or_started(look: Callable[[], Awaitable[HostView]]) -> str:
    """What the host comes to when nobody does anything more."""
    seen = await look()
    for _ in range(50):
        if seen.running or seen.held_by == "r1":
            return "started" if seen.running else "held"
        await asyncio.sleep(0.05)
        seen = await look()
    return f"neither: {seen}"


async def killed_at_each(
    lab: Lab, probe: Probe, key: KeyMaker, *, first: int, every: int
) -> tuple[list[str], dict[str, int]]:
    """Kill a start before each command in turn, and try again with the same key; what was wrong, and what was seen."""
    host, s3 = lab.host("s3"), probe.hosts[S3]
    wrong: list[str] = []
    seen: dict[str, int] = {}
    point, attempt = first, 0
    while True:
        attempt += 1
        again = key("start", attempt=attempt)
        await s3.act("hold", key("hold", attempt=attempt), timeout_s=30)
        await s3.act("stop", key("stop", attempt=attempt), timeout_s=60)
        ended = await host.run("dash -s >/dev/null 2>&1; echo $?", stdin=traced(point, again), check=False)
        status = int(ended)
        came_to = await held_or_started(s3.look)
        seen[came_to.partition(":")[0]] = seen.get(came_to.partition(":")[0], 0) + 1
        if came_to not in {"held", "started"}:
            wrong.append(f"killed at {point}: {came_to}")
        await s3.act("start", again, timeout_s=30)

        async def runs_and_is_not_held() -> bool:
            view = await s3.look()
            return view.running and not view.held_by

        try:
            await until(runs_and_is_not_held, what="the next try starts it", timeout_s=5.0)
        except AssertionError as late:
            wrong.append(f"killed at {point}: {late}")
        if status == 0:
            return wrong, seen
        assert status == 137
        point += every


@pytest.mark.soak
async def test_a_start_that_is_killed_at_any_point_leaves_the_server_held_or_started(
    lab: Lab, probe: Probe, key: KeyMaker
) -> None:
    """Before every single command of host.sh; the next try, with the same key, starts it every time."""
    wrong, seen = await killed_at_each(lab, probe, key, first=1, every=1)
    assert wrong == []
    assert set(seen) == {"held", "started"}


async def test_a_start_that_is_killed_leaves_the_server_held_or_started(
    lab: Lab, probe: Probe, key: KeyMaker
) -> None:
    """At some of its points: the soak does all of them."""
    wrong, seen = await killed_at_each(lab, probe, key, first=7, every=23)
    assert wrong == []
    assert set(seen) == {"held", "started"}
