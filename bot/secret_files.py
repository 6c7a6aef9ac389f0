"""Whether the files with our secrets are there and readable by this user alone.

Whose files count at all is asked when the settings are read (config.ownership); this is about who may read them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from bot.finding import Finding, Verdict, failed, ok
from recovery.errors import SettingsProblem


def check_secret_files(paths: Sequence[Path], *, uid: int | None = None) -> list[Finding]:
    """Look at each file; ``uid`` is who reads them, None: this process's user."""
    uid = os.geteuid() if uid is None else uid
    return [_check(path, uid) for path in paths]


def refuse_open_secrets(paths: Sequence[Path]) -> None:
    """SettingsProblem with a line for each file that others can reach, or that is not there for us."""
    wrong = [finding for finding in check_secret_files(paths) if finding.verdict is Verdict.FAILED]
    if wrong:
        lines = "".join(f"\n  {f.subject}: {f.message}. {f.next_step}" for f in wrong)
        raise SettingsProblem(f"Secrets are not kept safe; the bot was not started.{lines}")


def _check(path: Path, uid: int) -> Finding:
    try:
        status = path.stat()
    except OSError as error:
        return failed(
            "secrets",
            str(path),
            f"cannot be read ({error.strerror})",
            next_step="Put the file there for the bot's user, mode 0600, or correct its path in the settings.",
        )
    # Root lets the bot read its own file by a group that it chose, as containers mount secrets: root:group 0440.
    others = 0o037 if status.st_uid == 0 != uid else 0o077
    if stat.S_IMODE(status.st_mode) & others:
        return failed(
            "secrets",
            str(path),
            f"other users can reach it (mode {stat.S_IMODE(status.st_mode):04o})",
            next_step=f"Run: chmod 600 {path}",
        )
    if status.st_uid not in {0, uid}:
        return failed(
            "secrets",
            str(path),
            f"belongs to user id {status.st_uid}, and we are {uid}",
            next_step=f"Run the doctor as the bot's user, or: chown $(id -u) {path}",
        )
    return ok("secrets", str(path), "readable by this user only")
