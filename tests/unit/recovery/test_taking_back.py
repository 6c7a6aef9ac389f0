"""What a run did is taken back and named, whatever became of its retries."""

from recovery.errors import HostBusy, HostRefused, InDoubt
from recovery.journal import Outcome, RunState, StepStatus, left_behind
from recovery.model import Fact, Fails, RunId, ServerName
from recovery.plan import Action, AgentRunning, Check, PeersFileIs, RemovePeers, StepId, WritePeers
from recovery.ports import ActKey
from tests.builders.runs import BOB, CLUSTER, Table
from tests.fakes.fake_world import FakeWorld, majority_replaced, peers_emptied

LOST = ("s2", "s3")
S1, S3 = ServerName("s1"), ServerName("s3")
WRITE = StepId("write-peers-s1")


class Unproven(FakeWorld):
    """A world in which one kind of check is seen to fail, as long as it is named."""

    wrong: type | None = None
    where: str = ""

    async def check(self, check: Check, *, run: RunId) -> Fact:
        if (
            self.wrong is not None
            and isinstance(check, self.wrong)
            and getattr(check, "server", "") == self.where
        ):
            return Fails(f"{self.where}: not as it should be")
        return await super().check(check, run=run)


async def written_and_not_proven(table: Table, world: Unproven) -> RunId:
    """A peers.json is on s1, and its check fails: the run waits."""
    world.wrong, world.where = PeersFileIs, "s1"
    run = await table.proposed(lost=LOST)
    waits = await table.drive_approved(run)
    assert waits.step_state(WRITE).status is StepStatus.FAILED
    assert world.servers[S1].peers_json is not None
    return run


async def aborted(table: Table, run: RunId) -> RunState:
    await table.service.abort(CLUSTER, run, by=BOB)
    ended = await table.drive(run, owner="bot-9")
    assert isinstance(ended, RunState)
    return ended


async def test_a_retry_and_then_an_abort_take_back_what_the_first_try_did() -> None:
    """Retry, and at once abort: the unread peers.json goes, though its step is to be done again."""
    world = Unproven(CLUSTER, majority_replaced())
    table = Table(world)
    run = await written_and_not_proven(table, world)
    await table.service.retry(CLUSTER, run, by=BOB)
    ended = await aborted(table, run)
    assert ended.outcome is Outcome.ABORTED
    assert ended.step_state(WRITE).status is StepStatus.UNDONE
    assert world.servers[S1].peers_json is None


async def test_a_retry_that_is_blocked_does_not_hide_what_the_first_try_did() -> None:
    """The second try does not begin; the first one's peers.json is named while it lies there, and goes with the run."""
    world = Unproven(CLUSTER, majority_replaced())
    table = Table(world)
    run = await written_and_not_proven(table, world)
    world.servers[S1].archives.clear()
    await table.service.retry(CLUSTER, run, by=BOB)
    waits = await table.drive_approved(run)
    assert waits.step_state(WRITE).status is StepStatus.BLOCKED
    assert WRITE in [step.id for step in left_behind(waits)]
    await aborted(table, run)
    assert world.servers[S1].peers_json is None


async def test_a_server_that_started_late_is_not_left_leading_alone() -> None:
    """Started alone with the override, not answering in time, retried: the void run stops it again."""
    world = Unproven(CLUSTER, peers_emptied())
    table = Table(world)
    run = await table.proposed()
    world.wrong, world.where = AgentRunning, "s3"
    waits = await table.drive_approved(run)
    assert waits.step_state(StepId("start-s3")).status is StepStatus.FAILED
    await table.service.retry(CLUSTER, run, by=BOB)
    world.wrong = None
    ended = await table.drive_approved(run)
    s3 = world.servers[S3]
    assert ended.outcome is Outcome.VOID
    assert not s3.running
    assert not world.leading()


async def test_a_peers_json_that_was_there_already_goes_with_the_run() -> None:
    """Another run wrote the same one: this run makes it its own, and an abort takes it back."""
    world = FakeWorld(CLUSTER, majority_replaced())
    table = Table(world)
    first = await table.proposed(lost=LOST)
    state = await table.state(first)
    write = next(step.action for step in state.plan.steps if isinstance(step.action, WritePeers))
    world.servers[S1].peers_json = write.peers
    world.before_act = refuse_starts
    waits = await table.drive_approved(first)
    assert waits.step_state(WRITE).status is StepStatus.DONE
    ended = await aborted(table, first)
    assert ended.step_state(WRITE).status is StepStatus.UNDONE
    assert world.servers[S1].peers_json is None


def refuse_starts(action: Action, key: ActKey) -> None:
    if key.step == "start-s1":
        raise HostRefused("s1: no; nothing was done")


async def test_an_undo_is_not_proven_while_the_act_may_still_be_at_work() -> None:
    """The host is busy with the very write: that the file is not there yet is no proof, and the run says stuck."""
    world = FakeWorld(CLUSTER, majority_replaced())
    table = Table(world)

    def at_work(action: Action, key: ActKey) -> None:
        if isinstance(action, WritePeers):
            raise InDoubt("s1: the connection was cut off")
        if isinstance(action, RemovePeers):
            raise HostBusy("s1: another call is at work on this host")

    world.before_act = at_work
    run = await table.proposed(lost=LOST)
    await table.drive_approved(run)
    await table.service.abort(CLUSTER, run, by=BOB)
    stuck = await table.drive_approved(run)
    assert stuck.outcome is None
    assert stuck.step_state(WRITE).status is StepStatus.STUCK
    assert "at work" in stuck.step_state(WRITE).detail

    world.before_act = lambda _action, _key: None
    await table.service.retry(CLUSTER, run, by=BOB)
    ended = await table.drive_approved(run)
    assert ended.outcome is Outcome.ABORTED


async def test_a_retried_undo_is_done_again() -> None:
    """Somebody put the file back after it was removed: a retry removes it once more, receipt or not."""
    world = FakeWorld(CLUSTER, majority_replaced())
    table = Table(world)
    run = await table.proposed(lost=LOST)
    world.before_act = refuse_starts
    await table.drive_approved(run)
    peers = world.servers[S1].peers_json
    puts_back = iter([True])

    def put_back(action: Action, key: ActKey) -> None:
        del key
        if isinstance(action, RemovePeers) and next(puts_back, False):
            world.servers[S1].peers_json = peers

    world.after_act = put_back
    await table.service.abort(CLUSTER, run, by=BOB)
    stuck = await table.drive_approved(run)
    assert stuck.step_state(WRITE).status is StepStatus.STUCK
    await table.service.retry(CLUSTER, run, by=BOB)
    ended = await table.drive_approved(run)
    assert ended.outcome is Outcome.ABORTED
    assert world.servers[S1].peers_json is None


async def test_a_run_that_ended_meanwhile_is_not_driven() -> None:
    """Whoever takes the lease of a run that has just ended gives it back, and does nothing."""
    world = FakeWorld(CLUSTER, majority_replaced())
    table = Table(world)
    run = await table.proposed(lost=LOST)
    await aborted(table, run)
    before = len(world.performed)
    again = await table.drive(run, owner="bot-2")
    assert isinstance(again, RunState)
    assert again.outcome is Outcome.ABORTED
    assert len(world.performed) == before
