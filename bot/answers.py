"""What people are told of answers that a run needs: a second one later, until when, and what comes of none. Pure."""

from __future__ import annotations

from bot.commands import NAME
from bot.wording import count, duration, names
from recovery.journal import Gate, Reminded, RunState, StepStatus, down, held, only_stopped, why_down
from recovery.model import ServerName
from recovery.plan import FenceAgent, Step, StopAgent, WritePeers


def later_answers(state: RunState, gate: Gate) -> str:
    """Before anything is stopped: that somebody will be asked again, how long there is, who is down meanwhile."""
    later = [other for other in state.gates if state.index_of(other.before) > state.index_of(gate.before)]
    if not later:
        return ""
    places = [
        f"step {state.index_of(other.before) + 1} ({state.plan.steps[state.index_of(other.before)].title})"
        for other in later[:3]
    ]
    more = f" and {len(later) - 3} more" if len(later) > 3 else ""
    needed = (
        "A second answer will be needed" if len(later) == 1 else f"{len(later)} more answers will be needed"
    )
    said = (
        f"{needed}, before {', '.join(places)}{more}: from when it is asked there are "
        f"{_whole(later[0].expires_after_s)} to give it."
    )
    servers = _stopped_between(state, gate, later[-1])
    if not servers:
        return said
    return (
        f"{said} Until then {names(servers)} {_is(servers)} DOWN: be there. Unanswered, what was only stopped is "
        "started again where that is harmless, and the run ends."
    )


def later_answers_in_short(state: RunState, gate: Gate) -> str:
    """The same for a dialog, which has little room."""
    later = [other for other in state.gates if state.index_of(other.before) > state.index_of(gate.before)]
    if not later:
        return ""
    servers = _stopped_between(state, gate, later[-1])
    meanwhile = (
        f", {names(servers)} DOWN until then" if 0 < len(servers) <= 5 else ", servers DOWN until then"
    )
    return (
        f"{'A second answer' if len(later) == 1 else 'More answers'} will be needed, within "
        f"{_whole(later[0].expires_after_s)} of being asked{meanwhile if servers else ''}."
    )


def _stopped_between(state: RunState, gate: Gate, last: Gate) -> tuple[ServerName, ...]:
    steps = state.plan.steps[state.index_of(gate.before) : state.index_of(last.before)]
    stopped = (step.action.server for step in steps if isinstance(step.action, StopAgent))
    return tuple(dict.fromkeys((*down(state), *stopped)))


def unanswered(state: RunState) -> str:
    """While an answer is waited for: who is down, and what comes of no answer; "" where nobody is down."""
    servers = down(state)
    if not servers:
        return ""
    again = tuple(
        step.action.server for step, why in _stops(state) if isinstance(step.action, StopAgent) and not why
    )
    stay = tuple(server for server in servers if server not in again)
    outcome = []
    if again:
        outcome.append(f"{names(again)} {_is(again)} started again as before")
    if stay:
        outcome.append(f"{names(stay)} stay{'s' if len(stay) == 1 else ''} down")
    return (
        f"{names(servers)} {_is(servers)} DOWN until this is answered. Unanswered, {' and '.join(outcome)}."
    )


def reminder(view_run: str, cluster: str, state: RunState, event: Reminded) -> str:
    """The headline of a reminder."""
    servers = down(state)
    return (
        f"⏰ Recovery {view_run} of {cluster} waits for an answer, {_whole(event.left_s)} left; "
        f"{names(servers)} {_is(servers)} DOWN"
    )


def ended_lines(state: RunState) -> tuple[str, ...]:
    """Who is down and who runs again after a run that was given up, each with its reason."""
    servers, again, kept = down(state), put_back(state), set(held(state))
    bound = tuple(server for server in servers if server in kept)
    loose = tuple(server for server in servers if server not in kept)
    lines = []
    if bound:
        them = "it" if len(bound) == 1 else "them"
        lines.append(f"{names(bound)} {_is(bound)} DOWN and held: nothing starts {them}, not even a reboot.")
    if loose:
        lines.append(f"{names(loose)} {_is(loose)} DOWN, and not held: a reboot may start what is enabled.")
    if again:
        run = "runs" if len(again) == 1 else "run"
        lines.append(f"{names(again)} {run} again as before: started again, and held no more.")
    if state.expired:
        reasons: dict[str, list[str]] = {}
        for step, why in _stops(state):
            reasons.setdefault(why, []).extend(step.targets)
        lines += [
            f"{names(stay)} {'was' if len(stay) == 1 else 'were'} not started again: {why}."
            for why, stay in reasons.items()
            if why
        ]
    fenced = tuple(
        step.action.server
        for step, at in zip(state.plan.steps, state.steps, strict=True)
        if isinstance(step.action, FenceAgent) and at.may_stand
    )
    if fenced:
        stay = "stays" if len(fenced) == 1 else "stay"
        lines.append(f"{names(fenced)} {_is(fenced)} fenced by this run, and {stay} so.")
    before = tuple(server for server in state.report.down if server in servers)
    if before:
        lines.append(
            f"{names(before)} {'was' if len(before) == 1 else 'were'} held by an earlier run already."
        )
    return tuple(lines)


def put_back(state: RunState) -> tuple[ServerName, ...]:
    """The servers that the run had stopped and started again at its expiry."""
    return tuple(
        step.action.server
        for step, at in zip(state.plan.steps, state.steps, strict=True)
        if isinstance(step.action, StopAgent) and at.status is StepStatus.UNDONE
    )


def _stops(state: RunState) -> list[tuple[Step, str]]:
    """The steps that have stopped a server which is down now, each with why it would stay down."""
    return [
        (step, why_down(state, step))
        for step in only_stopped(state)
        if isinstance(step.action, StopAgent) and step.action.server in down(state)
    ]


def way_on(cluster: str, state: RunState) -> str:
    """The command that goes on from a run that came to nothing.

    With the survivors down nobody may be left to tell the names of who is gone: then by address.
    """
    named = any(
        isinstance(step.action, WritePeers) and step.action.raft_protocol for step in state.plan.steps
    )
    by_address = named and bool(down(state))
    lost = ",".join(claim.address if by_address else claim.server for claim in state.plan.claims)
    return f"`{NAME} recover {cluster}{f' --lost {lost}' if lost else ''}`"


def outcome_in_short(state: RunState) -> str:
    """For the title of a run that was given up: who runs again, who is down."""
    again, servers = put_back(state), down(state)
    parts = []
    if again:
        parts.append(f"{_listed(again)} run{'s' if len(again) == 1 else ''} again")
    if servers:
        parts.append(f"{_listed(servers)} DOWN")
    return f"; {', '.join(parts)}" if parts else ""


def _whole(seconds: float) -> str:
    """``30 min``, where `duration` says ``30 min 00 s``."""
    return duration(seconds).removesuffix(" 00 s")


def _listed(servers: tuple[ServerName, ...]) -> str:
    return names(servers) if len(servers) <= 5 else count(len(servers), "server")


def _is(servers: tuple[ServerName, ...]) -> str:
    return "is" if len(servers) == 1 else "are"
