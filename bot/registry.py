"""The tasks that go on after Slack was answered: references kept, faults caught, drained at the end.

asyncio keeps only weak references to tasks, and bolt keeps none: a task that
nobody holds can vanish in the middle (docs.python.org, asyncio.create_task).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger()


class TaskRegistry:
    """Holds every task until it is done."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run this on its own; a fault is logged, never lost."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

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
