"""Redis killed, put back to an old dump, and emptied, in the middle of recoveries of real hosts."""

from __future__ import annotations

import asyncio
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from bot.terminal import OK, Terminal
from bot.wiring import rules_of
from lab.datacentre import Lab
from recovery.journal import Outcome, RunState, StepStarted, fold
from recovery.model import RunId, ServerName
from recovery.service import ProposeResult, Refused, RunProposed
from tests.integration.replicas import Replicas, counted, planned, replicas, running
from tests.integration.rig import ALICE, BOB

PATIENCE_S = 120.0


async def until(bots: Replicas, run: RunId, ready: Callable[[RunState], bool]) -> RunState:
    """Wait for a state of the run."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            state = fold(await bots.events(run))
            assert state.waiting_step is None, state.step_state(state.waiting_step.id)
            if ready(state):
                return state
            await asyncio.sleep(0.1)


async def propose(bots: Replicas, *, lost: tuple[str, ...] = ()) -> ProposeResult:
    """Alice asks for a recovery at a terminal; the bot drives it."""
    names = tuple(ServerName(name) for name in lost)
    return await bots.core.service.propose(bots.cluster, by=ALICE, origin="terminal", lost=names)


async def proposed(bots: Replicas, *, lost: tuple[str, ...]) -> RunId:
    """She asks, and there is a plan."""
    answer = await propose(bots, lost=lost)
    assert isinstance(answer, RunProposed), getattr(answer, "refusal", answer)
    return answer.view.run


async def asked(bots: Replicas, run: RunId, gate: str) -> RunState:
    """Wait until people are asked about this gate."""
    return await until(bots, run, lambda s: s.waiting_gate is not None and s.waiting_gate.id == gate)


async def approve(bots: Replicas, run: RunId, gate: str) -> RunState:
    """Bob approves this gate as soon as he is asked; the run as it was then."""
    state = await asked(bots, run, gate)
    waiting = state.waiting_gate
    assert waiting is not None
    await bots.core.service.approve(
        bots.cluster, run, by=BOB, gate=gate, digest_prefix=state.digest[:12], typed=waiting.typed
    )
    return state


def at_terminal(bots: Replicas, out: io.StringIO) -> Terminal:
    """Bob's terminal, which never asks."""
    return Terminal(bots.core, rules=rules_of(bots.core.settings), user="bob", as_json=False, out=out)


def copied(source: Path, target: Path) -> None:
    """A folder with its owners, as a backup does it."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def shown(bots: Replicas, run: RunId) -> str:
    """What the run's card says; "" where there is none."""
    card = bots.card(run)
    return bots.slack.plain_text(card) if card is not None else ""


