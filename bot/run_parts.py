"""The parts that the cards and the thread posts of a run are made of. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bot import by_hand
from bot.answers import later_answers_in_short
from bot.blocks import Block, actions, button, code_block, confirm, esc, section
from bot.buttons import ABORT, APPROVE, APPROVE_TYPED, RETRY, value_of
from bot.rows import Row, rows
from bot.wording import (
    MEANING,
    RISK_WORD,
    STEP_MARK,
    STEP_WORD,
    Phase,
    count,
    duration,
    held_nothing,
    names,
    phase,
    ranking_rows,
    stopped_by_others,
    table,
    touched,
    way_back,
)
from recovery.journal import Gate, RunState, StepStatus, left_behind
from recovery.plan import Plan, Risk
from recovery.runs import RunView

MOST_ROWS = 30
MOST_CHARACTERS = 2900
"""Of one section's text; Slack takes 3000."""


def plan_blocks(view: RunView) -> list[Block]:
    """Everything an approver decides on: why, who holds what, steps, warnings, claims, way back."""
    state = view.state
    plan = state.plan
    blocks = [section(f"*What:* {esc(plan.summary)}")]
    if state.report.findings:
        blocks.append(section("*Why:*\n" + "\n".join(f"• {esc(line)}" for line in state.report.findings)))
    if len(state.report.ranking) > 1:
        blocks.append(
            section(
                "*Who holds how much of the log:*\n" + code_block(table(ranking_rows(state.report.ranking)))
            )
        )
    blocks += _vouched(plan)
    if plan.warnings:
        blocks.append(section("\n".join(f"⚠️ {esc(warning)}" for warning in plan.warnings)))
    blocks += _sections(["*Steps:*", *(_plan_row(row) for row in rows(plan))])
    blocks.append(section(f"{esc(touched(plan))}\n{esc(way_back(plan))}"))
    return blocks


def _sections(lines: Sequence[str]) -> list[Block]:
    """As many sections as the lines need: whoever approves must see every step."""
    parts: list[str] = []
    for line in lines:
        if parts and len(parts[-1]) + len(line) < MOST_CHARACTERS:
            parts[-1] += f"\n{line}"
        else:
            parts.append(line)
    return [section(part) for part in parts]


def _vouched(plan: Plan) -> list[Block]:
    """What only people say, and the plan rests on."""
    blocks = []
    if plan.claims:
        blocks.append(section("*You say these are gone for good:*\n" + "\n".join(_claim_lines(plan))))
    if plan.held_nothing:
        blocks.append(section(f"*You say:* {esc(held_nothing(plan))}"))
    return blocks


def _claim_lines(plan: Plan) -> list[str]:
    return [
        f"• {esc(claim.server)} (id {esc(claim.node_id[:8])}, {esc(claim.address)})"
        + ("" if claim.fenced else ": cannot be fenced, its name must be typed to approve")
        for claim in plan.claims
    ]


def _plan_row(row: Row) -> str:
    mark = f"  _({RISK_WORD[row.risk]}{', may fail' if row.optional else ''})_"
    return f"{_stage_line(row)}`{row.numbers:>3}` {esc(row.title)}{mark}"


def _stage_line(row: Row) -> str:
    return f"*{esc(row.stage)}:*\n" if row.stage else ""


def step_lines(state: RunState, *, now_s: float) -> str:
    """The steps with where they stand; neighbours of one kind share a row."""
    shown = rows(state.plan, state.steps)
    lines = [_state_row(row, now_s) for row in shown[:MOST_ROWS]]
    more = len(shown) - len(lines)
    return "\n".join([*lines, f"… and {more} more"] if more else lines)


def _state_row(row: Row, now_s: float) -> str:
    word = STEP_WORD[row.status]
    tail = f" {word}" if word else ""
    if row.status in {StepStatus.DOING, StepStatus.UNDOING} and row.began_s:
        tail += f" {duration(now_s - row.began_s)} of at most {duration(row.timeout_s)}"
    elif row.status is StepStatus.DONE and row.took_s is not None:
        tail += f" {duration(row.took_s)}"
    title = esc(row.title)
    shown = f"*{title}*" if row.status in _LOUD else title
    return f"{_stage_line(row)}{STEP_MARK[row.status]} `{row.numbers:>3}` {shown}{tail}"


_LOUD = {
    StepStatus.DOING,
    StepStatus.BLOCKED,
    StepStatus.FAILED,
    StepStatus.IN_DOUBT,
    StepStatus.STUCK,
    StepStatus.UNDOING,
}


def gate_blocks(view: RunView, gate: Gate | None) -> list[Block]:
    """The second question: what was confirmed, what comes first, what may be lost."""
    state = view.state
    if gate is None:
        return []
    step = state.plan.steps[state.index_of(gate.before)]
    opened = next(entry for entry in state.opened if entry.gate == gate.id)
    blocks = []
    if opened.findings:
        blocks.append(
            section("*Confirmed just now:*\n" + "\n".join(f"• {esc(line)}" for line in opened.findings))
        )
    blocks.append(
        section(
            f"*The next step is {RISK_WORD[step.risk]}:* step {state.index_of(gate.before) + 1} of "
            f"{len(state.steps)}, {esc(step.title)}"
        )
    )
    blocks += _vouched(state.plan)
    if state.plan.warnings:
        blocks.append(section("\n".join(f"⚠️ {esc(warning)}" for warning in state.plan.warnings)))
    return blocks


