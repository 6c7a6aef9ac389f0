"""One process of the bot: the real supervisor and engine, on ports at which it can be killed or stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recovery.codec import Journal
from recovery.errors import StoreUnavailable
from recovery.journal import Event, RunState, Unlocked
from recovery.model import ClusterName, ClusterObservation, Fact, HostTrace, RunId, ServerName, Sighting
from recovery.plan import Action, Check
from recovery.ports import ActKey, Lease, LeaseHeld, MembersTold, Notifier
from recovery.service import DecisionResult
from recovery.supervisor import Supervisor
from tests.builders.runs import CLUSTER
from tests.sweeps.points import Killed, Paused
from tests.sweeps.virtual_time import VirtualClock

if TYPE_CHECKING:
    from tests.sweeps.stage import Stage


class Quiet:
    """A notifier that shows nothing to nobody."""

    async def show(self, cluster: ClusterName, run: RunId, state: RunState, events: Sequence[Event]) -> None:
        """Nothing."""

    async def say(self, cluster: ClusterName, run: RunId, state: RunState, note: str) -> None:
        """Nothing."""


class Process:
    """A bot process on the stage; ``die`` and ``pause`` take effect at its next word to the outside."""

    def __init__(self, stage: Stage, owner: str, notifier_of: Callable[[Process], Notifier]) -> None:
        self.stage = stage
        self.owner = owner
        self.dead = False
        self.woken = asyncio.Event()
        self.woken.set()
        self.reached = 0
        self.clicks: set[asyncio.Task[DecisionResult]] = set()
        """What people click while it works."""
        self.store = ProcessStore(self)
        world = ProcessWorld(self)
        self.task = asyncio.create_task(
            Supervisor(
                owner=owner,
                service=stage.service(world=world, store=self.store),
                worlds={CLUSTER: world},
                store=self.store,
                notifier=notifier_of(self),
                clock=VirtualClock(),
            ).serve(),
            name=owner,
        )

    async def word(self) -> None:
        """Every word to the outside: the dead say nothing more."""
        if self.dead:
            await asyncio.Event().wait()
        await self.woken.wait()

    async def reach(self, when: str, what: str, *, step: str = "", act: Act | None = None) -> None:
        """Tell the stage where we are; others come between; what is raised there happens to us here."""
        await asyncio.sleep(0)
        await self.word()
        self.stage.act = act
        try:
            self.stage.reached(self, when, what, step)
        except (Killed, Paused) as end:
            await self.struck(end)

    async def struck(self, end: Killed | Paused) -> None:
        """Die or stand still."""
        self.dead = self.dead or isinstance(end, Killed)
        if isinstance(end, Paused):
            self.woken.clear()
        await self.word()


@dataclass(frozen=True, slots=True)
class Act:
    """An act on its way to a host."""

    process: Process
    action: Action
    key: ActKey

    def __str__(self) -> str:
        again = f" (try {self.key.attempt})" if self.key.attempt > 1 else ""
        return f"{self.key.direction} {self.key.step}{again}"


class ProcessWorld:
    """The world as one process reaches it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.stage.world

    async def observe(self) -> ClusterObservation:
        await self._process.word()
        return await self._world.observe()

    async def members(self) -> MembersTold | None:
        await self._process.word()
        return await self._world.members()

    async def check(self, check: Check, *, run: RunId) -> Fact:
        await self._process.word()
        return self._process.stage.sees(check, run) or await self._world.check(check, run=run)

    async def perform(self, action: Action, *, key: ActKey, timeout_s: float) -> str:
        act = Act(self._process, action, key)
        await self._process.reach("before act", str(act), step=key.step, act=act)
        if self._process.stage.act_takes_s:
            await asyncio.sleep(self._process.stage.act_takes_s)
            await self._process.word()
        self._process.stage.act = act
        try:
            said = await self._world.perform(action, key=key, timeout_s=timeout_s)
        except (Killed, Paused) as end:
            await self._process.struck(end)
            raise AssertionError("the dead go on") from None
        await self._process.reach("after act", str(act), step=key.step, act=act)
        return said

    async def receipt(self, action: Action, *, key: ActKey) -> Fact:
        await self._process.word()
        fact = await self._world.receipt(action, key=key)
        await self._process.stage.land()
        return fact

    async def claim(self, servers: Sequence[ServerName], *, key: ActKey) -> Mapping[ServerName, str]:
        await self._process.word()
        return await self._world.claim(servers, key=key)

    async def close(self, servers: Sequence[ServerName], *, run: RunId) -> Mapping[ServerName, str]:
        await self._process.word()
        return await self._world.close(servers, run=run)

    async def explain(self, server: ServerName) -> tuple[str, ...]:
        await self._process.word()
        return await self._world.explain(server)

    async def traces(self) -> tuple[HostTrace, ...]:
        await self._process.word()
        return await self._world.traces()

    async def leaders(self) -> tuple[ServerName, ...]:
        await self._process.word()
        return await self._world.leaders()

    async def running(self, servers: Sequence[ServerName]) -> tuple[Sighting, ...]:
        await self._process.word()
        return await self._world.running(servers)


