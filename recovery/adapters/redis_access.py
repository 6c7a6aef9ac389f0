"""Who may write the bot's keys in a Redis: the lines of ACL LIST -> sentences. Pure.

https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recovery.adapters.redis_client import RIGHTS

PREFIX = "consul-recovery:"
LOOK = "redis-cli ACL LIST"

_PART = re.compile(r"\([^)]*\)|\S+")
_CATEGORY = re.compile(r"[+-]@(\S+?)(?=[\s)]|$)")
_WITHOUT_A_KEY = frozenset({"acl", "config", "debug", "module", "flushall", "flushdb", "swapdb"})
"""Whoever may use one of these needs no pattern of keys: they make oneself anybody, or change all keys at once."""
_HARMLESS = frozenset(
    {
        *("config|get", "config|rewrite", "config|resetstat", "config|help"),
        *(
            "acl|whoami",
            "acl|cat",
            "acl|list",
            "acl|users",
            "acl|getuser",
            "acl|dryrun",
            "acl|help",
            "acl|genpass",
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What could be seen of who may write."""

    warnings: tuple[str, ...] = ()
    unseen: str = ""
    """Why it could not be seen, and how somebody else sees it; "" where it was."""


@dataclass(frozen=True, slots=True)
class _User:
    """One line of ACL LIST: its flags, and its sets of rights (the user's own, then each selector)."""

    name: str
    flags: frozenset[str]
    rights: tuple[tuple[str, ...], ...]


def categories_in(lines: Sequence[str]) -> frozenset[str]:
    """The categories of commands that somebody has to look up (ACL CAT) before these lines can be judged."""
    return frozenset(name for line in lines for name in _CATEGORY.findall(line)) - {"all"} | {"write"}


def judge(name: str, ours: str, lines: Sequence[str], categories: Mapping[str, frozenset[str]]) -> Access:
    """Give a sentence for each right that the bot does not need, and for each other user who may write its keys.

    ``ours`` is the user that the bot is. What is not understood counts as a right.
    """
    warnings = []
    for user in map(_read, lines):
        if "on" not in user.flags:
            continue
        open_to_all = "nopass" in user.flags
        if user.name == ours:
            if open_to_all:
                # What it may do beyond that is gone with the same cure.
                warnings.append(
                    f"{name} asks for no password of our user {ours}: whoever reaches it may write the bot's keys. "
                    f"{_own_user(ours)}"
                )
            elif excess := _excess(user):
                warnings.append(
                    f"Our user {ours} of {name} may do more than the bot needs ({', '.join(excess)}). {_own_user(ours)}"
                )
        elif any(_may_write(rights, categories) for rights in user.rights):
            without = ", without a password" if open_to_all else ""
            warnings.append(
                f"The user {user.name} of {name} may write the bot's keys too{without}: whoever that is can take its "
                f"locks and delete its runs. Take `~*` from it, or `ACL SETUSER {user.name} off`, or let only people "
                "have it who may approve alone."
            )
    return Access(warnings=tuple(warnings))


def _own_user(ours: str) -> str:
    name = "consul-recovery" if ours == "default" else ours
    then = ", then set redis.username and redis.password_file" if ours == "default" else ""
    return f"Let an administrator run: ACL SETUSER {name} reset on >PASSWORD {RIGHTS}{then}."


def _read(line: str) -> _User:
    _, name, *parts = _PART.findall(line)
    own = tuple(part for part in parts if not part.startswith("("))
    selectors = tuple(tuple(part.strip("()").split()) for part in parts if part.startswith("("))
    return _User(name, frozenset(own), (own, *selectors))


def _excess(user: _User) -> list[str]:
    """The rights beyond those that are needed, each once; channels are no keys."""
    needed = {*RIGHTS.split(), "allchannels"}
    given = [part for rights in user.rights for part in rights if part.startswith(("+", "~", "%", "all"))]
    return [
        part
        for part in dict.fromkeys(given)
        if part not in needed and not part.partition("~")[2].startswith(PREFIX)
    ]


def _may_write(rights: Sequence[str], categories: Mapping[str, frozenset[str]]) -> bool:
    writing = _writing(rights, categories)
    return bool(writing & _WITHOUT_A_KEY) or (bool(writing) and any(map(_matches_ours, rights)))


def _matches_ours(part: str) -> bool:
    """Whether it is a pattern of keys to write of which one of ours may be."""
    if part == "allkeys":
        return True
    kind, tilde, pattern = part.partition("~")
    if not tilde or kind not in {"", "%W", "%RW", "%WR"}:
        return False
    fixed = re.split(r"[*?\[\\]", pattern, maxsplit=1)[0]
    return fixed.startswith(PREFIX) or (fixed != pattern and PREFIX.startswith(fixed))


def _writing(rights: Sequence[str], categories: Mapping[str, frozenset[str]]) -> set[str]:
    """The commands among the rights that write, in the order in which the rights were given and taken."""
    writes = categories["write"] | _WITHOUT_A_KEY
    may: set[str] = set()
    for part in rights:
        sign, word = part[:1], part[1:].lower()
        if part in {"allcommands", "+@all"}:
            may = set(writes)
        elif part in {"nocommands", "-@all"}:
            may = set()
        elif word.startswith("@"):
            # Redis 7 names subcommands, acl|setuser, where Redis 6 names acl.
            named = {each.partition("|")[0] for each in categories.get(word[1:], writes)} & writes
            may = may | named if sign == "+" else may - named
        elif sign == "+" and word not in _HARMLESS and word.partition("|")[0] in writes:
            may.add(word.partition("|")[0])
        elif sign == "-":
            may.discard(word)
    return may
