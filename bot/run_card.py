"""The one live card of a run, in each of its phases: RunView -> Message. Pure.

The card says the verdict first, then why, then what a person can do now. Its
buttons vanish when they are no longer valid; an old one that is pressed all
the same is refused by the plan's digest and the run's state, not by the card.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from bot import by_hand
from bot.answers import ended_lines, later_answers, outcome_in_short, put_back, unanswered, way_on
from bot.blocks import (
    Block,
    Message,
    actions,
    button,
    code_block,
    code_blocks,
    context,
    date,
    esc,
    finalize,
    section,
)
from bot.buttons import AGAIN
from bot.run_parts import (
    ask_buttons,
    block_id,
    decision_blocks,
    decision_buttons,
    gate_blocks,
    plan_blocks,
    step_lines,
)
from bot.wording import (
    Phase,
    approvals_needed,
    catalogue_change,
    count,
    duration,
    leader_back_s,
    leader_of,
    names,
    phase,
    progress,
    utc_time,
)
from recovery.journal import (
    FINISHED,
    Gate,
    Outcome,
    RunState,
    StepNotNeeded,
    StepVerified,
    Unlocked,
    down,
    left_behind,
    not_done,
)
from recovery.plan import ArchiveState, Risk
from recovery.runs import RunView

MARK: dict[Phase, str] = {
    Phase.ASKING: "⏳",
    Phase.ASKING_AGAIN: "⏳",
    Phase.RUNNING: "⚙️",
    Phase.DECISION: "❌",
    Phase.UNWINDING: "🛑",
    Phase.PUTTING_BACK: "⌛",
    Phase.RECOVERED: "✅",
    Phase.ABORTED: "🛑",
    Phase.EXPIRED: "⌛",
    Phase.VOID: "⚠️",
    Phase.UNLOCKED: "🔓",
}


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What a card needs beside the run."""

    now_s: float
    unit: str = "consul.service"
    """The systemd unit of the agents, for the commands that a person would type."""
    next_run: str = ""
    """mrkdwn link to the run that replaces this one, where there is one."""
    note: str = ""
    """What the journal cannot say: that the store lost the run, or that no new plan is safe."""


def run_card(view: RunView, look: Look) -> Message:
    """The card of a run as it stands now."""
    state = view.state
    where = phase(state)
    if look.note and state.outcome is None:
        return _lost(view, look)
    title = title_of(view)
    blocks: list[Block] = [section(f"*{esc(title)}*{_by(state)}")]
    gate = state.waiting_gate
    match where:
        case Phase.ASKING:
            blocks += plan_blocks(view)
            blocks += _asking(view, gate)
        case Phase.ASKING_AGAIN:
            blocks += gate_blocks(view, gate)
            blocks.append(section(step_lines(state, now_s=look.now_s)))
            blocks += _asking(view, gate)
        case Phase.RUNNING | Phase.UNWINDING | Phase.PUTTING_BACK:
            blocks.append(section(step_lines(state, now_s=look.now_s)))
            blocks.append(context(_running(view, look)))
            if where is Phase.RUNNING:
                blocks.append(decision_buttons(view, retry=False))
        case Phase.DECISION:
            blocks.append(section(step_lines(state, now_s=look.now_s)))
            blocks += decision_blocks(view, unit=look.unit)
            blocks.append(decision_buttons(view, retry=not state.two_leaders))
        case Phase.RECOVERED:
            blocks += _recovered(view)
        case Phase.ABORTED | Phase.EXPIRED | Phase.VOID | Phase.UNLOCKED:
            blocks += _given_up(view, look, where)
        case _:
            assert_never(where)
    return finalize(title, blocks)


def _lost(view: RunView, look: Look) -> Message:
    """The store no longer knows the run: as far as this process has seen it, and nothing to press."""
    state = view.state
    title = lost_title(view)
    blocks = [section(f"*{esc(title)}*{_by(state)}"), section(esc(look.note))]
    blocks.append(section(step_lines(state, now_s=look.now_s)))
    if behind := by_hand.left_lines(state):
        blocks.append(section("*Left behind:*\n" + "\n".join(f"• {esc(line)}" for line in behind)))
    return finalize(title, blocks)


def lost_title(view: RunView) -> str:
    """The verdict on a run that the store lost."""
    return f"⚠️ Recovery {view.run} of {view.cluster}: LOST by Redis, nothing drives it"


