"""The same values as in Slack, as plain text for a terminal. Pure.

Foreign text (names, journal lines) loses its control characters: a terminal
obeys escape sequences.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from bot import by_hand
from bot.answers import ended_lines, later_answers, put_back, unanswered, way_on
from bot.commands import NAME
from bot.notes import nothing_known
from bot.outgoing import printable, unmarked
from bot.rows import rows
from bot.run_card import title_of, unlocked_line
from bot.thread import event_line
from bot.wording import (
    MEANING,
    RISK_WORD,
    STEP_MARK,
    STEP_WORD,
    Phase,
    approvals_needed,
    catalogue_change,
    clients_line,
    count,
    duration,
    held_nothing,
    leader_back_s,
    leader_of,
    names,
    phase,
    progress,
    ranking_rows,
    server_rows,
    situation_mark,
    stopped_by_others,
    table,
    touched,
    utc,
    utc_time,
    way_back,
)
from recovery.diagnosis import Healthy
from recovery.forgotten import told
from recovery.journal import Event, Gate, Outcome, RunState, StepStatus, down, left_behind
from recovery.model import ServerName
from recovery.plan import Plan, PlanReport, Refusal, Risk
from recovery.ports import LeaseHeld
from recovery.runs import RunView, UnreadableRun
from recovery.service import StatusReport


def clean(text: str) -> str:
    """Foreign text without control characters."""
    return printable(text).replace("\n", " ").replace("\t", " ")


def plain(said: str) -> str:
    """What was written for Slack as it reads in a terminal: no stars, no mentions, our own program's name."""
    said = unmarked(said)
    said = re.sub(r"(?<!\w)\*([^*\n]+)\*(?!\w)", r"\1", said)
    return said.removeprefix("⛔ ").replace(f"`{NAME} ", "`consul-recovery ")


def _lines(*parts: str | Iterable[str]) -> str:
    flat: list[str] = []
    for part in parts:
        flat += [part] if isinstance(part, str) else list(part)
    return "\n".join(clean(line) for line in flat)


def status(report: StatusReport) -> str:
    """The verdict, the servers and what to do."""
    diagnosis = report.diagnosis
    reached = sum(server.reached for server in report.observation.servers)
    parts: list[str] = [
        f"{situation_mark(diagnosis)} {diagnosis.headline}",
        "",
        *(f"  {line}" for line in table(server_rows(report.observation.servers))),
        "",
    ]
    if not isinstance(diagnosis, Healthy):
        parts += [
            "Seen:",
            *(f"  - {line}" for line in diagnosis.evidence),
            "",
            f"Next: {plain(diagnosis.advice)}",
            "",
        ]
    parts.append(
        f"{reached} of {count(len(report.observation.servers), 'host')} answered, "
        f"{utc(report.observation.taken_at_s)}, took {report.took_s:.1f} s"
    )
    if clients := clients_line(report.observation):
        parts.append(clients)
    parts += report_left(report)
    if report.memory_problem:
        parts.append(f"! {report.memory_problem}")
    if report.store_problem:
        parts.append(f"Runs cannot be shown: {report.store_problem}")
    if report.unreadable is not None:
        parts += ["", *only_unlock(report.unreadable)]
    if report.active is not None:
        active = report.active
        parts.append(
            f"Run {active.run} by {active.state.requested_by}: {phase(active.state)}, {progress(active.state)}"
        )
    return _lines(parts)


def report_left(report: StatusReport) -> list[str]:
    """What runs left that Redis does not know."""
    if not report.left:
        return []
    return ["", *(f"! {line}" for line in told(report.left)), f"  consul-recovery recover {report.cluster}"]


