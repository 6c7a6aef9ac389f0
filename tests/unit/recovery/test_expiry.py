"""An unanswered later gate: what is due when, what counts no more, and who is put back."""

import asyncio

import pytest

from recovery.errors import HostRefused, IllegalEvent
from recovery.journal import (
    AbortChosen,
    Approved,
    AwaitApproval,
    Ended,
    Event,
    Expire,
    Finish,
    GateExpired,
    GateOpened,
    LeftDown,
    Outcome,
    PutBack,
    Remind,
    Reminded,
    RunState,
    StepNotNeeded,
    StepStarted,
    StepStatus,
    StepVerified,
    UndoStarted,
    UndoVerified,
    apply,
    decide,
    down,
    held,
    left_behind,
    start,
    why_down,
)
from recovery.model import Fact, Fails, RunId, ServerName
from recovery.plan import (
    Action,
    Check,
    LogIs,
    PeersFileAbsent,
    Silent,
    StartAgent,
    Step,
    StopAgent,
    WritePeers,
)
from recovery.policy import ApprovalPolicy, GateMode, Rejected
from recovery.ports import ActKey
from recovery.service import RunProposed
from tests.builders.runs import ALICE, BOB, CLUSTER, Table
from tests.fakes.fake_world import FakeWorld, majority_replaced, three_servers
from tests.sweeps.stories import newest_on_one

LOST = ("s2", "s3")
S1, S2, S3 = ServerName("s1"), ServerName("s2"), ServerName("s3")
HALF_AN_HOUR_S = 1800


class Told:
    """A run of the real plan, told event by event, as far as its second question at second 0."""

    def __init__(self, state: RunState) -> None:
        self.state = state

    def add(self, *events: Event) -> RunState:
        """Tell more of it."""
        for event in events:
            self.state = apply(self.state, event)
        return self.state

    @property
    def gate(self) -> str:
        """The second question."""
        return self.state.gates[1].id


async def waiting(world: FakeWorld, *, lost: tuple[str, ...] = LOST, mode: GateMode = GateMode.TWO) -> Told:
    """Everything before the second gate is done; the clock stands at 0."""
    table = Table(world, policy=ApprovalPolicy(gates=mode))
    view = await table.service.show(CLUSTER, await table.proposed(lost=lost, method="peers-json"))
    told = Told(start(view.events[0]))
    told.add(GateOpened(at_s=0, gate="plan"))
    told.add(Approved(at_s=0, by=BOB, gate="plan", digest=told.state.digest))
    before = told.state.plan.steps[: told.state.index_of(told.state.gates[1].before)]
    for step in before:
        if isinstance(step.action, StopAgent) and not world.servers[step.action.server].running:
            told.add(StepNotNeeded(at_s=0, step=step.id, why="it is stopped"))
        else:
            told.add(StepStarted(at_s=0, step=step.id, attempt=1, epoch=1))
            told.add(StepVerified(at_s=0, step=step.id, evidence="seen"))
    told.add(GateOpened(at_s=0, gate=told.gate))
    return told


def stop_of(state: RunState, server: str) -> Step:
    """The step that stops a server."""
    return next(step for step in state.plan.steps if step.action == StopAgent(ServerName(server)))


async def test_a_reminder_is_due_at_half_of_the_time_and_shortly_before_its_end() -> None:
    """Once each, from the journal and the clock alone; until then the driver sleeps until the next one is due."""
    told = await waiting(FakeWorld(CLUSTER, majority_replaced()))
    assert decide(told.state, 10.0) == AwaitApproval(told.state.gates[1], 900.0)
    due = decide(told.state, 900.0)
    assert due == Remind(told.state.gates[1], 900.0)
    told.add(Reminded(at_s=900, gate=told.gate, left_s=900.0))
    assert decide(told.state, 901.0) == AwaitApproval(told.state.gates[1], 1500.0)
    assert isinstance(decide(told.state, 1500.0), Remind)
    told.add(Reminded(at_s=1500, gate=told.gate, left_s=300.0))
    assert decide(told.state, 1501.0) == AwaitApproval(told.state.gates[1], HALF_AN_HOUR_S)
    assert decide(told.state, HALF_AN_HOUR_S) == Expire(told.state.gates[1])


async def test_a_reminder_that_came_late_stands_for_those_before_it() -> None:
    """Nobody drove for twenty-eight minutes: people are reminded once, not twice in a row."""
    told = await waiting(FakeWorld(CLUSTER, majority_replaced()))
    due = decide(told.state, 1700.0)
    assert isinstance(due, Remind)
    told.add(Reminded(at_s=1700, gate=told.gate, left_s=due.left_s))
    assert decide(told.state, 1701.0) == AwaitApproval(told.state.gates[1], HALF_AN_HOUR_S)


