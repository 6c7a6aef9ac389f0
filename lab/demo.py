"""The main job, played: a real cluster loses its leader, and a Slack channel brings it back.

`python -m lab.demo` plays it by itself and ends with a summary; `--play`
leaves everything running for a person at the page.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import sys
import time
from pathlib import Path

from rich.console import Console

from lab.bot_process import BotProcess
from lab.bot_settings import write_settings
from lab.datacentre import Lab
from lab.errors import LabError
from lab.pictures import photograph
from lab.slack.server import LocalSlack
from lab.slack.workspace import Message

PORT = 8765
KEY, VALUE = "demo/before-the-disaster", "still here"
NEW_ADDRESSES = {"s2": "198.51.100.22", "s3": "198.51.100.23"}


class Demo:
    """One play, on one lab."""

    def __init__(
        self, lab: Lab, slack: LocalSlack, folder: Path, console: Console, *, pictures: Path | None = None
    ) -> None:
        self._pictures = pictures
        self._lab = lab
        self._slack = slack
        self._folder = folder
        self._console = console
        self._addresses = {f"s{n}": f"198.51.100.1{n}" for n in (1, 2, 3)}
        self._told: set[str] = set()

    def say(self, text: str) -> None:
        """A line of the play."""
        self._console.print(f"[bold cyan]== {text}[/]", highlight=False)

    async def start(self) -> BotProcess:
        """Bring the cluster, Redis and the bot up, and write the key."""
        began_s = time.monotonic()
        self.say("Starting three servers (real systemd, sshd and Consul, each a host of its own) ...")
        await self._lab.up(servers=3)
        self.say(f"A Consul cluster with a leader, after {time.monotonic() - began_s:.1f} s")
        await self._lab.host("s1").run(f"consul kv put {KEY} '{VALUE}'")
        self.say(f"Written before the disaster: {KEY} = {VALUE!r}")
        bot = BotProcess(await self.settings(), self._folder / "bot.log")
        await bot.start()
        await self._slack.wait_connected(timeout_s=30)
        self.say("The bot is connected to the local Slack")
        return bot

    async def settings(self) -> Path:
        """Write what an operator would write."""
        return write_settings(
            self._folder,
            slack_api_url=self._slack.api_url,
            bot_token=self._slack.bot_token,
            app_token=self._slack.app_token,
            redis_url=await self._lab.redis(),
            ssh_user=self._lab.ssh_user,
            ssh_key=self._lab.ssh_key,
            known_hosts=self._lab.known_hosts,
            servers=self._addresses,
        )

    async def lose_majority(self, bot: BotProcess) -> None:
        """s2 and s3 lose their disks; empty machines of the same names run at other addresses."""
        self.say("DISASTER: s2 and s3 lose their disks. Empty machines of the same names come up elsewhere.")
        await asyncio.gather(
            *(self._lab.replace(name, address=address) for name, address in NEW_ADDRESSES.items())
        )
        self._addresses |= NEW_ADDRESSES
        self.say("The new addresses are put in the settings, and the bot is restarted")
        await bot.stop()
        await self.settings()
        await bot.start()
        await self._slack.wait_connected(timeout_s=30)

    async def type(self, text: str, *, user: str) -> None:
        """Somebody types a command."""
        self._console.print(f"\n[bold green]{user}[/] types [bold]{text}[/]", highlight=False)
        delivery = await self._slack.slash(text, user=user)
        if not delivery.acked:
            raise LabError(f"the bot did not acknowledge {text!r} in time; see {self._folder / 'bot.log'}")

    def show_new(self) -> None:
        """Print what is new in the channel and its threads."""
        for message in self._slack.workspace.messages:
            text = self._slack.plain_text(message)
            mark = f"{message.ts}:{hash(text)}"
            if message.deleted or mark in self._told:
                continue
            self._told.add(mark)
            if message.thread_ts is not None:
                self._console.print(f"   | {text}", style="dim", highlight=False, markup=False)
            elif len(message.versions) <= 1 or self._settled(text):
                where = f"(only {message.ephemeral_to} sees this) " if message.ephemeral_to else ""
                self._console.print(f"\n{where}{text}", highlight=False, markup=False)

    @staticmethod
    def _settled(text: str) -> bool:
        """Whether a new version of the live card says something a person must read."""
        return "waiting" in text.splitlines()[0] or ": done" in text.splitlines()[0]

    async def expect(self, *words: str, timeout_s: float) -> Message:
        """Wait for a message outside threads with all these words, telling what comes meanwhile."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            self.show_new()
            for message in reversed(self._slack.workspace.messages):
                if message.deleted or message.thread_ts is not None:
                    continue
                text = self._slack.plain_text(message)
                if all(word in text for word in words):
                    return message
            await asyncio.sleep(0.2)
        raise LabError(
            f"nothing with {words} appeared within {timeout_s:g} s; see {self._folder / 'bot.log'}"
        )

    async def play(self) -> None:
        """Status, recover, two approvals, leader back."""
        await self.type("/consul status demo", user="alice")
        await self.expect("demo has NO LEADER", "majority is gone", timeout_s=60)
        await self.type("/consul recover demo", user="alice")
        await self.expect("--lost s2,s3", "not claimed", timeout_s=60)
        await self.type("/consul recover demo --lost s2,s3", user="alice")
        plan = await self.expect("waiting for approval", timeout_s=60)
        began_s = time.monotonic()
        await self._photograph("plan", "waiting for approval", "Steps:")
        self._press("bob", "Approve")
        await self._slack.click(plan, "run_approve", user="bob")
        if self._pictures is not None:
            await self.expect(": running", "✅", timeout_s=60)
            await self._photograph("live", ": running")
        gate = await self.expect("waiting for the second approval", timeout_s=120)
        await self._photograph("second-gate", "waiting for the second approval", "asked for by")
        self._press("bob", "Approve, and types the names of the servers that nobody can fence")
        await self._slack.click(gate, "run_approve_typed", user="bob")
        modal = await self._slack.wait(lambda: self._slack.modals("bob"), timeout_s=10)
        await self._slack.submit(modal[-1], {"type:s2": "s2", "type:s3": "s3"}, user="bob")
        await self.expect(": done", timeout_s=240)
        await self._photograph("done", ": done", "Catalogue before")
        took_s = time.monotonic() - began_s
        self.show_new()
        await self._summary(took_s)

    async def _photograph(self, name: str, *words: str) -> None:
        if self._pictures is not None:
            # The browser lives in the lab's network, as the bot does: it asks the bot's side of the server.
            page = self._slack.api_url.removesuffix("api/")
            await photograph(page, *words, name=name, folder=self._pictures)

    def _press(self, user: str, what: str) -> None:
        self._console.print(f"\n[bold green]{user}[/] presses [bold]{what}[/]", highlight=False)

    async def _summary(self, took_s: float) -> None:
        value = (await self._lab.host("s3").run(f"consul kv get {KEY}")).strip()
        peers = (await self._lab.host("s1").run("consul operator raft list-peers")).strip()
        self.say("Asked from the replaced s3")
        self._console.print(f"{KEY} = {value!r}\n\n{peers}\n", highlight=False, markup=False)
        if value != VALUE:
            raise LabError(f"the key is not what was written: {value!r}")
        if sum("true" in line.split() for line in peers.splitlines()) != 3:
            raise LabError("not all three servers are voters")
        self._slack.assert_clean()
        self.say(
            f"DONE: leader back, two replaced servers voting, the key is there. "
            f"First approval to the end: {took_s:.0f} s."
        )


