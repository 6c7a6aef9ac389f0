"""From approval to a working cluster: ours beside a bare shell loop (bare.sh) that keeps the same safe order.

Six servers with data, three of them gone for good (three of six are no quorum; three of five would still lead),
made afresh and broken the same way before every trial, in turns. Somebody else than the two tells when the
cluster works again, and does so alike for both: a server names itself leader, the three survivors and nobody
else vote and each knows the leader, and a write is acknowledged.
"""

import asyncio
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.onlooker import Trial, until_it_works
from bench.ours import recover
from bench.page import Section, spread, table
from lab.agent import consul_program
from lab.datacentre import Lab
from lab.errors import LabError
from lab.host import Host

BARE = Path(__file__).with_name("bare.sh")
SERVERS = 6
GONE = ("s4", "s5", "s6")
DEADLINE_S = 180.0
TARGET = 1.25


async def measure(lab: Lab, *, pairs: int) -> Section:
    """Run the pairs and write them down; raises LabError where one of the two does not heal the cluster."""
    if shutil.which("ssh") is None:
        raise LabError("The bare loop needs the program ssh. Install openssh-client.")
    program = os.environ.get("LAB_CONSUL")
    chosen = await asyncio.to_thread(consul_program, lab.root, Path(program) if program else None)
    version = ".".join(map(str, chosen.version))
    ours: list[Trial] = []
    bare: list[Trial] = []
    for pair in range(1, pairs + 1):
        ours.append(await _trial(lab, _ours))
        bare.append(await _trial(lab, _bare))
        print(f"recovery {pair}/{pairs}: ours {_told(ours[-1])}; bare {_told(bare[-1])}", flush=True)
    rows = [
        (f"{way}, {what}", *spread([*map(of, trials)]), f"{_median(of, trials) / _median(of, bare):.2f}")
        for what, of in _FIGURES
        for way, trials in (("ours", ours), ("bare", bare))
    ]
    text = (
        f"From the approval to a working cluster: peers.json recovery of six servers, three gone for good, {pairs} "
        "pairs in turns on clusters made afresh. Bare is `bench/bare.sh`: plain ssh, the same safe order (stop all, "
        "peers.json with one voter on the freshest, start it, wait for it to lead, start the rest), without holds, "
        "archives, proofs and receipts; its stop is systemctl's own, which a server whose peers are dead answers after "
        "ten seconds, where ours kills. Leader back: a server names itself leader; takes a write: it has acknowledged "
        "one, as the only voter; all voters: exactly the three survivors vote, each knows the leader, a write is "
        "acknowledged. Both are watched alike from outside. "
        f"Consul {version} with `raft_multiplier: 1` and a `server_stabilization_time` of 1 s, which autopilot waits "
        "for before it gives a server its vote (10 s where nobody sets it). "
        f"The ratio is of medians; what we aim at for *all voters* is at most {TARGET}. "
        "Run it with `python -m bench recovery --pairs 5`.\n\n"
        + table(("", "median", "min", "max", "ratio"), rows)
    )
    return Section("recovery", text)


_FIGURES: tuple[tuple[str, Callable[[Trial], float]], ...] = (
    ("leader back", lambda trial: trial.seen.leader_s),
    ("takes a write", lambda trial: trial.seen.writes_s),
    ("all voters", lambda trial: trial.seen.works_s),
    ("says that it is done", lambda trial: trial.says_so_s),
)


def _median(of: Callable[[Trial], float], trials: list[Trial]) -> float:
    return statistics.median(map(of, trials))


def _told(trial: Trial) -> str:
    return ", ".join(f"{what} {of(trial):.2f}" for what, of in _FIGURES)


async def _trial(lab: Lab, way: Callable[[Lab], Awaitable[Trial]]) -> Trial:
    try:
        await lab.up(servers=SERVERS)
        for number in range(20):
            await lab.host("s1").run(f"consul kv put bench/{number} before >/dev/null")
        await asyncio.gather(*(lab.host(name).kill() for name in GONE))
        deadline_s = time.monotonic() + 30.0
        while await lab.cluster.leader() is not None:
            if time.monotonic() > deadline_s:
                raise LabError("The cluster kept its leader though half of its servers are gone.")
            await asyncio.sleep(0.1)
        async with asyncio.timeout(DEADLINE_S):
            return await way(lab)
    except TimeoutError:
        raise LabError(f"The cluster did not work again within {DEADLINE_S:.0f} s.") from None
    finally:
        await lab.clear()


async def _ours(lab: Lab) -> Trial:
    return await recover(lab, _survivors(lab), method="peers-json", lost=GONE)


async def _bare(lab: Lab) -> Trial:
    survivors = _survivors(lab)
    with tempfile.TemporaryDirectory() as folder:
        began_s = time.monotonic()
        script = await asyncio.create_subprocess_exec(
            *("sh", str(BARE), lab.ssh_user, str(lab.ssh_key), str(lab.known_hosts), folder),
            *(host.address for host in survivors),
            stdin=asyncio.subprocess.DEVNULL,
        )

        async def ended() -> float:
            if await script.wait() != 0:
                raise LabError(f"The bare loop failed with status {script.returncode}.")
            return time.monotonic() - began_s

        try:
            seen, says_so_s = await asyncio.gather(until_it_works(lab, survivors, began_s=began_s), ended())
        finally:
            if script.returncode is None:
                script.kill()
                await script.wait()
    return Trial(seen, says_so_s)


def _survivors(lab: Lab) -> tuple[Host, ...]:
    return tuple(host for host in lab.servers if host.name not in GONE)
