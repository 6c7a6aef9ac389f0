"""Who leads, and whether its log holds the newest entry.

Raises what `checks.answer` turns into Unknown: RecoveryError, AgentSilent, RaftLogUnreadable.
"""

from __future__ import annotations

import asyncio
from typing import Final

from recovery.adapters.asking import leaders_of, looks, pulses
from recovery.adapters.collect import Probe
from recovery.adapters.log_ends import reaches
from recovery.model import Fact, Fails, Holds, ServerName, Unknown
from recovery.raftentry import LogPosition

_BETWEEN_SAMPLES_S: Final = 0.4
"""Two samples this far apart: a leader that is just stepping down is not taken for one."""


async def leader_elected(
    probe: Probe,
    servers: tuple[ServerName, ...],
    at_least: LogPosition | None,
    *,
    holders: tuple[ServerName, ...] = (),
) -> Fact:
    """Tell whether one of these servers alone leads, in two samples, and holds ``at_least`` where that is given."""
    first = await pulses(probe, servers, numbers=False)
    before = leaders_of(first)
    if len(before) == 1:
        await asyncio.sleep(_BETWEEN_SAMPLES_S)
        second = await pulses(probe, servers, numbers=False)
    else:
        second = first
    now = leaders_of(second)
    if len(now) > 1:
        return Fails(f"{' and '.join(now)} name themselves leader at once")
    if len(now) == 1 and now == before:
        last = (await probe.pulse(now[0])).last
        said = f"{now[0]} names itself leader"
        return await holds_entry(probe, now[0], last, at_least=at_least, holders=holders, said=said)
    if now:
        return Fails(f"{now[0]} has just become leader")
    unseen = await may_lead_unseen(probe, [name for name, view in second.items() if isinstance(view, str)])
    return Unknown("; ".join(unseen)) if unseen else Fails("no server names itself leader")


async def may_lead_unseen(probe: Probe, silent: list[ServerName]) -> list[str]:
    """Say which of those that do not answer may lead all the same; one without a process leads nobody."""
    hosts = await looks(probe, silent)
    return [
        host if isinstance(host, str) else f"{name} runs and does not answer"
        for name, host in hosts.items()
        if isinstance(host, str) or host.running
    ]


async def holds_entry(
    probe: Probe,
    leader: ServerName,
    last: LogPosition | None,
    *,
    at_least: LogPosition | None,
    holders: tuple[ServerName, ...] = (),
    said: str,
) -> Fact:
    """Tell whether a leader's log, which ends at ``last``, holds the entry ``at_least``; None asks for nothing.

    A log that merely goes as far may hold other entries there, which its leader has written since. ``holders`` are
    those whose own log was read and ended at that entry; ``said`` is what else holds of the leader.
    """
    reached = reaches(leader, last, at_least=at_least, said=said)
    if at_least is None or not isinstance(reached, Holds):
        return reached
    if leader in holders:
        return Holds(f"{reached.evidence}; its own log held the newest entry ({at_least})")
    term = await probe.term_at(leader, at_least.index)
    if term is None:
        return Unknown(
            f"{leader} leads, but whether its log holds the newest entry ({at_least}) cannot be seen any more: "
            "that part of its log is compacted into a later snapshot"
        )
    if term != at_least.term:
        return Fails(
            f"{leader} leads without the newest entry: at index {at_least.index} its log holds an entry of term "
            f"{term}, not of term {at_least.term}. Others that join it lose what they hold beside that. Stop it by "
            "hand, without a leave, before anything else is started",
            final=True,
        )
    return Holds(f"{reached.evidence}; it holds the newest entry ({at_least})")


async def no_leader(probe: Probe, servers: tuple[ServerName, ...]) -> Fact:
    """Tell whether none of these servers leads; one that runs and does not answer may."""
    found, hosts = await asyncio.gather(pulses(probe, servers, numbers=False), looks(probe, servers))
    leaders = leaders_of(found)
    if leaders:
        named = "names itself" if len(leaders) == 1 else "name themselves"
        return Fails(f"{' and '.join(leaders)} {named} leader")
    for name in servers:
        host, view = hosts[name], found[name]
        if isinstance(host, str):
            return Unknown(host)
        if host.running and isinstance(view, str):
            return Unknown(f"{name} runs, but {view}")
    return Holds("no server names itself leader")
