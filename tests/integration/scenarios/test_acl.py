"""ACLs that deny by default, and no leader: only the agent recovery token and the raft.db reader still answer."""

import asyncio

import pytest

from lab.datacentre import Lab
from recovery.diagnosis import MajorityGone
from recovery.journal import Outcome
from tests.integration.rig import open_rig


@pytest.mark.consul(since=(1, 4, 0))
async def test_status_and_recovery_with_the_recovery_token(lab: Lab) -> None:
    """A restarted survivor with ACLs denies every token but the agent recovery token; it is recovered all the same."""
    cluster = await lab.up(servers=3, acl=True)
    assert cluster.tokens is not None
    management = cluster.tokens.management
    await lab.host("s1").run(f"CONSUL_HTTP_TOKEN={management} consul kv put before 'still here'")
    await asyncio.gather(
        lab.replace("s2", address="198.51.100.22"), lab.replace("s3", address="198.51.100.23")
    )
    await lab.host("s1").run("systemctl restart consul")
    tokens = {"agent_recovery": cluster.tokens.agent_recovery, "management": management}
    async with open_rig(lab, tokens=tokens) as rig:
        # A restarted survivor has forgotten the old names: the lost servers are claimed by address.
        lost = ("198.51.100.12", "198.51.100.13")
        report = await rig.status(lost=lost)
        assert isinstance(report.diagnosis, MajorityGone), report.diagnosis
        s1 = report.observation.server("s1")
        assert s1.last is not None
        ended = await rig.recover(lost=lost)
        assert ended.outcome is Outcome.RECOVERED
    value = await lab.host("s3").run(f"CONSUL_HTTP_TOKEN={management} consul kv get before")
    assert value == "still here\n"