def plan(proposed: Plan, report: PlanReport) -> str:
    """A plan, with everything an approver decides on."""
    parts: list[str] = [f"Plan ({proposed.procedure}) for {proposed.cluster}: {proposed.summary}"]
    if report.findings:
        parts += ["", "Why:", *(f"  - {line}" for line in report.findings)]
    if len(report.ranking) > 1:
        parts += [
            "",
            "Who holds how much of the log:",
            *(f"  {line}" for line in table(ranking_rows(report.ranking))),
        ]
    if proposed.claims:
        parts += ["", "You say these are gone for good:"]
        parts += [
            f"  - {claim.server} (id {claim.node_id[:8]}, {claim.address})"
            + ("" if claim.fenced else ": cannot be fenced, its name must be typed to approve")
            for claim in proposed.claims
        ]
    if proposed.held_nothing:
        parts += ["", f"You say: {held_nothing(proposed)}"]
    if proposed.warnings:
        parts += ["", "Know before you approve:", *(f"  ! {warning}" for warning in proposed.warnings)]
    parts += ["", "Steps:"]
    for row in rows(proposed):
        mark = f"[{RISK_WORD[row.risk]}{', may fail' if row.optional else ''}]"
        parts += [f"  {row.stage}:"] if row.stage else []
        parts.append(f"  {row.numbers:>5}  {row.title}  {mark}")
    parts += ["", touched(proposed), way_back(proposed), f"Digest: {proposed.digest()[:12]}"]
    return _lines(parts)


def vouch(name: ServerName, proposed: Plan) -> str:
    """What is asked at a terminal before a name is typed."""
    if name in proposed.held_nothing:
        return f"{name} holds nothing now. Type its name to say that it never held data of this cluster: "
    return f"{name} cannot be fenced. Type its name to say it is gone for good: "


def refusal(answer: Refusal) -> str:
    """Why there is no plan, and what to do instead."""
    return _lines(
        "No plan; nothing was done:",
        (f"  - {reason}" for reason in answer.reasons),
        f"Next: {plain(answer.next_step)}",
    )


def steps(state: RunState, *, now_s: float) -> str:
    """The steps with where they stand."""
    lines = []
    for row in rows(state.plan, state.steps):
        lines += [f"  {row.stage}:"] if row.stage else []
        tail = STEP_WORD[row.status]
        if row.status in {StepStatus.DOING, StepStatus.UNDOING} and row.began_s:
            tail += f" {duration(now_s - row.began_s)} of at most {duration(row.timeout_s)}"
        elif row.status is StepStatus.DONE and row.took_s is not None:
            tail += f" {duration(row.took_s)}"
        lines.append(f"  {STEP_MARK[row.status]} {row.numbers:>5}  {row.title}  {tail}".rstrip())
        if row.detail and row.status not in {StepStatus.DONE, StepStatus.NOT_NEEDED, StepStatus.TODO}:
            lines.append(f"            {row.detail}")
    return _lines(lines)


def run(view: RunView, *, now_s: float, unit: str) -> str:
    """A run as it stands: the verdict, its steps, and what a person can or must do."""
    state = view.state
    parts = [title_of(view), f"  asked for by {state.requested_by}, {utc(state.proposed_s)}", ""]
    where = phase(state)
    match where:
        case Phase.ASKING:
            parts += [plan(state.plan, state.report), ""]
        case _:
            parts += [steps(state, now_s=now_s), ""]
    gate = state.waiting_gate
    if gate is not None:
        parts += asked(view, gate)
    elif (
        state.gates
        and not state.opened
        and state.outcome is None
        and (later := later_answers(state, state.gates[0]))
    ):
        # It is printed once in full; a screen that shows the run as it goes may be too small for its end.
        parts.append(f"! {later}")
    if where is Phase.DECISION:
        parts += decision(view, unit=unit)
    if where is Phase.RECOVERED:
        parts += recovered(view)
    if where in {Phase.ABORTED, Phase.EXPIRED, Phase.VOID, Phase.UNLOCKED}:
        parts += given_up(view, unit=unit)
    return "\n".join(part if "\n" in part else clean(part) for part in parts).rstrip()


