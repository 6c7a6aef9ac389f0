"""A held server that somebody else starts: seen at each step, told in words, and gone on from only when it is down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from bot.run_card import title_of
from bot.text import decision
from bot.thread import event_line, question
from recovery.errors import HostRefused
from recovery.heldback import kept_down
from recovery.journal import HeldServersSeen, HoldRenewed, Outcome, RunState, StepNotNeeded, StepStatus
from recovery.model import RunId, ServerName, Sighting
from recovery.plan import Action, ArchiveState, Observe, StartAgent, StepId
from recovery.policy import Rejected
from recovery.ports import ActKey
from tests.builders.runs import BOB, CLUSTER, Listener, Table
from tests.fakes.fake_world import FakeServer, FakeWorld, majority_replaced
from tests.fakes.memory_store import MemoryStore
from tests.sweeps.virtual_time import VirtualClock, run_virtually

S1, S2, S3 = ServerName("s1"), ServerName("s2"), ServerName("s3")
AT_ONCE_S = 2.0


class Slow(FakeWorld):
    """A host takes its time for each act."""

    act_s = 1.5
    fails: str = ""

    async def perform(self, action: Action, *, key: ActKey, timeout_s: float) -> str:
        if not isinstance(action, Observe):
            await asyncio.sleep(self.act_s)
        return await super().perform(action, key=key, timeout_s=timeout_s)


class Play:
    """A peers.json recovery of s1, with two blank servers that are held, in virtual time."""

    def __init__(self, servers: tuple[FakeServer, ...] | None = None) -> None:
        self.world = Slow(CLUSTER, servers or majority_replaced())
        self.table = Table(
            self.world,
            store=MemoryStore(),
            clock=VirtualClock(),  # type: ignore[arg-type]
            listener=Listener(),
        )
        self.run = RunId("")

    async def begun(self) -> None:
        """Proposed, and driven; its gates are approved as they open."""
        self.run = await self.table.proposed(lost=("s2", "s3"))
        self.driving = asyncio.create_task(self.table.drive(self.run))

    async def wait(self, ready: Callable[[RunState], bool], *, most_s: float = 600.0) -> RunState:
        """Until the run is in a state; gates are approved meanwhile."""
        async with asyncio.timeout(most_s):
            while not ready(state := await self.table.state(self.run)):
                if state.waiting_gate is not None:
                    await self.table.approve(self.run)
                await asyncio.sleep(0.1)
        return state

    async def until_step(self, step: str, status: StepStatus) -> RunState:
        """Until a step is there."""
        return await self.wait(lambda state: state.step_state(StepId(step)).status is status)

    async def retry(self) -> object:
        """Bob presses what is asked."""
        state = await self.table.state(self.run)
        return await self.table.service.retry(CLUSTER, self.run, by=BOB, question=state.question)


def virtually(test: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a test's body in virtual time."""
    run_virtually(test())


def test_what_is_held_and_stopped_is_kept_down_until_its_own_start() -> None:
    """From its stop's proof to the record of its start: no earlier, no later."""

    async def body() -> None:
        play = Play()
        await play.begun()
        state = await play.until_step("hold-s1", StepStatus.DONE)
        assert S1 not in kept_down(state)
        state = await play.until_step("archive-s1", StepStatus.DOING)
        assert kept_down(state) == {S1, S2, S3}
        state = await play.until_step("start-s1", StepStatus.DOING)
        assert kept_down(state) == {S2, S3}
        state = await play.wait(lambda state: state.outcome is not None)
        assert state.outcome is Outcome.RECOVERED
        assert kept_down(state) == frozenset()

    virtually(body)


def test_one_that_runs_is_told_at_once_and_nothing_more_begins() -> None:
    """Within the next look: who and by what, in the thread, on the terminal and in the card's title."""

    async def body() -> None:
        play = Play()
        await play.begun()
        await play.until_step("archive-s1", StepStatus.DOING)
        play.world.start_past_the_hold(S2)
        state = await play.wait(lambda state: state.rogue, most_s=AT_ONCE_S)
        acts = len(play.world.performed)
        await asyncio.sleep(60.0)
        # What was under way ends.
        assert all(isinstance(action, ArchiveState) for action, _ in play.world.performed[acts:])
        view = await play.table.service.show(CLUSTER, play.run)
        assert question(view.state).startswith("held:")
        assert "a HELD SERVER RUNS" in title_of(view)
        said = "\n".join(decision(view, unit="consul"))
        assert "s2 runs: process 100, started as consul.service" in said
        assert "consul-recovery retry" in said
        seen = next(e for e in view.events if isinstance(e, HeldServersSeen))
        assert "SOMEBODY ELSE STARTED A HELD SERVER: s2 runs" in str(event_line(seen, state))

    virtually(body)


