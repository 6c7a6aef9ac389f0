"""Look at all servers of a cluster at once: host, agent, and a stopped server's Raft log.

What cannot be seen is in the observation with its reason; observing raises nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

import msgspec

from recovery.adapters.answers import parse_info, with_stats, without_stats
from recovery.adapters.consul_api import Agent, AgentAccess, AgentSilent
from recovery.adapters.host_commands import Host, HostAccess
from recovery.adapters.journal_lines import telling
from recovery.adapters.log_reads import LogReader
from recovery.adapters.shared_question import SharedQuestion
from recovery.adapters.ssh import SshPool
from recovery.boltfile import RaftLogUnreadable
from recovery.diagnosis.survey import blank, directory_is_missing
from recovery.diagnosis.versions import live_peers_file
from recovery.errors import HostHindered, HostUnreachable, RecoveryError
from recovery.model import (
    AgentView,
    ClientAgent,
    ClusterObservation,
    ClusterSpec,
    HostView,
    ServerName,
    ServerObservation,
    ServerSpec,
    StoredLog,
)
from recovery.raftentry import LogPosition, parse_snapshot_meta
from recovery.raftlog import newest_snapshot

_SERVER_DEADLINE_S: Final = 30.0
_JOURNAL_LINES: Final = 300
HEARTBEAT_TIMEOUT_S: Final = 1.0
"""Raft's HeartbeatTimeout: below 0.7 whoever was started or has stepped down waits at least this long before it leads.

