"""One driver goes, the next one goes on: handed over, dead, or unlocked by a person; nothing is done twice."""

import asyncio

import pytest

from recovery.engine import drive_run
from recovery.errors import LeaseLost
from recovery.journal import HandedOver, LeaseTaken, Outcome, RunState, StepStatus
from recovery.model import HostTrace, RunId, ServerName
from recovery.plan import Action, StartAgent, StepId
from recovery.policy import Rejected
from recovery.ports import ActKey, LeaseHeld
from recovery.service import Done
from tests.builders.runs import BOB, CLUSTER, Table
from tests.fakes.fake_world import FakeWorld, three_servers


@pytest.fixture
def table() -> Table:
    """Two of three servers are stopped."""
    servers = three_servers()
    servers[1].running = servers[2].running = False
    return Table(FakeWorld(CLUSTER, servers))


def drive(table: Table, run: RunId, *, owner: str, stop: asyncio.Event | None = None) -> asyncio.Task[object]:
    """Drive in a task of its own."""
    return asyncio.create_task(
        drive_run(
            CLUSTER,
            run,
            owner=owner,
            world=table.world,
            store=table.store,
            notifier=table.listener,
            clock=table.clock,
            stop=stop,
        )
    )


async def test_a_driver_that_waits_for_approval_hands_over_at_once(table: Table) -> None:
    """It says so in the journal and gives the lease back; the approval given meanwhile counts for the next."""
    run, stop = await table.proposed(), asyncio.Event()
    first = drive(table, run, owner="bot-1", stop=stop)
    await table.until(run, lambda s: s.waiting_gate is not None)
    stop.set()
    state = await first
    assert isinstance(state, RunState)
    assert state.outcome is None
    assert await table.store.driver(CLUSTER) is None
    await table.approve(run)
    ended = await drive(table, run, owner="bot-2")
    assert isinstance(ended, RunState)
    assert ended.outcome is Outcome.RECOVERED
    assert [s.starts for s in table.world.servers.values()] == [0, 1, 1]
    kinds = [type(event) for event in table.listener.events]
    assert kinds.count(HandedOver) == 1
    taken = [event for event in table.listener.events if isinstance(event, LeaseTaken)]
    assert [event.took_over_from for event in taken] == ["", ""]


async def test_the_step_under_way_is_finished_and_recorded_before_a_hand_over(table: Table) -> None:
    """Told to stop in the middle of a start, the driver still records its outcome; the next step is not begun."""
    run, stop = await table.proposed(), asyncio.Event()

    def told_to_stop(action: Action, key: ActKey) -> None:
        del key
        if isinstance(action, StartAgent):
            stop.set()

    table.world.before_act = told_to_stop
    first = drive(table, run, owner="bot-1", stop=stop)
    await table.until(run, lambda s: s.waiting_gate is not None)
    await table.approve(run)
    state = await first
    assert isinstance(state, RunState)
    assert [state.step_state(StepId(f"start-{name}")).status for name in ("s2", "s3")] == [
        StepStatus.DONE
    ] * 2
    assert state.step_state(StepId("leader")).status is StepStatus.TODO
    assert state.owner == ""


async def test_who_takes_over_from_a_dead_driver_says_from_whom_and_where(table: Table) -> None:
    """The journal names the driver that fell silent and the step that the next one goes on with."""
    run = await table.proposed()
    first = drive(table, run, owner="bot-1")
    await table.until(run, lambda s: s.waiting_gate is not None)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await table.approve(run)
    ended = await drive(table, run, owner="bot-2")
    assert isinstance(ended, RunState)
    taken = [event for event in table.listener.events if isinstance(event, LeaseTaken)]
    assert (taken[-1].took_over_from, taken[-1].at) == ("bot-1", "start-s2")


async def test_whoever_only_looks_in_asks_no_host(table: Table) -> None:
    """While one process drives, the others learn it from the store alone."""
    run = await table.proposed()
    first = drive(table, run, owner="bot-1")
    await table.until(run, lambda s: s.waiting_gate is not None)
    asked = 0

    async def traces() -> tuple[HostTrace, ...]:
        nonlocal asked
        asked += 1
        return ()

    table.world.traces = traces  # type: ignore[method-assign]
    held = await table.drive(run, owner="bot-2")
    assert isinstance(held, LeaseHeld)
    assert asked == 0
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


class TestUnlock:
    async def test_a_run_without_a_driver_is_unlocked_by_its_own_name(self, table: Table) -> None:
        """It ends as it stands, the audit entry says who and why, and the lock is free."""
        run = await table.proposed()
        answer = await table.service.unlock(CLUSTER, run, by=BOB, holder=run, reason="the bot is gone")
        assert isinstance(answer, Done)
        state = await table.state(run)
        assert state.outcome is Outcome.UNLOCKED
        assert state.unlocked is not None
        assert (state.unlocked.by, state.unlocked.alive, state.unlocked.reason) == (
            BOB,
            False,
            "the bot is gone",
        )
        assert await table.store.active(CLUSTER) is None
        assert await table.proposed() != run

    async def test_a_living_driver_must_be_named_and_stops(self, table: Table) -> None:
        """The run's name is not enough while somebody drives it; once taken away, the driver does nothing more."""
        run = await table.proposed()
        first = drive(table, run, owner="bot-1")
        await table.until(run, lambda s: s.waiting_gate is not None)
        refused = await table.service.unlock(CLUSTER, run, by=BOB, holder=run, reason="x")
        assert isinstance(refused, Rejected)
        assert "bot-1 is alive" in refused.reason
        assert await table.store.active(CLUSTER) == run
        answer = await table.service.unlock(CLUSTER, run, by=BOB, holder="bot-1", reason="x")
        assert isinstance(answer, Done)
        assert answer.view.state.unlocked is not None
        assert answer.view.state.unlocked.alive
        ended = (await asyncio.gather(first, return_exceptions=True))[0]
        assert isinstance(ended, LeaseLost) or (
            isinstance(ended, RunState) and ended.outcome is Outcome.UNLOCKED
        )
        assert table.world.performed == []

    @pytest.mark.parametrize("reason", ["", "  "])
    async def test_no_reason_no_unlock(self, table: Table, reason: str) -> None:
        """The audit entry without a reason is none."""
        run = await table.proposed()
        assert isinstance(
            await table.service.unlock(CLUSTER, run, by=BOB, holder=run, reason=reason), Rejected
        )
        assert await table.store.active(CLUSTER) == run

    async def test_an_ended_run_holds_no_lock(self, table: Table) -> None:
        """Unlocking it says so and changes nothing."""
        run = await table.proposed()
        await table.drive_approved(run)
        answer = await table.service.unlock(CLUSTER, run, by=BOB, holder=run, reason="x")
        assert isinstance(answer, Rejected)

    async def test_what_was_done_stays_as_it_is(self, table: Table) -> None:
        """A started server stays started; nothing is taken back."""
        run = await table.proposed()
        table.world.after_act = lambda _action, _key: setattr(
            table.world.servers[ServerName("s3")], "reachable", False
        )
        first = drive(table, run, owner="bot-1")
        await table.until(run, lambda s: s.waiting_gate is not None)
        await table.approve(run)
        await table.until(run, lambda s: s.waiting_step is not None)
        await table.service.unlock(CLUSTER, run, by=BOB, holder="bot-1", reason="s3 burns")
        await asyncio.gather(first, return_exceptions=True)
        assert table.world.servers[ServerName("s2")].running
