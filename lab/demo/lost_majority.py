"""The first story: two of three servers lose their disks; empty machines of the same names run elsewhere."""

from __future__ import annotations

import asyncio
import time

from lab.demo.stage import Stage, Story
from lab.errors import LabError

KEY, VALUE = "demo/before-the-disaster", "still here"
ADDRESSES = {f"s{n}": f"198.51.100.1{n}" for n in (1, 2, 3)}
NEW_ADDRESSES = {"s2": "198.51.100.22", "s3": "198.51.100.23"}


async def set_up(stage: Stage) -> None:
    """Bring the cluster, Redis and the bot up, and write the key."""
    began_s = time.monotonic()
    stage.say("Starting three servers (real systemd, sshd and Consul, each a host of its own) ...")
    await stage.lab.up(servers=3)
    stage.say(f"A Consul cluster with a leader, after {time.monotonic() - began_s:.1f} s")
    await stage.lab.host("s1").run(f"consul kv put {KEY} '{VALUE}'")
    stage.say(f"Written before the disaster: {KEY} = {VALUE!r}")
    await stage.start_bot(ADDRESSES)


async def disaster(stage: Stage) -> None:
    """s2 and s3 lose their disks; empty machines of the same names run at other addresses."""
    stage.say("DISASTER: s2 and s3 lose their disks. Empty machines of the same names come up elsewhere.")
    await asyncio.gather(
        *(stage.lab.replace(name, address=address) for name, address in NEW_ADDRESSES.items())
    )
    stage.say("The new addresses are put in the settings, and the bot is restarted")
    await stage.start_bot(ADDRESSES | NEW_ADDRESSES)


async def play(stage: Stage) -> None:
    """Status, recover, two approvals, leader back."""
    await stage.type("/consul status demo", user="alice")
    await stage.expect("demo has NO LEADER", "majority is gone", timeout_s=60)
    await stage.type("/consul recover demo", user="alice")
    await stage.expect("--lost s2,s3", "not claimed", timeout_s=60)
    await stage.type("/consul recover demo --lost s2,s3", user="alice")
    plan = await stage.expect("waiting for approval", timeout_s=60)
    began_s = time.monotonic()
    await stage.photograph("plan", "waiting for approval", "Steps:")
    stage.press("bob", "Approve")
    await stage.slack.click(plan, "run_approve", user="bob")
    gate = await stage.expect("waiting for the second approval", timeout_s=120)
    await stage.photograph("second-gate", "waiting for the second approval", "asked for by")
    stage.press("bob", "Approve, and types the names of the servers that nobody can fence")
    await stage.slack.click(gate, "run_approve_typed", user="bob")
    modal = await stage.slack.wait(lambda: stage.slack.modals("bob"), timeout_s=10)
    await stage.slack.submit(modal[-1], {"type:s2": "s2", "type:s3": "s3"}, user="bob")
    await stage.photograph_live()
    await stage.expect(": done", timeout_s=240)
    await stage.photograph("done", ": done", "Catalogue before")
    took_s = time.monotonic() - began_s
    stage.show_new()
    await _summary(stage, took_s)


async def _summary(stage: Stage, took_s: float) -> None:
    value = (await stage.lab.host("s3").run(f"consul kv get {KEY}")).strip()
    peers = (await stage.lab.host("s1").run("consul operator raft list-peers")).strip()
    stage.say("Asked from the replaced s3")
    stage.show(f"{KEY} = {value!r}\n\n{peers}\n")
    if value != VALUE:
        raise LabError(f"the key is not what was written: {value!r}")
    if sum("true" in line.split() for line in peers.splitlines()) != 3:
        raise LabError("not all three servers are voters")
    stage.slack.assert_clean()
    stage.say(
        "DONE: leader back, two replaced servers voting, the key is there. "
        f"First approval to the end: {took_s:.0f} s."
    )


STORY = Story(
    set_up=set_up,
    disaster=disaster,
    play=play,
    by_hand="as alice `/consul status`, then `/consul recover --lost s2,s3`; approve as bob",
)
