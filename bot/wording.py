"""Words and numbers that the Slack cards and the terminal say alike. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from recovery.diagnosis import (
    Degraded,
    Diagnosis,
    ElectionInProgress,
    EmptyWhereDataWas,
    Healthy,
    MajorityGone,
    NeverBootstrapped,
    NotRecognised,
    OutOfSight,
    PeersEmptied,
    ServersStopped,
    TwoLeaders,
)
from recovery.diagnosis.survey import blank, directory_is_missing
from recovery.journal import (
    FINISHED,
    WAITS_FOR_PERSON,
    Gate,
    Outcome,
    RunState,
    StepStatus,
)
from recovery.model import Catalogue, ClusterObservation, ServerObservation, Sighting
from recovery.plan import LeaderElected, Plan, RankLine, Risk

MOST_SOURCES = 3
"""In one line; client agents that were last seen at many different times have as many sources."""


def duration(seconds: float) -> str:
    """``47 s``, ``1 min 32 s``, ``2 h 03 min``, ``41 d``."""
    whole = max(0, math.floor(seconds + 0.5))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d"


def utc(at_s: float) -> str:
    """``2026-11-23 03:12:04 UTC``."""
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def utc_time(at_s: float) -> str:
    """``03:12:04 UTC``."""
    return f"{datetime.fromtimestamp(at_s, UTC):%H:%M:%S} UTC"


def names(items: Iterable[str]) -> str:
    """Join names for a sentence."""
    known = [str(item) for item in items]
    return ", ".join(known[:-1]) + f" and {known[-1]}" if len(known) > 1 else "".join(known)


def count(number: int, noun: str) -> str:
    """``1 step``, ``5 steps``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def clients_line(observation: ClusterObservation) -> str:
    """How many client agents are known, and from where; "" where there are none and nothing went wrong."""
    known = f"{count(len(observation.clients), 'client agent')} known"
    sources = Counter(agent.source for agent in observation.clients).most_common()
    told = [f"{number} from {source}" for source, number in sources[:MOST_SOURCES]]
    if len(sources) > MOST_SOURCES:
        told.append(f"{sum(number for _, number in sources[MOST_SOURCES:])} from elsewhere")
    if observation.clients:
        known = f"{known}: {', '.join(told)}"
    if observation.clients_problem:
        return f"{known}. {observation.clients_problem}"
    return known if observation.clients else ""


# --- marks: always a sign and a word --------------------------------------------------------------------

SITUATION_MARK: dict[type, str] = {
    Healthy: "🟢",
    Degraded: "🟡",
    ElectionInProgress: "🟡",
    ServersStopped: "🔴",
    MajorityGone: "🔴",
    PeersEmptied: "🔴",
    NeverBootstrapped: "🔴",
    EmptyWhereDataWas: "🔴",
    OutOfSight: "⚫",
    TwoLeaders: "🔴",
    NotRecognised: "🔴",
}

STEP_MARK: dict[StepStatus, str] = {
    StepStatus.TODO: "⚪",
    StepStatus.BLOCKED: "⛔",
    StepStatus.DOING: "▶️",
    StepStatus.IN_DOUBT: "❓",
    StepStatus.FAILED: "❌",
    StepStatus.DONE: "✅",
    StepStatus.NOT_NEEDED: "☑️",
    StepStatus.UNDOING: "↩️",
    StepStatus.UNDONE: "↩️",
    StepStatus.STUCK: "❌",
}

STEP_WORD: dict[StepStatus, str] = {
    StepStatus.TODO: "",
    StepStatus.BLOCKED: "BLOCKED",
    StepStatus.DOING: "running",
    StepStatus.IN_DOUBT: "IN DOUBT",
    StepStatus.FAILED: "FAILED",
    StepStatus.DONE: "done",
    StepStatus.NOT_NEEDED: "not needed",
    StepStatus.UNDOING: "taking back",
    StepStatus.UNDONE: "taken back",
    StepStatus.STUCK: "could NOT be taken back",
}

MEANING: dict[StepStatus, str] = {
    StepStatus.BLOCKED: "It was not tried: what must hold before it does not. *Retry* looks again.",
    StepStatus.FAILED: "It was seen not to have worked. *Retry* tries it again.",
    StepStatus.IN_DOUBT: "It may or may not have happened: its outcome could not be seen. *Retry* asks the "
    "servers first and does nothing twice.",
    StepStatus.STUCK: "The run is being stopped, and taking this back could not be proven: it may still be there. "
    "Bring the server back, or take it back by hand; then *Retry*, which looks first. Where neither can be done, "
    "`/consul unlock` ends the run as it stands and says what it leaves.",
}
"""What a person is told where a step waits for a decision."""

