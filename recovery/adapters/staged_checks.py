"""How the checks of the staged bootstrap are answered: the override, who leads and stays, who is a member.

Raises what `checks.answer` turns into Unknown: RecoveryError, AgentSilent, RaftLogUnreadable.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, assert_never

from recovery.adapters.asking import leaders_of, pulses, views_of
from recovery.adapters.collect import HEARTBEAT_TIMEOUT_S, Probe
from recovery.adapters.leader_checks import holds_entry, may_lead_unseen
from recovery.adapters.log_ends import reaches
from recovery.model import Fact, Fails, Holds, HostView, MemberStatus, ServerName, Unknown
from recovery.past import told_by_directory
from recovery.plan import (
    ExpectIs,
    ExpectOverridden,
    IsMember,
    KnowsLeader,
    LeaderStays,
    LogEndsAlone,
    MembersBack,
    NeverHeldData,
    OverrideAbsent,
    StillLeads,
)

_SAMPLE_EVERY_S: Final = 0.5

StagedCheck = (
    ExpectOverridden
    | OverrideAbsent
    | ExpectIs
    | LogEndsAlone
    | NeverHeldData
    | LeaderStays
    | StillLeads
    | KnowsLeader
    | IsMember
    | MembersBack
)


async def answer(probe: Probe, check: StagedCheck) -> Fact:
    """Answer one of these checks now."""
    match check:
        case ExpectOverridden(server, expect):
            return _overridden(await probe.hosts[server].look(), expect)
        case OverrideAbsent(server):
            by = (await probe.hosts[server].look()).override_by
            return Fails(f"run {by} has overridden it") if by else Holds("nothing overrides bootstrap_expect")
        case ExpectIs(server, expect):
            return await _expect_is(probe, server, expect)
        case LogEndsAlone(server, address):
            return await _log_ends_alone(probe, server, address)
        case NeverHeldData(server):
            asked = probe.hosts[server]
            told = told_by_directory(await asked.look(), await asked.origin(), now_s=time.time())
            return (
                Fails("; ".join(told)) if told else Holds("nothing on its host tells of data that was here")
            )
        case LeaderStays():
            return await _leader_stays(probe, check)
        case StillLeads(server, at_least):
            view = await probe.leading_pulse(server)
            if not view.names_itself_leader:
                return Fails(f"{server} does not lead any more")
            return reaches(server, view.last, at_least=at_least, said=f"{server} leads")
        case KnowsLeader(server):
            host = await probe.hosts[server].look()
            if not host.running:
                return Fails(f"the agent is stopped ({host.active_state})")
            known = (await probe.pulse(server, numbers=False)).leader_address
            return Holds(f"it follows {known}") if known else Fails("error: it knows no leader")
        case IsMember(server, servers):
            return await _members_back(probe, (server,), 0, servers)
        case MembersBack(clients, missing_at_most, servers):
            return await _members_back(probe, clients, missing_at_most, servers)
        case _:
            assert_never(check)


def _overridden(host: HostView, expect: int) -> Fact:
    if host.override == expect:
        return Holds(f"bootstrap_expect is overridden with {expect} by run {host.override_by}")
    if host.override_by:
        return Fails(f"the override of run {host.override_by} is not in force with {expect}")
    return Fails("bootstrap_expect is not overridden")


async def _expect_is(probe: Probe, server: ServerName, expect: int) -> Fact:
    host = await probe.hosts[server].look()
    if not host.running:
        return Fails(f"the agent is stopped ({host.active_state})")
    # Its number is a setting, not one of Raft's.
    view = await probe.pulse(server, numbers=False)
    if not view.node_name and view.withheld:
        return Unknown("; ".join(view.withheld))
    said = f"the agent says bootstrap_expect {view.bootstrap_expect}"
    return Holds(said) if view.bootstrap_expect == expect else Fails(said)


async def _log_ends_alone(probe: Probe, server: ServerName, address: str) -> Fact:
    log = await probe.server_log(server)
    peers = sorted(peer.address for peer in log.configuration.servers) if log.configuration else []
    if peers == [address]:
        return Holds(f"its own log ends with {address} as the only peer")
    return Fails(f"its own log ends with the peers {', '.join(peers) or 'none'}")


async def _leader_stays(probe: Probe, check: LeaderStays) -> Fact:
    loop = asyncio.get_running_loop()
    led: ServerName | None = None
    term: int | None = None
    first_asked_s = seen_s = until_s = 0.0
    while True:
        # The term is asked for at both ends: whoever was elected again meanwhile leads in a higher one. Not before
        # somebody leads: below 0.7 the question starts a program on the host, and it is asked over and over.
        at_the_end = term is not None and loop.time() >= until_s
        ends = led is not None and (term is None or at_the_end)
        asked_s = loop.time()
        found = await pulses(probe, check.servers, numbers=ends)
        leaders = leaders_of(found)
        if not leaders:
            unseen = await may_lead_unseen(
                probe, [name for name, view in found.items() if isinstance(view, str)]
            )
            if unseen and led is None:
                return Unknown("; ".join(unseen))
            return Fails(f"{led} did not stay leader" if led else "no server names itself leader")
        if len(leaders) > 1:
            return Fails(f"{' and '.join(leaders)} name themselves leader at once")
        if led is None:
            led, first_asked_s, seen_s = leaders[0], asked_s, loop.time()
            continue
        view = views_of(found)[leaders[0]]
        if leaders[0] != led or (ends and term is not None and view.term != term):
            said = f" in term {view.term}" if ends else ""
            return Fails(f"{led} did not stay leader: {leaders[0]} leads{said}")
        if term is None:
            now_s = loop.time()
            # With no time for an election in between, it led in this term already when it was first seen. From 0.7 on
            # one server alone is asked (found.py), which has nobody to hand its leadership to.
            since_s = seen_s if now_s - first_asked_s < HEARTBEAT_TIMEOUT_S else now_s
            term, until_s = view.term, since_s + check.seconds
        elif at_the_end:
            said = f"{led} has been leader for {check.seconds} s"
            return await holds_entry(probe, led, view.last, at_least=check.at_least, said=said)
        await asyncio.sleep(min(_SAMPLE_EVERY_S, max(0.0, until_s - loop.time())))


async def _members_back(
    probe: Probe, clients: tuple[ServerName, ...], missing_at_most: int, servers: tuple[ServerName, ...]
) -> Fact:
    found = await pulses(probe, servers, numbers=False)
    leaders = leaders_of(found)
    if len(leaders) != 1:
        silent = [f"{name}: {view}" for name, view in found.items() if isinstance(view, str)]
        return (
            Unknown("; ".join(silent)) if silent and not leaders else Fails("there is no one leader to ask")
        )
    members = views_of(found)[leaders[0]].members
    alive = {member.name for member in members if member.status is MemberStatus.ALIVE}
    missing = [name for name in clients if name not in alive]
    if len(missing) <= missing_at_most:
        said = f"{len(clients) - len(missing)} of {len(clients)} alive in the members of {leaders[0]}"
        return Holds(f"{said}, missing: {', '.join(missing)}" if missing else said)
    return Fails(f"{leaders[0]} does not see alive: {', '.join(missing)}")
