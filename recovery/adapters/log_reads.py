"""Read the Raft logs of servers over SSH: raft.db in ranges, raft/wal in ranges and walks that the host makes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple, TypeVar

from recovery import wallog
from recovery.adapters.host_commands import Chunk, Host
from recovery.adapters.shared_question import SharedQuestion
from recovery.boltfile import PageRequest, RaftLogUnreadable, Reads
from recovery.model import ServerName
from recovery.raftentry import parse_snapshot_meta
from recovery.raftlog import ServerLog, load_server, term_at
from recovery.walsegment import WalkRequest
from recovery.walsegments import META

T = TypeVar("T")

_HEAD_BYTES: Final = 512 * 1024
"""How much of a raft.db the first call brings along: a small file is read in one call instead of nine."""
_WALK_KEPT_S: Final = 600.0
"""How long a walk's answer counts while the files are as they were: rot changes no times."""


class LogReader:
    """Reads the logs of some servers, each on its own host."""

    def __init__(self, hosts: Mapping[ServerName, Host], *, monotonic_s: Callable[[], float]) -> None:
        self.hosts = hosts
        self._monotonic_s = monotonic_s
        self._log_reads: dict[tuple[ServerName, bool], SharedQuestion[LogRead]] = {}
        self._walks: dict[PageRequest, _KeptWalk] = {}

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


class _KeptWalk(NamedTuple):
    """What a walk through a segment told, when, and what the folder was then."""

    at_s: float
    stamp: str
    told: bytes


class LogRead(NamedTuple):
    """A server's log, and what `Probe.read` needs to read on in it."""

    log: ServerLog
    heads: Mapping[str, bytes]
    stamps: Mapping[str, str]


def _wal_heads(name: ServerName, chunk: Chunk) -> dict[str, bytes]:
    return {wallog.key(name, META): head for head in chunk.ranges}


def _end(request: PageRequest) -> int:
    return request.offset + request.length
