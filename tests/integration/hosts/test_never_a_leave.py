"""A stop is a leave in no configuration: the others see a failed member, and the peer set stays as it was."""

import pytest

from lab.datacentre import Lab
from recovery.adapters.collect import Probe
from recovery.adapters.host_commands import Host, HostAccess
from recovery.adapters.ssh import SshPool
from recovery.errors import HostRefused
from recovery.model import ServerName
from tests.integration.hosts.conftest import KeyMaker
from tests.integration.hosts.test_host_sh import keep_dead_servers, status_of, until

pytestmark = pytest.mark.lab
S3 = ServerName("s3")
AGENT = "/usr/bin/consul agent -data-dir=/var/lib/consul"
STOPS = "ExecStop=/usr/bin/consul leave\nExecStopPost=/usr/bin/consul leave"
LEAVES = "/etc/consul.d/zz-leaves.hcl"
"""Read last in the folder that every agent of the lab has."""


@pytest.mark.parametrize(
    ("unit", "file"),
    [
        (f"ExecStart={AGENT} -config-dir=/etc/consul.d -hcl=leave_on_terminate=true", ""),
        (
            f"ExecStart={AGENT} -config-dir=/etc/consul.d",
            "leave_on_terminate = true # not: leave_on_terminate = false",
        ),
        (f"ExecStart={AGENT} -config-file=/etc/consul.d", "LEAVE_ON_terminate = /* so */ true"),
        (
            f'Environment="OPTS=-config-dir=/etc/consul.d -hcl leave_on_terminate=true"\nExecStart={AGENT} $OPTS',
            "leave_on_terminate = false",
        ),
        (
            f"KillSignal=SIGINT\nExecStart={AGENT} -config-dir=/etc/consul.d",
            "skip_leave_on_interrupt = false",
        ),
        (
            f"{STOPS}\nKillMode=mixed\nExecStart=/bin/sh -c '{AGENT} -config-dir=/etc/consul.d; true'",
            "leave_on_terminate = true",
        ),
        (
            f"ExecStart=/bin/sh -c '{AGENT} -config-dir=/etc/consul.d & wait'\nRestart=always\nRestartSec=0",
            "leave_on_terminate = true",
        ),
        (
            f"SuccessExitStatus=SIGKILL 9\nRestart=always\nRestartSec=0\nExecStart={AGENT} -config-dir=/etc/consul.d",
            "leave_on_terminate = true",
        ),
    ],
    ids=[
        "-hcl",
        "before a comment",
        "a folder after -config-file, another case",
        "a quoted variable of the unit",
        "SIGINT",
        "stop commands, a wrapper",
        "a wrapper that is restarted at once",
        "a unit to which a kill is a success",
    ],
)
@pytest.mark.parametrize("held", [True, False], ids=["held", "not held"])
async def test_however_an_agent_is_told_to_leave_its_stop_is_none(
    lab: Lab, probe: Probe, key: KeyMaker, unit: str, file: str, *, held: bool
) -> None:
    """In flags, fragments, files, variables, signals and stop commands."""
    host, s3 = lab.host("s3"), probe.hosts[S3]
    await host.run(f"cat >{LEAVES}; chmod 644 {LEAVES}", stdin=file)
    await host.run(
        "mkdir -p /etc/systemd/system/consul.service.d; cat >/etc/systemd/system/consul.service.d/site.conf;"
        " systemctl daemon-reload; systemctl kill -s KILL consul; systemctl restart --no-block consul",
        stdin=f"[Service]\nExecStart=\n{unit}\n",
    )
    await lab.cluster.wait_until_formed()
    await keep_dead_servers(lab)
    voters = await lab.cluster.voters(lab.host("s1"))
    if held:
        await s3.act("hold", key("hold"), timeout_s=30)
    evidence = await s3.act("stop", key("stop"), timeout_s=60)
    assert "signal 9" in evidence
    view = await s3.look()
    assert (view.running, view.active_state) == (False, "inactive")

    async def seen_failed() -> bool:
        status = await status_of("s3", seen_by=lab.host("s1"))
        assert status != 3, "s3 has left"
        return status == 4

    await until(seen_failed, what="s1 sees s3 failed")
    assert await lab.cluster.voters(lab.host("s1")) == voters
    said = await host.run("journalctl -u consul -b -o cat --no-pager | tail -n 40")
    assert (
        "leave"
        not in said.rpartition("consul: New leader elected")[2].replace("leave_on_terminate", "").lower()
    )
    assert "consul-recovery-stop" not in await host.run("find /run/systemd/system -name '*.conf'")


