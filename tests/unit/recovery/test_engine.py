"""Runs driven in memory: what is done, in which order, and what is never done."""

import asyncio
from collections.abc import Callable

import pytest

from recovery.engine import Driver
from recovery.errors import HostBusy, HostRefused, IllegalEvent, InDoubt
from recovery.journal import (
    Approved,
    CatalogueNoted,
    Event,
    Outcome,
    StepStarted,
    StepStatus,
    StepVerified,
    left_behind,
)
from recovery.model import ClusterName, Fact, Fails, Holds, RunId, ServerName
from recovery.plan import Action, Check, ConfigurationIs, StartAgent, StepId, StopAgent, WritePeers
from recovery.policy import DIGEST_CHARACTERS, ApprovalPolicy, GateMode, Rejected
from recovery.ports import ActKey, Lease, LeaseHeld
from recovery.procedures.parts import START_S
from recovery.service import Locked, NothingToDo, Refused
from tests.builders.runs import ALICE, BOB, CLUSTER, Table
from tests.fakes.fake_world import FakeWorld, majority_replaced, three_servers
from tests.fakes.memory_store import MemoryStore

LOST = ("s2", "s3")


def world(*, stopped: tuple[str, ...] = ()) -> FakeWorld:
    servers = three_servers()
    for server in servers:
        server.running = server.name not in stopped
    return FakeWorld(ClusterName("demo"), servers)


def replaced() -> FakeWorld:
    return FakeWorld(ClusterName("demo"), majority_replaced())


def unread(table: Table) -> list[str]:
    """Where an unread peers.json lies."""
    return [server.name for server in table.world.servers.values() if server.peers_json is not None]


def refusing_the_first_write() -> Callable[[Action, ActKey], None]:
    """A host that refuses the first peers.json, and takes the next one."""
    refusals = iter([True])

    def refuse_once(action: Action, key: ActKey) -> None:
        del key
        if isinstance(action, WritePeers) and next(refusals, False):
            raise HostRefused("s1: disk full; nothing was done")

    return refuse_once


