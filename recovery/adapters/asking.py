"""Ask several servers at once; a sentence stands for one that did not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from recovery.adapters.collect import Probe
from recovery.adapters.consul_api import AgentSilent
from recovery.errors import RecoveryError
from recovery.model import AgentView, HostView, ServerName

T = TypeVar("T")

_STRAGGLERS_S: Final = 1.0
"""How long those that are slower than the leader are waited for; a host that is gone takes 3 to 5 s to tell."""


def ask(question: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Begin to ask. Should whoever asked be gone before the answer, nobody is left to hear of its fault."""
    task = asyncio.create_task(question)
    task.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
    return task


async def all_answers(
    names: Iterable[ServerName], asked: Mapping[ServerName, asyncio.Task[T]]
) -> dict[ServerName, T | str]:
    """Wait for all that were asked; a sentence stands for the one that could not be asked."""
    found: dict[ServerName, T | str] = {}
    for name in names:
        try:
            found[name] = await asked[name]
        except (RecoveryError, AgentSilent) as fault:
            found[name] = str(fault)
    return found


async def pulses(
    probe: Probe, names: Sequence[ServerName], *, numbers: bool = True
) -> dict[ServerName, AgentView | str]:
    """Ask several agents at once what they answer at once; a sentence stands for one that is silent."""
    return await all_answers(names, {name: ask(probe.pulse(name, numbers=numbers)) for name in names})


async def pulses_until_led(
    probe: Probe, names: Sequence[ServerName], needed: ServerName
) -> dict[ServerName, AgentView | str]:
    """Ask all, but once a leader and `needed` have answered, leave those that are much slower out as silent.

    Without a leader all are waited for: then it may be the slowest one that leads.
    """
    asked = {name: ask(probe.pulse(name, numbers=False)) for name in names}

    def led() -> bool:
        ended = [task.result() for task in asked.values() if task.done() and task.exception() is None]
        return asked[needed].done() and any(view.names_itself_leader for view in ended)

    try:
        waiting = set(asked.values())
        while waiting and not led():
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if waiting:
            await asyncio.wait(waiting, timeout=_STRAGGLERS_S)
        late = {
            name: f"no answer {_STRAGGLERS_S:g} s after the leader's"
            for name in names
            if not asked[name].done()
        }
        return await all_answers([name for name in names if name not in late], asked) | late
    finally:
        for task in asked.values():
            task.cancel()


async def first_pulses(
    probe: Probe, names: Sequence[ServerName]
) -> AsyncGenerator[tuple[ServerName, AgentView], None]:
    """Ask all at once, and give what they answer as it comes in; those that are silent are passed by."""

    async def named(name: ServerName) -> tuple[ServerName, AgentView | str]:
        try:
            return name, await probe.pulse(name, numbers=False)
        except (RecoveryError, AgentSilent) as fault:
            return name, str(fault)

    asked = [asyncio.create_task(named(name)) for name in names]
    try:
        for next_one in asyncio.as_completed(asked):
            name, view = await next_one
            if isinstance(view, AgentView):
                yield name, view
    finally:
        for task in asked:
            task.cancel()


async def looks(probe: Probe, names: Sequence[ServerName]) -> dict[ServerName, HostView | str]:
    """Look at several hosts at once; a sentence stands for one that cannot be reached."""
    return await all_answers(names, {name: ask(probe.hosts[name].look()) for name in names})


def views_of(found: Mapping[ServerName, AgentView | str]) -> dict[ServerName, AgentView]:
    """Keep those that answered."""
    return {name: view for name, view in found.items() if isinstance(view, AgentView)}


def leaders_of(found: Mapping[ServerName, AgentView | str]) -> tuple[ServerName, ...]:
    """Name those that name themselves leader."""
    return tuple(name for name, view in views_of(found).items() if view.names_itself_leader)
