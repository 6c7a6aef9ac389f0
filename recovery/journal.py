"""The journal of a run: events in, state out, and the one function that says what is next.

Everything about the states of a run is in this file, and the file does no I/O.

    apply(state, event) -> state      total over legal histories, else IllegalEvent
    decide(state, now_s) -> command   total; the only place that says what happens next

The journal is an intent log: *started* is recorded before the act. A started
step without an outcome is in doubt, and the world is asked, never assumed.
Finished steps are not looked at again: Consul deletes peers.json once it has
read it, so what held when it was recorded may rightly no longer hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import assert_never

import msgspec

from recovery.errors import IllegalEvent
from recovery.model import Catalogue, Person, ServerName, Sighting
from recovery.plan import (
    AgentStopped,
    CannotUndo,
    Check,
    Digest,
    HoldAgent,
    HoldReleased,
    LogIs,
    Observe,
    OverrideAbsent,
    OverrideExpect,
    PeersFileAbsent,
    Plan,
    PlanReport,
    ReleaseHold,
    Risk,
    Silent,
    StartAgent,
    Step,
    StepId,
    StopAgent,
    Undo,
    WritePeers,
)

LAST_CALL_S = 300
"""So long before the time to answer is over people are reminded for the last time."""

# --- Gates ----------------------------------------------------------------------------------------------


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """A line in the plan that nobody crosses without approval."""

    id: str
    """``plan`` for the first one, ``irreversible`` or the step's id for later ones."""
    before: StepId
    """The step that waits behind it."""
    worst_risk: Risk
    people: int
    """How many different people must approve."""
    requester_counts: bool
    typed: tuple[ServerName, ...] = ()
    """The names that each approver types: servers that cannot be fenced."""
    expires_after_s: int
    break_glass: bool = False
    """Whether the requester may approve alone, with a reason, where nobody else is there."""


# --- Events ---------------------------------------------------------------------------------------------