async def test_nobody_is_reminded_of_a_plan_that_has_touched_nothing() -> None:
    """The first question may expire in silence: nobody is down meanwhile."""
    table = Table(FakeWorld(CLUSTER, majority_replaced()))
    view = await table.service.show(CLUSTER, await table.proposed(lost=LOST))
    state = apply(start(view.events[0]), GateOpened(at_s=0, gate="plan"))
    assert decide(state, 1000.0) == AwaitApproval(state.gates[0], HALF_AN_HOUR_S)


async def test_after_the_end_of_the_time_no_approval_counts() -> None:
    """By whoever's clock: once it is on record that it expired, an approval is refused, and so is another reminder."""
    told = await waiting(FakeWorld(CLUSTER, majority_replaced()))
    told.add(GateExpired(at_s=HALF_AN_HOUR_S, gate=told.gate))
    gate = told.state.gates[1]
    late = Approved(at_s=0, by=BOB, gate=told.gate, digest=told.state.digest, typed=gate.typed)
    with pytest.raises(IllegalEvent, match="the time to approve is over"):
        apply(told.state, late)
    assert isinstance(decide(told.state, 0.0), PutBack), "a driver whose clock is behind goes back"
    assert told.state.waiting_gate is None


async def test_an_approval_just_before_the_end_of_the_time_is_not_overtaken() -> None:
    """It was recorded first: the driver that was about to let it expire finds that nobody is waited for."""
    told = await waiting(FakeWorld(CLUSTER, majority_replaced()))
    gate = told.state.gates[1]
    told.add(Approved(at_s=1799, by=BOB, gate=told.gate, digest=told.state.digest, typed=gate.typed))
    with pytest.raises(IllegalEvent, match="nobody is waited for"):
        apply(told.state, GateExpired(at_s=1800, gate=told.gate))


async def test_only_who_ran_before_and_has_data_is_started_again() -> None:
    """Of five, s3 ran; s1 and s2 were stopped before the run: they stay stopped."""
    told = await waiting(FakeWorld(CLUSTER, newest_on_one()), lost=("s4", "s5"))
    told.add(GateExpired(at_s=HALF_AN_HOUR_S, gate=told.gate))
    due = decide(told.state, HALF_AN_HOUR_S)
    assert isinstance(due, PutBack)
    assert due.step == stop_of(told.state, "s3")
    told.add(
        UndoStarted(at_s=1801, step=due.step.id, attempt=1, epoch=1),
        UndoVerified(at_s=1802, step=due.step.id),
    )
    assert decide(told.state, 1803.0) == Finish(Outcome.EXPIRED)
    assert down(told.state) == held(told.state) == ("s2", "s1")


async def test_a_blank_server_is_not_started_again() -> None:
    """It votes for anybody: it stays down, and why is said."""
    told = await waiting(FakeWorld(CLUSTER, majority_replaced()))
    told.add(GateExpired(at_s=HALF_AN_HOUR_S, gate=told.gate))
    assert "without data" in why_down(told.state, stop_of(told.state, "s2"))
    assert why_down(told.state, stop_of(told.state, "s1")) == ""


async def test_what_must_be_seen_first_is_that_all_is_as_it_was() -> None:
    """No file that its start would read, the log as it was approved, and nobody back who was said to be gone."""
    told = await waiting(FakeWorld(CLUSTER, majority_replaced()))
    told.add(GateExpired(at_s=HALF_AN_HOUR_S, gate=told.gate))
    due = decide(told.state, HALF_AN_HOUR_S)
    assert isinstance(due, PutBack)
    assert PeersFileAbsent(S1) in due.harmless
    assert [check.name for check in due.harmless if isinstance(check, Silent)] == ["s2", "s3"]
    assert [check.server for check in due.harmless if isinstance(check, LogIs)] == ["s1"]


async def test_a_server_that_was_started_again_is_neither_held_nor_left_behind() -> None:
    """Its start takes the hold off, and the journal says so."""
    told = await waiting(FakeWorld(CLUSTER, majority_replaced()))
    stop = stop_of(told.state, "s1").id
    told.add(GateExpired(at_s=1800, gate=told.gate), UndoStarted(at_s=1801, step=stop, attempt=1, epoch=1))
    told.add(UndoVerified(at_s=1802, step=stop))
    assert S1 not in down(told.state)
    assert S1 not in held(told.state)
    assert {step.id for step in left_behind(told.state) if step.targets == (S1,)} == {
        "snapshot-s1",
        "archive-s1",
    }