def ask_buttons(view: RunView, gate: Gate) -> Block:
    """Approve and Abort, for exactly this plan and this gate."""
    state = view.state
    value = value_of(view.run, gate.id, state.digest, gate.typed)
    risky = gate.worst_risk is Risk.IRREVERSIBLE
    behind = len(state.plan.steps) - state.index_of(gate.before)
    scope = f"{view.cluster}: {count(behind, 'step')}, worst risk {gate.worst_risk}. {touched(state.plan)}."
    ask = confirm(
        title=f"Approve recovery {view.run}?",
        text=f"{later_answers_in_short(state, gate)} {scope}".lstrip(),
        yes="Approve",
    )
    approve = button(
        "Approve…" if gate.typed else "Approve",
        action=APPROVE_TYPED if gate.typed else APPROVE,
        value=value,
        style="danger" if risky else "primary",
        # The modal asks more than a dialog could.
        ask=None if gate.typed else ask,
    )
    return actions(block_id(view), approve, _abort_button(view))


def decision_buttons(view: RunView, *, retry: bool) -> Block:
    """Retry and Abort, or Abort alone."""
    state = view.state
    waiting = None if state.forgotten or state.rogue or state.not_told else state.waiting_step
    buttons = []
    if retry and state.forgotten:
        buttons.append(
            button(
                "Go on",
                action=RETRY,
                value=value_of(view.run, state.question, state.digest),
                style="danger",
                ask=confirm(
                    title=f"Go on with recovery {view.run}?",
                    text="Redis has lost a part of this run. The hosts keep what they have done and do nothing "
                    "twice; each step is looked at before it is done.",
                    yes="Go on",
                ),
            )
        )
    elif retry:
        number = f" step {state.index_of(waiting.id) + 1}" if waiting is not None else ""
        buttons.append(
            button(
                f"Retry{number}",
                action=RETRY,
                value=value_of(view.run, state.question, state.digest),
                style="primary",
            )
        )
    if phase(state) is not Phase.DECISION or state.aborted_by is None:
        buttons.append(_abort_button(view))
    return actions(block_id(view), *buttons)


def _abort_button(view: RunView) -> Block:
    behind = left_behind(view.state)
    left = (
        f"{count(len(behind), 'step')} done so far stay as they are"
        if behind
        else "Nothing was changed so far"
    )
    word = "Abort" if phase(view.state) is not Phase.RUNNING else "Abort after this step"
    return button(
        word,
        action=ABORT,
        value=value_of(view.run, "", view.state.digest),
        ask=confirm(
            title=f"Abort recovery {view.run}?",
            text=f"{left}; what would be a trap (an unread peers.json, an override) is taken back. The card then says "
            "what is left to do by hand.",
            yes="Abort it",
        ),
    )


def block_id(view: RunView) -> str:
    """Names the state that the buttons belong to."""
    return f"run:{view.run}:{view.state.length}"


def decision_blocks(view: RunView, *, unit: str = "consul") -> list[Block]:
    """What went wrong, what it means, and that nothing more happens by itself."""
    state = view.state
    waiting = state.waiting_step
    blocks = []
    if state.two_leaders:
        blocks.append(
            section(
                f"*{esc(names(state.two_leaders))} name themselves leader at the same time.* No further step "
                "is taken. Keep clients away from the wrong one and find out which it is before you abort."
            )
        )
    elif state.not_told or state.rogue:
        what, do = stopped_by_others(state)
        blocks.append(
            section("\n".join((f"*{esc(what[0])}*", *(f"• {esc(line)}" for line in what[1:]), esc(do))))
        )
    elif state.forgotten:
        blocks.append(
            section(
                "*Redis is behind the hosts:*\n"
                + "\n".join(f"• {esc(line)}" for line in state.forgotten)
                + "\nIt was restored from an older dump, lost its newest lines in a failover, or another bot works "
                "on these servers. Make sure that nobody else does. *Go on* continues from what Redis knows, and "
                "asks the hosts before each step; *Abort*, then a new plan, starts from the world as it is."
            )
        )
    elif waiting is not None:
        step_state = state.step_state(waiting.id)
        blocks.append(
            section(f"*{esc(waiting.title)}:* {esc(step_state.detail)}\n{MEANING[step_state.status]}")
        )
        if step_state.status is StepStatus.STUCK:
            undo = code_block(by_hand.taking_back(waiting, unit=unit))
            blocks.append(section(f"*To take it back by hand:*\n{undo}"))
        if step_state.lines:
            blocks.append(section("Last lines of its journal:\n" + code_block(step_state.lines)))
    elif state.doubts:
        blocks.append(
            section(
                "*Could not be seen:*\n"
                + "\n".join(f"• {esc(line)}" for line in state.doubts)
                + "\nNothing irreversible was done. *Retry* looks again."
            )
        )
    blocks.append(section("*Nothing more happens until somebody decides.* The run keeps the cluster's lock."))
    return blocks
