"""What it costs that a run survives its process: undisturbed, and with the driver killed in the middle."""

import asyncio
import time

from bench.page import Section, spread, table
from bench.people import press, propose, until_it_says
from bot.wiring import open_core
from config.settings import load_settings
from lab.breakage import stop_majority
from lab.datacentre import Lab
from lab.errors import LabError
from lab.fleet import Fleet, fleet
from recovery.journal import Event, RunState, StepStatus, fold
from recovery.model import ClusterName, RunId

DEADLINE_S = 180.0
WAYS = {
    "undisturbed, one process": (1, False),
    "killed, a new process is started": (1, True),
    "killed, another process is there": (2, True),
}


async def measure(lab: Lab, *, pairs: int) -> Section:
    """Start two stopped servers of three, in turns undisturbed and with a kill."""
    await lab.up(servers=3)
    took_s: dict[str, list[float]] = {way: [] for way in WAYS}
    events: list[int] = []
    for turn in range(1, pairs + 1):
        for way, (count, kill) in WAYS.items():
            await lab.cluster.wait_until_formed()
            await stop_majority(lab)
            async with fleet(lab, count=count) as bots:
                seconds, journal = await _trial(bots, kill=kill)
            took_s[way].append(seconds)
            if not kill:
                events.append(len(journal))
        print(
            f"durability {turn}/{pairs}: "
            + ", ".join(f"{way} {each[-1]:.2f}" for way, each in took_s.items())
        )
    appends_s = await _appends(lab)
    rows = [(way, *spread(each)) for way, each in took_s.items()]
    text = (
        f"From the approval to the end of the run: two of three stopped servers are started, {pairs} turns. *Killed*: "
        "SIGKILL to the driving process as soon as a start is under way; whoever goes on waits for its lease (10 s) "
        f"to run out. An undisturbed run has {max(events)} journal entries, each written to Redis before the run goes "
        f"on: {appends_s * 1000:.2f} ms each (median of 200). Run it with `python -m bench durability`.\n\n"
        + table(("", "median", "min", "max"), rows)
    )
    return Section("durability", text)


async def _trial(bots: Fleet, *, kill: bool) -> tuple[float, tuple[Event, ...]]:
    cluster = ClusterName(bots.cluster)
    async with open_core(load_settings(bots.settings, environ={}), kind="bench") as core:
        _, card = await propose(bots)
        await until_it_says(bots, card, "waiting for approval")
        run = await core.store.active(cluster)
        if run is None:
            raise LabError("The proposed run holds no lock.")
        began_s = time.monotonic()
        await press(bots, card, "run_approve")
        async with asyncio.timeout(DEADLINE_S):
            while True:
                journal = await core.store.events(cluster, run)
                state = fold(journal)
                if state.outcome is not None:
                    return time.monotonic() - began_s, journal
                if kill and not bots.killed and _starting(state):
                    driver = bots.driver(state.owner)
                    if driver is not None:
                        await bots.kill(driver)
                await asyncio.sleep(0.01)


def _starting(state: RunState) -> bool:
    return any(
        at.status is StepStatus.DOING and step.id.startswith("start-")
        for step, at in zip(state.plan.steps, state.steps, strict=True)
    )


async def _appends(lab: Lab) -> float:
    """Seconds that one small durable write to the lab's Redis takes, as a journal entry does: the median."""
    took_s: list[float] = []
    async with (
        fleet(lab, count=0) as bots,
        open_core(load_settings(bots.settings, environ={}), kind="bench") as core,
    ):
        for number in range(200):
            began_s = time.monotonic()
            await core.store.once(f"bench:{RunId(bots.cluster)}:{number}", ttl_s=60)
            took_s.append(time.monotonic() - began_s)
    return sorted(took_s)[len(took_s) // 2]
