"""Somebody writes to a real Redis, as redis-cli does: each time it ends in a clear refusal, and no act on a host."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from recovery.adapters.redis_store import RedisStore
from recovery.codec import encode_event
from recovery.engine import LEASE_TTL_S, drive_run
from recovery.errors import JournalUnreadable, RecoveryError, StoreForgot
from recovery.journal import Approved, Outcome, RunState
from recovery.model import ClusterName, ClusterSpec, Person, RunId, ServerSpec
from recovery.policy import ApprovalPolicy
from recovery.ports import LeaseHeld
from recovery.service import Done, LockTaken, RecoveryService, RunProposed
from tests.builders.runs import ALICE, BOB, Listener
from tests.contract.redis_server import connect
from tests.fakes.fake_world import FakeWorld, three_servers
from tests.fakes.slack_bot import RealClock


@dataclass
class Scene:
    """A run of two that waits for bob's approval, an earlier one that was approved and aborted, and a raw client."""

    cluster: ClusterName
    raw: Redis
    people: RedisStore
    driving: RedisStore
    world: FakeWorld
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    listener: Listener = field(default_factory=Listener)

    @property
    def service(self) -> RecoveryService:
        """What people ask."""
        specs = tuple(ServerSpec(s.name, s.address) for s in self.world.servers.values())
        return RecoveryService(
            clusters={self.cluster: ClusterSpec(self.cluster, specs)},
            worlds={self.cluster: self.world},
            store=self.people,
            approval=ApprovalPolicy(),
            clock=RealClock(),
            new_id=lambda: RunId(f"r{next(self.numbers)}"),
        )

    def key(self, rest: str) -> str:
        return f"consul-recovery:{{{self.cluster}}}:{rest}"

    async def lines(self, run: str) -> list[bytes]:
        """A journal as redis-cli shows it."""
        return [
            line for line in await self.raw.lrange(self.key(f"run:{run}"), 0, -1) if isinstance(line, bytes)
        ]

    async def put(self, run: str, lines: list[bytes]) -> None:
        """Make a journal these lines."""
        await self.raw.delete(self.key(f"run:{run}"))
        await self.raw.rpush(self.key(f"run:{run}"), *lines)

    async def proposed(self) -> RunId:
        """Alice asks for a recovery."""
        answer = await self.service.propose(self.cluster, by=ALICE, origin="terminal")
        assert isinstance(answer, RunProposed), answer
        return answer.view.run

    def drive(self, run: RunId, *, store: RedisStore | None = None) -> asyncio.Task[RunState | LeaseHeld]:
        """A driver in a task of its own."""
        return asyncio.create_task(
            drive_run(
                self.cluster,
                run,
                owner=f"bot-{uuid4().hex[:6]}",
                world=self.world,
                store=store or self.driving,
                notifier=self.listener,
                clock=RealClock(),
            )
        )

    async def until_asked(self, run: RunId) -> None:
        """Wait until people are asked."""
        async with asyncio.timeout(20):
            while (await self.service.find(run)).state.waiting_gate is None:
                await asyncio.sleep(0.02)

    async def approve(self, run: RunId) -> None:
        """Bob approves."""
        digest = (await self.service.find(run)).state.digest
        done = await self.service.approve(self.cluster, run, by=BOB, gate="plan", digest_prefix=digest[:12])
        assert isinstance(done, Done), done


async def stopped(task: asyncio.Task[RunState | LeaseHeld]) -> None:
    """End a driver."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def scene(redis_socket: Path) -> AsyncIterator[Scene]:
    url = f"unix://{redis_socket}"
    servers = three_servers()
    servers[1].running = servers[2].running = False
    cluster = ClusterName(f"forged-{uuid4().hex[:8]}")
    scene = Scene(cluster, Redis.from_url(url), connect(url), connect(url), FakeWorld(cluster, servers))
    yield scene
    await scene.people.aclose()
    await scene.driving.aclose()
    await scene.raw.aclose()


async def old_and_new(scene: Scene) -> tuple[RunId, RunId]:
    """r1 was approved by bob and then aborted; r2 waits for approval, and nobody drives."""
    old = await scene.proposed()
    driving = scene.drive(old)
    await scene.until_asked(old)
    await stopped(driving)
    await scene.approve(old)
    await scene.service.abort(scene.cluster, old, by=BOB)
    ended = await scene.drive(old)
    assert isinstance(ended, RunState)
    assert ended.outcome is Outcome.ABORTED
    new = await scene.proposed()
    driving = scene.drive(new)
    await scene.until_asked(new)
    await stopped(driving)
    assert not scene.world.performed
    return old, new


def approval(digest: str) -> bytes:
    """What bob's approval looks like."""
    return encode_event(Approved(at_s=4.0, by=Person("bob"), gate="plan", digest=digest))  # type: ignore[arg-type]


