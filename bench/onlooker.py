"""Somebody else than the ways that are compared: tells when a cluster works again, alike for all of them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from lab.datacentre import Lab
from lab.host import Host


@dataclass(frozen=True, slots=True)
class Seen:
    """Seconds from the start, as seen from outside."""

    leader_s: float
    """Until one of them names itself leader."""
    writes_s: float
    """Until it has acknowledged a write."""
    works_s: float
    """Until exactly they vote, each knows the leader and a write is acknowledged."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What was seen, and the seconds until the way itself says that it is done."""

    seen: Seen
    says_so_s: float


async def until_it_works(lab: Lab, servers: Sequence[Host], *, began_s: float) -> Seen:
    """Watch until these servers, and nobody else, are a cluster that takes a write, each knowing its leader."""
    voters = {f"{host.address}:8300" for host in servers}
    leader_s = writes_s = 0.0
    while True:
        leads = await asyncio.gather(*(lab.cluster.names_itself_leader(host) for host in servers))
        if sum(leads) == 1:
            leader = servers[leads.index(True)]
            leader_s = leader_s or time.monotonic() - began_s
            if not writes_s and await _takes_a_write(leader):
                writes_s = time.monotonic() - began_s
            known, votes = await asyncio.gather(
                asyncio.gather(*(lab.cluster.ask(host, "/v1/status/leader") for host in servers)),
                lab.cluster.voters(leader),
            )
            name = f'"{leader.address}:8300"'.encode()
            if (
                votes == voters
                and all(
                    answer is not None and answer.status == 200 and answer.body.strip() == name
                    for answer in known
                )
                and await _takes_a_write(leader)
            ):
                works_s = time.monotonic() - began_s
                return Seen(leader_s, writes_s or works_s, works_s)
        await asyncio.sleep(0.1)


async def _takes_a_write(leader: Host) -> bool:
    try:
        put = await leader.api("/v1/kv/bench/works", method="PUT", body=b"yes")
    except OSError:
        return False
    return put.status == 200 and put.body.strip() == b"true"
