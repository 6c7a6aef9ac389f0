"""`python -m lab`: make a data centre, look at it, break it, log in to it, take it away.

python -m lab up --servers 3 --clients 1
python -m lab break replace-majority
python -m lab shell s1
python -m lab down
"""

import argparse
import asyncio
import os
import sys

from lab.breakage import BREAKAGES, break_cluster
from lab.datacentre import Lab
from lab.errors import LabError
from lab.oldconsul.build import program as old_consul
from lab.root import ensure_root
from lab.teardown import lab_names, take_away

DEFAULT_NAME = "play"
_Raw = argparse.RawDescriptionHelpFormatter


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__, formatter_class=_Raw)
    parser.add_argument("--name", help=f"which lab (default: {DEFAULT_NAME}; of status: all)")
    words = parser.add_subparsers(dest="word", required=True, metavar="WORD")
    words.add_parser("root", help="build the Debian tree that all hosts share, if it is not there")
    up = words.add_parser("up", help="boot hosts with a Consul cluster on them")
    up.add_argument("--servers", type=int, default=3)
    up.add_argument("--clients", type=int, default=0)
    up.add_argument("--acl", action="store_true", help="ACLs on, default deny")
    up.add_argument(
        "--default-timing", action="store_true", help="Consul's own raft_multiplier: slow elections"
    )
    up.add_argument("--old", action="store_true", help="the stand-in of Consul 0.6.4 instead of 1.8.7")
    ways = "\n".join(f"  {word:<18}{(act.__doc__ or '').splitlines()[0]}" for word, act in BREAKAGES.items())
    breaking = words.add_parser(
        "break", help="break the cluster", epilog=f"ways:\n{ways}", formatter_class=_Raw
    )
    breaking.add_argument("way", choices=sorted(BREAKAGES), metavar="WAY")
    shell = words.add_parser("shell", help="log in to a host as root, past SSH")
    shell.add_argument("host")
    for word, text in (("on", "switch a host on"), ("off", "cut a host's power")):
        words.add_parser(word, help=text).add_argument("host")
    down = words.add_parser("down", help="take the lab away, with all that it consists of")
    down.add_argument("lab", nargs="?", metavar="NAME", help="which lab, as --name")
    down.add_argument(
        "--all", action="store_true", help="every lab of this machine, and what is left of dead ones"
    )
    words.add_parser("status", help="show the labs, their hosts, and who leads")
    return parser


def _name(arguments: argparse.Namespace) -> str:
    return str(arguments.name or DEFAULT_NAME)


async def _up(arguments: argparse.Namespace) -> None:
    lab = Lab.make(_name(arguments), keep=True)
    try:
        cluster = await lab.up(
            servers=arguments.servers,
            clients=arguments.clients,
            acl=arguments.acl,
            raft_multiplier=None if arguments.default_timing else 1,
            consul=old_consul() if arguments.old else None,
        )
    except BaseException:
        lab.destroy()
        raise
    await _status(lab)
    if cluster.tokens is not None:
        print(f"ACL tokens: in {lab.folder}/lab.json")
    this = f"python -m lab --name {lab.name}"
    print(f"Next: `{this} break WAY`, `{this} shell s1`, `{this} down`.")


async def _status(lab: Lab) -> None:
    print(f"lab {lab.name}: {lab.folder}; ssh -i {lab.ssh_key} {lab.ssh_user}@... from inside its network")
    for host in lab.hosts:
        if not host.is_on():
            print(f"  {host.name}  {host.address}  powered off")
            continue
        active = (await host.run("systemctl is-active consul", check=False)).strip()
        leads = host.server and await lab.cluster.names_itself_leader(host)
        print(f"  {host.name}  {host.address}  consul {active}{', leader' if leads else ''}")


async def _act(arguments: argparse.Namespace) -> None:
    match arguments.word:
        case "root":
            print(ensure_root())
        case "up":
            await _up(arguments)
        case "break":
            lab = Lab.attach(_name(arguments))
            await break_cluster(lab, arguments.way)
            await _status(lab)
        case "on":
            await Lab.attach(_name(arguments)).host(arguments.host).start()
        case "off":
            await Lab.attach(_name(arguments)).host(arguments.host).kill()
        case "down":
            _down(arguments)
        case _:
            names = lab_names() if arguments.name is None else (arguments.name,)
            for name in names:
                await _status(Lab.attach(name))
            if not names:
                print("No lab is there. `python -m lab up` makes one.")


def _down(arguments: argparse.Namespace) -> None:
    there = lab_names()
    if arguments.all:
        for name in there:
            take_away(name)
        return
    if None not in (arguments.name, arguments.lab) and arguments.name != arguments.lab:
        raise LabError(f"Which lab, {arguments.name} or {arguments.lab}? Nothing was taken away. Name one.")
    name = arguments.lab or _name(arguments)
    if name not in there:
        are = f"There is {', '.join(there)}." if there else "There is none at all."
        raise LabError(f"There is no lab named {name}; nothing was taken away. {are}")
    take_away(name)


def main() -> None:
    """Do what the command line asks; a person reads one sentence if it cannot be done."""
    arguments = _parser().parse_args()
    try:
        if arguments.word == "shell":
            # Becomes the shell, so that the terminal and its signals are the host's.
            command = Lab.attach(_name(arguments)).host(arguments.host).enter_command("bash", "--login")
            os.execvp(command[0], command)
        asyncio.run(_act(arguments))
    except LabError as error:
        sys.exit(str(error))
    except PermissionError as error:
        sys.exit(f"{error.filename}: not permitted. The lab needs root: run this with sudo.")


if __name__ == "__main__":
    main()
