"""Founding is for what nobody ever knew: what the store and the hosts know of a cluster bars it, run by run."""

from __future__ import annotations

import asyncio

import pytest

from recovery.diagnosis import EmptyWhereDataWas, NeverBootstrapped, OutOfSight
from recovery.errors import StoreUnavailable
from recovery.journal import Outcome, RunState
from recovery.membership import MEMO
from recovery.model import ServerName
from recovery.policy import Rejected
from recovery.ports import ActKey
from recovery.service import Planned, Refused, RunProposed
from tests.builders.runs import BOB, CLUSTER, Table
from tests.fakes.fake_world import FakeServer, FakeWorld, never_bootstrapped, three_servers

pytestmark = pytest.mark.virtual_time

S1 = ServerName("s1")


def table(servers: tuple[FakeServer, ...]) -> Table:
    return Table(FakeWorld(CLUSTER, servers))


def emptied(on: Table) -> None:
    """All agents are killed, and empty directories stand where the data was: other ids at the next start."""
    for server in on.world.servers.values():
        on.world.stop_by_hand(server.name)
        server.node_id, server.voters, server.last, server.keys = f"{server.name}-new", (), None, frozenset()


async def refused(on: Table) -> EmptyWhereDataWas:
    """The situation, after asking for a founding in both ways."""
    assert isinstance(await on.propose(method="bootstrap"), Refused)
    answer = await on.propose()
    assert isinstance(answer, Refused), answer
    found = answer.report.diagnosis
    assert isinstance(found, EmptyWhereDataWas)
    return found


async def offered(on: Table) -> None:
    answer = await on.service.plan(CLUSTER)
    assert isinstance(answer, Planned), answer
    assert isinstance(answer.report.diagnosis, NeverBootstrapped)
    assert answer.proposal.plan.typed_names == ("s1", "s2", "s3")


async def test_a_cluster_that_was_once_looked_at_is_never_founded_anew() -> None:
    """One status of it is enough: the logs that were seen then are told, by their ids."""
    on = table(three_servers())
    await on.service.status(CLUSTER)
    emptied(on)
    found = await refused(on)
    assert [line for line in found.known if "s2 (id s2-id) held a log up to term 2, index 15" in line]


async def test_a_look_at_blank_servers_bars_nothing() -> None:
    """Agents that wait for each other are seen and remembered without any data; they can be founded."""
    on = table(never_bootstrapped())
    for _ in range(2):
        await on.service.status(CLUSTER)
    await offered(on)


async def test_a_store_that_is_away_is_not_silent() -> None:
    """A plan is refused with the reason, and nothing is proposed."""
    on = table(never_bootstrapped())
    on.store.down = True
    answer = await on.service.plan(CLUSTER)
    assert isinstance(answer, Refused)
    assert isinstance(answer.report.diagnosis, OutOfSight)
    assert "Redis" in " ".join(answer.report.diagnosis.evidence)
    with pytest.raises(StoreUnavailable):
        await on.propose()


async def test_a_memory_that_cannot_be_read_is_kept_until_the_cluster_works() -> None:
    """Looks at empty directories do not overwrite what another version remembers of data."""
    on = table(never_bootstrapped())
    await on.store.remember(CLUSTER, MEMO, "of another version")
    for _ in range(2):
        answer = await on.service.plan(CLUSTER)
        assert isinstance(answer, Refused)
        assert isinstance(answer.report.diagnosis, OutOfSight)
    assert await on.store.recall(CLUSTER, MEMO) == "of another version"
    healthy = Table(FakeWorld(CLUSTER, three_servers()), store=on.store)
    await healthy.service.status(CLUSTER)
    assert await on.store.recall(CLUSTER, MEMO) != "of another version"


async def until_step(on: Table, step: str) -> RunState:
    """Propose, approve, and abort as soon as this step is under way."""
    run = await on.proposed()
    task = asyncio.create_task(on.drive(run))
    while True:
        state = await on.until(
            run,
            lambda s: s.waiting_gate is not None or s.step_state(step).status != "todo",  # type: ignore[arg-type]
        )
        if state.waiting_gate is None:
            break
        await on.approve(run)
    await on.service.abort(CLUSTER, run, by=BOB)
    await on.until(run, lambda s: s.outcome is not None)
    await task
    return await on.state(run)


