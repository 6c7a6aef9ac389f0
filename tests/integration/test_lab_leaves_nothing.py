"""A lab whose every program was killed is taken away without a trace."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.cgroup import cgroup_mount
from lab.datacentre import Lab
from lab.teardown import STATE, group_of, lab_names, take_away

# Makes a lab, a host and Redis, enters its network, starts a program there, and waits to be killed.
OWNER = """
import asyncio, subprocess, sys, time
from lab.datacentre import Lab
lab = Lab.make(sys.argv[1], keep=sys.argv[2] == "keep")
lab.enter()
asyncio.run(lab.up(servers=1))
asyncio.run(lab.redis())
subprocess.Popen(["sleep", "1000"], start_new_session=True)
print("ready", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def name() -> Iterator[str]:
    """A name for a lab of this test's own; whatever happens, it is gone afterwards."""
    name = f"leak-{secrets.token_hex(4)}"
    yield name
    take_away(name)


@dataclass(frozen=True)
class Inside:
    """What a lab consisted of. Numbers of namespaces and processes are given again, so processes have their start."""

    namespaces: frozenset[int]
    processes: frozenset[tuple[int, int]]
    """Process id and start, in ticks since boot."""


def start_and_kill(name: str, *, keep: bool) -> Inside:
    """Kill -9 the owner of a running lab; return what it consisted of."""
    of_machine = namespaces_of({os.getpid()})
    command = [sys.executable, "-c", OWNER, name, "keep" if keep else "own"]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        assert owner.stdout is not None
        with owner.stdout:
            assert owner.stdout.readline() == "ready\n"
        control = (STATE / name / "control").stat().st_ino
        inside = frozenset((namespaces_of(group_of(name).processes()) | {control}) - of_machine)
        processes = frozenset(running(pid for pid in everybody() if namespaces_of({pid}) & inside))
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    return Inside(inside, processes)


def namespaces_of(processes: set[int] | frozenset[int]) -> set[int]:
    """The inode numbers of all namespaces that these processes are in."""
    found: set[int] = set()
    for pid in processes:
        try:
            found.update(entry.stat().st_ino for entry in Path(f"/proc/{pid}/ns").iterdir())
        except OSError:
            continue
    return found


def running(processes: Iterable[int]) -> set[tuple[int, int]]:
    """Those of the processes that are there, each with its start."""
    found: set[tuple[int, int]] = set()
    for pid in processes:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        except OSError:
            continue
        state, *numbers = stat.rpartition(")")[2].split()
        # A zombie is in no namespace any more; it waits for its parent, which may be the machine's init.
        if state != "Z":
            found.add((pid, int(numbers[18])))
    return found


def machine(session_lab: Lab, name: str) -> dict[str, set[str]]:
    """What the machine has of mounts, groups, links and folders, without what other labs make meanwhile."""
    others = {other for other in lab_names() if other != name}
    mounts = {
        line.split()[4] for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    }
    groups = {
        path.name for path in cgroup_mount(Path("/proc/self/mounts").read_text(encoding="utf-8")).iterdir()
    }
    links = subprocess.run(
        ["nsenter", f"--net={session_lab.outside}", "ip", "-o", "link"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {
        "mounts": {mount for mount in mounts if name in mount or not mount.startswith(str(STATE))},
        "groups": {group for group in groups if group.removeprefix("consul-recovery-lab-") not in others},
        "links": {line.split(":")[1].strip() for line in links.splitlines()},
        "folders": {entry.name for entry in STATE.iterdir() if entry.name == name}
        if STATE.is_dir()
        else set(),
    }


def everybody() -> frozenset[int]:
    """All processes of the machine."""
    return frozenset(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def assert_nothing_left(session_lab: Lab, name: str, before: dict[str, set[str]], inside: Inside) -> None:
    """No mount, group, link, folder, process or held namespace of the lab is there."""
    assert machine(session_lab, name) == before
    assert not running(pid for pid, _ in inside.processes) & inside.processes
    # A lab that was made meanwhile may have been given the numbers of this one's namespaces.
    others = tuple(f"{STATE}/{other}/" for other in lab_names() if other != name)
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    held = [line for line in lines if not line.split()[4].startswith(others)]
    assert not [line for line in held for inode in inside.namespaces if f"[{inode}]" in line]


def test_down_leaves_nothing_of_a_killed_lab(session_lab: Lab, name: str) -> None:
    """After kill -9 of the owner, `down` leaves no namespace, mount, group, link or process behind."""
    before = machine(session_lab, name)
    inside = start_and_kill(name, keep=True)
    assert inside.namespaces, "the lab had namespaces of its own"
    assert inside.processes, "the lab had processes of its own"
    assert machine(session_lab, name) != before
    subprocess.run([sys.executable, "-m", "lab", "--name", name, "down"], check=True)
    assert_nothing_left(session_lab, name, before, inside)
    assert session_lab.folder.is_dir(), "another lab was left alone"


def test_next_lab_takes_away_the_lab_of_a_dead_owner(session_lab: Lab, name: str) -> None:
    """A test run that was killed leaves a lab, and the next one that is made removes it."""
    assert session_lab.folder.is_dir()
    before = machine(session_lab, name)
    inside = start_and_kill(name, keep=False)
    assert machine(session_lab, name) != before
    successor = Lab.make(f"{name}-next")
    successor.destroy()
    assert_nothing_left(session_lab, name, before, inside)


def test_killing_every_program_first_changes_nothing(session_lab: Lab, name: str) -> None:
    """`down` works as well where all programs of the lab are dead already."""
    assert session_lab.folder.is_dir()
    before = machine(session_lab, name)
    inside = start_and_kill(name, keep=True)
    for pid in group_of(name).processes():
        os.kill(pid, signal.SIGKILL)
    subprocess.run([sys.executable, "-m", "lab", "--name", name, "down"], check=True)
    assert_nothing_left(session_lab, name, before, inside)
