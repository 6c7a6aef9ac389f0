"""A program that is told to end (kill, a closed terminal) takes away what it made, as after Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_to_end(main: Coroutine[Any, Any, T]) -> T:
    """Run it; SIGTERM and SIGHUP end it as Ctrl-C does, with KeyboardInterrupt once all is cleared away."""

    async def listening() -> T:
        task = asyncio.ensure_future(main)
        for number in (signal.SIGTERM, signal.SIGHUP):
            # Whoever started it with nohup wants it to outlive the terminal.
            if signal.getsignal(number) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await task

    try:
        return asyncio.run(listening())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
