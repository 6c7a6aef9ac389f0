"""A real Redis from the lab's Debian tree, in namespaces of its own: no TCP at all, one unix socket."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.root import ensure_root
from recovery.adapters.redis_client import client_at
from recovery.adapters.redis_store import RedisStore
from recovery.signing import SigningKey

# Bind mounts live in the new mount namespace only, and the network namespace has no way out.
_INSIDE = """set -eu
root=$1 folder=$2
shift 2
mount --bind "$folder" "$root/mnt"
exec chroot "$root" redis-server --port 0 --unixsocket /mnt/redis.sock --dir /mnt "$@"
"""

DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction")

KEY = SigningKey(b"the key of the contract tests")


def connect(
    url: str, *, username: str | None = None, password: str | None = None, key: SigningKey = KEY
) -> RedisStore:
    """A store for one address; nothing is sent yet."""
    return RedisStore(client_at(url, username=username, password=password), key=key)


@contextmanager
def running_redis(*options: str) -> Iterator[Path]:
    """Run one redis-server with these options and give the path of its socket; RuntimeError if it fails."""
    # A short folder: the path of a unix socket may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="redis-") as folder, (Path(folder) / "log").open("w+") as log:
        process = subprocess.Popen(
            [
                *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"),
                *("sh", "-c", _INSIDE, "redis", str(ensure_root()), folder, *options),
            ],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        try:
            path = Path(folder) / "redis.sock"
            _wait_until_it_answers(path, process)
            yield path
        except RuntimeError as error:
            log.seek(0)
            raise RuntimeError(f"{error}:\n{log.read()}") from None
        finally:
            process.kill()
            process.wait()


def _wait_until_it_answers(path: Path, process: subprocess.Popen[bytes], within_s: float = 20) -> None:
    deadline_s = time.monotonic() + within_s
    while process.poll() is None and time.monotonic() < deadline_s:
        if _answer(path, b"PING").startswith((b"+PONG", b"-NOAUTH")):
            return
        time.sleep(0.02)
    raise RuntimeError("redis-server of the lab's tree did not come up")


def _answer(path: Path, command: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.settimeout(2)
            connection.connect(str(path))
            connection.sendall(command + b"\r\n")
            return connection.recv(100)
        except OSError:
            return b""
