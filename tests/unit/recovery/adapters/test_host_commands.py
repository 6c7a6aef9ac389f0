"""How a call of host.sh is written, and what its endings mean."""

import asyncio
import contextlib
import hashlib
import shlex
import subprocess
from dataclasses import dataclass, field

import pytest

from recovery.adapters.consul_api import AgentAccess, Secret
from recovery.adapters.host_commands import Archive, Host, HostAccess, parse_lines, parse_look, script
from recovery.errors import HostRefused, HostUnreachable, InDoubt
from recovery.model import RunId
from recovery.plan import StepId
from recovery.ports import ActKey

KEY = ActKey(RunId("r1"), StepId("stop-s1"), 2, "do", "bot@host:1", 7)


@dataclass(frozen=True)
class Ended:
    status: int
    stdout: bytes = b""
    stderr: str = ""


@dataclass
class FakeRunner:
    ended: Ended | Exception
    commands: list[str] = field(default_factory=list)
    stdin: bytes = b""

    async def run(self, host: str, command: str, *, stdin: bytes, timeout_s: float, patient: bool) -> Ended:
        self.commands.append(command)
        self.stdin = stdin
        if isinstance(self.ended, Exception):
            raise self.ended
        return self.ended


@dataclass
class GatedRunner:
    """Answers a verb once its gate is open."""

    answers: dict[str, bytes]
    gates: dict[str, asyncio.Event] = field(init=False)

    def __post_init__(self) -> None:
        self.gates = {verb: asyncio.Event() for verb in self.answers}

    async def run(self, host: str, command: str, *, stdin: bytes, timeout_s: float, patient: bool) -> Ended:
        del host, command, timeout_s, patient
        verb = shlex.split(stdin.decode().splitlines()[0])[2]
        await self.gates[verb].wait()
        return Ended(0, self.answers[verb])


def host_with(
    ended: Ended | Exception, *, user: str = "recovery", installed: bool = False
) -> tuple[Host, FakeRunner]:
    runner = FakeRunner(ended)
    return Host(runner, "10.0.0.1", HostAccess(user=user, installed=installed)), runner


async def test_streamed_arguments_and_payload_stand_in_stdin_only() -> None:
    """Nothing of a call shows in the remote command line."""
    host, runner = host_with(Ended(0, b"evidence done\n"))
    assert await host.act("snapshot", KEY, "http://127.0.0.1:8500", payload="se'cret", timeout_s=5) == "done"
    assert runner.commands == ["sudo -n /bin/sh -s"]
    head = runner.stdin.split(b"\n#!/bin/sh", 1)[0].decode()
    assert "set -- snapshot consul.service r1 stop-s1 2 do bot@host:1 7 http://127.0.0.1:8500" in head
    assert "PAYLOAD='se'\"'\"'cret'" in head
    assert runner.stdin.endswith(script())


async def test_installed_only_the_payload_stands_in_stdin() -> None:
    """The installed program gets its arguments as arguments, and what may be secret on stdin."""
    host, runner = host_with(Ended(0, b"evidence done\n"), installed=True)
    await host.act("snapshot", KEY, payload="secret", timeout_s=5)
    (command,) = runner.commands
    sha256 = hashlib.sha256(script()).hexdigest()
    assert command.startswith(
        f"sudo -n /usr/local/sbin/consul-recovery-host {sha256} snapshot consul.service r1 "
    )
    assert "secret" not in command
    assert runner.stdin == b"secret"


async def test_root_needs_no_sudo() -> None:
    """Hosts without sudo are reached as root."""
    host, runner = host_with(Ended(0), user="root")
    await host.look()
    assert runner.commands == ["/bin/sh -s"]


async def test_a_receipt_that_was_there_is_told() -> None:
    """A try that the host has done before is not told as if it was done now."""
    host, _ = host_with(Ended(0, b"skipped yes\nevidence stopped\n"))
    assert await host.act("stop", KEY, timeout_s=5) == "done before: stopped"


KNOWN = b"active_state active\nprogram 8-1\nversion 0.6.4\n"
HELD = b"evidence held\nlooked yes\nactive_state inactive\nprogram 8-1\nheld_by r1\nlast_run r1\n"


async def held(host: Host, runner: FakeRunner) -> None:
    """Look once, so that the program's version is known, and hold the agent."""
    runner.ended = Ended(0, KNOWN)
    await host.look()
    runner.ended = Ended(0, HELD)
    await host.act("hold", KEY, timeout_s=5)


