"""Somebody else than the ways that are compared: tells when a cluster works again, alike for all of them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from lab.datacentre import Lab
from lab.host import Host


@dataclass(frozen=True, slots=True)
class Trial:
    """Seconds from the start: until the cluster works, and until the way itself says that it is done."""

    works_s: float
    says_so_s: float


async def until_it_works(lab: Lab, servers: Sequence[Host], *, began_s: float) -> float:
    """Give the seconds until these servers, and nobody else, are a cluster that takes a write.

    One of them names itself leader, exactly they vote, each knows the leader, and a write is acknowledged.
    """
    voters = {f"{host.address}:8300" for host in servers}
    while True:
        leads = await asyncio.gather(*(lab.cluster.names_itself_leader(host) for host in servers))
        if sum(leads) == 1:
            leader = servers[leads.index(True)]
            known, votes = await asyncio.gather(
                asyncio.gather(*(lab.cluster.ask(host, "/v1/status/leader") for host in servers)),
                lab.cluster.voters(leader),
            )
            name = f'"{leader.address}:8300"'.encode()
            if votes == voters and all(
                answer is not None and answer.status == 200 and answer.body.strip() == name
                for answer in known
            ):
                put = await leader.api("/v1/kv/bench/works", method="PUT", body=b"yes")
                if put.status == 200 and put.body.strip() == b"true":
                    return time.monotonic() - began_s
        await asyncio.sleep(0.1)
