"""A cluster that was never bootstrapped: founded by exactly one server, and the override is gone in the end."""

from lab.datacentre import Lab
from recovery.diagnosis import NeverBootstrapped
from recovery.journal import Outcome
from recovery.model import Holds, RunId, ServerName
from recovery.plan import ExpectIs, OverrideExpect
from tests.integration.rig import open_rig


async def test_three_servers_that_expect_five(lab: Lab) -> None:
    """All are voters of one cluster in the end, and s1 expects five again: the agent's own word proves it."""
    await lab.up(servers=3, bootstrap_expect=5, wait=False)
    async with open_rig(lab) as rig:
        run = await rig.proposed()
        assert isinstance((await rig.status()).diagnosis, NeverBootstrapped)
        ended = await rig.drive(run)
        assert ended.plan.procedure == "bootstrap"
        overridden = [s.action.server for s in ended.plan.steps if isinstance(s.action, OverrideExpect)]
        assert overridden == ["s1"]
        assert ended.outcome is Outcome.RECOVERED, ended.waiting_step
        world = rig.core.worlds[rig.cluster]
        for name in ("s1", "s2", "s3"):
            said = await world.check(ExpectIs(ServerName(name), 5), run=RunId("r"))
            assert isinstance(said, Holds), said
    leader = await lab.cluster.wait_until_formed()
    assert len(await lab.cluster.voters(leader)) == 3