def title_of(view: RunView) -> str:
    """The verdict in one line, readable in a push notification."""
    state = view.state
    where = phase(state)
    said = f"{MARK[where]} Recovery {view.run} of {view.cluster}: "
    match where:
        case Phase.RUNNING:
            return f"{said}running, {progress(state)}"
        case Phase.DECISION if state.two_leaders:
            return f"{said}TWO LEADERS seen, stopped; your decision is needed"
        case Phase.DECISION if state.not_told:
            hosts = count(len(state.not_told), "host")
            return f"{said}NOT ENDED yet, {hosts} could not be told; your decision is needed"
        case Phase.DECISION if state.rogue:
            return f"{said}a HELD SERVER RUNS, stopped; your decision is needed"
        case Phase.DECISION if state.forgotten:
            return f"{said}Redis is BEHIND THE HOSTS; your decision is needed"
        case Phase.DECISION:
            waiting = state.waiting_step
            if waiting is None:
                return f"{said}something could not be seen; your decision is needed"
            number = state.index_of(waiting.id) + 1
            word = state.step_state(waiting.id).status
            return f"{said}step {number} of {len(state.steps)} {word.upper()}; your decision is needed"
        case Phase.RECOVERED:
            return f"{said}done in {duration(state.ended_s - _approved_s(state))}"
        case Phase.ABORTED:
            return f"{said}aborted by {state.aborted_by}{outcome_in_short(state)}"
        case Phase.UNLOCKED if state.unlocked is not None:
            return f"{said}unlocked by {state.unlocked.by}, ended as it stood"
        case Phase.EXPIRED:
            return f"{said}expired, nobody approved in time{outcome_in_short(state)}"
        case Phase.VOID:
            return f"{said}void, what was approved no longer fits"
        case _:
            return said + where


def _approved_s(state: RunState) -> float:
    return state.approvals[0].at_s if state.approvals else state.proposed_s


def _by(state: RunState) -> str:
    approved = tuple(dict.fromkeys(approval.by for approval in state.approvals))
    said = f"\nasked for by {esc(state.requested_by)}"
    said = f"{said}, approved by {esc(names(approved))}" if approved else said
    alone = tuple(dict.fromkeys(approval.reason for approval in state.approvals if approval.reason))
    return f"{said}\n🚨 *BREAK-GLASS, approved alone:* {esc('; '.join(alone))}" if alone else said


def _asking(view: RunView, gate: Gate | None) -> list[Block]:
    if gate is None:
        return []
    return [*needs(view.state, gate), ask_buttons(view, gate)]


def needs(state: RunState, gate: Gate) -> list[Block]:
    """Who must approve and until when; what is asked later, and what comes of no answer."""
    told = [line for line in (later_answers(state, gate), unanswered(state)) if line]
    return [*(section(f"⏳ {esc(line)}") for line in told), context(needs_line(state, gate))]


def needs_line(state: RunState, gate: Gate) -> str:
    """Who must approve, and until when."""
    opened = next(entry for entry in state.opened if entry.gate == gate.id)
    until_s = opened.at_s + gate.expires_after_s
    return f"{esc(approvals_needed(state, gate))} · expires {date(until_s)} ({utc_time(until_s)})"


def _running(view: RunView, look: Look) -> str:
    state = view.state
    began_s = _approved_s(state)
    parts = [f"{duration(look.now_s - began_s)} so far", f"cluster {esc(view.cluster)}"]
    parts.append(f"driven by {esc(state.owner)}" if state.owner else "no process has taken it up yet")
    parts.append(f"as of {date(look.now_s)} ({utc_time(look.now_s)})")
    return " · ".join(parts)


# --- endings ----------------------------------------------------------------------------------------


def _recovered(view: RunView) -> list[Block]:
    state = view.state
    said = []
    if leader := leader_of(state):
        said.append(f"*Leader:* {esc(leader)}")
    if (back_s := leader_back_s(state)) is not None:
        said.append(f"*A leader was back* {duration(back_s)} after this recovery was asked for.")
    if any(step.risk is Risk.IRREVERSIBLE for step in state.plan.steps):
        said.append(f"*{esc(catalogue_change(state))}*")
    said += [f"⚠️ {esc(warning)}" for warning in state.plan.warnings if "lost" in warning]
    changed = left_behind(state)
    if changed:
        servers = names(dict.fromkeys(target for step in changed for target in step.targets))
        said.append(f"*Changed:* {count(len(changed), 'step')} on {esc(servers)}")
    blocks = [section("\n".join(said) or "Every step is verified.")]
    archives = _archives(view)
    if archives:
        blocks.append(section("*Archives are kept* until somebody deletes them:\n" + code_block(archives)))
    passed = [
        f"{esc(step.title)}: {esc(step_state.detail)}"
        for step, step_state in zip(state.plan.steps, state.steps, strict=True)
        if step_state.status not in FINISHED
    ]
    if passed:
        blocks.append(section("*Not done, and not needed for the end:*\n" + "\n".join(passed)))
    blocks.append(
        context(f"ended {date(state.ended_s)} ({utc_time(state.ended_s)}) · every step in the thread")
    )
    return blocks


