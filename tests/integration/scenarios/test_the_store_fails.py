"""Redis killed, put back to an old dump, and emptied, in the middle of recoveries of real hosts."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from lab.datacentre import Lab
from recovery.errors import StoreUnavailable
from recovery.journal import Outcome, RunState, StepStarted
from recovery.model import RunId
from recovery.service import Refused
from recovery.supervisor import Supervisor
from tests.integration.rig import BOB, Rig, open_rig

PATIENCE_S = 120.0


@asynccontextmanager
async def served(rig: Rig) -> AsyncIterator[None]:
    """A bot process at work on the rig."""
    core = rig.core
    supervisor = Supervisor(
        owner=core.owner,
        service=core.service,
        worlds=core.worlds,
        store=core.store,
        notifier=rig.journal,
        clock=core.clock,
    )
    serving = asyncio.create_task(supervisor.serve())
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def until(rig: Rig, run: RunId, ready: Callable[[RunState], bool]) -> RunState:
    """Wait for a state of the run, as somebody who looks again while Redis does not answer."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                state = await rig.state(run)
            except StoreUnavailable:
                await asyncio.sleep(0.1)
                continue
            assert state.waiting_step is None, state.step_state(state.waiting_step.id)
            if ready(state):
                return state
            await asyncio.sleep(0.1)


async def approve(rig: Rig, run: RunId, gate: str) -> None:
    """Bob approves this gate as soon as he is asked."""
    state = await until(rig, run, lambda s: s.waiting_gate is not None and s.waiting_gate.id == gate)
    waiting = state.waiting_gate
    assert waiting is not None
    await rig.core.service.approve(
        rig.cluster, run, by=BOB, gate=gate, digest_prefix=state.digest[:12], typed=waiting.typed
    )


def copied(source: Path, target: Path) -> None:
    """A folder with its owners, as a backup does it."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


async def test_redis_killed_in_a_step_and_an_old_dump_restored(lab: Lab) -> None:
    """The run goes on after SIGKILL; after an old dump a person confirms first, and nothing is done twice."""
    await lab.up(servers=3)
    await lab.host("s1").run("consul kv put before 'still here'")
    await asyncio.gather(
        lab.replace("s2", address="198.51.100.22"), lab.replace("s3", address="198.51.100.23")
    )
    redis = lab.redis_server
    data, dump = redis.folder / "data", redis.folder / "dump"
    async with open_rig(lab) as rig, served(rig):
        run = await rig.proposed(lost=("s2", "s3"))
        await until(rig, run, lambda s: s.waiting_gate is not None)
        copied(data, dump)
        await approve(rig, run, "plan")
        async with asyncio.timeout(PATIENCE_S):
            while not any(isinstance(e, StepStarted) and e.step == "stop-s1" for e in rig.journal.events):
                await asyncio.sleep(0.01)
        await asyncio.to_thread(redis.kill)
        told = await rig.status()
        assert "cannot be reached" in told.store_problem
        await asyncio.to_thread(redis.start)
        before = await until(
            rig, run, lambda s: s.waiting_gate is not None and s.waiting_gate.id == "irreversible"
        )
        assert before.forgotten == ()

        await asyncio.to_thread(redis.kill)
        copied(dump, data)
        await asyncio.to_thread(redis.start)
        behind = await until(rig, run, lambda s: bool(s.forgotten))
        assert "s1 has done stop-s1, which is not in the journal" in behind.forgotten
        assert behind.epoch > before.epoch
        await rig.core.service.retry(rig.cluster, run, by=BOB)
        await approve(rig, run, "plan")
        await approve(rig, run, "irreversible")
        ended = await until(rig, run, lambda s: s.outcome is not None)
        assert ended.outcome is Outcome.RECOVERED
        assert rig.journal.notes == []
    leader = await lab.cluster.wait_for_leader()
    assert await lab.cluster.voters(leader) == {f"{host.address}:8300" for host in lab.servers}
    for host in lab.servers:
        assert await host.run("consul kv get before") == "still here\n"
        stops = await host.run(
            "grep -c . /var/lib/consul-recovery/receipts/*/stop-*.do; "
            "journalctl -u consul -o cat --no-pager | grep -c 'Stopped consul.service\\|Stopped Consul' || true"
        )
        # The plan stops each agent once, whatever Redis forgot: the receipt of the first time answers the second.
        assert stops.split() == ["1", "1"], stops


async def test_redis_emptied_after_the_stop(lab: Lab) -> None:
    """People are told that the run is lost, what it holds, and a new plan goes on from there."""
    await lab.up(servers=3)
    await lab.host("s1").run("consul kv put before 'still here'")
    await asyncio.gather(lab.host("s2").kill(), lab.host("s3").kill())
    redis = lab.redis_server
    async with open_rig(lab) as rig, served(rig):
        run = await rig.proposed(lost=("s2", "s3"))
        await approve(rig, run, "plan")
        await until(rig, run, lambda s: s.waiting_gate is not None and s.waiting_gate.id == "irreversible")
        await asyncio.to_thread(redis.kill)
        shutil.rmtree(redis.folder / "data")
        await asyncio.to_thread(redis.start)
        async with asyncio.timeout(PATIENCE_S):
            while not rig.journal.notes:
                await asyncio.sleep(0.1)
        assert "Redis no longer knows this run" in rig.journal.notes[0]
        (left,) = (await rig.status()).left
        assert left.run == run
        assert left.found[0].startswith("s1 is stopped and held; done there: ")
        refused = await rig.propose()
        assert isinstance(refused, Refused)
        lost = re.search(r"--lost ([^`]+)`", refused.refusal.next_step)
        assert lost is not None, refused.refusal
        again = await rig.proposed(lost=tuple(lost[1].split(",")))
        view = await rig.core.service.show(rig.cluster, again)
        assert any(f"Run {run} was under way" in warning for warning in view.state.plan.warnings)
        await approve(rig, again, "plan")
        await approve(rig, again, "irreversible")
        ended = await until(rig, again, lambda s: s.outcome is not None)
        assert ended.outcome is Outcome.RECOVERED
        assert (await rig.status()).left == ()
    assert await lab.host("s1").run("consul kv get before") == "still here\n"
