"""Decide, perform, record, repeat: drives one run to its end, seeing ports only.

Order inside a step: (1) ``unless`` or ``after`` hold already: not needed;
(2) ``before`` does not hold: blocked, nothing was tried; (3) record *started*,
durably, then act; (4) check ``after`` until it holds or time is up. Seen not to
hold is *failed*, could not be seen is *in doubt*. Lost lease: stop at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import structlog

from recovery.codec import readable, unreadable
from recovery.errors import (
    HostBusy,
    HostRefused,
    HostUnreachable,
    IllegalEvent,
    InDoubt,
    LeaseLost,
    OutOfDate,
    RecoveryError,
    StoreUnavailable,
)
from recovery.forgotten import forgotten, outdated
from recovery.heldback import begun_on, holding, kept_down
from recovery.journal import (
    AssumptionsFailed,
    AssumptionsHeld,
    AssumptionsUnknown,
    AwaitApproval,
    AwaitPerson,
    CatalogueNoted,
    CheckAssumptions,
    Command,
    Ended,
    EndHeldUp,
    Event,
    Execute,
    Expire,
    Finish,
    GateExpired,
    GateOpened,
    HandedOver,
    HeldServersSeen,
    HoldRenewed,
    LeadersSeen,
    LeaseTaken,
    LeftDown,
    LookAtHeld,
    OpenGate,
    Outcome,
    Over,
    PutBack,
    Remind,
    Reminded,
    Resolve,
    RollBack,
    RunState,
    StepBlocked,
    StepFailed,
    StepInDoubt,
    StepNotNeeded,
    StepStarted,
    StepStatus,
    StepVerified,
    UndoFailed,
    UndoStarted,
    UndoVerified,
    apply,
    decide,
    next_step,
)
from recovery.model import ClusterName, Fact, Fails, Holds, RunId, ServerName, Sighting, Unknown
from recovery.plan import (
    Action,
    AgentHeld,
    AgentStopped,
    Check,
    HoldAgent,
    JoinGossip,
    LogIs,
    Observe,
    OneHistory,
    Risk,
    Silent,
    StartAgent,
    Step,
    StepId,
    Undo,
)
from recovery.ports import ActKey, Clock, Lease, LeaseHeld, Notifier, RunStore, World

LEASE_TTL_S = 10.0
POLL_S = 0.2
FIRST_POLL_S = 0.1
"""What takes effect at all mostly does so within the second; after that nothing is lost by asking less often."""
ASSUMPTION_PATIENCE_S = 20.0
"""A host may need a moment after a stop; an assumption that cannot be seen is asked again for this long."""
HAND_OVER_AFTER_S = 10.0
"""A step whose act is done is waited for this long by a process that is being stopped; the next one goes on."""
START_AGAIN_S = 180.0
"""The agent answers only after Raft has replayed its log."""
LEADER_SAMPLE_S = 1.0
"""Two samples this far apart are longer than a leader's lease (500 ms by raft_multiplier 1, 2.5 s by 5: three)."""
LEADER_SAMPLES = 4

log = structlog.get_logger()


class _Superseded(Exception):
    """What we were about to record is no longer allowed: a person decided meanwhile."""


class _HandingOver(Exception):
    """This process is being stopped: what only waits is left to the next driver, who asks the world."""


