"""Bot processes that are killed while a recovery runs, people who click on, and a judge who looks from outside.

A story is a way to break a cluster and the command that heals it; whatever procedure it leads to is played
alike. Who judges believes no bot: starts and stops of each agent are counted in the hosts' own journals.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bot.wiring import Core, open_core
from config.settings import load_settings
from lab.bot_process import BotProcess
from lab.bot_settings import write_settings
from lab.datacentre import Lab
from lab.errors import LabError
from lab.host import Host
from lab.slack import LocalSlack, Message
from recovery.journal import (
    Event,
    HandedOver,
    LeaseTaken,
    RunState,
    StepNotNeeded,
    StepStatus,
    StepVerified,
    fold,
)
from recovery.model import ClusterName, RunId
from recovery.plan import FenceAgent, StartAgent, StepId, StopAgent

LOOK_EVERY_S = 0.01
CLICK_AGAIN_S = 3.0
"""A click that was acked by a process which died before it was recorded: people click again."""

# systemd.journal-fields(7) and sd-messages.h: SD_MESSAGE_UNIT_STOPPING.
_STOPPING = "de5b426a63be47a7b6ac3eaac82e2f6f"


@dataclass(frozen=True, slots=True)
class Story:
    """One cluster broken in one way, and what a person types to have it healed."""

    name: str
    break_it: Callable[[Lab], Awaitable[None]]
    """Brings the lab up and breaks it."""
    command: str
    """What follows /consul; ``{cluster}`` stands for the cluster's name."""
    heals: Callable[[Lab], Awaitable[None]]
    """Raises where the cluster is not what it should be in the end."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each host's agent was started and stopped since its host booted, from its journal."""

    starts: Counter[str]
    stops: Counter[str]

    def since(self, before: Counts) -> Counts:
        """What came after."""
        return Counts(self.starts - before.starts, self.stops - before.stops)


async def counted(hosts: tuple[Host, ...]) -> Counts:
    """Count in the journals of the hosts that are on: a process that logged is a start, a stop job is a stop."""
    starts: Counter[str] = Counter()
    stops: Counter[str] = Counter()
    for host in hosts:
        if not host.is_on():
            continue
        lines = (await host.run("journalctl --unit=consul --output=json --no-pager")).splitlines()
        entries = [json.loads(line) for line in lines]
        starts[host.name] = len({entry["_PID"] for entry in entries if entry.get("_COMM") == "consul"})
        stops[host.name] = sum(entry.get("MESSAGE_ID") == _STOPPING for entry in entries)
    return Counts(starts, stops)


async def running(hosts: tuple[Host, ...]) -> frozenset[str]:
    """Name the hosts whose agent runs."""
    found = set()
    for host in hosts:
        if (
            host.is_on()
            and (await host.run("systemctl show --property=MainPID --value consul")).strip() != "0"
        ):
            found.add(host.name)
    return frozenset(found)


def planned(states: list[RunState], *, ran: frozenset[str]) -> Counts:
    """What the plans' finished steps come to; ``ran``: whose agents ran before the first of them."""
    starts: Counter[str] = Counter()
    stops: Counter[str] = Counter()
    up = set(ran)
    for state in states:
        for step, step_state in zip(state.plan.steps, state.steps, strict=True):
            if step_state.status is not StepStatus.DONE:
                continue
            match step.action:
                case StartAgent(server=server):
                    starts[server] += 1
                    up.add(server)
                case StopAgent(server=server) | FenceAgent(server=server) if server in up:
                    stops[server] += 1
                    up.discard(server)
                case _:
                    pass
    return Counts(starts, stops)


