"""Bot processes that are killed while a recovery runs, people who click on, and a judge who looks from outside.

A story is a way to break a cluster and the command that heals it; whatever procedure it leads to is played
alike. Who judges believes no bot: starts and stops of each agent are counted in the hosts' own journals.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bot.wiring import Core, open_core
from config.settings import load_settings
from lab.bot_process import BotProcess
from lab.datacentre import Lab
from lab.fleet import Fleet, fleet
from lab.host import Host
from lab.slack import LocalSlack, Message
from lab.slack.records import Delivery
from recovery.errors import StoreUnavailable
from recovery.journal import (
    AbortChosen,
    Approved,
    Event,
    Gate,
    HandedOver,
    LeaseTaken,
    Proposed,
    RetryChosen,
    RunState,
    StepNotNeeded,
    StepStatus,
    StepVerified,
    fold,
)
from recovery.model import ClusterName, RunId
from recovery.plan import FenceAgent, StartAgent, StepId, StopAgent

LOOK_EVERY_S = 0.01
COUNTS_WITHIN_S = 30.0
"""An act that was acknowledged has led to something by then, or it was lost."""

# systemd.journal-fields(7) and sd-messages.h: SD_MESSAGE_UNIT_STOPPING.
_STOPPING = "de5b426a63be47a7b6ac3eaac82e2f6f"
# What systemd logs for `systemctl kill`.
_SIGNALLED = re.compile(r"Sent signal SIG(TERM|KILL) to main process \d+")


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
    covers: tuple[str, ...] = ()
    """How the steps begin for whose sake it is told."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each host's agent was started and stopped since its host booted, from its journal."""

    starts: Counter[str]
    stops: Counter[str]

    def since(self, before: Counts) -> Counts:
        """What came after."""
        return Counts(self.starts - before.starts, self.stops - before.stops)


async def counted(hosts: tuple[Host, ...]) -> Counts:
    """Count in the journals of the hosts that are on: a process that logged is a start, its bidden end a stop."""
    starts: Counter[str] = Counter()
    stops: Counter[str] = Counter()
    for host in hosts:
        if not host.is_on():
            continue
        lines = (await host.run("journalctl --unit=consul --output=json --no-pager")).splitlines()
        entries = [json.loads(line) for line in lines]
        starts[host.name] = len({entry["_PID"] for entry in entries if entry.get("_COMM") == "consul"})
        stops[host.name] = _stops(entries)
    return Counts(starts, stops)


def _stops(entries: list[dict[str, Any]]) -> int:
    """Count the processes that were bidden to end, by a signal to them or by a stop of their unit, or by both."""
    count, bidden = 0, False
    seen: set[str] = set()
    for entry in entries:
        if entry.get("_COMM") == "consul" and entry["_PID"] not in seen:
            seen.add(entry["_PID"])
            bidden = False
        signalled = _SIGNALLED.search(str(entry.get("MESSAGE", "")))
        if not bidden and (signalled or entry.get("MESSAGE_ID") == _STOPPING):
            count, bidden = count + 1, True
    return count


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
        """The run's journal, as somebody reads it who looks again while Redis does not answer."""
        while True:
            try:
                return await self.core.store.events(self.cluster, run)
            except StoreUnavailable:
                await asyncio.sleep(0.1)

    def card(self, run: RunId) -> Message | None:
        """The run's card; None while there is none."""
        cards = (m for m in self.slack.channel_messages() if m.metadata and m.thread_ts is None)
        return next((card for card in cards if str(run) in repr(card.metadata)), None)

    def thread(self, run: RunId) -> str:
        """Everything that stands under the run's card; "" where there is none."""
        card = self.card(run)
        replies = self.slack.thread(card.ts) if card is not None else []
        return "\n".join(self.slack.plain_text(message) for message in replies)


@asynccontextmanager
async def replicas(lab: Lab, *, count: int, list_clients: bool = True) -> AsyncIterator[Replicas]:
    """Start that many bots over the lab's servers as they are now; stops them at the end."""
    async with fleet(lab, count=count, list_clients=list_clients) as bots:
        async with open_core(load_settings(bots.settings, environ={}), kind="test") as core:
            yield Replicas(bots, core)
        # Clicks to a killed process are not acked; everything else must be as Slack wants it.
        assert bots.slack.violations == []


