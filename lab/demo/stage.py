"""What every story of the demo stands on: a lab, a local Slack, the bot as a process, and the transcript."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lab.bot_process import BotProcess
from lab.bot_settings import write_settings
from lab.datacentre import Lab
from lab.errors import LabError
from lab.pictures import photograph
from lab.slack.server import LocalSlack
from lab.slack.workspace import Message


class Stage:
    """One play, on one lab: types and clicks as people do, and tells what the channel shows."""

    def __init__(
        self, lab: Lab, slack: LocalSlack, folder: Path, console: Console, *, pictures: Path | None = None
    ) -> None:
        self.lab = lab
        self.slack = slack
        self._console = console
        self._folder = folder
        self._pictures = pictures
        self._bot: BotProcess | None = None
        self._told: set[str] = set()

    def say(self, text: str) -> None:
        """A line of the play."""
        self._console.print(f"[bold cyan]== {text}[/]", highlight=False)

    def show(self, text: str) -> None:
        """Something that a program answered, as it is."""
        self._console.print(text, highlight=False, markup=False)

    @property
    def bot_log(self) -> str:
        """What the bot has logged."""
        return self._bot.log_text if self._bot is not None else ""

    async def start_bot(self, servers: Mapping[str, str]) -> None:
        """Write the settings that an operator would write, and start (or restart) the bot with them."""
        await self.stop_bot()
        path = write_settings(
            self._folder,
            slack_api_url=self.slack.api_url,
            bot_token=self.slack.bot_token,
            app_token=self.slack.app_token,
            redis_url=await self.lab.redis(),
            ssh_user=self.lab.ssh_user,
            ssh_key=self.lab.ssh_key,
            known_hosts=self.lab.known_hosts,
            servers=servers,
        )
        self._bot = self._bot or BotProcess(path, self._folder / "bot.log")
        await self._bot.start()
        await self.slack.wait_connected(timeout_s=30)
        self.say("The bot is connected to the local Slack")

    async def stop_bot(self) -> None:
        """SIGTERM, as a service manager does; nothing where it does not run."""
        if self._bot is not None:
            await self._bot.stop()

    async def type(self, text: str, *, user: str) -> None:
        """Somebody types a command."""
        self._console.print(f"\n[bold green]{user}[/] types [bold]{text}[/]", highlight=False)
        delivery = await self.slack.slash(text, user=user)
        if not delivery.acked:
            raise LabError(f"the bot did not acknowledge {text!r} in time; see {self._folder / 'bot.log'}")

    def press(self, user: str, what: str) -> None:
        """Tell that somebody presses a button."""
        self._console.print(f"\n[bold green]{user}[/] presses [bold]{what}[/]", highlight=False)

    def show_new(self) -> None:
        """Print what is new in the channel and its threads."""
        for message in self.slack.workspace.messages:
            text = self.slack.plain_text(message)
            mark = f"{message.ts}:{hash(text)}"
            if message.deleted or mark in self._told:
                continue
            self._told.add(mark)
            if message.thread_ts is not None:
                self._console.print(f"   | {text}", style="dim", highlight=False, markup=False)
            elif len(message.versions) <= 1 or _settled(text):
                where = f"(only {message.ephemeral_to} sees this) " if message.ephemeral_to else ""
                self.show(f"\n{where}{text}")

    async def expect(self, *words: str, timeout_s: float) -> Message:
        """Wait for a message outside threads with all these words, telling what comes meanwhile."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            self.show_new()
            for message in reversed(self.slack.workspace.messages):
                if message.deleted or message.thread_ts is not None:
                    continue
                text = self.slack.plain_text(message)
                if all(word in text for word in words):
                    return message
            await asyncio.sleep(0.2)
        raise LabError(
            f"nothing with {words} appeared within {timeout_s:g} s; see {self._folder / 'bot.log'}"
        )

    async def photograph(self, name: str, *words: str) -> None:
        """Take a picture of the newest message with all these words, where pictures were asked for."""
        if self._pictures is None:
            return
        # The browser lives in the lab's network, as the bot does: it asks the bot's side of the server.
        page = self.slack.api_url.removesuffix("api/")
        await photograph(page, *words, name=name, folder=self._pictures)

    async def photograph_live(self) -> None:
        """Take a picture of the live card: behind the last approval it is live for longest."""
        if self._pictures is not None:
            await self.expect(": running", "✅", timeout_s=60)
            await self.photograph("live", ": running")


def _settled(text: str) -> bool:
    """Whether a new version of the live card says something a person must read."""
    first = text.partition("\n")[0]
    return "waiting" in first or ": done" in first


@dataclass(frozen=True, slots=True)
class Story:
    """One cluster, one disaster, and how people and the bot cure it."""

    set_up: Callable[[Stage], Awaitable[None]]
    """A healthy cluster with a bot that looks after it."""
    disaster: Callable[[Stage], Awaitable[None]]
    play: Callable[[Stage], Awaitable[None]]
    """From the first look to the last word; raises LabError where it does not end well."""
    by_hand: str
    """What a person types and presses who plays it alone."""
