"""Control groups (v2): how the lab names all its processes at once, so that none outlives it."""

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError


def cgroup_mount(mounts: str) -> Path:
    """Return where cgroup v2 is mounted, from the text of /proc/self/mounts.

    /sys/fs/cgroup where only v2 is used, /sys/fs/cgroup/unified where v1 and v2 are mounted together.
    """
    for line in mounts.splitlines():
        match line.split():
            case [_, path, "cgroup2", *_]:
                return Path(path)
            case _:
                continue
    raise LabError(
        "This machine mounts no cgroup v2 file system, and the lab cannot keep track of its hosts without."
    )


@dataclass(frozen=True, slots=True)
class Cgroup:
    """One group of processes, by its path in the cgroup v2 file system."""

    path: Path

    @classmethod
    def of_machine(cls, name: str) -> "Cgroup":
        """Return the top-level group of that name (it need not exist)."""
        return cls(cgroup_mount(Path("/proc/self/mounts").read_text(encoding="utf-8")) / name)

    def child(self, name: str) -> "Cgroup":
        """Return the group of that name inside this one."""
        return Cgroup(self.path / name)

    def spawn(self, argv: Sequence[str], *, log: Path) -> None:
        """Start a program inside the group, in a session of its own; it outlives the caller.

        What it prints goes to `log`. The shell puts itself into the group first, so no process of the
        program is ever outside of it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        script = 'echo 0 >"$1/cgroup.procs" && shift && exec "$@"'
        with log.open("ab") as out:
            # Started through a second shell that ends at once: the program is adopted by the machine's init,
            # which reaps it; ours would leave a zombie in the group for as long as we live.
            subprocess.run(
                ["sh", "-c", 'setsid "$@" &', "sh", "sh", "-c", script, "sh", str(self.path), *argv],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def processes(self) -> frozenset[int]:
        """Return the ids of all processes in the group and below."""
        found: set[int] = set()
        # os.walk passes over a group that goes away meanwhile, such as the one of a unit that ends.
        for folder, _, _ in os.walk(self.path):
            try:
                text = Path(folder, "cgroup.procs").read_text(encoding="ascii")
                found.update(int(line) for line in text.split())
            except OSError:
                continue
        return frozenset(found)

    def kill(self, *, timeout_s: float = 10.0) -> None:
        """Kill -9 everything in the group and below, wait until it is gone, and remove the groups."""
        if not self.path.is_dir():
            return
        (self.path / "cgroup.kill").write_text("1", encoding="ascii")
        deadline = time.monotonic() + timeout_s
        while "populated 1" in (self.path / "cgroup.events").read_text(encoding="ascii"):
            if time.monotonic() > deadline:
                raise LabError(f"Processes of {self.path} survive kill -9: {sorted(self.processes())}.")
            time.sleep(0.01)
        for folder, _, _ in os.walk(self.path, topdown=False):
            Path(folder).rmdir()
