"""How each check of a plan is answered: Holds, Fails, or Unknown with the reason; never an exception.

Unknown is for what could not be seen. A host that answers and shows something else is a Fails.
"""

from __future__ import annotations

import asyncio
from typing import Final, assert_never

from recovery import lineage
from recovery.adapters import staged_checks as stages
from recovery.adapters.asking import all_answers, ask, leaders_of, looks, pulses, pulses_until_led, views_of
from recovery.adapters.collect import Probe
from recovery.adapters.consul_api import AgentSilent
from recovery.adapters.journal_lines import ignored_peers_file, refused_peers_file
from recovery.adapters.leader_checks import leader_elected, no_leader
from recovery.adapters.log_ends import position
from recovery.adapters.peers_file import peers_match
from recovery.boltdb import RaftLogUnreadable
from recovery.errors import RecoveryError
from recovery.model import Fact, Fails, Holds, HostView, MemberStatus, RunId, ServerName, Unknown, host_of
from recovery.plan import (
    AgentFenced,
    AgentHeld,
    AgentRunning,
    AgentStopped,
    CaughtUp,
    Check,
    ClusterAnswers,
    ConfigurationIs,
    ExpectIs,
    ExpectOverridden,
    FenceLifted,
    HoldReleased,
    IsMember,
    IsVoter,
    KnowsLeader,
    LeaderElected,
    LeaderHolds,
    LeaderStays,
    LogEndsAlone,
    LogIs,
    MembersBack,
    NeverHeldData,
    NoLeader,
    OneHistory,
    OverrideAbsent,
    PeersFileAbsent,
    PeersFileIs,
    Silent,
    SnapshotSaved,
    StateArchived,
    StillLeads,
)
from recovery.raftentry import Peer

_DEADLINE_S: Final = 150.0
_GIVEN_UP: Final = "failed"
"""The unit's state once nobody starts it by himself any more; between two tries systemd says "activating"."""
_JOURNAL_LINES: Final = 300
_ANEW: Final = "Find out what touched its raft directory; then abort this run and ask for a new plan."


async def answer(probe: Probe, check: Check, *, run: RunId) -> Fact:
    """Answer one check now; what goes wrong on the way is an Unknown with its reason."""
    try:
        async with asyncio.timeout(_DEADLINE_S):
            return await _answer(probe, check, run)
    except (RecoveryError, AgentSilent) as fault:
        return Unknown(str(fault))
    except RaftLogUnreadable as damage:
        return Unknown(f"a Raft log cannot be read: {damage.reason}")
    except TimeoutError:
        return Unknown(f"no answer within {_DEADLINE_S:g} s")


async def _answer(probe: Probe, check: Check, run: RunId) -> Fact:
    match check:
        case AgentStopped(server):
            return _stopped(await probe.hosts[server].look())
        case AgentHeld(server):
            return _held(await probe.hosts[server].look(), run)
        case AgentRunning(server):
            return await _running(probe, server)
        case AgentFenced(server):
            return _fenced(await probe.hosts[server].look())
        case HoldReleased(server):
            return _released(await probe.hosts[server].look())
        case FenceLifted(server):
            return _lifted(await probe.hosts[server].look())
        case StateArchived(server):
            archive = await probe.hosts[server].archive(run)
            if archive.state == "good":
                return Holds(f"{archive.path}, {archive.size} bytes, sha256 {archive.sha256}")
            return Fails(f"the archive of run {run} is {archive.state or 'none'}")
        case SnapshotSaved(server):
            path = await probe.hosts[server].snapshot(run)
            return Holds(path) if path else Fails(f"there is no stale snapshot of run {run}")
        case PeersFileIs(server, peers):
            return await _peers_file_is(probe, server, peers)
        case PeersFileAbsent(server):
            content = (await probe.hosts[server].peers_file()).content
            return (
                Holds("raft/peers.json is not there")
                if content is None
                else Fails("raft/peers.json is there")
            )
        case ConfigurationIs(server, peers):
            return await _configuration_is(probe, server, peers)
        case LeaderElected(servers, at_least):
            return await leader_elected(probe, servers, at_least)
        case LeaderHolds(servers, newest, holders):
            return await leader_elected(probe, servers, newest, holders=holders)
        case NoLeader(servers):
            return await no_leader(probe, servers)
        case IsVoter(server):
            return await _is_voter(probe, server)
        case LogIs():
            return await _log_is(probe, check)
        case OneHistory(freshest, others):
            return await _one_history(probe, freshest, others)
        case Silent():
            return await _silent(probe, check)
        case ClusterAnswers(servers):
            return await _cluster_answers(probe, servers)
        case CaughtUp(servers):
            return await _caught_up(probe, servers)
        case (
            ExpectOverridden()
            | OverrideAbsent()
            | ExpectIs()
            | LogEndsAlone()
            | NeverHeldData()
            | LeaderStays()
            | StillLeads()
            | KnowsLeader()
            | IsMember()
            | MembersBack()
        ):
            return await stages.answer(probe, check)
        case _:
            assert_never(check)


