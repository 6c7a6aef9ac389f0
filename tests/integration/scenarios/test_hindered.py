"""A host that answers and could not be looked at is not gone: neither claimed, nor proposed to be claimed."""

import asyncio

import pytest

from lab.datacentre import Lab
from lab.host import Host
from recovery.model import Fails, NodeId, RunId, ServerName
from recovery.plan import Silent
from recovery.service import Refused
from tests.integration.rig import Rig, open_rig

RENAMED = (
    "cp $(systemctl show -p FragmentPath --value consul) /etc/systemd/system/consul-server.service"
    " && systemctl disable --now consul; mv /usr/lib/systemd/system/consul.service /root/ 2>/dev/null;"
    " mv /lib/systemd/system/consul.service /root/ 2>/dev/null;"
    " systemctl daemon-reload && systemctl start --no-block consul-server"
)
HINDRANCES = {
    "the unit has another name": (RENAMED, "consul.service"),
    "the unit is masked": (
        "systemctl stop consul; ln -sf /dev/null /etc/systemd/system/consul.service; systemctl daemon-reload",
        "is masked",
    ),
    "sudo asks for a password": ("rm /etc/sudoers.d/recovery", "sudo does not let"),
    "the user's key is not accepted": (
        "rm -f /home/*/.ssh/authorized_keys /root/.ssh/authorized_keys",
        "key",
    ),
}


async def _hindered(rig: Rig, host: Host) -> None:
    async with asyncio.timeout(60.0):
        while not (seen := (await rig.status()).observation.server(host.name)).answers:
            assert not seen.reached, f"{host.name} was looked at"
            await asyncio.sleep(0.5)


@pytest.mark.parametrize("hindrance", list(HINDRANCES))
async def test_a_server_behind_it_cannot_be_claimed(lab: Lab, hindrance: str) -> None:
    """s2 may lead or hold the newest key: whoever claims it is refused with what hinders the look."""
    await lab.up(servers=3)
    command, why = HINDRANCES[hindrance]
    identity = (await lab.host("s2").run("cat /var/lib/consul/node-id")).strip()
    await lab.host("s2").run(command, check=False)
    await lab.host("s3").kill()
    async with open_rig(lab) as rig:
        await _hindered(rig, lab.host("s2"))
        report = await rig.status()
        told = " ".join((report.diagnosis.headline, report.diagnosis.advice, *report.diagnosis.evidence))
        assert "s2: host not reachable" not in told
        assert why in told, told
        refused = await rig.propose(lost=("s2", "s3"), method="peers-json")
        assert isinstance(refused, Refused), refused
        claim = Silent(ServerName("s2"), NodeId(identity), f"{lab.host('s2').address}:8300")
        assert isinstance(await rig.core.worlds[rig.cluster].check(claim, run=RunId("r1")), Fails)
        if hindrance == "the unit has another name":
            assert "is a Consul agent" in told
            assert "consul-server.service" in told
