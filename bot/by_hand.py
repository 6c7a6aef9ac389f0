"""The rest of a plan as shell commands, for a person who goes on without the bot. Pure.

They do what ``host.sh`` does (recovery/adapters/host.sh), without its
receipts and its epoch. A stop must not be a leave: the agent is killed while
it is held, because a graceful stop can change the peer set.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from typing import assert_never

from recovery.journal import RunState, StepStatus, left_behind, not_done
from recovery.plan import (
    Action,
    ArchiveState,
    CannotUndo,
    FenceAgent,
    HoldAgent,
    JoinGossip,
    LiftFence,
    Observe,
    OverrideExpect,
    ReleaseHold,
    RemoveOverride,
    RemovePeers,
    SaveSnapshot,
    StartAgent,
    Step,
    StopAgent,
    Undo,
    WipeRaft,
    WritePeers,
)

_STATE = "/var/lib/consul-recovery"
_HOLD = "zz-consul-recovery-hold.conf"
_FENCE = "zz-consul-recovery-fence.conf"
_OVERRIDE = "zz-consul-recovery.json"
_EXPECT = "zz-consul-recovery-expect.conf"


def remaining(state: RunState, *, unit: str) -> tuple[str, ...]:
    """What the run would still have done: a comment with the step, then its commands.

    Nothing where going on would be wrong: the plan does not fit any more, there were two leaders, what was
    stopped runs again, or something was seen that makes its start no longer harmless.
    """
    steps = not_done(state)
    started_again = any(
        isinstance(step.action, StopAgent) and at.status is StepStatus.UNDONE
        for step, at in zip(state.plan.steps, state.steps, strict=True)
    )
    if not steps or state.void or state.two_leaders or state.rogue or state.left_down or started_again:
        return ()
    return (
        "# as root on the named server; DATA is the agent's data_dir, CONFIG_DIR its configuration directory",
        *(line for step in steps for line in _remaining(step, state.step_state(step.id).status, unit)),
    )


def _remaining(step: Step, status: StepStatus, unit: str) -> Iterable[str]:
    if status in {StepStatus.DOING, StepStatus.IN_DOUBT}:
        yield "# the next one may have happened already: look first"
    yield from _commands(step, step.action, unit)


def left_lines(state: RunState) -> tuple[str, ...]:
    """What the run leaves on each server it changed, a line a server."""
    left: dict[str, list[str]] = {}
    behind = left_behind(state)
    for step, step_state in zip(state.plan.steps, state.steps, strict=True):
        status = step_state.status
        for server in step.targets:
            words = left.setdefault(server, [])
            if step not in behind:
                if isinstance(step.action, StartAgent) and status is StepStatus.UNDONE:
                    # Stopped again, but not held again: the start has taken the hold off.
                    words[:] = [word for word in words if word != _LEFT[HoldAgent]]
                continue
            if isinstance(step.action, StartAgent):
                # A start takes the hold off, and the agent reads what was written for it.
                words[:] = [word for word in words if word in _STAYS]
            if isinstance(step.action, StopAgent) and status is StepStatus.DONE:
                words[:] = [word for word in words if word != _LEFT[StartAgent]]
            if isinstance(step.action, RemoveOverride) and _LEFT[OverrideExpect] in words:
                words.remove(_LEFT[OverrideExpect])
            word = _LEFT.get(type(step.action), step.title)
            words.append(
                word if status is StepStatus.DONE else f"{word}: {_UNPROVEN.get(status, status.upper())}"
            )
    for server in state.held_again:
        if _LEFT[HoldAgent] not in left.setdefault(server, []):
            left[server].insert(0, _LEFT[HoldAgent])
    return tuple(f"{server}: {', '.join(words)}" for server, words in left.items() if words)


_LEFT: dict[type[Action], str] = {
    HoldAgent: "held (nothing starts it, not even a reboot)",
    StopAgent: "stopped",
    StartAgent: "started",
    FenceAgent: "fenced (stopped, disabled, barred from starting)",
    LiftFence: "its fence lifted",
    WipeRaft: "its raft directory EMPTIED (what was there is in the archive)",
    ArchiveState: "an archive of its state, kept until somebody deletes it",
    SaveSnapshot: "a stale snapshot beside its archive",
    WritePeers: "an UNREAD peers.json: whoever starts the agent recovers with it",
    OverrideExpect: "bootstrap_expect OVERRIDDEN: a start takes it",
    RemoveOverride: "no override of bootstrap_expect",
    JoinGossip: "joined",
}
_UNPROVEN = dict.fromkeys(
    (StepStatus.TODO, StepStatus.BLOCKED, StepStatus.NOT_NEEDED), "TRIED, NOT PROVEN"
) | {StepStatus.UNDOING: "IN DOUBT"}
"""What a retry stands at that came to nothing; the first try may have done it."""
_STAYS = frozenset({_LEFT[ArchiveState], _LEFT[SaveSnapshot], _LEFT[OverrideExpect], _LEFT[RemoveOverride]})


def undoing(state: RunState, *, unit: str) -> tuple[str, ...]:
    """How to take back by hand what was done and can be taken back, last first."""
    behind = left_behind(state)
    # Once a server may have started with the new peer set, starting the others with the old one makes two clusters.
    # And what was harmless to start when the run expired was started: the rest is for a new plan.
    if state.expired or any(isinstance(step.rollback, CannotUndo) for step in behind):
        return ()
    lines: list[str] = []
    for step in reversed(behind):
        if isinstance(step.rollback, Undo):
            lines += _commands(step, step.rollback.action, unit)
    return tuple(lines)


def taking_back(step: Step, *, unit: str) -> tuple[str, ...]:
    """How to take one step back by hand; nothing where there is no way back."""
    return commands(step.rollback.action, unit=unit) if isinstance(step.rollback, Undo) else ()


def _commands(step: Step, action: Action, unit: str) -> Iterable[str]:
    yield f"# {step.title}" if action is step.action else f"# take back: {step.title}"
    yield from commands(action, unit=unit)


def commands(action: Action, *, unit: str) -> tuple[str, ...]:
    """One action as shell commands."""
    unit = unit if unit.endswith(".service") else f"{unit}.service"
    drop_ins = f"/etc/systemd/system/{unit}.d"
    match action:
        case SaveSnapshot(server=server):
            return (f"{server}: consul snapshot save -stale /root/{server}-stale.snap",)
        case HoldAgent(server=server):
            return _bar(server, unit, f"{_STATE}/hold", f"{drop_ins}/{_HOLD}")
        case ReleaseHold(server=server):
            return (_release(server, f"{_STATE}/hold", f"{drop_ins}/{_HOLD}"),)
        case StopAgent(server=server):
            return (f"{server}: systemctl kill -s KILL {unit}; systemctl stop {unit}",)
        case StartAgent(server=server):
            return (
                _release(server, f"{_STATE}/hold", f"{drop_ins}/{_HOLD}"),
                f"{server}: systemctl start --no-block {unit}",
            )
        case ArchiveState(server=server):
            return (f"{server}: tar -C $DATA -cf /root/{server}-state.tar raft serf node-id",)
        case FenceAgent(server=server):
            return (
                *_bar(server, unit, f"{_STATE}/fenced", f"{drop_ins}/{_FENCE}"),
                f"{server}: systemctl disable {unit}; systemctl kill -s KILL {unit}; systemctl stop {unit}",
            )
        case LiftFence(server=server):
            return (
                _release(server, f"{_STATE}/fenced", f"{drop_ins}/{_FENCE}"),
                f"{server}: systemctl enable {unit}",
            )
        case WipeRaft(server=server):
            return (f"{server}: find $DATA/raft -mindepth 1 -delete",)
        case WritePeers(server=server, peers=peers, raft_protocol=protocol):
            content = (
                [{"id": peer.id, "address": peer.address, "non_voter": not peer.voter} for peer in peers]
                if protocol >= 3
                else [peer.address for peer in peers]
            )
            return (
                f"{server}: printf %s {shlex.quote(json.dumps(content))} > $DATA/raft/peers.json",
                # Below 0.7 (protocol 0) peers.json is the live file: an upgrade would take the pair for an order.
                *((f"{server}: touch $DATA/raft/peers.info",) if protocol else ()),
                f"{server}: chown --reference=$DATA/raft $DATA/raft/peers.*",
            )
        case RemovePeers(server=server):
            return (f"{server}: rm -f $DATA/raft/peers.json",)
        case OverrideExpect(server=server, expect=expect):
            return (
                f"{server}: mkdir -p {_STATE}; echo by-hand {expect} $CONFIG_DIR/{_OVERRIDE} > {_STATE}/override",
                f"{server}: echo '{{\"bootstrap_expect\": {expect}}}' > $CONFIG_DIR/{_OVERRIDE}",
                f"{server}: chmod 0644 $CONFIG_DIR/{_OVERRIDE}",
            )
        case RemoveOverride(server=server):
            files = f"$CONFIG_DIR/{_OVERRIDE} {drop_ins}/{_EXPECT} {_STATE}/override"
            return (f"{server}: rm -f {files}; systemctl daemon-reload",)
        case JoinGossip(server=server, addresses=addresses):
            return (f"{server}: consul join {' '.join(shlex.quote(address) for address in addresses)}",)
        case Observe():
            return ("any server: consul operator raft list-peers",)
        case _:
            assert_never(action)


def _bar(server: str, unit: str, mark: str, drop_in: str) -> tuple[str, ...]:
    return (
        f"{server}: mkdir -p {_STATE} /etc/systemd/system/{unit}.d; echo by-hand yes > {mark}",
        f"{server}: printf '[Unit]\\nConditionPathExists=!{mark}\\n' > {drop_in}; systemctl daemon-reload",
    )


def _release(server: str, mark: str, drop_in: str) -> str:
    return f"{server}: rm -f {mark} {drop_in}; systemctl daemon-reload"
