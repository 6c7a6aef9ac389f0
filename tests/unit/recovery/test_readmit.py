"""A fenced server comes back blank and held until there is a leader to join; or with its log, if it still votes."""

import asyncio

import pytest

from recovery.diagnosis import Degraded, diagnose
from recovery.errors import HostRefused
from recovery.journal import Outcome, StepStatus
from recovery.model import ClusterName, ServerName
from recovery.plan import Action, LiftFence, StartAgent, StepId, WipeRaft
from recovery.ports import ActKey
from recovery.service import NothingToDo, Refused
from tests.builders.runs import ALICE, CLUSTER, Table
from tests.fakes.fake_world import FakeWorld, one_fenced, three_servers

S3 = ServerName("s3")


def fenced() -> FakeWorld:
    return FakeWorld(ClusterName("demo"), one_fenced())


async def readmitted(table: Table, server: str = "s3") -> object:
    """Alice asks for a readmission."""
    return await table.service.propose(
        CLUSTER, by=ALICE, origin="terminal", method="readmit", server=ServerName(server)
    )


def reasons(answer: object) -> str:
    assert isinstance(answer, Refused), answer
    return " ".join((*answer.refusal.reasons, answer.refusal.next_step))


async def test_status_names_the_command_that_takes_a_fenced_server_back() -> None:
    """A led cluster with a fenced server is degraded, and the next thing to do is said."""
    seen = diagnose(await fenced().observe())
    assert isinstance(seen, Degraded)
    assert "fenced by run r0" in seen.headline
    assert "`/consul readmit demo s3`" in seen.advice


async def test_a_fenced_server_comes_back_without_its_old_data_as_a_voter() -> None:
    """Archived, wiped, fence lifted, started once, voting; the cluster's log is the only one."""
    table = Table(fenced())
    s1, s3 = table.world.servers[ServerName("s1")], table.world.servers[S3]
    await readmitted(table)
    run = await table.store.active(CLUSTER)
    assert run is not None
    ended = await table.drive_approved(run)
    assert ended.outcome is Outcome.RECOVERED
    assert (s3.starts, s3.fenced_by, s3.held_by, s3.last) == (1, "", "", s1.last)
    assert s3.archives == {run}
    acts = [type(action) for action, _ in table.world.performed]
    assert acts.index(WipeRaft) < acts.index(LiftFence) < acts.index(StartAgent)


async def test_a_fenced_server_that_still_votes_keeps_its_log() -> None:
    """Wiped it could vote against what it promised, so it starts with what it has."""
    servers = three_servers()
    servers[2].running, servers[2].fenced_by = False, "r0"
    table = Table(FakeWorld(ClusterName("demo"), servers))
    await readmitted(table)
    run = await table.store.active(CLUSTER)
    assert run is not None
    ended = await table.drive_approved(run)
    assert ended.outcome is Outcome.RECOVERED
    assert not any(isinstance(action, WipeRaft) for action, _ in table.world.performed)


async def test_a_voter_whose_log_is_gone_is_not_readmitted() -> None:
    """A blank voter votes for anybody: first it has to leave the peers."""
    servers = three_servers()
    servers[2].running, servers[2].fenced_by = False, "r0"
    servers[2].last, servers[2].keys = None, frozenset()
    said = reasons(await readmitted(Table(FakeWorld(ClusterName("demo"), servers))))
    assert "remove-peer -id=s3-id" in said


@pytest.mark.parametrize(
    ("server", "said"),
    [("s9", "Fenced: s3"), ("s1", "s1 is not fenced")],
)
async def test_who_is_not_fenced_is_not_readmitted(server: str, said: str) -> None:
    """The refusal names who is fenced."""
    assert said in reasons(await readmitted(Table(fenced()), server))


async def test_without_a_leader_nobody_is_readmitted() -> None:
    """A blank server that sees nobody founds a cluster of its own."""
    world = fenced()
    world.servers[ServerName("s1")].running = False
    assert "no single leader" in reasons(await readmitted(Table(world)))


async def test_a_healthy_cluster_has_nobody_to_readmit() -> None:
    """Nothing is proposed and no lock is taken."""
    table = Table(FakeWorld(ClusterName("demo"), three_servers()))
    assert isinstance(await readmitted(table), NothingToDo)
    assert await table.store.active(CLUSTER) is None


async def test_a_leader_lost_before_the_wipe_blocks_it() -> None:
    """Minutes may pass between the plan and the approval: nothing is wiped without a leader to join."""
    table = Table(fenced())
    await readmitted(table)
    run = await table.store.active(CLUSTER)
    assert run is not None
    task = asyncio.create_task(table.drive(run))
    await table.until(run, lambda s: s.waiting_gate is not None)
    await table.approve(run)
    await table.until(run, lambda s: s.waiting_gate is not None and s.waiting_gate.id == "irreversible")
    table.world.servers[ServerName("s1")].running = False
    await table.approve(run)
    state = await table.until(run, lambda s: s.waiting_step is not None)
    assert state.step_state(StepId("wipe-s3")).status is StepStatus.BLOCKED
    assert table.world.servers[S3].last is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_host_wipes_nothing_that_is_not_held_and_archived_by_the_run() -> None:
    """The last word is the host's own."""
    world = fenced()
    key = ActKey(run="r1", step="wipe", attempt=1, direction="do", owner="bot", epoch=1)  # type: ignore[arg-type]
    with pytest.raises(HostRefused):
        await world.perform(_wipe(), key=key, timeout_s=1)
    assert world.servers[S3].last is not None


def _wipe() -> Action:
    return WipeRaft(S3)
