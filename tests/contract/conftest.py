"""The stores under contract: the one in memory, and the one in a real Redis."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from recovery.adapters.redis_store import RedisStore
from tests.contract.redis_server import DURABLE, connect, running_redis
from tests.fakes.memory_store import MemoryStore

Store = MemoryStore | RedisStore


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[Path]:
    """One durable Redis for all tests; they keep apart by the names of their clusters."""
    with running_redis(*DURABLE) as path:
        yield path


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Each implementation of RunStore in turn."""
    if request.param == "memory":
        yield MemoryStore()
        return
    redis = connect(f"unix://{request.getfixturevalue('redis_socket')}")
    yield redis
    await redis.aclose()
