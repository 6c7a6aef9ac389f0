"""What a run that was given up says it left on each host, beside what the hosts show: neither may say more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bot import by_hand, text
from bot.run_card import Look, run_card
from recovery.journal import RunState, StepStatus
from recovery.model import ClusterObservation
from recovery.plan import StartAgent
from recovery.runs import RunView

_UNTOUCHED = frozenset({StepStatus.TODO, StepStatus.BLOCKED, StepStatus.NOT_NEEDED})


@dataclass(frozen=True, slots=True)
class OnHost:
    """What one host shows."""

    running: bool
    held_by: str = ""
    override_by: str = ""
    peers_json: str = ""
    archives: frozenset[str] = frozenset()
    """The runs that have an archive there."""


def shown_by(seen: ClusterObservation) -> dict[str, OnHost]:
    """What the reached servers show, without their archives."""
    return {
        server.name: OnHost(
            running=server.host.running,
            held_by=server.host.held_by,
            override_by=server.host.override_by,
            peers_json=(server.host.peers_json or "").strip(),
        )
        for server in seen.servers
        if server.host is not None
    }


def untold(view: RunView, before: Mapping[str, OnHost], now: Mapping[str, OnHost]) -> list[str]:
    """Say where the card, the terminal and the hosts do not agree; ``before`` is what the hosts showed at first."""
    said = by_hand.left_lines(view.state)
    card = [line.removeprefix("• ") for line in _card_lines(view)]
    terminal = text.run(view, now_s=view.state.ended_s, unit="consul").splitlines()
    problems = [f"not in the terminal: {line}" for line in said if f"  - {line}" not in terminal]
    problems += [f"not on the card: {line}" for line in said if line not in card]
    left = {server: words for server, _, words in (line.partition(": ") for line in said)}
    problems += [f"{server} is named, and nobody knows it" for server in left if server not in now]
    for server, host in now.items():
        problems += _compared(view, server, left.get(server, ""), before[server], host)
    return problems


def _card_lines(view: RunView) -> Iterator[str]:
    for block in run_card(view, Look(now_s=view.state.ended_s)).blocks:
        shown = block.get("text")
        if isinstance(shown, dict) and str(shown["text"]).startswith("*Left behind:*"):
            yield from str(shown["text"]).splitlines()[1:]


def _compared(view: RunView, server: str, line: str, before: OnHost, now: OnHost) -> Iterator[str]:
    started, stopped = _says(line, "started"), _says(line, "stopped")
    held = "held (nothing starts it, not even a reboot)"
    for phrase, true in (
        # A start of which nobody knows how far it came may have taken the hold off or not.
        (held, now.held_by == view.run if started is not None else _says(line, held)),
        ("bootstrap_expect OVERRIDDEN: a start takes it", now.override_by == view.run),
        ("an archive of its state, kept until somebody deletes it", view.run in now.archives),
    ):
        if _says(line, phrase) not in {true, None}:
            yield f"{server}: “{phrase}” is {true}, and people are told: {line}"
    if started and stopped:
        yield f"{server} is said to be started and stopped: {line}"
    elif None not in {started, stopped}:
        told = before.running if started is stopped else started
        if told is not now.running:
            yield f"{server} {'runs' if now.running else 'is stopped'}, and people are told: {line}"
    if not _was_started(view.state, server) and now.peers_json != before.peers_json:
        yield f"{server}: peers.json was {before.peers_json}, is {now.peers_json}, and people are told: {line}"


def _says(line: str, phrase: str) -> bool | None:
    """Whether the line says it; None where it says itself that it may be or not (FAILED, IN DOUBT)."""
    found = re.search(rf"(?:^|, ){re.escape(phrase)}(: [A-Z ]+)?(?=, |$)", line)
    return found is not None and (None if found[1] else True)


def _was_started(state: RunState, server: str) -> bool:
    return any(
        isinstance(step.action, StartAgent) and step.action.server == server and at.status not in _UNTOUCHED
        for step, at in zip(state.plan.steps, state.steps, strict=True)
    )