# --- hosts ------------------------------------------------------------------------------------------------


def _stopped(host: HostView) -> Fact:
    if host.running:
        return Fails(f"process {host.main_pid} is there (unit {host.active_state})")
    if host.active_state not in ("inactive", "failed"):
        return Fails(f"the unit is {host.active_state}: systemd is about to start it")
    return Holds(f"no process, unit {host.active_state}")


def _held(host: HostView, run: RunId) -> Fact:
    if host.held_by == run:
        return Holds(f"held by {run}")
    if host.held_by:
        return Fails(f"held by {host.held_by}, not by this run")
    return Fails(f"not held: {host.hold_void}" if host.hold_void else "not held")


def _released(host: HostView) -> Fact:
    return Fails(f"held by {host.held_by}") if host.held_by else Holds("no hold is in force")


def _fenced(host: HostView) -> Fact:
    missing = [
        text
        for so, text in (
            (host.running, f"process {host.main_pid} is there"),
            (host.enabled, "the unit is enabled"),
            (not host.fenced_by, f"no fence is in force{host.fence_void and f': {host.fence_void}'}"),
        )
        if so
    ]
    return Fails("; ".join(missing)) if missing else Holds(f"stopped, disabled, fenced by {host.fenced_by}")


def _lifted(host: HostView) -> Fact:
    if host.fenced_by:
        return Fails(f"fenced by {host.fenced_by}")
    return Holds(f"no fence is in force, the unit is {'enabled' if host.enabled else 'disabled'}")


async def _running(probe: Probe, server: ServerName) -> Fact:
    host = await probe.hosts[server].look()
    if not host.running:
        if host.active_state == _GIVEN_UP:
            return Fails("no process of the unit is there, and systemd has given up starting it", final=True)
        return Fails(f"no process of the unit is there ({host.active_state})")
    try:
        view = await probe.pulse(server, numbers=False)
    except AgentSilent as silent:
        return Fails(f"process {host.main_pid} is there, but {silent}")
    return Holds(f"process {host.main_pid}, {view.raft_state or 'it answers'}")


async def _peers_file_is(probe: Probe, server: ServerName, peers: tuple[Peer, ...]) -> Fact:
    file, host = await asyncio.gather(probe.hosts[server].peers_file(), probe.hosts[server].look())
    if file.content is None:
        return Fails("raft/peers.json is not there")
    if not peers_match(file.content, peers):
        return Fails("raft/peers.json lists other peers")
    if not file.info and not before_0_7(host.version):
        return Fails("raft/peers.info is missing: Consul would delete peers.json unread")
    if not file.owned:
        return Fails("raft/peers.json or peers.info does not belong to the owner of raft/")
    return Holds(f"raft/peers.json lists {len(peers)} peers")


def before_0_7(version: str) -> bool:
    """Tell whether a version keeps its live peer set in peers.json, and knows no peers.info."""
    return version.startswith("0.") and version.split(".")[1] in {"1", "2", "3", "4", "5", "6"}


# --- agents -----------------------------------------------------------------------------------------------


