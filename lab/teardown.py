"""Taking a lab away, from its name alone: nothing of the process that made it is needed, nor its state file."""

import os
import shutil
import signal
import time
from pathlib import Path

import msgspec

from lab.cgroup import Cgroup
from lab.errors import LabError
from lab.namespaces import run

STATE = Path("/run/consul-recovery-lab")
_GROUP_PREFIX = "consul-recovery-lab-"


class _Owner(msgspec.Struct):
    owner_pid: int | None
    owner_started: str | None


def group_of(name: str) -> Cgroup:
    """Return the control group of the lab of that name."""
    return Cgroup.of_machine(f"{_GROUP_PREFIX}{name}")


def lab_names() -> tuple[str, ...]:
    """Return the names of all labs of which anything is left on this machine."""
    folders = {entry.name for entry in STATE.iterdir()} if STATE.is_dir() else set()
    groups = {
        path.name.removeprefix(_GROUP_PREFIX) for path in group_of("").path.parent.glob(f"{_GROUP_PREFIX}*")
    }
    return tuple(sorted(folders | groups))


def start_time_of(pid: int) -> str | None:
    """Return when a process started, in the kernel's ticks, or None if there is none: tells pids apart after reuse."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()[19]


def reap_orphans() -> None:
    """Take away the labs whose owner is dead (kill -9 of a test run, say)."""
    for name in lab_names():
        try:
            owner = msgspec.json.decode((STATE / name / "lab.json").read_bytes(), type=_Owner)
        except (OSError, msgspec.DecodeError):
            # Being made or taken away right now by its owner, or half of one: `down --all` is for those.
            continue
        if owner.owner_pid is not None and start_time_of(owner.owner_pid) != owner.owner_started:
            take_away(name)


def take_away(name: str) -> None:
    """Remove all that a lab consists of. Raises LabError if something resists; safe to repeat.

    Processes go first (the hosts' mounts are in namespaces of their own and vanish with them), then programs
    that entered the lab's networks, then mounts, files, and the control group.
    """
    group_of(name).kill()
    folder = STATE / name
    mounts = _mounts_below(folder)
    _kill_inhabitants(mounts)
    for mount in reversed(mounts):
        # Lazily: a shell that stands in the folder must not keep the lab alive.
        run(["umount", "--lazy", str(mount)])
    shutil.rmtree(folder, ignore_errors=True)
    if STATE.is_dir() and not any(STATE.iterdir()):
        STATE.rmdir()


def _mounts_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        path = Path(line.split()[4])
        if path == folder or folder in path.parents:
            found.append(path)
    return found


def _kill_inhabitants(mounts: list[Path]) -> None:
    networks = {mount.stat().st_ino for mount in mounts if mount.is_file()}
    doomed = [pid for pid in _processes_in(networks) if pid != os.getpid()]
    for pid in doomed:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + 10.0
    while any(_is_alive(pid) for pid in doomed):
        if time.monotonic() > deadline:
            raise LabError(f"Programs inside the lab's network survive kill -9: {doomed}.")
        time.sleep(0.01)


def _processes_in(networks: set[int]) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # A zombie has no namespaces any more and raises.
                if (entry / "ns/net").stat().st_ino in networks:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def _is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in {"Z", "X"}