def _archives(view: RunView) -> tuple[str, ...]:
    """Where the archives are, in the words of the check that proved them."""
    wanted = {
        step.id: step.targets[0] for step in view.state.plan.steps if isinstance(step.action, ArchiveState)
    }
    return tuple(
        f"{wanted[event.step]}: {event.evidence if isinstance(event, StepVerified) else event.why}"
        for event in view.events
        if isinstance(event, StepVerified | StepNotNeeded) and event.step in wanted
    )


def _given_up(view: RunView, look: Look, where: Phase) -> list[Block]:
    state = view.state
    blocks: list[Block] = []
    if told := ended_lines(state):
        mark = "🚨 " if down(state) else ""
        blocks.append(section(f"{mark}*{esc(told[0])}*" + "".join(f"\n• {esc(line)}" for line in told[1:])))
    if where is not Phase.VOID and look.next_run:
        blocks.append(section(_new_plan(view, look)))
    if where is Phase.VOID:
        blocks.append(
            section(
                "*What changed since it was planned:*\n" + "\n".join(f"• {esc(line)}" for line in state.void)
            )
        )
        blocks.append(section(_new_plan(view, look)))
    if (unlocked := state.unlocked) is not None:
        blocks.append(section(esc(unlocked_line(unlocked))))
    done = [
        index
        for index, step_state in enumerate(state.steps, 1)
        if step_state.status in FINISHED and state.plan.steps[index - 1].risk is not Risk.READ_ONLY
    ]
    behind = left_behind(state)
    if not behind:
        if not put_back(state):
            blocks.append(section("*Nothing was changed* on any server, and nothing is left behind."))
        blocks.append(context(_ended(state)))
        return [*blocks, *again_buttons(view, look)]
    blocks.append(section(step_lines(state, now_s=look.now_s)))
    blocks.append(
        section(
            f"*Done:* {', '.join(map(str, done)) or 'nothing'} · *Not done:* {len(not_done(state))} of "
            f"{len(state.steps)} steps"
        )
    )
    blocks.append(
        section("*Left behind:*\n" + "\n".join(f"• {esc(line)}" for line in by_hand.left_lines(state)))
    )
    rest = by_hand.remaining(state, unit=look.unit)
    if rest and not look.next_run:
        blocks.append(section("*The rest of the plan by hand*, in this order:"))
        blocks += [section(part) for part in code_blocks(rest)]
    undo = by_hand.undoing(state, unit=look.unit)
    if undo and not look.next_run:
        blocks.append(section("*Back to where it was*, by hand, in this order:"))
        blocks += [section(part) for part in code_blocks(undo)]
    blocks.append(context(_ended(state)))
    return [*blocks, *again_buttons(view, look)]


def again_buttons(view: RunView, look: Look | None = None) -> list[Block]:
    """What goes on from a run that came to nothing; nothing where a new plan is there, or is made by itself."""
    state = view.state
    wanted = state.outcome is Outcome.EXPIRED or bool(down(state))
    if (look is not None and look.next_run) or phase(state) is Phase.VOID or not wanted:
        return []
    return [
        section(
            f"*To go on:* a new plan, on what is there now: {way_on(esc(view.cluster), state)}, or the button."
        ),
        actions(block_id(view), button("Plan again…", action=AGAIN, value=view.run, style="primary")),
    ]


def unlocked_line(unlocked: Unlocked) -> str:
    """Who took the lock away, from whom and why."""
    whom = f"while {unlocked.holder} drove it" if unlocked.alive else "when no process drove it"
    return (
        f"{unlocked.by} took the lock away {whom}. Reason: {unlocked.reason}. Nothing was taken back; an act that "
        "was under way on a host may still have ended there."
    )


def _new_plan(view: RunView, look: Look) -> str:
    if look.next_run:
        return f"*The new plan:* {look.next_run}"
    if look.note:
        return f"*{esc(look.note)}*"
    lost = ",".join(claim.server for claim in view.state.plan.claims)
    again = f"/consul recover {esc(view.cluster)}{f' --lost {esc(lost)}' if lost else ''}"
    return (
        "*The new plan* comes as a card of its own as soon as it is made. If none comes, none is safe as things "
        f"are: `{again}` says why."
    )


def _ended(state: RunState) -> str:
    return f"ended {date(state.ended_s)} ({utc_time(state.ended_s)}) · the cluster's lock is free again"