async def test_a_look_right_after_an_act_is_the_one_that_ended_it() -> None:
    """The proof of an act, and what the next step asks first, cost no call."""
    host, runner = host_with(Ended(0))
    await held(host, runner)
    calls = len(runner.commands)
    view = await host.look()
    assert (view.held_by, view.active_state, view.version) == ("r1", "inactive", "0.6.4")
    assert len(runner.commands) == calls


async def test_a_look_is_asked_for_again_once_the_one_of_the_act_is_old() -> None:
    """What is waited for is looked at anew."""
    clock_s = [0.0]
    runner = FakeRunner(Ended(0))
    host = Host(runner, "10.0.0.1", HostAccess(user="recovery"), monotonic_s=lambda: clock_s[0])
    await held(host, runner)
    runner.ended = Ended(0, b"program 8-1\nheld_by nobody\n")
    clock_s[0] = 0.49
    assert (await host.look()).held_by == "r1"
    clock_s[0] = 0.51
    assert (await host.look()).held_by == "nobody"


async def test_the_look_of_an_act_counts_only_with_a_program_that_is_known() -> None:
    """It does not tell the version, and a view without one would choose the wrong procedure."""
    host, runner = host_with(Ended(0, HELD))
    await host.act("hold", KEY, timeout_s=5)
    runner.ended = Ended(0, KNOWN)
    assert (await host.look()).version == "0.6.4"


@pytest.mark.parametrize("ended", [Ended(0, b"evidence start asked for\n"), Ended(70), Ended(65)])
async def test_a_look_of_an_act_does_not_outlive_the_next_act(ended: Ended) -> None:
    """Whatever became of that one, the host is another one now."""
    host, runner = host_with(Ended(0))
    await held(host, runner)
    runner.ended = ended
    with contextlib.suppress(HostRefused, InDoubt):
        await host.act("start", KEY, timeout_s=5)
    runner.ended = Ended(0, b"program 8-1\nactive_state activating\n")
    assert (await host.look()).active_state == "activating"


@pytest.mark.parametrize("first", ["hold", "start"])
async def test_the_look_of_an_act_is_not_kept_where_another_one_was_under_way(first: str) -> None:
    """Whichever answer comes first, nobody knows which act was the later one on the host."""
    runner = GatedRunner({"look": KNOWN, "hold": HELD, "start": b"evidence start asked for\n"})
    host = Host(runner, "10.0.0.1", HostAccess(user="recovery"))
    runner.gates["look"].set()
    await host.look()
    acts = [asyncio.create_task(host.act(verb, KEY, timeout_s=5)) for verb in ("hold", "start")]
    for verb, act in sorted(zip(("hold", "start"), acts, strict=True), key=lambda each: each[0] != first):
        runner.gates[verb].set()
        await act
    assert (await host.look()).held_by == ""


ARCHIVED = (
    b"evidence /a/state.tar, 5 bytes\narchive good\npath /a/state.tar\nbytes 5\nsha256 50d8\n"
    b"looked yes\nprogram 8-1\nlast_run r1\narchived yes\n"
)


async def test_an_archive_is_not_asked_for_right_after_it_was_made() -> None:
    """The act has just read it back; another run's is asked for."""
    host, runner = host_with(Ended(0))
    await held(host, runner)
    runner.ended = Ended(0, ARCHIVED)
    await host.act("archive", KEY, timeout_s=5)
    runner.ended = Ended(0, b"archive damaged\n")
    assert await host.archive("r1") == Archive("good", "/a/state.tar", 5, "50d8")
    assert (await host.archive("r2")).state == "damaged"


async def test_no_archive_is_asked_for_right_after_an_act_saw_none() -> None:
    """Of its own run only: whether another one has an archive is not told by a look."""
    host, runner = host_with(Ended(0))
    await held(host, runner)
    runner.ended = Ended(0, b"archive good\n")
    assert (await host.archive("r1")).state == "none"
    assert (await host.archive("r2")).state == "good"


async def test_an_archive_that_is_there_already_is_asked_for() -> None:
    """That something is there says nothing of what it is worth."""
    host, runner = host_with(Ended(0))
    await held(host, runner)
    runner.ended = Ended(0, HELD + b"archived yes\n")
    await host.act("stop", KEY, timeout_s=5)
    runner.ended = Ended(0, b"archive damaged\n")
    assert (await host.archive("r1")).state == "damaged"