async def test_redis_killed_in_a_step_and_an_old_dump_restored_then_slack_gone(lab: Lab) -> None:
    """A bot goes on after Redis' SIGKILL; after an old dump a person confirms first, and nothing is done twice.

    From there on Slack is gone: bob steers the same run from a terminal to its end, and the card is redrawn when
    Slack is back.
    """
    await lab.up(servers=3)
    await lab.host("s1").run("consul kv put before 'still here'")
    await asyncio.gather(
        lab.replace("s2", address="198.51.100.22"), lab.replace("s3", address="198.51.100.23")
    )
    counts, ran = await counted(lab.servers), await running(lab.servers)
    redis = lab.redis_server
    data, dump = redis.folder / "data", redis.folder / "dump"
    async with replicas(lab, count=1) as bots:
        run = await proposed(bots, lost=("s2", "s3"))
        await until(bots, run, lambda s: s.waiting_gate is not None)
        copied(data, dump)
        await approve(bots, run, "plan")
        async with asyncio.timeout(PATIENCE_S):
            while not any(isinstance(e, StepStarted) and e.step == "stop-s1" for e in await bots.events(run)):
                await asyncio.sleep(0.01)
        await asyncio.to_thread(redis.kill)
        told = await bots.core.service.status(bots.cluster)
        assert "cannot be reached" in told.store_problem
        await asyncio.to_thread(redis.start)
        before = await asked(bots, run, "irreversible")
        assert before.forgotten == ()

        await asyncio.to_thread(redis.kill)
        copied(dump, data)
        await asyncio.to_thread(redis.start)
        behind = await until(bots, run, lambda s: bool(s.forgotten))
        assert "s1 has done stop-s1, which is not in the journal" in behind.forgotten
        assert behind.epoch > before.epoch

        await bots.slack.wait(
            lambda: "stop-s1, which is not in the journal" in shown(bots, run), timeout_s=60
        )
        await bots.slack.go_down()
        seen = io.StringIO()
        assert await at_terminal(bots, seen).retry(run) == OK
        for gate in ("plan", "irreversible"):
            waiting = (await asked(bots, run, gate)).waiting_gate
            assert waiting is not None
            typed = [str(name) for name in waiting.typed]
            assert (
                await at_terminal(bots, seen).approve(run, yes=True, digest=behind.digest[:12], typed=typed)
                == OK
            )
        ended = await until(bots, run, lambda s: s.outcome is not None)
        assert ended.outcome is Outcome.RECOVERED
        assert ended.owner == behind.owner, "the bot drives, the terminal steers"
        assert "done in" in seen.getvalue()
        assert "done in" not in shown(bots, run)
        await bots.slack.come_back()
        await bots.slack.wait(lambda: "done in" in shown(bots, run), timeout_s=90)
        await bots.slack.wait(lambda: "ended: recovered" in bots.thread(run), timeout_s=30)
        assert bots.thread(run).count("ended: recovered") == 1
        assert "Redis no longer knows this run" not in bots.thread(run)
    leader = await lab.cluster.wait_for_leader()
    assert await lab.cluster.voters(leader) == {f"{host.address}:8300" for host in lab.servers}
    for host in lab.servers:
        assert await host.run("consul kv get before") == "still here\n"
    # Each agent is stopped and started once, whatever Redis forgot: what the journal lost was done before.
    expected = planned([before, ended], ran=ran)
    assert (await counted(lab.servers)).since(counts) == expected
    assert set(expected.stops) == set(expected.starts) == {"s1", "s2", "s3"}


async def test_redis_emptied_after_the_stop(lab: Lab) -> None:
    """People are told that the run is lost, what it holds, and a new plan goes on from there; nothing is done twice."""
    await lab.up(servers=3)
    await lab.host("s1").run("consul kv put before 'still here'")
    await asyncio.gather(lab.host("s2").kill(), lab.host("s3").kill())
    counts, ran = await counted(lab.servers), await running(lab.servers)
    redis = lab.redis_server
    async with replicas(lab, count=1) as bots:
        run = await proposed(bots, lost=("s2", "s3"))
        await approve(bots, run, "plan")
        lost_state = await asked(bots, run, "irreversible")
        await asyncio.to_thread(redis.kill)
        shutil.rmtree(redis.folder / "data")
        await asyncio.to_thread(redis.start)
        await bots.slack.wait(
            lambda: "Redis no longer knows this run" in bots.thread(run), timeout_s=PATIENCE_S
        )
        (left,) = (await bots.core.service.status(bots.cluster)).left
        assert left.run == run
        assert left.found[0].startswith("s1 is stopped and held; done there: ")
        refused = await propose(bots)
        assert isinstance(refused, Refused)
        lost = re.search(r"--lost ([^`]+)`", refused.refusal.next_step)
        assert lost is not None, refused.refusal
        again = await proposed(bots, lost=tuple(lost[1].split(",")))
        view = await bots.core.service.show(bots.cluster, again)
        assert any(f"Run {run} was under way" in warning for warning in view.state.plan.warnings)
        await approve(bots, again, "plan")
        await approve(bots, again, "irreversible")
        ended = await until(bots, again, lambda s: s.outcome is not None)
        assert ended.outcome is Outcome.RECOVERED
        assert (await bots.core.service.status(bots.cluster)).left == ()
    assert await lab.host("s1").run("consul kv get before") == "still here\n"
    expected = planned([lost_state, ended], ran=ran)
    assert (await counted(lab.servers)).since(counts) == expected
    assert expected.stops == expected.starts == {"s1": 1}
