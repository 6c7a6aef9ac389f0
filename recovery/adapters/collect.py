"""Look at all servers of a cluster at once: host, agent, and a stopped server's Raft log.

What cannot be seen is in the observation with its reason; observing raises nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple, TypeVar

import msgspec

from recovery import wallog
from recovery.adapters.answers import parse_info, with_stats, without_stats
from recovery.adapters.consul_api import Agent, AgentAccess, AgentSilent
from recovery.adapters.host_commands import Chunk, Host, HostAccess
from recovery.adapters.journal_lines import telling
from recovery.adapters.shared_question import SharedQuestion
from recovery.adapters.ssh import SshPool
from recovery.boltdb import PageRequest, RaftLogUnreadable, Reads
from recovery.diagnosis.versions import live_peers_file
from recovery.errors import RecoveryError
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
from recovery.raftlog import ServerLog, load_server, newest_snapshot, term_at
from recovery.walsegment import WalkRequest
from recovery.walsegments import META

T = TypeVar("T")

_SERVER_DEADLINE_S: Final = 30.0
_HEAD_BYTES: Final = 512 * 1024
"""How much of a raft.db the first call brings along: a small file is read in one call instead of nine."""
_WALK_KEPT_S: Final = 600.0
_JOURNAL_LINES: Final = 300
HEARTBEAT_TIMEOUT_S: Final = 1.0
"""Raft's HeartbeatTimeout: below 0.7 whoever was started or has stepped down waits at least this long before it leads.