def asked(view: RunView, gate: Gate) -> list[str]:
    """The open question, and how to answer it from here."""
    state = view.state
    opened = next(entry for entry in state.opened if entry.gate == gate.id)
    lines = []
    if opened.findings:
        lines += ["Confirmed just now:", *(f"  - {line}" for line in opened.findings)]
    if state.index_of(gate.before) > 0:
        step = state.plan.steps[state.index_of(gate.before)]
        lines.append(f"The next step is {RISK_WORD[step.risk]}: {step.title}")
        lines += [f"  ! {warning}" for warning in state.plan.warnings if step.risk is Risk.IRREVERSIBLE]
    until_s = opened.at_s + gate.expires_after_s
    lines += [f"! {line}" for line in (later_answers(state, gate), unanswered(state)) if line]
    lines += [
        f"{approvals_needed(state, gate)}; expires {utc_time(until_s)}",
        f"  to approve: consul-recovery approve {view.run}",
        f"  to abort:   consul-recovery abort {view.run}",
    ]
    return lines


def decision(view: RunView, *, unit: str) -> list[str]:
    """What went wrong, and how to decide from here."""
    state = view.state
    waiting = state.waiting_step
    lines = []
    if state.two_leaders:
        lines.append(f"{names(state.two_leaders)} name themselves leader at the same time; no step is taken.")
    elif state.not_told or state.rogue:
        what, do = stopped_by_others(state)
        lines += [what[0], *(f"  - {line}" for line in what[1:]), do]
    elif state.forgotten:
        lines += ["Redis is behind the hosts:", *(f"  - {line}" for line in state.forgotten)]
        lines.append(
            "It was restored from an older dump, lost its newest lines in a failover, or another bot works on these "
            "servers. Make sure that nobody else does. `retry` goes on from what Redis knows and asks the hosts "
            "before each step; `abort`, then a new plan, starts from the world as it is."
        )
    elif waiting is not None:
        step_state = state.step_state(waiting.id)
        lines.append(f"{waiting.title}: {step_state.status}. {step_state.detail}")
        lines.append(MEANING[step_state.status].replace("*", "").replace("`/consul", "`consul-recovery"))
        if step_state.status is StepStatus.STUCK:
            lines += [
                "To take it back by hand:",
                *(f"  {line}" for line in by_hand.taking_back(waiting, unit=unit)),
            ]
        lines += [f"    {line}" for line in step_state.lines]
    lines += [f"  could not be seen: {line}" for line in state.doubts]
    lines += [
        "Nothing more happens until somebody decides:",
        *([] if state.two_leaders else [f"  consul-recovery retry {view.run}"]),
        *([] if state.aborted_by is not None else [f"  consul-recovery abort {view.run}"]),
    ]
    return lines


def retried(state: RunState) -> str:
    """What a retry tries again: the question as it stands."""
    waiting = state.waiting_step
    if state.not_told:
        return f"tells the hosts again that the run is over: {'; '.join(map(clean, state.not_told))}"
    if state.rogue:
        return "looks again whether a server runs that this run holds, and goes on only if none does"
    if state.forgotten:
        return f"goes on although Redis is behind the hosts: {'; '.join(map(clean, state.forgotten))}"
    if state.doubts:
        return f"looks again at what could not be seen: {'; '.join(map(clean, state.doubts))}"
    if waiting is None:
        return "nothing waits"
    was = state.step_state(waiting.id)
    return f"tries step {state.index_of(waiting.id) + 1} again, {waiting.title}: {was.status}. {clean(was.detail)}"


def recovered(view: RunView) -> list[str]:
    """What a run that ended well leaves."""
    state = view.state
    lines = []
    if leader := leader_of(state):
        lines.append(f"Leader: {leader}")
    if (back_s := leader_back_s(state)) is not None:
        lines.append(f"A leader was back {duration(back_s)} after this recovery was asked for.")
    if any(step.risk is Risk.IRREVERSIBLE for step in state.plan.steps):
        lines.append(catalogue_change(state))
    lines += [f"! {warning}" for warning in state.plan.warnings if "lost" in warning]
    return lines


