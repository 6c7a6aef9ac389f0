"""What is known of a cluster's earlier life, and what stands against calling it new. Pure.

A cluster is founded only where nobody ever knew one: an empty directory can be a disk that is not mounted. So
everything that tells of data counts: what the store remembers (logs, a leader, members, runs), and what a host
tells of a data directory in which nothing was seen. Silence counts only where somebody was asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from recovery.membership import Membership, when
from recovery.model import ClusterObservation, DirectoryView, HostRun, HostView, ServerObservation

FOUNDING: Final = "found-"
"""How the first steps of a founding are named, so that their receipts on the hosts tell what kind of run it was."""
_MOST_TOLD: Final = 3


class EarlierRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of this cluster that the store knows."""

    run: str
    at_s: float
    """When it was proposed, Unix time; 0 where its journal cannot be read."""
    procedure: str = ""
    """"" where its journal cannot be read."""
    founds_nothing: bool = False
    """A founding under which nobody was seen to lead: it knew of no data, and has made none."""


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows of a cluster's earlier life."""

    membership: Membership | None = None
    runs: tuple[EarlierRun, ...] = ()
    """The newest ones."""
    problem: str = ""
    """Why the store could not tell: then nothing that it is silent about is known."""


UNASKED: Final = Past(problem="What the bot's store remembers of this cluster was not asked.")


def told_by_store(past: Past, observation: ClusterObservation) -> tuple[str, ...]:
    """Say what the store knows of data, a sentence each, with since when."""
    told = [*_told_by_memory(past.membership, observation)] if past.membership is not None else []
    counted = [run for run in past.runs if not run.founds_nothing]
    for run in counted[:_MOST_TOLD]:
        if not run.procedure:
            told.append(
                f"the bot's store holds a run {run.run} of this cluster, whose journal cannot be read"
            )
            continue
        at = when(run.at_s, observation.taken_at_s)
        told.append(f"the bot's store holds run {run.run} ({run.procedure}), proposed {at}")
    if len(counted) > _MOST_TOLD:
        told.append(f"and {len(counted) - _MOST_TOLD} more runs of this cluster")
    return tuple(told)


def _told_by_memory(memory: Membership, observation: ClusterObservation) -> Iterable[str]:
    now_s = observation.taken_at_s
    if memory.led_at_s:
        held = memory.held
        what = (
            f", its catalogue held {held.nodes} nodes and {held.services} services"
            if held is not None
            else ""
        )
        yield f"the bot saw this cluster with a leader, last {when(memory.led_at_s, now_s)}{what}"
    for log in memory.logs:
        ident = f" (id {log.node_id[:8]})" if log.node_id else ""
        yield f"{log.server}{ident} held a log up to {log.last}, last seen {when(log.at_s, now_s)}"
    servers = [each for each in memory.known if each.member.server]
    if memory.led_at_s is None:
        for each in servers:
            yield (
                f"{each.member.name} was remembered as a server by an earlier version of the bot, alive "
                f"{when(each.seen_at_s, now_s)}"
            )
        return
    names: set[str] = {server.name for server in observation.servers}
    names |= {s.agent.node_name for s in observation.servers if s.agent is not None}
    ids = {server.node_id for server in observation.servers if server.node_id}
    logged = {log.node_id for log in memory.logs}
    for each in servers:
        member = each.member
        if member.name not in names:
            yield (
                f"gossip had a server {member.name} at {member.address}, which the settings do not name, alive "
                f"{when(each.seen_at_s, now_s)}"
            )
        elif member.node_id and member.node_id not in ids | logged:
            yield (
                f"{member.name} was in gossip under another id ({member.node_id[:8]}), alive "
                f"{when(each.seen_at_s, now_s)}"
            )


def told_by_host(server: ServerObservation, past: Past, *, now_s: float) -> tuple[str, ...]:
    """Say what a host tells against its data directory being new, a sentence each, without the server's name."""
    if server.host is None:
        return ()
    told = told_by_directory(server.host, server.directory, now_s=now_s)
    return (*told, *(_run_line(run, now_s=now_s) for run in _runs(server) if _knew_data(run, server, past)))


def told_by_directory(host: HostView, found: DirectoryView | None, *, now_s: float) -> tuple[str, ...]:
    """Say what stands against a data directory being new, but for the bot's own runs."""
    told: list[str] = []
    if host.data_dir_missing:
        told.append(
            f"its data directory {host.data_dir}, as {host.unit or 'the unit'} names it, is not there"
        )
    if host.lmdb:
        told.append(f"{host.data_dir}/raft/mdb is the log of a Consul 0.5")
    if found is None:
        return tuple(told)
    told += [
        f"{each.named_by} names {each.point} as the mount point of {each.what}, which is not mounted"
        for each in found.unmounted
    ]
    covered = f"{found.beneath} lies covered, under a mount" if found.beneath else ""
    reasons = (
        covered,
        found.hindered,
        found.elsewhere,
        found.not_ours,
        found.volatile,
        found.raft_gone,
    )
    told += [text for text in reasons if text]
    if found.led:
        told.append(f"its agent knew a leader {when(found.led_at_s, now_s)}: {found.led}")
    return tuple(told)


def _runs(server: ServerObservation) -> tuple[HostRun, ...]:
    """Every run that this host names; of the last one it tells at every look."""
    host = server.host
    if host is None:
        return ()
    runs = {run.run: run for run in (server.directory.runs if server.directory is not None else ())}
    named = (host.last_run, host.held_by, host.fenced_by, host.override_by)
    for name in dict.fromkeys(name for name in named if name and name not in runs):
        last = name == host.last_run
        runs[name] = HostRun(
            run=name,
            at_s=0.0,
            archived=last and host.archived,
            receipts=host.receipts if last else (),
        )
    return tuple(runs.values())


def _run_line(run: HostRun, *, now_s: float) -> str:
    at = f", {when(run.at_s, now_s)}" if run.at_s else ""
    left = " and left an archive there" if run.archived else ""
    return f"run {run.run} of the bot worked there{left}{at}"


def _knew_data(run: HostRun, server: ServerObservation, past: Past) -> bool:
    known = {each.run: each for each in past.runs}
    if run.run in known:
        return not known[run.run].founds_nothing
    return not _founds_nothing(run, server.name)


def _founds_nothing(run: HostRun, name: str) -> bool:
    """Whether all that a run did on this host is the beginning of a founding, before there is a leader.

    Only the first server is started then, the one with the override; the others follow once it leads.
    """
    steps = {receipt.rsplit(".", 2)[0] for receipt in run.receipts}
    begins = {f"{FOUNDING}hold-{name}", f"stop-{name}", f"archive-{name}", f"override-{name}"}
    begins.add(f"remove-override-{name}")
    if f"override-{name}" in steps:
        begins.add(f"start-{name}")
    return f"{FOUNDING}hold-{name}" in steps and steps <= begins
