"""A store that lost a part of its history: nobody goes on before a person has confirmed, and nothing is lost twice."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from recovery.errors import StoreForgot
from recovery.forgotten import leftovers, runs_seen
from recovery.journal import Event, LeaseTaken, Outcome, RunState, StepStatus
from recovery.model import ClusterName, RunId, ServerName
from recovery.plan import Action, StepId, StopAgent
from recovery.policy import Rejected
from recovery.ports import ActKey, LeaseHeld
from recovery.service import RunProposed
from recovery.supervisor import Supervisor
from tests.builders.runs import BOB, CLUSTER, Listener, Table
from tests.fakes.fake_world import FakeWorld, majority_replaced, three_servers

LOST = ("s2", "s3")
BY_ADDRESS = ("198.51.100.12:8300", "198.51.100.13:8300")
"""With everything stopped nobody is left to tell the old names; the refusal says what to write."""
S1 = ServerName("s1")


def replaced() -> Table:
    return Table(FakeWorld(ClusterName("demo"), majority_replaced()))


async def driven_until_stopped(table: Table) -> tuple[RunId, bytes]:
    """A run whose driver died after s1 was stopped, and a dump from just after the approval."""
    run = await table.proposed(lost=LOST)
    task = asyncio.create_task(table.drive(run))
    await table.until(run, lambda s: s.waiting_gate is not None)
    await table.approve(run)
    dump = table.store.dump()
    await table.until(run, lambda s: s.step_state(StepId("stop-s1")).status is StepStatus.DONE)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not table.world.servers[S1].running
    return run, dump


class TestAnOldDumpRestored:
    async def test_a_person_confirms_before_the_new_driver_acts(self) -> None:
        """The new driver says what only the hosts know, does nothing until somebody goes on, then finishes above."""
        table = replaced()
        run, dump = await driven_until_stopped(table)
        acts = len(table.world.performed)
        highest = max(server.epoch for server in table.world.servers.values())
        table.store.restore(dump)
        task = asyncio.create_task(table.drive(run, owner="bot-2"))
        state = await table.until(run, lambda s: bool(s.forgotten))
        assert "s1 has done stop-s1, which is not in the journal" in state.forgotten
        assert state.epoch > highest
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(table.world.performed) == acts
        assert (await table.state(run)).forgotten == state.forgotten
        await table.service.retry(CLUSTER, run, by=BOB)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        ended = await table.drive_approved(run)
        assert ended.outcome is Outcome.RECOVERED
        assert table.world.servers[S1].stops == 1
        assert ended.epoch > state.epoch

    async def test_what_was_confirmed_is_not_asked_again(self) -> None:
        """A driver that dies right after the confirmation leaves no second question to the next one."""
        table = replaced()
        run, dump = await driven_until_stopped(table)
        table.store.restore(dump)
        task = asyncio.create_task(table.drive(run, owner="bot-2"))
        await table.until(run, lambda s: bool(s.forgotten))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await table.service.retry(CLUSTER, run, by=BOB)
        again = asyncio.create_task(table.drive(run, owner="bot-3"))
        state = await table.until(run, lambda s: s.owner == "bot-3")
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)
        assert state.forgotten == ()

    async def test_a_driver_that_dies_before_anybody_answered_leaves_the_question(self) -> None:
        """The question survives its driver: the next one still waits for a person."""
        table = replaced()
        run, dump = await driven_until_stopped(table)
        table.store.restore(dump)
        for owner in ("bot-2", "bot-3"):
            task = asyncio.create_task(table.drive(run, owner=owner))
            state = await table.until(run, lambda s, owner=owner: s.owner == owner)  # type: ignore[misc]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert len(state.forgotten) == len(set(state.forgotten)) > 0

    async def test_abort_is_the_other_answer(self) -> None:
        """Whoever does not trust what is left of the run aborts it; the lock is free for a new plan."""
        table = replaced()
        run, dump = await driven_until_stopped(table)
        table.store.restore(dump)
        task = asyncio.create_task(table.drive(run, owner="bot-2"))
        await table.until(run, lambda s: bool(s.forgotten))
        await table.service.abort(CLUSTER, run, by=BOB)
        ended = await task
        assert not isinstance(ended, LeaseHeld)
        assert ended.outcome is Outcome.ABORTED
        assert isinstance(await table.propose(lost=BY_ADDRESS), RunProposed)

    async def test_an_old_retry_button_does_not_confirm(self) -> None:
        """A button from before the dump was restored is not an answer to the new question."""
        table = replaced()
        run, dump = await driven_until_stopped(table)
        table.store.restore(dump)
        task = asyncio.create_task(table.drive(run, owner="bot-2"))
        await table.until(run, lambda s: bool(s.forgotten))
        assert isinstance(await table.service.retry(CLUSTER, run, by=BOB, question="stop-s1@5"), Rejected)
        assert (await table.state(run)).forgotten
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def test_an_older_run_is_not_driven_over_a_newer_one(self) -> None:
        """A dump from before this run brings an older run back: the hosts know of a later driver."""
        table = Table(FakeWorld(ClusterName("demo"), three_servers()))
        for name in ("s2", "s3"):
            table.world.servers[ServerName(name)].running = False
        old = await table.proposed()
        dump = table.store.dump()
        ended = await table.drive_approved(old)
        assert ended.outcome is Outcome.RECOVERED
        table.world.servers[S1].running = table.world.servers[ServerName("s2")].running = False
        newer = await table.drive_approved(await table.proposed())
        assert newer.outcome is Outcome.RECOVERED
        table.store.restore(dump)
        task = asyncio.create_task(table.drive(old, owner="bot-2"))
        state = await table.until(old, lambda s: s.owner == "bot-2")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert any("later driver in run r2" in line for line in state.forgotten)

    async def test_a_driver_stops_when_the_journal_shrinks_under_it(self) -> None:
        """A failover that lost acknowledged lines stops the driver; it does not write over a gap."""
        table = replaced()
        run = await table.proposed(lost=LOST)
        dump = table.store.dump()
        task = asyncio.create_task(table.drive(run))
        await table.until(run, lambda s: s.waiting_gate is not None)
        # The lease is still there: Sentinel's new master had it, and not the newest lines.
        holder = table.store._cluster(CLUSTER).holder
        expires_s, epoch = table.store._cluster(CLUSTER).expires_s, table.store._cluster(CLUSTER).epoch
        table.store.restore(dump)
        kept = table.store._cluster(CLUSTER)
        kept.holder, kept.expires_s, kept.epoch, kept.ttl_s = holder, expires_s, epoch, 10
        with pytest.raises(StoreForgot, match=r"Redis knows 1 of the \d events"):
            await task

    async def test_an_approval_of_long_ago_brings_no_run_back_to_life(self) -> None:
        """An aborted run whose newest lines were taken away looks just approved: a person is asked, nothing starts."""
        table = replaced()
        run = await table.proposed(lost=LOST)
        first = asyncio.create_task(table.drive(run))
        await table.until(run, lambda s: s.waiting_gate is not None)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await table.approve(run)
        approved = table.store.lines(CLUSTER, run)
        await table.service.abort(CLUSTER, run, by=BOB)
        await table.drive(run, owner="bot-2")
        assert not table.world.performed
        table.clock.ahead_s += 86_400
        table.store.rewrite(CLUSTER, run, approved)
        table.store.forge_active(CLUSTER, run)
        again = asyncio.create_task(table.drive(run, owner="bot-3"))
        state = await table.until(run, lambda s: s.owner == "bot-3")
        [finding] = state.forgotten
        assert "gate plan was approved on" in finding
        assert "nothing was begun under that approval" in finding
        await asyncio.sleep(60)
        assert not table.world.performed
        await table.service.abort(CLUSTER, run, by=BOB)
        ended = await again
        assert isinstance(ended, RunState)
        assert ended.outcome is Outcome.ABORTED
        assert not table.world.performed

    async def test_an_ordinary_take_over_asks_nobody(self) -> None:
        """With a whole journal the next driver goes on at once: every act on a host was announced."""
        table = replaced()
        run, _ = await driven_until_stopped(table)
        ended = await table.drive_approved(run)
        assert ended.outcome is Outcome.RECOVERED
        taken = [event for event in table.listener.events if isinstance(event, LeaseTaken)]
        assert [event.forgotten for event in taken] == [(), ()]


class TestAnEmptiedStore:
    async def test_people_learn_what_was_under_way_and_a_new_plan_goes_on(self) -> None:
        """Status and the new plan name the run and what it holds; the new run takes it over and heals."""
        table = replaced()
        run, _ = await driven_until_stopped(table)
        table.store.restore(None)
        report = await table.service.status(CLUSTER)
        (left,) = report.left
        assert left.run == run
        assert [line.partition(";")[0] for line in left.found] == [
            f"{name} is stopped and held" for name in ("s1", "s2", "s3")
        ]
        assert "done there: hold-s1, snapshot-s1, stop-s1" in left.found[0]
        proposed = await table.propose(lost=BY_ADDRESS)
        assert isinstance(proposed, RunProposed), proposed
        plan = proposed.view.state.plan
        assert any(f"Run {run} was under way" in warning for warning in plan.warnings)
        assert any("Redis is behind the hosts" in warning for warning in plan.warnings)
        ended = await table.drive_approved(proposed.view.run)
        assert ended.outcome is Outcome.RECOVERED
        assert table.world.leader() is not None
        assert (await table.service.status(CLUSTER)).left == ()

    async def test_each_mark_of_a_run_is_found_and_said(self) -> None:
        """A fence, an override and a hold name their run each, also where another run acted last."""
        table = replaced()
        observation = await table.world.observe()
        marks = {"s1": {"held_by": "r1"}, "s2": {"fenced_by": "r2"}, "s3": {"override_by": "r3"}}
        servers = tuple(
            msgspec.structs.replace(
                server,
                host=msgspec.structs.replace(server.host, last_run="r9", epoch=4, **marks[server.name]),
            )
            for server in observation.servers
            if server.host is not None
        )
        seen = msgspec.structs.replace(observation, servers=servers)
        assert set(runs_seen(seen)) == {"r1", "r2", "r3", "r9"}
        left = leftovers(seen, unknown=[RunId(run) for run in ("r1", "r2", "r3", "r9")], store_epoch=4)
        assert {one.run: one.found for one in left} == {
            "r1": ("s1 is running and held",),
            "r2": ("s2 is running and fenced",),
            "r3": ("s3 is running and under an override of bootstrap_expect",),
        }
        behind = leftovers(seen, unknown=[RunId("r9")], store_epoch=3)
        assert [one.run for one in behind] == ["r9"]

    async def test_a_run_that_redis_knows_is_no_leftover(self) -> None:
        """Servers that an aborted run left held on purpose are not told as an accident."""
        table = replaced()
        run, _ = await driven_until_stopped(table)
        await table.service.abort(CLUSTER, run, by=BOB)
        await table.drive(run, owner="bot-2")
        assert table.world.servers[S1].held_by == run
        assert (await table.service.status(CLUSTER)).left == ()

    async def test_whoever_drove_it_tells_people_that_it_is_lost(self) -> None:
        """The process that drove the run says so once, and drives nothing more."""
        table = replaced()
        run = await table.proposed(lost=LOST)
        serving = asyncio.create_task(supervisor(table).serve())
        await table.until(run, lambda s: s.waiting_gate is not None)
        table.store.restore(None)
        async with asyncio.timeout(20):
            while not table.listener.notes:
                await asyncio.sleep(0.01)
        await asyncio.sleep(1.2)  # There is no condition to wait for: it is not said twice.
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        (note,) = table.listener.notes
        assert "Redis no longer knows this run" in note
        assert "recover demo" in note

    async def test_a_store_that_is_only_away_loses_nothing(self) -> None:
        """Redis gone and back: nobody is told that the run is lost, and it is driven to its end."""
        table = replaced()
        run = await table.proposed(lost=LOST)
        serving = asyncio.create_task(supervisor(table).serve())
        await table.until(run, lambda s: s.waiting_gate is not None)
        table.store.down = True
        for _ in range(200):
            await asyncio.sleep(0)
        table.store.down = False
        table.clock.ahead_s += 30
        await table.approve(run)
        async with asyncio.timeout(60):
            while (state := await table.state(run)).outcome is None:
                if state.waiting_gate is not None:
                    await table.approve(run)
                await asyncio.sleep(0.01)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        assert state.outcome is Outcome.RECOVERED
        assert table.listener.notes == []


class TestAfterAVoidRun:
    async def test_people_are_told_why_there_is_no_new_plan(self) -> None:
        """The approval is void and no new plan is safe: the reason is said, not dropped."""
        table = replaced()
        run = await table.proposed(lost=LOST)

        def grow(action: Action, key: ActKey) -> None:
            del key
            s1 = table.world.servers[S1]
            if isinstance(action, StopAgent) and action.server == S1 and s1.last is not None:
                s1.last = type(s1.last)(term=s1.last.term, index=s1.last.index + 1)

        class Away(Listener):
            async def show(
                self, cluster: ClusterName, run: RunId, state: RunState, events: Sequence[Event]
            ) -> None:
                await super().show(cluster, run, state, events)
                for server in table.world.servers.values():
                    server.reachable = not state.void

        table.world.before_act = grow
        table.listener = Away()
        driving = asyncio.create_task(supervisor(table).drive(CLUSTER, run))
        async with asyncio.timeout(60):
            while not driving.done():
                state = await table.state(run)
                if state.waiting_gate is not None:
                    await table.approve(run)
                await asyncio.sleep(0.01)
        ended = await driving
        assert ended is not None
        assert ended.outcome is Outcome.VOID
        (note,) = table.listener.notes
        assert note.startswith("No new plan is safe as things are:")
        assert await table.store.active(CLUSTER) is None


def supervisor(table: Table) -> Supervisor:
    """A process's supervisor over the table."""
    return Supervisor(
        owner="bot-1",
        service=table.service,
        worlds={CLUSTER: table.world},
        store=table.store,
        notifier=table.listener,
        clock=table.clock,
    )