class Driver:
    """Drives one run for as long as it holds the lease."""

    def __init__(
        self,
        *,
        cluster: ClusterName,
        run: RunId,
        lease: Lease,
        state: RunState,
        forgotten: tuple[str, ...],
        world: World,
        store: RunStore,
        notifier: Notifier,
        clock: Clock,
        stop: asyncio.Event | None = None,
    ) -> None:
        self._cluster = cluster
        self._run = run
        self._lease = lease
        self._state = state
        self._forgotten = forgotten
        self._world = world
        self._store = store
        self._notifier = notifier
        self._clock = clock
        self._stop = stop or asyncio.Event()
        self._stop_seen_s: float | None = None
        self._late: set[ServerName] = set()
        """Hosts where an act that an older driver, or this one, has sent may still begin."""
        self._cut_off: set[tuple[StepId, int]] = set()
        """Acts that were cut off once and asked for again; the second time a person is asked."""
        self._recording = asyncio.Lock()
        self._log = log.bind(cluster=cluster, run=run, epoch=lease.epoch)

    @property
    def state(self) -> RunState:
        """The run as this driver knows it."""
        return self._state

    async def drive(self) -> RunState:
        """Go on until the run is over, or handed over; raises LeaseLost as soon as somebody else drives."""
        heartbeat = asyncio.create_task(self._heartbeat())
        watch = asyncio.create_task(self._watch())
        main = asyncio.create_task(self._loop())
        try:
            done, _ = await asyncio.wait({heartbeat, watch, main}, return_when=asyncio.FIRST_COMPLETED)
            for ended in done - {main}:
                await ended  # raises what ended it: no run goes on without its lease or its watch
            return await main
        finally:
            await end_tasks(main, watch, heartbeat)

    async def _heartbeat(self) -> None:
        while True:
            await self._clock.sleep(LEASE_TTL_S / 3)
            await self._store.renew_lease(self._lease, ttl_s=LEASE_TTL_S)
            # What nobody can read any more nobody can abort: it is not gone on with either.
            journal = await self._store.journal(self._cluster, self._run)
            if journal.fault is not None:
                raise unreadable(self._cluster, self._run, journal.fault)

    async def _watch(self) -> None:
        """Stop the run when two servers name themselves leader longer than a leader's lease.

        And as soon as a server runs that this run keeps down: somebody else has started it.
        """
        seen: list[frozenset[ServerName]] = []
        while True:
            await self._clock.sleep(LEADER_SAMPLE_S)
            try:
                leaders, _ = await asyncio.gather(self._world.leaders(), self._look_for_rogues())
            except RecoveryError as error:
                self._log.warning("could not look for leaders", problem=str(error))
                continue
            seen = [*seen, frozenset(leaders)][-LEADER_SAMPLES:]
            both = frozenset.intersection(*seen)
            if len(seen) == LEADER_SAMPLES and len(both) > 1 and not self._state.two_leaders:
                await self._record(LeadersSeen(at_s=self._clock.now_s(), servers=tuple(sorted(both))))

    async def _look_for_rogues(self) -> None:
        """Record that a server runs which this run keeps down, once, and again when another one does."""
        if self._state.aborted_by is not None or self._state.look_at_held:
            return
        known = {sighting.server for sighting in self._state.rogues}
        # A start of ours that has begun meanwhile is not what was seen: it is recorded before it is made.
        found = await self._rogues()
        if {sighting.server for sighting in found} - known:
            await self._record_rogues(found)

    def _keeps_down(self, sighting: Sighting) -> bool:
        return sighting.server in kept_down(self._state)

    async def _record_rogues(self, found: Sequence[Sighting]) -> None:
        with contextlib.suppress(_Superseded):
            await self._record(HeldServersSeen(at_s=self._clock.now_s(), running=tuple(found)))

    async def _started_by_others(self, step: Step) -> tuple[Sighting, ...]:
        """Tell which server that this run keeps down runs already, before anything is started, or cannot be undone."""
        if not isinstance(step.action, StartAgent) and step.risk is not Risk.IRREVERSIBLE:
            return ()
        return await self._rogues(step)

    async def _rogues(self, starting: Step | None = None) -> tuple[Sighting, ...]:
        """Tell which server that this run keeps down runs all the same.

        Also the one that a step starts, after a try of it: where our hold still lies on the host, no start of ours
        took effect there.
        """
        action = starting.action if starting is not None else None
        starts = {action.server} if isinstance(action, StartAgent) else set[ServerName]()
        asked = sorted(kept_down(self._state) | starts)
        seen = await self._world.running(asked) if asked else ()
        return tuple(
            s for s in seen if self._keeps_down(s) or (s.server in starts and s.hold_left == self._run)
        )

    async def _look_at_held(self) -> None:
        """A person has seen to it that none runs any more: look, hold again what is not held, then go on."""
        down = sorted(kept_down(self._state) | {sighting.server for sighting in self._state.rogues})
        stopped = [AgentStopped(name) for name in down]
        facts = await self._check_until_known(stopped)
        found = {sighting.server: sighting for sighting in await self._world.running(down)}
        unseen: list[str] = []
        for name, fact in zip(down, facts, strict=True):
            if name in found:
                continue
            match fact:
                case Holds():
                    unseen += await self._renew(name)
                case Fails(observed=observed):
                    found[name] = Sighting(server=name, since_s=0.0, by=observed)
                case Unknown(reason=reason):
                    unseen.append(f"{name} could not be seen: {reason}")
        await self._record(
            HeldServersSeen(at_s=self._clock.now_s(), running=tuple(found.values()), unseen=tuple(unseen))
        )

    async def _renew(self, server: ServerName) -> list[str]:
        """Hold (or fence) a stopped server again where that is no longer in force; gives what stands in the way."""
        step = holding(self._state, server)
        if step is None:
            return []
        if not any(isinstance(fact, Fails) for fact in await self._check_all(step.after)):
            return []
        attempt = self._state.step_state(step.id).attempt + 1
        await self._record(
            HoldRenewed(
                at_s=self._clock.now_s(),
                step=step.id,
                server=server,
                attempt=attempt,
                epoch=self._lease.epoch,
            )
        )
        key = self._key(step, attempt, undo=False)
        try:
            await self._act_on(step.action, key, step.timeout_s)
        except RecoveryError as error:
            return [f"{server} could not be held again: {error}"]
        return [
            f"{server} could not be held again: {why}"
            for why in _not_holding(await self._check_all(step.after))
        ]

    async def _renew_before_retry(self, step: Step) -> None:
        """A start that failed may have taken the hold off; what is tried again begins where the first try began."""
        if not isinstance(step.action, StartAgent) or AgentHeld(step.action.server) not in step.before:
            return
        held, stopped = await self._check_all(
            (AgentHeld(step.action.server), AgentStopped(step.action.server))
        )
        if isinstance(held, Fails) and isinstance(stopped, Holds):
            for problem in await self._renew(step.action.server):
                self._log.warning("could not be held again", step=step.id, problem=problem)

    async def _loop(self) -> RunState:
        going_on = next_step(self._state)
        await self._record(
            LeaseTaken(
                at_s=self._clock.now_s(),
                owner=self._lease.owner,
                epoch=self._lease.epoch,
                took_over_from=self._state.owner,
                at=going_on.id if going_on is not None else None,
                forgotten=self._forgotten,
            )
        )
        await self._bar_older_drivers()
        while True:
            command = decide(self._state, self._clock.now_s())
            if isinstance(command, Over):
                return self._state
            if self._stop.is_set():
                return await self._hand_over()
            # A person's decision came between deciding and recording: decide again with it.
            with contextlib.suppress(_Superseded, _HandingOver):
                await self._perform(command)

    async def _hand_over(self) -> RunState:
        await self._record(
            HandedOver(at_s=self._clock.now_s(), owner=self._lease.owner, epoch=self._lease.epoch)
        )
        return self._state

    def _give_way(self, *, patience_s: float = 0.0) -> None:
        """Stop waiting where this process is being stopped; what was acted is on record and on the host."""
        if not self._stop.is_set():
            return
        now_s = self._clock.monotonic_s()
        self._stop_seen_s = now_s if self._stop_seen_s is None else self._stop_seen_s
        if now_s - self._stop_seen_s >= patience_s:
            raise _HandingOver

    def _give_way_to_rogues(self) -> None:
        """Stop waiting where somebody else started a held server; once a person has seen to it, the world is asked."""
        if self._state.rogue and self._state.aborted_by is None:
            raise _HandingOver

    async def _perform(self, command: Command) -> None:
        now_s = self._clock.now_s()
        match command:
            case OpenGate(gate=gate):
                # Before people are asked: it costs nobody a wait while the cluster is down and the plan approved.
                await self._note_catalogue_before()
                await self._record(
                    GateOpened(at_s=self._clock.now_s(), gate=gate.id, findings=self._state.confirmed)
                )
            case AwaitApproval(until_s=until_s):
                await self._wait(min(5.0, max(0.0, until_s - now_s)))
            case Remind(gate=gate, left_s=left_s):
                await self._record(Reminded(at_s=now_s, gate=gate.id, left_s=left_s))
            case Expire(gate=gate):
                await self._record(GateExpired(at_s=self._clock.now_s(), gate=gate.id))
            case AwaitPerson():
                await self._wait(5.0)
            case LookAtHeld():
                await self._look_at_held()
            case CheckAssumptions():
                await self._check_assumptions()
            case Execute(steps=steps):
                await self._execute_together(steps)
            case Resolve(step=step, attempt=attempt):
                await self._resolve(step, attempt)
            case RollBack(step=step, undo=undo, attempt=attempt):
                await self._roll_back(step, undo, attempt, timeout_s=step.timeout_s)
            case PutBack(step=step, undo=undo, attempt=attempt, harmless=harmless):
                await self._put_back(step, undo, attempt, harmless)
            case Finish(outcome=outcome):
                if not await self._nothing_comes_late(outcome):
                    return
                if self._state.plan.steps and self._state.after is None:
                    await self._note_catalogue("after")
                if outcome is Outcome.RECOVERED and (rogues := await self._rogues()):
                    # A fenced one, say: after the end nobody looks any more.
                    await self._record_rogues(rogues)
                    return
                await self._record(Ended(at_s=self._clock.now_s(), outcome=outcome))
            case Over():
                pass

    async def _bar_older_drivers(self) -> None:
        """Before anything else: an older driver may have been paused between a start's record and its act.

        A host that cannot be told now is told by the first act there, and before the end.
        """
        self._late = set(begun_on(self._state))
        if not self._late:
            return
        key = ActKey(self._run, StepId("claim"), 0, "do", self._lease.owner, self._lease.epoch)
        problems = await self._world.claim(sorted(self._late), key=key)
        self._late &= set(problems)
        for server, problem in problems.items():
            self._log.warning("an older driver could not be barred", server=server, problem=problem)

    async def _nothing_comes_late(self, outcome: Outcome) -> bool:
        """Before the end: wherever an act may still begin, the host is told that the run is over.

        Else it happens after the end, when nobody watches it and the lock is free. Where a host cannot be told, a
        person decides; not for one that the run was free to pass over, when the cluster is back.
        """
        deadline_s = self._clock.monotonic_s() + ASSUMPTION_PATIENCE_S
        needed = begun_on(self._state, optional=outcome is not Outcome.RECOVERED)
        while self._late:
            problems = await self._world.close(sorted(self._late), run=self._run)
            self._late &= set(problems)
            if not self._late & needed:
                break
            if self._clock.monotonic_s() >= deadline_s:
                hosts = tuple(f"{server}: {problems[server]}" for server in sorted(self._late & needed))
                await self._record(EndHeldUp(at_s=self._clock.now_s(), outcome=outcome, hosts=hosts))
                return False
            self._give_way()
            await self._clock.sleep(POLL_S)
        return True

    async def _act_on(self, action: Action, key: ActKey, timeout_s: float) -> str:
        """Perform it, and know afterwards whether something of ours may still be on its way to that host."""
        if isinstance(action, Observe | JoinGossip):
            return await self._world.perform(action, key=key, timeout_s=timeout_s)
        was_late = action.server in self._late
        self._late.add(action.server)
        try:
            said = await self._world.perform(action, key=key, timeout_s=timeout_s)
        except (HostRefused, HostUnreachable):
            # Nothing of this one was begun, or sent.
            if not was_late:
                self._late.discard(action.server)
            raise
        self._late.discard(action.server)
        return said

    async def _wait(self, timeout_s: float) -> None:
        """Wait for a person's decision, and read it."""
        waiting = asyncio.create_task(
            self._store.wait(self._cluster, self._run, length=self._state.length, timeout_s=timeout_s)
        )
        stopping = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if waiting in done:
                await waiting
        finally:
            waiting.cancel()
            stopping.cancel()
            await asyncio.gather(waiting, stopping, return_exceptions=True)
        await self._catch_up()

    # --- steps

    async def _execute_together(self, steps: Sequence[tuple[Step, int]]) -> None:
        """Perform neighbours at the same time; the fault of one does not cut off the others."""
        if any(step.risk is not Risk.READ_ONLY for step, _ in steps):
            await self._note_catalogue_before()
        outcomes = await asyncio.gather(
            *(self._execute(step, attempt) for step, attempt in steps), return_exceptions=True
        )
        faults = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        # A fault of ours (a lost lease, a silent store) weighs more than a decision that came between.
        for fault in sorted(faults, key=lambda fault: isinstance(fault, _Superseded | _HandingOver)):
            raise fault

    async def _execute(self, step: Step, attempt: int) -> None:
        if attempt > 1:
            await self._renew_before_retry(step)
        if step.unless:
            # Not seen is no reason to act: a healthy server would be restarted after a cut connection.
            facts = await self._check_until_known(step.unless)
            if (why := _all_hold(facts)) is not None:
                await self._record(StepNotNeeded(at_s=self._clock.now_s(), step=step.id, why=why))
                return
            if not any(isinstance(fact, Fails) for fact in facts):
                unseen = "; ".join(_not_holding(facts))
                await self._record(StepBlocked(at_s=self._clock.now_s(), step=step.id, why=unseen))
                return
        # Asked in the same moment: what both look at is looked at once.
        after, before, others = await asyncio.gather(
            self._check_all(step.after), self._check_all(step.before), self._started_by_others(step)
        )
        if others:
            # That its proof holds is not this run's doing: nothing is "already so" here.
            await self._record_rogues(others)
            return
        if step.after and (why := _all_hold(after)) is not None:
            await self._already(step, attempt, why)
            return
        if any(isinstance(fact, Unknown) for fact in before):
            before = await self._check_until_known(step.before)
        obstacles = _not_holding(before)
        if obstacles:
            await self._record(StepBlocked(at_s=self._clock.now_s(), step=step.id, why="; ".join(obstacles)))
            return
        await self._record(
            StepStarted(at_s=self._clock.now_s(), step=step.id, attempt=attempt, epoch=self._lease.epoch)
        )
        await self._act(step, attempt)

    async def _already(self, step: Step, attempt: int, why: str) -> None:
        """Somebody did it before us; on a later try that was most likely our own act, whose effect came late.

        What every abort takes back becomes ours: an unread peers.json is a trap, whoever wrote it.
        """
        now_s = self._clock.now_s()
        ours = isinstance(step.rollback, Undo) and step.rollback.on_abort
        if attempt == 1 and not ours:
            await self._record(StepNotNeeded(at_s=now_s, step=step.id, why=f"already so: {why}"))
            return
        await self._record(StepStarted(at_s=now_s, step=step.id, attempt=attempt, epoch=self._lease.epoch))
        await self._record(StepVerified(at_s=now_s, step=step.id, evidence=why, resolved=True))

    async def _act(self, step: Step, attempt: int) -> None:
        deadline_s = self._clock.monotonic_s() + step.timeout_s
        key = self._key(step, attempt, undo=False)
        try:
            said = await self._perform_when_free(step.action, key, step.timeout_s, deadline_s=deadline_s)
        except (HostRefused, HostUnreachable) as error:
            await self._fail(step, str(error))
            return
        except InDoubt as error:
            if (step.id, attempt) not in self._cut_off and self._clock.monotonic_s() < deadline_s:
                self._cut_off.add((step.id, attempt))
                self._log.warning("an act was cut off, the host is asked", step=step.id, problem=str(error))
                await self._resolve(step, attempt)
            else:
                await self._verify(step, str(error), deadline_s, cut_off=key)
            return
        await self._verify(step, said, deadline_s)

    async def _perform_when_free(
        self, action: Action, key: ActKey, timeout_s: float, *, deadline_s: float
    ) -> str:
        """Perform it; a host where a lost driver's act is still under way is asked again until the deadline."""
        while True:
            try:
                return await self._act_on(action, key, timeout_s)
            except HostBusy:
                await self._catch_up()
                if (
                    self._state.aborted_by is not None
                    or self._state.rogue
                    or self._clock.monotonic_s() >= deadline_s
                ):
                    raise
                self._give_way()
                await self._clock.sleep(POLL_S)

    async def _verify(
        self,
        step: Step,
        said: str,
        deadline_s: float,
        *,
        resolved: bool = False,
        unless_seen: str = "",
        cut_off: ActKey | None = None,
    ) -> None:
        """Check ``after`` until it holds, cannot hold any more, time is up, or the run is being stopped.

        ``unless_seen`` is what is known already in case that it never holds. ``cut_off`` names an act whose end
        was not seen: without the host's receipt it may still take effect, so it is in doubt, not failed.
        """
        poll_s = FIRST_POLL_S
        while True:
            facts = await self._check_all(step.after)
            if _all_hold(facts) is not None:
                evidence = "; ".join(f.evidence for f in facts if isinstance(f, Holds) and f.evidence) or said
                await self._record(
                    StepVerified(at_s=self._clock.now_s(), step=step.id, evidence=evidence, resolved=resolved)
                )
                return
            await self._catch_up()
            self._give_way_to_rogues()
            interrupted = self._state.aborted_by is not None or bool(self._state.two_leaders)
            # While the act itself may still be under way, what is seen is how the host was before it.
            acted = cut_off is None and not unless_seen
            hopeless = acted and any(isinstance(fact, Fails) and fact.final for fact in facts)
            if interrupted or hopeless or self._clock.monotonic_s() >= deadline_s:
                break
            self._give_way(patience_s=HAND_OVER_AFTER_S)
            await self._clock.sleep(poll_s)
            poll_s = min(POLL_S, poll_s * 1.5)
        seen = [fact.observed for fact in facts if isinstance(fact, Fails)]
        unseen = [fact.reason for fact in facts if isinstance(fact, Unknown)]
        if cut_off is not None and not isinstance(await self._world.receipt(step.action, key=cut_off), Holds):
            why = "; ".join((said, *(f"so far: {each}" for each in (*seen, *unseen))))
            await self._record(StepInDoubt(at_s=self._clock.now_s(), step=step.id, why=why))
        elif seen:
            why = "; ".join([unless_seen, *seen] if unless_seen else seen)
            await self._fail(step, f"interrupted while waiting: {why}" if interrupted else why)
        else:
            await self._record(StepInDoubt(at_s=self._clock.now_s(), step=step.id, why="; ".join(unseen)))

    async def _fail(self, step: Step, why: str) -> None:
        why += await self._held_after_failure(step)
        lines: list[str] = []
        for server in step.targets[:1]:
            lines += await self._world.explain(server)
        await self._record(StepFailed(at_s=self._clock.now_s(), step=step.id, why=why, lines=tuple(lines)))
        if isinstance(step.action, StartAgent) and (rogues := await self._rogues(step)):
            # Its host did not start it beside the one that runs already.
            await self._record_rogues(rogues)

    async def _held_after_failure(self, step: Step) -> str:
        """Hold a server again that did not come up: what lies there may be half a plan, for whoever starts it next.

        One that still may come up (systemd tries again, nobody can see it) is left as it is. Gives what was done.
        """
        if not isinstance(step.action, StartAgent):
            return ""
        name = step.action.server
        held = holding(self._state, name, until=step)
        if held is None or not isinstance(held.action, HoldAgent):
            return ""
        stopped, is_held = await self._check_all((AgentStopped(name), AgentHeld(name)))
        if not isinstance(stopped, Holds) or isinstance(is_held, Holds):
            return ""
        problems = await self._renew(name)
        return f"; {'; '.join(problems)}" if problems else f"; {name} is held again"

    async def _resolve(self, step: Step, attempt: int) -> None:
        """A step was started and its outcome was not seen: ask the world, then the host's receipt."""
        deadline_s = self._clock.monotonic_s() + step.timeout_s
        key = self._key(step, attempt, undo=False)
        while True:
            if _all_hold(await self._check_all(step.after)) is not None:
                await self._verify(step, "", deadline_s, resolved=True)
                return
            receipt = await self._world.receipt(step.action, key=key)
            await self._catch_up()
            self._give_way_to_rogues()
            stopping = self._state.aborted_by is not None or bool(self._state.two_leaders)
            if not isinstance(receipt, Unknown) or stopping or self._clock.monotonic_s() >= deadline_s:
                break
            # A host that was just cut off may be back in a moment.
            self._give_way()
            await self._clock.sleep(POLL_S)
        match receipt:
            case Holds():
                await self._verify(step, "the host's receipt says it was done", deadline_s, resolved=True)
            case Fails():
                obstacles = _not_holding(await self._check_until_known(step.before))
                if obstacles:
                    # It cannot be begun again. What the lost driver sent may be at work yet, and may itself be
                    # what stands in the way (a start consumes peers.json): its proof is waited for as ever.
                    begun = "it was begun and not finished: " + "; ".join(obstacles)
                    await self._verify(step, "", deadline_s, resolved=True, unless_seen=begun)
                    return
                await self._record(
                    StepStarted(
                        at_s=self._clock.now_s(), step=step.id, attempt=attempt, epoch=self._lease.epoch
                    )
                )
                # The same attempt: should the old act still be under way, host.sh does it once.
                await self._act(step, attempt)
            case Unknown(reason=reason):
                await self._record(StepInDoubt(at_s=self._clock.now_s(), step=step.id, why=reason))

    async def _put_back(self, step: Step, undo: Undo, attempt: int, harmless: Sequence[Check]) -> None:
        """Start a server again that the run only stopped; where that is not seen to be harmless it stays down."""
        began = self._state.step_state(step.id).status is StepStatus.UNDOING
        if began and _all_hold(await self._check_all(undo.after)) is not None:
            # A lost driver's start has come through; nothing is done twice.
            await self._record(UndoVerified(at_s=self._clock.now_s(), step=step.id))
            return
        obstacles: list[str] = []
        if not await self._is_up(step):
            obstacles = _not_holding(await self._check_until_known(harmless))
        # What was asked of a stopped server is no obstacle where a lost driver's start has just come through.
        if obstacles and not await self._is_up(step):
            why, now_s = "; ".join(obstacles), self._clock.now_s()
            if began:
                await self._record(UndoFailed(at_s=now_s, step=step.id, why=why))
            else:
                await self._record(LeftDown(at_s=now_s, step=step.id, why=why))
            return
        await self._roll_back(step, undo, attempt, timeout_s=max(step.timeout_s, START_AGAIN_S))

    async def _is_up(self, step: Step) -> bool:
        """Whether what this step stopped is seen not to be stopped, also where it does not answer yet."""
        facts = await self._check_all([AgentStopped(server) for server in step.targets])
        return any(isinstance(fact, Fails) for fact in facts)

    async def _roll_back(self, step: Step, undo: Undo, attempt: int, *, timeout_s: float) -> None:
        await self._record(
            UndoStarted(at_s=self._clock.now_s(), step=step.id, attempt=attempt, epoch=self._lease.epoch)
        )
        deadline_s = self._clock.monotonic_s() + timeout_s
        problem = ""
        try:
            await self._undo_for_certain(step, undo, attempt, deadline_s=deadline_s)
        except (HostBusy, InDoubt) as error:
            # The act that is to be taken back may still be at work there: what holds now proves nothing.
            await self._record(UndoFailed(at_s=self._clock.now_s(), step=step.id, why=str(error)))
            return
        except (HostRefused, HostUnreachable) as error:
            problem = str(error)
        while True:
            missing = _not_holding(await self._check_all(undo.after))
            if not missing:
                await self._record(UndoVerified(at_s=self._clock.now_s(), step=step.id))
                return
            if self._clock.monotonic_s() >= deadline_s or problem:
                why = problem or "; ".join(missing)
                await self._record(UndoFailed(at_s=self._clock.now_s(), step=step.id, why=why))
                return
            self._give_way(patience_s=HAND_OVER_AFTER_S)
            await self._clock.sleep(POLL_S)

    async def _undo_for_certain(self, step: Step, undo: Undo, attempt: int, *, deadline_s: float) -> None:
        """Have the host say that the undo is done; it has done it once, however often it is asked.

        Raises what stood in the way last, once the time is up.
        """
        key = self._key(step, attempt, undo=True)
        while True:
            try:
                await self._act_on(undo.action, key, step.timeout_s)
            except (HostBusy, InDoubt):
                if self._clock.monotonic_s() >= deadline_s:
                    raise
                self._give_way()
                await self._clock.sleep(POLL_S)
            else:
                return

    # --- facts

    async def _check_assumptions(self) -> None:
        if rogues := await self._rogues():
            # Its log is no longer what was planned from, but the reason is not the plan.
            await self._record_rogues(rogues)
            return
        deadline_s = self._clock.monotonic_s() + ASSUMPTION_PATIENCE_S
        while True:
            assumed = self._state.plan.assumptions
            facts = await self._check_all(assumed)
            about = [f"{_subject(check)}: " for check in assumed]
            failed = tuple(
                who + fact.observed for who, fact in zip(about, facts, strict=True) if isinstance(fact, Fails)
            )
            if failed:
                await self._record(AssumptionsFailed(at_s=self._clock.now_s(), findings=failed))
                return
            unknown = tuple(
                who + fact.reason for who, fact in zip(about, facts, strict=True) if isinstance(fact, Unknown)
            )
            if not unknown:
                findings = tuple(
                    who + fact.evidence
                    for who, fact in zip(about, facts, strict=True)
                    if isinstance(fact, Holds) and fact.evidence
                )
                await self._record(AssumptionsHeld(at_s=self._clock.now_s(), findings=findings))
                return
            if self._clock.monotonic_s() >= deadline_s:
                await self._record(AssumptionsUnknown(at_s=self._clock.now_s(), findings=unknown))
                return
            self._give_way()
            await self._clock.sleep(POLL_S)

    async def _check_all(self, checks: Sequence[Check]) -> list[Fact]:
        return list(await asyncio.gather(*(self._world.check(check, run=self._run) for check in checks)))

    async def _check_until_known(self, checks: Sequence[Check]) -> list[Fact]:
        """Ask once more for a while when something could not be seen: a session may be reconnecting."""
        deadline_s = self._clock.monotonic_s() + ASSUMPTION_PATIENCE_S
        while True:
            facts = await self._check_all(checks)
            if (
                not any(isinstance(fact, Unknown) for fact in facts)
                or self._clock.monotonic_s() >= deadline_s
            ):
                return facts
            self._give_way()
            await self._clock.sleep(POLL_S)

    async def _note_catalogue_before(self) -> None:
        if self._state.before is None:
            await self._note_catalogue("before")

    async def _note_catalogue(self, when: str) -> None:
        observation = await self._world.observe()
        told = [
            server
            for server in observation.servers
            if server.agent is not None and server.agent.catalogue is not None
        ]
        # Afterwards the leader's word counts; before, whoever still answers stale reads.
        told.sort(key=lambda server: not (server.agent is not None and server.agent.names_itself_leader))
        source = told[0] if told else None
        await self._record(
            CatalogueNoted(
                at_s=self._clock.now_s(),
                when=when,
                catalogue=source.agent.catalogue if source is not None and source.agent is not None else None,
                source=source.name if source is not None else "",
            )
        )

    # --- recording

    def _key(self, step: Step, attempt: int, *, undo: bool) -> ActKey:
        return ActKey(
            run=self._run,
            step=step.id,
            attempt=attempt,
            direction="undo" if undo else "do",
            owner=self._lease.owner,
            epoch=self._lease.epoch,
        )

    async def _record(self, event: Event) -> None:
        """Apply, append, and only then believe; an illegal event never becomes durable."""
        async with self._recording:
            try:
                new = apply(self._state, event)
            except IllegalEvent:
                # A neighbour that is performed at the same time has read a person's decision before us.
                state = self._state
                if state.aborted_by is None and not (state.two_leaders or state.rogue or state.void):
                    raise
                raise _Superseded from None
            while True:
                try:
                    await self._store.append(self._lease, event, expected_length=self._state.length)
                    break
                except OutOfDate:
                    await self._read_on()
                    try:
                        new = apply(self._state, event)
                    except IllegalEvent:
                        raise _Superseded from None
            self._state = new
        self._log.info("recorded", kind=type(event).__name__, step=getattr(event, "step", None))
        await self._notifier.show(self._cluster, self._run, self._state, (event,))

    async def _catch_up(self) -> None:
        """Read what people decided since."""
        async with self._recording:
            new = await self._read_on()
        if new:
            await self._notifier.show(self._cluster, self._run, self._state, new)

    async def _read_on(self) -> tuple[Event, ...]:
        new = await self._store.events(self._cluster, self._run, after=self._state.length)
        for event in new:
            self._state = apply(self._state, event)
        return new


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel until they have ended: once is not enough.

    Before Python 3.12 asyncio.wait_for, which redis-py sends with, loses a cancellation that arrives together with
    its result (https://github.com/python/cpython/issues/86296); a task that then waits would wait for ever.
    """
    waiting: set[asyncio.Task[Any]] = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=1.0)
    await asyncio.gather(*tasks, return_exceptions=True)


def _subject(check: Check) -> str:
    """Whom an assumption is about, for the line that a person reads."""
    match check:
        case LogIs(server=server):
            return server
        case Silent(name=name):
            return f"lost {name}"
        case OneHistory(freshest=freshest, others=others):
            return ", ".join((freshest, *others))
        case _:
            return type(check).__name__


def _all_hold(facts: Sequence[Fact]) -> str | None:
    """The evidence, if every fact holds; None otherwise."""
    if not all(isinstance(fact, Holds) for fact in facts):
        return None
    return "; ".join(fact.evidence for fact in facts if isinstance(fact, Holds) and fact.evidence)


def _not_holding(facts: Sequence[Fact]) -> list[str]:
    """Say what does not hold, and what could not be seen."""
    problems: list[str] = []
    for fact in facts:
        match fact:
            case Holds():
                pass
            case Fails(observed=observed):
                problems.append(observed)
            case Unknown(reason=reason):
                problems.append(f"could not be seen: {reason}")
    return problems


async def drive_run(
    cluster: ClusterName,
    run: RunId,
    *,
    owner: str,
    world: World,
    store: RunStore,
    notifier: Notifier,
    clock: Clock,
    stop: asyncio.Event | None = None,
) -> RunState | LeaseHeld:
    """Take the lease and drive a run to its end, or say who drives it.

    Raises JournalUnreadable. The epoch is above every one that Redis or a reached
    host has seen, so that an older driver is refused by both. Once ``stop`` is set the step under way
    is finished, the run handed over and the lease given back.
    """
    driver_now = await store.driver(cluster)
    if driver_now is not None:
        # Without asking the hosts for their epoch: every other process looks in every second.
        return driver_now
    # Before the hosts are asked: what nobody may drive, or has ended, is found in the lock again every second.
    state = readable(cluster, run, await store.journal(cluster, run))
    if state.outcome is not None:
        return state
    traces = await world.traces()
    lease = await store.take_lease(
        cluster,
        run,
        owner=owner,
        ttl_s=LEASE_TTL_S,
        above_epoch=max((trace.epoch for trace in traces), default=0),
    )
    if isinstance(lease, LeaseHeld):
        return lease
    try:
        state = readable(cluster, run, await store.journal(cluster, run))
        if state.outcome is not None:
            # It ended between the look at the open runs and the lease.
            return state
        driver = Driver(
            cluster=cluster,
            run=run,
            lease=lease,
            state=state,
            forgotten=(*forgotten(run, state, traces), *outdated(state, clock.now_s())),
            world=world,
            store=store,
            notifier=notifier,
            clock=clock,
            stop=stop,
        )
        return await driver.drive()
    finally:
        with contextlib.suppress(StoreUnavailable, LeaseLost):
            await store.release_lease(lease)
