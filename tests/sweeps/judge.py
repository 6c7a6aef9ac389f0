"""What must be true of every play, judged from outside: the hosts on one side, the journal on the other."""

from __future__ import annotations

from collections import Counter

from recovery.journal import (
    AwaitPerson,
    Outcome,
    RunState,
    StepStatus,
    decide,
    down,
    left_behind,
    only_stopped,
    why_down,
)
from recovery.model import RunId
from recovery.plan import FenceAgent, HoldAgent, OverrideExpect, StartAgent, Step, StopAgent, WritePeers
from tests.builders.runs import CLUSTER
from tests.fakes.fake_world import FakeServer
from tests.sweeps.stage import Effects, Stage
from tests.sweeps.virtual_time import VirtualClock


def judge(
    stage: Stage, state: RunState, *, effects: Effects | None = None, still_led: bool = True
) -> list[str]:
    """Say what is wrong.

    ``effects`` are those of the undisturbed play, where nothing else may have happened; without ``still_led``
    somebody may have stopped agents after the last look of a run that recovered.
    """
    problems = list(dict.fromkeys(stage.problems))
    problems += _twice(stage)
    if effects is not None and stage.effects != effects:
        more, fewer = stage.effects - effects, effects - stage.effects
        problems.append(f"not the acts of the plan: {_told(more)} too much, {_told(fewer)} too little")
    match state.outcome:
        case None:
            problems += _waits_clearly(state)
        case Outcome.RECOVERED:
            problems += led_with_all_data(stage) if still_led else unspoilt(stage)
        case Outcome.EXPIRED:
            problems += _expired(stage, state)
        case _:
            pass
    problems += _forwards(stage, state)
    problems += _left(stage, state)
    return problems


def judge_world(stage: Stage) -> list[str]:
    """Say what is wrong with the hosts alone, where no journal tells of them any more."""
    return [*dict.fromkeys(stage.problems), *_twice(stage), *led_with_all_data(stage)]


def _expired(stage: Stage, state: RunState) -> list[str]:
    """Who was only stopped runs again, or is named with the reason; nobody else was started, no blank one ever."""
    problems = []
    named = set(down(state))
    started = {
        key.step for action, key in stage.acts if key.direction == "undo" and isinstance(action, StartAgent)
    }
    for step, at in zip(state.plan.steps, state.steps, strict=True):
        if not isinstance(step.action, StopAgent):
            continue
        server = stage.world.agents[step.action.server]
        if step.id in started and server.last is None:
            problems.append(f"{server.name} has no data and was started again")
        if step.id in started and server.name not in stage.ran:
            problems.append(f"{server.name} was stopped before the run, and was started")
        if step in only_stopped(state) and not why_down(state, step):
            problems.append(f"{server.name} was only stopped, and nothing says why it is not started again")
        if step in only_stopped(state) and server.name not in named and not server.running:
            problems.append(f"{server.name} is stopped, and is not named as down")
        if at.status is StepStatus.UNDONE and not server.running and server.name in stage.ran:
            problems.append(f"{server.name} is said to run again, and is stopped")
    return problems


def _told(effects: Effects) -> str:
    return ", ".join(f"{count} {act} on {server}" for (act, server), count in effects.items()) or "nothing"


def _twice(stage: Stage) -> list[str]:
    tries = Counter((key.run, key.step, key.direction, key.attempt) for _, key in stage.acts)
    problems = [f"{' '.join(map(str, key))} took effect {n} times" for key, n in tries.items() if n > 1]
    done = Counter((key.run, key.step, key.direction) for _, key in stage.acts)
    problems += [
        f"{' '.join(key)} took effect {n} times, asked for again {stage.retries} times"
        for key, n in done.items()
        if n > 1 + stage.retries
    ]
    return problems


def _forwards(stage: Stage, state: RunState) -> list[str]:
    """What was done last is taken back first: a hold stays until what it kept away is gone."""
    order = {step.id: place for place, step in enumerate(state.plan.steps)}
    undone = dict.fromkeys(key.step for _, key in stage.acts if key.direction == "undo")
    places = [order[step] for step in undone if step in order]
    if places == sorted(places, reverse=True):
        return []
    return [f"taken back in the order {', '.join(undone)}"]


def _waits_clearly(state: RunState) -> list[str]:
    waits = decide(state, VirtualClock().now_s())
    if not isinstance(waits, AwaitPerson):
        return [f"it stands still without asking anybody: {waits}"]
    step = state.waiting_step
    if step is not None and not state.step_state(step.id).detail:
        return [f"it waits at {step.id} without saying why"]
    return []


def led_with_all_data(stage: Stage) -> list[str]:
    """Say what keeps the cluster from being whole again."""
    leaders = stage.world.leading()
    problems = [] if len(leaders) == 1 else [f"{len(leaders)} leaders in the end"]
    return problems + unspoilt(stage)


def unspoilt(stage: Stage) -> list[str]:
    """Say what a recovered cluster lacks, whether or not somebody has stopped its agents since."""
    problems = []
    for server in stage.world.servers.values():
        if stage.had_keys and server.running and "last" not in server.keys:
            problems.append(f"the last acknowledged key is not on {server.name}")
        if server.held_by and server.reachable:
            problems.append(f"in the end {server.name} is still held by {server.held_by}")
    return problems


def _left(stage: Stage, state: RunState) -> list[str]:
    """What a host shows and the journal does not say."""
    problems: list[str] = []
    # What an earlier run left was said by that one.
    steps = [step for told in stage.store.all_folded(CLUSTER) for step in left_behind(told)]
    for server in stage.world.servers.values():
        if ("given a peers.json", WritePeers) in _shown(stage, server) and state.outcome is not None:
            problems.append(f"the run ended, and an unread peers.json lies on {server.name}")
        ours = any(isinstance(act, OverrideExpect) and act.server == server.name for act, _ in stage.acts)
        if ours and server.override_by and server.reachable and state.outcome is not None:
            problems.append(f"the run ended, and bootstrap_expect is still overridden on {server.name}")
    problems += [
        f"{agent.name} is {what}, and the journal does not say so"
        for agent in stage.world.agents.values()
        for what, kind in _shown(stage, agent)
        if not _said(steps, kind, agent)
    ]
    return problems


def _shown(stage: Stage, server: FakeServer) -> list[tuple[str, type]]:
    by_us = {(type(action), getattr(action, "server", "")) for action, _ in stage.acts}
    shown: list[tuple[str, type]] = []
    if server.held_by and stage.store.knows(CLUSTER, RunId(server.held_by)):
        shown.append(("held", HoldAgent))
    if server.fenced_by and (FenceAgent, server.name) in by_us:
        shown.append(("fenced", FenceAgent))
    if server.peers_json is not None and (WritePeers, server.name) in by_us:
        shown.append(("given a peers.json", WritePeers))
    if not server.running and server.name in stage.ran and (StopAgent, server.name) in by_us:
        shown.append(("stopped", StopAgent))
    if server.running and server.name not in stage.ran and (StartAgent, server.name) in by_us:
        shown.append(("started", StartAgent))
    return shown


def _said(steps: list[Step], kind: type, server: FakeServer) -> bool:
    return any(isinstance(step.action, kind) and server.name in step.targets for step in steps)