class Replicas:
    """Several bot processes on one Redis and one Slack, as many as in the beginning whatever happens to them."""

    def __init__(
        self, lab: Lab, slack: LocalSlack, core: Core, settings: os.PathLike[str], cluster: str
    ) -> None:
        self.lab = lab
        self.slack = slack
        self.core = core
        self.cluster = ClusterName(cluster)
        self._settings = settings
        self._bots: list[BotProcess] = []
        self._made = 0
        self.killed = 0

    async def start_one(self) -> None:
        """Start one more."""
        self._made += 1
        folder = self.lab.folder / "replicas" / self.cluster
        bot = BotProcess(folder / "settings.yaml", folder / f"bot-{self._made}.log")
        await bot.start()
        self._bots.append(bot)

    @property
    def logs(self) -> str:
        """What all of them logged."""
        folder = self.lab.folder / "replicas" / self.cluster
        return "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("bot-*.log")))

    def driver(self, owner: str) -> BotProcess | None:
        """The process that leases know by this name."""
        return next((bot for bot in self._bots if owner and owner in _owners(bot)), None)

    async def kill(self, bot: BotProcess) -> None:
        """SIGKILL it, and start another one in its place."""
        self._bots.remove(bot)
        await bot.kill()
        self.killed += 1
        await self.start_one()

    async def replace(self, bot: BotProcess) -> int:
        """A rolling deploy's step: start another one, then SIGTERM this one; its exit status."""
        await self.start_one()
        await self.slack.wait_connected(2 * len(self._bots), timeout_s=60)
        self._bots.remove(bot)
        return await bot.stop()

    async def close(self) -> None:
        """Stop all."""
        for bot in self._bots:
            with contextlib.suppress(LabError):
                await bot.stop()


def _owners(bot: BotProcess) -> set[str]:
    return set(re.findall(r'"owner": ?"([^"]+)"', bot.log_text))


@asynccontextmanager
async def replicas(lab: Lab, *, count: int) -> AsyncIterator[Replicas]:
    """Start that many bots over the lab's servers as they are now; stops them at the end."""
    cluster = f"c{os.urandom(3).hex()}"
    async with LocalSlack(seed=7) as slack:
        settings = write_settings(
            lab.folder / "replicas" / cluster,
            slack_api_url=slack.api_url,
            bot_token=slack.bot_token,
            app_token=slack.app_token,
            redis_url=await lab.redis(),
            ssh_user=lab.ssh_user,
            ssh_key=lab.ssh_key,
            known_hosts=lab.known_hosts,
            servers={host.name: host.address for host in lab.servers},
            cluster=cluster,
        )
        async with open_core(load_settings(settings, environ={}), kind="test") as core:
            several = Replicas(lab, slack, core, settings, cluster)
            try:
                for _ in range(count):
                    await several.start_one()
                await slack.wait_connected(2 * count, timeout_s=90)
                yield several
            finally:
                await several.close()
        # Clicks to a killed process are not acked; everything else must be as Slack wants it.
        assert slack.violations == []


Strike = Callable[["Play", tuple[Event, ...], RunState], Awaitable[None]]


