"""The use cases: status, propose, approve, abort, retry, history. What Slack and the terminal call.

Outcomes are values for a person to read; only faults are raised
(:mod:`recovery.errors`). Nothing here changes a host: that is the engine's,
behind approved gates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import assert_never

import msgspec

from recovery import policy, remembered
from recovery.codec import Fault
from recovery.diagnosis import Degraded, Diagnosis, Healthy, Holder, diagnose, held_down, nobody_has_data
from recovery.errors import OutOfDate, RecoveryError
from recovery.forgotten import Leftover, leftovers, runs_seen, told
from recovery.heldback import begun_on
from recovery.journal import (
    AbortChosen,
    Approved,
    Event,
    Outcome,
    Proposed,
    RetryChosen,
    Unlocked,
    instead,
    only_stopped,
    passed_over,
    standing,
)
from recovery.model import (
    ClusterName,
    ClusterObservation,
    ClusterSpec,
    Member,
    Person,
    RunId,
    ServerName,
)
from recovery.past import UNASKED
from recovery.plan import PlanReport, Proposal, Refusal
from recovery.policy import ApprovalPolicy, Rejected
from recovery.ports import Clock, LeaseHeld, RunStore, World
from recovery.procedures import barred, may_settle, readmit
from recovery.procedures import propose as propose_plan
from recovery.procedures.slips import refuse_unknown
from recovery.runs import RunView, UnreadableRun, holder_of, look_at

SETTLE_PATIENCE_S = 90.0
"""Default raft_multiplier 5: a first election takes 5 to 10 s, a split vote twice that (measured 1.8.7).

Gossip needs about 5 s to notice a death, but more than a minute when most members die at once (measured).
"""


class StatusReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `status` shows."""

    cluster: ClusterName
    diagnosis: Diagnosis
    observation: ClusterObservation
    took_s: float
    active: RunView | None
    unreadable: UnreadableRun | None = None
    """The run that holds the lock, where it cannot be read."""
    held: tuple[Holder, ...] = ()
    """What is known of the runs that hold stopped servers."""
    left: tuple[Leftover, ...] = ()
    """What runs that the store does not know have left on the hosts."""
    store_epoch: int = 0
    memory_problem: str = ""
    """Set when what Redis remembers of the members is not what the bot kept: it is not used."""
    store_problem: str = ""
    """Set when Redis did not answer: the status is true all the same, runs cannot be shown."""


class MembersReport(msgspec.Struct, frozen=True, kw_only=True):
    """Who is in a cluster's gossip."""

    members: tuple[Member, ...]
    by: ServerName | None
    """Whose list it is, of this moment; None: nobody answered, and it is the last one that was seen."""
    at_s: float
    """When it was seen; 0 where none was ever seen."""


class RunProposed(msgspec.Struct, frozen=True):
    """A plan waits for approval and holds the cluster's lock."""

    view: RunView
    diagnosis: Diagnosis


class Locked(msgspec.Struct, frozen=True):
    """Another run holds the cluster's lock; nothing was started."""

    holder: RunView


class HeldByUnreadable(msgspec.Struct, frozen=True):
    """A run that cannot be read holds the cluster's lock; nothing was started."""

    holder: UnreadableRun


class NothingToDo(msgspec.Struct, frozen=True):
    """The cluster is healthy."""

    report: StatusReport


class Refused(msgspec.Struct, frozen=True):
    """No plan is safe here; the refusal says why and what to do instead."""

    report: StatusReport
    refusal: Refusal


class Planned(msgspec.Struct, frozen=True):
    """What would be proposed now; nothing was recorded."""

    report: StatusReport
    proposal: Proposal


class Done(msgspec.Struct, frozen=True):
    """A decision was recorded."""

    view: RunView
    message: str


class LockTaken(msgspec.Struct, frozen=True):
    """The lock of a run that cannot be read was taken away."""

    run: UnreadableRun
    message: str


