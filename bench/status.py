"""How long a look at the cluster takes: `service.status`, ten times in each state of three servers."""

import time

from bench.bot import open_bot
from bench.page import Section, spread, table
from lab.breakage import lose_majority, stop_majority
from lab.datacentre import Lab

TIMES = 10


async def measure(lab: Lab) -> Section:
    """Time looks at a healthy cluster, at one with a majority stopped, and at one with a majority gone."""
    await lab.up(servers=3)
    rows = [("healthy", *spread(await _looks(lab)))]
    await stop_majority(lab)
    rows.append(("leaderless, two agents stopped", *spread(await _looks(lab))))
    await lose_majority(lab)
    rows.append(("leaderless, two hosts gone", *spread(await _looks(lab))))
    version = ".".join(map(str, lab.cluster.settings.program.version))
    text = (
        f"`status`: every host, agent and stopped log is looked at, and a diagnosis is made. Three servers, "
        f"{TIMES} looks in each state over SSH connections that are open, as a running bot has them; a host "
        f"that is gone costs the time to connect (`ssh.connect_timeout_s`, 5 s). Consul {version}. "
        f"Run it with `python -m bench status`.\n\n" + table(("state", "median", "min", "max"), rows)
    )
    return Section("status", text)


async def _looks(lab: Lab) -> list[float]:
    took_s: list[float] = []
    async with open_bot(lab) as (core, cluster):
        await core.service.status(cluster)  # connects
        for _ in range(TIMES):
            began_s = time.monotonic()
            report = await core.service.status(cluster)
            took_s.append(time.monotonic() - began_s)
        print(
            f"status: {type(report.diagnosis).__name__}: {' '.join(f'{each:.2f}' for each in took_s)}",
            flush=True,
        )
    return took_s