Newer ones can hand a leadership over without it.
"""


class Probe(LogReader):
    """Everything that can be asked about the servers of one cluster, over one SSH connection a host."""

    def __init__(
        self,
        spec: ClusterSpec,
        *,
        pool: SshPool,
        host: HostAccess,
        agent: AgentAccess,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self._pool = pool
        self._host_access = host
        self._agent_access = agent
        self._hosts = {server.name: Host(pool, server.address, host) for server in spec.servers}
        super().__init__(self._hosts, monotonic_s=monotonic_s)
        self._servers = frozenset(self._hosts)
        self._pulses: dict[tuple[ServerName, bool], SharedQuestion[AgentView]] = {}
        self._log_ends: dict[ServerName, _LogEnd] = {}

    def reach(self, clients: Iterable[ClientAgent]) -> None:
        """Learn the hosts of client agents too; one that has moved is reached where it is now."""
        for client in clients:
            known = self._hosts.get(client.name)
            if known is None or known.address != client.address:
                self._hosts[client.name] = Host(self._pool, client.address, self._host_access)

    @asynccontextmanager
    async def agent(self, name: ServerName) -> AsyncIterator[Agent]:
        """Open a way to a server's agent; raises HostUnreachable."""
        path = await self._pool.socket_to(self.hosts[name].address, self._agent_access.http_port)
        agent = Agent(path, self._agent_access)
        try:
            yield agent
        finally:
            await agent.aclose()

    async def observe(self, *, now_s: Callable[[], float]) -> ClusterObservation:
        """Look at every server in parallel; one that takes too long is an unreachable one."""
        seen = await asyncio.gather(*(self._observe(server) for server in self.spec.servers))
        sets = {
            frozenset(peer.id for peer in server.configuration) for server in seen if server.configuration
        }
        if len(sets) > 1:
            seen = await asyncio.gather(*(self._with_origin(server) for server in seen))
        return ClusterObservation(cluster=self.spec.name, taken_at_s=now_s(), servers=tuple(seen))

    async def _with_origin(self, seen: ServerObservation) -> ServerObservation:
        """See whether a server's peer set is that of a snapshot with configuration index 1, as a recovery leaves it."""
        if not seen.configuration or seen.host is None or not seen.host.snapshots:
            return seen
        try:
            metas = await self.hosts[seen.name].snapshot_metas()
            newest = newest_snapshot([parse_snapshot_meta(meta) for meta in metas])
        except RaftLogUnreadable as damage:
            return msgspec.structs.replace(seen, origin_problem=damage.reason)
        except RecoveryError as fault:
            return msgspec.structs.replace(seen, origin_problem=str(fault))
        ours = {peer.id for peer in seen.configuration if peer.voter}
        if newest is None or newest.configuration_index != 1:
            return seen
        same = {peer.id for peer in newest.servers if peer.voter} == ours
        return msgspec.structs.replace(seen, set_by_snapshot=newest.last if same else None)

    async def _observe(self, server: ServerSpec) -> ServerObservation:
        blind = ServerObservation(name=server.name, address=server.address)
        try:
            async with asyncio.timeout(_SERVER_DEADLINE_S):
                return await self._observe_reached(blind)
        except RecoveryError as fault:
            return msgspec.structs.replace(blind, host_problem=str(fault), answers=answers(fault))
        except TimeoutError:
            return msgspec.structs.replace(
                blind,
                answers=self._pool.connected(server.address),
                host_problem=f"{server.address}: not looked at within {_SERVER_DEADLINE_S:g} s. Nothing was done. "
                "Check that host's load and the network to it.",
            )

    async def hindered(self, names: Iterable[ServerName]) -> tuple[ServerName, ...]:
        """Name the servers whose host answers SSH and could not be looked at just now."""

        async def one(name: ServerName) -> bool:
            try:
                await self.hosts[name].look()
            except RecoveryError as fault:
                return answers(fault)
            return False

        asked = tuple(names)
        found = await asyncio.gather(*(one(name) for name in asked))
        return tuple(name for name, is_so in zip(asked, found, strict=True) if is_so)

    async def _observe_reached(self, blind: ServerObservation) -> ServerObservation:
        seen = await self._observe_looked_at(blind)
        if blank(seen) or directory_is_missing(seen):
            return await self._with_directory(seen)
        return seen

    async def _with_directory(self, seen: ServerObservation) -> ServerObservation:
        """Ask the host what tells whether an empty data directory is a new one: it costs more than a look."""
        try:
            view = await self.hosts[seen.name].origin()
        except RecoveryError as fault:
            return msgspec.structs.replace(seen, directory_problem=str(fault))
        return msgspec.structs.replace(seen, directory=view)

    async def _observe_looked_at(self, blind: ServerObservation) -> ServerObservation:
        host = await self.hosts[blind.name].look()
        host = msgspec.structs.replace(host, api_problem=api_problem(host, self._agent_access))
        seen = msgspec.structs.replace(blind, host=host)
        if host.running:
            view, problem = await self._agent_view(blind.name)
            host = host if view is None else as_the_agent_says(host, view)
            seen = msgspec.structs.replace(seen, host=host, agent=view, agent_problem=problem)
            return await self._without_peers(seen, host) if view is not None and not view.peers else seen
        seen = msgspec.structs.replace(seen, agent_problem="the agent is stopped")
        stored = await self.stored(blind.name, host)
        if isinstance(stored, str):
            return msgspec.structs.replace(seen, stored_problem=stored)
        return msgspec.structs.replace(seen, stored=stored)

    async def _without_peers(self, seen: ServerObservation, host: HostView) -> ServerObservation:
        """See why a running server has no peers; below 0.7 such a one writes nothing, so its log can be read."""
        lines: tuple[str, ...] = ()
        with contextlib.suppress(RecoveryError):
            lines = telling(await self.hosts[seen.name].journal(_JOURNAL_LINES))
        seen = msgspec.structs.replace(seen, journal=lines)
        if not live_peers_file(seen):
            return seen
        stored = await self.stored(seen.name, host, running=True)
        if isinstance(stored, str):
            return msgspec.structs.replace(seen, stored_problem=stored)
        return msgspec.structs.replace(seen, stored=stored)

    async def _agent_view(self, name: ServerName) -> tuple[AgentView | None, str]:
        try:
            async with self.agent(name) as agent:
                view = await agent.view(own_address=self.hosts[name].address)
            return await self._completed(name, view), ""
        except AgentSilent as silent:
            return None, str(silent)
        except RecoveryError as fault:
            return None, str(fault)

    async def pulse(self, name: ServerName, *, numbers: bool = True) -> AgentView:
        """Ask an agent what it answers at once; raises AgentSilent or HostUnreachable.

        Whoever asks before it has begun shares one answer. Without `numbers` (term, last and committed index) a
        server below 0.7 is not asked for them: they take starting a program on its host.
        """
        question = (name, numbers)
        if question not in self._pulses:
            self._pulses[question] = SharedQuestion(partial(self._pulse, name, numbers=numbers))
        return await self._pulses[question]()

    async def leading_pulse(self, name: ServerName) -> AgentView:
        """Ask whether a server leads now, and where its log ends; raises AgentSilent or HostUnreachable.

        Below 0.7 that end may be the one told within HEARTBEAT_TIMEOUT_S: a server that has lost its log since was
        stopped and started, and cannot lead again so soon. While it leads, its log only grows.
        """
        view = await self.pulse(name, numbers=False)
        end = self._log_ends.get(name)
        # The clock is read after the answer, which may have been long in coming: the index is older by then.
        if end is None or self._monotonic_s() >= end.asked_s + HEARTBEAT_TIMEOUT_S:
            return await self.pulse(name)
        return msgspec.structs.replace(view, last=end.last)

    async def _pulse(self, name: ServerName, *, numbers: bool) -> AgentView:
        address = self.hosts[name].address
        async with self.agent(name) as agent:
            view = await agent.pulse(own_address=address)
        if numbers:
            return await self._completed(name, view)
        old = not view.raft_state and view.node_name and name in self._servers
        return without_stats(view, own_address=address) if old else view

    async def _completed(self, name: ServerName, view: AgentView) -> AgentView:
        """Add `consul info` where a server's agent/self has no Stats: below 0.7."""
        if view.raft_state or not view.node_name or name not in self._servers:
            return view
        token = self._agent_access.recovery_token or self._agent_access.token
        asked_s = self._monotonic_s()
        with contextlib.suppress(RecoveryError):
            view = with_stats(view, parse_info(await self.hosts[name].info(token.reveal() if token else "")))
            if view.last is not None:
                self._log_ends[name] = _LogEnd(asked_s, view.last)
        return view

    async def stored(self, name: ServerName, host: HostView, *, running: bool = False) -> StoredLog | str:
        """Read a stopped server's log (or a running one's that writes nothing); a sentence where it cannot be read."""
        if not host.data_dir:
            return host.config_problem or "its data directory cannot be found"
        if host.data_dir_missing:
            return (
                f"its data directory {host.data_dir}, as {host.unit} names it, is not there (a disk that is "
                "not mounted, or another path in the configuration?)"
            )
        if host.lmdb:
            return (
                f"{host.data_dir}/raft/mdb is the log of a Consul 0.5, which cannot be read here, and which later "
                "ones do not open without conversion"
            )
        if not host.log_store and not host.snapshots:
            return StoredLog(last=None, term=0, configuration=())
        if not host.log_store:
            return "raft/raft.db is missing beside its snapshots"
        try:
            log = await self.server_log(name, running=running)
        except RaftLogUnreadable as damage:
            return f"{host.log_store} cannot be read: {damage.reason}"
        except RecoveryError as fault:
            return str(fault)
        peers = log.configuration.servers if log.configuration is not None else ()
        return StoredLog(last=log.last, term=log.log.current_term, configuration=peers)