class TestStart:
    async def test_healthy_has_nothing_to_do(self) -> None:
        """A healthy cluster gets no plan and no lock."""
        table = Table(world())
        assert isinstance(await table.propose(), NothingToDo)
        assert await table.store.active(CLUSTER) is None

    async def test_two_stopped_servers_are_started(self) -> None:
        """A stopped majority is started after one approval, and the run says recovered."""
        table = Table(world(stopped=("s2", "s3")))
        ended = await table.drive_approved(await table.proposed())
        assert ended.outcome is Outcome.RECOVERED
        assert [s.starts for s in table.world.servers.values()] == [0, 1, 1]
        assert await table.store.active(CLUSTER) is None

    async def test_nothing_is_done_before_approval(self) -> None:
        """A proposed run touches no host until somebody approves."""
        table = Table(world(stopped=("s2", "s3")))
        run = await table.proposed()
        task = asyncio.create_task(table.drive(run))
        await table.until(run, lambda s: s.waiting_gate is not None)
        assert table.world.performed == []
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class TestPeersJson:
    async def test_the_survivor_leads_and_the_new_machines_join(self) -> None:
        """One survivor becomes the new peer set; the replaced machines end as voters."""
        table = Table(replaced())
        ended = await table.drive_approved(await table.proposed(lost=LOST))
        assert ended.outcome is Outcome.RECOVERED
        leader = table.world.leader()
        assert leader is not None
        assert leader.name == "s1"
        assert len(leader.voters) == 3

    async def test_the_catalogue_is_noted_once_before_and_once_after(self) -> None:
        """What the catalogue held is noted before the first change and after the last, not for every step."""
        table = Table(replaced())
        await table.drive_approved(await table.proposed(lost=LOST))
        noted = [event.when for event in table.listener.events if isinstance(event, CatalogueNoted)]
        assert noted == ["before", "after"]

    async def test_started_is_recorded_before_the_act(self) -> None:
        """When an act takes effect, its start is in the journal already."""
        table = Table(replaced())
        seen: list[bool] = []

        def recorded(action: Action, key: ActKey) -> None:
            del action
            events = table.listener.events
            seen.append(any(isinstance(e, StepStarted) and e.step == key.step for e in events))

        table.world.before_act = recorded
        await table.drive_approved(await table.proposed(lost=LOST))
        assert seen
        assert all(seen)

    async def test_a_survivor_whose_log_grew_voids_the_approval(self) -> None:
        """If the log is not what was planned, nothing is written and everything stays stopped."""
        table = Table(replaced())
        run = await table.proposed(lost=LOST)

        def grow(action: Action, key: ActKey) -> None:
            del key
            if isinstance(action, StopAgent) and action.server == "s1":
                s1 = table.world.servers[action.server]
                assert s1.last is not None
                s1.last = type(s1.last)(term=s1.last.term, index=s1.last.index + 1)

        table.world.before_act = grow
        ended = await table.drive_approved(run)
        assert ended.outcome is Outcome.VOID
        assert not any(isinstance(action, WritePeers) for action, _ in table.world.performed)
        assert not any(server.running for server in table.world.servers.values())

    async def test_an_abort_after_the_write_takes_the_file_back(self) -> None:
        """An aborted run leaves no unread peers.json, and says what it leaves."""
        table = Table(replaced())
        run = await table.proposed(lost=LOST)

        def refuse(action: Action, key: ActKey) -> None:
            del key
            if isinstance(action, StartAgent) and action.server == "s1":
                raise HostRefused("s1: no; nothing was done")

        table.world.before_act = refuse
        waiting = await table.drive_approved(run)
        assert waiting.waiting_step is not None
        assert unread(table) == ["s1"]
        await table.service.abort(CLUSTER, run, by=BOB)
        ended = await table.drive(run, owner="bot-2")
        assert not isinstance(ended, LeaseHeld)
        assert ended.outcome is Outcome.ABORTED
        assert unread(table) == []
        assert {"stop-s1", "hold-s1", "archive-s1"} <= {step.id for step in left_behind(ended)}

    async def test_a_failed_step_waits_for_a_person_and_can_be_retried(self) -> None:
        """Nothing goes on after a failure until somebody chooses; a retry is a new attempt."""
        table = Table(replaced())
        run = await table.proposed(lost=LOST)
        table.world.before_act = refusing_the_first_write()
        waiting = await table.drive_approved(run)
        assert waiting.step_state(StepId("write-peers-s1")).status is StepStatus.FAILED
        await table.service.retry(CLUSTER, run, by=BOB)
        ended = await table.drive_approved(run)
        assert ended.outcome is Outcome.RECOVERED
        assert ended.step_state(StepId("write-peers-s1")).attempt == 2

    async def test_what_cannot_become_true_any_more_is_not_waited_for(self) -> None:
        """Where Consul gave up at once, people are told at once, not when the step's time is up."""

        class GivesUp(FakeWorld):
            async def check(self, check: Check, *, run: RunId) -> Fact:
                fact = await super().check(check, run=run)
                if isinstance(check, ConfigurationIs) and isinstance(fact, Holds):
                    return Fails("Consul refused the new peer set", final=True)
                return fact

        table = Table(GivesUp(ClusterName("demo"), majority_replaced()))
        began_s = table.clock.monotonic_s()
        waiting = await table.drive_approved(await table.proposed(lost=LOST))
        step = waiting.step_state(StepId("start-s1"))
        assert step.status is StepStatus.FAILED
        assert step.detail == "Consul refused the new peer set"
        assert table.clock.monotonic_s() - began_s < START_S / 2

    async def test_a_leader_that_came_back_before_the_approval_is_not_stopped(self) -> None:
        """An approval given while the cluster is well again touches nothing."""
        table = Table(replaced())
        run = await table.proposed(lost=LOST)
        for name in LOST:
            back = table.world.servers[ServerName(name)]
            back.voters, back.node_id, back.last = (
                table.world.servers[ServerName("s1")].voters,
                f"{name}-id",
                None,
            )
            back.last = table.world.servers[ServerName("s1")].last
        assert table.world.leader() is not None
        state = await table.drive_approved(run)
        assert not any(server.stops for server in table.world.servers.values())
        assert state.waiting_step is not None
        assert state.waiting_step.id.startswith("hold-")

    async def test_a_retry_long_after_looks_at_the_assumptions_again(self) -> None:
        """Between a failure and the retry the world may have changed: a changed log voids the plan."""
        table = Table(replaced())
        run = await table.proposed(lost=LOST)
        table.world.before_act = refusing_the_first_write()
        await table.drive_approved(run)
        s1 = table.world.servers[ServerName("s1")]
        assert s1.last is not None
        s1.last = type(s1.last)(term=s1.last.term, index=s1.last.index + 7)
        await table.service.retry(CLUSTER, run, by=BOB)
        ended = await table.drive_approved(run)
        assert ended.outcome is Outcome.VOID
        assert unread(table) == []

    async def test_an_undo_that_failed_can_be_tried_again(self) -> None:
        """A peers.json that could not be taken back keeps the lock until a retry has removed it."""
        table = Table(replaced())
        run = await table.proposed(lost=LOST)
        away = table.world.servers[ServerName("s1")]

        def lose(action: Action, key: ActKey) -> None:
            del key
            if isinstance(action, StartAgent) and action.server == "s1":
                away.reachable = False
                raise HostRefused("s1: not reached; nothing was done")

        table.world.before_act = lose
        await table.drive_approved(run)
        await table.service.abort(CLUSTER, run, by=BOB)
        task = asyncio.create_task(table.drive(run, owner="bot-2"))
        await table.until(run, lambda s: s.waiting_step is not None and s.aborted_by is not None)
        away.reachable = True
        await table.service.retry(CLUSTER, run, by=BOB)
        ended = await task
        assert not isinstance(ended, LeaseHeld)
        assert ended.outcome is Outcome.ABORTED
        assert unread(table) == []

    async def test_a_gate_that_expires_takes_the_traps_back(self) -> None:
        """When nobody answers a later gate, no unread peers.json is left behind."""
        table = Table(replaced(), policy=ApprovalPolicy(gates=GateMode.EACH_RISKY))
        run = await table.proposed(lost=LOST)
        task = asyncio.create_task(table.drive(run))
        while True:
            state = await table.until(run, lambda s: s.waiting_gate is not None)
            assert state.waiting_gate is not None
            if state.waiting_gate.id == "start-s1":
                break
            await table.approve(run)
        assert unread(table) == ["s1"]
        table.clock.ahead_s += 1801
        ended = await task
        assert not isinstance(ended, LeaseHeld)
        assert ended.outcome is Outcome.EXPIRED
        assert unread(table) == []


