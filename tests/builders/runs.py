"""A run driven in memory: the real service, supervisor and engine over the fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from recovery.engine import drive_run
from recovery.journal import Event, RunState
from recovery.model import ClusterName, ClusterSpec, Person, RunId, ServerName, ServerSpec
from recovery.policy import ApprovalPolicy
from recovery.ports import LeaseHeld
from recovery.service import ProposeResult, RecoveryService, RunProposed
from tests.fakes.fake_world import FakeWorld
from tests.fakes.memory_store import MemoryStore
from tests.sweeps.virtual_time import VirtualClock

CLUSTER = ClusterName("demo")
ALICE, BOB = Person("alice"), Person("bob")
PATIENCE_S = 900.0
"""Less than a gate is open for."""


@dataclass
class SteppedClock(VirtualClock):
    """The running loop's time, which a test may set forward."""

    ahead_s: float = 0.0

    def now_s(self) -> float:
        return super().now_s() + self.ahead_s

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


@dataclass
class Listener:
    """Keeps what a notifier is told."""

    events: list[Event] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    async def show(self, cluster: ClusterName, run: RunId, state: RunState, events: Sequence[Event]) -> None:
        del cluster, run, state
        self.events += events

    async def say(self, cluster: ClusterName, run: RunId, state: RunState, note: str) -> None:
        del cluster, run, state
        self.notes.append(note)


@dataclass
class Table:
    """Everything a run needs, in memory."""

    world: FakeWorld
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: SteppedClock = field(default_factory=SteppedClock)
    listener: Listener = field(default_factory=Listener)
    policy: ApprovalPolicy = field(default_factory=ApprovalPolicy)
    runs: int = 0

    @property
    def service(self) -> RecoveryService:
        """The use cases over this table."""
        spec = ClusterSpec(CLUSTER, tuple(ServerSpec(s.name, s.address) for s in self.world.servers.values()))
        return RecoveryService(
            clusters={CLUSTER: spec},
            worlds={CLUSTER: self.world},
            store=self.store,
            approval=self.policy,
            clock=self.clock,
            new_id=self._new_id,
        )

    def _new_id(self) -> RunId:
        self.runs += 1
        return RunId(f"r{self.runs}")

    async def propose(self, *, lost: tuple[str, ...] = (), method: str | None = None) -> ProposeResult:
        """Alice asks for a recovery."""
        names = tuple(ServerName(name) for name in lost)
        return await self.service.propose(CLUSTER, by=ALICE, origin="terminal", lost=names, method=method)

    async def proposed(self, *, lost: tuple[str, ...] = (), method: str | None = None) -> RunId:
        """Alice asks, and there is a plan."""
        answer = await self.propose(lost=lost, method=method)
        assert isinstance(answer, RunProposed), answer
        return answer.view.run

    async def state(self, run: RunId) -> RunState:
        """The run as the store has it."""
        return (await self.service.show(CLUSTER, run)).state

    async def drive(self, run: RunId, *, owner: str = "bot-1") -> RunState | LeaseHeld:
        """Drive it in this task."""
        return await drive_run(
            CLUSTER,
            run,
            owner=owner,
            world=self.world,
            store=self.store,
            notifier=self.listener,
            clock=self.clock,
        )

    async def approve(self, run: RunId) -> None:
        """Bob approves whatever gate is open, typing what has to be typed."""
        state = await self.state(run)
        gate = state.waiting_gate
        assert gate is not None, "nobody is asked"
        await self.service.approve(
            CLUSTER, run, by=BOB, gate=gate.id, digest_prefix=state.digest[:12], typed=gate.typed
        )

    async def until(self, run: RunId, ready: Callable[[RunState], bool]) -> RunState:
        """Wait until the run is in a state; the driver runs beside us."""
        async with asyncio.timeout(PATIENCE_S):
            while not ready(state := self.store.folded(CLUSTER, run)):
                await self.store.wait(CLUSTER, run, length=state.length, timeout_s=PATIENCE_S)
        return state

    async def drive_approved(self, run: RunId) -> RunState:
        """Drive to the end, with Bob approving at every gate."""
        task = asyncio.create_task(self.drive(run))
        while True:
            state = await self.until(
                run,
                lambda s: s.outcome is not None or s.waiting_gate is not None or s.waiting_step is not None,
            )
            if state.waiting_gate is None:
                break
            await self.approve(run)
        if state.outcome is None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return state
        ended = await task
        assert isinstance(ended, RunState)
        return ended
