"""A redis-server of our own, for a bot on one machine: a unix socket in a closed folder, no TCP.

It belongs to whoever uses it, not to whoever started it: the bot and a
terminal on the same machine share it, the first one starts it and the last one
stops it. Each user holds a shared lock on ``users.lock`` as long as it lives
(the kernel frees it even after kill -9), and whoever can lock that file
exclusively is the last. ``start.lock`` keeps starting and stopping apart.

Therefore it detaches itself from the process that started it, and a service
manager must signal only the bot (``KillMode=mixed``), or it dies before the
bot has recorded where it stands. Every write is on the disk before it is
acknowledged (appendfsync always), so that a crash of everything loses nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from recovery.errors import SettingsProblem, StoreUnavailable

_START_TIMEOUT_S = 30.0
"""Loading a long journal takes a while; an empty one 0.1 s."""
_LONGEST_SOCKET_PATH = 107
"""sockaddr_un.sun_path of Linux, without its ending zero byte."""


@asynccontextmanager
async def private_redis(state_folder: Path, *, program: str = "redis-server") -> AsyncIterator[str]:
    """Give the URL of the private Redis of ``state_folder``, starting it if nobody has yet.

    SettingsProblem: redis-server is not installed, or the folder is not ours alone.
    StoreUnavailable: it did not come up.
    """
    path = state_folder / "redis.sock"
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        raise SettingsProblem(
            f"redis.state_folder {state_folder} is too long for a socket; nothing was started."
            f" Choose a folder with at most {_LONGEST_SOCKET_PATH - len('/redis.sock')} characters."
        )
    _prepare(state_folder)
    with _opened(state_folder / "users.lock") as users, _opened(state_folder / "start.lock") as starting:
        await asyncio.to_thread(fcntl.flock, starting, fcntl.LOCK_EX)
        try:
            await asyncio.to_thread(fcntl.flock, users, fcntl.LOCK_SH)
            if not await _answers(path):
                await _start(state_folder, program)
        finally:
            fcntl.flock(starting, fcntl.LOCK_UN)
        try:
            yield f"unix://{path}"
        finally:
            await asyncio.to_thread(fcntl.flock, starting, fcntl.LOCK_EX)
            if _is_last(users):
                await _stop(path)


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise SettingsProblem(
            f"redis.state_folder {folder} cannot be used ({error.strerror}); nothing was started."
            " Make that folder for the bot's user with mode 0700, or name another one."
        ) from None
    if status.st_uid != os.geteuid():
        raise SettingsProblem(
            f"redis.state_folder {folder} belongs to user id {status.st_uid}, not to us ({os.geteuid()});"
            " nothing was started. Run this as the bot's user (sudo -u)."
        )
    if status.st_mode & 0o077:
        raise SettingsProblem(
            f"redis.state_folder {folder} is open to other users; nothing was started. Run: chmod 700 {folder}"
        )


def _opened(path: Path) -> IO[bytes]:
    return path.open("ab")


def _is_last(users: IO[bytes]) -> bool:
    # flock cannot turn shared into exclusive in one act, but start.lock keeps newcomers away meanwhile.
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _start(folder: Path, program: str) -> None:
    found = shutil.which(program)
    if found is None:
        raise SettingsProblem(
            "The settings ask for a private Redis, but redis-server is not installed; nothing was started."
            " Install it (Debian: apt-get install redis-server), or set redis.url."
        )
    log = folder / "redis.log"
    process = await asyncio.create_subprocess_exec(
        found,
        *("--port", "0"),
        *("--unixsocket", str(folder / "redis.sock"), "--unixsocketperm", "700"),
        *("--dir", str(folder), "--logfile", str(log), "--pidfile", str(folder / "redis.pid")),
        *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
        *("--maxmemory-policy", "noeviction", "--daemonize", "yes"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate()
    if process.returncode == 0 and await _comes_up(folder):
        return
    raise StoreUnavailable(
        f"The private Redis in {folder} did not start; nothing was done. Read {log}."
        f" {_last_line(log) or complaint.decode(errors='replace').strip()}".rstrip()
    )


async def _comes_up(folder: Path) -> bool:
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + _START_TIMEOUT_S
    while loop.time() < deadline_s:
        if await _answers(folder / "redis.sock"):
            return True
        if _gone(folder / "redis.pid"):
            return False
        await asyncio.sleep(0.05)
    return False


def _gone(pid_file: Path) -> bool:
    """Whether it wrote its process id and that process is no more: a damaged journal, a full disk."""
    try:
        os.kill(int(pid_file.read_text(encoding="ascii")), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _last_line(log: Path) -> str:
    try:
        return log.read_text(encoding="utf-8", errors="replace").rstrip().rpartition("\n")[2]
    except OSError:
        return ""


async def _answers(path: Path) -> bool:
    return await _say(path, b"PING") == b"+PONG\r\n"


async def _stop(path: Path) -> None:
    """Ask it to end, and wait until its socket is closed; it has written everything already."""
    await _say(path, b"SHUTDOWN")


async def _say(path: Path, command: bytes) -> bytes:
    """Send one inline command (Redis protocol specification) and give its answer; b"" if there is none."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return b""
    try:
        writer.write(command + b"\r\n")
        return await asyncio.wait_for(reader.readline(), 10)
    except (OSError, TimeoutError):
        return b""
    finally:
        writer.close()