class ProcessStore:
    """The store as one process reaches it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._store = process.stage.store

    async def propose(self, cluster: ClusterName, run: RunId, event: Event) -> RunId:
        await self._process.word()
        return await self._store.propose(cluster, run, event)

    async def active(self, cluster: ClusterName) -> RunId | None:
        await self._process.word()
        return await self._store.active(cluster)

    async def events(self, cluster: ClusterName, run: RunId, *, after: int = 0) -> tuple[Event, ...]:
        await self._process.word()
        return await self._store.events(cluster, run, after=after)

    async def journal(self, cluster: ClusterName, run: RunId) -> Journal:
        await self._process.word()
        return await self._store.journal(cluster, run)

    async def runs(self, cluster: ClusterName, *, limit: int = 20) -> tuple[RunId, ...]:
        await self._process.word()
        return await self._store.runs(cluster, limit=limit)

    async def take_lease(
        self, cluster: ClusterName, run: RunId, *, owner: str, ttl_s: float, above_epoch: int
    ) -> Lease | LeaseHeld:
        await self._process.reach("before lease", str(run))
        lease = await self._store.take_lease(cluster, run, owner=owner, ttl_s=ttl_s, above_epoch=above_epoch)
        await self._process.reach("after lease", str(run))
        return lease

    async def renew_lease(self, lease: Lease, *, ttl_s: float) -> None:
        await self._process.word()
        await self._store.renew_lease(lease, ttl_s=ttl_s)

    async def release_lease(self, lease: Lease) -> None:
        if self._process.dead:
            raise StoreUnavailable("the dead give nothing back")
        await self._process.word()
        await self._store.release_lease(lease)

    async def append(self, lease: Lease, event: Event, *, expected_length: int) -> None:
        about = getattr(event, "step", "") or getattr(event, "gate", "") or getattr(event, "when", "")
        what = f"{type(event).__name__} {about}".strip()
        step = getattr(event, "step", "")
        await self._process.reach("before append", what, step=step)
        await self._store.append(lease, event, expected_length=expected_length)
        await self._process.reach("after append", what, step=step)

    async def decide(self, cluster: ClusterName, run: RunId, event: Event, *, expected_length: int) -> None:
        await self._process.word()
        await self._store.decide(cluster, run, event, expected_length=expected_length)

    async def driver(self, cluster: ClusterName) -> LeaseHeld | None:
        await self._process.word()
        return await self._store.driver(cluster)

    async def unlock(
        self, cluster: ClusterName, run: RunId, event: Unlocked, *, expected_length: int
    ) -> None:
        await self._process.word()
        await self._store.unlock(cluster, run, event, expected_length=expected_length)

    async def wait(self, cluster: ClusterName, run: RunId, *, length: int, timeout_s: float) -> None:
        await self._process.word()
        await self._store.wait(cluster, run, length=length, timeout_s=timeout_s)

    async def epoch(self, cluster: ClusterName) -> int:
        await self._process.word()
        return await self._store.epoch(cluster)

    async def remember(self, cluster: ClusterName, name: str, value: str) -> None:
        await self._process.word()
        await self._store.remember(cluster, name, value)

    async def recall(self, cluster: ClusterName, name: str) -> str | None:
        await self._process.word()
        return await self._store.recall(cluster, name)

    async def once(self, key: str, *, ttl_s: float) -> bool:
        await self._process.word()
        return await self._store.once(key, ttl_s=ttl_s)