class Tape(MemoryStore):
    """Keeps what it was asked to append, before it looks whether it can."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Event] = []

    async def append(self, lease: Lease, event: Event, *, expected_length: int) -> None:
        self.asked.append(event)
        await super().append(lease, event, expected_length=expected_length)


async def test_what_the_history_does_not_allow_never_reaches_the_store() -> None:
    """The driver looks first and appends then: what is durable was legal."""
    tape = Tape()
    table = Table(world(stopped=("s2", "s3")), store=tape)
    run = await table.proposed()
    lease = await tape.take_lease(CLUSTER, run, owner="bot-1", ttl_s=15, above_epoch=0)
    assert isinstance(lease, Lease)
    state = await table.state(run)
    driver = Driver(
        cluster=CLUSTER,
        run=run,
        lease=lease,
        state=state,
        forgotten=(),
        world=table.world,
        store=tape,
        notifier=table.listener,
        clock=table.clock,
    )
    never_begun = StepVerified(
        at_s=table.clock.now_s(), step=state.plan.steps[0].id, evidence="", resolved=False
    )
    with pytest.raises(IllegalEvent):
        await driver._record(never_begun)
    assert never_begun not in tape.asked


class TestDoubt:
    @pytest.mark.parametrize("took_effect", [True, False])
    async def test_an_act_cut_off_is_judged_by_the_world(self, *, took_effect: bool) -> None:
        """A stop that is cut off again and again is done if the agent is stopped, and in doubt while it runs."""
        table = Table(replaced())
        run = await table.proposed(lost=LOST)

        def cut(action: Action, key: ActKey) -> None:
            del key
            if isinstance(action, StopAgent) and action.server == "s1":
                table.world.servers[action.server].running = not took_effect
                raise InDoubt("s1: the connection was lost; it may have been stopped")

        table.world.before_act = cut
        state = await table.drive_approved(run)
        expected = StepStatus.DONE if took_effect else StepStatus.IN_DOUBT
        assert state.step_state(StepId("stop-s1")).status is expected

    async def test_an_act_cut_off_once_is_asked_for_again_and_done_once(self) -> None:
        """The host is asked, not a person: its receipt makes the second call harmless."""
        table = Table(replaced())
        run = await table.proposed(lost=LOST)
        cuts = iter([True])

        def cut(action: Action, key: ActKey) -> None:
            del key
            if isinstance(action, StopAgent) and action.server == "s1" and next(cuts, False):
                raise InDoubt("s1: the connection was lost; it may have been stopped")

        table.world.before_act = cut
        state = await table.drive_approved(run)
        assert state.outcome is Outcome.RECOVERED
        assert state.step_state(StepId("stop-s1")).attempt == 1
        assert table.world.servers[ServerName("s1")].stops == 1

    async def test_a_busy_host_is_asked_again_until_it_is_free(self) -> None:
        """A lost driver's act may still be under way there: no person is asked to press Retry for that."""
        table = Table(replaced())
        run = await table.proposed(lost=LOST)
        busy = iter([True] * 5)

        def locked(action: Action, key: ActKey) -> None:
            del key
            if isinstance(action, StopAgent) and next(busy, False):
                raise HostBusy("s1: another call is at work on this host; nothing was changed")

        table.world.before_act = locked
        assert (await table.drive_approved(run)).outcome is Outcome.RECOVERED

    async def test_a_driver_that_died_is_followed_without_doing_anything_twice(self) -> None:
        """Killed right after each act in turn: the next driver finishes, and no act runs twice."""
        table = Table(replaced())
        run = await table.proposed(lost=LOST)
        killed: set[tuple[str, str]] = set()

        class Killed(BaseException):
            pass

        def kill(action: Action, key: ActKey) -> None:
            del action
            if (key.step, key.direction) not in killed:
                killed.add((key.step, key.direction))
                raise Killed

        table.world.after_act = kill
        for attempt in range(60):
            task = asyncio.create_task(table.drive(run, owner=f"bot-{attempt}"))
            try:
                while not task.done():
                    state = await table.state(run)
                    if state.waiting_gate is not None:
                        await table.approve(run)
                    await asyncio.sleep(0.01)
                await task
                break
            except Killed:
                continue
        state = await table.state(run)
        assert state.outcome is Outcome.RECOVERED
        steps = [(key.step, key.direction) for _, key in table.world.performed]
        assert len(steps) == len(set(steps))


