"""Plant each bug in a copy of this checkout and see that the tests catch it: a test of the tests.

Usage: python -m tests.planted [NAME...]. Exit 1 if one is not caught, or if the tests fail without any bug.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.planted.bugs import BUGS, PlantedBug

ROOT = Path(__file__).resolve().parents[2]
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


def main(names: Sequence[str]) -> int:
    """Plant those that are named, or all."""
    unknown = set(names) - {bug.name for bug in BUGS}
    if unknown:
        sys.stderr.write(
            f"No such bug: {', '.join(sorted(unknown))}. There are: {', '.join(b.name for b in BUGS)}.\n"
        )
        return 2
    chosen = [bug for bug in BUGS if not names or bug.name in names]
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copy = Path(folder) / "copy"
        _copy_to(copy)
        _say("without a bug: ", end="")
        found = _failures(copy, sorted({test for bug in chosen for test in bug.tests}), stop_at_first=False)
        if found:
            _say(f"the tests fail already, so they say nothing: {found[0]}")
            return 1
        _say("the tests pass")
        survived = [bug for bug in chosen if not _is_caught(copy, bug)]
    if survived:
        _say(f"\n{len(survived)} of {len(chosen)} not caught: {', '.join(bug.name for bug in survived)}")
        return 1
    _say(f"\nall {len(chosen)} caught")
    return 0


def _say(text: str, *, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def _copy_to(copy: Path) -> None:
    """Copy what git knows, as it lies here: what is not committed yet is tested too."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)


def _is_caught(copy: Path, bug: PlantedBug) -> bool:
    before = {edit.path: (copy / edit.path).read_text() for edit in bug.edits}
    try:
        for edit in bug.edits:
            text = (copy / edit.path).read_text()
            (copy / edit.path).write_text(text.replace(edit.old, edit.new))
        found = _failures(copy, bug.tests, stop_at_first=True)
    finally:
        for path, text in before.items():
            (copy / path).write_text(text)
    _say(f"{bug.name:30} {'caught by ' + found[0] if found else 'NOT CAUGHT'}")
    return bool(found)


def _failures(copy: Path, tests: Sequence[str], *, stop_at_first: bool) -> list[str]:
    """The tests that failed in the copy, whose own code is what is imported there."""
    where = {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    imported = subprocess.run(
        [sys.executable, "-c", "import recovery.engine; print(recovery.engine.__file__)"],
        cwd=copy,
        env=os.environ | where,
        capture_output=True,
        text=True,
        check=False,
    )
    if imported.returncode:
        raise SystemExit(f"The planted copy cannot be imported: {imported.stderr.strip()[-300:]}")
    if Path(imported.stdout.strip()) != copy / "recovery/engine.py":
        raise SystemExit(f"The copy's tests would import {imported.stdout.strip()}: nothing was tested.")
    # A driver that does what it must not may wait for ever; so long no honest test here takes.
    options = ["-q", "-p", "no:cacheprovider", "--tb=no", "--timeout=60"]
    options += ["-x"] if stop_at_first else ["-n", "2"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=copy,
        env=os.environ | where,
        capture_output=True,
        text=True,
        check=False,
    )
    found = _FAILED.findall(ran.stdout)
    if ran.returncode not in (0, 1):
        raise SystemExit(
            f"pytest itself failed (exit {ran.returncode}): {ran.stdout[-500:]}{ran.stderr[-500:]}"
        )
    return found or (["a test that pytest did not name"] if ran.returncode else [])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