def api_problem(host: HostView, access: AgentAccess) -> str:
    """Say why an agent that is configured so will not answer on its host's own loopback, where the bot asks."""
    secure = access.scheme == "https"
    port = host.https_port if secure else host.http_port
    addresses = (host.https_addresses if secure else host.http_addresses) or host.client_addr or "127.0.0.1"
    if port in {0, access.http_port} and (not port or _ON_LOOPBACK & set(addresses.split())):
        return ""
    where = f"on {addresses}, port {port}" if port > 0 else "off"
    return (
        f"the bot asks its agent at {access.url}, and the agent is configured with its {access.scheme} API {where}: "
        "a started agent could not be seen"
    )


_ON_LOOPBACK: Final = frozenset({"127.0.0.1", "0.0.0.0", "::", "[::]"})


def as_the_agent_says(host: HostView, view: AgentView) -> HostView:
    """Hold what was read of the unit and its files against the running agent's own word, which is the truth.

    Where they differ, somebody has changed them since it was started, or they were misread: what a stopped or newly
    started agent would be is not known then.
    """
    if "{{" in f"{host.client_addr}{host.http_addresses}{host.https_addresses}":
        # Only the agent knows what a template comes to; this one has just answered where the bot asks.
        host = msgspec.structs.replace(host, api_problem="")
    told = view.data_dir
    # A relative one is told as it was written.
    same = host.data_dir.endswith(f"/{posixpath.normpath(told)}") if not told.startswith("/") else False
    differences = [
        f"{name} {theirs}, and its unit and files say {ours}"
        for name, theirs, ours, alike in (
            (
                "data_dir",
                told,
                host.data_dir,
                same or posixpath.normpath(told) == posixpath.normpath(host.data_dir),
            ),
            ("node_name", view.node_name, host.node_name, view.node_name == host.node_name),
        )
        if theirs and ours and not alike
    ]
    if not differences:
        return host
    problem = f"the running agent says {'; '.join(differences)} (changed since it was started?)"
    return msgspec.structs.replace(host, data_dir="", config_problem=problem)


class _LogEnd(NamedTuple):
    """Where a log below 0.7 ended, as `consul info` told it, and when that was asked."""

    asked_s: float
    last: LogPosition


def answers(fault: RecoveryError) -> bool:
    """Whether a host that gave this fault is there all the same."""
    return not isinstance(fault, HostUnreachable) or isinstance(fault, HostHindered)
