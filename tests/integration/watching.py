"""A lab watched for two leaders, and what its hosts logged meanwhile."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lab.datacentre import Lab
from lab.errors import LabError
from lab.host import Host
from lab.sampler import LeaderSampler


def journal(host: Host) -> str:
    """Return the last lines of a host's Consul, or why there are none."""
    try:
        command = host.enter_command(
            "journalctl", "--unit=consul", "--no-pager", "--lines=60", "--output=cat"
        )
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout
    except (LabError, subprocess.SubprocessError) as error:
        return str(error)


@asynccontextmanager
async def watched(lab: Lab) -> AsyncIterator[LeaderSampler]:
    """Watch a lab's servers while the block runs; fail the test if two of them led at once."""
    async with LeaderSampler(lab) as sampler:
        yield sampler
    seen = sampler.two_leaders()
    if seen:
        logs = await asyncio.gather(*(asyncio.to_thread(journal, host) for host in lab.servers))
        told = "\n".join(f"--- {host.name}\n{log}" for host, log in zip(lab.servers, logs, strict=True))
        pytest.fail(f"{'; '.join(str(overlap) for overlap in seen)}\n{told}")
