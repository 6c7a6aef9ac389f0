"""Which of several servers' logs is the freshest, and whether two logs are one history.

Raft promises, within one cluster, that two logs which hold the same entry are alike up to there, and that
one term has one leader and so one entry at an index. Neither holds between clusters: each begins at index
1, and an entry without data (a no-op) looks the same in all of them. So one history is proven by an entry
*with data* that both logs hold alike, and refuted by what cannot be within one cluster:

- the same index and term, but another type or other data;
- logs that part, though both end in the same term;
- logs that part below a snapshot of the staler one: a snapshot holds only what was committed (or what a
  recovery by peers.json made so), and what is committed is never dropped;
- logs that differ from index 1 on.

What the staler log holds past the common entry is then a tail of lower term, which Raft drops.

Where entries are compacted away a snapshot stands for them, but its meta.json gives only index and term,
which another cluster can have too. That counts when more says it is the same cluster: an entry held alike,
equal checksums of both snapshots, a majority of the larger peer set known to both by node id, or a snapshot of
a recovery by peers.json (configuration index 1) all of whose voters the other one knows (ids that are just
addresses do not count: a cluster founded anew at the same addresses has them too). Else the answer is unknown.

What stays possible: a cluster founded anew by servers that kept their node ids, whose first entries are
equal byte by byte. It shows as one history with nearly all of the staler log dropped; so `dropped` is for a
person to see.

Source: Ongaro, "Consensus: Bridging Theory and Practice", figure 3.2 (Election Safety, Log Matching, Leader
Completeness).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from recovery.boltfile import Reads
from recovery.logstore import LogStore, ServerLog
from recovery.raftentry import LogEntry, LogPosition


@dataclass(frozen=True, slots=True)
class OneHistory:
    """Both logs are one history up to `common`.

    `dropped` entries follow it in the staler log and will be lost; `missing` ones follow it in the fresher
    log.
    """

    common: LogPosition
    dropped: int
    missing: int


@dataclass(frozen=True, slots=True)
class TwoHistories:
    """The logs cannot come from one history; `evidence` is one sentence."""

    evidence: str


@dataclass(frozen=True, slots=True)
class LineageUnknown:
    """Nothing that is left proves either; `reason` is one sentence."""

    reason: str


Lineage = OneHistory | TwoHistories | LineageUnknown


@dataclass(frozen=True, slots=True)
class Rank:
    """Servers whose logs end at the same place; `last` is None for blank ones."""

    last: LogPosition | None
    servers: tuple[str, ...]


def freshest(logs: Mapping[str, ServerLog]) -> tuple[Rank, ...]:
    """Rank servers by (last term, last index), the freshest first, blank ones last; equal ones share a rank."""
    by_last: dict[LogPosition | None, list[str]] = {}
    for name in sorted(logs):
        by_last.setdefault(logs[name].last, []).append(name)
    order = sorted(by_last, key=lambda last: last or LogPosition(0, 0), reverse=True)
    return tuple(Rank(last, tuple(by_last[last])) for last in order)


def compare(fresh: ServerLog, stale: ServerLog) -> Reads[Lineage]:
    """Tell whether two servers' logs are one history, reading about a dozen pages of each.

    `fresh` must be at least as far as `stale`: ValueError otherwise. Raises RaftLogUnreadable when a page
    on the way is damaged.
    """
    if stale.last is None or fresh.last is None:
        return LineageUnknown("one of them is blank: it holds no entry and no snapshot")
    if fresh.last < stale.last:
        raise ValueError("the log given as the fresher one is the staler one")
    common = yield from _newest_alike(fresh.log, stale.log)
    match common:
        case TwoHistories() | LineageUnknown():
            return common
        case None:
            return (yield from _by_snapshots(fresh, stale, fresh.last, stale.last))
        case LogEntry():
            return (yield from _judge(fresh, stale, fresh.last, stale.last, common.position))


def _by_itself(server: ServerLog) -> bool:
    """Whether the log's own end is the server's end, not a snapshot that was installed over an older log."""
    return server.log.last is not None and server.log.last == server.last


def _judge(
    fresh: ServerLog, stale: ServerLog, fresh_last: LogPosition, stale_last: LogPosition, common: LogPosition
) -> Reads[Lineage]:
    """Judge two logs of one cluster: `common` is the newest entry that both hold alike."""
    if not _by_itself(stale) or not _by_itself(fresh):
        meeting = yield from _meeting(fresh, stale)
        if isinstance(meeting, TwoHistories):
            return meeting
        if meeting is not None:
            common = max(common, meeting)
    if common == stale_last:
        return OneHistory(common, dropped=0, missing=fresh_last.index - common.index)
    if not _by_itself(stale) or not _by_itself(fresh):
        return LineageUnknown(
            f"they are alike up to index {common.index}, but what follows was replaced by a"
            " snapshot on one of them"
        )
    return _part(fresh_last, stale, stale_last, common)


def _part(
    fresh_last: LogPosition, stale: ServerLog, stale_last: LogPosition, common: LogPosition
) -> OneHistory | TwoHistories:
    """Judge a parting right after `common`: a tail that Raft drops, or another history."""
    if stale_last.term >= fresh_last.term:
        return TwoHistories(
            f"they part after index {common.index}, though both end in term {stale_last.term}: "
            "one term of one cluster has one leader and one log"
        )
    if stale.snapshot is not None and stale.snapshot.last.index > common.index:
        return TwoHistories(
            f"they part after index {common.index}, but the staler one has a snapshot of everything up to index "
            f"{stale.snapshot.last.index}: what a snapshot holds was committed"
        )
    return OneHistory(
        common,
        dropped=stale_last.index - common.index,
        missing=max(fresh_last.index - common.index, 0),
    )


def _alike(
    fresh: LogStore, stale: LogStore, index: int
) -> Reads[LogEntry | TwoHistories | LineageUnknown | None]:
    """Return the entry at an index that both hold alike, None when they hold different ones there."""
    ours = yield from fresh.entry_at(index)
    theirs = yield from stale.entry_at(index)
    if ours is None or theirs is None:
        return LineageUnknown(
            f"the {'fresher' if ours is None else 'staler'} log has a hole at index {index} (a half-restored log?)"
        )
    if ours == theirs:
        return ours
    if ours.term == theirs.term:
        return TwoHistories(f"index {index} is of term {ours.term} in both, but it is not the same entry")
    return None


def _newest_alike(fresh: LogStore, stale: LogStore) -> Reads[LogEntry | TwoHistories | LineageUnknown | None]:
    """Walk back from the staler log's end, with growing steps, and close in on the newest entry held alike.

    None when the logs share no index, or hold nothing alike where they do and began before it.
    """
    if fresh.first is None or fresh.last is None or stale.first is None or stale.last is None:
        return None
    low = max(fresh.first.index, stale.first.index)
    high = min(fresh.last.index, stale.last.index)
    if low > high:
        return None
    good: LogEntry | None = None
    differs_at, at, step = high + 1, high, 1
    while good is None:
        found = yield from _alike(fresh, stale, at)
        match found:
            case TwoHistories() | LineageUnknown():
                return found
            case LogEntry():
                good = found
            case None if at == low:
                return TwoHistories("they differ from index 1 on") if low == 1 else None
            case None:
                differs_at, at, step = at, max(low, high - step), step * 2
    while differs_at - good.index > 1:
        at = (good.index + differs_at) // 2
        found = yield from _alike(fresh, stale, at)
        match found:
            case TwoHistories() | LineageUnknown():
                return found
            case LogEntry():
                good = found
            case None:
                differs_at = at
    return (yield from _with_proof(fresh, stale, good, low))


def _with_proof(
    fresh: LogStore, stale: LogStore, common: LogEntry, low: int
) -> Reads[LogEntry | TwoHistories | LineageUnknown]:
    """Return `common` if it, or an entry before it, has data and is held alike: no-ops are alike everywhere."""
    proof, index = common, common.index
    while not proof.data_bytes:
        index -= 1
        if index < low:
            return LineageUnknown(
                f"all they hold alike is entries without data (index {low} to {common.index}), which any cluster has"
            )
        found = yield from _alike(fresh, stale, index)
        match found:
            case TwoHistories() | LineageUnknown():
                return found
            case None:
                return TwoHistories(f"they hold index {common.index} alike, but not index {index} before it")
            case LogEntry():
                proof = found
    return common


def _meeting(fresh: ServerLog, stale: ServerLog) -> Reads[LogPosition | TwoHistories | None]:
    """Return the furthest snapshot boundary (index and term) that both servers have passed, None if none is seen.

    Two histories, when the staler one's snapshot, so something committed, is of another term in the fresher
    log.
    """
    meetings: list[LogPosition] = []
    fresh_ends = {snapshot.last for snapshot in fresh.snapshots}
    for snapshot in stale.snapshots:
        entry = yield from fresh.log.entry_at(snapshot.last.index)
        if snapshot.last in fresh_ends or (entry is not None and entry.position == snapshot.last):
            meetings.append(snapshot.last)
        elif entry is not None and _by_itself(fresh):
            return TwoHistories(
                f"a snapshot of the staler one ends at index {snapshot.last.index} in term {snapshot.last.term}, but "
                f"the fresher one has term {entry.term} there: what a snapshot holds was committed"
            )
    for end in fresh_ends:
        entry = yield from stale.log.entry_at(end.index)
        if entry is not None and entry.position == end:
            meetings.append(end)
    return max(meetings, default=None)


def _by_snapshots(
    fresh: ServerLog, stale: ServerLog, fresh_last: LogPosition, stale_last: LogPosition
) -> Reads[Lineage]:
    """Judge two logs that share no entry with what their snapshots say."""
    meeting = yield from _meeting(fresh, stale)
    if isinstance(meeting, TwoHistories):
        return meeting
    if meeting is None:
        return LineageUnknown("nothing is left that both hold: what they had in common is compacted away")
    if not (
        _same_content(fresh, stale, meeting)
        or _same_servers(fresh, stale)
        or _recovered_from(fresh, stale, meeting)
        or _recovered_from(stale, fresh, meeting)
    ):
        return LineageUnknown(
            f"both have passed index {meeting.index} in term {meeting.term}, but nothing tells that it was in the "
            "same cluster: entries are compacted away, and their peer sets share no majority of node ids"
        )
    if meeting == stale_last:
        return OneHistory(meeting, dropped=0, missing=fresh_last.index - meeting.index)
    # Both logs go on right after the meeting, and differ there: the parting is known to the entry.
    starts = {log.first.index for log in (fresh.log, stale.log) if log.first is not None}
    if _by_itself(fresh) and _by_itself(stale) and max(starts) == meeting.index + 1:
        return _part(fresh_last, stale, stale_last, meeting)
    return LineageUnknown(f"what follows index {meeting.index} is compacted away on one of them")


def _same_content(fresh: ServerLog, stale: ServerLog, at: LogPosition) -> bool:
    """Whether both have a snapshot ending at `at` with the same checksum, size and peers."""

    def marks(server: ServerLog) -> set[tuple[str, int]]:
        return {(each.checksum, each.size) for each in server.snapshots if each.last == at and each.checksum}

    return bool(marks(fresh) & marks(stale))


def _recovered_from(one: ServerLog, other: ServerLog, at: LogPosition) -> bool:
    """Whether `one` has a recovery's snapshot ending at `at` whose voters are all voters of the other's set.

    After a majority is gone the new set is never a majority of the old one.
    """
    known = {peer.id for peer in other.configuration.servers} if other.configuration else set[str]()
    return any(
        snapshot.last == at
        and snapshot.configuration_index == 1
        and bool(snapshot.servers)
        and all(peer.id in known and peer.id != peer.address for peer in snapshot.servers)
        for snapshot in one.snapshots
    )


def _same_servers(fresh: ServerLog, stale: ServerLog) -> bool:
    """Whether a majority of the larger peer set is known to both by node id."""
    ours, theirs = (
        {peer.id for peer in server.configuration.servers if peer.id != peer.address}
        if server.configuration
        else set[str]()
        for server in (fresh, stale)
    )
    return 2 * len(ours & theirs) > max(len(ours), len(theirs))
