"""The cluster's hosts and agents, as the engine sees them (ports.World): checks and actions become calls."""

from __future__ import annotations

import base64
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, assert_never

import msgspec

from recovery.adapters.asking import all_answers, ask, first_pulses, leaders_of, looks, pulses
from recovery.adapters.checks import answer, before_0_7
from recovery.adapters.client_agents import ClientAgents
from recovery.adapters.collect import Probe
from recovery.adapters.consul_api import AgentAccess, AgentSilent
from recovery.adapters.host_commands import Host, HostAccess
from recovery.adapters.journal_lines import telling
from recovery.adapters.peers_file import peers_json
from recovery.adapters.ssh import SshPool
from recovery.errors import HostRefused, HostUnreachable, InDoubt, RecoveryError
from recovery.model import (
    ClusterObservation,
    ClusterSpec,
    Fact,
    Fails,
    Holds,
    HostTrace,
    HostView,
    RunId,
    ServerName,
    Sighting,
    Unknown,
)
from recovery.plan import (
    Action,
    ArchiveState,
    Check,
    FenceAgent,
    HoldAgent,
    JoinGossip,
    LiftFence,
    Observe,
    OverrideExpect,
    ReleaseHold,
    RemoveOverride,
    RemovePeers,
    SaveSnapshot,
    StartAgent,
    StopAgent,
    WipeRaft,
    WritePeers,
)
from recovery.ports import ActKey, MembersTold

_JOURNAL_LINES: Final = 300


