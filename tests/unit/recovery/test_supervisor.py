"""What the supervisor leaves alone: runs that cannot be read, and locks that the bot did not leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from recovery.journal import AssumptionsFailed, Unlocked
from recovery.model import ClusterName, ClusterSpec, RunId, ServerName, ServerSpec
from recovery.policy import ApprovalPolicy
from recovery.service import RecoveryService, RunProposed
from recovery.supervisor import Supervisor
from tests.builders.runs import ALICE, Listener
from tests.fakes.fake_world import FakeWorld, three_servers
from tests.fakes.memory_store import MemoryStore
from tests.sweeps.virtual_time import VirtualClock

ONE, OTHER = ClusterName("one"), ClusterName("other")
LOOKS = 20.0


class Place:
    """Two clusters, one store, one supervisor."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.listener = Listener()
        self.worlds: dict[ClusterName, FakeWorld] = {}
        for cluster in (ONE, OTHER):
            servers = three_servers()
            servers[1].running = servers[2].running = False
            self.worlds[cluster] = FakeWorld(cluster, servers)
        clock = VirtualClock()
        numbers = iter(range(1, 100))
        self.service = RecoveryService(
            clusters={
                cluster: ClusterSpec(
                    cluster, tuple(ServerSpec(s.name, s.address) for s in world.servers.values())
                )
                for cluster, world in self.worlds.items()
            },
            worlds=self.worlds,
            store=self.store,
            approval=ApprovalPolicy(),
            clock=clock,
            new_id=lambda: RunId(f"r{next(numbers)}"),
        )
        self.supervisor = Supervisor(
            owner="bot-1",
            service=self.service,
            worlds=self.worlds,
            store=self.store,
            notifier=self.listener,
            clock=clock,
        )

    async def proposed(self, cluster: ClusterName) -> RunId:
        """A plan that waits for approval."""
        answer = await self.service.propose(cluster, by=ALICE, origin="terminal")
        assert isinstance(answer, RunProposed)
        return answer.view.run

    async def many_looks(self) -> None:
        """Let it look again and again, as it does every second."""
        await asyncio.sleep(LOOKS)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """The supervisor beside us."""
        task = asyncio.create_task(self.supervisor.serve())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def place() -> Place:
    return Place()


async def test_a_run_that_cannot_be_read_disturbs_nobody(place: Place) -> None:
    """It is said in the log once, no lease is taken for it, and the other cluster's run is driven."""
    bad, good = await place.proposed(ONE), await place.proposed(OTHER)
    place.store.rewrite(ONE, bad, [*place.store.lines(ONE, bad), b"garbage"])
    with capture_logs() as logged:
        async with place.serving():
            await place.many_looks()
            async with asyncio.timeout(10):
                while place.store.folded(OTHER, good).waiting_gate is None:
                    await asyncio.sleep(0.1)
    assert len([line for line in logged if "cannot be read" in line["event"]]) == 1
    assert await place.store.epoch(ONE) == 0
    assert place.store.lines(ONE, bad)[1:] == [b"garbage"]


async def test_a_run_that_becomes_unreadable_is_left_and_told_once(place: Place) -> None:
    """Its driver stops, gives the lease back, and says why; nothing was done on a host."""
    run = await place.proposed(ONE)
    with capture_logs() as logged:
        async with place.serving():
            async with asyncio.timeout(10):
                while place.store.folded(ONE, run).waiting_gate is None:
                    await asyncio.sleep(0.1)
                lines = place.store.lines(ONE, run)
                place.store.rewrite(ONE, run, [*lines, b"garbage"])
                await place.store._tell()
                while not place.listener.notes:
                    await asyncio.sleep(0.1)
            await place.many_looks()
    [note] = place.listener.notes
    assert f"line {len(lines) + 1} of its journal is not signed" in note
    assert f"`unlock {run}`" in note
    assert len([line for line in logged if "cannot be read" in line["event"]]) == 1
    assert await place.store.driver(ONE) is None
    assert [place.worlds[ONE].servers[ServerName(name)].starts for name in ("s2", "s3")] == [0, 0]


@pytest.mark.parametrize("over", ["unlocked", "void"])
async def test_a_lock_that_names_an_ended_run_starts_nothing(place: Place, over: str) -> None:
    """Neither is it driven, nor is what followed it at the time proposed again."""
    run = await place.proposed(ONE)
    if over == "void":
        task = asyncio.create_task(place.supervisor.drive(ONE, run))
        async with asyncio.timeout(10):
            while place.store.folded(ONE, run).waiting_gate is None:
                await asyncio.sleep(0.1)
        state = place.store.folded(ONE, run)
        failed = AssumptionsFailed(at_s=1.0, findings=("s1: is another one",))
        await place.store.decide(ONE, run, failed, expected_length=state.length)
        await task
        [again] = [other for other in await place.store.runs(ONE) if other != run]
        await unlock(place, again)
    else:
        await unlock(place, run)
    before = await place.store.runs(ONE), await place.store.epoch(ONE)
    place.listener.notes.clear()
    place.store.forge_active(ONE, run)
    with capture_logs() as logged:
        async with place.serving():
            await place.many_looks()
    assert (await place.store.runs(ONE), await place.store.epoch(ONE)) == before
    assert place.listener.notes == []
    assert len([line for line in logged if "has ended" in line["event"]]) == 1


async def unlock(place: Place, run: RunId) -> None:
    """Alice ends it."""
    event = Unlocked(at_s=2.0, by=ALICE, holder=run, alive=False, reason="a test")
    length = place.store.folded(ONE, run).length
    await place.store.unlock(ONE, run, event, expected_length=length)