Attack = Callable[[Scene, RunId, RunId], Awaitable[None]]


async def _digest(scene: Scene, run: RunId) -> str:
    return (await scene.service.find(run)).state.digest


async def forge_approval(scene: Scene, _old: RunId, new: RunId) -> None:
    await scene.raw.rpush(scene.key(f"run:{new}"), approval(await _digest(scene, new)))


async def forge_signed_approval(scene: Scene, _old: RunId, new: RunId) -> None:
    last = (await scene.lines(new))[-1]
    await scene.raw.rpush(scene.key(f"run:{new}"), last[:68] + approval(await _digest(scene, new)))


async def replay_from_another_run(scene: Scene, old: RunId, new: RunId) -> None:
    given = next(line for line in await scene.lines(old) if b'"Approved"' in line)
    await scene.raw.rpush(scene.key(f"run:{new}"), given)


async def replay_at_the_same_place(scene: Scene, old: RunId, new: RunId) -> None:
    theirs, ours = await scene.lines(old), await scene.lines(new)
    place = next(at for at, line in enumerate(theirs) if b'"Approved"' in line)
    await scene.put(new, [*ours[:place], theirs[place]])


async def edit_the_plan(scene: Scene, _old: RunId, new: RunId) -> None:
    first, *rest = await scene.lines(new)
    await scene.put(new, [first.replace(b'"server":"s2"', b'"server":"s1"'), *rest])


async def let_the_requester_approve(scene: Scene, _old: RunId, new: RunId) -> None:
    first, *rest = await scene.lines(new)
    edited = first.replace(b'"requester_counts":false', b'"requester_counts":true')
    assert edited != first
    await scene.put(new, [edited, *rest])


async def other_line_for_the_last_one(scene: Scene, _old: RunId, new: RunId) -> None:
    lines = await scene.lines(new)
    await scene.put(new, [*lines[:-1], approval(await _digest(scene, new))])


async def swap_two_runs(scene: Scene, old: RunId, new: RunId) -> None:
    theirs, ours = await scene.lines(old), await scene.lines(new)
    await scene.put(old, ours)
    await scene.put(new, theirs[:-2])


async def copy_an_approved_run(scene: Scene, old: RunId, new: RunId) -> None:
    lines = await scene.lines(old)
    place = next(at for at, line in enumerate(lines) if b'"Approved"' in line)
    await scene.put(new, lines[: place + 1])


