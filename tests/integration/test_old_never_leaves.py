"""Consul below 0.7, where a leave empties the live peers.json: a stop leaves it as it was, whatever tells to leave."""

import asyncio
from pathlib import Path

from lab.datacentre import Lab
from recovery.adapters.host_commands import Host, HostAccess
from recovery.adapters.ssh import SshAccess, SshPool
from recovery.model import RunId
from recovery.plan import StepId
from recovery.ports import ActKey
from tests.integration.test_old_consul import peers_json, until


async def test_no_server_leaves_that_is_stopped_by_us(lab: Lab, old_consul: Path) -> None:
    """leave_on_terminate, SIGINT as the unit's signal, `consul leave` as its stop command: none is obeyed."""
    cluster = await lab.up(servers=3, consul=old_consul, config={"leave_on_terminate": True})
    addresses = {f"{host.address}:8300" for host in lab.servers}
    for host in lab.servers:
        await host.run(
            "mkdir -p /etc/systemd/system/consul.service.d; cat >/etc/systemd/system/consul.service.d/site.conf;"
            " systemctl daemon-reload",
            stdin="[Service]\nKillSignal=SIGINT\nExecStop=/usr/bin/consul leave\nRestart=always\n",
        )
    pool = SshPool(
        SshAccess(
            user=lab.ssh_user,
            key_path=str(lab.ssh_key),
            known_hosts_path=str(lab.known_hosts),
            connect_timeout_s=3.0,
        )
    )

    def key(step: str) -> ActKey:
        return ActKey(RunId("r1"), StepId(step), 1, "do", "bot-1", 5)

    try:
        ours = {
            server.name: Host(pool, server.address, HostAccess(user=lab.ssh_user)) for server in lab.servers
        }
        s1 = lab.host("s1")
        await ours["s3"].act("hold", key("hold"), timeout_s=30)
        assert "signal 9" in await ours["s3"].act("stop", key("stop"), timeout_s=60)
        view = await ours["s3"].look()
        assert (view.running, view.data_dir, view.leave_on_terminate) == (False, "/var/lib/consul", True)
        assert set(peers_json(lab.host("s3"))) == addresses

        async def seen_failed() -> bool:
            lines = (await s1.run("consul members")).splitlines()
            status = next(line.split()[2] for line in lines if line.split()[0] == "s3")
            assert status != "left"
            return status == "failed"

        await until(seen_failed)
        assert set(peers_json(s1)) == addresses
        # All at once, as a plan does: nobody is left to take anybody out.
        await asyncio.gather(
            *(ours[name].act("stop", key("stop-all"), timeout_s=60) for name in ("s1", "s2"))
        )
        for host in lab.servers:
            assert set(peers_json(host)) == addresses
        await asyncio.gather(*(each.act("start", key("start"), timeout_s=60) for each in ours.values()))
        await cluster.wait_until_formed()
    finally:
        await pool.aclose()