async def _configuration_is(probe: Probe, server: ServerName, peers: tuple[Peer, ...]) -> Fact:
    host = await probe.hosts[server].look()
    if not host.running:
        if host.active_state != _GIVEN_UP:
            return Fails(f"the agent is stopped ({host.active_state})")
        why = refused_peers_file(await probe.hosts[server].journal(_JOURNAL_LINES))
        told = f"Consul refused the new peer set ({why})" if why else "Consul did not come up"
        return Fails(f"{told} and the agent is stopped. {_ANEW}", final=True)
    view = await probe.pulse(server)
    if not view.configuration and view.withheld:
        return Unknown("; ".join(view.withheld))
    wanted = {peer.id for peer in peers if peer.voter}
    found = {peer.id for peer in view.configuration if peer.voter}
    if wanted == found:
        return Holds(f"{len(found)} voters: {', '.join(sorted(found))}")
    voters = f"its voters are {', '.join(sorted(found)) or 'none'}"
    if not ignored_peers_file(await probe.hosts[server].journal(_JOURNAL_LINES)):
        return Fails(f"{voters}, not those of the new peer set")
    return Fails(
        "Consul deleted peers.json unread (raft/peers.info was missing when it started) and runs with the old peer "
        f"set: {voters}. Nothing was recovered on it. {_ANEW}",
        final=True,
    )


async def _is_voter(probe: Probe, server: ServerName) -> Fact:
    names = tuple(each.name for each in probe.spec.servers)
    found = await pulses_until_led(probe, names, server)
    own = found[server]
    if isinstance(own, str):
        # A stopped one is seen to vote for nobody; only one that runs, or is out of reach, is not known.
        host = await probe.hosts[server].look()
        return Unknown(own) if host.running else Fails(f"the agent is stopped ({host.active_state})")
    leaders = leaders_of(found)
    if len(leaders) != 1:
        return Fails("no server names itself leader" if not leaders else f"{' and '.join(leaders)} both lead")
    leading = views_of(found)[leaders[0]]
    if not leading.configuration:
        return Unknown(
            f"the leader {leaders[0]} does not tell its configuration: {'; '.join(leading.withheld)}"
        )
    address = next((member.address for member in own.members if member.name == own.node_name), "")
    voters = {peer for peer in leading.configuration if peer.voter}
    if own.node_id and own.node_id in {peer.id for peer in voters}:
        return Holds(f"a voter in the configuration of the leader {leaders[0]}")
    # Below protocol 3 the id in the configuration is the address.
    if address and address in {host_of(peer.address) for peer in voters if peer.id == peer.address}:
        return Holds(f"a peer in the configuration of the leader {leaders[0]}")
    if own.node_id and own.node_id in {peer.id for peer in leading.configuration}:
        return Fails(
            f"in the configuration of the leader {leaders[0]}, without a vote so far: autopilot gives it one once it "
            "has been healthy for server_stabilization_time (10 s where nobody sets it)"
        )
    return Fails(f"not a voter in the configuration of the leader {leaders[0]}")


async def _cluster_answers(probe: Probe, servers: tuple[ServerName, ...]) -> Fact:
    async def read(name: ServerName) -> tuple[int, str]:
        async with probe.agent(name) as agent:
            return await agent.consistent_read()

    found = await all_answers(servers, {name: ask(read(name)) for name in servers})
    for name, reply in found.items():
        if isinstance(reply, tuple) and reply[0] == 200:
            return Holds(f"{name} answered a consistent read")
    silent = [f"{name}: {reply}" for name, reply in found.items() if isinstance(reply, str)]
    if silent:
        return Unknown("; ".join(silent))
    said = (
        f"{name}: {reply[0]} {reply[1].strip()[:80]}"
        for name, reply in found.items()
        if isinstance(reply, tuple)
    )
    return Fails("; ".join(said))


async def _caught_up(probe: Probe, servers: tuple[ServerName, ...]) -> Fact:
    first = await pulses(probe, servers)
    leaders = {name: views_of(first)[name] for name in leaders_of(first)}
    if len(leaders) != 1:
        return Fails(f"{' and '.join(leaders)} both lead" if leaders else "no server names itself leader")
    [(leader, leading)] = leaders.items()
    if not leading.raft_state:
        return Unknown(f"{leader} does not tell how far its log is committed: {'; '.join(leading.withheld)}")
    # Asked again: in a busy cluster the leader's index of the same moment is always ahead of the followers'.
    views = views_of(await pulses(probe, servers))
    told = {name: view.commit_index for name, view in views.items() if view.raft_state}
    behind = [f"{name} is at {index}" for name, index in told.items() if index < leading.commit_index]
    if behind:
        return Fails(f"{', '.join(behind)}, {leader} was at {leading.commit_index} (commit index)")
    silent = await looks(probe, tuple(name for name in servers if name not in told))
    for name, host in silent.items():
        if isinstance(host, str):
            return Unknown(host)
        return Unknown(f"{name} does not tell how far it is") if host.running else Fails(f"{name} is stopped")
    return Holds(f"{', '.join(told)} committed up to {leading.commit_index}, as {leader} had")


