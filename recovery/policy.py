"""Who must approve what: gates by risk, the two-person rule, expiry. Pure.

People are counted, not accounts. Nobody named means nobody may.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from recovery.journal import Gate, RunState
from recovery.model import Person, ServerName
from recovery.plan import Digest, Plan, Risk, StepId

DIGEST_CHARACTERS = 6
"""The fewest that name a plan: one or two are hit by chance, and say nothing of what was read."""
_TOO_LATE = "The time to approve is over; nothing was done. Propose the recovery again."


class GateMode(StrEnum):
    """Where a run stops for approval."""

    ONE = "one"
    """Once, before anything."""
    TWO = "two"
    """Before anything, and again before the first irreversible step."""
    EACH_RISKY = "each-risky"
    """Before anything, and before every irreversible step."""


class ApprovalPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The approval rules of the settings."""

    reversible_people: int = 1
    irreversible_people: int = 1
    requester_counts: bool = False
    break_glass: bool = False
    """Whether somebody alone at night may approve the own proposal, with a reason that everybody is told."""
    gates: GateMode = GateMode.TWO
    expires_after_s: int = 1800


class Accepted(msgspec.Struct, frozen=True):
    """The click counts."""

    digest: Digest
    gate: str


class Rejected(msgspec.Struct, frozen=True):
    """The click does not count; nothing happened."""

    reason: str


def gates_of(plan: Plan, policy: ApprovalPolicy) -> tuple[Gate, ...]:
    """Lay the gates of a plan; a read-only plan has none."""
    if not plan.steps:
        return ()
    risky = [step for step in plan.steps if step.risk is Risk.IRREVERSIBLE]
    lines: list[StepId] = [plan.steps[0].id]
    match policy.gates:
        case GateMode.ONE:
            pass
        case GateMode.TWO:
            lines += [step.id for step in risky[:1]]
        case GateMode.EACH_RISKY:
            lines += [step.id for step in risky]
    gates: list[Gate] = []
    for line in dict.fromkeys(lines):
        index = [step.id for step in plan.steps].index(line)
        worst = max((step.risk for step in plan.steps[index:]), key=lambda risk: risk.rank)
        if worst is Risk.READ_ONLY:
            continue
        is_irreversible_line = risky[:1] and risky[0].id == line
        typed = plan.typed_names if (is_irreversible_line or policy.gates is GateMode.ONE) else ()
        gates.append(
            Gate(
                id="plan" if index == 0 else "irreversible" if is_irreversible_line else line,
                before=line,
                worst_risk=worst,
                people=policy.irreversible_people if worst is Risk.IRREVERSIBLE else policy.reversible_people,
                requester_counts=policy.requester_counts,
                typed=typed,
                expires_after_s=policy.expires_after_s,
                break_glass=policy.break_glass,
            )
        )
    return tuple(gates)


def judge(
    state: RunState,
    *,
    by: Person,
    gate_id: str,
    digest_prefix: str,
    typed: tuple[ServerName, ...],
    now_s: float,
    reason: str = "",
) -> Accepted | Rejected:
    """Say whether this approval counts now; the reason is written for the one who clicked.

    ``reason`` is why somebody approves the own proposal alone, where the settings have break-glass.
    """
    if state.outcome is not None:
        return Rejected(f"This run has ended ({state.outcome}). Nothing was done.")
    if len(digest_prefix) < DIGEST_CHARACTERS:
        return Rejected(
            f"An approval names the plan by at least {DIGEST_CHARACTERS} characters of its digest. Nothing was done. "
            f"Look at the run: its digest begins with {state.digest[:12]}."
        )
    if not state.digest.startswith(digest_prefix):
        return Rejected(
            "This approval is for another plan: its digest is not this run's. Nothing was done. "
            "Look at the run as it is now."
        )
    gate = state.gate(gate_id)
    waiting = state.waiting_gate
    if state.expired:
        return Rejected(_TOO_LATE)
    if gate is None:
        return Rejected("This button is from an older state of the run. Nothing was done.")
    if by in state.approvers(gate_id):
        return Rejected("You have approved this already. Nothing more was done.")
    if waiting is None or waiting.id != gate_id:
        return Rejected(
            "Nobody is asked for this approval now: this button is from an older state. Nothing was done."
        )
    opened = next(entry for entry in state.opened if entry.gate == gate_id)
    if now_s >= opened.at_s + gate.expires_after_s:
        return Rejected(_TOO_LATE)
    if reason and not (gate.break_glass and by == state.requested_by):
        return Rejected(
            "Only the one who asked for the recovery approves alone, and only where approvals.break_glass is on in "
            "the settings. Nothing was done. Approve without a reason."
        )
    if not gate.requester_counts and by == state.requested_by and not reason:
        alone = (
            " Where nobody else is there: `consul-recovery approve RUN --alone REASON`, or the button "
            "on the card, which asks for the reason; everybody is told."
            if gate.break_glass
            else ""
        )
        return Rejected(
            "You asked for this recovery, so somebody else must approve it (approvals.requester_may_approve "
            f"is off in the settings). Nothing was done.{alone}"
        )
    if set(typed) != set(gate.typed):
        return Rejected(_wrongly_typed(state, gate))
    return Accepted(state.digest, gate_id)


def _wrongly_typed(state: RunState, gate: Gate) -> str:
    if gate.typed:
        what = "holds nothing and never did" if state.plan.held_nothing else "cannot be fenced"
        return (
            f"To approve this, type the name of each server that {what}: "
            f"{', '.join(gate.typed)}. Nothing was done."
        )
    later = next((other for other in state.gates if other.typed), None)
    when = (
        f"; {', '.join(later.typed)} will be asked for before step {state.index_of(later.before) + 1}"
        if later is not None
        else ""
    )
    return f"Not approved: nothing has to be typed here yet{when}. Nothing was done. Approve again without names."