class _Event(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    at_s: float
    """Unix time."""


class Proposed(_Event, frozen=True, kw_only=True):
    """A plan was made and holds the cluster's lock."""

    by: Person
    plan: Plan
    report: PlanReport
    gates: tuple[Gate, ...]
    origin: str = ""
    """Where it was asked for: a Slack channel id, or ``terminal``."""
    replaces: str = ""
    """The run whose approval this plan's predecessor lost, if any."""
    epoch: int = 0
    """The highest one that the store or a host had seen when it was planned."""


class LeaseTaken(_Event, frozen=True, kw_only=True):
    """A driver took the run over."""

    owner: str
    epoch: int
    forgotten: tuple[str, ...] = ()
    """What the hosts know of this run or a later one, and the journal does not: a person confirms first."""
    took_over_from: str = ""
    """The driver that fell silent; "" for the first one, and after a hand-over."""
    at: StepId | None = None
    """The step it goes on with; None where all are finished."""


class HandedOver(_Event, frozen=True, kw_only=True):
    """A driver that is being stopped gave the run back, so that another process goes on at once."""

    owner: str
    epoch: int


class GateOpened(_Event, frozen=True, kw_only=True):
    """People are asked; the time to answer runs from here."""

    gate: str
    findings: tuple[str, ...] = ()
    """What was confirmed just before asking (logs read from the stopped servers)."""


class Reminded(_Event, frozen=True, kw_only=True):
    """People were reminded that they are still waited for, while servers are down."""

    gate: str
    left_s: float
    """How long they still have."""


class GateExpired(_Event, frozen=True, kw_only=True):
    """Nobody answered in time; from here on no approval counts, and what was only stopped is put back."""

    gate: str


class LeftDown(_Event, frozen=True, kw_only=True):
    """A server that the run stopped stays stopped at its expiry: starting it was not seen to be harmless."""

    step: StepId
    """The step that stopped it."""
    why: str


class Approved(_Event, frozen=True, kw_only=True):
    """A person approved what is behind a gate, for exactly this plan."""

    by: Person
    gate: str
    digest: Digest
    typed: tuple[ServerName, ...] = ()
    reason: str = ""
    """Why the requester approved alone (break-glass); "" for every other approval."""


class AssumptionsHeld(_Event, frozen=True, kw_only=True):
    """Every assumption was seen to hold right before the irreversible part."""

    findings: tuple[str, ...]


class AssumptionsFailed(_Event, frozen=True, kw_only=True):
    """An assumption was seen not to hold: the approval is void and everything stays as it is."""

    findings: tuple[str, ...]


class AssumptionsUnknown(_Event, frozen=True, kw_only=True):
    """An assumption could not be seen; a person decides whether to look again."""

    findings: tuple[str, ...]


class StepNotNeeded(_Event, frozen=True, kw_only=True):
    """Its ``unless`` held, or its ``after`` held already: nothing was done."""

    step: StepId
    why: str


class StepBlocked(_Event, frozen=True, kw_only=True):
    """Its ``before`` did not hold: nothing was tried, ask a person."""

    step: StepId
    why: str


class StepStarted(_Event, frozen=True, kw_only=True):
    """About to act; durable before the act."""

    step: StepId
    attempt: int
    epoch: int


class StepVerified(_Event, frozen=True, kw_only=True):
    """Its ``after`` was seen to hold."""

    step: StepId
    evidence: str
    resolved: bool = False
    """Found done by asking the world after a driver was lost."""


class StepFailed(_Event, frozen=True, kw_only=True):
    """Its ``after`` was seen not to hold within its time, or the host refused."""

    step: StepId
    why: str
    lines: tuple[str, ...] = ()
    """Telling lines of the journal."""


class StepInDoubt(_Event, frozen=True, kw_only=True):
    """Its ``after`` could not be seen: it may or may not have happened."""

    step: StepId
    why: str


class RetryChosen(_Event, frozen=True, kw_only=True):
    """A person chose to try the blocked, failed or doubtful step again."""

    by: Person
    again: tuple[StepId, ...] = ()
    """Steps of the same stage that the run had passed over, and that are tried again too."""


class AbortChosen(_Event, frozen=True, kw_only=True):
    """A person stopped the run."""

    by: Person


class UndoStarted(_Event, frozen=True, kw_only=True):
    """About to undo; durable before the act."""

    step: StepId
    attempt: int
    epoch: int


class UndoVerified(_Event, frozen=True, kw_only=True):
    """The undo's own checks hold."""

    step: StepId


class UndoFailed(_Event, frozen=True, kw_only=True):
    """The undo could not be proven: stuck until a person has looked."""

    step: StepId
    why: str


class CatalogueNoted(_Event, frozen=True, kw_only=True):
    """What the catalogue held, before and after."""

    when: str
    """``before`` or ``after``."""
    catalogue: Catalogue | None
    source: str


class LeadersSeen(_Event, frozen=True, kw_only=True):
    """Two servers named themselves leader in successive samples: the run stops."""

    servers: tuple[ServerName, ...]


class HeldServersSeen(_Event, frozen=True, kw_only=True):
    """Servers that this run holds run all the same: it stops. None runs and none is unseen: it may go on."""

    running: tuple[Sighting, ...]
    unseen: tuple[str, ...] = ()
    """A sentence for each held server that could not be seen, or held again, when a person asked to look."""


class HoldRenewed(_Event, frozen=True, kw_only=True):
    """About to put a hold (or a fence) of this run in force again; durable before the act."""

    step: StepId
    """The step that held (or fenced) the server."""
    server: ServerName
    attempt: int
    epoch: int


class EndHeldUp(_Event, frozen=True, kw_only=True):
    """The run does not end: on these hosts an act of it may still begin, and they could not be told otherwise."""

    outcome: Outcome
    hosts: tuple[str, ...]
    """A sentence each."""


class Outcome(StrEnum):
    """How a run ends."""

    RECOVERED = "recovered"
    ABORTED = "aborted"
    EXPIRED = "expired"
    VOID = "void"
    """An assumption failed, or a step that another procedure must follow; a new plan is needed."""
    UNLOCKED = "unlocked"
    """A person took the lock away; nothing was taken back."""


class Ended(_Event, frozen=True, kw_only=True):
    """The run is over and the cluster's lock is free."""

    outcome: Outcome


class Unlocked(_Event, frozen=True, kw_only=True):
    """A person took the cluster's lock from the run, which ends as it stands: nothing is taken back."""

    by: Person
    holder: str
    """What the person typed: the driver that was alive, else the run."""
    alive: bool
    """Whether a driver had the lease at that moment."""
    reason: str


Event = (
    Proposed
    | LeaseTaken
    | HandedOver
    | GateOpened
    | Reminded
    | GateExpired
    | LeftDown
    | Approved
    | AssumptionsHeld
    | AssumptionsFailed
    | AssumptionsUnknown
    | StepNotNeeded
    | StepBlocked
    | StepStarted
    | StepVerified
    | StepFailed
    | StepInDoubt
    | RetryChosen
    | AbortChosen
    | UndoStarted
    | UndoVerified
    | UndoFailed
    | CatalogueNoted
    | LeadersSeen
    | HeldServersSeen
    | HoldRenewed
    | EndHeldUp
    | Ended
    | Unlocked
)

# --- State ----------------------------------------------------------------------------------------------


class StepStatus(StrEnum):
    """Where one step is."""

    TODO = "todo"
    BLOCKED = "blocked"
    DOING = "doing"
    IN_DOUBT = "in doubt"
    FAILED = "failed"
    DONE = "done"
    NOT_NEEDED = "not needed"
    UNDOING = "undoing"
    UNDONE = "undone"
    STUCK = "stuck"


FINISHED = frozenset({StepStatus.DONE, StepStatus.NOT_NEEDED})
WAITS_FOR_PERSON = frozenset({StepStatus.BLOCKED, StepStatus.FAILED, StepStatus.IN_DOUBT, StepStatus.STUCK})

# (status, event type) -> status. What is not here is illegal.
_MOVES: dict[tuple[StepStatus, type[_Event]], StepStatus] = {
    (StepStatus.TODO, StepNotNeeded): StepStatus.NOT_NEEDED,
    (StepStatus.TODO, StepBlocked): StepStatus.BLOCKED,
    (StepStatus.TODO, StepStarted): StepStatus.DOING,
    (StepStatus.DOING, StepStarted): StepStatus.DOING,
    (StepStatus.DOING, StepVerified): StepStatus.DONE,
    (StepStatus.DOING, StepFailed): StepStatus.FAILED,
    (StepStatus.DOING, StepInDoubt): StepStatus.IN_DOUBT,
    # Of these three only what was tried before: a retry that came to nothing leaves what the first try did.
    (StepStatus.TODO, UndoStarted): StepStatus.UNDOING,
    (StepStatus.BLOCKED, UndoStarted): StepStatus.UNDOING,
    (StepStatus.NOT_NEEDED, UndoStarted): StepStatus.UNDOING,
    (StepStatus.DONE, HoldRenewed): StepStatus.DONE,
    (StepStatus.NOT_NEEDED, HoldRenewed): StepStatus.NOT_NEEDED,
    (StepStatus.DONE, UndoStarted): StepStatus.UNDOING,
    (StepStatus.FAILED, UndoStarted): StepStatus.UNDOING,
    (StepStatus.IN_DOUBT, UndoStarted): StepStatus.UNDOING,
    (StepStatus.DOING, UndoStarted): StepStatus.UNDOING,
    (StepStatus.STUCK, UndoStarted): StepStatus.UNDOING,
    (StepStatus.UNDOING, UndoStarted): StepStatus.UNDOING,
    (StepStatus.UNDOING, UndoVerified): StepStatus.UNDONE,
    (StepStatus.UNDOING, UndoFailed): StepStatus.STUCK,
}


class StepState(msgspec.Struct, frozen=True, kw_only=True):
    """One step's place in the run."""

    status: StepStatus = StepStatus.TODO
    attempt: int = 0
    detail: str = ""
    lines: tuple[str, ...] = ()
    started_s: float = 0.0
    ended_s: float = 0.0
    waits_since: int = 0
    """The length at which it came to wait for a person; it tells one failure from the next."""

    @property
    def may_stand(self) -> bool:
        """Whether it was tried, by whatever try, and not taken back: what it did may still be there."""
        return self.attempt > 0 and self.status is not StepStatus.UNDONE


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """A run, folded from its journal."""

    requested_by: Person
    proposed_s: float
    origin: str
    replaces: str
    plan: Plan
    digest: Digest
    report: PlanReport
    gates: tuple[Gate, ...]
    steps: tuple[StepState, ...]
    """In the order of the plan's steps."""
    length: int = 1
    """Events so far."""
    owner: str = ""
    epoch: int = 0
    opened: tuple[GateOpened, ...] = ()
    approvals: tuple[Approved, ...] = ()
    reminded: tuple[Reminded, ...] = ()
    expired: str = ""
    """The gate at which nobody answered in time; "" where none has expired."""
    left_down: tuple[LeftDown, ...] = ()
    held_at: tuple[int, ...] = ()
    """How many approvals there were each time the assumptions were seen to hold."""
    confirmed: tuple[str, ...] = ()
    """What was seen when the assumptions last held."""
    void: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    """Assumptions that could not be seen; a person decides whether to look again."""
    known_epoch: int = 0
    """The highest one seen when it was planned."""
    forgotten: tuple[str, ...] = ()
    """What the hosts know and the journal does not; a person decides whether to go on."""
    accepted: tuple[str, ...] = ()
    """What of it a person has confirmed."""
    aborted_by: Person | None = None
    unlocked: Unlocked | None = None
    two_leaders: tuple[ServerName, ...] = ()
    rogues: tuple[Sighting, ...] = ()
    """Held servers that run all the same; nothing goes on until none of them does."""
    rogues_unseen: tuple[str, ...] = ()
    """Held servers that could not be seen when a person asked to look again."""
    look_at_held: bool = False
    """Whether a person asked to look at the held servers again."""
    held_again: tuple[ServerName, ...] = ()
    """Servers whose start failed and that were held again since."""
    not_told: tuple[str, ...] = ()
    """Hosts that could not be told that the run is over; a person decides whether to try again."""
    asked_at: int = 0
    """The length at which what a person is asked about, beside a step, was recorded last."""
    before: CatalogueNoted | None = None
    after: CatalogueNoted | None = None
    outcome: Outcome | None = None
    ended_s: float = 0.0

    def step_state(self, step: StepId) -> StepState:
        """Give one step's state; KeyError if the plan has no such step."""
        return self.steps[self.index_of(step)]

    def index_of(self, step: StepId) -> int:
        """Where a step stands in the plan; KeyError if it has no such step."""
        for index, planned in enumerate(self.plan.steps):
            if planned.id == step:
                return index
        raise KeyError(step)

    def gate(self, gate: str) -> Gate | None:
        """Give a gate by its id."""
        return next((candidate for candidate in self.gates if candidate.id == gate), None)

    def approvers(self, gate: str) -> tuple[Person, ...]:
        """The different people who have approved a gate."""
        return tuple(dict.fromkeys(approval.by for approval in self.approvals if approval.gate == gate))

    def broken(self, gate: str) -> Approved | None:
        """The approval by which the requester alone opened a gate; None where nobody did."""
        return next((entry for entry in self.approvals if entry.gate == gate and entry.reason), None)

    def missing(self, gate: Gate) -> int:
        """How many more people a gate needs; none once its glass was broken."""
        if self.broken(gate.id) is not None:
            return 0
        counted = [
            person
            for person in self.approvers(gate.id)
            if gate.requester_counts or person != self.requested_by
        ]
        return max(0, gate.people - len(counted))

    @property
    def waiting_gate(self) -> Gate | None:
        """The gate that people are asked about right now."""
        if self.outcome is not None or self.aborted_by is not None or self.expired:
            return None
        open_ids = {opened.gate for opened in self.opened}
        return next((gate for gate in self.gates if gate.id in open_ids and self.missing(gate)), None)

    @property
    def waiting_step(self) -> Step | None:
        """The step that needs a person's decision; while a run is being stopped only an undo that failed."""
        unwinding = self.aborted_by is not None or bool(self.void) or bool(self.expired)
        for step, state in zip(self.plan.steps, self.steps, strict=True):
            waits = state.status is StepStatus.STUCK if unwinding else state.status in WAITS_FOR_PERSON
            if waits and not self._passed_over(step, state):
                return step
        return None

    @property
    def rogue(self) -> bool:
        """Whether somebody else has started a server that this run holds."""
        return bool(self.rogues or self.rogues_unseen)

    @property
    def question(self) -> str:
        """Name what a Retry answers now, "" where nothing waits for one.

        The same step that waits again after a retry is another question: whoever answered the first one has not
        seen the second.
        """
        step = self.waiting_step
        if self.outcome is not None:
            return ""
        if self.not_told:
            return f"end@{self.asked_at}"
        if self.rogue and self.aborted_by is None:
            return "" if self.look_at_held else f"held@{self.asked_at}"
        if self.forgotten or self.doubts:
            return f"{'forgotten' if self.forgotten else 'doubts'}@{self.asked_at}"
        return f"{step.id}@{self.step_state(step.id).waits_since}" if step is not None else ""

    @staticmethod
    def _passed_over(step: Step, state: StepState) -> bool:
        return step.optional and state.status is not StepStatus.STUCK


def start(event: Event) -> RunState:
    """Begin a run; IllegalEvent unless the first event is a proposal."""
    if not isinstance(event, Proposed):
        raise IllegalEvent(f"a journal begins with a proposal, not with {type(event).__name__}")
    return RunState(
        requested_by=event.by,
        proposed_s=event.at_s,
        origin=event.origin,
        replaces=event.replaces,
        known_epoch=event.epoch,
        plan=event.plan,
        digest=event.plan.digest(),
        report=event.report,
        gates=event.gates,
        steps=tuple(StepState() for _ in event.plan.steps),
    )


def fold(events: Iterable[Event]) -> RunState:
    """Fold a whole journal; IllegalEvent when it is empty or impossible."""
    state: RunState | None = None
    for event in events:
        state = start(event) if state is None else apply(state, event)
    if state is None:
        raise IllegalEvent("the journal is empty")
    return state


def apply(state: RunState, event: Event) -> RunState:
    """Give the state after an event; IllegalEvent if the history does not allow it."""
    if state.outcome is not None and isinstance(event, Unlocked):
        # The lock named a run that had ended: somebody has taken it away, and that is all.
        return msgspec.structs.replace(state, length=state.length + 1)
    if state.outcome is not None:
        raise IllegalEvent(f"the run has ended ({state.outcome}); {type(event).__name__} comes too late")
    changed = _changed(state, event)
    return msgspec.structs.replace(changed, length=state.length + 1)


def _changed(state: RunState, event: Event) -> RunState:
    replace = msgspec.structs.replace
    match event:
        case Proposed():
            raise IllegalEvent("a run is proposed once")
        case LeaseTaken(owner=owner, epoch=epoch, forgotten=forgotten):
            if epoch <= state.epoch:
                raise IllegalEvent(f"epoch {epoch} is not above {state.epoch}")
            # Time has passed, nobody knows how much: what was assumed is looked at again.
            known = (*state.forgotten, *forgotten)
            asked_at = state.length + 1 if forgotten else state.asked_at
            return replace(state, owner=owner, epoch=epoch, held_at=(), forgotten=known, asked_at=asked_at)
        case HandedOver(owner=owner, epoch=epoch):
            if (owner, epoch) != (state.owner, state.epoch):
                raise IllegalEvent(f"{owner} (epoch {epoch}) does not drive this run")
            return replace(state, owner="")
        case GateOpened(gate=gate):
            if state.gate(gate) is None or any(opened.gate == gate for opened in state.opened):
                raise IllegalEvent(f"gate {gate} is unknown or already open")
            return replace(state, opened=(*state.opened, event))
        case Reminded():
            return replace(state, reminded=(*state.reminded, event))
        case GateExpired(gate=gate):
            known_gate = state.gate(gate)
            asked = any(opened.gate == gate for opened in state.opened)
            if known_gate is None or not asked or not state.missing(known_gate):
                raise IllegalEvent(f"nobody is waited for at gate {gate}")
            if state.aborted_by is not None or state.void:
                raise IllegalEvent("the run is being stopped")
            return replace(state, expired=gate)
        case LeftDown(step=step):
            if not state.expired or step not in {stop.id for stop in only_stopped(state)}:
                raise IllegalEvent(f"step {step} has stopped nobody who would be started again now")
            return replace(state, left_down=(*state.left_down, event))
        case Approved():
            _check_approval(state, event)
            return replace(state, approvals=(*state.approvals, event))
        case AssumptionsHeld(findings=findings):
            held_at = (*state.held_at, len(state.approvals))
            return replace(state, held_at=held_at, confirmed=findings, doubts=())
        case AssumptionsFailed(findings=findings):
            return replace(state, void=findings)
        case AssumptionsUnknown(findings=findings):
            return replace(state, doubts=findings, asked_at=state.length + 1)
        case RetryChosen(again=again):
            return _retried(state, again)
        case AbortChosen(by=by):
            return state if state.aborted_by is not None else replace(state, aborted_by=by)
        case CatalogueNoted(when=when):
            return replace(state, before=event) if when == "before" else replace(state, after=event)
        case LeadersSeen(servers=servers):
            return replace(state, two_leaders=servers)
        case HeldServersSeen(running=running, unseen=unseen):
            return replace(
                state if running or unseen else _verified_anew(state),
                rogues=running,
                rogues_unseen=unseen,
                look_at_held=False,
                # Whoever ran may have written to its log.
                held_at=(),
                asked_at=state.length + 1,
            )
        case EndHeldUp(hosts=hosts):
            return replace(state, not_told=hosts, asked_at=state.length + 1)
        case Ended(outcome=outcome, at_s=at_s):
            return replace(state, outcome=outcome, ended_s=at_s)
        case Unlocked(at_s=at_s):
            return replace(state, owner="", unlocked=event, outcome=Outcome.UNLOCKED, ended_s=at_s)
        case (
            StepNotNeeded()
            | StepBlocked()
            | StepStarted()
            | StepVerified()
            | StepFailed()
            | StepInDoubt()
            | UndoStarted()
            | UndoVerified()
            | UndoFailed()
            | HoldRenewed()
        ):
            return _moved(state, event)
        case _:
            assert_never(event)


def _check_approval(state: RunState, event: Approved) -> None:
    gate = state.gate(event.gate)
    if gate is None or not any(opened.gate == event.gate for opened in state.opened):
        raise IllegalEvent(f"gate {event.gate} is not open")
    if event.digest != state.digest:
        raise IllegalEvent("the approval is for another plan")
    if event.reason and not (gate.break_glass and event.by == state.requested_by):
        raise IllegalEvent("only the requester approves alone, and only where the settings have it")
    if not gate.requester_counts and event.by == state.requested_by and not event.reason:
        raise IllegalEvent("the requester's own approval does not count")
    if set(event.typed) != set(gate.typed):
        raise IllegalEvent("the names of the servers that the approver has to vouch for were not typed")
    if event.by in state.approvers(event.gate):
        raise IllegalEvent(f"{event.by} has approved this already")
    if state.expired:
        raise IllegalEvent("the time to approve is over")
    if state.aborted_by is not None or state.void:
        raise IllegalEvent("the run is being stopped")


_StepEvent = (
    StepNotNeeded
    | StepBlocked
    | StepStarted
    | StepVerified
    | StepFailed
    | StepInDoubt
    | UndoStarted
    | UndoVerified
    | UndoFailed
    | HoldRenewed
)


def _moved(state: RunState, event: _StepEvent) -> RunState:
    try:
        index = state.index_of(event.step)
    except KeyError:
        raise IllegalEvent(f"the plan has no step {event.step}") from None
    old = state.steps[index]
    status = _MOVES.get((old.status, type(event)))
    if status is None:
        raise IllegalEvent(f"step {event.step} is {old.status}; {type(event).__name__} cannot follow")
    if isinstance(event, StepStarted):
        _check_order(state, index)
    step = state.plan.steps[index]
    if isinstance(event, HoldRenewed):
        renewed = _with_step(state, index, msgspec.structs.replace(old, attempt=event.attempt))
        return msgspec.structs.replace(renewed, held_again=(*state.held_again, event.server))
    if isinstance(event, UndoStarted) and not old.may_stand and not _inherited(state, step):
        raise IllegalEvent(f"step {event.step} was never tried; there is nothing to take back")
    new = msgspec.structs.replace(old, status=status, ended_s=event.at_s)
    match event:
        case StepStarted(attempt=attempt) | UndoStarted(attempt=attempt):
            new = msgspec.structs.replace(
                new, attempt=attempt, started_s=old.started_s or event.at_s, ended_s=0.0, detail="", lines=()
            )
        case StepVerified(evidence=text) | StepNotNeeded(why=text):
            new = msgspec.structs.replace(new, detail=text)
        case StepFailed(why=why, lines=lines):
            new = msgspec.structs.replace(new, detail=why, lines=lines)
        case StepBlocked(why=why) | StepInDoubt(why=why) | UndoFailed(why=why):
            new = msgspec.structs.replace(new, detail=why)
        case UndoVerified():
            pass
        case _:
            assert_never(event)
    if new.status in WAITS_FOR_PERSON:
        new = msgspec.structs.replace(new, waits_since=state.length + 1)
    moved = _with_step(state, index, new)
    if isinstance(event, UndoStarted | UndoVerified) and isinstance(step.action, StopAgent):
        moved = _with_hold(moved, step, status)
    if isinstance(event, UndoStarted) or (
        isinstance(event, StepStarted) and isinstance(step.action, StartAgent)
    ):
        # It may be started from here on.
        kept = tuple(name for name in moved.held_again if name not in step.targets)
        moved = msgspec.structs.replace(moved, held_again=kept)
    if isinstance(event, StepFailed) and step.otherwise:
        return msgspec.structs.replace(moved, void=(f"{step.title}: {event.why}",))
    return moved


def _with_hold(state: RunState, stop: Step, status: StepStatus) -> RunState:
    """A start takes the hold off: with the stop it is being taken back, or was."""
    for index, (step, at) in enumerate(zip(state.plan.steps, state.steps, strict=True)):
        if isinstance(step.action, HoldAgent) and step.targets == stop.targets and at.may_stand:
            state = _with_step(state, index, msgspec.structs.replace(at, status=status, detail=""))
    return state


def _check_order(state: RunState, index: int) -> None:
    """A step starts only behind approved gates, and after every earlier step is finished or passed over."""
    step = state.plan.steps[index]
    for earlier, earlier_state in zip(state.plan.steps[:index], state.steps[:index], strict=True):
        beside = bool(step.together) and earlier.together == step.together
        passed_over = earlier.optional and earlier_state.status in WAITS_FOR_PERSON
        if earlier_state.status not in FINISHED and not passed_over and not beside:
            raise IllegalEvent(f"step {step.id} cannot start before {earlier.id} is finished")
    for gate in state.gates:
        if state.index_of(gate.before) <= index and state.missing(gate):
            raise IllegalEvent(f"step {step.id} waits behind gate {gate.id}, which is not approved")
    if state.aborted_by is not None or state.void or state.two_leaders or state.rogue:
        raise IllegalEvent(f"the run is being stopped; step {step.id} does not start")


def _with_step(state: RunState, index: int, new: StepState) -> RunState:
    return msgspec.structs.replace(state, steps=(*state.steps[:index], new, *state.steps[index + 1 :]))


def passed_over(state: RunState) -> tuple[StepId, ...]:
    """The steps that were passed over in the stage of the one that waits: what its check may be waiting for."""
    waiting = state.waiting_step
    if waiting is None or not waiting.stage:
        return ()
    return tuple(
        step.id
        for step, step_state in zip(state.plan.steps, state.steps, strict=True)
        if step.optional
        and step.stage == waiting.stage
        and step_state.status in WAITS_FOR_PERSON - {StepStatus.STUCK}
    )


def _retried(state: RunState, passed: tuple[StepId, ...]) -> RunState:
    # Time has passed, nobody knows how much: what was assumed is looked at again.
    state = msgspec.structs.replace(state, held_at=())
    if state.not_told:
        return msgspec.structs.replace(state, not_told=())
    if state.rogue and state.aborted_by is None:
        return msgspec.structs.replace(state, look_at_held=True)
    if state.forgotten:
        accepted = (*state.accepted, *state.forgotten)
        return msgspec.structs.replace(state, forgotten=(), accepted=accepted)
    if state.doubts:
        return msgspec.structs.replace(state, doubts=())
    step = state.waiting_step
    if step is None:
        raise IllegalEvent("nothing waits for a retry")
    index = state.index_of(step.id)
    old = state.steps[index]
    again = {
        StepStatus.BLOCKED: StepStatus.TODO,
        StepStatus.FAILED: StepStatus.TODO,
        # The world is asked first: what is in doubt may have happened.
        StepStatus.IN_DOUBT: StepStatus.DOING,
        StepStatus.STUCK: StepStatus.UNDOING,
    }[old.status]
    # A new try of an undo: the host would answer the old one with its receipt, and do nothing.
    attempt = old.attempt + 1 if old.status is StepStatus.STUCK else old.attempt
    new = msgspec.structs.replace(old, status=again, attempt=attempt, detail="", lines=())
    state = _with_step(state, index, new)
    for each in passed:
        place = state.index_of(each)
        other = state.steps[place]
        if other.status not in WAITS_FOR_PERSON - {StepStatus.STUCK}:
            raise IllegalEvent(f"step {each} is {other.status}; it was not passed over")
        status = StepStatus.DOING if other.status is StepStatus.IN_DOUBT else StepStatus.TODO
        retried = msgspec.structs.replace(other, status=status, detail="", lines=())
        state = _with_step(state, place, retried)
    return state


# --- What is next ---------------------------------------------------------------------------------------


class _Command(msgspec.Struct, frozen=True):
    pass


class OpenGate(_Command, frozen=True):
    """Ask people."""

    gate: Gate


class AwaitApproval(_Command, frozen=True):
    """People were asked; wait for them, and look again at this moment at the latest."""

    gate: Gate
    until_s: float
    """When a reminder is due, or the time to answer is over."""


class Remind(_Command, frozen=True):
    """Tell people that they are still waited for, while servers are down."""

    gate: Gate
    left_s: float


class Expire(_Command, frozen=True):
    """The time to answer is over: record it, so that no late approval counts."""

    gate: Gate


class PutBack(_Command, frozen=True):
    """Start a server again that the run only stopped, if these checks say that it does no harm."""

    step: Step
    undo: Undo
    attempt: int
    harmless: tuple[Check, ...]


class CheckAssumptions(_Command, frozen=True):
    """Right before the irreversible part, before asking and again before acting."""


class Execute(_Command, frozen=True):
    """Start these steps, all at the same time, each with the number of its try."""

    steps: tuple[tuple[Step, int], ...]


class Resolve(_Command, frozen=True):
    """The step was started and has no outcome: ask the world."""

    step: Step
    attempt: int


class RollBack(_Command, frozen=True):
    """Undo this step."""

    step: Step
    undo: Undo
    attempt: int


class LookAtHeld(_Command, frozen=True):
    """A person says that no held server runs any more: look, and hold again what is not held."""


class AwaitPerson(_Command, frozen=True):
    """Nothing more happens until a person decides."""

    why: str


class Finish(_Command, frozen=True):
    """Record the end."""

    outcome: Outcome


class Over(_Command, frozen=True):
    """The run has ended."""


Command = (
    OpenGate
    | AwaitApproval
    | Remind
    | Expire
    | CheckAssumptions
    | Execute
    | Resolve
    | RollBack
    | PutBack
    | LookAtHeld
    | AwaitPerson
    | Finish
    | Over
)


def decide(state: RunState, now_s: float) -> Command:
    """Say what is next."""
    command = _next(state, now_s)
    if isinstance(command, Finish) and state.not_told:
        return AwaitPerson("not every host could be told that the run is over: " + "; ".join(state.not_told))
    return command


def _next(state: RunState, now_s: float) -> Command:
    if state.outcome is not None:
        return Over()
    if state.aborted_by is not None:
        return _unwind(state, Outcome.ABORTED)
    if state.two_leaders:
        return AwaitPerson(
            f"two servers name themselves leader: {', '.join(state.two_leaders)}; no further step is taken"
        )
    if state.rogue:
        if state.look_at_held:
            return LookAtHeld()
        seen = (*(sighted(sighting) for sighting in state.rogues), *state.rogues_unseen)
        return AwaitPerson(f"somebody else started a server that this run holds: {'; '.join(seen)}")
    if state.forgotten:
        return AwaitPerson("the hosts know more than the journal: " + "; ".join(state.forgotten))
    if state.void:
        return _unwind(state, Outcome.VOID)
    if state.expired:
        return _unwind(state, Outcome.EXPIRED)
    if (gate := _overdue(state, now_s)) is not None:
        return Expire(gate)
    for index, (step, step_state) in enumerate(zip(state.plan.steps, state.steps, strict=True)):
        if step_state.status in FINISHED:
            continue
        if step.optional and step_state.status in WAITS_FOR_PERSON:
            continue
        match step_state.status:
            case StepStatus.DOING:
                return Resolve(step, step_state.attempt)
            case StepStatus.TODO:
                return _gates(state, index, now_s) or Execute(_together(state, index))
            case _:
                return AwaitPerson(f"{step.title}: {step_state.status}. {step_state.detail}")
    return Finish(Outcome.RECOVERED)


def _together(state: RunState, index: int) -> tuple[tuple[Step, int], ...]:
    """The step at ``index``, and the neighbours that may go with it; none beyond a gate."""
    word = state.plan.steps[index].together
    behind_gates = {gate.before for gate in state.gates}
    chosen: list[tuple[Step, int]] = []
    for at in range(index, len(state.steps)):
        step, step_state = state.plan.steps[at], state.steps[at]
        if at > index and (not word or step.together != word or step.id in behind_gates):
            break
        if step_state.status is StepStatus.TODO:
            chosen.append((step, step_state.attempt + 1))
    return tuple(chosen)


def _gates(state: RunState, index: int, now_s: float) -> Command | None:
    """What stands between the run and the step at ``index``."""
    first = state.plan.steps[index].risk is Risk.IRREVERSIBLE and not _recovery_begun(state)
    if first and state.doubts:
        return AwaitPerson("could not be seen: " + "; ".join(state.doubts))
    for gate in state.gates:
        if gate.before != state.plan.steps[index].id:
            continue
        opened = next((entry for entry in state.opened if entry.gate == gate.id), None)
        if opened is None:
            # Look before asking, so that people approve what is, not what was planned.
            if first and not state.held_at:
                return CheckAssumptions()
            return OpenGate(gate)
        if state.missing(gate):
            left_s = opened.at_s + gate.expires_after_s - now_s
            marks = _reminders(state, gate)
            if any(left_s <= mark_s for mark_s in marks):
                return Remind(gate, left_s)
            return AwaitApproval(gate, now_s + left_s - max(marks, default=0.0))
    # Look again after the last approval: minutes may have passed while people decided.
    if first and (not state.held_at or state.held_at[-1] < len(state.approvals)):
        return CheckAssumptions()
    return None


def _overdue(state: RunState, now_s: float) -> Gate | None:
    """The gate at which people were asked and the time to answer is over."""
    for opened in state.opened:
        gate = state.gate(opened.gate)
        if gate is not None and state.missing(gate) and now_s >= opened.at_s + gate.expires_after_s:
            return gate
    return None


def _reminders(state: RunState, gate: Gate) -> tuple[float, ...]:
    """How long before the end of the time to answer a reminder is still to be made: at half of it, and shortly before.

    Only where somebody is down meanwhile: a plan that has touched nothing may expire in silence. One that came late
    stands for those before it.
    """
    if not down(state):
        return ()
    half_s = gate.expires_after_s / 2
    made = [event.left_s for event in state.reminded if event.gate == gate.id]
    return tuple(
        mark_s
        for mark_s in dict.fromkeys((half_s, min(half_s, LAST_CALL_S)))
        if all(left_s > mark_s for left_s in made)
    )


def _recovery_begun(state: RunState) -> bool:
    """Whether a start that cannot be taken back was tried: from then on the logs rightly change."""
    return any(
        isinstance(step.rollback, CannotUndo) and (step_state.attempt > 0 or step_state.status in FINISHED)
        for step, step_state in zip(state.plan.steps, state.steps, strict=True)
    )


def _unwind(state: RunState, outcome: Outcome) -> Command:
    """Take back what would be a trap, leave the rest as it is, and end."""
    for step, step_state in reversed(list(zip(state.plan.steps, state.steps, strict=True))):
        rollback = step.rollback
        if not isinstance(rollback, Undo) or not rollback.on_abort:
            continue
        if step_state.status is StepStatus.STUCK:
            return AwaitPerson(f"taking back “{step.title}” failed: {step_state.detail}")
        if step_state.may_stand and not _consumed(state, step):
            return RollBack(step, rollback, step_state.attempt)
    return (_put_back(state) if outcome is Outcome.EXPIRED else None) or Finish(outcome)


def _put_back(state: RunState) -> Command | None:
    """The next server to start again after an expiry, the last one that was stopped first; None for no more."""
    for index in reversed(range(len(state.steps))):
        step, at = state.plan.steps[index], state.steps[index]
        if not isinstance(step.action, StopAgent) or not isinstance(step.rollback, Undo):
            continue
        if at.status is StepStatus.STUCK:
            return AwaitPerson(f"starting {step.action.server} again failed: {at.detail}")
        if step in only_stopped(state) and not why_down(state, step):
            server = step.action.server
            undo = msgspec.structs.replace(step.rollback, after=(*step.rollback.after, HoldReleased(server)))
            return PutBack(step, undo, max(1, at.attempt), _harmless(state.plan, server))
    return None


def only_stopped(state: RunState) -> tuple[Step, ...]:
    """The steps that have stopped a server which ran, and have not been taken back.

    Also where the run that this one took the place of had stopped it, and this one found it so or never began.
    """
    return tuple(
        step
        for step, at in zip(state.plan.steps, state.steps, strict=True)
        if isinstance(step.action, StopAgent)
        and (at.may_stand or (_inherited(state, step) and at.status is not StepStatus.UNDONE))
    )


def _inherited(state: RunState, step: Step) -> bool:
    return isinstance(step.action, StopAgent) and step.action.server in state.report.stopped


def _harmless(plan: Plan, server: ServerName) -> tuple[Check, ...]:
    """What must be seen before a stopped survivor is started again: it is as it was, and so is the rest.

    Nothing that its start would take in, the log as it was approved, and nobody back who was said to be gone.
    """
    recovers = any(isinstance(step.action, WritePeers) and step.action.raft_protocol for step in plan.steps)
    return (
        OverrideAbsent(server),
        # Below 0.7 the file is the live peer set, and has to be there.
        *((PeersFileAbsent(server),) if recovers else ()),
        *(
            check
            for check in plan.assumptions
            if isinstance(check, Silent) or (isinstance(check, LogIs) and check.server == server)
        ),
    )


def why_down(state: RunState, step: Step) -> str:
    """Why a server that this step stopped is not started again when the run expires; "" where it is."""
    for event in state.left_down:
        if event.step == step.id:
            return event.why
    logs = [
        check.last
        for check in state.plan.assumptions
        if isinstance(check, LogIs) and check.server in step.targets
    ]
    if not logs:
        return "the plan does not say what its log is"
    if None in logs:
        return "without data a server votes for anybody"
    if any(_for_good(planned, at) for planned, at in zip(state.plan.steps, state.steps, strict=True)):
        return "a step that cannot be taken back was begun"
    return ""


def _for_good(step: Step, at: StepState) -> bool:
    """Whether a step may have left what no start as before can follow on."""
    if step.risk is not Risk.IRREVERSIBLE or not at.attempt:
        return False
    taken_back = at.status is StepStatus.UNDONE
    match step.action:
        case WritePeers(raft_protocol=protocol):
            # Below 0.7 (protocol 0) what was there before it is not put back: the file is the live peer set.
            return not taken_back or not protocol
        case OverrideExpect():
            return not taken_back
        case _:
            return True


def down(state: RunState) -> tuple[ServerName, ...]:
    """The servers that are stopped, as far as the journal knows: by this run, or held by an earlier one before it."""
    names = dict.fromkeys(state.report.down)
    for step, at in zip(state.plan.steps, state.steps, strict=True):
        match step.action:
            case StopAgent(server=server):
                # A step that was not needed has found the server stopped, unless it was about something else.
                found = at.status is StepStatus.NOT_NEEDED and AgentStopped(server) in (
                    step.unless or step.after
                )
                if at.may_stand or found:
                    names[server] = None
                elif at.status is StepStatus.UNDONE:
                    names.pop(server, None)
            case StartAgent(server=server):
                if at.status in FINISHED:
                    names.pop(server, None)
                elif at.status is StepStatus.UNDONE:
                    names[server] = None
            case _:
                pass
    return tuple(names)


def held(state: RunState) -> tuple[ServerName, ...]:
    """The servers that a hold of this run, or one from before it, keeps from starting, as far as the journal knows."""
    names = dict.fromkeys(state.report.down)
    for step, at in zip(state.plan.steps, state.steps, strict=True):
        match step.action:
            case HoldAgent(server=server):
                if at.may_stand:
                    names[server] = None
                elif at.status is StepStatus.UNDONE:
                    names.pop(server, None)
            case StopAgent(server=server):
                if at.status is StepStatus.UNDONE:
                    names.pop(server, None)
            case StartAgent(server=server) | ReleaseHold(server=server):
                # Also one that was taken back: a start takes the hold off, and a stop puts none there.
                if at.attempt or at.status in FINISHED:
                    names.pop(server, None)
            case _:
                pass
    return tuple(names)


def _consumed(state: RunState, step: Step) -> bool:
    """Whether a later irreversible step on the same server has run: its file has been read by then."""
    if isinstance(step.rollback, Undo) and step.rollback.outlasts_start:
        # What takes it back in the plan itself has run, or it is still there.
        return any(
            later.action == step.rollback.action and later_state.status in FINISHED
            for later, later_state in zip(state.plan.steps, state.steps, strict=True)
        )
    return _led_to_something(state, state.index_of(step.id))


def _verified_anew(state: RunState) -> RunState:
    """Whoever ran beside the new cluster may have become a part of it: the end is verified again."""
    last = len(state.steps) - 1
    if (
        last < 0
        or not isinstance(state.plan.steps[last].action, Observe)
        or state.steps[last].status not in FINISHED
    ):
        return state
    return _with_step(state, last, msgspec.structs.replace(state.steps[last], status=StepStatus.TODO))


def sighted(sighting: Sighting) -> str:
    """Who was seen running, and by what it was started; when is for whoever shows it."""
    return f"{sighting.server} runs, {sighting.by}"


def instead(state: RunState) -> str:
    """The procedure to propose after a run whose step was seen to fail for good; "" for none."""
    return next(
        (
            step.otherwise
            for step, step_state in zip(state.plan.steps, state.steps, strict=True)
            if step.otherwise and step_state.status is StepStatus.FAILED
        ),
        "",
    )


def standing(state: RunState) -> str:
    """How a run stands, in a few words."""
    if state.outcome is not None:
        return str(state.outcome)
    if state.waiting_gate is not None:
        return "waits for approval"
    asked = state.two_leaders or state.rogue or state.not_told or state.forgotten or state.doubts
    if asked or state.waiting_step is not None:
        return "waits for a decision"
    return "under way"


def left_behind(state: RunState) -> tuple[Step, ...]:
    """The steps that ran, changed a host and were not taken back."""
    return tuple(
        step
        for step, step_state in zip(state.plan.steps, state.steps, strict=True)
        if step.risk is not Risk.READ_ONLY and step_state.may_stand
    )


def next_step(state: RunState) -> Step | None:
    """The step that runs, waits or comes next; None when all are finished or passed over."""
    for step, step_state in zip(state.plan.steps, state.steps, strict=True):
        if step_state.status in FINISHED or (step.optional and step_state.status in WAITS_FOR_PERSON):
            continue
        return step
    return None


def not_done(state: RunState) -> tuple[Step, ...]:
    """The steps that never finished, but for those that nobody has to do any more.

    What a start does not use up (an override) is of no use once its server has started, and what the abort took
    back does not have to be taken back again.
    """
    taken_back = [
        (index, step.rollback.action)
        for index, (step, step_state) in enumerate(zip(state.plan.steps, state.steps, strict=True))
        if step_state.status is StepStatus.UNDONE
        and isinstance(step.rollback, Undo)
        and step.rollback.outlasts_start
        and _led_to_something(state, index)
    ]
    spared = {index for index, _ in taken_back}
    undone = [action for _, action in taken_back]
    return tuple(
        step
        for index, (step, step_state) in enumerate(zip(state.plan.steps, state.steps, strict=True))
        if step_state.status not in FINISHED and index not in spared and step.action not in undone
    )


def _led_to_something(state: RunState, index: int) -> bool:
    """Whether what cannot be undone has happened to the same server since."""
    targets = set(state.plan.steps[index].targets)
    return any(
        isinstance(later.rollback, CannotUndo)
        and targets & set(later.targets)
        and later_state.status in FINISHED
        for later, later_state in zip(state.plan.steps[index + 1 :], state.steps[index + 1 :], strict=True)
    )
