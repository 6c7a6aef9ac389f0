"""What a person typed after /consul: text -> Command | Reply, pure.

Slack changes what people type: quotes and dashes are made typographic on
phones (“—lost”), names become <@U123|alice>, hosts become links, and & < >
are escaped (docs.slack.dev, slash commands, "Escaping users, channels, and
links"). All of that is undone here before anything is read.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

import msgspec

NAME = "/consul"


class _Command(msgspec.Struct, frozen=True, tag=True):
    pass


class Status(_Command, frozen=True):
    """Look at a cluster."""

    cluster: str | None


class Recover(_Command, frozen=True):
    """Propose a recovery; changes nothing before it is approved."""

    cluster: str | None
    method: str | None = None
    lost: tuple[str, ...] = ()
    """The servers that the person says are gone for good."""


class Abort(_Command, frozen=True):
    """Stop a run: by its id, or the active one of a cluster."""

    target: str | None


class Retry(_Command, frozen=True):
    """Try the waiting step again: by run id, or of a cluster's active run."""

    target: str | None


class Readmit(_Command, frozen=True):
    """Propose to take a fenced server back; changes nothing before it is approved."""

    cluster: str | None
    server: str


class Resume(_Command, frozen=True):
    """Say who drives a run, and take it up where nobody does."""

    target: str | None


class Unlock(_Command, frozen=True):
    """Take the cluster's lock from a run; a form asks from whom and why."""

    target: str | None


class Show(_Command, frozen=True):
    """Show a run: by its id, or the active one of a cluster."""

    target: str | None


class Runs(_Command, frozen=True):
    """List the newest runs."""

    cluster: str | None


class Help(_Command, frozen=True):
    """Say what can be typed."""


Command = Status | Recover | Readmit | Abort | Retry | Resume | Unlock | Show | Runs | Help


class Reply(msgspec.Struct, frozen=True):
    """Nothing is run; this is said to the person who typed."""

    text: str


USAGE: Mapping[str, str] = {
    "status": "status [cluster] - what every server says, and what is wrong; for everybody",
    "recover": "recover [cluster] [--method NAME] [--lost s2,s3] - propose a recovery; nothing is "
    "changed before it is approved",
    "readmit": "readmit [cluster] SERVER - propose to take a fenced server back into its cluster",
    "abort": "abort [cluster|run] - stop a run before its next step",
    "retry": "retry [cluster|run] - try the failed or blocked step again",
    "resume": "resume [cluster|run] - who drives a run; taken up again where nobody does",
    "unlock": "unlock [cluster|run] - take the lock from a run that can neither be finished nor aborted; asks why",
    "show": "show [cluster|run] - a run as it stands, with its last events",
    "runs": "runs [cluster] - the newest runs",
    "help": "help - this list",
}

_OPTIONS: Mapping[str, frozenset[str]] = {"recover": frozenset({"method", "lost"})}
_MOST_NAMES: Mapping[str, int] = {"readmit": 2}
_MOST_CHARACTERS = 500

# hyphens, figure dash, en dash, em dash, bar, minus; double and single quotes, high and low, and guillemets
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_QUOTES = "\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb"
_LINK = re.compile(r"<([^<>|]*)(?:\|([^<>]*))?>")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# A lost server whose old name nobody knows any more is named by its address: host, or host:port.
_LOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")


def usage(name: str = NAME) -> str:
    """The commands, a line each."""
    return "\n".join(f"{name} {line}" for line in USAGE.values())