@pytest.mark.parametrize("forgets", [False, True], ids=["store", "store emptied"])
@pytest.mark.parametrize("step", ["stop-s1", "override-s1"])
async def test_a_founding_that_came_to_nothing_can_be_asked_for_again(step: str, *, forgets: bool) -> None:
    """Its run, and what it has left on the hosts, tell of no data; also to a store that does not know it."""
    on = table(never_bootstrapped())
    ended = await until_step(on, step)
    assert ended.outcome is Outcome.ABORTED
    if forgets:
        on.store.empty()
    await offered(on)


@pytest.mark.parametrize("forgets", [False, True], ids=["store", "store emptied"])
async def test_what_was_founded_is_never_founded_again(*, forgets: bool) -> None:
    """The run that founded it bars another one; where the store has forgotten it, its receipts on the hosts do."""
    on = table(never_bootstrapped())
    ended = await on.drive_approved(await on.proposed())
    assert ended.outcome is Outcome.RECOVERED
    emptied(on)
    if forgets:
        on.store.empty()
    found = await refused(on)
    assert any("run r1" in line for line in found.known)


async def test_what_any_other_run_left_on_a_host_bars_a_founding() -> None:
    """A run that started stopped servers has known them with data."""
    servers = three_servers()
    servers[1].running = servers[2].running = False
    on = table(servers)
    ended = await on.drive_approved(await on.proposed())
    assert ended.plan.procedure == "start"
    on.store.empty()
    emptied(on)
    found = await refused(on)
    assert any("run r1 of the bot worked there" in line for line in found.known)


async def test_without_the_names_nothing_irreversible_is_approved() -> None:
    """The first approval asks for none; the second for all of them, in words that say what is vouched for."""
    on = table(never_bootstrapped())
    run = await on.proposed()
    task = asyncio.create_task(on.drive(run))
    try:
        first = await on.until(run, lambda s: s.waiting_gate is not None)
        assert first.waiting_gate is not None
        assert first.waiting_gate.typed == ()
        await on.approve(run)
        second = await on.until(
            run, lambda s: s.waiting_gate is not None and s.waiting_gate.id == "irreversible"
        )
        assert second.waiting_gate is not None
        assert second.waiting_gate.typed == ("s1", "s2", "s3")
        for typed in ((), ("s1", "s2")):
            answer = await on.service.approve(
                CLUSTER,
                run,
                by=BOB,
                gate="irreversible",
                digest_prefix=second.digest[:12],
                typed=tuple(ServerName(name) for name in typed),
            )
            assert isinstance(answer, Rejected)
            assert "holds nothing and never did: s1, s2, s3" in answer.reason
        assert not any(server.override for server in on.world.servers.values())
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_found_after_the_approval_stops_the_founding() -> None:
    """Data that lies under a mount is seen once more before the irreversible step, and then nothing is founded."""
    on = table(never_bootstrapped())
    run = await on.proposed()
    on.world.servers[S1].covered = "/var/lib/consul/raft/raft.db"
    ended = await on.drive_approved(run)
    assert ended.outcome is Outcome.VOID
    assert "lies covered" in " ".join(ended.void)
    assert not any(server.last or server.override for server in on.world.servers.values())
    answer = await on.propose()
    assert not isinstance(answer, RunProposed)
    assert "lies covered" in (await refused(on)).known[0]


@pytest.mark.parametrize("late", ["s1", "s3"])
async def test_a_disk_that_comes_back_in_the_middle_is_not_started(late: str) -> None:
    """Before each start the server is seen to be blank still; one that has data by then waits for a person."""
    on = table(never_bootstrapped())
    server = on.world.servers[ServerName(late)]
    before = {"s1": "override-s1", "s3": "start-s2"}[late]

    def mounted(_: object, key: ActKey) -> None:
        if key.step == before:
            old = three_servers()[int(late[1]) - 1]
            server.voters, server.last, server.keys = old.voters, old.last, old.keys

    on.world.after_act = mounted
    state = await on.drive_approved(await on.proposed())
    assert state.outcome is None
    assert state.waiting_step is not None
    assert state.waiting_step.id == f"start-{late}"
    assert not server.running
