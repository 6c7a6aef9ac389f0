"""What host.sh reads of a stopped agent's configuration is what the real Consul says that it is configured with."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.agent import consul_program
from lab.root import ensure_root
from tests.integration.reading import Compared, compare

pytestmark = pytest.mark.lab
FEW, MANY = range(40), range(1000, 1400)


def consul() -> Path:
    """The program of LAB_CONSUL, else the lab's own."""
    return Path(os.environ.get("LAB_CONSUL") or ensure_root(os.environ) / "usr/bin/consul")


async def all_of(seeds: range) -> list[Compared]:
    program = consul()
    version = consul_program(ensure_root(os.environ), program).version
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(2) as threads:
        return list(
            await asyncio.gather(
                *(loop.run_in_executor(threads, compare, seed, program, version) for seed in seeds)
            )
        )


def assert_alike(compared: list[Compared]) -> None:
    """No difference at all, and nearly everything read that Consul starts with."""
    different = [(each.seed, each.differences) for each in compared if each.differences]
    assert different == []
    taken = [each for each in compared if not each.refused]
    unknown = [(each.seed, each.unknown) for each in taken if each.unknown]
    assert len(taken) > len(compared) * 0.8, [each.refused for each in compared if each.refused]
    assert len(unknown) <= len(taken) * 0.02, unknown


async def test_some_dozen_configurations_are_read_as_consul_reads_them() -> None:
    """A failing seed is made again by make_configuration(seed, folder)."""
    assert_alike(await all_of(FEW))


@pytest.mark.soak
async def test_hundreds_of_configurations_are_read_as_consul_reads_them() -> None:
    """The same, for longer."""
    assert_alike(await all_of(MANY))