class ClusterWorld:
    """One cluster's world. The pool may be shared by several; whoever made it closes it."""

    def __init__(
        self,
        spec: ClusterSpec,
        *,
        pool: SshPool,
        host: HostAccess,
        agent: AgentAccess,
        clients: ClientAgents | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Make it; without ``clients`` only those are known that gossip shows."""
        self._probe = Probe(spec, pool=pool, host=host, agent=agent)
        self._clients = clients or ClientAgents(spec.servers)
        self._names = tuple(server.name for server in spec.servers)
        self._agent = agent
        self._now_s = now_s

    async def observe(self) -> ClusterObservation:
        """Look at every server in parallel; what cannot be seen is in the observation, never raised."""
        seen = await self._probe.observe(now_s=self._now_s)
        clients, problem = await self._clients.find(seen.servers, at_s=seen.taken_at_s)
        self._probe.reach(clients)
        return msgspec.structs.replace(seen, clients=clients, clients_problem=problem)

    async def members(self) -> MembersTold | None:
        """Give the member list of the server that answers first; None where none does."""
        async for name, view in first_pulses(self._probe, self._names):
            if view.node_name in {member.name for member in view.members}:
                return MembersTold(name, view.members)
        return None

    async def check(self, check: Check, *, run: RunId) -> Fact:
        """Answer one question now; never raises."""
        try:
            await self._reach(_server_of(check))
        except RecoveryError as fault:
            return Unknown(str(fault))
        return await answer(self._probe, check, run=run)

    async def _reach(self, name: ServerName | None) -> None:
        """Make sure that a client agent's host is known, also in a process that has never looked.

        Raises HostUnreachable for a name that nobody knows now.
        """
        if name is None or name in self._probe.hosts:
            return
        found = await self._clients.find((), at_s=self._now_s())
        self._probe.reach(found.clients)
        if name not in self._probe.hosts:
            raise HostUnreachable(
                f"{name} is no server of the settings, and no client agent that is known now. Nothing was done. "
                f"Write its name and address under clients in the settings. {found.problem}".rstrip()
            )

    async def perform(self, action: Action, *, key: ActKey, timeout_s: float) -> str:
        """Do it, and give one line of evidence.

        Raises HostRefused (nothing was changed), HostUnreachable (nothing was sent)
        or InDoubt (cut off: it may have happened).
        """
        await self._reach(_server_of(action))
        match action:
            case SaveSnapshot(server):
                token = self._agent.token.reveal() if self._agent.token else ""
                return await self._act(server, "snapshot", key, timeout_s, self._agent.url, payload=token)
            case HoldAgent(server):
                return await self._act(server, "hold", key, timeout_s)
            case ReleaseHold(server):
                return await self._act(server, "release", key, timeout_s)
            case StopAgent(server):
                return await self._act(server, "stop", key, timeout_s)
            case StartAgent(server):
                return await self._act(server, "start", key, timeout_s)
            case ArchiveState(server):
                return await self._act(server, "archive", key, timeout_s)
            case FenceAgent(server):
                return await self._act(server, "fence", key, timeout_s)
            case LiftFence(server):
                return await self._act(server, "lift", key, timeout_s)
            case WipeRaft(server):
                return await self._act(server, "wipe-raft", key, timeout_s)
            case WritePeers():
                return await self._write_peers(action, key, timeout_s)
            case RemovePeers(server):
                return await self._act(server, "remove-peers", key, timeout_s)
            case OverrideExpect(server, expect):
                return await self._act(server, "override-expect", key, timeout_s, str(expect))
            case RemoveOverride(server):
                return await self._act(server, "remove-override", key, timeout_s)
            case JoinGossip(server, addresses):
                return await self._join(server, addresses)
            case Observe():
                return "nothing to do; the checks are waited for"
            case _:
                assert_never(action)

    async def _act(
        self, server: ServerName, verb: str, key: ActKey, timeout_s: float, *extra: str, payload: str = ""
    ) -> str:
        return await self._probe.hosts[server].act(verb, key, *extra, payload=payload, timeout_s=timeout_s)

    async def _write_peers(self, action: WritePeers, key: ActKey, timeout_s: float) -> str:
        host = await self._probe.hosts[action.server].look()
        # Where peers.json is the live file a peers.info must not be made: an upgrade would take both for a recovery.
        info = "no-info" if before_0_7(host.version) else "info"
        content = peers_json(action.peers, raft_protocol=action.raft_protocol)
        payload = base64.b64encode(content.encode()).decode()
        return await self._act(action.server, "write-peers", key, timeout_s, info, payload=payload)

    async def _join(self, server: ServerName, addresses: tuple[str, ...]) -> str:
        joined: list[str] = []
        problems: list[str] = []
        try:
            async with self._probe.agent(server) as agent:
                for address in addresses:
                    reply = await agent.join(address)
                    if reply.code == 200:
                        joined.append(address)
                    else:
                        problems.append(f"{address}: {reply.code} {reply.body.strip()[:120]}")
        except AgentSilent as silent:
            # An agent that still tries its own retry_join, dead addresses among them, answers only after that; and
            # by that it may well have joined.
            raise InDoubt(
                f"{server}: {silent}. It may have joined all the same; joining is harmless to repeat."
            ) from None
        if not joined:
            raise HostRefused(
                f"{server}: no address could be joined ({'; '.join(problems) or 'none was given'}). "
                "Nothing was changed. Check port 8301 between the servers and the gossip keys."
            )
        return f"joined {', '.join(joined)}" + (f"; not {'; '.join(problems)}" if problems else "")

    async def receipt(self, action: Action, *, key: ActKey) -> Fact:
        """Whether the host's receipt says that this try was done: Holds, Fails (no receipt) or Unknown."""
        match action:
            case JoinGossip() | Observe():
                return Fails("it leaves no receipt; doing it again does no harm")
            case _:
                try:
                    await self._reach(_server_of(action))
                    done = await self._probe.hosts[action.server].receipt(key)
                except RecoveryError as fault:
                    return Unknown(str(fault))
                return Holds("the host has a receipt") if done else Fails("the host has no receipt")

    async def claim(self, servers: Sequence[ServerName], *, key: ActKey) -> Mapping[ServerName, str]:
        """Have these hosts refuse every older driver; a sentence for each that could not be told."""
        return await self._tell(servers, lambda host: host.claim(key))

    async def close(self, servers: Sequence[ServerName], *, run: RunId) -> Mapping[ServerName, str]:
        """Have these hosts refuse whatever is still on its way for a run; a sentence for each that was not told."""
        return await self._tell(servers, lambda host: host.close(run))

    async def _tell(
        self, servers: Sequence[ServerName], word: Callable[[Host], Awaitable[None]]
    ) -> Mapping[ServerName, str]:
        async def told(name: ServerName) -> None:
            await self._reach(name)
            await word(self._probe.hosts[name])

        answers = await all_answers(servers, {name: ask(told(name)) for name in servers})
        return {name: problem for name, problem in answers.items() if problem is not None}

    async def explain(self, server: ServerName) -> tuple[str, ...]:
        """Give the last telling lines of a server's journal, secrets removed; empty where there are none."""
        try:
            await self._reach(server)
            return telling(await self._probe.hosts[server].journal(_JOURNAL_LINES))
        except RecoveryError as fault:
            return (str(fault),)

    async def traces(self) -> tuple[HostTrace, ...]:
        """Give what drivers have left on each host that could be reached."""
        found = await looks(self._probe, self._names)
        return tuple(
            HostTrace(server=name, epoch=host.epoch, run=host.last_run, receipts=host.receipts)
            for name, host in found.items()
            if isinstance(host, HostView)
        )

    async def leaders(self) -> tuple[ServerName, ...]:
        """Name the servers that name themselves leader right now; those that do not answer are left out."""
        return leaders_of(await pulses(self._probe, self._names, numbers=False))

    async def running(self, servers: Sequence[ServerName]) -> tuple[Sighting, ...]:
        """Tell those of these servers that run an agent right now; those that cannot be looked at are left out."""
        now_s = self._now_s()
        return tuple(
            Sighting(
                server=name,
                since_s=now_s - host.running_s if host.running_s >= 0 else 0.0,
                by=_origin(host),
                hold_left=host.hold_left,
            )
            for name, host in (await looks(self._probe, servers)).items()
            if isinstance(host, HostView) and host.running
        )


def _origin(host: HostView) -> str:
    """Say what a process is, what started it, and why its hold did not keep it from that."""
    said = [f"process {host.main_pid}", f"started as {host.run_by or 'nobody knows what'}"]
    if host.hold_void or host.fence_void:
        said.append(f"its hold bars nobody: {host.hold_void or host.fence_void}")
    return ", ".join(said)


def _server_of(about: Check | Action) -> ServerName | None:
    """Name the one server or client agent that it is about; None where it is about several, or none."""
    name: ServerName | None = getattr(about, "server", None)
    return name