def test_a_retry_goes_on_only_once_none_runs_and_holds_again_what_is_not_held() -> None:
    """Retried too early it is told again; then the hold is put in force again, and the run ends well."""

    async def body() -> None:
        play = Play()
        await play.begun()
        await play.until_step("archive-s1", StepStatus.DOING)
        play.world.start_past_the_hold(S2)
        await play.wait(lambda state: state.rogue)
        old = (await play.table.state(play.run)).question
        await play.retry()
        state = await play.wait(lambda state: state.rogue and not state.look_at_held)
        assert state.question != old
        stale = await play.table.service.retry(CLUSTER, play.run, by=BOB, question=old)
        assert isinstance(stale, Rejected)
        play.world.stop_by_hand(S2)
        # It wrote nothing: the plan still fits.
        play.world.servers[S2].last, play.world.servers[S2].keys = None, frozenset()
        await play.retry()
        state = await play.wait(lambda state: not state.rogue)
        assert play.world.servers[S2].barred
        assert any(isinstance(e, HoldRenewed) and e.server == S2 for e in play.table.listener.events)

    virtually(body)


def test_a_start_that_somebody_else_made_is_not_already_so() -> None:
    """Seen before the run's own start step: the proof of that step would hold, and it is nobody's of ours."""

    async def body() -> None:
        play = Play()
        await play.begun()
        state = await play.until_step("start-s1", StepStatus.DOING)
        assert S2 in kept_down(state)
        play.world.start_past_the_hold(S2)
        await play.wait(lambda state: state.rogue, most_s=AT_ONCE_S)
        events = play.table.listener.events
        assert not any(isinstance(e, StepNotNeeded) and e.step == "start-s2" for e in events)

    virtually(body)


def test_a_host_that_does_not_answer_is_no_sighting() -> None:
    """Nobody saw it run; and where a person asks to look, it is not taken for stopped either."""

    async def body() -> None:
        play = Play()
        await play.begun()
        await play.until_step("archive-s1", StepStatus.DOING)
        play.world.start_past_the_hold(S2)
        await play.wait(lambda state: state.rogue)
        play.world.servers[S2].reachable = False
        await play.retry()
        state = await play.wait(lambda state: state.rogue and not state.look_at_held)
        assert state.rogues == ()
        assert "s2 could not be seen" in state.rogues_unseen[0]

    virtually(body)


def test_a_server_whose_start_failed_is_held_again_and_the_retry_starts_it() -> None:
    """Its agent ended at once: what lies there may be half a plan, for whoever would start it next."""

    async def body() -> None:
        play = Play()
        await play.begun()
        await play.until_step("write-peers-s1", StepStatus.DOING)
        play.world.after_act = lambda action, _key: (
            play.world.stop_by_hand(S1) if isinstance(action, StartAgent) and action.server == S1 else None
        )
        state = await play.until_step("start-s1", StepStatus.FAILED)
        assert "s1 is held again" in state.step_state(StepId("start-s1")).detail
        assert play.world.servers[S1].barred
        assert S1 in kept_down(state)

    virtually(body)


@pytest.mark.parametrize("ends", ["abort", "unlock"])
def test_the_hosts_are_told_that_the_run_is_over_where_an_act_was_lost(ends: str) -> None:
    """An archive whose end nobody saw: after the end the host refuses it, whoever sends it."""

    async def body() -> None:
        play = Play()
        await play.begun()
        await play.until_step("archive-s1", StepStatus.DOING)
        play.driving.cancel()
        await asyncio.gather(play.driving, return_exceptions=True)
        if ends == "abort":
            await play.table.service.abort(CLUSTER, play.run, by=BOB)
            play.driving = asyncio.create_task(play.table.drive(play.run, owner="bot-2"))
            await play.wait(lambda state: state.outcome is not None)
        else:
            told = await play.table.service.unlock(CLUSTER, play.run, by=BOB, holder=play.run, reason="gone")
            assert not isinstance(told, Rejected)
        late = ActKey(play.run, StepId("archive-s1"), 1, "do", "bot-1", 1)
        with pytest.raises(HostRefused):
            await play.world.perform(ArchiveState(S1), key=late, timeout_s=60.0)

    virtually(body)


def test_a_sighting_without_a_time_does_not_say_one() -> None:
    """A host that does not tell when is not quoted with the year 1970."""
    seen = HeldServersSeen(
        at_s=1.0, running=(Sighting(server=S1, since_s=0.0, by="process 7, started as x"),)
    )
    assert "since" not in str(event_line(seen, None))  # type: ignore[arg-type]