PlanResult = Planned | NothingToDo | Refused
ProposeResult = RunProposed | Locked | HeldByUnreadable | NothingToDo | Refused
DecisionResult = Done | Rejected
UnlockResult = Done | LockTaken | Rejected


class UnknownCluster(RecoveryError):
    """The settings name no such cluster."""


class UnknownRun(RecoveryError):
    """The store has no such run."""


class RecoveryService:
    """The use cases over one store and the worlds of the settings' clusters."""

    def __init__(
        self,
        *,
        clusters: Mapping[ClusterName, ClusterSpec],
        worlds: Mapping[ClusterName, World],
        store: RunStore,
        approval: ApprovalPolicy,
        clock: Clock,
        new_id: Callable[[], RunId],
    ) -> None:
        self._clusters = clusters
        self._worlds = worlds
        self._store = store
        self._approval = approval
        self._clock = clock
        self._new_id = new_id

    @property
    def clusters(self) -> tuple[ClusterName, ...]:
        """The clusters of the settings."""
        return tuple(self._clusters)

    def resolve_cluster(self, name: str | None) -> ClusterName:
        """Find a cluster by name, or the only one; UnknownCluster lists the known ones."""
        known = ", ".join(self._clusters)
        if name is None:
            if len(self._clusters) == 1:
                return next(iter(self._clusters))
            raise UnknownCluster(f"Which cluster? The settings name {known}. Nothing was done.")
        if name not in self._clusters:
            raise UnknownCluster(
                f"There is no cluster “{name}” in the settings; they name {known}. Nothing was done."
            )
        return ClusterName(name)

    async def status(self, cluster: ClusterName, *, lost: tuple[ServerName, ...] = ()) -> StatusReport:
        """Look at every server and say what is wrong; never fails for a silent host or a silent store.

        The members that are seen are remembered: when the servers are gone nobody lists the client agents.
        """
        began_s = self._clock.monotonic_s()
        observation = await self._worlds[cluster].observe()
        holders = await self._holders(observation)
        past = await remembered.past_of(self._store, cluster) if nobody_has_data(observation) else UNASKED
        diagnosis = diagnose(observation, lost, holders=holders, past=past)
        active: RunView | UnreadableRun | None = None
        left: tuple[Leftover, ...] = ()
        store_epoch, store_problem, memory_problem = 0, "", ""
        try:
            active = await self.holder(cluster)
            memory_problem = await remembered.remember(
                self._store, observation, led=isinstance(diagnosis, Healthy | Degraded)
            )
            store_epoch = await self._store.epoch(cluster)
            left = await self._left(observation, active, store_epoch=store_epoch)
        except RecoveryError as error:
            store_problem = str(error)
        return StatusReport(
            cluster=cluster,
            diagnosis=diagnosis,
            observation=observation,
            took_s=self._clock.monotonic_s() - began_s,
            active=active if isinstance(active, RunView) else None,
            unreadable=active if isinstance(active, UnreadableRun) else None,
            held=holders,
            left=left,
            store_epoch=store_epoch,
            memory_problem=memory_problem,
            store_problem=store_problem,
        )

    async def _holders(self, observation: ClusterObservation) -> tuple[Holder, ...]:
        """What the store knows of the runs that hold stopped servers; nothing where it does not answer."""
        cluster = observation.cluster
        found: list[Holder] = []
        for run in held_down(observation):
            try:
                looked = await look_at(self._store, cluster, run)
                locked = await self._store.active(cluster) == run
            except RecoveryError:
                continue
            match looked:
                case RunView(state=state):
                    lost = tuple(claim.node_id for claim in state.plan.claims)
                    over = state.outcome is not None
                    found.append(Holder(run=run, stands=standing(state), over=over, lost=lost))
                case UnreadableRun():
                    stands = "its journal cannot be read"
                    found.append(Holder(run=run, stands=stands, over=not locked, readable=False))
                case None:
                    pass
                case _:
                    assert_never(looked)
        return tuple(found)

    async def members(self, cluster: ClusterName) -> MembersReport:
        """Give the members as the server that answers first lists them, else the last known ones.

        Raises StoreUnavailable or Unverified where nobody answers and the last known ones cannot be read either.
        """
        told = await self._worlds[cluster].members()
        if told is not None:
            return MembersReport(members=told.members, by=told.by, at_s=self._clock.now_s())
        before = await remembered.members_of(self._store, cluster)
        return MembersReport(
            members=tuple(each.member for each in before.known), by=None, at_s=before.seen_at_s
        )

    async def _left(
        self,
        observation: ClusterObservation,
        active: RunView | UnreadableRun | None,
        *,
        store_epoch: int,
    ) -> tuple[Leftover, ...]:
        """What runs have left that the store does not know or cannot tell of; asked only about runs that hosts name."""
        unknown: list[RunId] = []
        unreadable: list[RunId] = []
        for run in runs_seen(observation):
            if isinstance(active, RunView) and run == active.run:
                continue
            looked = await look_at(self._store, observation.cluster, run)
            if looked is None:
                unknown.append(run)
            elif isinstance(looked, UnreadableRun):
                unreadable.append(run)
        return leftovers(observation, unknown=unknown, unreadable=unreadable, store_epoch=store_epoch)

    async def plan(
        self,
        cluster: ClusterName,
        *,
        method: str | None = None,
        lost: tuple[ServerName, ...] = (),
        server: ServerName | None = None,
    ) -> PlanResult:
        """Look, diagnose and plan, without the lock and without a trace: what `propose` would propose now.

        Raises UnknownMethod or UnknownServer before anything is looked at.
        """
        refuse_unknown(self._clusters[cluster], method=method, lost=lost)
        return await self._plan(cluster, method=method, lost=lost, server=server)

    async def _plan(
        self,
        cluster: ClusterName,
        *,
        method: str | None,
        lost: tuple[ServerName, ...],
        server: ServerName | None,
    ) -> PlanResult:
        report = await self.status(cluster, lost=lost)
        patient_until_s = self._clock.monotonic_s() + SETTLE_PATIENCE_S
        while (
            may_settle(report.observation, report.diagnosis, lost=lost)
            and self._clock.monotonic_s() < patient_until_s
        ):
            await self._clock.sleep(1.0)
            report = await self.status(cluster, lost=lost)
        if isinstance(report.diagnosis, Healthy) and not barred(report.observation, method):
            return NothingToDo(report)
        answer = propose_plan(
            report.observation,
            report.diagnosis,
            lost=lost,
            method=method,
            server=server,
        )
        if isinstance(answer, Refusal):
            return Refused(report, answer)
        return Planned(report, answer)

    async def propose(
        self,
        cluster: ClusterName,
        *,
        by: Person,
        origin: str,
        method: str | None = None,
        lost: tuple[ServerName, ...] = (),
        server: ServerName | None = None,
        replaces: str = "",
    ) -> ProposeResult:
        """Look, diagnose and plan; the plan takes the cluster's lock and waits for approval.

        Raises UnknownMethod or UnknownServer before anything is asked, and StoreUnavailable before anything is
        looked at: without a store there is no lock.
        """
        if not replaces:
            refuse_unknown(self._clusters[cluster], method=method, lost=lost)
        holder = await self.holder(cluster)
        if holder is not None:
            return _held_by(holder)
        answer = await self._plan(cluster, method=method, lost=lost, server=server)
        if not isinstance(answer, Planned):
            return answer
        proposal = _warned(answer)
        run = self._new_id()
        event = Proposed(
            at_s=self._clock.now_s(),
            by=by,
            plan=proposal.plan,
            report=await self._with_held(proposal.report, answer.report.observation),
            gates=policy.gates_of(proposal.plan, self._approval),
            origin=origin,
            replaces=replaces,
            epoch=max(
                answer.report.store_epoch,
                *(s.host.epoch for s in answer.report.observation.servers if s.host is not None),
                0,
            ),
        )
        winner = await self._store.propose(cluster, run, event)
        if winner == run:
            return RunProposed(await self.show(cluster, run), answer.report.diagnosis)
        holder = await self.holder(cluster)
        return _held_by(holder) if holder is not None else Locked(await self.show(cluster, winner))

    async def _with_held(self, report: PlanReport, observation: ClusterObservation) -> PlanReport:
        """Add who was down already when it was planned: a question behind an earlier run's stops is as urgent.

        Whoever aborts or unlocks a run has decided to leave its servers as they are; where a plan was void, or
        nobody answered, nobody has.
        """
        stopped: list[ServerName] = []
        held = held_down(observation)
        for run, names in held.items():
            looked = await look_at(self._store, observation.cluster, run)
            if isinstance(looked, RunView) and looked.state.outcome in {Outcome.VOID, Outcome.EXPIRED}:
                ran = {target for step in only_stopped(looked.state) for target in step.targets}
                stopped += [name for name in names if name in ran]
        down = tuple(name for names in held.values() for name in names)
        return msgspec.structs.replace(report, down=down, stopped=tuple(stopped))

    async def propose_again(self, view: RunView, *, by: Person, origin: str) -> ProposeResult:
        """Plan anew what a run was about that came to nothing: with what it was told, and on what it left.

        Its procedure first, or the one that is to follow it; where that applies no more, what applies now.
        """
        plan = view.state.plan
        # By id: with everything stopped nobody may be left to tell the old names.
        lost = tuple(ServerName(claim.node_id) for claim in plan.claims)
        whom = plan.steps[0].targets[0] if plan.procedure == readmit.NAME else None
        for method, server in ((instead(view.state) or plan.procedure, whom), (None, None)):
            answer = await self.propose(
                view.cluster,
                by=by,
                origin=origin,
                method=method,
                lost=lost,
                server=server,
                replaces=view.run,
            )
            if not isinstance(answer, Refused):
                break
        return answer

    async def approve(
        self,
        cluster: ClusterName,
        run: RunId,
        *,
        by: Person,
        gate: str,
        digest_prefix: str,
        typed: tuple[ServerName, ...] = (),
        reason: str = "",
    ) -> DecisionResult:
        """Record an approval, if it counts; a double click counts once.

        ``reason``: the requester approves alone (break-glass).
        """
        while True:
            view = await self.show(cluster, run)
            verdict = policy.judge(
                view.state,
                by=by,
                gate_id=gate,
                digest_prefix=digest_prefix,
                typed=typed,
                now_s=self._clock.now_s(),
                reason=reason,
            )
            if isinstance(verdict, Rejected):
                return verdict
            event = Approved(
                at_s=self._clock.now_s(),
                by=by,
                gate=verdict.gate,
                digest=verdict.digest,
                typed=typed,
                reason=reason,
            )
            done = await self._record(view, event, f"Approved by {by}.")
            if done is not None:
                return done

    async def abort(self, cluster: ClusterName, run: RunId, *, by: Person) -> DecisionResult:
        """Stop the run before its next step; what would be a trap is taken back."""
        while True:
            view = await self.show(cluster, run)
            if view.state.outcome is not None:
                return Rejected(f"This run has ended already ({view.state.outcome}). Nothing was done.")
            if view.state.aborted_by is not None:
                return Rejected(f"{view.state.aborted_by} has aborted this run already.")
            done = await self._record(view, AbortChosen(at_s=self._clock.now_s(), by=by), f"Aborted by {by}.")
            if done is not None:
                return done

    async def retry(
        self, cluster: ClusterName, run: RunId, *, by: Person, question: str = ""
    ) -> DecisionResult:
        """Try the waiting step again.

        ``question`` is the one that the person saw (RunState.question): whoever answers an older one, the same
        step's one attempt before included, is refused. "" answers whatever waits.
        """
        while True:
            view = await self.show(cluster, run)
            state = view.state
            if state.outcome is not None:
                return Rejected(f"This run has ended ({state.outcome}). Nothing was done.")
            if not state.question:
                return Rejected("Nothing waits for a retry now. Nothing was done.")
            if question and question != state.question:
                return Rejected(
                    "This answers an older state of the run: what waits now has been tried, or found, since. "
                    "Nothing was done. Look at the run as it is now, then answer that."
                )
            event = RetryChosen(at_s=self._clock.now_s(), by=by, again=passed_over(state))
            done = await self._record(view, event, f"Retried by {by}.")
            if done is not None:
                return done

    async def driver(self, cluster: ClusterName) -> LeaseHeld | None:
        """Which process drives the cluster's run now; None when nobody does."""
        return await self._store.driver(cluster)

    async def unlock(
        self, cluster: ClusterName, run: RunId, *, by: Person, holder: str, reason: str
    ) -> UnlockResult:
        """Take the cluster's lock from a run that nobody can finish or abort; it ends as it stands.

        ``holder`` is typed by the person: the driver's name while one is alive, else the run's. So nobody
        takes a run from a living driver without saying so. Works for a run that cannot be read, too.
        """
        while True:
            locked = await self.holder(cluster)
            if locked is None or locked.run != run:
                view = await self.find_any(run)
                if isinstance(view, RunView) and view.state.outcome is not None:
                    return Rejected(f"This run has ended already ({view.state.outcome}). Nothing was done.")
                return Rejected(f"Run {run} does not hold the lock of {cluster}. Nothing was done.")
            driver = await self._store.driver(cluster)
            wanted = driver.owner if driver is not None else run
            if not reason.strip():
                return Rejected("Taking a lock away needs a reason. Nothing was done.")
            if holder != wanted:
                alive = f"{wanted} is alive and drives this run" if driver is not None else "nobody drives it"
                return Rejected(
                    f"“{holder}” does not hold the lock: {alive}. To take the lock from run {run}, type "
                    f"{wanted}. Nothing was done."
                )
            event = Unlocked(
                at_s=self._clock.now_s(),
                by=by,
                holder=holder,
                alive=driver is not None,
                reason=reason.strip(),
            )
            length = locked.length if isinstance(locked, UnreadableRun) else locked.state.length
            try:
                await self._store.unlock(cluster, run, event, expected_length=length)
            except OutOfDate:
                continue
            if isinstance(locked, UnreadableRun):
                # Nobody can read where it acted.
                servers = frozenset(server.name for server in self._clusters[cluster].servers)
                late = await self._bar(cluster, run, servers)
                return LockTaken(msgspec.structs.replace(locked, unlocked=event), f"Unlocked by {by}.{late}")
            view = await self.show(cluster, run)
            return Done(view, f"Unlocked by {by}.{await self._bar(cluster, run, begun_on(view.state))}")

    async def _bar(self, cluster: ClusterName, run: RunId, servers: frozenset[ServerName]) -> str:
        """Have the hosts refuse what a driver, alive or paused, still sends for a run that was unlocked."""
        problems = await self._worlds[cluster].close(sorted(servers), run=run) if servers else {}
        if not problems:
            return ""
        return (
            f" {', '.join(problems)} could not be told that this run is over ({'; '.join(problems.values())}): an act "
            "that is still on its way may yet change what is there. Look at it before you approve another plan."
        )

    async def _record(self, view: RunView, event: Event, message: str) -> Done | None:
        """Append a person's decision; None when the journal grew meanwhile and must be read again."""
        try:
            await self._store.decide(view.cluster, view.run, event, expected_length=view.state.length)
        except OutOfDate:
            return None
        return Done(await self.show(view.cluster, view.run), message)

    async def holder(self, cluster: ClusterName) -> RunView | UnreadableRun | None:
        """The run that holds the cluster's lock, whether it can be read or not."""
        return await holder_of(self._store, cluster)

    async def active(self, cluster: ClusterName) -> RunView | None:
        """The run that holds the cluster's lock; JournalUnreadable where it cannot be worked with."""
        return _worked_with(await self.holder(cluster))

    async def show(self, cluster: ClusterName, run: RunId) -> RunView:
        """One run; UnknownRun if the store has none of that id, JournalUnreadable if it cannot be read."""
        view = _worked_with(await look_at(self._store, cluster, run))
        if view is None:
            raise UnknownRun(
                f"There is no run {run} of cluster {cluster}. Nothing was done. `runs` lists them."
            )
        return view

    async def history(self, cluster: ClusterName, *, limit: int = 20) -> tuple[RunView | UnreadableRun, ...]:
        """The newest runs, newest first; those that cannot be read with the reason."""
        return tuple(
            [
                await look_at(self._store, cluster, run)
                or UnreadableRun(
                    cluster=cluster, run=run, fault=Fault(0, "Redis has no journal of it"), length=0
                )
                for run in await self._store.runs(cluster, limit=limit)
            ]
        )

    async def runs(self, cluster: ClusterName, *, limit: int = 20) -> tuple[RunView, ...]:
        """The newest runs that can be read, newest first."""
        return tuple(run for run in await self.history(cluster, limit=limit) if isinstance(run, RunView))

    async def find(self, run: RunId) -> RunView:
        """A run by its id alone, in any cluster; UnknownRun if there is none, JournalUnreadable if it is no use."""
        found = await self.find_any(run)
        if isinstance(found, UnreadableRun):
            raise found.refusal
        return found

    async def find_any(self, run: RunId) -> RunView | UnreadableRun:
        """A run by its id alone, whether it can be read or not; UnknownRun if there is none."""
        for cluster in self._clusters:
            # A lock may name a run that has no journal, or one that has ended.
            locked = await self.holder(cluster)
            looked = (
                locked
                if locked is not None and locked.run == run
                else await look_at(self._store, cluster, run)
            )
            if looked is not None:
                return looked
        raise UnknownRun(f"There is no run {run}. Nothing was done. `runs` lists them.")


