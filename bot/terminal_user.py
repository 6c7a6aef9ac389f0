"""Who sits at the terminal: the one whom the kernel saw log in, or whom the settings say instead.

`sudo -u bob` makes a process bob's, and SUDO_USER is a variable that a process can set for itself: neither may let one
person be two. The login uid (/proc/self/loginuid) is set at login by pam_loginuid and kept across sudo and su, so
that alice stays alice whoever she has become. But where it is unset (in a container, in a service) any process may
set it, once, to whomever it likes (proc(5)), and that is kept across sudo as well. So it counts only where something
that the process cannot choose says the same: systemd-logind puts what a user starts after a login into that user's
slice, a control group that nobody but root can enter.

Where people are known otherwise, the settings say so (``terminal.identity``). Else a terminal is nobody, who may look.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from bot import inventory_command
from bot.authz import Nobody
from config.settings import DEFAULT_PATH, VARIABLE, settings_path
from config.values import TerminalIdentity
from recovery.errors import SettingsProblem

_UNSET = 2**32 - 1
"""What the kernel says of a process that nobody logged in for."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = (
    "TERM",
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    inventory_command.CLUSTER_VARIABLE,
)
"""What a caller's environment may say: how to write on the screen, and about which cluster."""
_HARMLESS = re.compile(r"[A-Za-z0-9_.@:,+-]*")
"""No path in it: a language, say, is looked for in folders by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What is left of how this process came to be."""

    uid: int
    login_uid: int | None
    """None: nobody logged in for it."""
    slice_uid: int | None
    """In whose slice it runs; None: in nobody's."""
    sudo_uid: int | None
    """Who called sudo, as sudo wrote it; None: nobody did."""

    @property
    def lent(self) -> bool:
        """Whether somebody else started this with the rights of this user: what the caller says is not its word."""
        # Root borrows nothing: it could do all of this by itself.
        others = {self.login_uid, self.sudo_uid} - {None, 0, self.uid}
        return self.uid != 0 and bool(others)


def traces(environ: Mapping[str, str], *, read: Callable[[str], str] | None = None) -> Traces:
    """Look at this process; ``read`` gives a file's text, "" where there is none."""
    read = read or _read
    return Traces(
        uid=os.geteuid(),
        login_uid=_uid(read("/proc/self/loginuid")),
        slice_uid=_slice_of(read("/proc/self/cgroup"), read("/proc/1/cgroup")),
        sudo_uid=_uid(environ.get("SUDO_UID", "")),
    )


def sitter(
    seen: Traces, identity: TerminalIdentity, *, name_of: Callable[[int], str] | None = None
) -> str | Nobody:
    """The user who sits here, as the settings name users under ``terminal``; or why nobody is known to."""
    name_of = name_of or _name_of
    match identity:
        case TerminalIdentity.LOGIN:
            if seen.login_uid is None:
                return Nobody(_NOBODY_LOGGED_IN, _SAY_HOW)
            if seen.slice_uid != seen.login_uid:
                return Nobody(
                    f"its login uid says {name_of(seen.login_uid)}, but it runs in no login session of that user "
                    "(systemd-logind), so any process could have written that",
                    f"{_SAY_HOW} Without systemd-logind, where every way into this machine goes through pam_loginuid "
                    "and no service runs as one of you: `terminal: {identity: login-uid}`.",
                )
            return name_of(seen.login_uid)
        case TerminalIdentity.LOGIN_UID:
            if seen.login_uid is None:
                return Nobody(_NOBODY_LOGGED_IN, _SAY_HOW)
            return name_of(seen.login_uid)
        case TerminalIdentity.SUDO:
            if seen.sudo_uid is None:
                return Nobody(
                    "it was not started by sudo, and the settings take sudo's word for who somebody is "
                    "(terminal.identity: sudo)",
                    "Start it from your own account: sudo -u USER consul-recovery ...",
                )
            return name_of(seen.sudo_uid)
        case TerminalIdentity.ACCOUNT:
            return name_of(seen.uid)
        case _:
            assert_never(identity)


_NOBODY_LOGGED_IN = (
    "nobody has logged in for it (the kernel's login uid is unset, as in a container or a service), and such a process "
    "can claim to be anybody"
)
_SAY_HOW = (
    "Log in to the bot's machine itself, or decide in Slack. How people are known where nobody logs in is a setting: "
    "`terminal: {identity: sudo}` takes the word of sudo, `{identity: account}` that of the process's own user."
)


def chosen_settings(seen: Traces, argument: str | None, environ: Mapping[str, str]) -> Path:
    """Choose the settings file; who runs us with the bot's rights does not choose by whose rules.

    Also one that root wrote may be the wrong one: an old copy in which the caller may approve alone.
    """
    path = settings_path(argument, environ)
    if seen.lent and path != DEFAULT_PATH:
        raise SettingsProblem(
            f"Started through sudo or su with another user's rights, this takes no settings but {DEFAULT_PATH}; "
            f"nothing was done. Leave --settings and {VARIABLE} out. Where the bot's settings lie elsewhere, root can "
            "link them there."
        )
    return path


def forget_the_callers_words(environ: MutableMapping[str, str], *, uid: int) -> None:
    """Leave of the environment what cannot change whom we ask or trust: no paths, proxies, certificates, secrets.

    sudo does the same by its default env_reset; not every sudoers file keeps it.
    """
    kept = {name: environ[name] for name in _KEPT if _HARMLESS.fullmatch(environ.get(name, "/"))}
    environ.clear()
    environ.update(kept, PATH=_PATH)
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return
    environ.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _uid(text: str) -> int | None:
    text = text.strip().rstrip("\0")
    return int(text) if text.isdecimal() and int(text) != _UNSET else None


def _slice_of(own: str, first: str) -> int | None:
    """Whose slice a process is in by its control group; below systemd's own, which a container's is inside another."""
    root = _group(first)
    prefix = root.removesuffix("/init.scope") if root.endswith("/init.scope") else ""
    found = re.match(rf"{re.escape(prefix)}/user\.slice/user-(\d+)\.slice/", _group(own) + "/")
    return int(found[1]) if found else None


def _group(text: str) -> str:
    """The path in systemd's hierarchy: its own one of version 1, else the only one of version 2 (cgroups(7))."""
    of = dict(line.split(":", 2)[1:] for line in text.splitlines() if line.count(":") >= 2)
    return of.get("name=systemd", of.get("", ""))


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
