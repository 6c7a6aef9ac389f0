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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.bot import open_bot
from bench.page import Section, spread, table
from bot.wiring import Core
from lab.agent import consul_program
from lab.datacentre import Lab
from lab.errors import LabError
from lab.host import Host
from recovery.engine import drive_run
from recovery.journal import Event, Outcome, RunState
from recovery.model import ClusterName, Person, RunId, ServerName
from recovery.service import Done, RunProposed

BARE = Path(__file__).with_name("bare.sh")
SERVERS = 6
GONE = ("s4", "s5", "s6")
DEADLINE_S = 180.0
TARGET = 1.25


@dataclass(frozen=True, slots=True)
class Trial:
    """Seconds from the start: until the cluster works, and until the way itself says that it is done."""

    works_s: float
    says_so_s: float


class Silent:
    """A notifier nobody reads: Slack is never waited for."""

    async def show(self, cluster: ClusterName, run: RunId, state: RunState, events: Sequence[Event]) -> None:
        """Show nothing."""


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
        print(
            f"recovery {pair}/{pairs}: ours works {ours[-1].works_s:.2f}, says so {ours[-1].says_so_s:.2f}; "
            f"bare works {bare[-1].works_s:.2f}, says so {bare[-1].says_so_s:.2f}",
            flush=True,
        )
    ratio, ratio_said = (
        statistics.median(map(of, ours)) / statistics.median(map(of, bare)) for of in (_works, _says_so)
    )
    rows = [
        ("ours, cluster works", *spread([*map(_works, ours)]), f"{ratio:.2f}"),
        ("bare, cluster works", *spread([*map(_works, bare)]), "1"),
        ("ours, run has ended", *spread([*map(_says_so, ours)]), f"{ratio_said:.2f}"),
        ("bare, script has ended", *spread([*map(_says_so, bare)]), "1"),
    ]
    text = (
        f"From the approval to a working cluster: peers.json recovery of six servers, three gone for good, {pairs} "
        "pairs in turns on clusters made afresh. Bare is `bench/bare.sh`: plain ssh, the same safe order (stop all, "
        "write peers.json on all, start a quorum with the freshest, wait for its leader, start the rest), without "
        "holds, archives, proofs and receipts. Works: one leader, exactly the three survivors vote, each knows the "
        "leader, a write is acknowledged; both are watched alike from outside. "
        f"Consul {version} with `raft_multiplier: 1`. "
        f"The ratio is of medians; what we aim at for *cluster works* is at most {TARGET}. "
        "Run it with `python -m bench recovery --pairs 5`.\n\n"
        + table(("", "median", "min", "max", "ratio"), rows)
    )
    return Section("recovery", text)


def _works(trial: Trial) -> float:
    return trial.works_s


def _says_so(trial: Trial) -> float:
    return trial.says_so_s


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


# --- the two ways -----------------------------------------------------------------------------------------


async def _ours(lab: Lab) -> Trial:
    async with open_bot(lab) as (core, cluster):
        answer = await core.service.propose(
            cluster,
            by=Person("alice"),
            origin="bench",
            method="peers-json",
            lost=tuple(ServerName(name) for name in GONE),
        )
        if not isinstance(answer, RunProposed):
            raise LabError(f"No plan was proposed for the benchmark: {answer}")
        run = answer.view.run
        driving = asyncio.create_task(
            drive_run(
                cluster,
                run,
                owner=core.owner,
                world=core.worlds[cluster],
                store=core.store,
                notifier=Silent(),
                clock=core.clock,
            )
        )
        try:
            began_s = await _approve(core, cluster, run)
            works_s, says_so_s = await asyncio.gather(
                _until_it_works(lab, began_s), _until_ended(core, cluster, run, began_s)
            )
            await driving
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)
    return Trial(works_s, says_so_s)


async def _approve(core: Core, cluster: ClusterName, run: RunId) -> float:
    """Approve as the second person as soon as somebody is asked, and give the moment just before."""
    while True:
        state = (await core.service.show(cluster, run)).state
        gate = state.waiting_gate
        if gate is not None:
            break
        await core.store.wait(cluster, run, length=state.length, timeout_s=1.0)
    began_s = time.monotonic()
    done = await core.service.approve(
        cluster, run, by=Person("bob"), gate=gate.id, digest_prefix=state.digest[:12], typed=gate.typed
    )
    if not isinstance(done, Done):
        raise LabError(f"The approval did not count: {done.reason}")
    return began_s


async def _until_ended(core: Core, cluster: ClusterName, run: RunId, began_s: float) -> float:
    while True:
        state = (await core.service.show(cluster, run)).state
        if state.outcome is Outcome.RECOVERED:
            return time.monotonic() - began_s
        if state.outcome is not None or state.waiting_step is not None:
            raise LabError(f"The run did not recover the cluster: {state.outcome}, {state.waiting_step}")
        await core.store.wait(cluster, run, length=state.length, timeout_s=1.0)


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
            works_s, says_so_s = await asyncio.gather(_until_it_works(lab, began_s), ended())
        finally:
            if script.returncode is None:
                script.kill()
                await script.wait()
    return Trial(works_s, says_so_s)


# --- the onlooker -----------------------------------------------------------------------------------------


def _survivors(lab: Lab) -> tuple[Host, ...]:
    return tuple(host for host in lab.servers if host.name not in GONE)


async def _until_it_works(lab: Lab, began_s: float) -> float:
    survivors = _survivors(lab)
    voters = {f"{host.address}:8300" for host in survivors}
    while True:
        leads = await asyncio.gather(*(lab.cluster.names_itself_leader(host) for host in survivors))
        if sum(leads) == 1:
            leader = survivors[leads.index(True)]
            known, votes = await asyncio.gather(
                asyncio.gather(*(lab.cluster.ask(host, "/v1/status/leader") for host in survivors)),
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