def _worked_with(looked: RunView | UnreadableRun | None) -> RunView | None:
    if isinstance(looked, UnreadableRun):
        raise looked.refusal
    return looked


def _held_by(holder: RunView | UnreadableRun) -> Locked | HeldByUnreadable:
    return Locked(holder) if isinstance(holder, RunView) else HeldByUnreadable(holder)


def _memory(problem: str) -> str:
    return f"{problem} Client agents that only gossip had told of may be missing."


def _warned(planned: Planned) -> Proposal:
    """Add what only the store tells: where the hosts have seen a newer driver, a person must know.

    The epoch on a host is above the store's when the store was emptied or restored from an old dump, or
    when another bot with another store works on the same servers. Approving is confirming.
    """
    report = planned.report
    seen = {
        s.name: s.host.epoch
        for s in report.observation.servers
        if s.host is not None and s.host.epoch > report.store_epoch
    }
    warnings = [_memory(report.memory_problem)] if report.memory_problem else []
    warnings += told(report.left)
    if seen:
        warnings.insert(
            0,
            f"Redis is behind the hosts ({', '.join(f'{name}: epoch {epoch}' for name, epoch in seen.items())}; "
            f"Redis: {report.store_epoch}): it was emptied or restored, or another bot works on these servers. Make "
            "sure that no other recovery is under way before you approve.",
        )
    damaged = [s.name for s in report.observation.servers if s.host is not None and s.host.epoch_damaged]
    if damaged:
        warnings.insert(
            0,
            f"On {', '.join(damaged)} the file that says which driver was there last"
            " (/var/lib/consul-recovery/epoch) says nothing: nothing can be changed there, and this plan will stop at"
            " its first step there. Make sure that no other recovery works on it, remove that file, then approve.",
        )
    if not warnings:
        return planned.proposal
    plan = planned.proposal.plan
    return Proposal(
        msgspec.structs.replace(plan, warnings=(*warnings, *plan.warnings)), planned.proposal.report
    )
