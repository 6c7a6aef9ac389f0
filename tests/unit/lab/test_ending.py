"""The demo that is told to end leaves nothing behind."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, signal, sys
from lab.demo.ending import run_to_end

async def main():
    try:
        print("made", flush=True)
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        print("taken away", flush=True)

# As from a terminal, whatever the tests were started from.
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
try:
    run_to_end(main())
except KeyboardInterrupt:
    sys.exit(0)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_whatever_ends_it_takes_away_what_was_made(number: signal.Signals) -> None:
    """Ctrl-C, kill, and a terminal that is closed are alike."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "made\n"
        program.send_signal(number)
        assert program.communicate(timeout=30)[0] == "taken away\n"
        assert program.returncode == 0
