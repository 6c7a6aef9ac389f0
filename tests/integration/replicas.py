"""Bot processes that are killed while a recovery runs, people who click on, and a judge who looks from outside.

A story is a way to break a cluster and the command that heals it; whatever procedure it leads to is played
alike. Who judges believes no bot: starts and stops of each agent are counted in the hosts' own journals.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bot.wiring import Core, open_core
from config.settings import load_settings
from lab.datacentre import Lab
from lab.fleet import Fleet, fleet
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
    break_it: Callable[[Lab, Path | None], Awaitable[None]]
    """Brings the lab up, with this Consul where one is given, and breaks it."""
    command: str
    """What follows /consul; ``{cluster}`` stands for the cluster's name."""
    heals: Callable[[Lab], Awaitable[None]]
    """Raises where the cluster is not what it should be in the end."""
    old: bool = False
    """Whether it needs a Consul below 0.7."""


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


@dataclass(frozen=True, slots=True)
class Replicas:
    """A fleet of bots, and a view of its own of the runs."""

    fleet: Fleet
    core: Core

    @property
    def slack(self) -> LocalSlack:
        """The Slack that all of them are connected to."""
        return self.fleet.slack

    @property
    def cluster(self) -> ClusterName:
        """The cluster's name in their settings."""
        return ClusterName(self.fleet.cluster)

    async def events(self, run: RunId) -> tuple[Event, ...]:
        """The run's journal."""
        return await self.core.store.events(self.cluster, run)


@asynccontextmanager
async def replicas(lab: Lab, *, count: int) -> AsyncIterator[Replicas]:
    """Start that many bots over the lab's servers as they are now; stops them at the end."""
    async with fleet(lab, count=count) as bots:
        async with open_core(load_settings(bots.settings, environ={}), kind="test") as core:
            yield Replicas(bots, core)
        # Clicks to a killed process are not acked; everything else must be as Slack wants it.
        assert bots.slack.violations == []


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
    bot = play.bots.fleet.driver(state.owner)
    if bot is not None:
        play.hit |= at
        await play.bots.fleet.kill(bot)


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
