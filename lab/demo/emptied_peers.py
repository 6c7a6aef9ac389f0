"""The second story, the one this project began with: Consul below 0.7, restarted one after the other.

A graceful stop is a leave there: each server empties its peers.json, and after the start all are followers for
ever. The staged bootstrap brings them back.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

from lab.breakage import leave_stopped
from lab.demo.stage import Stage, Story
from lab.errors import LabError
from lab.host import Host
from lab.oldconsul.build import program as stand_in
from lab.sampler import LeaderSampler

FIRST, LAST = "demo/all-three-have-it", "demo/written-when-s1-had-left"
ADDRESSES = {f"s{n}": f"198.51.100.1{n}" for n in (1, 2, 3)}


async def set_up(stage: Stage) -> None:
    """Bring three old servers and a client agent up, write a key, and let the bot see them healthy."""
    began_s = time.monotonic()
    given = os.environ.get("LAB_CONSUL")
    what = f"the program {given}" if given else "the lab's stand-in of Consul 0.6.4"
    stage.say(f"Starting three servers and a client agent with {what}, each a host of its own ...")
    await stage.lab.up(servers=3, clients=1, consul=Path(given) if given else stand_in())
    stage.say(f"A cluster with a leader, after {time.monotonic() - began_s:.1f} s")
    await _put(stage.lab.host("s2"), FIRST)
    stage.say(f"Written on all three: {FIRST}")
    await stage.start_bot(ADDRESSES)


async def disaster(stage: Stage) -> None:
    """All servers are stopped one after the other, and started again."""
    stage.say("DISASTER: somebody stops the servers one after the other, s1 first, to start them again.")
    await stage.lab.host("s1").run("systemctl stop consul; systemctl reset-failed consul", check=False)
    await stage.lab.cluster.wait_for_leader()
    await _put(stage.lab.host("s3"), LAST)
    stage.say(f"Written when s1 had left, so s1 does not have it: {LAST}")
    await leave_stopped(stage.lab)
    await asyncio.gather(*(_start(stage, host) for host in stage.lab.servers))
    for host in stage.lab.servers:
        content = (await host.run("cat /var/lib/consul/raft/peers.json")).strip()
        stage.show(f"   {host.name}: raft/peers.json holds {content}")


async def play(stage: Stage) -> None:
    """Status, recover, two approvals, the stages, leader back; a sampler watches for a second leader."""
    async with LeaderSampler(stage.lab) as sampler:
        await stage.type("/consul status demo", user="alice")
        await stage.expect("demo has NO LEADER", "peers were emptied", timeout_s=60)
        await stage.type("/consul recover demo", user="alice")
        plan = await stage.expect("waiting for approval", "Staged bootstrap", timeout_s=60)
        began_s = time.monotonic()
        await stage.photograph("plan", "waiting for approval", "Staged bootstrap")
        stage.press("bob", "Approve")
        await stage.slack.click(plan, "run_approve", user="bob")
        gate = await stage.expect("waiting for the second approval", timeout_s=120)
        await stage.photograph("second-gate", "waiting for the second approval", "asked for by")
        stage.press("bob", "Approve")
        await stage.slack.click(gate, "run_approve", user="bob")
        await stage.photograph_live()
        await stage.expect(": done", timeout_s=240)
        await stage.photograph("done", ": done")
        took_s = time.monotonic() - began_s
        stage.show_new()
        await _summary(stage, sampler, took_s)


async def _summary(stage: Stage, sampler: LeaderSampler, took_s: float) -> None:
    stage.say("Asked from each server's own store")
    for host in stage.lab.servers:
        held = [key for key in (FIRST, LAST) if await _has(host, key)]
        stage.show(f"   {host.name} holds {' and '.join(held) or 'nothing'}")
        if held != [FIRST, LAST]:
            raise LabError(f"not every acknowledged key is on {host.name}")
    leader = await stage.lab.cluster.wait_for_leader()
    voters = await stage.lab.cluster.voters(leader)
    if voters != {f"{address}:8300" for address in ADDRESSES.values()}:
        raise LabError(f"the peers are {', '.join(sorted(voters)) or 'nobody'}, not all three")
    stage.show(f"   {leader.name} leads, all three are peers")
    left = await stage.lab.host("s3").run("ls /etc/consul.d/zz-consul-recovery.json 2>/dev/null; true")
    if left:
        raise LabError(f"the override was left behind: {left.strip()}")
    sampler.assert_one_leader()
    stage.slack.assert_clean()
    stage.say(
        f"DONE: leader back, all three are peers, both keys are on each, and never two leaders in "
        f"{len(sampler.samples)} samples. First approval to the end: {took_s:.0f} s."
    )


async def _start(stage: Stage, host: Host) -> None:
    """Start an agent and wait until it answers."""
    await host.run("systemctl --no-block start consul")
    deadline_s = time.monotonic() + 60.0
    while await stage.lab.cluster.ask(host, "/v1/agent/self") is None:
        if time.monotonic() > deadline_s:
            raise LabError(f"the agent of {host.name} did not answer within 60 s after its start")
        await asyncio.sleep(0.1)


async def _put(host: Host, key: str) -> None:
    answer = await host.api(f"/v1/kv/{key}", method="PUT", body=b"yes")
    if answer.status != 200 or json.loads(answer.body) is not True:
        raise LabError(f"{host.name} did not take the key {key}: {answer.status}")


async def _has(host: Host, key: str) -> bool:
    return (await host.api(f"/v1/kv/{key}?stale")).status == 200


STORY = Story(
    set_up=set_up,
    disaster=disaster,
    play=play,
    by_hand="as alice `/consul status`, then `/consul recover`; approve as bob",
)