async def test_an_archive_is_asked_for_again_once_what_the_act_told_is_old() -> None:
    """What is waited for is asked anew, as a look is."""
    clock_s = [0.0]
    runner = FakeRunner(Ended(0))
    host = Host(runner, "10.0.0.1", HostAccess(user="recovery"), monotonic_s=lambda: clock_s[0])
    await held(host, runner)
    runner.ended = Ended(0, ARCHIVED)
    await host.act("archive", KEY, timeout_s=5)
    runner.ended = Ended(0, b"archive damaged\n")
    clock_s[0] = 0.49
    assert (await host.archive("r1")).state == "good"
    clock_s[0] = 0.51
    assert (await host.archive("r1")).state == "damaged"


@pytest.mark.parametrize("status", range(64, 70))
async def test_a_refusal_says_why_and_that_nothing_was_changed(status: int) -> None:
    """Exit status 64 to 69 come before any change."""
    host, _ = host_with(Ended(status, stderr="a newer driver was here"))
    with pytest.raises(HostRefused, match=r"a newer driver was here\. Nothing was changed"):
        await host.act("stop", KEY, timeout_s=5)


@pytest.mark.parametrize("status", [70, 1, 2, 127, 255])
async def test_every_other_ending_is_in_doubt(status: int) -> None:
    """What is not known to be a refusal may have changed something."""
    host, _ = host_with(Ended(status, stderr="systemctl failed"))
    with pytest.raises(InDoubt, match="systemctl failed"):
        await host.act("stop", KEY, timeout_s=5)


@pytest.mark.parametrize(
    "complaint",
    [
        "sudo: a password is required",
        "Sorry, user recovery may not run sudo on s1.",
        "recovery is not in the sudoers file.",
        "sh: 1: sudo: not found",
    ],
)
async def test_without_sudo_the_message_has_the_line_to_add(complaint: str) -> None:
    """A person can copy the line out of the message."""
    host, _ = host_with(Ended(1, stderr=complaint))
    with pytest.raises(HostRefused, match=r"Nothing was done.*recovery ALL=\(root\) NOPASSWD: /bin/sh -s"):
        await host.act("stop", KEY, timeout_s=5)


async def test_a_look_that_was_cut_off_is_unreachable_not_in_doubt() -> None:
    """Reading changes nothing, so nothing is in doubt."""
    host, _ = host_with(InDoubt("the connection broke"))
    with pytest.raises(HostUnreachable, match="nothing was changed"):
        await host.look()


def test_a_missing_line_is_not_a_guess() -> None:
    """What host.sh does not say is empty, -1 or None, never taken for a fact."""
    view = parse_look(parse_lines(b"active_state inactive\nmain_pid 0\nleave_on_terminate \n"))
    assert (view.raft_db_bytes, view.peers_json, view.leave_on_terminate) == (-1, None, None)
    assert not view.enabled
    assert not view.running


def test_peers_json_of_0_6_is_seen_as_it_is() -> None:
    """The emptied file of 0.6 is `null`, which is not the same as no file."""
    assert parse_look(parse_lines(b"peers_json bnVsbAo=\n")).peers_json == "null\n"


def test_a_stream_that_is_cut_off_does_nothing() -> None:
    """sh runs what it has read: the only call in the script is its last line."""
    text = b"set -- no-such-verb consul.service\n" + script()
    whole = subprocess.run(["sh", "-s"], input=text, capture_output=True, check=False)
    assert whole.returncode == 64
    for cut in range(len(text) // 40, len(text) - len(b'main "$@" </dev/null\nexit\n'), len(text) // 40):
        part = subprocess.run(["sh", "-s"], input=text[:cut], capture_output=True, check=False)
        assert part.returncode != 64
        assert part.stdout == b""


def test_a_token_does_not_show() -> None:
    """A repr, an f-string and the access value that holds a token show stars."""
    access = AgentAccess(token=Secret("hush"), recovery_token=Secret("hush"))
    assert "hush" not in f"{access} {access!r} {access.token} {access.token!r}"


def test_an_override_is_read_with_who_left_it() -> None:
    """A look says the run and the number; one that is not in force has no number."""
    view = parse_look(parse_lines(b"override_by r0\noverride 1\n"))
    assert (view.override_by, view.override) == ("r0", 1)
    assert parse_look(parse_lines(b"override_by unknown\n")).override == 0
    assert parse_look(parse_lines(b"main_pid 7\n")).override_by == ""