def _page_socket(lab: Lab) -> socket.socket:
    """The usual port, so that a bookmark works; any other one if somebody has it."""
    try:
        return lab.listen_outside(PORT)
    except OSError:
        return lab.listen_outside()


async def main(*, play_by_hand: bool, pictures: Path | None) -> int:
    """Play; 0 when everything was as it should be."""
    console = Console(soft_wrap=True)
    async with Lab.create(name="demo") as lab:
        lab.enter()
        # The page is for a browser on the machine, so its socket is opened in the machine's own network.
        sockets = [_page_socket(lab), socket.create_server(("127.0.0.1", 0))]
        async with LocalSlack(sockets=sockets) as slack:
            console.print(f"\n[bold]Watch it in a browser: {slack.public_url}/[/]\n", highlight=False)
            demo = Demo(lab, slack, lab.folder / "bot", console, pictures=pictures)
            bot = await demo.start()
            try:
                if play_by_hand:
                    await demo.lose_majority(bot)
                    demo.say(
                        "Your turn, at the page: as alice `/consul status`, then "
                        "`/consul recover --lost s2,s3`; approve as bob. Ctrl-C ends it."
                    )
                    await asyncio.Event().wait()
                await demo.type("/consul status demo", user="alice")
                await demo.expect("demo is healthy", timeout_s=60)
                await demo.lose_majority(bot)
                await demo.play()
            except LabError:
                console.print(bot.log_text[-6000:], highlight=False, markup=False)
                raise
            finally:
                with contextlib.suppress(LabError):
                    await bot.stop()
    return 0


def run() -> None:
    """Parse the command line and play."""
    parser = argparse.ArgumentParser(prog="python -m lab.demo", description=__doc__)
    parser.add_argument("--play", action="store_true", help="break the cluster, then leave it to you")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="also take pictures of the page")
    arguments = parser.parse_args()
    try:
        sys.exit(asyncio.run(main(play_by_hand=arguments.play, pictures=arguments.pictures)))
    except KeyboardInterrupt:
        sys.exit(0)
    except LabError as error:
        sys.exit(f"The demo did not end as it should: {error}")


if __name__ == "__main__":
    run()