def given_up(view: RunView, *, unit: str) -> list[str]:
    """What a run that was given up leaves behind, and how to go on by hand."""
    state = view.state
    lines = [*(f"! {line}" for line in ended_lines(state))]
    lines += [f"Changed since it was planned: {line}" for line in state.void]
    if state.unlocked is not None:
        lines.append(unlocked_line(state.unlocked))
    if not left_behind(state) and put_back(state):
        return [*lines, *_go_on(view)]
    if not left_behind(state):
        return [*lines, "Nothing was changed on any server, and nothing is left behind.", *_go_on(view)]
    lines += ["Left behind:", *(f"  - {line}" for line in by_hand.left_lines(state))]
    rest = by_hand.remaining(state, unit=unit)
    if rest:
        lines += ["The rest of the plan by hand, in this order:", *(f"  {line}" for line in rest)]
    undo = by_hand.undoing(state, unit=unit)
    if undo:
        lines += ["Back to where it was, by hand, in this order:", *(f"  {line}" for line in undo)]
    return [*lines, *_go_on(view)]


def _go_on(view: RunView) -> list[str]:
    """How to go on from a run that came to nothing; after a void one the new plan comes by itself."""
    if view.state.void or not (view.state.outcome is Outcome.EXPIRED or down(view.state)):
        return []
    return [f"To go on, a new plan: {plain(way_on(view.cluster, view.state))}"]


def events(known: Iterable[Event], state: RunState) -> str:
    """A line for each event."""
    return _lines(
        f"{utc_time(event.at_s)} {part}"
        for event in known
        for part in event_line(event, state).split("\n")
        if part
    )


def unlock(run: RunView | UnreadableRun, driver: LeaseHeld | None) -> str:
    """Whose lock it is, whether it lives, and what stays behind."""
    if isinstance(run, RunView):
        where = f"{phase(run.state)}, {progress(run.state)}"
        lives = (
            f"drives it ({where}). `consul-recovery abort {run.run}` is the safe way: it stops before the next step "
            "and takes back what would be a trap."
        )
        alone = f"No process drives it ({where}); a running bot would take it up by itself."
    else:
        lives = "has the lease. An act that is under way on a host still ends there."
        alone = "No process drives it, and none will."
    alive = f"{driver.owner} is ALIVE and {lives}" if driver is not None else alone
    why = () if isinstance(run, RunView) else (f"{run.told}.",)
    left = by_hand.left_lines(run.state) if run.state is not None else ()
    whose = f", asked for by {run.state.requested_by}," if run.state is not None else ""
    return _lines(
        f"Run {run.run} of {run.cluster}{whose} holds the cluster's lock.",
        why,
        alive,
        "It ends as it stands, nothing is taken back:",
        (f"  - {line}" for line in left or (plain(nothing_known(run)),)),
    )


def unreadable(run: UnreadableRun) -> str:
    """A run that cannot be read: why, what is left to do, and what it tells up to there."""
    parts = only_unlock(run) if run.unlocked is None else [f"{run.told}.", unlocked_line(run.unlocked)]
    if run.state is not None:
        parts += ["", "Journal up to there:", *events(run.events, run.state).split("\n")]
    parts += ["", f"Its lines: redis-cli lrange 'consul-recovery:{{{run.cluster}}}:run:{run.run}' 0 -1"]
    return _lines(parts)


def only_unlock(run: UnreadableRun) -> list[str]:
    """Why a run cannot be worked with, and what is left to do with it."""
    return [
        f"{run.told}.",
        "Nobody drives it, and nobody can approve, abort or retry it. The lines of its journal stay as they are.",
        f"  where it holds the lock:          consul-recovery unlock {run.run}",
        f"  what it holds on the servers:     consul-recovery status {run.cluster}",
    ]


def run_list(known: Iterable[RunView | UnreadableRun]) -> str:
    """The newest runs, a line each; those that cannot be read with the reason below it."""
    runs = tuple(known)
    lines = table(
        (run.run, "cannot be read", "", "", "")
        if isinstance(run, UnreadableRun)
        else (
            run.run,
            str(phase(run.state)),
            run.state.plan.procedure,
            run.state.requested_by,
            utc(run.state.proposed_s),
        )
        for run in runs
    )
    if not lines:
        return "There was no run yet."
    parts: list[str] = []
    for run, line in zip(runs, lines, strict=True):
        parts.append(line.rstrip())
        if isinstance(run, UnreadableRun):
            parts.append(f"  {run.fault}")
            parts += [f"  {unlocked_line(run.unlocked)}"] if run.unlocked is not None else []
    return _lines(parts)
