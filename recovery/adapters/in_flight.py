"""Who is using a client's connections now, so that closing it is the end of them.

A question that several share is shielded from those who asked, and so outlives them (shared_question). Should it
come to a client that is closed already, that would connect anew, and nobody would be left to close it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

_AGAIN_S: Final = 0.5


class InFlight:
    """The calls under way; after ``end`` there are none, and no more are let in."""

    def __init__(self) -> None:
        self._inside: Counter[asyncio.Task[Any]] = Counter()
        self._ended = False
        self._left = asyncio.Event()

    @contextmanager
    def call(self, refusal: Callable[[], Exception]) -> Iterator[None]:
        """Make a call of this task; raises what ``refusal`` gives once the client is closed."""
        if self._ended:
            raise refusal()
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._inside[task] += 1
        try:
            yield
        finally:
            self._inside[task] -= 1
            if not self._inside[task]:
                del self._inside[task]
            self._left.set()

    async def end(self) -> None:
        """Let nobody in any more, and cut off who is inside; back when they are out."""
        self._ended = True
        while others := [task for task in self._inside if task is not asyncio.current_task()]:
            self._left.clear()
            for task in others:
                # Again and again: before Python 3.12 asyncio.wait_for can lose a cancellation (see end_tasks).
                task.cancel()
            try:
                async with asyncio.timeout(_AGAIN_S):
                    await self._left.wait()
            except TimeoutError:
                continue
