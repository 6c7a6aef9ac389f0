"""The bot as a process of its own, as in production: started, stopped, killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from lab.errors import LabError


class BotProcess:
    """One running `consul-recovery-bot`, in the network of whoever starts it."""

    def __init__(self, settings: Path, log: Path) -> None:
        self._settings = settings
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self.was_killed = False

    @property
    def pid(self) -> int:
        """Its process id; LabError when it does not run."""
        if self._process is None:
            raise LabError("the bot is not running")
        return self._process.pid

    @property
    def log_text(self) -> str:
        """Everything it has logged so far."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def tcp_ports(self) -> frozenset[int]:
        """The local ports of its TCP connections over IPv4; none when it does not run."""
        if self._process is None:
            return frozenset()
        process = Path(f"/proc/{self.pid}")
        try:
            mine = {_target(file) for file in (process / "fd").iterdir()}
            table = (process / "net/tcp").read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            return frozenset()
        # proc(5): local_address is the second column, the inode the tenth.
        rows = [line.split() for line in table]
        return frozenset(int(row[1].rpartition(":")[2], 16) for row in rows if f"socket:[{row[9]}]" in mine)

    async def start(self) -> None:
        """Start it; it is ready when its sockets are connected, which the local Slack can tell."""
        environment = {
            name: value
            for name, value in os.environ.items()
            # py-consul and slack-sdk would take these for their own.
            if not name.startswith(("CONSUL_", "SLACK_")) and not name.lower().endswith("_proxy")
        }
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "bot",
                "--settings",
                str(self._settings),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )

    async def stop(self) -> int:
        """SIGTERM, as a service manager does; gives its exit status."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL: it gets no chance to say goodbye."""
        self.was_killed = True
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(how)
        try:
            async with asyncio.timeout(30):
                return await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise LabError("the bot did not end within 30 s after SIGTERM") from None


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""
