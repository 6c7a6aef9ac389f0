"""SSH cut in the middle of a command: while it waits for the host's lock, is at work, or is about to answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from lab.host import Host
from recovery.journal import Event, RunState, StepStarted, StepVerified
from tests.integration.replicas import Play, Replicas, Strike

_ONE_WAITS_FOR_THE_LOCK = "until pgrep --full --exact 'flock -w 20 9' >/dev/null; do sleep 0.02; done"
_KILL_SESSIONS = "pids=$(pgrep --full 'ssh[d]: recovery@notty'); kill -9 $pids && echo $pids"

# It stands before the real program in host.sh's PATH.
_TRAP = """#!/bin/sh
/usr/bin/{program} "$@"
status=$?
if {when}; then
    echo called >>/run/trap-{program}.calls
    if mkdir /run/trap-{program} 2>/dev/null; then
        until [ -e /run/trap-{program}/open ]; do sleep 0.02; done
    fi
fi
exit $status
"""


@dataclass(frozen=True, slots=True)
class Trap:
    """A program of a host that stands still once, when it has done its work and this shell condition holds."""

    host: Host
    program: str
    when: str

    async def lay(self) -> None:
        """From now on."""
        path = f"/usr/local/bin/{self.program}"
        text = _TRAP.format(program=self.program, when=self.when)
        await self.host.run(f"cat >{path} && chmod 755 {path}", stdin=text)

    async def sprung(self) -> None:
        """Wait until it stands still."""
        await self.host.run(f"until [ -d /run/trap-{self.program} ]; do sleep 0.02; done", timeout_s=30)

    async def open(self) -> None:
        """Let it go on."""
        await self.host.run(f"touch /run/trap-{self.program}/open")

    async def calls(self) -> int:
        """How often the program was called under that condition."""
        return (await self.host.run(f"cat /run/trap-{self.program}.calls")).count("called")


def cut_waiting(host: Host, *, after: str, within: str) -> Strike:
    """Kill the host's SSH sessions while the step's command waits for the host's lock, which we hold for it."""
    holder: list[asyncio.subprocess.Process] = []
    cut: list[str] = []

    async def strike(play: Play, events: tuple[Event, ...], state: RunState) -> None:
        del play, state
        for event in events:
            if isinstance(event, StepVerified) and event.step == after and not holder:
                command = host.enter_command("flock", "/var/lib/consul-recovery/lock", "sleep", "60")
                holder.append(await asyncio.create_subprocess_exec(*command))
            if isinstance(event, StepStarted) and event.step == within and not cut:
                await host.run(_ONE_WAITS_FOR_THE_LOCK, timeout_s=15)
                cut.append(await host.run(_KILL_SESSIONS))
                await host.run("kill $(pgrep --full --exact 'sleep 60')")
                await holder[0].wait()

    return strike


def cut_in_trap(trap: Trap, *, within: str, until_asked_again: bool = False) -> Strike:
    """Kill the host's SSH sessions while the step's command stands in the trap.

    It goes on at once, or only when the same command waits behind it for the host's lock.
    """
    cut: list[str] = []

    async def strike(play: Play, events: tuple[Event, ...], state: RunState) -> None:
        del play, state
        for event in events:
            if isinstance(event, StepStarted) and event.step == within and not cut:
                await trap.sprung()
                cut.append(await trap.host.run(_KILL_SESSIONS))
                if until_asked_again:
                    await trap.host.run(_ONE_WAITS_FOR_THE_LOCK, timeout_s=15)
                await trap.open()

    return strike


def cut_off(bots: Replicas) -> set[str]:
    """The steps whose command was cut off, by the words of the processes that had sent it."""
    lines = [json.loads(line) for line in bots.fleet.logs().splitlines() if line.startswith("{")]
    told = [line for line in lines if line.get("event") == "an act was cut off, the host is asked"]
    return {line["step"] for line in told}