RISK_WORD: dict[Risk, str] = {
    Risk.READ_ONLY: "only looks",
    Risk.REVERSIBLE: "reversible",
    Risk.IRREVERSIBLE: "⚠️ IRREVERSIBLE",
}


class Phase(StrEnum):
    """Where a run is, as people see it."""

    ASKING = "waiting for approval"
    ASKING_AGAIN = "waiting for the second approval"
    RUNNING = "running"
    DECISION = "stopped, your decision is needed"
    UNWINDING = "being aborted"
    PUTTING_BACK = "expired, what was only stopped is started again"
    RECOVERED = "done"
    ABORTED = "aborted"
    EXPIRED = "expired"
    VOID = "void, the plan no longer fits"
    UNLOCKED = "unlocked, ended as it stood"


def phase(state: RunState) -> Phase:
    """Name the phase of a run."""
    match state.outcome:
        case Outcome.RECOVERED:
            return Phase.RECOVERED
        case Outcome.ABORTED:
            return Phase.ABORTED
        case Outcome.EXPIRED:
            return Phase.EXPIRED
        case Outcome.VOID:
            return Phase.VOID
        case Outcome.UNLOCKED:
            return Phase.UNLOCKED
        case None:
            pass
    waiting = state.waiting_step
    if state.not_told or (state.rogue and state.aborted_by is None):
        return Phase.DECISION
    if state.aborted_by is not None:
        stuck = waiting is not None and state.step_state(waiting.id).status is StepStatus.STUCK
        return Phase.DECISION if stuck else Phase.UNWINDING
    if state.two_leaders or state.forgotten or state.doubts or waiting is not None:
        return Phase.DECISION
    if state.expired:
        return Phase.PUTTING_BACK
    gate = state.waiting_gate
    if gate is None:
        return Phase.RUNNING
    return Phase.ASKING if state.index_of(gate.before) == 0 else Phase.ASKING_AGAIN


def current_step(state: RunState) -> int:
    """The number of the step that runs, waits or comes next, from 1; the last one when all are finished."""
    for number, step_state in enumerate(state.steps, 1):
        if step_state.status not in FINISHED:
            if state.plan.steps[number - 1].optional and step_state.status in WAITS_FOR_PERSON:
                continue
            return number
    return len(state.steps)


def progress(state: RunState) -> str:
    """``step 3 of 5``."""
    return f"step {current_step(state)} of {len(state.steps)}"


# --- sentences ------------------------------------------------------------------------------------------


def server_rows(servers: Iterable[ServerObservation]) -> tuple[tuple[str, str, str, str], ...]:
    """Name, state, log and version of each server, short enough for a phone."""
    return tuple((s.name, _server_state(s), _log(s), _version(s)) for s in servers)


