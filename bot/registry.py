"""The tasks that go on after Slack was answered: bounded, references kept, faults caught, drained at the end.

asyncio keeps only weak references to tasks, and bolt keeps none: a task that
nobody holds can vanish in the middle (docs.python.org, asyncio.create_task).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import structlog

MOST = 100
"""Requests under way at once, whoever asked. Each may wait for hosts, but none holds what a driver needs."""
MOST_OF_ONE = 10
"""Of one person: nobody fills all places alone."""
MOST_REFUSALS = 10
"""Answers under way to those for whom there was no place; more clicks than that need no more answers."""

log = structlog.get_logger()


class TaskRegistry:
    """Holds every task until it is done."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._of: Counter[str] = Counter()
        self._refusals = 0

    def full(self, who: str) -> str:
        """Why there is no place for one more request of this person; "" where there is."""
        if self._of[who] >= MOST_OF_ONE:
            return (
                f"{MOST_OF_ONE} of your requests are still under way, so this one was not taken: nothing was done. "
                "Wait until they are answered, then ask again."
            )
        if self._of.total() >= MOST:
            return (
                f"{MOST} requests are under way, so this one was not taken: nothing was done. Ask again in a moment; "
                "in a hurry, use the terminal (`consul-recovery`)."
            )
        return ""

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str, who: str = "") -> None:
        """Run this on its own; a fault is logged, never lost. Ask `full` before."""
        self._of[who] += 1
        self._hold(work, name=name).add_done_callback(lambda _: self._left(who))

    def refuse(self, answer: Coroutine[Any, Any, None], *, name: str) -> None:
        """Answer somebody for whom there was no place; unsaid where such answers are many already."""
        if self._refusals >= MOST_REFUSALS:
            answer.close()
            return
        self._refusals += 1
        self._hold(answer, name=name).add_done_callback(self._refused)

    def _hold(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _left(self, who: str) -> None:
        self._of[who] -= 1
        if not self._of[who]:
            del self._of[who]

    def _refused(self, _task: asyncio.Task[None]) -> None:
        self._refusals -= 1

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task failed", task=task.get_name(), exc_info=error)

    @property
    def count(self) -> int:
        """How many are under way."""
        return len(self._tasks)

    async def drain(self, *, timeout_s: float) -> None:
        """Wait for what is under way, then cancel what is left."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_s)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
