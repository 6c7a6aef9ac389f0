"""The members of a cluster, kept while they are listed and given back when nobody lists them any more."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time

from bot import inventory_command
from bot.wiring import MachineClock
from recovery.lookout import Lookout
from recovery.membership import MEMO, decode
from recovery.model import ClusterSpec, RunId, ServerName, ServerSpec
from recovery.policy import ApprovalPolicy
from recovery.service import RecoveryService
from tests.fakes.fake_world import FakeWorld, three_servers
from tests.fakes.memory_store import MemoryStore
from tests.fakes.slack_bot import DC1


class Place:
    """A healthy cluster, a store, and replicas of the bot that look at it."""

    def __init__(self) -> None:
        self.world = FakeWorld(DC1, three_servers())
        self.store = MemoryStore()
        self.service = RecoveryService(
            clusters={
                DC1: ClusterSpec(
                    DC1, tuple(ServerSpec(s.name, s.address) for s in self.world.servers.values())
                )
            },
            worlds={DC1: self.world},
            store=self.store,
            approval=ApprovalPolicy(),
            clock=MachineClock(),
            new_id=lambda: RunId("r1"),
        )

    def lookout(self, *, every_s: float = 300.0) -> Lookout:
        """One replica's."""
        return Lookout(service=self.service, store=self.store, clock=MachineClock(), every_s=every_s)

    async def kept(self) -> set[str]:
        """Whom the store remembers."""
        membership = decode(await self.store.recall(DC1, MEMO))
        return {each.member.name for each in membership.known}


async def test_a_status_of_a_healthy_cluster_is_remembered() -> None:
    """After the disaster the members are given as they were last seen, and it is said that they are old."""
    place = Place()
    now = await place.service.members(DC1)
    assert now.by is not None
    assert await place.kept() == set()
    await place.service.status(DC1)
    for server in place.world.servers.values():
        server.running = False
    before = await place.service.members(DC1)
    assert before.by is None
    assert {member.name for member in before.members} == {"s1", "s2", "s3"}


async def test_nothing_seen_ever_is_nothing_known() -> None:
    """Where nobody answers and nothing was kept, there is an empty list without a time, not an error."""
    place = Place()
    for server in place.world.servers.values():
        server.reachable = False
    assert (await place.service.members(DC1)).members == ()
    assert (await place.service.members(DC1)).at_s == 0.0


async def test_the_bot_looks_by_itself() -> None:
    """A bot that nobody asks for anything has remembered the members all the same."""
    place = Place()
    looking = asyncio.create_task(place.lookout().serve())
    try:
        async with asyncio.timeout(10):
            while not await place.kept():
                await asyncio.sleep(0.01)
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
    assert await place.kept() == {"s1", "s2", "s3"}


async def test_of_two_replicas_one_looks() -> None:
    """A second replica leaves the cluster alone within the same interval."""
    place = Place()
    await place.lookout().look(DC1)
    await place.store.remember(DC1, MEMO, "")
    await place.lookout().look(DC1)
    assert await place.kept() == set()


async def test_a_look_without_a_store_goes_on_later() -> None:
    """A store that is gone for a while ends no look-out: it remembers as soon as the store is back."""
    place = Place()
    place.store.down = True
    looking = asyncio.create_task(place.lookout(every_s=0.01).serve())
    try:
        await asyncio.sleep(0)
        place.store.down = False
        async with asyncio.timeout(10):
            while not await place.kept():
                await asyncio.sleep(0.01)
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
    assert await place.kept() == {"s1", "s2", "s3"}


async def inventory(place: Place, *, host: str | None = None, plain: bool = False) -> tuple[int, str, str]:
    """What the command prints: status, stdout, stderr."""
    out, notes = io.StringIO(), io.StringIO()
    status = await inventory_command.run(
        place.service, DC1, host=host, plain=plain, now_s=time.time(), out=out, notes=notes
    )
    return status, out.getvalue(), notes.getvalue()


async def test_the_inventory_says_whose_list_it_is() -> None:
    """stdout is JSON alone; stderr names the server that told it, or says that the list is old."""
    place = Place()
    await place.service.status(DC1)
    status, out, notes = await inventory(place)
    assert status == 0
    assert set(json.loads(out)["members"]["hosts"]) == {f"s{n}.node.consul" for n in (1, 2, 3)}
    assert notes == "The members of dc1, as s1 lists them now.\n"
    for server in place.world.servers.values():
        server.reachable = False
    status, out, notes = await inventory(place, plain=True)
    assert status == 0
    assert json.loads(out)["server"] == {"hosts": ["s1", "s2", "s3"]}
    assert notes.startswith("No server of dc1 lists its members now: these are the last known ones, seen ")


async def test_the_inventory_of_one_host() -> None:
    """A member has its address; a stranger is an error that says how to see all of them."""
    place = Place()
    status, out, _ = await inventory(place, host="s2.node.consul")
    assert (status, json.loads(out)) == (0, {"ansible_host": place.world.servers[ServerName("s2")].address})
    status, out, notes = await inventory(place, host="nobody")
    assert (status, out) == (1, "")
    assert "nobody is no member of dc1" in notes


async def test_an_inventory_that_nobody_can_tell_is_an_error() -> None:
    """An empty answer would be a cluster without members; it is said that nothing is known."""
    place = Place()
    for server in place.world.servers.values():
        server.reachable = False
    status, out, notes = await inventory(place)
    assert (status, out) == (1, "")
    assert "none were remembered" in notes