def parse(text: str, *, name: str = NAME) -> Command | Reply:
    """Read what was typed; a Reply when it is no command, with what was probably meant."""
    if len(text) > _MOST_CHARACTERS:
        return Reply(f"That is longer than any command here. Nothing was done. Try `{name} help`.")
    words = plain(text).split()
    if not words:
        return Help()
    verb, rest = words[0].lower(), words[1:]
    if verb in {"help", "--help", "-h", "?"}:
        return Help()
    if verb not in USAGE:
        return Reply(_no_such("command", words[0], tuple(USAGE), name=name))
    parsed = _arguments(verb, rest, name=name)
    if isinstance(parsed, Reply):
        return parsed
    named, options = parsed
    target = named[0] if named else None
    match verb:
        case "status":
            return Status(target)
        case "recover":
            lost = tuple(dict.fromkeys(part for part in re.split(r"[,;]", options.get("lost", "")) if part))
            return Recover(target, options.get("method"), lost)
        case "abort":
            return Abort(target)
        case "retry":
            return Retry(target)
        case "readmit" if target is None:
            return Reply(f"Which server? Nothing was done.\n`{name} {USAGE[verb]}`")
        case "readmit":
            return Readmit(named[0] if len(named) > 1 else None, named[-1])
        case "resume":
            return Resume(target)
        case "unlock":
            return Unlock(target)
        case "show":
            return Show(target)
        case _:
            return Runs(target)


def plain(text: str) -> str:
    """Undo what Slack made of the text: links to their label, typographic marks to plain ones, entities."""

    def shown(match: re.Match[str]) -> str:
        target, label = match[1], match[2]
        if target[:1] in {"@", "#", "!"}:
            return label or target
        return label or target.removeprefix("http://").removeprefix("https://").removeprefix("mailto:")

    bare = _LINK.sub(shown, text)
    bare = bare.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    bare = re.sub(rf"(?:(?<=\s)|^)[-{_DASHES}]+(?=[A-Za-z])", "--", bare)
    bare = re.sub(rf"[{_DASHES}]", "-", bare)
    return re.sub(rf"[\"'`*{_QUOTES}]", "", bare)


def _arguments(verb: str, words: list[str], *, name: str) -> tuple[tuple[str, ...], dict[str, str]] | Reply:
    known = _OPTIONS.get(verb, frozenset())
    named: list[str] = []
    options: dict[str, str] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            key = key.lower()
            if key not in known:
                return Reply(_no_such("option", word.partition("=")[0], known, name=name, verb=verb))
            if key in options:
                return Reply(f"`--{key}` is there twice. Nothing was done.")
            if not equals:
                value = waiting.pop(0) if waiting and not waiting[0].startswith("--") else ""
            # People put a space behind the comma.
            while value.endswith(",") and waiting and not waiting[0].startswith("--"):
                value += waiting.pop(0)
            value = value.strip(",;")
            if not value:
                return Reply(f"`--{key}` needs a value. Nothing was done.\n`{name} {USAGE[verb]}`")
            if any(not _LOST.fullmatch(part) for part in re.split(r"[,;]", value)):
                return Reply(f"`--{key}` takes plain names, like `s2` or `s2,s3`. Nothing was done.")
            options[key] = value
        elif word.startswith("-"):
            return Reply(_no_such("option", word, known, name=name, verb=verb))
        elif len(named) < _MOST_NAMES.get(verb, 1):
            if not _NAME.fullmatch(word):
                return Reply("That is no name of a cluster or a run. Nothing was done.")
            named.append(word)
        else:
            return Reply(
                f"One name at a time, please: there are more here. Nothing was done.\n`{name} {USAGE[verb]}`"
            )
    return tuple(named), options


def _no_such(
    kind: str, word: str, known: tuple[str, ...] | frozenset[str], *, name: str, verb: str = ""
) -> str:
    bare = re.sub(r"[^A-Za-z0-9._-]", "", word)[:40]
    close = difflib.get_close_matches(bare.lstrip("-").lower(), sorted(known), n=1, cutoff=0.5)
    dashes = "--" if kind == "option" else ""
    said = f"There is no {kind} “{bare}”. Nothing was done."
    if close:
        place = f"{name} {verb} " if verb else f"{name} "
        return f"{said} Did you mean `{place}{dashes}{close[0]}`? All commands: `{name} help`."
    if verb:
        return f"{said}\n`{name} {USAGE[verb]}`"
    return f"{said} All commands: `{name} help`."
