"""`consul-recovery raft-log PATH...`: what Raft logs say, read without Consul and without changing them.

For a person with a stopped server, or with copies of several: how far each log is, who its peers were, which
is the freshest, and whether they are one history.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO

import msgspec

from bot import screen
from recovery.boltfile import PageRequest, RaftLogUnreadable, drive
from recovery.lineage import Lineage, LineageUnknown, OneHistory, Rank, TwoHistories, compare, freshest
from recovery.raftentry import parse_snapshot_meta
from recovery.raftlog import (
    LogPosition,
    Peer,
    PeerSet,
    ServerLog,
    SnapshotMeta,
    load_server,
    peer_sets,
)
from recovery.wallog import load_wal, of_key
from recovery.walsegment import WalkRequest, walked
from recovery.walsegments import META, WalFile

_ATTEMPTS: Final = 3
_DEAD_WAL: Final = "the wal folder beside it is dead: Consul goes by raft.db as long as that is there"


@dataclass(frozen=True, slots=True)
class _Shown:
    """One log that could be read; `history` is every peer set in it, oldest first."""

    server: ServerLog
    history: tuple[PeerSet, ...]
    notes: tuple[str, ...]


def run(paths: Sequence[Path], *, as_json: bool, out: TextIO) -> int:
    """Write to `out` what the logs say; returns 1 when one of them could not be read, else 0.

    A path is a raft.db, a wal folder, a raft directory or a data_dir. Snapshots beside the log are counted in.
    """
    shown: dict[str, _Shown] = {}
    errors: dict[str, str] = {}
    stores: dict[str, Path] = {}
    for path in paths:
        name = str(path)
        try:
            stores[name] = _log_store(path)
            shown[name] = _read(name, stores[name])
        except RaftLogUnreadable as error:
            errors[name] = error.reason
        except OSError as error:
            errors[name] = error.strerror or str(error)
    order = freshest({name: each.server for name, each in shown.items()})
    lineages = _lineages(order, shown, stores)
    if as_json:
        document = _document(shown, errors, order, lineages)
        screen.tell_json(out, msgspec.json.format(msgspec.json.encode(document), indent=2))
    else:
        screen.tell(out, "\n".join(_lines(shown, errors, order, lineages)))
    return 1 if errors else 0


def _log_store(path: Path) -> Path:
    """Find the raft.db or the wal folder that a path means; where both are there Consul goes by raft.db."""
    if path.name == META or path.suffix == ".wal":
        return path.parent
    if not path.is_dir():
        return path
    if (path / META).exists() or path.name == "wal":
        return path
    for directory in (path, path / "raft"):
        if (directory / "raft.db").exists():
            return directory / "raft.db"
        if (directory / "wal").is_dir():
            return directory / "wal"
    raise RaftLogUnreadable("there is no raft.db in it and no wal, and none in a folder raft below it")


def _read(name: str, path: Path) -> _Shown:
    """Read one log; starts again when it changed or was unreadable: an agent may run on it."""
    problem = RaftLogUnreadable("")
    for _ in range(_ATTEMPTS):
        snapshots = _snapshots(path.parent / "snapshots")
        files = _files(path)
        with ExitStack() as opened:
            read = _reader({name: path}, opened)
            try:
                if path.is_dir():
                    server = drive(load_wal(name, files, snapshots), read)
                else:
                    server = drive(load_server(name, path.stat().st_size, snapshots), read)
                history = drive(peer_sets(server.log), read)
                dead = () if path.is_dir() or not (path.parent / "wal").is_dir() else (_DEAD_WAL,)
                shown = _Shown(server, history, (*server.log.notes, *dead))
                # The times of a raft.db that is mapped into memory tell nothing, and its database tells all.
                if drive(server.log.unchanged(), read) and (not path.is_dir() or _files(path) == files):
                    return shown
                problem = RaftLogUnreadable("it changes while it is read: stop the agent first")
            except RaftLogUnreadable as error:
                problem = error
    raise problem


def _files(folder: Path) -> dict[str, WalFile]:
    """Say what lies in a wal folder."""
    if not folder.is_dir():
        return {}
    found = ((each.name, each.stat()) for each in sorted(folder.iterdir()) if each.is_file())
    return {name: WalFile(stat.st_size, stat.st_mtime) for name, stat in found}


def _reader(stores: Mapping[str, Path], opened: ExitStack) -> Callable[[PageRequest], bytes]:
    """Answer requests about several logs; the files that are opened for it are closed by `opened`."""
    files: dict[str, BinaryIO] = {}

    def read(request: PageRequest) -> bytes:
        if request.file not in files:
            server, name = of_key(request.file)
            files[request.file] = opened.enter_context((stores[server] / name).open("rb"))
        file = files[request.file]

        def part(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        if isinstance(request, WalkRequest):
            return walked(part, os.fstat(file.fileno()).st_size, checked=request.checked)
        return part(request.offset, request.length)

    return read


def _snapshots(directory: Path) -> tuple[SnapshotMeta, ...]:
    """Read the snapshots' meta.json, without unfinished ones (folders named *.tmp)."""
    return tuple(
        parse_snapshot_meta(meta.read_bytes())
        for meta in sorted(directory.glob("*/meta.json"))
        if meta.parent.suffix != ".tmp"
    )


