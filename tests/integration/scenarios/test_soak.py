"""Long repetitions, run by hand with `make soak`: what must hold every time, not just once."""

import pytest

from lab.datacentre import Lab
from recovery.journal import Outcome
from tests.integration.rig import open_rig
from tests.integration.scenarios.newest_on_one import last_key, leave_newest_on_one
from tests.integration.scenarios.old_cluster import done
from tests.integration.scenarios.rogue import recovered_all_the_same

TRIALS = 20
MOMENTS = ("stop-s1", "archive-s1", "write-peers-s3", "start-s3", "leader")
"""After which step configuration management strikes, in turns; the last two while s3 is up already."""


@pytest.mark.soak
@pytest.mark.parametrize("trial", range(1, TRIALS + 1))
async def test_peers_json_keeps_the_last_acknowledged_key_every_time(lab: Lab, trial: int) -> None:
    """Starting all at once lost the key in 4 of 22 trials; ours keeps it in each of twenty."""
    del trial
    await leave_newest_on_one(lab)
    async with open_rig(lab) as rig:
        ended = await rig.recover(lost=("s4", "s5"), method="peers-json")
        assert ended.outcome is Outcome.RECOVERED
    assert await last_key(lab) == ["newest"] * 3


@pytest.mark.soak
@pytest.mark.parametrize("trial", range(1, TRIALS + 1))
async def test_rogue_starts_of_both_stale_servers_never_cost_the_last_key(lab: Lab, trial: int) -> None:
    """With the old order the key was gone in three of three; with one that leads alone it is kept, at any moment."""
    await leave_newest_on_one(lab)
    async with open_rig(lab) as rig:
        run = await rig.proposed(lost=("s4", "s5"), method="peers-json")
        ended, _ = await recovered_all_the_same(
            rig,
            run,
            when=done(MOMENTS[trial % len(MOMENTS)]),
            rogues=(lab.host("s1"), lab.host("s2")),
        )
        assert ended.outcome is Outcome.RECOVERED, ended.waiting_step
    assert await last_key(lab) == ["newest"] * 3
