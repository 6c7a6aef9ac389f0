"""One agent process: what it prints, the signals it obeys, and how it ends.

SIGINT and `consul leave` leave the cluster, SIGTERM does not (unless leave_on_terminate): exit status 0 after a
leave, 1 otherwise. Source: command/agent/command.go at v0.6.4.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from lab.oldconsul import fsm, views
from lab.oldconsul.client import Client
from lab.oldconsul.config import Config, ConfigError, read_config, seconds
from lab.oldconsul.gossip import Gossip, Member, Status
from lab.oldconsul.httpapi import HttpApi
from lab.oldconsul.journal import log, say
from lab.oldconsul.server import NoLeader, Server
from lab.oldconsul.wire import Message, ask, listen
from recovery.boltfile import RaftLogUnreadable

RPC_PORT = 8400
GRACEFUL_TIMEOUT_S = 5.0
_EXEC_TIMEOUT_S = 30.0
_SYNC_EVERY_S = 1.0
_CAUGHT = {signal.SIGINT: "interrupt", signal.SIGTERM: "terminated", signal.SIGHUP: "hangup"}


class Agent:
    """A server or client agent. `run` returns its exit status."""

    def __init__(self, config: Config) -> None:
        self.config = config
        own = Member(
            config.node_name,
            config.advertise_addr,
            views.tags_of(config),
            incarnation=int(time.time() * 1000),
        )
        self.gossip = Gossip(own, changed=self._changed, told=self._told, asked=self._asked)
        self.server = Server.open(config) if config.server else None
        self.cluster: Server | Client = self.server or Client(self.gossip)
        self._ended: asyncio.Queue[signal.Signals | None] = asyncio.Queue()

    # -- what others tell ------------------------------------------------------------------------------------

    def _changed(self, member: Member) -> None:
        if self.server is not None:
            self.server.member_changed(member)

    def _told(self, message: Message) -> None:
        if self.server is not None and message["kind"] == "leader":
            log("INFO", f"consul: New leader elected: {message['name']}")

    async def _asked(self, message: Message) -> Message:
        """Run a command for `consul exec`; without a leader an agent cannot even know of it."""
        if message["kind"] != "exec" or self.config.disable_remote_exec:
            return {"status": None}
        try:
            await self.cluster.read(stale=False, consistent=False)
        except NoLeader as error:
            log("ERR", f"agent: failed to get remote exec job: {error}")
            return {"status": None}
        log("INFO", f"agent: remote exec '{message['command']}'")
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", message["command"],
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        return {"status": process.returncode, "output": output.decode(errors="replace")}

    # -- what the command line asks ----------------------------------------------------------------------------

    def self_json(self) -> Message:
        """Return /v1/agent/self."""
        return views.self_json(self.config, self.gossip.own)

    async def _rpc(self, message: Message) -> Message:
        match message["kind"]:
            case "info":
                server = self.server
                sections = views.info(
                    self.config,
                    self.gossip.members.values(),
                    leads=server is not None and server.is_leader,
                    raft=None if server is None else server.raft_stats(),
                )
                return {"info": views.info_text(sections)}
            case "members":
                return {"members": [views.member_json(each) for each in self.gossip.members.values()]}
            case "join":
                return {"joined": await self.gossip.join(message["addresses"])}
            case "force-leave":
                self.gossip.force_leave(message["name"])
                return {}
            case "exec":
                return {"nodes": await self._exec(message["command"])}
            case _:
                # Only then shut down: the command waits for it.
                await self._leave()
                self._ended.put_nowait(None)
                return {}

    async def _exec(self, command: str) -> dict[str, Message]:
        alive = [each for each in self.gossip.members.values() if each.status is Status.ALIVE]

        async def one(member: Member) -> Message:
            question = {"kind": "exec", "command": command}
            with contextlib.suppress(OSError):
                return await ask(member.address, 8301, question, timeout_s=_EXEC_TIMEOUT_S)
            return {"status": None}

        answers = await asyncio.gather(*(one(member) for member in alive))
        return {member.name: answer for member, answer in zip(alive, answers, strict=True)}

    # -- life --------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Serve until a signal or a leave ends it; raises OSError if a port is taken."""
        loop = asyncio.get_running_loop()
        for caught in _CAUGHT:
            loop.add_signal_handler(caught, self._ended.put_nowait, caught)
        if self.server is not None:
            self.server.gossip = self.gossip
        say("Starting Consul agent...")
        await self.gossip.start()
        say("Starting Consul agent RPC...")
        await listen("127.0.0.1", RPC_PORT, self._rpc)
        await HttpApi(self).start()
        self._announce()
        tasks = [asyncio.create_task(each) for each in (self.gossip.run(), self._join(), self._sync())]
        if self.server is not None:
            tasks.append(asyncio.create_task(self.server.run()))
        ending = asyncio.create_task(self._wait_for_end())
        done, _ = await asyncio.wait([*tasks, ending], return_when=asyncio.FIRST_COMPLETED)
        while ending not in done and all(task.exception() is None for task in done):
            done, _ = await asyncio.wait(
                [ending, *(task for task in tasks if not task.done())], return_when=asyncio.FIRST_COMPLETED
            )
        status = ending.result() if ending in done else _failure(done)
        # A second signal (systemd's own, after somebody's kill) must not change how this ends.
        signal.pthread_sigmask(signal.SIG_BLOCK, _CAUGHT)
        log("INFO", "agent: requesting shutdown")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.server is not None:
            self.server.close()
        log("INFO", "agent: shutdown complete")
        return status

    def _announce(self) -> None:
        yes = {True: "true", False: "false"}
        config = self.config
        say("Consul agent running!")
        for name, value in (
            ("Node name", f"'{config.node_name}'"),
            ("Datacenter", f"'{config.datacenter}'"),
            ("Server", f"{yes[config.server]} (bootstrap: {yes[config.bootstrap]})"),
            ("Client Addr", "127.0.0.1 (HTTP: 8500, HTTPS: -1, DNS: 8600, RPC: 8400)"),
            ("Cluster Addr", f"{config.advertise_addr} (LAN: 8301, WAN: 8302)"),
            ("Gossip encrypt", "false, RPC-TLS: false, TLS-Incoming: false"),
            ("Atlas", "<disabled>"),
        ):
            print(f"{name:>18}: {value}", flush=True)
        say("Log data will now stream in as it occurs:")

    async def _join(self) -> None:
        addresses = [*self.config.start_join, *self.config.retry_join]
        if not addresses:
            return
        log("INFO", "agent: Joining cluster...")
        while True:
            log("INFO", f"agent: (LAN) joining: [{' '.join(addresses)}]")
            joined = await self.gossip.join(addresses)
            if joined:
                log("INFO", f"agent: (LAN) joined: {joined} Err: <nil>")
                log("INFO", f"agent: Join completed. Synced with {joined} initial agents")
                return
            log("WARN", f"agent: Join failed: no agent answered, retrying in {self.config.retry_interval}")
            await asyncio.sleep(seconds(self.config.retry_interval))

    async def _sync(self) -> None:
        """Have the catalogue know this agent, and a server's service."""
        node, told = self.config.node_name, False
        while True:
            try:
                found = await self.cluster.read(stale=False, consistent=False)
                service = self.server is not None
                if service and node in found["nodes"] and not found["services"].get(node):
                    await self._register(service=True)
                    log("INFO", "agent: Synced service 'consul'")
                elif node not in found["nodes"]:
                    await self._register(service=service)
                    log("INFO", "agent: Synced node info")
                told = False
            except NoLeader as error:
                if not told:
                    log("ERR", f"agent: failed to sync remote state: {error}")
                told = True
            await asyncio.sleep(_SYNC_EVERY_S)

    async def _register(self, *, service: bool) -> None:
        config = self.config
        await self.cluster.write(
            fsm.register(
                config.node_name, config.advertise_addr, datacenter=config.datacenter, service=service
            )
        )

    async def _wait_for_end(self) -> int:
        while True:
            caught = await self._ended.get()
            if caught is None:
                return 0
            say(f"Caught signal: {_CAUGHT[caught]}")
            if caught is signal.SIGHUP:
                say("Reloading configuration...")
                continue
            leaves = (
                self.config.leave_on_terminate
                if caught is signal.SIGTERM
                else not self.config.skip_leave_on_interrupt
            )
            return await self._graceful() if leaves else 1

    async def _graceful(self) -> int:
        say("Gracefully shutting down agent...")
        leaving = asyncio.create_task(self._leave())
        again = asyncio.create_task(self._ended.get())
        done, _ = await asyncio.wait(
            [leaving, again], timeout=GRACEFUL_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
        )
        for task in (leaving, again):
            task.cancel()
        return 0 if leaving in done else 1

    async def _leave(self) -> None:
        if self.server is not None:
            await self.server.leave(self.gossip)
        else:
            log("INFO", "consul: client starting leave")
            await self.gossip.leave()


def _failure(done: Iterable[asyncio.Task[Any]]) -> int:
    for task in done:
        log("ERR", f"agent: {task.exception()!r}")
    return 1


def main(words: Sequence[str]) -> int:
    """Be `consul agent WORDS`; returns the exit status."""
    try:
        config = read_config(words, host_name=os.uname().nodename)
    except (ConfigError, ValueError) as error:
        print(f"==> {error}", file=sys.stderr, flush=True)
        return 1
    if config.bootstrap_expect == 1:
        say("WARNING: BootstrapExpect Mode is specified as 1; this is the same as Bootstrap mode.")
        config.bootstrap, config.bootstrap_expect = True, 0
    elif config.bootstrap_expect:
        say(f"WARNING: Expect Mode enabled, expecting {config.bootstrap_expect} servers")
    if config.bootstrap:
        say("WARNING: Bootstrap mode enabled! Do not enable unless necessary")
    try:
        return asyncio.run(Agent(config).run())
    except (OSError, ValueError, RaftLogUnreadable) as error:
        print(
            f"==> Error starting agent: Failed to start Consul {'server' if config.server else 'client'}:"
            f" Failed to start Raft: {error}",
            file=sys.stderr,
            flush=True,
        )
        return 1
