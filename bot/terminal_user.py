"""Who sits at the terminal: the one who logged in, where the kernel knows; else the user of this process.

SUDO_USER and SUDO_UID are variables that anybody can set, and `sudo -u bob` makes a process bob's: both would let
one person be two. The login uid (/proc/self/loginuid, set once at login by pam_loginuid) is kept across sudo and
su, so that alice stays alice whoever she has become.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

_LOGIN_UID = Path("/proc/self/loginuid")
_UNSET = 2**32 - 1
"""What the kernel says of a process that nobody logged in for: a service, a container."""


def current_user() -> str:
    """The user of this process, as the settings may name them under ``terminal``."""
    try:
        login = int(_LOGIN_UID.read_text(encoding="ascii"))
    except (OSError, ValueError):
        login = _UNSET
    return user_behind(os.getuid(), login_uid=login, name_of=_name_of)


def user_behind(uid: int, *, login_uid: int, name_of: Callable[[int], str]) -> str:
    """The name of the one who logged in; of the process's user where nobody did."""
    return name_of(uid if login_uid == _UNSET else login_uid)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