def _lineages(
    order: Sequence[Rank], shown: Mapping[str, _Shown], stores: Mapping[str, Path]
) -> tuple[tuple[str, str, Lineage], ...]:
    """Compare the freshest log with each other one: (freshest, other, result)."""
    fresh, *others = [name for rank in order for name in rank.servers] or [""]
    found: list[tuple[str, str, Lineage]] = []
    for other in others:
        with ExitStack() as opened:
            steps = compare(shown[fresh].server, shown[other].server)
            try:
                result = drive(steps, _reader(stores, opened))
            except RaftLogUnreadable as error:
                result = LineageUnknown(f"a page that is needed cannot be read: {error.reason}")
        found.append((fresh, other, result))
    return tuple(found)


def _lines(
    shown: Mapping[str, _Shown],
    errors: Mapping[str, str],
    order: Sequence[Rank],
    lineages: Sequence[tuple[str, str, Lineage]],
) -> list[str]:
    lines: list[str] = []
    for name, each in shown.items():
        log, snapshot = each.server.log, each.server.snapshot
        vote = f"{log.last_vote.candidate} in term {log.last_vote.term}" if log.last_vote else "none"
        lines += [
            name,
            f"  last position    {_place(each.server.last)}",
            f"  entries          {_span(log.first, log.last)}",
            f"  newest snapshot  {_place(snapshot.last) if snapshot else 'none'}",
            f"  current term     {log.current_term}",
            f"  last vote        {vote}",
        ]
        lines += [f"  note             {note}" for note in each.notes]
        if snapshot:
            lines.append(f"  peers in the snapshot                {_members(snapshot.servers)}")
        lines += [
            f"  peers from {_place(peer_set.position):<26}{_members(peer_set.servers)}"
            for peer_set in each.history
        ]
        lines.append("")
    lines += [f"{name}: cannot be read: {reason}" for name, reason in errors.items()]
    if len(shown) > 1:
        lines += [
            f"{'freshest' if not at else 'then':<9} {', '.join(rank.servers)}: {_place(rank.last)}"
            for at, rank in enumerate(order)
        ]
        lines += [f"{other} and {fresh}: {_verdict(lineage)}" for fresh, other, lineage in lineages]
    # What stands in a damaged file must not be able to steer a terminal.
    return ["".join(char if char.isprintable() else "?" for char in line) for line in lines]


def _place(position: LogPosition | None) -> str:
    return f"index {position.index}, term {position.term}" if position else "none (blank)"


def _span(first: LogPosition | None, last: LogPosition | None) -> str:
    return f"index {first.index} to {last.index}" if first and last else "none"


def _members(servers: Sequence[Peer]) -> str:
    return ", ".join(
        peer.address
        + (f" ({peer.id})" if peer.id != peer.address else "")
        + ("" if peer.voter else " (no vote)")
        for peer in servers
    )


def _verdict(lineage: Lineage) -> str:
    match lineage:
        case OneHistory(common, dropped, missing):
            own = f"has {dropped} of its own that will be dropped" if dropped else "has none of its own"
            return f"one history up to {_place(common)}; the first lacks {missing} entries and {own}"
        case TwoHistories(evidence):
            return f"TWO HISTORIES: {evidence}"
        case LineageUnknown(reason):
            return f"not proven to be one history: {reason}"


def _document(
    shown: Mapping[str, _Shown],
    errors: Mapping[str, str],
    order: Sequence[Rank],
    lineages: Sequence[tuple[str, str, Lineage]],
) -> dict[str, Any]:
    return {
        "logs": [
            {
                "path": name,
                "last": each.server.last,
                "first_entry": each.server.log.first,
                "last_entry": each.server.log.last,
                "newest_snapshot": each.server.snapshot,
                "current_term": each.server.log.current_term,
                "last_vote": each.server.log.last_vote,
                "notes": each.notes,
                "peer_sets": each.history,
            }
            for name, each in shown.items()
        ],
        "errors": [{"path": name, "reason": reason} for name, reason in errors.items()],
        "order": [{"last": rank.last, "paths": rank.servers} for rank in order],
        "lineage": [{"fresh": fresh, "stale": stale, **_result(each)} for fresh, stale, each in lineages],
    }


def _result(lineage: Lineage) -> dict[str, Any]:
    match lineage:
        case OneHistory(common, dropped, missing):
            return {"result": "one_history", "common": common, "dropped": dropped, "missing": missing}
        case TwoHistories(evidence):
            return {"result": "two_histories", "evidence": evidence}
        case LineageUnknown(reason):
            return {"result": "unknown", "reason": reason}
