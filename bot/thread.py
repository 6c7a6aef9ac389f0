"""A run's thread: one line an event, and the posts that ask people. Pure.

An update of the card notifies nobody, so whenever a decision is needed a new
post mentions people (docs.slack.dev, chat.update).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import msgspec

from bot import outgoing
from bot.answers import ended_lines, reminder, unanswered
from bot.blocks import Block, Message, clamp, context, esc, finalize, section
from bot.commands import NAME
from bot.run_card import again_buttons, lost_title, needs, title_of
from bot.run_parts import ask_buttons, decision_blocks, decision_buttons, gate_blocks
from bot.wording import Phase, count, duration, names, phase, rogue_line, utc_time
from recovery.journal import (
    AbortChosen,
    Approved,
    AssumptionsFailed,
    AssumptionsHeld,
    AssumptionsUnknown,
    CatalogueNoted,
    Ended,
    EndHeldUp,
    Event,
    Gate,
    GateExpired,
    GateOpened,
    HandedOver,
    HeldServersSeen,
    HoldRenewed,
    LeadersSeen,
    LeaseTaken,
    LeftDown,
    Outcome,
    Proposed,
    Reminded,
    RetryChosen,
    RunState,
    StepBlocked,
    StepFailed,
    StepInDoubt,
    StepNotNeeded,
    StepStarted,
    StepVerified,
    UndoFailed,
    UndoStarted,
    UndoVerified,
    Unlocked,
    down,
)
from recovery.model import Person
from recovery.runs import RunView

MOST_LINES = 2800


class Mentions(msgspec.Struct, frozen=True):
    """How people are called to a decision."""

    approvers: tuple[str, ...] = ()
    """Mentions of users and of user groups (bot.outgoing)."""
    of: Mapping[Person, str] = {}
    """mrkdwn of one person."""
    direct: Mapping[Person, str] = {}
    """The account of each approver who is named, for a word to that person alone."""

    def person(self, person: Person) -> str:
        """Mention one person, or name them where no account is known."""
        return self.of.get(person) or (outgoing.user(person) if _slack_id(person) else esc(person))


def _slack_id(person: str) -> bool:
    return person[:1] in {"U", "W"} and len(person) > 2 and person.isalnum() and person.isupper()


def event_line(event: Event, state: RunState) -> str:
    """What happened, in one line of plain text; "" where it says nothing to people."""
    match event:
        case Proposed(by=by, plan=plan):
            return f"proposed by {by}: {plan.summary}"
        case LeaseTaken(owner=owner, epoch=epoch, took_over_from=silent, at=step, forgotten=forgotten):
            where = (
                f"; goes on at {_numbered(state, step)}" if step and step != state.plan.steps[0].id else ""
            )
            if forgotten:
                where = f"; REDIS IS BEHIND THE HOSTS: {'; '.join(forgotten)}"
            if silent:
                return f"{owner} TOOK OVER from {silent}, which fell silent (epoch {epoch}){where}"
            return f"{owner} drives this run (epoch {epoch}){where}"
        case HandedOver(owner=owner):
            return f"{owner} is being stopped and hands this run over; the next process goes on with it"
        case GateOpened(gate=gate):
            known = state.gate(gate)
            people = f", {count(known.people, 'approval')} needed" if known is not None else ""
            return f"asked for approval of “{gate}”{people}"
        case Reminded(gate=gate, left_s=left_s):
            return f"REMINDER: nobody has answered “{gate}” yet, {duration(left_s)} left"
        case GateExpired(gate=gate):
            return f"nobody answered “{gate}” in time: what was only stopped is started again, where that is harmless"
        case LeftDown(step=step, why=why):
            return f"{_numbered(state, step)} is NOT taken back, the server stays down: {why}"
        case Approved(by=by, gate=gate, typed=typed, reason=reason):
            said = f"{by} approved “{gate}”" + (f", typed {names(typed)}" if typed else "")
            return (
                f"BREAK-GLASS: {said}, ALONE and for the own proposal, reason: {reason}" if reason else said
            )
        case AssumptionsHeld(findings=findings):
            return "confirmed: " + ("; ".join(findings) or "every assumption holds")
        case AssumptionsFailed(findings=findings):
            return "NO LONGER SO, the approval is void: " + "; ".join(findings)
        case AssumptionsUnknown(findings=findings):
            return "could not be seen: " + "; ".join(findings)
        case StepNotNeeded(step=step, why=why):
            return f"{_numbered(state, step)} not needed: {why}"
        case StepBlocked(step=step, why=why):
            return f"{_numbered(state, step)} BLOCKED: {why}"
        case StepStarted(step=step, attempt=attempt):
            again = f", attempt {attempt}" if attempt > 1 else ""
            return f"{_numbered(state, step)} started{again}"
        case StepVerified(step=step, evidence=evidence, resolved=resolved):
            found = " (found done after a driver was lost)" if resolved else ""
            return f"{_numbered(state, step)} verified{found}: {evidence}"
        case StepFailed(step=step, why=why, lines=lines):
            return "\n".join((f"{_numbered(state, step)} FAILED: {why}", *(f"    {line}" for line in lines)))
        case StepInDoubt(step=step, why=why):
            return f"{_numbered(state, step)} IN DOUBT: {why}"
        case RetryChosen(by=by):
            return f"{by} chose to go on"
        case AbortChosen(by=by):
            return f"{by} aborted"
        case UndoStarted(step=step):
            return f"{_numbered(state, step)} is taken back"
        case UndoVerified(step=step):
            return f"{_numbered(state, step)} was taken back"
        case UndoFailed(step=step, why=why):
            return f"{_numbered(state, step)} could NOT be taken back: {why}"
        case CatalogueNoted(when=when, catalogue=catalogue, source=source):
            if catalogue is None:
                return f"catalogue {when}: unknown, nobody answered"
            return (
                f"catalogue {when}: {count(catalogue.nodes, 'node')}, {count(catalogue.services, 'service')}, "
                f"{count(catalogue.sessions, 'session')} (says {source})"
            )
        case LeadersSeen(servers=servers):
            return f"TWO LEADERS: {names(servers)}; no further step is taken"
        case HeldServersSeen(running=running, unseen=unseen):
            if not running and not unseen:
                return "none of the servers that this run holds runs any more, and all are held; it goes on"
            seen = [*(rogue_line(each) for each in running), *unseen]
            return f"SOMEBODY ELSE STARTED A HELD SERVER: {'; '.join(seen)}; no further step is taken"
        case HoldRenewed(server=server):
            return f"{server} is held again"
        case EndHeldUp(outcome=outcome, hosts=hosts):
            return f"does NOT end yet ({outcome}), a late act could still begin: {'; '.join(hosts)}"
        case Ended(outcome=outcome):
            return f"ended: {outcome}"
        case Unlocked(by=by, holder=holder, alive=alive, reason=reason):
            how = f"while {holder} was ALIVE and drove it" if alive else "nobody drove it"
            return f"{by} UNLOCKED this run ({how}), reason: {reason}. It ends as it stands, nothing is taken back"
        case _:
            assert_never(event)


def _numbered(state: RunState, step: str) -> str:
    for number, planned in enumerate(state.plan.steps, 1):
        if planned.id == step:
            return f"step {number} ({planned.title})"
    return step


def thread_lines(events: tuple[Event, ...], state: RunState) -> Message | None:
    """One post with a line for each event; the oldest go when there are too many for one post."""
    settled = {
        event.step: number
        for number, event in enumerate(events)
        if isinstance(event, StepVerified | StepFailed | StepInDoubt)
    }
    lines = [
        f"{utc_time(event.at_s).removesuffix(' UTC')} {line}"
        for number, event in enumerate(events)
        # A start whose outcome stands in the same post says nothing more.
        if not (isinstance(event, StepStarted) and settled.get(event.step, -1) > number)
        if (line := event_line(event, state))
    ]
    if not lines:
        return None
    kept: list[str] = []
    room = MOST_LINES
    for line in reversed(lines):
        shown = clamp("\n".join(_quoted(part) for part in line.split("\n")), 900)
        if len(shown) > room:
            kept.append("… earlier lines: consul-recovery show")
            break
        room -= len(shown) + 1
        kept.append(shown)
    text = "\n".join(reversed(kept))
    return finalize(clamp(lines[-1].split("\n")[0], 150), [section(text)])


def _quoted(part: str) -> str:
    return esc(part) if part == part.lstrip() else f"> {esc(part)}"


def question(state: RunState) -> str:
    """Names what people are asked right now; "" when nothing is asked. A new name means a new post."""
    match phase(state):
        case Phase.ASKING | Phase.ASKING_AGAIN:
            gate = state.waiting_gate
            return f"gate:{gate.id}" if gate is not None else ""
        case Phase.DECISION:
            if state.two_leaders:
                return "leaders"
            if state.not_told or state.rogue:
                return f"{'end' if state.not_told else 'held'}:{state.asked_at}"
            if state.forgotten:
                return f"forgotten:{len(state.accepted)}:{len(state.forgotten)}"
            waiting = state.waiting_step
            if waiting is None:
                return f"doubts:{len(state.held_at)}:{state.length}" if state.doubts else ""
            step_state = state.step_state(waiting.id)
            return f"step:{waiting.id}:{step_state.attempt}:{step_state.status}:{step_state.ended_s:.3f}"
        case _:
            return ""


def ask_post(view: RunView, mentions: Mentions) -> Message:
    """The post that calls people to the open question."""
    state = view.state
    title = title_of(view)
    blocks: list[Block] = [section(f"*{esc(title)}*\n{_called(view, mentions)}")]
    gate = state.waiting_gate
    match phase(state):
        case Phase.ASKING if gate is not None:
            blocks += needs(state, gate)
            blocks.append(section("The plan and its buttons are on the card at the top of this thread."))
        case Phase.ASKING_AGAIN if gate is not None:
            blocks += gate_blocks(view, gate)
            blocks += needs(state, gate)
            blocks.append(ask_buttons(view, gate))
        case _:
            blocks += decision_blocks(view)
            blocks.append(decision_buttons(view, retry=not state.two_leaders))
    return finalize(title, blocks)


def answered_post(view: RunView, key: str) -> Message:
    """The same post once the question is answered: no buttons, who answered."""
    state = view.state
    gate = state.gate(key.removeprefix("gate:")) if key.startswith("gate:") else None
    if gate is not None and not state.missing(gate):
        alone = " ALONE (break-glass)" if state.broken(gate.id) is not None else ""
        said = f"approved by {names(state.approvers(gate.id))}{alone}"
    elif state.aborted_by is not None:
        said = f"aborted by {state.aborted_by}"
    elif state.expired:
        said = "nobody answered in time"
    elif state.outcome is not None:
        said = f"the run has ended ({state.outcome})"
    else:
        retried = [event.by for event in view.events if isinstance(event, RetryChosen)]
        said = f"{retried[-1]} chose to go on" if retried else "no longer asked"
    text = f"Recovery {view.run} of {view.cluster}: {said}."
    return finalize(text, [context(f"✔ {esc(text)}")])


def note_post(view: RunView, note: str, mentions: Mentions) -> Message:
    """What the journal cannot say, told to those who can act on it."""
    title = title_of(view) if view.state.outcome is not None else lost_title(view)
    people = dict.fromkeys((*mentions.approvers, mentions.person(view.state.requested_by)))
    return finalize(title, [section(f"*{esc(title)}* {' '.join(people)}\n{esc(note)}")])


def glass_post(view: RunView, approval: Approved, mentions: Mentions) -> Message:
    """Somebody approved the own proposal alone: told to all who could have been asked."""
    title = f"🚨 BREAK-GLASS: {approval.by} approved recovery {view.run} of {view.cluster} alone"
    said = (
        f"{esc(approval.by)} asked for it and approved “{esc(approval.gate)}” too. *Reason:* {esc(approval.reason)}\n"
        f"Who does not agree: `{NAME} abort {esc(view.run)}`."
    )
    return finalize(title, [section(f"*{esc(title)}* {' '.join(mentions.approvers)}\n{said}")])


def end_post(view: RunView, mentions: Mentions) -> Message:
    """The end, told to everybody who had a part in it; where servers are down, to all who may act on it."""
    state = view.state
    people = dict.fromkeys((state.requested_by, *(approval.by for approval in state.approvals)))
    title = title_of(view)
    still_down = state.outcome is not Outcome.RECOVERED and bool(down(state))
    called = " ".join(
        dict.fromkeys(
            (*(mentions.approvers if still_down else ()), *(mentions.person(person) for person in people))
        )
    )
    blocks: list[Block] = [section(f"*{esc(title)}* {called}")]
    if state.outcome is Outcome.RECOVERED:
        blocks.append(section("The card above has the details."))
    else:
        told = ended_lines(state) or ("Nothing was changed on any server.",)
        blocks.append(section("\n".join(f"• {esc(line)}" for line in told)))
        blocks += again_buttons(view)
    return finalize(title, blocks)


def remind_post(view: RunView, event: Reminded, mentions: Mentions, link: str) -> Message:
    """Calls people to an answer that is still waited for, while servers are down."""
    title = reminder(view.run, view.cluster, view.state, event)
    return finalize(
        title,
        [
            section(f"*{esc(title)}* {_called(view, mentions)}\n{esc(unanswered(view.state))}"),
            section(f"The question and its buttons are in the thread of {link}."),
        ],
    )


def reminded_directly(view: RunView, gate: Gate, mentions: Mentions) -> tuple[str, ...]:
    """The accounts of those whose answer would still count."""
    given = view.state.approvers(gate.id)
    own = gate.requester_counts or gate.break_glass
    return tuple(
        user
        for person, user in mentions.direct.items()
        if person not in given and (own or person != view.state.requested_by)
    )


def remind_alone(view: RunView, event: Reminded, link: str) -> Message:
    """The same to one person alone."""
    title = reminder(view.run, view.cluster, view.state, event)
    return finalize(
        title,
        [
            section(f"*{esc(title)}*\n{esc(unanswered(view.state))}"),
            section(f"You may answer it: its buttons are in the thread of {link}."),
        ],
    )


def _called(view: RunView, mentions: Mentions) -> str:
    state = view.state
    people = list(mentions.approvers)
    if phase(state) is Phase.DECISION:
        people.append(mentions.person(state.requested_by))
    return " ".join(dict.fromkeys(people)) or (
        "Nobody is named as approver: name people under `approvals.approvers` in the settings."
    )