class TestPeople:
    async def test_the_second_proposal_is_told_who_holds_the_lock(self) -> None:
        """Two recoveries at once: one has the lock, the other is told whose it is."""
        table = Table(world(stopped=("s2", "s3")))
        run = await table.proposed()
        second = await table.propose()
        assert isinstance(second, Locked)
        assert second.holder.run == run
        assert second.holder.state.requested_by == ALICE

    async def test_the_requester_does_not_approve_herself(self) -> None:
        """Where the settings want a second person, the requester's own click does nothing."""
        table = Table(world(stopped=("s2", "s3")))
        run = await table.proposed()
        task = asyncio.create_task(table.drive(run))
        state = await table.until(run, lambda s: s.waiting_gate is not None)
        answer = await table.service.approve(
            CLUSTER, run, by=ALICE, gate="plan", digest_prefix=state.digest[:12]
        )
        assert isinstance(answer, Rejected)
        assert "somebody else" in answer.reason
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def test_a_reason_opens_a_gate_for_the_requester_only_where_the_settings_have_it(self) -> None:
        """Without break-glass, and from anybody else, an approval with a reason does not count."""
        for policy, who, counts in (
            (ApprovalPolicy(), ALICE, False),
            (ApprovalPolicy(break_glass=True, reversible_people=2), BOB, False),
            (ApprovalPolicy(break_glass=True, reversible_people=2), ALICE, True),
        ):
            table = Table(world(stopped=("s2", "s3")), policy=policy)
            run = await table.proposed()
            task = asyncio.create_task(table.drive(run))
            state = await table.until(run, lambda s: s.waiting_gate is not None)
            answer = await table.service.approve(
                CLUSTER, run, by=who, gate="plan", digest_prefix=state.digest[:12], reason="nobody wakes up"
            )
            assert isinstance(answer, Rejected) is not counts
            if counts:
                assert (await task).outcome is Outcome.RECOVERED  # type: ignore[union-attr]
            assert bool(table.world.performed) is counts
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def test_an_approval_of_another_plan_does_not_count(self) -> None:
        """Whoever approves says by the digest what; a digest that is not this plan's does nothing."""
        table = Table(world(stopped=("s2", "s3")))
        run = await table.proposed()
        task = asyncio.create_task(table.drive(run))
        await table.until(run, lambda s: s.waiting_gate is not None)
        answer = await table.service.approve(CLUSTER, run, by=BOB, gate="plan", digest_prefix="0" * 12)
        assert isinstance(answer, Rejected)
        assert "another plan" in answer.reason
        assert table.world.performed == []
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    @pytest.mark.parametrize("length", [0, 1, DIGEST_CHARACTERS - 1])
    async def test_a_character_or_two_of_the_digest_are_no_digest(self, length: int) -> None:
        """One character is hit by one guess in sixteen: it does not say which plan was read."""
        table = Table(world(stopped=("s2", "s3")))
        run = await table.proposed()
        task = asyncio.create_task(table.drive(run))
        state = await table.until(run, lambda s: s.waiting_gate is not None)
        prefix = state.digest[:length]
        answer = await table.service.approve(CLUSTER, run, by=BOB, gate="plan", digest_prefix=prefix)
        assert isinstance(answer, Rejected)
        assert "at least 6 characters" in answer.reason
        enough = state.digest[:DIGEST_CHARACTERS]
        counted = await table.service.approve(CLUSTER, run, by=BOB, gate="plan", digest_prefix=enough)
        assert not isinstance(counted, Rejected)
        await task

    async def test_names_typed_before_they_are_asked_for_are_told_as_that(self) -> None:
        """The first gate of a plan that claims servers asks for no names yet, and says when it will."""
        table = Table(FakeWorld(ClusterName("demo"), majority_replaced()))
        run = await table.proposed(lost=("s2", "s3"))
        task = asyncio.create_task(table.drive(run))
        state = await table.until(run, lambda s: s.waiting_gate is not None)
        later = next(gate for gate in state.gates if gate.typed)
        answer = await table.service.approve(
            CLUSTER, run, by=BOB, gate="plan", digest_prefix=state.digest[:12], typed=later.typed
        )
        assert isinstance(answer, Rejected)
        assert "nothing has to be typed here yet" in answer.reason
        assert f"{', '.join(later.typed)} will be asked for before step" in answer.reason
        assert (await table.state(run)).approvals == ()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def test_a_retry_answers_the_attempt_that_was_seen(self) -> None:
        """The same step failed, was retried and failed again: the answer to its first failure does nothing."""
        table = Table(world(stopped=("s2",)))

        def refuse(action: Action, _key: ActKey) -> None:
            if isinstance(action, StartAgent):
                raise HostRefused("no room; nothing was done")

        table.world.before_act = refuse
        run = await table.proposed()
        task = asyncio.create_task(table.drive(run))
        await table.until(run, lambda s: s.waiting_gate is not None)
        await table.approve(run)
        first = (await table.until(run, lambda s: bool(s.question))).question
        await table.service.retry(CLUSTER, run, by=BOB, question=first)
        second = (await table.until(run, lambda s: s.question not in {"", first})).question
        assert second.split("@")[0] == first.split("@")[0]
        late = await table.service.retry(CLUSTER, run, by=ALICE, question=first)
        assert isinstance(late, Rejected)
        assert "older state" in late.reason
        assert not isinstance(await table.service.retry(CLUSTER, run, by=ALICE, question=second), Rejected)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def test_what_has_no_way_back_asks_for_as_many_people_as_the_settings_say(self) -> None:
        """One may approve starts, and two have to approve a new peer set: one alone moves nothing."""
        rules = ApprovalPolicy(reversible_people=1, irreversible_people=2)
        starts = Table(world(stopped=("s2", "s3")), policy=rules)
        proposed = await starts.state(await starts.proposed())
        assert [gate.people for gate in proposed.gates] == [1]
        peers = Table(replaced(), policy=rules)
        run = await peers.proposed(lost=LOST)
        task = asyncio.create_task(peers.drive(run))
        state = await peers.until(run, lambda s: s.waiting_gate is not None)
        assert {gate.people for gate in state.gates} == {2}
        await peers.approve(run)
        waiting = (await peers.state(run)).waiting_gate
        assert waiting is not None
        assert waiting.id == "plan"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def test_names_that_cannot_be_fenced_must_be_typed(self) -> None:
        """At the irreversible gate an approval without the typed names does not count."""
        table = Table(replaced())
        run = await table.proposed(lost=LOST)
        task = asyncio.create_task(table.drive(run))
        await table.until(run, lambda s: s.waiting_gate is not None)
        await table.approve(run)
        state = await table.until(
            run, lambda s: s.waiting_gate is not None and s.waiting_gate.id == "irreversible"
        )
        answer = await table.service.approve(
            CLUSTER, run, by=BOB, gate="irreversible", digest_prefix=state.digest[:12]
        )
        assert isinstance(answer, Rejected)
        assert "s2, s3" in answer.reason
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def test_a_double_click_counts_once(self) -> None:
        """The same person's second approval of a gate changes nothing."""
        table = Table(world(stopped=("s2", "s3")))
        run = await table.proposed()
        task = asyncio.create_task(table.drive(run))
        state = await table.until(run, lambda s: s.waiting_gate is not None)
        clicks = [
            table.service.approve(CLUSTER, run, by=BOB, gate="plan", digest_prefix=state.digest[:12])
            for _ in range(2)
        ]
        await asyncio.gather(*clicks)
        await task
        approvals = [e for e in (await table.service.show(CLUSTER, run)).events if isinstance(e, Approved)]
        assert len(approvals) == 1

    async def test_an_unanswered_gate_expires_and_frees_the_lock(self) -> None:
        """Nobody answers: the run ends as expired, untouched, and the cluster is free."""
        table = Table(world(stopped=("s2", "s3")))
        run = await table.proposed()
        task = asyncio.create_task(table.drive(run))
        await table.until(run, lambda s: s.waiting_gate is not None)
        table.clock.ahead_s += 1801
        ended = await task
        assert not isinstance(ended, LeaseHeld)
        assert ended.outcome is Outcome.EXPIRED
        assert table.world.performed == []
        assert await table.store.active(CLUSTER) is None

    async def test_a_store_behind_the_hosts_is_said_in_the_plan(self) -> None:
        """Where a host has seen a newer driver than the store, the approver is told before approving."""
        table = Table(world(stopped=("s2", "s3")))
        table.world.servers[ServerName("s1")].epoch = 7
        state = await table.state(await table.proposed())
        assert "Redis is behind the hosts (s1: epoch 7; Redis: 0)" in state.plan.warnings[0]

    async def test_an_epoch_file_that_says_none_is_said_in_the_plan(self) -> None:
        """Nothing can be changed there: the approver is told which file a person has to remove."""
        table = Table(world(stopped=("s2", "s3")))
        table.world.servers[ServerName("s1")].epoch_damaged = True
        state = await table.state(await table.proposed())
        assert "On s1 the file that says which driver was there last" in state.plan.warnings[0]

    async def test_a_refusal_takes_no_lock(self) -> None:
        """No plan, no lock: the reasons say what to type."""
        table = Table(replaced())
        answer = await table.propose()
        assert isinstance(answer, Refused)
        assert "--lost s2,s3" in answer.refusal.next_step
        assert await table.store.active(CLUSTER) is None
