"""Who sits at the terminal: the real user, and behind sudo only whom the kernel also names.

SUDO_USER and SUDO_UID are variables that anybody can set who becomes root
otherwise; the login uid (/proc/self/loginuid, set once at login by pam_loginuid
and kept across sudo and su) is not. Root counts as the person behind sudo
only where both agree.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from pathlib import Path

_LOGIN_UID = Path("/proc/self/loginuid")


def current_user() -> str:
    """The user of this process, as the settings may name them under ``terminal``."""
    try:
        login = int(_LOGIN_UID.read_text(encoding="ascii"))
    except (OSError, ValueError):
        login = -1
    return user_behind(os.getuid(), login_uid=login, environ=os.environ, name_of=_name_of)


def user_behind(
    uid: int, *, login_uid: int, environ: Mapping[str, str], name_of: Callable[[int], str]
) -> str:
    """The real user's name; for root behind sudo the name of the one who logged in, where proven."""
    sudo = environ.get("SUDO_UID", "")
    if uid == 0 and sudo.isdigit() and int(sudo) == login_uid:
        return name_of(login_uid)
    return name_of(uid)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
