"""Somebody else starts servers that a run holds, while the freshest one alone may lead."""

from lab.datacentre import Lab
from recovery.journal import Outcome
from tests.integration.rig import open_rig
from tests.integration.scenarios.newest_on_one import last_key, leave_newest_on_one
from tests.integration.scenarios.old_cluster import done
from tests.integration.scenarios.rogue import recovered_all_the_same


async def test_two_stale_servers_started_before_the_freshest_stop_the_run_and_cost_nothing(lab: Lab) -> None:
    """The run says who runs and by what, does nothing more, and goes on once they are stopped: the key is there."""
    await leave_newest_on_one(lab)
    async with open_rig(lab) as rig:
        run = await rig.proposed(lost=("s4", "s5"), method="peers-json")
        ended, named = await recovered_all_the_same(
            rig, run, when=done("write-peers-s3"), rogues=(lab.host("s1"), lab.host("s2"))
        )
        assert ended.outcome is Outcome.RECOVERED, ended.waiting_step
        seen = {sighting.server: sighting for event in named for sighting in event.running}
        assert seen.keys() <= {"s1", "s2"}
        assert seen, "nobody was named"
        for sighting in seen.values():
            assert "consul.service" in sighting.by
            assert sighting.since_s > 0
    assert await last_key(lab) == ["newest"] * 3
