"""The terminal: the same use cases for the night when Slack is down.

Status 0: done. 1: refused, failed, or something could not be reached. 2: wrong usage. 3: `status` reached no
server. With --json an error is one object on stdout, {"error": ...}, and nothing else is there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from bot import doctor_command, inventory_command, logs, raft_log_command, screen
from bot.terminal import FAILED, USAGE, Terminal, WrongUsage
from bot.terminal_user import Traces, chosen_settings, forget_the_callers_words, sitter, traces
from bot.version import version
from bot.wiring import open_core, rules_of, secrets_of
from config.settings import load_settings
from config.values import Settings
from recovery.errors import RecoveryError, SettingsProblem
from recovery.procedures import METHODS, readmit

# A readmission names a server, so it is a command of its own.
_METHODS = tuple(method for method in METHODS if method != readmit.NAME)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command."""
    typed = sys.argv[1:] if argv is None else argv
    seen, told = traces(os.environ), dict(os.environ)
    if seen.lent:
        forget_the_callers_words(os.environ, uid=seen.uid)
    try:
        # Not set_defaults: the option may stand before or behind the command.
        arguments = _parser().parse_args(typed, argparse.Namespace(settings=None, json=False))
        sys.exit(_run(arguments, seen, chosen_settings(seen, arguments.settings, told)))
    except RecoveryError as problem:
        # Asked of the words themselves: where they make no sense, nothing was parsed.
        if "--json" in typed:
            screen.tell_json(sys.stdout, json.dumps({"error": str(problem)}))
        else:
            screen.tell(sys.stderr, str(problem))
        sys.exit(USAGE if isinstance(problem, WrongUsage) else FAILED)
    except KeyboardInterrupt:
        sys.exit(FAILED)
    except BrokenPipeError:
        # Somebody closed the pager; nothing is left to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)


def inventory() -> NoReturn:
    """Be the program that Ansible calls as an inventory: with --list, or --host NAME, and nothing else."""
    main(["inventory", *sys.argv[1:]])


def _run(arguments: argparse.Namespace, seen: Traces, path: Path) -> int:
    if arguments.command == "raft-log":
        return raft_log_command.run(arguments.path, as_json=arguments.json, out=sys.stdout)
    if arguments.command == "doctor":
        return asyncio.run(doctor_command.run(path, as_json=arguments.json, out=sys.stdout, seen=seen))
    settings = _settings(path)
    # The terminal shows what matters itself; only what is wrong goes to the log.
    logs.configure(secrets_of(settings), level=30)
    return asyncio.run(_serve(settings, arguments, seen))


def _settings(path: Path) -> Settings:
    """The settings, with Slack where its part is good: a terminal works without."""
    try:
        return load_settings(path, environ=os.environ)
    except SettingsProblem:
        return load_settings(path, environ=os.environ, slack=False)


async def _serve(settings: Settings, arguments: argparse.Namespace, seen: Traces) -> int:
    async with open_core(settings, kind="terminal") as core:
        terminal = Terminal(
            core,
            rules=rules_of(settings),
            user=sitter(seen, settings.terminal_identity),
            as_json=arguments.json,
        )
        match arguments.command:
            case "inventory":
                return await inventory_command.run(
                    core.service,
                    core.service.resolve_cluster(arguments.cluster),
                    host=arguments.host,
                    plain=arguments.plain,
                    now_s=core.clock.now_s(),
                    out=sys.stdout,
                    notes=sys.stderr,
                )
            case "status":
                return await terminal.status(arguments.cluster)
            case "plan":
                return await terminal.plan(arguments.cluster, method=arguments.method, lost=arguments.lost)
            case "recover":
                return await terminal.recover(arguments.cluster, method=arguments.method, lost=arguments.lost)
            case "approve":
                return await terminal.approve(
                    arguments.run,
                    yes=arguments.yes,
                    digest=arguments.digest,
                    typed=arguments.type,
                    alone=arguments.alone,
                )
            case "readmit":
                return await terminal.readmit(arguments.cluster, server=arguments.server)
            case "abort":
                return await terminal.abort(arguments.target)
            case "resume":
                return await terminal.resume(arguments.target)
            case "unlock":
                return await terminal.unlock(
                    arguments.target, holder=arguments.holder, reason=arguments.reason
                )
            case "retry":
                return await terminal.retry(arguments.target)
            case "runs":
                return await terminal.runs(arguments.cluster)
            case _:
                return await terminal.show(arguments.run)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.replace(";", ",").split(",") if part.strip()))
    if not names:
        raise argparse.ArgumentTypeError("no server is named; write s2,s3")
    return names


