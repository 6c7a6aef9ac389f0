"""The rows of a plan: steps that say the same of different servers share one, because phones are narrow. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bot.wording import names
from recovery.journal import FINISHED, StepState, StepStatus
from recovery.plan import Plan, Risk, Step


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One or several steps that say the same of different servers and stand at the same point."""

    first: int
    """Number of the first step, from 1."""
    last: int
    title: str
    risk: Risk
    status: StepStatus
    took_s: float | None = None
    """From the first start to the last end; None before it began."""
    began_s: float = 0.0
    timeout_s: int = 0
    detail: str = ""
    optional: bool = False
    stage: str = ""
    """Set on the first row of a stage that is shown step by step."""

    @property
    def numbers(self) -> str:
        """``3`` or ``3-5``."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def rows(plan: Plan, states: Sequence[StepState] | None = None) -> tuple[Row, ...]:
    """The steps of a plan, neighbours of one kind and one status folded into one row: phones are narrow.

    While a run is watched (``states``), a stage that has not begun or is over is one row; in a plan only a stage
    in which every act may fail is: there are as many as there are client agents.
    """
    known = states if states is not None else [StepState() for _ in plan.steps]
    shown: list[Row] = []
    for group in _stages(plan):
        status = _status_of([known[index].status for index in group])
        steps = [plan.steps[index] for index in group]
        lesser = all(step.optional or step.risk is Risk.READ_ONLY for step in steps)
        if steps[0].stage and status is not None and (states is not None or lesser):
            shown.append(_stage_row(plan, known, group, status))
        else:
            shown += _expanded(plan, known, group)
    return tuple(shown)


def _stages(plan: Plan) -> list[list[int]]:
    """Neighbours of one stage; what belongs to no stage is all one."""
    groups: list[list[int]] = []
    for index, step in enumerate(plan.steps):
        if groups and plan.steps[groups[-1][0]].stage == step.stage:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _status_of(statuses: Sequence[StepStatus]) -> StepStatus | None:
    """One status for a whole stage, where one says it all."""
    kinds = set(statuses)
    if len(kinds) == 1 and kinds <= {StepStatus.TODO, StepStatus.NOT_NEEDED}:
        return statuses[0]
    return StepStatus.DONE if kinds <= FINISHED else None


def _stage_row(plan: Plan, states: Sequence[StepState], group: list[int], status: StepStatus) -> Row:
    steps = [plan.steps[index] for index in group]
    return msgspec.structs.replace(
        _row(plan, states, group),
        title=steps[0].stage,
        risk=max((step.risk for step in steps), key=lambda risk: risk.rank),
        status=status,
        optional=any(step.optional for step in steps),
    )


def _expanded(plan: Plan, known: Sequence[StepState], stage: list[int]) -> list[Row]:
    groups: list[list[int]] = []
    for index in stage:
        step = plan.steps[index]
        if groups and _same_kind(plan.steps[groups[-1][0]], known[groups[-1][0]], step, known[index]):
            groups[-1].append(index)
        else:
            groups.append([index])
    shown = [_row(plan, known, group) for group in groups]
    name = plan.steps[stage[0]].stage
    return [msgspec.structs.replace(shown[0], stage=name), *shown[1:]] if name else shown


def _same_kind(step: Step, state: StepState, other: Step, other_state: StepState) -> bool:
    foldable = {StepStatus.TODO, StepStatus.DONE, StepStatus.NOT_NEEDED, StepStatus.UNDONE}
    return (
        len(step.targets) == len(other.targets) == 1
        and type(step.action) is type(other.action)
        and step.risk is other.risk
        and state.status is other_state.status
        and state.status in foldable
        and _pattern(step) == _pattern(other)
    )


def _pattern(step: Step) -> tuple[str, ...]:
    return tuple("\0" if word == step.targets[0] else word for word in _words(step.title))


def _words(text: str) -> list[str]:
    """Split into words and what is between them, so that a name is only found as a whole word."""
    words: list[str] = []
    word = ""
    for character in text:
        if character.isalnum() or character in "._-":
            word += character
            continue
        words += [word, character] if word else [character]
        word = ""
    return [*words, word] if word else words


def _row(plan: Plan, states: Sequence[StepState], group: list[int]) -> Row:
    step, state = plan.steps[group[0]], states[group[0]]
    title = step.title
    if len(group) > 1:
        all_names = names(target for index in group for target in plan.steps[index].targets)
        title = "".join(all_names if word == "\0" else word for word in _pattern(step))
    began = [states[index].started_s for index in group if states[index].started_s]
    ended = [states[index].ended_s for index in group if states[index].ended_s]
    return Row(
        first=group[0] + 1,
        last=group[-1] + 1,
        title=title,
        risk=step.risk,
        status=state.status,
        took_s=max(ended) - min(began) if began and ended else None,
        began_s=min(began) if began else 0.0,
        timeout_s=step.timeout_s,
        detail=state.detail if len(group) == 1 else "",
        optional=step.optional,
    )
