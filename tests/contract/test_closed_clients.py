"""A client that is closed leaves nothing open, whoever was at work in it: no transport is lost, none is made anew."""

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import asyncssh
import pytest

from recovery.adapters.in_flight import InFlight
from recovery.adapters.shared_question import SharedQuestion
from recovery.adapters.ssh import SshAccess, SshPool
from recovery.errors import HostUnreachable, StoreUnavailable
from recovery.model import ClusterName
from tests.contract.redis_server import connect

HOST = "127.0.0.1"
MOMENTS_S = [number * 0.005 for number in range(14)]
"""When the asker is cut off and the client closed: before it connects, while it does, behind it."""


@pytest.fixture
def nothing_left() -> Iterator[Callable[[], None]]:
    """A look for what was left open; what is collected in the end says so itself."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")

        def look() -> None:
            gc.collect()
            assert [str(warning.message) for warning in told] == []

        yield look
        look()


async def cut_off(question: Callable[[], Awaitable[object]], *, after_s: float) -> None:
    """Ask what is shielded from its asker, who is then cut off."""
    asking = asyncio.create_task(SharedQuestion(question)())
    await asyncio.sleep(after_s)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def ssh_server(folder: Path) -> tuple[asyncssh.SSHAcceptor, SshAccess]:
    """A server that runs every command to a good end, and how it is reached."""
    host_key, user_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    (folder / "key").touch(mode=0o600)
    user_key.write_private_key(folder / "key")
    (folder / "authorized").write_bytes(user_key.export_public_key())
    server = await asyncssh.listen(
        HOST,
        0,
        server_host_keys=[host_key],
        authorized_client_keys=str(folder / "authorized"),
        process_factory=lambda process: process.exit(0),
    )
    port = server.get_port()
    (folder / "known").write_text(f"[{HOST}]:{port} {host_key.export_public_key().decode()}")
    access = SshAccess(
        user="recovery",
        key_path=str(folder / "key"),
        known_hosts_path=str(folder / "known"),
        port=port,
    )
    return server, access


def test_a_closed_ssh_pool_leaves_nothing_open(tmp_path: Path, nothing_left: Callable[[], None]) -> None:
    """Shared questions outlive who asked them; the pool outlives none of them, at whatever moment it is closed."""

    async def closed_at(moment_s: float) -> None:
        server, access = await ssh_server(tmp_path)
        pool = SshPool(access)

        async def question() -> None:
            for _ in range(3):
                await pool.run(HOST, "true", stdin=b"", timeout_s=5)
                await pool.socket_to(HOST, 9)

        await cut_off(question, after_s=moment_s)
        await pool.aclose()
        with pytest.raises(HostUnreachable, match="this program ends"):
            await pool.run(HOST, "true", stdin=b"", timeout_s=5)
        with pytest.raises(HostUnreachable, match="this program ends"):
            await pool.socket_to(HOST, 9)
        server.close()
        await server.wait_closed()

    for moment_s in MOMENTS_S:
        asyncio.run(closed_at(moment_s))
        nothing_left()


def test_a_closed_store_leaves_nothing_open(redis_socket: Path, nothing_left: Callable[[], None]) -> None:
    """A call that is repeated because its connection was closed under it would open another one."""

    async def closed_at(moment_s: float) -> None:
        store = connect(f"unix://{redis_socket}")

        async def question() -> None:
            while True:
                await asyncio.gather(*(store.active(ClusterName("prod")) for _ in range(3)))

        await cut_off(question, after_s=moment_s / 4)
        await store.aclose()
        with pytest.raises(StoreUnavailable, match="this program ends; the run was not looked up"):
            await store.active(ClusterName("prod"))
        # Whoever was cut off gets no further word from Redis.
        await asyncio.sleep(0.01)

    for moment_s in MOMENTS_S:
        asyncio.run(closed_at(moment_s))
        nothing_left()


async def test_whoever_swallows_the_end_is_told_again() -> None:
    """asyncio.wait_for of Python 3.11 can lose a cancellation; the end does not hang on it."""
    calls = InFlight()
    swallowed = 0

    async def deaf() -> None:
        nonlocal swallowed
        with calls.call(RuntimeError):
            while swallowed < 2:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    swallowed += 1

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await calls.end()
    await task
    assert swallowed == 2
