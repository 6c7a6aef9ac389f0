"""Whose files count: root's, and those of the user that this process is; all the way up the path.

Whoever may change the settings says who approves, and the terminal of a person runs with the bot's rights
(``sudo -u``). So a file counts only where nobody but root and that user could have written it: each folder on the
way, each link and the file itself belongs to one of the two, and neither its group nor everybody may write it. An
ACL that lets somebody write shows in the group's bits, its mask (acl(5)). A process of root takes root's files alone:
a file of the bot's user must not tell root what to run.

A folder with the sticky bit (/tmp, and where Kubernetes mounts secrets) may be everybody's: only its owner and a
file's own owner can put another file in its place there, and both are asked for. What is not there yet could be made
by anybody, so a missing file in such a folder is refused too. A folder on a file system that is mounted read-only
may have any mode: Kubernetes mounts a ConfigMap that way, as root's with mode 0777.

Race-free: each part is opened, without following links, in the folder that was judged, and judged by what was
opened. Since nobody else may change any part of the way, what a library opens by the same path later is the same.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_MOST_LINKS = 40
"""As the kernel itself (path_resolution(7))."""
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe would wait for a writer, a terminal would become ours.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class NotOurs(Exception):
    """Somebody else owns a file or may write it; the message says who, and the command that mends it."""


def read_ours(path: Path, *, uid: int) -> str:
    """Give a file's text; ``uid`` is whose files count beside root's.

    NotOurs where somebody else could have written it; OSError and UnicodeDecodeError as reading has them.
    """
    with _Way(path, uid=uid) as way:
        way.go()
        with os.fdopen(way.opened(), encoding="utf-8") as file:
            return file.read()


def refuse_foreign(path: Path, *, uid: int) -> None:
    """NotOurs where somebody else may change what this path leads to, or make it where it is missing.

    For what is opened by others later. A file that is missing, or that cannot be seen, is theirs to tell of.
    """
    with _Way(path, uid=uid) as way:
        try:
            way.go()
        except FileNotFoundError:
            way.refuse_gap()
        except OSError:
            return


@dataclass(frozen=True, slots=True)
class _Place:
    """A part of the way, opened and judged."""

    descriptor: int
    path: Path
    status: os.stat_result


class _Way:
    """One walk down a path."""

    def __init__(self, path: Path, *, uid: int) -> None:
        self._asked = path
        self._uid = uid
        self._places: list[_Place] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._back_to(0)

    def go(self) -> None:
        """Walk to the end; NotOurs at the first part that somebody else may change."""
        absolute = self._asked if self._asked.is_absolute() else Path.cwd() / self._asked
        pending = [*reversed(absolute.parts)]
        links = 0
        while pending:
            part = pending.pop()
            # Two slashes at the beginning stay two in a Path, and mean the same here.
            if part.startswith("/"):
                self._back_to(0)
                self._enter(os.open("/", _LOOK), Path("/"))
            elif part == "..":
                self._back_to(max(1, len(self._places) - 1))
            else:
                target = self._step(part)
                if target is not None:
                    links += 1
                    if links > _MOST_LINKS:
                        raise NotOurs(f"{self._asked} leads through too many links")
                    pending += reversed(Path(target).parts)

    def opened(self) -> int:
        """Open what the way led to for reading: the very file that was judged, or one that is judged anew."""
        last = self._places[-1]
        if stat.S_ISDIR(last.status.st_mode):
            raise IsADirectoryError(last.path)
        self._refuse_no_file(last.path, last.status)
        descriptor = os.open(last.path.name, _READ, dir_fd=self._places[-2].descriptor)
        try:
            status = os.fstat(descriptor)
            self._judge(last.path, descriptor, status)
            self._refuse_no_file(last.path, status)
        except NotOurs:
            os.close(descriptor)
            raise
        return descriptor

    def refuse_gap(self) -> None:
        """NotOurs where anybody could make what is missing."""
        folder = self._places[-1]
        if folder.status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise NotOurs(
                f"{self._asked} is not there, and in {folder.path} others than root could make it; put it into a "
                "folder of root's"
            )

    def _step(self, part: str) -> str | None:
        """Enter a part; where it is a link, give what it leads to instead."""
        folder = self._places[-1]
        path = folder.path / part
        if path.parts[:2] == ("/", "proc"):
            # What a process says of itself (its arguments, what it was given to read) is the caller's word.
            raise NotOurs(f"{self._asked} leads into /proc, where no file of root's is; name a file")
        descriptor = os.open(part, _LOOK, dir_fd=folder.descriptor)
        self._enter(descriptor, path)
        if not stat.S_ISLNK(self._places[-1].status.st_mode):
            return None
        target = os.readlink("", dir_fd=descriptor)
        self._back_to(len(self._places) - 1)
        return target

    def _enter(self, descriptor: int, path: Path) -> None:
        place = _Place(descriptor, path, os.fstat(descriptor))
        self._places.append(place)
        self._judge(path, descriptor, place.status)

    def _back_to(self, length: int) -> None:
        while len(self._places) > length:
            os.close(self._places.pop().descriptor)

    def _judge(self, path: Path, descriptor: int, status: os.stat_result) -> None:
        shown = str(path) if path == self._asked else f"{path} (on the way to {self._asked})"
        name = shlex.quote(str(path))
        if status.st_uid not in {0, self._uid}:
            owner = _user(status.st_uid)
            mend = f"{_before(status)}: chown root {name}"
            if self._uid == 0:
                mend = f"run this as that user (sudo -u {owner} ...), if it is the bot's; else {mend}"
            raise NotOurs(
                f"{shown} belongs to {owner}, and only what {self._trusted} owns counts here; {mend}"
            )
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode) or (stat.S_ISDIR(status.st_mode) and _kept(descriptor, mode)):
            return
        if others := mode & (stat.S_IWGRP | stat.S_IWOTH):
            who = (
                "everybody"
                if others & stat.S_IWOTH
                else f"its group {_group(status.st_gid)} (or an ACL's users)"
            )
            raise NotOurs(
                f"{shown} may be written by {who} (mode {mode:04o}), who could put anything there; {_before(status)}: "
                f"chmod go-w {name}"
            )

    def _refuse_no_file(self, path: Path, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise NotOurs(f"{path} is no file, but a pipe, a socket or a device; name a file")

    @property
    def _trusted(self) -> str:
        return "root" if self._uid == 0 else f"root or {_user(self._uid)}"


def _before(status: os.stat_result) -> str:
    """What to think of before the command that mends it."""
    if stat.S_ISDIR(status.st_mode):
        return "keep it in a folder of root's (/etc/consul-recovery), or, where this one is meant for it"
    return "look what is in it, then"


def _kept(folder: int, mode: int) -> bool:
    """Whether nobody can put another file in the place of one of ours there, whatever the other bits say."""
    return bool(mode & stat.S_ISVTX or os.statvfs(folder).f_flag & os.ST_RDONLY)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"{gid}"