Newer ones can hand a leadership over without it.
"""


class Probe:
    """Everything that can be asked about the agents of one cluster, over one SSH connection a host."""

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
        self.hosts: Mapping[ServerName, Host] = self._hosts
        self._servers = frozenset(self._hosts)
        self._pulses: dict[tuple[ServerName, bool], SharedQuestion[AgentView]] = {}
        self._monotonic_s = monotonic_s
        self._log_ends: dict[ServerName, _LogEnd] = {}
        self._walks: dict[PageRequest, _KeptWalk] = {}
        self._log_reads: dict[tuple[ServerName, bool], SharedQuestion[LogRead]] = {}

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
            return msgspec.structs.replace(blind, host_problem=str(fault))
        except TimeoutError:
            return msgspec.structs.replace(
                blind,
                host_problem=f"{server.address}: not looked at within {_SERVER_DEADLINE_S:g} s. Nothing was done. "
                "Check that host's load and the network to it.",
            )

    async def _observe_reached(self, blind: ServerObservation) -> ServerObservation:
        host = await self.hosts[blind.name].look()
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

    async def server_log(self, name: ServerName, *, running: bool = False) -> ServerLog:
        """Read the log of a stopped server; raises RaftLogUnreadable, also for one that is being written.

        `running`: of a running one all the same, for a first plan that is confirmed once it is stopped.
        """
        return (await self.log_read(name, running=running)).log

    async def log_read(self, name: ServerName, *, running: bool = False) -> LogRead:
        """Read a log as `server_log` does, and give what else is needed to read on in it.

        Whoever asks before it has begun shares one read.
        """
        question = (name, running)
        if question not in self._log_reads:
            self._log_reads[question] = SharedQuestion(partial(self._log_read, name, running=running))
        return await self._log_reads[question]()

    async def term_at(self, name: ServerName, index: int) -> int | None:
        """Tell which term the entry at an index has in a server's log, running or not; None if it does not tell.

        Raises RaftLogUnreadable where the agent wrote to the file just then: ask again.
        """
        chunk = await self.hosts[name].raft_read(((0, _HEAD_BYTES),), snapshots=True)
        snapshots = [parse_snapshot_meta(meta) for meta in chunk.metas]
        if chunk.wal is not None:
            in_wal = wallog.term_at(name, chunk.wal, snapshots, index)
            return await self.read(in_wal, heads=_wal_heads(name, chunk), running=True)
        steps = term_at(name, chunk.size, snapshots, index)
        return await self.read(steps, heads={name: chunk.ranges[0]}, running=True)

    async def _log_read(self, name: ServerName, *, running: bool) -> LogRead:
        chunk = await self.hosts[name].raft_read(((0, _HEAD_BYTES),), snapshots=True)
        if chunk.main_pid and not running:
            raise RaftLogUnreadable(f"the agent runs (process {chunk.main_pid}) and writes to it")
        snapshots = [parse_snapshot_meta(meta) for meta in chunk.metas]
        if chunk.wal is not None:
            heads = _wal_heads(name, chunk)
            stamps: dict[str, str] = {name: chunk.stamp}
            steps = wallog.load_wal(name, chunk.wal, snapshots)
            log = await self.read(steps, heads=heads, stamps=stamps, running=running)
            if not chunk.steady:
                raise RaftLogUnreadable("it was written to while it was read")
            return LogRead(log, heads, stamps)
        head = chunk.ranges[0]
        log = await self.read(load_server(name, chunk.size, snapshots), heads={name: head}, running=running)
        # What came in one answer of a stopped server, while nobody touched the file, is of one moment. Else the file
        # is asked again: the times of a file that is written to are too coarse to tell.
        at_once = chunk.steady and not chunk.main_pid and len(head) == chunk.size
        if not at_once and not await self.read(log.log.unchanged(), heads={}, running=running):
            raise RaftLogUnreadable("it was written to while it was read")
        return LogRead(log, {name: head}, {})

    async def read(
        self,
        steps: Reads[T],
        *,
        heads: Mapping[str, bytes],
        stamps: Mapping[str, str] | None = None,
        running: bool = False,
    ) -> T:
        """Run a reader of logs over SSH; a request's `file` is the server's name, or of a file in its raft/wal.

        `heads` is what was read already of the beginning of these files, `stamps` what raft/wal of a server was when
        it was opened.
        """
        try:
            wanted = next(steps)
            while True:
                known = {
                    request: head[request.offset : _end(request)]
                    for request in wanted
                    if not isinstance(request, WalkRequest)
                    and _end(request) <= len(head := heads.get(request.file, b""))
                }
                if not running:
                    known |= self._walks_told(wanted, stamps or {})
                missing = tuple(request for request in wanted if request not in known)
                fetched: dict[PageRequest, bytes] = known | (
                    await self._fetch(missing, stamps or {}, running=running) if missing else {}
                )
                if not running:
                    self._keep_walks(fetched, stamps or {})
                wanted = steps.send(tuple(fetched[request] for request in wanted))
        except StopIteration as done:
            result: T = done.value
            return result

    def _walks_told(
        self, wanted: Iterable[PageRequest], stamps: Mapping[str, str]
    ) -> dict[PageRequest, bytes]:
        """Give the walks that were made some minutes ago, while the files are as they were: each takes seconds."""
        return {
            request: kept.told
            for request in wanted
            if (kept := self._walks.get(request)) is not None
            and kept.stamp == stamps.get(wallog.of_key(request.file)[0])
            and self._monotonic_s() < kept.at_s + _WALK_KEPT_S
        }

    def _keep_walks(self, fetched: Mapping[PageRequest, bytes], stamps: Mapping[str, str]) -> None:
        now_s = self._monotonic_s()
        self._walks = {
            request: kept for request, kept in self._walks.items() if now_s < kept.at_s + _WALK_KEPT_S
        }
        for request, told in fetched.items():
            if isinstance(request, WalkRequest):
                stamp = stamps.get(wallog.of_key(request.file)[0], "")
                kept = self._walks.get(request)
                if kept is None or kept.stamp != stamp:
                    self._walks[request] = _KeptWalk(now_s, stamp, told)

    async def _fetch(
        self, wanted: tuple[PageRequest, ...], stamps: Mapping[str, str], *, running: bool
    ) -> dict[PageRequest, bytes]:
        """Fetch the ranges, one call a server whatever their number."""
        by_server: dict[str, list[PageRequest]] = {}
        for request in wanted:
            by_server.setdefault(wallog.of_key(request.file)[0], []).append(request)
        chunks = await asyncio.gather(
            *(self._chunk(ServerName(name), requests) for name, requests in by_server.items())
        )
        found: dict[PageRequest, bytes] = {}
        for (name, requests), chunk in zip(by_server.items(), chunks, strict=True):
            if chunk.main_pid and not running:
                raise RaftLogUnreadable(f"the agent of {name} was started while its log was read")
            if not running and chunk.stamp != stamps.get(name, ""):
                raise RaftLogUnreadable(f"the log of {name} was written to while it was read")
            found.update(zip(requests, chunk.ranges, strict=True))
        return found

    async def _chunk(self, name: ServerName, requests: Sequence[PageRequest]) -> Chunk:
        host = self.hosts[name]
        if not wallog.of_key(requests[0].file)[1]:
            return await host.raft_read(tuple((r.offset, r.length) for r in requests))
        return await host.wal_read([replace(r, file=wallog.of_key(r.file)[1]) for r in requests])


def as_the_agent_says(host: HostView, view: AgentView) -> HostView:
    """Hold what was read of the unit and its files against the running agent's own word, which is the truth.

    Where they differ, somebody has changed them since it was started, or they were misread: what a stopped or newly
    started agent would be is not known then.
    """
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


class _KeptWalk(NamedTuple):
    """What a walk through a segment told, when, and what the folder was then."""

    at_s: float
    stamp: str
    told: bytes


class _LogEnd(NamedTuple):
    """Where a log below 0.7 ended, as `consul info` told it, and when that was asked."""

    asked_s: float
    last: LogPosition


class LogRead(NamedTuple):
    """A server's log, and what `Probe.read` needs to read on in it."""

    log: ServerLog
    heads: Mapping[str, bytes]
    stamps: Mapping[str, str]


def _wal_heads(name: ServerName, chunk: Chunk) -> dict[str, bytes]:
    return {wallog.key(name, META): head for head in chunk.ranges}


def _end(request: PageRequest) -> int:
    return request.offset + request.length
