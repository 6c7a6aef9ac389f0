"""What stops a run that is at work: two leaders for longer than a leader's lease, and a person's abort."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence

import pytest

from bot.thread import question
from recovery.engine import ASSUMPTION_PATIENCE_S, LEADER_SAMPLES
from recovery.errors import HostBusy, HostUnreachable
from recovery.journal import LeadersSeen, Outcome, RunState, StepStarted, StepStatus
from recovery.model import ClusterName, RunId, ServerName
from recovery.plan import Action, StartAgent, StepId
from recovery.ports import ActKey
from tests.builders.runs import BOB, CLUSTER, Listener
from tests.builders.runs import Table as TableInMemory
from tests.fakes.fake_world import FakeWorld, three_servers
from tests.fakes.memory_store import MemoryStore
from tests.sweeps.virtual_time import VirtualClock, run_virtually

S1, S2, S3 = ServerName("s1"), ServerName("s2"), ServerName("s3")
START_S = 12.0
"""Long enough for many samples."""
AT_ONCE_S = 2.0


class Witnessed(FakeWorld):
    """A cluster whose starts take their time, and in which a script says who names itself leader."""

    def __init__(self, *, says: Sequence[tuple[ServerName, ...] | None] = ()) -> None:
        servers = three_servers()
        for server in servers[1:]:
            server.running = False
        super().__init__(ClusterName("demo"), servers)
        self._says = iter(says)
        self.sampled = 0

    async def leaders(self) -> tuple[ServerName, ...]:
        """The next line of the script; the truth after its end."""
        self.sampled += 1
        said = next(self._says, await super().leaders())
        if said is None:
            raise HostUnreachable("nobody answers")
        return said

    async def perform(self, action: Action, *, key: ActKey, timeout_s: float) -> str:
        if isinstance(action, StartAgent):
            await asyncio.sleep(START_S)
        return await super().perform(action, key=key, timeout_s=timeout_s)


class Table(TableInMemory):
    """In virtual time."""

    def __init__(self, world: FakeWorld) -> None:
        super().__init__(
            world,
            store=MemoryStore(),
            clock=VirtualClock(),  # type: ignore[arg-type]
            listener=Listener(),
        )
        self.driving: asyncio.Task[object] | None = None

    async def begun(self) -> RunId:
        """Proposed, driven and approved."""
        run = await self.proposed()
        self.driving = asyncio.create_task(self.drive(run))
        await self.wait(run, lambda state: state.waiting_gate is not None)
        await self.approve(run)
        return run

    async def wait(self, run: RunId, ready: Callable[[RunState], bool], *, most_s: float = 900.0) -> RunState:
        """Until the run is in a state."""
        async with asyncio.timeout(most_s):
            while not ready(state := await self.state(run)):
                await asyncio.sleep(0.1)
        return state


def virtually(test: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a test's body in virtual time."""
    run_virtually(test())