async def test_an_unread_peers_file_goes_before_anybody_is_started_again() -> None:
    """Asked before each risky step, and nobody answers after the write: the file is taken back first."""
    told = await waiting(FakeWorld(CLUSTER, majority_replaced()), mode=GateMode.EACH_RISKY)
    write = next(step for step in told.state.plan.steps if isinstance(step.action, WritePeers))
    gate = told.state.gates[1]
    told.add(Approved(at_s=1, by=BOB, gate=gate.id, digest=told.state.digest, typed=gate.typed))
    told.add(
        StepStarted(at_s=2, step=write.id, attempt=1, epoch=1),
        StepVerified(at_s=3, step=write.id, evidence=""),
    )
    assert why_down(told.state, stop_of(told.state, "s1")) != "", "while it lies there"
    last = told.state.gates[2].id
    told.add(GateOpened(at_s=4, gate=last), GateExpired(at_s=1804, gate=last))
    first = decide(told.state, 1805.0)
    assert getattr(first, "step", None) == write
    told.add(
        UndoStarted(at_s=1805, step=write.id, attempt=1, epoch=1), UndoVerified(at_s=1806, step=write.id)
    )
    then = decide(told.state, 1807.0)
    assert isinstance(then, PutBack)
    assert then.step == stop_of(told.state, "s1")


async def test_once_a_step_without_a_way_back_was_begun_nobody_is_started_again() -> None:
    """The new set may be in force on one of them: the others with the old one would be another cluster."""
    told = await waiting(FakeWorld(CLUSTER, newest_on_one()), lost=("s4", "s5"), mode=GateMode.EACH_RISKY)
    for gate in told.state.gates[1:]:
        step = told.state.plan.steps[told.state.index_of(gate.before)]
        if gate.id != told.gate:
            told.add(GateOpened(at_s=1, gate=gate.id))
        told.add(Approved(at_s=1, by=BOB, gate=gate.id, digest=told.state.digest, typed=gate.typed))
        told.add(StepStarted(at_s=2, step=step.id, attempt=1, epoch=1))
        if isinstance(step.action, StartAgent):
            break
        told.add(StepVerified(at_s=3, step=step.id, evidence=""))
    assert "cannot be taken back" in why_down(told.state, stop_of(told.state, "s3"))


async def test_whom_a_check_keeps_down_is_asked_about_once() -> None:
    """It is on record: the run ends, and does not look again and again."""
    told = await waiting(FakeWorld(CLUSTER, majority_replaced()))
    told.add(GateExpired(at_s=1800, gate=told.gate))
    told.add(LeftDown(at_s=1801, step=stop_of(told.state, "s1").id, why="lost s2 answers"))
    assert decide(told.state, 1802.0) == Finish(Outcome.EXPIRED)
    assert S1 in down(told.state)


async def test_an_abort_stops_the_putting_back() -> None:
    """Whoever aborts has a reason: nobody else is started, and the run ends aborted."""
    told = await waiting(FakeWorld(CLUSTER, majority_replaced()))
    told.add(GateExpired(at_s=1800, gate=told.gate), AbortChosen(at_s=1801, by=ALICE))
    assert decide(told.state, 1802.0) == Finish(Outcome.ABORTED)


async def test_a_journal_of_before_ends_as_it_did() -> None:
    """A run that expired without the event, as earlier versions wrote it, is read as expired."""
    told = await waiting(FakeWorld(CLUSTER, majority_replaced()))
    ended = told.add(Ended(at_s=1801, outcome=Outcome.EXPIRED))
    assert ended.expired == ""
    assert down(ended) == ("s2", "s3", "s1")


async def test_a_start_again_that_fails_asks_a_person_and_a_retry_does_it() -> None:
    """The host refuses: the run says stuck and keeps the lock; once mended, a retry starts it and the run ends."""
    world = FakeWorld(CLUSTER, majority_replaced())
    table = Table(world, policy=ApprovalPolicy(expires_after_s=60))
    refusals = iter([True])

    def refuse(action: Action, key: ActKey) -> None:
        if isinstance(action, StartAgent) and key.direction == "undo" and next(refusals, False):
            raise HostRefused("s1: systemctl start consul.service failed")

    world.before_act = refuse
    run = await table.proposed(lost=LOST)
    driving = asyncio.create_task(table.drive(run))
    while (await table.state(run)).waiting_gate is None:
        await asyncio.sleep(1)
    await table.approve(run)
    while (state := await table.state(run)).waiting_step is None:
        await asyncio.sleep(1)
    assert state.step_state(stop_of(state, "s1").id).status is StepStatus.STUCK
    assert state.expired
    late = await table.service.approve(
        CLUSTER, run, by=BOB, gate="irreversible", digest_prefix=state.digest[:12], typed=(S2, S3)
    )
    assert isinstance(late, Rejected)
    assert "The time to approve is over" in late.reason
    await table.service.retry(CLUSTER, run, by=BOB)
    ended = await driving
    assert isinstance(ended, RunState)
    assert ended.outcome is Outcome.EXPIRED
    assert world.servers[S1].running
    assert not world.servers[S1].held_by
    assert not world.servers[S2].running


