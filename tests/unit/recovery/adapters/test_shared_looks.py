"""Looks that are asked for in the same moment: one call, and never an answer from before the question."""

import asyncio
import shlex
from dataclasses import dataclass, field

import pytest

from recovery.adapters.host_commands import Host, HostAccess
from recovery.errors import HostUnreachable
from recovery.model import HostView


@dataclass(frozen=True)
class Ended:
    stdout: bytes
    status: int = 0
    stderr: str = ""


@dataclass
class CountingRunner:
    """Answers the n-th call with n as the process, once it is let go."""

    calls: int = 0
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    silent: bool = False

    async def run(self, host: str, command: str, *, stdin: bytes, timeout_s: float, patient: bool) -> Ended:
        del command, stdin, timeout_s
        self.calls += 1
        number = self.calls
        await self.let_go.wait()
        if self.silent:
            raise HostUnreachable(f"{host}: silent")
        return Ended(f"main_pid {number}\n".encode())


def host_over(runner: CountingRunner) -> Host:
    return Host(runner, "198.51.100.11", HostAccess(user="recovery"))


async def test_those_who_ask_in_the_same_moment_share_one_look() -> None:
    """Ten checks of one step on one host cost one call."""
    runner = CountingRunner()
    runner.let_go.set()
    host = host_over(runner)
    views = await asyncio.gather(*(host.look() for _ in range(10)))
    assert runner.calls == 1
    assert {view.main_pid for view in views} == {1}


async def test_a_check_that_asks_several_hosts_shares_the_look_of_one_that_asks_one() -> None:
    """It asks in tasks of tasks, some turns of the loop later, and in the same moment all the same."""
    runner = CountingRunner()
    runner.let_go.set()
    host = host_over(runner)

    async def of_one_of_several() -> HostView:
        return await asyncio.create_task(host.look())

    async def of_several() -> HostView:
        (view,) = await asyncio.gather(of_one_of_several())
        return view

    one, another = await asyncio.gather(host.look(), of_several())
    assert another == one
    assert runner.calls == 1


async def test_a_look_that_has_begun_is_not_shared_with_a_later_question() -> None:
    """What the first call may have seen already is older than the second question."""
    runner = CountingRunner()
    host = host_over(runner)
    first = asyncio.create_task(host.look())
    while runner.calls == 0:
        await asyncio.sleep(0)
    second = asyncio.create_task(host.look())
    while runner.calls == 1:
        await asyncio.sleep(0)
    runner.let_go.set()
    assert [(await first).main_pid, (await second).main_pid] == [1, 2]


async def test_one_who_gives_up_does_not_take_the_look_from_the_others() -> None:
    """A cancelled check leaves the others their answer."""
    runner = CountingRunner()
    host = host_over(runner)
    leaver, stayer = asyncio.create_task(host.look()), asyncio.create_task(host.look())
    while runner.calls == 0:
        await asyncio.sleep(0)
    leaver.cancel()
    runner.let_go.set()
    assert (await stayer).main_pid == 1


async def test_a_silent_host_is_silent_to_all_who_asked() -> None:
    """The fault of the shared look reaches each of them."""
    runner = CountingRunner(silent=True)
    runner.let_go.set()
    host = host_over(runner)
    answers = await asyncio.gather(host.look(), host.look(), return_exceptions=True)
    assert [type(answer) for answer in answers] == [HostUnreachable, HostUnreachable]
    assert runner.calls == 1
    with pytest.raises(HostUnreachable):
        await host.look()
    assert runner.calls == 2


@dataclass
class VersionedRunner:
    """A host whose program is told with each look, and its version only to who does not know that program."""

    program: str = "8-1"
    version: str = "1.8.7"
    versions_told: int = 0

    async def run(self, host: str, command: str, *, stdin: bytes, timeout_s: float, patient: bool) -> Ended:
        del host, command, timeout_s, patient
        arguments = shlex.split(stdin.decode().splitlines()[0])
        if arguments[-1] == self.program:
            return Ended(f"program {self.program}\n".encode())
        self.versions_told += 1
        return Ended(f"program {self.program}\nversion {self.version}\n".encode())


async def test_a_program_is_asked_for_its_version_once() -> None:
    """Starting it is half of a look; a file that is another one is asked again."""
    runner = VersionedRunner()
    host = Host(runner, "198.51.100.11", HostAccess(user="recovery"))
    assert [(await host.look()).version for _ in range(3)] == ["1.8.7"] * 3
    assert runner.versions_told == 1
    runner.program, runner.version = "8-2", "1.9.0"
    assert [(await host.look()).version for _ in range(2)] == ["1.9.0"] * 2
    assert runner.versions_told == 2


async def test_a_version_that_was_not_told_is_asked_for_again() -> None:
    """A program that hung once is no program without a version."""
    runner = VersionedRunner(version="")
    host = Host(runner, "198.51.100.11", HostAccess(user="recovery"))
    assert (await host.look()).version == ""
    runner.version = "1.8.7"
    assert (await host.look()).version == "1.8.7"