class TestTwoLeaders:
    def test_two_that_stay_leaders_stop_the_run_and_a_person_is_asked(self) -> None:
        """In all samples of longer than a lease: recorded once, nothing more begins, and people are asked."""

        async def body() -> None:
            table = Table(Witnessed(says=[(S1, S2)] * 100))
            run = await table.begun()
            state = await table.wait(run, lambda state: bool(state.two_leaders))
            assert state.two_leaders == (S1, S2)
            await asyncio.sleep(3 * START_S)
            events = table.listener.events
            seen = [number for number, event in enumerate(events) if isinstance(event, LeadersSeen)]
            assert len(seen) == 1
            assert not any(isinstance(event, StepStarted) for event in events[seen[0] :])
            state = await table.state(run)
            assert state.outcome is None
            assert question(state) == "leaders"

        virtually(body)

    @pytest.mark.parametrize(
        "says",
        [
            [(S1, S2)],
            [(S1, S2)] * (LEADER_SAMPLES - 1),
            [*[(S1, S2)] * (LEADER_SAMPLES - 1), (S1,), *[(S1, S2)] * (LEADER_SAMPLES - 1)],
            [(S1, S2), (S2, S3), (S1, S3)] * 3,
        ],
        ids=["once", "one sample too few", "with a gap", "never the same two"],
    )
    def test_two_for_a_moment_do_not(self, says: list[tuple[ServerName, ...] | None]) -> None:
        """An old leader steps down within its lease: what is seen for a shorter time stops nothing."""

        async def body() -> None:
            world = Witnessed(says=says)
            table = Table(world)
            run = await table.begun()
            state = await table.wait(run, lambda state: state.outcome is not None)
            assert state.outcome is Outcome.RECOVERED
            assert world.sampled > len(says)
            assert not any(isinstance(event, LeadersSeen) for event in table.listener.events)

        virtually(body)

    def test_a_sample_that_nobody_answered_is_none(self) -> None:
        """Hosts that do not answer end the watch as little as they count for it."""

        async def body() -> None:
            table = Table(Witnessed(says=[None, *[(S1, S2), None] * 100]))
            run = await table.begun()
            state = await table.wait(run, lambda state: bool(state.two_leaders))
            assert state.two_leaders == (S1, S2)

        virtually(body)


class TestAnAbortDoesNotWait:
    """However long a step may take, an abort while it waits ends the run within moments."""

    async def aborted(self, table: Table, run: RunId) -> RunState:
        """Abort, and see how long it takes."""
        before_s = table.clock.now_s()
        await table.service.abort(CLUSTER, run, by=BOB)
        state = await table.wait(run, lambda state: state.outcome is not None)
        assert state.outcome is Outcome.ABORTED
        assert state.ended_s - before_s < AT_ONCE_S
        return state

    def test_at_a_host_where_another_call_is_at_work(self) -> None:
        """The act is not asked for again after the abort, and the step says why it did not happen."""

        async def body() -> None:
            world = Witnessed()

            def busy(action: Action, key: ActKey) -> None:
                raise HostBusy(f"another call is at work; {key.step} was not done")

            world.before_act = busy
            table = Table(world)
            run = await table.begun()
            await asyncio.sleep(2 * START_S)
            state = await self.aborted(table, run)
            assert "another call is at work" in state.step_state(StepId("start-s2")).detail
            assert world.performed == []

        # Each try takes its time, as the start of an agent does.
        virtually(body)

    def test_at_a_step_whose_driver_was_lost_and_whose_host_is_away(self) -> None:
        """An abort ends the wait at once; the run ends once that host has been told that it is over."""

        async def body() -> None:
            world = Witnessed()
            table = Table(world)
            run = await table.begun()
            await table.wait(
                run, lambda state: state.step_state(StepId("start-s2")).status is StepStatus.DOING
            )
            assert table.driving is not None
            table.driving.cancel()
            await asyncio.gather(table.driving, return_exceptions=True)
            world.servers[S2].reachable = False
            table.driving = asyncio.create_task(table.drive(run, owner="bot-2"))
            await asyncio.sleep(5.0)
            await table.service.abort(CLUSTER, run, by=BOB)
            state = await table.wait(
                run, lambda state: bool(state.not_told), most_s=AT_ONCE_S + ASSUMPTION_PATIENCE_S
            )
            assert state.step_state(StepId("start-s2")).status is StepStatus.IN_DOUBT
            assert state.outcome is None
            assert "s2 is not reachable" in state.not_told[0]
            assert question(state).startswith("end:")
            world.servers[S2].reachable = True
            await table.service.retry(CLUSTER, run, by=BOB, question=state.question)
            state = await table.wait(run, lambda state: state.outcome is not None, most_s=AT_ONCE_S)
            assert state.outcome is Outcome.ABORTED
            assert world.servers[S2].over == {run}

        virtually(body)