async def test_servers_that_an_earlier_run_holds_are_down_for_the_next_plan_too() -> None:
    """A plan that takes the place of a void one: its first question has servers down, and they are named."""
    servers = three_servers()
    for server in servers:
        server.running, server.held_by = False, "r0"
    servers[1].reachable = servers[2].reachable = False
    table = Table(FakeWorld(CLUSTER, servers))
    state = await table.state(await table.proposed(lost=LOST))
    assert state.report.down == ("s1",)
    opened = apply(state, GateOpened(at_s=0, gate="plan"))
    assert down(opened) == ("s1",)
    assert isinstance(decide(opened, 900.0), Remind)


async def unanswered(table: Table, run: RunId, *, approved: int = 0) -> RunState:
    """Drive it with Bob answering so many times, and then nobody."""
    driving = asyncio.create_task(table.drive(run))
    for _ in range(approved):
        while (await table.state(run)).waiting_gate is None:
            await asyncio.sleep(1)
        await table.approve(run)
    ended = await driving
    assert isinstance(ended, RunState)
    return ended


class Grown(FakeWorld):
    """s1's log is not what was approved, until it is looked at anew."""

    grown = True

    async def check(self, check: Check, *, run: RunId) -> Fact:
        if self.grown and isinstance(check, LogIs) and check.server == "s1":
            return Fails("s1 ends at term 2, index 16")
        return await super().check(check, run=run)


async def void_one(table: Table, world: Grown) -> RunId:
    """A run that has stopped s1 and found its approval void; the plan that takes its place waits."""
    run = await table.proposed(lost=LOST)
    assert (await unanswered(table, run, approved=1)).outcome is Outcome.VOID
    assert not world.servers[S1].running
    world.grown = False
    return run


async def test_what_a_void_run_had_stopped_is_put_back_when_nobody_answers_its_successor() -> None:
    """The new plan's very first question expires: it has done nothing itself, and s1 was only ever stopped."""
    world = Grown(CLUSTER, majority_replaced())
    table = Table(world, policy=ApprovalPolicy(expires_after_s=60))
    run = await void_one(table, world)
    again = await table.service.propose_again(
        await table.service.show(CLUSTER, run), by=ALICE, origin="terminal"
    )
    assert isinstance(again, RunProposed)
    assert again.view.state.report.stopped == ("s1", "s2", "s3")
    ended = await unanswered(table, again.view.run)
    assert ended.outcome is Outcome.EXPIRED
    assert len(ended.reminded) == 1
    assert world.servers[S1].running
    assert not world.servers[S1].held_by
    assert not world.servers[S2].running, "it has no data"
    assert down(ended) == held(ended) == ("s2", "s3")


async def test_what_a_void_run_had_stopped_is_put_back_behind_the_second_question_too() -> None:
    """The successor holds and archives what it finds stopped; s1 ran before both of them."""
    world = Grown(CLUSTER, majority_replaced())
    table = Table(world, policy=ApprovalPolicy(expires_after_s=60))
    run = await void_one(table, world)
    again = await table.service.propose_again(
        await table.service.show(CLUSTER, run), by=ALICE, origin="terminal"
    )
    assert isinstance(again, RunProposed)
    ended = await unanswered(table, again.view.run, approved=1)
    assert ended.outcome is Outcome.EXPIRED
    assert world.servers[S1].running
    assert not world.servers[S1].held_by
    assert S1 not in (*down(ended), *held(ended))


async def test_what_somebody_left_stopped_by_an_abort_stays_so() -> None:
    """Whoever aborted has a reason: an unanswered plan after it starts nobody."""
    world = FakeWorld(CLUSTER, majority_replaced())
    table = Table(world, policy=ApprovalPolicy(expires_after_s=60))
    run = await table.proposed(lost=LOST)
    driving = asyncio.create_task(table.drive(run))
    while (await table.state(run)).waiting_gate is None:
        await asyncio.sleep(1)
    await table.approve(run)
    while (await table.state(run)).waiting_gate is None:
        await asyncio.sleep(1)
    await table.service.abort(CLUSTER, run, by=BOB)
    await driving
    again = await table.service.propose_again(
        await table.service.show(CLUSTER, run), by=ALICE, origin="terminal"
    )
    assert isinstance(again, RunProposed)
    ended = await unanswered(table, again.view.run, approved=1)
    assert ended.outcome is Outcome.EXPIRED
    assert not world.servers[S1].running
    assert S1 in down(ended)
