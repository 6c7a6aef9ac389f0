"""One question for all who ask it in the same moment; never an answer from before the question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_TURNS: Final = 3
"""Turns of the event loop that are one moment: a check that asks several servers does it in tasks of tasks.

Too few only cost a call of their own; no number makes an answer older than its question.
"""


class SharedQuestion(Generic[T]):
    """Whoever asks before the question was sent gets the same answer, or the same fault.

    Ten checks of one step then cost one call. Who asks later asks about a later moment, and anew.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._asked: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """Ask, together with all who do so now."""
        if self._asked is None:
            self._asked = asyncio.create_task(self._begin())
            # Should all who asked be gone before it ends, nobody is left to hear of its fault.
            self._asked.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        # Shielded: one caller that gives up must not take the answer from the others.
        return await asyncio.shield(self._asked)

    async def _begin(self) -> T:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        self._asked = None
        return await self._ask()
