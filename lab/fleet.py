"""Several bot processes on one Redis and one local Slack, as many as in the beginning whatever happens to them."""

import contextlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from lab.bot_process import BotProcess
from lab.bot_settings import write_settings
from lab.datacentre import Lab
from lab.errors import LabError
from lab.slack import LocalSlack

SOCKETS_A_BOT = 2


class Fleet:
    """The processes, with the settings that all of them share."""

    def __init__(self, slack: LocalSlack, settings: Path, *, cluster: str) -> None:
        self.slack = slack
        self.settings = settings
        self.cluster = cluster
        self.bots: list[BotProcess] = []
        self.killed = 0
        self._made = 0

    async def start_one(self) -> None:
        """Start one more; it may not be connected yet."""
        self._made += 1
        bot = BotProcess(self.settings, self.settings.parent / f"bot-{self._made}.log")
        await bot.start()
        self.bots.append(bot)

    async def connected(self, *, timeout_s: float = 90.0) -> None:
        """Wait until all are connected."""
        await self.slack.wait_connected(SOCKETS_A_BOT * len(self.bots), timeout_s=timeout_s)

    def driver(self, owner: str) -> BotProcess | None:
        """The living process that leases know by this name."""
        return next((bot for bot in self.bots if owner and owner in _owners(bot)), None)

    def sockets_of(self, bot: BotProcess) -> frozenset[int]:
        """The numbers of the sockets that this process has open to the local Slack."""
        ports = bot.tcp_ports()
        return frozenset(number for number, port in self.slack.sockets.client_ports.items() if port in ports)

    async def kill(self, bot: BotProcess) -> None:
        """SIGKILL it, and start another one in its place."""
        self.bots.remove(bot)
        await bot.kill()
        self.killed += 1
        await self.start_one()

    async def replace(self, bot: BotProcess) -> int:
        """One step of a rolling deploy: SIGTERM this one, start another one; gives the exit status."""
        self.bots.remove(bot)
        await self.start_one()
        return await bot.stop()

    def logs(self) -> str:
        """What all of them have logged, those too that are gone."""
        paths = [self.settings.parent / f"bot-{number}.log" for number in range(1, self._made + 1)]
        return "".join(path.read_text(encoding="utf-8") for path in paths)

    async def close(self) -> None:
        """Stop all."""
        for bot in self.bots:
            with contextlib.suppress(LabError):
                await bot.stop()


def _owners(bot: BotProcess) -> set[str]:
    return set(re.findall(r'"owner": ?"([^"]+)"', bot.log_text))


@asynccontextmanager
async def fleet(lab: Lab, *, count: int, list_clients: bool = True) -> AsyncIterator[Fleet]:
    """Start that many bots over the lab's servers as they are now, connected; stops them at the end.

    With `list_clients` False the settings name no client agent: only gossip tells of them.
    """
    cluster = f"c{os.urandom(3).hex()}"
    async with LocalSlack(seed=7) as slack:
        settings = write_settings(
            lab.folder / "fleets" / cluster,
            slack_api_url=slack.api_url,
            bot_token=slack.bot_token,
            app_token=slack.app_token,
            redis_url=await lab.redis(),
            ssh_user=lab.ssh_user,
            ssh_key=lab.ssh_key,
            known_hosts=lab.known_hosts,
            servers={host.name: host.address for host in lab.servers},
            clients={host.name: host.address for host in lab.hosts if list_clients and not host.server},
            cluster=cluster,
        )
        made = Fleet(slack, settings, cluster=cluster)
        try:
            for _ in range(count):
                await made.start_one()
            await made.connected()
            yield made
        finally:
            await made.close()