async def test_what_a_script_had_started_is_known_while_it_is_stopped_by_us(
    lab: Lab, probe: Probe, pool: SshPool, key: KeyMaker
) -> None:
    """Only the script knows what it would start; what it did start was seen, until the unit is another."""
    host, s3 = lab.host("s3"), probe.hosts[S3]
    script = (
        f"#!/bin/sh\n{AGENT} -config-dir=/etc/consul.d -hcl 'node_name = \"s3\"\nleave_on_terminate=true'\n"
    )
    await host.run("cat >/opt/consul-agent.sh; chmod 755 /opt/consul-agent.sh", stdin=script)
    await host.run(
        "mkdir -p /etc/systemd/system/consul.service.d; cat >/etc/systemd/system/consul.service.d/site.conf;"
        " systemctl daemon-reload; systemctl kill -s KILL consul; systemctl restart --no-block consul",
        stdin="[Service]\nExecStart=\nExecStart=/opt/consul-agent.sh\n",
    )
    await lab.cluster.wait_until_formed()
    running = await s3.look()
    assert (running.data_dir, running.leave_on_terminate, running.config_problem) == (
        "/var/lib/consul",
        True,
        "",
    )
    await s3.act("hold", key("hold"), timeout_s=30)
    await s3.act("stop", key("stop"), timeout_s=60)
    stopped = await s3.look()
    assert (stopped.running, stopped.data_dir, stopped.node_id) == (False, "/var/lib/consul", running.node_id)
    await s3.act("archive", key("archive"), timeout_s=60)
    await host.run(
        "sed -i 's/consul-agent.sh/& again/' /etc/systemd/system/consul.service.d/site.conf; systemctl daemon-reload"
    )
    # Another one than the host that still has the look in the archive's answer.
    changed = await Host(pool, host.address, HostAccess(user=lab.ssh_user)).look()
    assert changed.data_dir == ""
    assert "/opt/consul-agent.sh, which is not the agent" in changed.config_problem


async def test_an_agent_that_runs_otherwise_than_its_unit_and_files_say_is_told(
    lab: Lab, probe: Probe
) -> None:
    """Changed since it was started: a stop and a start would make another agent of it."""
    host = lab.host("s3")
    await host.run(f"echo 'data_dir = \"/var/lib/moved\"' >{LEAVES}; chmod 644 {LEAVES}")
    # The packaged unit names its data directory by a flag, which beats the file.
    await host.run(
        "mkdir -p /etc/systemd/system/consul.service.d; cat >/etc/systemd/system/consul.service.d/site.conf;"
        " systemctl daemon-reload",
        stdin="[Service]\nExecStart=\nExecStart=/usr/bin/consul agent -config-dir=/etc/consul.d\n",
    )
    view = await probe.hosts[S3].look()
    assert (view.running, view.data_dir) == (True, "")
    assert "runs with the data_dir /var/lib/consul" in view.config_problem
    assert "would start it with /var/lib/moved" in view.config_problem


async def test_an_agent_that_runs_as_something_else_is_told_with_its_control_group(
    lab: Lab, pool: SshPool
) -> None:
    """A supervisor, a container or a scheduler: nothing is done to it, and people read what it is."""
    host = lab.host("s2")
    other = Host(pool, host.address, HostAccess(user=lab.ssh_user, unit="consul-server.service"))
    with pytest.raises(HostRefused, match=r"no unit consul-server.*is a Consul agent, of .*/consul\.service"):
        await other.look()
