"""What holds for all tests: how long an example of hypothesis takes is not asserted, and whose time is virtual."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

from tests.sweeps.virtual_time import VirtualLoop

# A busy machine makes a slow example of a quick one; speed is measured in bench/.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_RECOVERY = Path(__file__).parent / "unit" / "recovery"
_REAL_TIME = _RECOVERY / "adapters"
"""Some of the adapters' tests start programs, and their answers come in real time."""


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """In virtual time nobody waits: for a driver in memory, and where a test is marked so."""
    del config
    in_memory = _RECOVERY in item.path.parents and _REAL_TIME not in item.path.parents
    if in_memory or item.get_closest_marker("virtual_time") is not None:
        return {"virtual": VirtualLoop}
    return {"real": asyncio.new_event_loop}