ATTACKS: dict[str, Attack] = {
    "an approval by rpush": forge_approval,
    "an approval with a copied signature": forge_signed_approval,
    "an approval of another run": replay_from_another_run,
    "an approval of another run, at the same place": replay_at_the_same_place,
    "an edited plan": edit_the_plan,
    "an edited gate": let_the_requester_approve,
    "another last line": other_line_for_the_last_one,
    "two runs changed places": swap_two_runs,
    "the journal of an approved run under this one's name": copy_an_approved_run,
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_the_next_driver_refuses_it(scene: Scene, attack: str) -> None:
    """A process that takes the run up reads the whole journal, and says which line is not the bot's."""
    old, new = await old_and_new(scene)
    await ATTACKS[attack](scene, old, new)
    forged = await scene.lines(new)
    with pytest.raises(JournalUnreadable, match=r"line \d+ of its journal is not .* `unlock r2`"):
        await asyncio.wait_for(scene.drive(new), 20)
    with pytest.raises(JournalUnreadable):
        await scene.service.approve(scene.cluster, new, by=BOB, gate="plan", digest_prefix="0" * 12)
    assert not scene.world.performed
    taken = await scene.service.unlock(scene.cluster, new, by=BOB, holder=new, reason="forged")
    assert isinstance(taken, LockTaken)
    assert (await scene.lines(new))[:-1] == forged
    assert await scene.proposed() == "r3"


@pytest.mark.parametrize(
    "attack", [name for name in ATTACKS if not name.startswith(("an edited", "two runs", "the journal of"))]
)
async def test_a_driver_that_waits_for_approval_refuses_it(scene: Scene, attack: str) -> None:
    """It reads on from what it has verified: what comes behind that is not the bot's, or what it read is gone."""
    old, new = await old_and_new(scene)
    driving = scene.drive(new)
    async with asyncio.timeout(20):
        while (state := (await scene.service.find(new)).state).epoch < 3 or not state.owner:
            await asyncio.sleep(0.02)
    await ATTACKS[attack](scene, old, new)
    with pytest.raises((JournalUnreadable, StoreForgot)):
        await asyncio.wait_for(driving, 20)
    assert not scene.world.performed


@pytest.mark.parametrize("attack", ["an edited plan", "an edited gate"])
async def test_a_driver_stops_where_nobody_could_abort_it_any_more(scene: Scene, attack: str) -> None:
    """What is edited behind its back changes nothing that it does, and within a heartbeat it does nothing more."""
    old, new = await old_and_new(scene)
    driving = scene.drive(new)
    async with asyncio.timeout(20):
        while (await scene.service.find(new)).state.epoch < 3:
            await asyncio.sleep(0.02)
    await ATTACKS[attack](scene, old, new)
    for who in (ALICE, BOB):
        with pytest.raises(JournalUnreadable):
            await scene.service.approve(scene.cluster, new, by=who, gate="plan", digest_prefix="0" * 12)
    with pytest.raises(JournalUnreadable, match="line 1 of its journal is not what the bot wrote there"):
        await asyncio.wait_for(driving, LEASE_TTL_S)
    assert not scene.world.performed


async def test_lines_of_another_cluster_do_not_count(scene: Scene, redis_socket: Path) -> None:
    """The same run id and the same plan in another cluster, approved there: worth nothing here."""
    _, new = await old_and_new(scene)
    url = f"unix://{redis_socket}"
    other = ClusterName(f"{scene.cluster}-b")
    servers = three_servers()
    servers[1].running = servers[2].running = False
    there = Scene(other, scene.raw, connect(url), connect(url), FakeWorld(other, servers))
    next(there.numbers)
    assert await there.proposed() == new
    driving = there.drive(new)
    await there.until_asked(new)
    await stopped(driving)
    await there.approve(new)
    await scene.put(new, await there.lines(new))
    with pytest.raises(JournalUnreadable, match="line 1"):
        await asyncio.wait_for(scene.drive(new), 20)
    assert not scene.world.performed
    for store in (there.people, there.driving):
        await store.aclose()


@pytest.mark.parametrize("whom", ["ended", "never was", "garbage"])
async def test_a_forged_lock_starts_nothing(scene: Scene, whom: str) -> None:
    """It names an ended run, one that never was, or nothing sensible: refused with how to take it away."""
    old, new = await old_and_new(scene)
    await scene.service.abort(scene.cluster, new, by=BOB)
    await scene.drive(new)
    forged = {"ended": old.encode(), "never was": b"r99", "garbage": b"\xff\x00 <!channel>"}
    await scene.raw.set(scene.key("active"), forged[whom])
    holder = await scene.service.holder(scene.cluster)
    assert holder is not None
    report = await scene.service.status(scene.cluster)
    assert report.unreadable == holder
    drive = scene.drive(holder.run)
    answer = (await asyncio.gather(drive, return_exceptions=True))[0]
    assert isinstance(answer, RecoveryError) or (isinstance(answer, RunState) and answer.outcome is not None)
    assert not scene.world.performed
    done = await scene.service.unlock(scene.cluster, holder.run, by=BOB, holder=holder.run, reason="forged")
    assert isinstance(done, LockTaken)
    assert await scene.proposed() == "r3"


async def test_forged_members_are_said_and_not_used(scene: Scene) -> None:
    """Whom somebody wrote into the memory of members is nobody; the status says so."""
    await scene.raw.set(scene.key("memo:members"), b'{"seen_at_s":1.0,"known":[]}')
    report = await scene.service.status(scene.cluster)
    assert "members of" in report.memory_problem
    assert "is not signed" in report.memory_problem


async def test_newest_lines_taken_away_stop_the_driver(scene: Scene) -> None:
    """No signature shows that the end is missing; the driver knows what it has read."""
    _, new = await old_and_new(scene)
    driving = scene.drive(new)
    async with asyncio.timeout(20):
        while (await scene.service.find(new)).state.epoch < 3:
            await asyncio.sleep(0.02)
    await scene.raw.ltrim(scene.key(f"run:{new}"), 0, 1)
    await scene.raw.rpush(scene.key(f"run:{new}"), b"x", b"x", b"x", b"x", b"x", b"x")
    with pytest.raises((JournalUnreadable, StoreForgot)):
        await asyncio.wait_for(driving, 20)
    assert not scene.world.performed