def table(lines: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Columns in line, for a code block or a terminal."""
    known = [tuple(line) for line in lines]
    if not known:
        return ()
    widths = [max(len(line[column]) for line in known) for column in range(len(known[0]))]
    return tuple(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in known
    )


def held_nothing(plan: Plan) -> str:
    """What the approver of a founding says by typing the names."""
    holds, did = ("holds", "its name") if len(plan.held_nothing) == 1 else ("hold", "each name")
    return f"{names(plan.held_nothing)} {holds} nothing and never did: {did} must be typed to approve"


def _server_state(server: ServerObservation) -> str:
    host = server.host
    if host is None:
        return "not reached"
    if host.fenced_by:
        return "fenced"
    if not host.running:
        return "stopped, held" if host.held_by else "stopped"
    if server.agent is None:
        return "no answer"
    if server.agent.names_itself_leader:
        return "leader"
    return server.agent.raft_state.lower() or "running"


def _log(server: ServerObservation) -> str:
    if directory_is_missing(server):
        return "data dir ?"
    if server.host is not None and blank(server):
        return "blank"
    last = server.last
    return f"t{last.term} i{last.index}" if last is not None else "log ?"


def _version(server: ServerObservation) -> str:
    if server.agent is not None and server.agent.version:
        return server.agent.version
    return server.host.version if server.host is not None else ""


def ranking_rows(ranking: Iterable[RankLine]) -> tuple[tuple[str, str, str, str], ...]:
    """Server, last log position, entries behind, source."""
    lines = list(ranking)
    return tuple(
        (
            line.server,
            f"term {line.last.term} index {line.last.index}" if line.last is not None else "no log",
            ("freshest" if line.last == lines[0].last else f"{line.behind} behind")
            if line.last is not None
            else "",
            line.source,
        )
        for line in lines
    )


def approvals_needed(state: RunState, gate: Gate) -> str:
    """Who must still approve, in one sentence."""
    own = "the requester's own counts" if gate.requester_counts else "not the requester's own"
    if gate.break_glass:
        own += "; break-glass: the requester alone, with a reason"
    given = state.approvers(gate.id)
    have = f"; approved so far by {names(given)}" if given else ""
    return f"Needs {count(state.missing(gate), 'approval')} more ({own}){have}"


def touched(plan: Plan) -> str:
    """What is touched, risk by risk."""
    risky = dict.fromkeys(
        target for step in plan.steps if step.risk is Risk.IRREVERSIBLE for target in step.targets
    )
    changed = dict.fromkeys(
        target for step in plan.steps if step.risk is not Risk.READ_ONLY for target in step.targets
    )
    said = f"Touches {names(changed) or 'nothing'}"
    return f"{said}; irreversible on {names(risky)}" if risky else said


def way_back(plan: Plan) -> str:
    """What the way back is, as a sentence."""
    risky = next(
        (number for number, step in enumerate(plan.steps, 1) if step.risk is Risk.IRREVERSIBLE), None
    )
    if risky is None:
        return "Way back: every step can be undone"
    return f"Way back: up to step {risky - 1} everything can be undone; after it only the archives hold the old state"


def leader_of(state: RunState) -> str:
    """What the journal says of the new leader; "" when no step looked for one."""
    for step, step_state in zip(reversed(state.plan.steps), reversed(state.steps), strict=True):
        if step_state.status in FINISHED and any(isinstance(check, LeaderElected) for check in step.after):
            return step_state.detail.removeprefix("already so: ").partition(";")[0]
    return ""


def leader_back_s(state: RunState) -> float | None:
    """Seconds from the proposal until a leader was seen, if the run waited for one."""
    for step, step_state in zip(state.plan.steps, state.steps, strict=True):
        if step_state.status is StepStatus.DONE and any(
            isinstance(check, LeaderElected) for check in step.after
        ):
            return step_state.ended_s - state.proposed_s
    return None


def catalogue_change(state: RunState) -> str:
    """What the catalogue held before and after, and what is missing."""
    before, after = state.before, state.after
    if before is None or before.catalogue is None:
        return "Catalogue before: unknown (nobody answered a stale read)" + (
            f"; now {_catalogue(after.catalogue)}"
            if after is not None and after.catalogue is not None
            else ""
        )
    said = f"Catalogue before: {_catalogue(before.catalogue)}"
    if after is None or after.catalogue is None:
        return f"{said}; after: unknown"
    said += f"; after: {_catalogue(after.catalogue)}"
    gone = [
        f"{old - new} fewer {word}"
        for word, old, new in (
            ("nodes", before.catalogue.nodes, after.catalogue.nodes),
            ("services", before.catalogue.services, after.catalogue.services),
            ("sessions", before.catalogue.sessions, after.catalogue.sessions),
        )
        if new < old
    ]
    return f"{said} ({', '.join(gone)}; they come back when their agents rejoin)" if gone else said


def _catalogue(catalogue: Catalogue) -> str:
    return (
        f"{count(catalogue.nodes, 'node')}, {count(catalogue.services, 'service')}, "
        f"{count(catalogue.sessions, 'session')}"
    )


def situation_mark(diagnosis: Diagnosis) -> str:
    """The coloured sign of a situation; its headline has the word."""
    return SITUATION_MARK[type(diagnosis)]


def rogue_line(sighting: Sighting) -> str:
    """Who was seen running, since when, and by what it was started."""
    since = f" since {utc_time(sighting.since_s)}" if sighting.since_s else ""
    return f"{sighting.server} runs{since}: {sighting.by}"


def stopped_by_others(state: RunState) -> tuple[list[str], str]:
    """Say what keeps a run from going on, or from ending, that is no step: a headline, its lines, and what to do."""
    if state.not_told:
        return [_LATE_ACTS, *state.not_told], _TELL_AGAIN
    return [_ROGUES, *(rogue_line(sighting) for sighting in state.rogues), *state.rogues_unseen], _STOP_ROGUES


_LATE_ACTS: Final = (
    "The run does not end yet: what was sent to these hosts may still begin there, and they could not be told that it "
    "is over."
)
_TELL_AGAIN: Final = (
    "Bring the host back, then Retry tells it again. If it is gone for good, make sure that it stays off, and Unlock "
    "ends the run: an act that is still on its way could then change that host after the end."
)
_ROGUES: Final = (
    "Somebody else started a server that this run holds. It could lead, or vote, with the data it has: nothing further "
    "is done."
)
_STOP_ROGUES: Final = (
    "Find out who or what started it (configuration management, a cron job, a colleague) and stop that first, then "
    "stop the agent there. Retry looks again, holds it again, and goes on only once none of the held servers runs. "
    "Abort ends the run as it stands."
)
