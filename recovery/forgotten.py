"""What the hosts know and the store does not: a store that was emptied, or restored from an old dump. Pure.

Every act leaves its run, its epoch and a receipt on the host (host.sh), and
its start is in the journal before it. So a host that knows of an act which
the journal does not tell, or of a later driver, proves that the journal is
not the whole history; then a person confirms before anything more is done.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

import msgspec

from recovery.journal import RunState, StepStatus
from recovery.model import ClusterObservation, HostTrace, RunId, ServerObservation
from recovery.plan import StepId

_UNDO_KNOWN = frozenset({StepStatus.UNDOING, StepStatus.UNDONE, StepStatus.STUCK})


def forgotten(run: RunId, state: RunState, traces: Iterable[HostTrace]) -> tuple[str, ...]:
    """Give a sentence for each thing that a host has seen of this run or of a later one, and its journal has not.

    What a person has confirmed before is not told again.
    """
    known_epoch = max(state.epoch, state.known_epoch)
    found: list[str] = []
    for trace in traces:
        if trace.epoch > known_epoch:
            whose = f" in run {trace.run}" if trace.run and trace.run != run else ""
            found.append(
                f"{trace.server} has worked for a later driver{whose} (epoch {trace.epoch}, the journal knows"
                f" {known_epoch})"
            )
        if trace.run == run:
            found += [
                f"{trace.server} has done {_told(receipt)}, which is not in the journal"
                for receipt in trace.receipts
                if not _in_journal(receipt, state)
            ]
    return tuple(finding for finding in found if finding not in {*state.accepted, *state.forgotten})


def outdated(state: RunState, now_s: float) -> tuple[str, ...]:
    """Say which approval is older than the time that there was to give it, while nothing was begun under it.

    No host tells of what was never begun: an aborted or expired run whose newest lines were taken away looks as
    if it had just been approved.
    """
    found = []
    for gate in state.gates:
        given_s = [approval.at_s for approval in state.approvals if approval.gate == gate.id]
        behind = state.steps[state.index_of(gate.before) :]
        begun = any(step.attempt or step.status is not StepStatus.TODO for step in behind)
        if not given_s or state.missing(gate) or begun or now_s < max(given_s) + gate.expires_after_s:
            continue
        when = datetime.fromtimestamp(max(given_s), UTC).strftime("%Y-%m-%d %H:%M")
        found.append(
            f"gate {gate.id} was approved on {when} UTC, and nothing was begun under that approval since: what came"
            " after it may be missing"
        )
    return tuple(finding for finding in found if finding not in {*state.accepted, *state.forgotten})


def _in_journal(receipt: str, state: RunState) -> bool:
    """Whether the start of an act is in the journal; a receipt is named STEP.ATTEMPT.DIRECTION."""
    step, attempt, direction = receipt.rsplit(".", 2)
    try:
        step_state = state.step_state(StepId(step))
    except KeyError:
        return False
    if direction == "undo":
        return step_state.status in _UNDO_KNOWN
    return step_state.attempt >= int(attempt) or step_state.status is StepStatus.NOT_NEEDED


def _told(receipt: str) -> str:
    step, attempt, direction = receipt.rsplit(".", 2)
    again = f" (attempt {attempt})" if attempt != "1" else ""
    return f"{'the undo of ' if direction == 'undo' else ''}{step}{again}"


class Leftover(msgspec.Struct, frozen=True):
    """What a run has left on the hosts that the store does not know, or cannot tell of."""

    run: RunId
    found: tuple[str, ...]
    """A sentence a server: how it stands, what was done there last."""
    unreadable: bool = False
    """Whether the store has a journal of it that cannot be read."""


def runs_seen(observation: ClusterObservation) -> tuple[RunId, ...]:
    """The runs that hosts name: as holding, fencing, overriding, or the last one that acted."""
    named = [
        RunId(run)
        for server in observation.servers
        if server.host is not None
        for run in (
            server.host.held_by,
            server.host.fenced_by,
            server.host.override_by,
            server.host.last_run,
        )
        if run
    ]
    return tuple(dict.fromkeys(named))


def leftovers(
    observation: ClusterObservation,
    *,
    unknown: Collection[RunId],
    unreadable: Collection[RunId] = (),
    store_epoch: int,
) -> tuple[Leftover, ...]:
    """Tell of the runs that the store does not know, or cannot tell of, where they still matter.

    A hold, a fence or an override matters for as long as it is there; what was merely done
    matters while the store has not given an epoch above that of the host.
    """
    found = []
    for run in (*unknown, *unreadable):
        lines = [
            line for server in observation.servers if (line := _left(server, run, store_epoch=store_epoch))
        ]
        if lines:
            found.append(Leftover(run, tuple(lines), unreadable=run in unreadable))
    return tuple(found)


def _left(server: ServerObservation, run: RunId, *, store_epoch: int) -> str:
    host = server.host
    if host is None:
        return ""
    marks = (
        ("held", host.held_by),
        ("fenced", host.fenced_by),
        ("under an override of bootstrap_expect", host.override_by),
    )
    bars = [word for word, by in marks if by == run]
    last = host.last_run == run
    if not bars and not (last and host.epoch > store_epoch):
        return ""
    stands = " and ".join(("running" if host.running else "stopped", *bars))
    done = [receipt for receipt in host.receipts if last]
    acts = f"; done there: {', '.join(_told(receipt) for receipt in done)}" if done else ""
    return f"{server.name} is {stands}{acts}"


def told(found: Sequence[Leftover]) -> tuple[str, ...]:
    """Say it in lines for people."""
    return tuple(
        f"Run {one.run} was under way on these servers, and {_UNREADABLE if one.unreadable else _UNKNOWN}."
        f" {'. '.join(one.found)}."
        for one in found
    )


_UNKNOWN = "Redis does not know it: Redis was emptied or restored, or another bot works here"
_UNREADABLE = "its journal cannot be read"