class _Parser(argparse.ArgumentParser):
    """Wrong usage is told like every other error: as text or as JSON."""

    def error(self, message: str) -> NoReturn:
        """Raise WrongUsage; argparse itself would print and leave."""
        raise WrongUsage(f"{self.prog}: {message}. Nothing was done.\n{self.format_usage().rstrip()}")


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument(
        "--settings", metavar="FILE", help="the settings file; through sudo or su the default one alone"
    )
    common.add_argument("--json", action="store_true", help="print JSON")
    parser = _Parser(
        prog="consul-recovery",
        description="Recover Consul clusters that lost their leader, from a terminal.",
        epilog="Nothing is changed on any host before it is approved.",
        parents=[common],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[common], allow_abbrev=False)

    status = add("status", "Look at every server of a cluster.")
    status.add_argument("cluster", nargs="?")
    for name, text in (
        ("plan", "Show what would be proposed, without proposing it."),
        ("recover", "Propose a recovery, and drive it here once it is approved."),
    ):
        planned = add(name, text)
        planned.add_argument("cluster", nargs="?")
        planned.add_argument(
            "--method",
            choices=_METHODS,
            metavar="NAME",
            help=f"{' or '.join(_METHODS)}; left out: the smallest that heals",
        )
        planned.add_argument(
            "--lost", type=_names, default=(), metavar="S2,S3", help="servers that are gone for good"
        )
    readmit = add("readmit", "Propose to take a fenced server back, and drive it here once it is approved.")
    readmit.add_argument("cluster", nargs="?")
    readmit.add_argument("server")
    approve = add("approve", "Approve what a run asks for.")
    approve.add_argument("run")
    approve.add_argument("--yes", action="store_true", help="do not ask; needs --digest")
    approve.add_argument(
        "--alone",
        metavar="REASON",
        help="break-glass: you asked for it and nobody else is there; where the settings allow it, and all are told",
    )
    approve.add_argument(
        "--digest", default="", metavar="HEX", help="the plan's digest, 6 characters or more"
    )
    approve.add_argument(
        "--type",
        action="append",
        default=[],
        metavar="SERVER",
        help="a server that has to be vouched for, by name: it cannot be fenced, or a founding says it never held data",
    )
    for name, text in (
        ("abort", "Stop a run before its next step."),
        ("retry", "Try the failed or blocked step again."),
        ("resume", "Stay with a run, and drive it here where nobody does."),
    ):
        add(name, text).add_argument("target", nargs="?", metavar="RUN|CLUSTER")
    unlock = add("unlock", "Take the lock from a run that can neither be finished nor aborted.")
    unlock.add_argument("target", nargs="?", metavar="RUN|CLUSTER")
    unlock.add_argument("--holder", default="", help="from whom: the living driver, else the run")
    unlock.add_argument("--reason", default="", help="why; kept in the journal")
    add("runs", "List the newest runs of a cluster.").add_argument("cluster", nargs="?")
    add("show", "Show a run with its journal.").add_argument("run")
    printed = add("inventory", "Print the members as an Ansible dynamic inventory.")
    asked = printed.add_mutually_exclusive_group(required=True)
    asked.add_argument("--list", action="store_true", help="all members, in groups")
    asked.add_argument("--host", metavar="NAME", help="the variables of one member")
    printed.add_argument("--plain", action="store_true", help="hosts as NAME, not as NAME.node.consul")
    printed.add_argument(
        "--cluster",
        metavar="NAME",
        default=os.environ.get(inventory_command.CLUSTER_VARIABLE) or None,
        help=f"left out: {inventory_command.CLUSTER_VARIABLE}, or the only one",
    )
    add("doctor", "Check the settings and every way to Redis, Slack and the servers.")
    add("raft-log", "Say what Raft logs hold, without Consul.").add_argument(
        "path", nargs="+", type=Path, help="a raft.db, a wal folder, a raft directory or a data_dir"
    )
    return parser


if __name__ == "__main__":
    main()