Strike = Callable[["Play", tuple[Event, ...], RunState], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that a person typed or pressed, and the process that acknowledged it to Slack."""

    who: str
    bot: BotProcess
    approves: bool
    """Whether an approval must come of it: not the press that only opens a form."""


@dataclass
class Play:
    """One run, from the command to its end, with something happening to it on the way.

    Each act goes to the process that had the fewest so far. It is repeated only where nobody acknowledged it, or
    where the process that did was killed: everything else must count, and what comes to nothing fails the play.
    """

    bots: Replicas
    strike: Strike
    """Called with the new events and the run as it stands, as soon as they are in the journal."""
    serves: Callable[[RunState], BotProcess | None] = lambda _: None
    """Who is sent an approval, where it is not the next one's turn."""
    acknowledged: Callable[[Act], None] = lambda _: None
    """Called as soon as an approval is acknowledged."""
    hit: set[StepId] = field(default_factory=set)
    """The steps that were under way, or had just ended, when a process was killed."""
    killed: set[str] = field(default_factory=set)
    """The names that leases knew these processes by."""
    acts: list[Act] = field(default_factory=list)
    """What was acknowledged, oldest first."""

    async def run(self, command: str, *, timeout_s: float) -> tuple[RunId, RunState]:
        """Alice types it, bob approves whatever is asked; the run and its end."""
        typed = f"/consul {command.format(cluster=self.bots.cluster)}"
        while await self._act("alice", lambda: self.bots.slack.slash(typed, user="alice")) is None:
            await asyncio.sleep(0.5)
        store, cluster = self.bots.core.store, self.bots.cluster
        async with asyncio.timeout(timeout_s):
            while (run := await store.active(cluster)) is None:
                await asyncio.sleep(0.1)
            bob = asyncio.create_task(self._bob(run))
            watching = asyncio.create_task(self._watch(run))
            try:
                done, _ = await asyncio.wait({bob, watching}, return_when=asyncio.FIRST_COMPLETED)
                if bob in done:
                    await bob
                state = await watching
            except asyncio.CancelledError:
                told = [repr(event)[:300] for event in (await store.events(cluster, run))[1:]]
                raise AssertionError(
                    f"the run did not end within {timeout_s:.0f} s:\n" + "\n".join(told[-25:])
                ) from None
            finally:
                for task in (bob, watching):
                    task.cancel()
                await asyncio.gather(bob, watching, return_exceptions=True)
        return run, state

    async def _watch(self, run: RunId) -> RunState:
        seen = 0
        while True:
            events = await self.bots.events(run)
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
        """Approve each gate as soon as its button is there."""
        while True:
            state = fold(await self.bots.events(run))
            if state.outcome is not None:
                return
            gate = state.waiting_gate
            card = self.bots.card(run)
            if gate is None or card is None or f"{run}|{gate.id}|" not in repr(card.versions[-1].blocks):
                await asyncio.sleep(0.1)
                continue
            await self._approve(run, state, gate, card)

    async def _approve(self, run: RunId, state: RunState, gate: Gate, card: Message) -> None:
        slack, before, to = self.bots.slack, len(state.approvals), self.serves(state)
        button = "run_approve_typed" if gate.typed else "run_approve"
        press = partial(slack.click, card, button, user="bob")
        act = await self._act("bob", press, to=to, approves=not gate.typed)

        async def a_form() -> bool:
            return bool(slack.modals("bob"))

        async def an_approval() -> bool:
            return len(fold(await self.bots.events(run)).approvals) > before

        if gate.typed and act is not None:
            if not await _comes_of(act, a_form, "a form"):
                return
            names = {f"type:{name}": str(name) for name in gate.typed}
            submit = partial(slack.submit, slack.modals("bob")[-1], names, user="bob")
            act = await self._act("bob", submit, to=to, approves=True)
        if act is not None:
            await _comes_of(act, an_approval, "an approval")

    async def _act(
        self,
        who: str,
        deliver: Callable[[], Awaitable[Delivery]],
        *,
        to: BotProcess | None = None,
        approves: bool = False,
    ) -> Act | None:
        """Send it to one process (Slack takes another one, should that have no socket); None where nobody acked."""
        fleet = self.bots.fleet
        sockets = {bot: fleet.sockets_of(bot) for bot in fleet.bots}
        served = Counter(act.bot for act in self.acts)
        there = [bot for bot in fleet.bots if sockets[bot]]
        chosen = to or min(there, key=lambda bot: served[bot], default=None)
        if chosen is not None:
            fleet.slack.sockets.prefer(sockets.get(chosen, frozenset()))
        delivery = await deliver()
        if not delivery.acked:
            return None
        # Who has connected meanwhile may have been given it.
        now = {bot: fleet.sockets_of(bot) for bot in fleet.bots}
        by = next(
            bot for each in (sockets, now) for bot, numbers in each.items() if delivery.socket in numbers
        )
        act = Act(who, by, approves)
        self.acts.append(act)
        if approves:
            self.acknowledged(act)
        return act


async def _comes_of(act: Act, look: Callable[[], Awaitable[bool]], what: str) -> bool:
    """Wait for what an acknowledged act must lead to; False where its process was killed with it."""
    deadline_s = time.monotonic() + COUNTS_WITHIN_S
    while True:
        killed = act.bot.was_killed
        if await look():
            return True
        if killed:
            return False
        assert time.monotonic() < deadline_s, (
            f"Slack was told that a press of {act.who} was taken, and {what} did not come of it"
        )
        await asyncio.sleep(0.1)


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
        play.killed.add(state.owner)
        await play.bots.fleet.kill(bot)
    # What it wrote just before it was killed is read only now: that kill was for these steps too.
    if state.owner in play.killed:
        play.hit |= at


def both(*strikes: Strike) -> Strike:
    """One after the other."""

    async def strike(play: Play, events: tuple[Event, ...], state: RunState) -> None:
        for each in strikes:
            await each(play, events, state)

    return strike


def takeovers(events: tuple[Event, ...]) -> list[LeaseTaken]:
    """The times when a driver took over from one that fell silent."""
    return [event for event in events if isinstance(event, LeaseTaken) and event.took_over_from]


def lease_gaps_s(events: tuple[Event, ...]) -> list[float]:
    """For each of them, the seconds since the last word of the driver that fell silent."""
    gaps_s: list[float] = []
    spoke_s = 0.0
    for event in events:
        if isinstance(event, LeaseTaken) and event.took_over_from:
            gaps_s.append(event.at_s - spoke_s)
        if not isinstance(event, Proposed | Approved | RetryChosen | AbortChosen):
            spoke_s = event.at_s
    return gaps_s


def hand_overs(events: tuple[Event, ...]) -> list[HandedOver]:
    """The times when a driver gave the run back by itself."""
    return [event for event in events if isinstance(event, HandedOver)]