# --- logs and claims --------------------------------------------------------------------------------------


async def _log_is(probe: Probe, check: LogIs) -> Fact:
    host = await probe.hosts[check.server].look()
    if host.running:
        return Fails(f"the agent runs (process {host.main_pid}) and may write to its log")
    if not host.node_id and ":" not in check.node_id:
        return Unknown("its node id cannot be read: a started agent would make a new one")
    # Below 0.7.3 there are no node ids; the address stands for them.
    if host.node_id and host.node_id != check.node_id and ":" not in check.node_id:
        return Fails(f"the host now carries the node id {host.node_id}")
    stored = await probe.stored(check.server, host)
    if isinstance(stored, str):
        return Unknown(stored)
    if stored.last == check.last:
        return Holds(f"its log ends at {position(stored.last)}")
    return Fails(f"its log ends at {position(stored.last)}, not at {position(check.last)}")


async def _one_history(probe: Probe, freshest: ServerName, others: tuple[ServerName, ...]) -> Fact:
    names = tuple(dict.fromkeys((freshest, *others)))
    logs = dict(zip(names, await asyncio.gather(*(probe.log_read(name) for name in names)), strict=True))
    heads = {file: head for read in logs.values() for file, head in read.heads.items()}
    stamps = {name: stamp for read in logs.values() for name, stamp in read.stamps.items()}
    fresh = logs[freshest].log
    told: list[str] = []
    for name in names[1:]:
        stale = logs[name].log
        if stale.last is None:
            told.append(f"{name} is blank")
            continue
        if fresh.last is None or fresh.last < stale.last:
            return Fails(f"{name} ends at {position(stale.last)}, past {freshest}")
        found = await probe.read(lineage.compare(fresh, stale), heads=heads, stamps=stamps)
        match found:
            case lineage.OneHistory(common, dropped, missing):
                told.append(
                    f"{name} is alike up to index {common.index}, {dropped} dropped, {missing} missing"
                )
            case lineage.TwoHistories(evidence):
                return Fails(f"{freshest} and {name}: {evidence}")
            case lineage.LineageUnknown(reason):
                return Unknown(f"{freshest} and {name}: {reason}")
            case _:
                assert_never(found)
    return Holds("; ".join(told) or "there is only one log")


async def _silent(probe: Probe, check: Silent) -> Fact:
    names = tuple(each.name for each in probe.spec.servers)
    hosts, hindered = await asyncio.gather(looks(probe, names), probe.hindered(names))
    for name in hindered:
        if name == check.name or probe.spec.address_of(name) == host_of(check.address):
            return Fails(f"the host of {name} answers, though it could not be looked at: it is not gone")
    reached = {name: host for name, host in hosts.items() if isinstance(host, HostView)}
    if not reached:
        return Unknown("no host of the cluster answers, so nobody could see it alive")
    # Below Raft protocol 3 the address is the id, whatever ids hosts and members have.
    by_address = check.node_id == check.address
    for name, host in reached.items():
        where = probe.spec.address_of(name)
        carries = where == host_of(check.address) if by_address else host.node_id == check.node_id
        if not carries:
            continue
        if host.running:
            return Fails(f"{name} runs with this node id")
        if not host.held_by and not host.fenced_by:
            return Fails(f"{name} carries this node id and nothing keeps it from starting")
    running = tuple(name for name, host in reached.items() if host.running)
    for name, view in views_of(await pulses(probe, running, numbers=False)).items():
        if view.node_id == check.node_id:
            return Fails(f"{name} runs with this node id")
        for member in view.members:
            same = member.address == host_of(check.address) if by_address else member.node_id == check.node_id
            if same and member.server and member.status is MemberStatus.ALIVE:
                return Fails(f"{name} sees it alive in gossip as {member.name} at {member.address}")
    return Holds(f"no sign of it at {', '.join(reached)}")