@dataclass
class Play:
    """One run, from the command to its end, with something happening to it on the way."""

    bots: Replicas
    strike: Strike
    """Called with the new events and the run as it stands, as soon as they are in the journal."""
    hit: set[StepId] = field(default_factory=set)
    """The steps that were under way, or had just ended, when a process was killed."""

    async def run(self, command: str, *, timeout_s: float) -> tuple[RunId, RunState]:
        """Alice types it, bob approves whatever is asked; the run and its end."""
        typed = f"/consul {command.format(cluster=self.bots.cluster)}"
        await self._until_acked(lambda: self.bots.slack.slash(typed, user="alice"))
        store, cluster = self.bots.core.store, self.bots.cluster
        async with asyncio.timeout(timeout_s):
            while (run := await store.active(cluster)) is None:
                await asyncio.sleep(0.1)
            bob = asyncio.create_task(self._bob(run))
            try:
                state = await self._watch(run)
            except asyncio.CancelledError:
                told = [repr(event)[:300] for event in (await store.events(cluster, run))[1:]]
                raise AssertionError(
                    f"the run did not end within {timeout_s:.0f} s:\n" + "\n".join(told[-25:])
                ) from None
            finally:
                bob.cancel()
                await asyncio.gather(bob, return_exceptions=True)
        return run, state

    async def _watch(self, run: RunId) -> RunState:
        store, cluster = self.bots.core.store, self.bots.cluster
        seen = 0
        while True:
            events = await store.events(cluster, run)
            state = fold(events)
            if len(events) > seen:
                new, seen = events[seen:], len(events)
                await self.strike(self, new, state)
            if state.outcome is not None:
                return state
            if state.waiting_step is not None or state.doubts:
                raise AssertionError(_why(state))
            await asyncio.sleep(LOOK_EVERY_S)

    async def _bob(self, run: RunId) -> None:
        """Approve each gate as soon as its button is there; again, if nothing came of it."""
        slack, store, cluster = self.bots.slack, self.bots.core.store, self.bots.cluster
        while True:
            state = fold(await store.events(cluster, run))
            gate = state.waiting_gate
            card = self.card(run)
            if gate is None or card is None or f"{run}|{gate.id}|" not in repr(card.versions[-1].blocks):
                await asyncio.sleep(0.1)
                continue
            before = len(state.approvals)
            if gate.typed:
                await slack.click(card, "run_approve_typed", user="bob")
                with contextlib.suppress(TimeoutError):
                    modal = (await slack.wait(lambda: slack.modals("bob"), timeout_s=5))[-1]
                    await slack.submit(modal, {f"type:{name}": str(name) for name in gate.typed}, user="bob")
            else:
                await slack.click(card, "run_approve", user="bob")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLICK_AGAIN_S):
                    while len(fold(await store.events(cluster, run)).approvals) == before:
                        await asyncio.sleep(0.1)

    def card(self, run: RunId) -> Message | None:
        """The run's card; None while there is none."""
        cards = (m for m in self.bots.slack.channel_messages() if m.metadata and m.thread_ts is None)
        return next((card for card in cards if str(run) in repr(card.metadata)), None)

    async def _until_acked(self, deliver: Callable[[], Awaitable[object]]) -> None:
        while not getattr(await deliver(), "acked", False):
            await asyncio.sleep(0.5)


def _why(state: RunState) -> str:
    step = state.waiting_step
    if step is None:
        return f"a person is asked where nobody should be: {state.doubts}"
    told = state.step_state(step.id)
    return f"a person is asked where nobody should be: {step.id} is {told.status}: {told.detail}"


def kill_within(*steps: str) -> Strike:
    """Kill the driver as soon as one of these steps has begun (all steps, when none is named), once for each."""

    async def strike(play: Play, events: tuple[Event, ...], state: RunState) -> None:
        del events
        doing = {
            step.id
            for step, at in zip(state.plan.steps, state.steps, strict=True)
            if at.status is StepStatus.DOING and (not steps or step.id in steps)
        }
        await _kill(play, doing, state)

    return strike


def kill_between(*steps: str) -> Strike:
    """Kill the driver as soon as one of these steps has ended, once for each."""

    async def strike(play: Play, events: tuple[Event, ...], state: RunState) -> None:
        ended = {
            event.step
            for event in events
            if isinstance(event, StepVerified | StepNotNeeded) and (not steps or event.step in steps)
        }
        await _kill(play, ended, state)

    return strike


async def _kill(play: Play, at: set[StepId], state: RunState) -> None:
    if at <= play.hit or state.outcome is not None:
        return
    bot = play.bots.driver(state.owner)
    if bot is not None:
        play.hit |= at
        await play.bots.kill(bot)


def both(*strikes: Strike) -> Strike:
    """One after the other."""

    async def strike(play: Play, events: tuple[Event, ...], state: RunState) -> None:
        for each in strikes:
            await each(play, events, state)

    return strike


def takeovers(events: tuple[Event, ...]) -> list[LeaseTaken]:
    """The times when a driver took over from one that fell silent."""
    return [event for event in events if isinstance(event, LeaseTaken) and event.took_over_from]


def hand_overs(events: tuple[Event, ...]) -> list[HandedOver]:
    """The times when a driver gave the run back by itself."""
    return [event for event in events if isinstance(event, HandedOver)]
