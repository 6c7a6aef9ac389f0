"""The command line: agent, version, info, members, exec, join, leave, force-leave. No other is known to it.

They speak to the running agent on 127.0.0.1:8400, as those of 0.6 did; `exec` makes its session over HTTP.
Source: command/*.go at v0.6.4; the captures.
"""

import asyncio
import http.client
import json
import re
import sys
from collections.abc import Sequence

from lab.oldconsul import agent, httpapi, views
from lab.oldconsul.gossip import Status
from lab.oldconsul.wire import Message, ask

_TIMEOUT_S = 60.0


class Refused(Exception):
    """The command ends with exit status 1 and this text."""


def _ask(message: Message) -> Message:
    try:
        return asyncio.run(ask("127.0.0.1", agent.RPC_PORT, message, timeout_s=_TIMEOUT_S))
    except OSError as error:
        if isinstance(error, ConnectionRefusedError):
            reason = f"dial tcp 127.0.0.1:{agent.RPC_PORT}: connect: connection refused"
        else:
            reason = str(error)
        raise Refused(f"Error connecting to Consul agent: {reason}") from error


def _http(method: str, path: str, body: bytes = b"") -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", httpapi.PORT, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        content = answer.read()
    except OSError as error:
        raise Refused(f"Failed to create session: {error}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise Refused(
            f"Failed to create session: Unexpected response code: {answer.status} ({content.decode()})"
        )
    return content


def _members(words: Sequence[str]) -> str:
    found = _ask({"kind": "members"})["members"]
    for word in words:
        if word.startswith("-status="):
            wanted = re.compile(f"^{word.partition('=')[2]}$")
            names = {status.value: status.name.lower() for status in Status}
            found = [each for each in found if wanted.match(names[each["Status"]])]
    if not found:
        raise Refused("")
    return views.members_text(found, detailed="-detailed" in words)


def _exec(words: Sequence[str]) -> str:
    command = " ".join(word for word in words if not word.startswith("-"))
    if not command:
        raise Refused("Must specify a command to execute")
    session = json.loads(_http("PUT", "/v1/session/create", b'{"Name":"Remote Exec","TTL":"15s"}'))["ID"]
    nodes = _ask({"kind": "exec", "command": command})["nodes"]
    _http("PUT", f"/v1/session/destroy/{session}")
    ran = {name: answer for name, answer in nodes.items() if answer["status"] is not None}
    lines: list[str] = []
    for name, answer in ran.items():
        lines.extend(f"    {name}: {line}" for line in answer["output"].splitlines())
        lines.append(f"==> {name}: finished with exit code {answer['status']}")
    lines.append(f"{len(ran)} / {len(ran)} node(s) completed / acknowledged")
    return "\n".join(lines)


def _join(addresses: Sequence[str]) -> str:
    joined = _ask({"kind": "join", "addresses": addresses})["joined"]
    if not joined:
        raise Refused("Error joining the cluster: no agent answered")
    return f"Successfully joined cluster by contacting {joined} nodes."


def main(argv: Sequence[str]) -> int:
    """Run `consul ARGV` and return its exit status."""
    match argv:
        case ["agent", *words]:
            return agent.main(words)
        case ["version" | "-v" | "--version", *_]:
            print(views.VERSION_TEXT)
            return 0
    try:
        match argv:
            case ["info", *_]:
                print(_ask({"kind": "info"})["info"])
            case ["members", *words]:
                print(_members(words))
            case ["exec", *words]:
                print(_exec(words))
            case ["leave", *_]:
                _ask({"kind": "leave"})
                print("Graceful leave complete")
            case ["force-leave", name]:
                _ask({"kind": "force-leave", "name": name})
            case ["join", *addresses] if addresses:
                print(_join(addresses))
            case _:
                print("usage: consul [--version] [--help] <command> [<args>]", file=sys.stderr)
                return 127
    except Refused as error:
        print(error, file=sys.stderr)
        return 1
    return 0
