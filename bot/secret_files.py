"""Whether the files with our secrets are there and readable by this user alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from bot.finding import Finding, Verdict, failed, ok
from recovery.errors import SettingsProblem


def check_secret_files(paths: Sequence[Path]) -> list[Finding]:
    """Look at each file."""
    return [_check(path) for path in paths]


def refuse_open_secrets(paths: Sequence[Path]) -> None:
    """SettingsProblem with a line for each file that others can reach, or that is not there for us."""
    wrong = [finding for finding in check_secret_files(paths) if finding.verdict is Verdict.FAILED]
    if wrong:
        lines = "".join(f"\n  {f.subject}: {f.message}. {f.next_step}" for f in wrong)
        raise SettingsProblem(f"Secrets are not kept safe; the bot was not started.{lines}")


def _check(path: Path) -> Finding:
    try:
        status = path.stat()
    except OSError as error:
        return failed(
            "secrets",
            str(path),
            f"cannot be read ({error.strerror})",
            next_step="Put the file there for the bot's user, mode 0600, or correct its path in the settings.",
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        return failed(
            "secrets",
            str(path),
            f"other users can reach it (mode {stat.S_IMODE(status.st_mode):04o})",
            next_step=f"Run: chmod 600 {path}",
        )
    if status.st_uid != os.geteuid():
        return failed(
            "secrets",
            str(path),
            f"belongs to user id {status.st_uid}, and we are {os.geteuid()}",
            next_step=f"Run the doctor as the bot's user, or: chown $(id -u) {path}",
        )
    return ok("secrets", str(path), "readable by this user only")
