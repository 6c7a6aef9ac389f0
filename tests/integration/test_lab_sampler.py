"""The sampler sees two leaders where there are two, and none where there are not."""

import asyncio
import time

from lab.datacentre import Lab
from lab.sampler import LeaderSampler


async def sampled(sampler: LeaderSampler, *, servers: set[str], seconds: float) -> None:
    """Wait until each of these servers was seen leading over that time."""
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        leading = {
            server: [s.asked_s for s in sampler.samples if s.server == server and s.leads]
            for server in servers
        }
        if all(times and times[-1] - times[0] > seconds for times in leading.values()):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"not every one of {servers} was seen leading for {seconds} s")


async def test_two_planted_leaders_are_seen(bare_lab: Lab) -> None:
    """Two servers that each founded a cluster of their own are two leaders, named with the time."""
    async with LeaderSampler(bare_lab) as sampler:
        await bare_lab.up(servers=2, bootstrap_expect=1, config={"retry_join": []}, wait=False)
        await sampled(sampler, servers={"s1", "s2"}, seconds=2.0)
    (overlap,) = sampler.two_leaders()
    assert overlap.servers == ("s1 (198.51.100.11)", "s2 (198.51.100.12)")
    assert overlap.until_s - overlap.since_s > 0.5


async def test_leader_that_loses_power_and_its_successor_are_not_two(bare_lab: Lab) -> None:
    """Sampling goes on over a power cut, a return and a replacement, and finds one leader at any time."""
    async with LeaderSampler(bare_lab) as sampler:
        cluster = await bare_lab.up(servers=3)
        first = await cluster.wait_for_leader()
        await sampled(sampler, servers={first.name}, seconds=0.5)
        await first.kill()
        second = await cluster.wait_for_leader()
        await bare_lab.replace(first.name, address="198.51.100.40")
        await sampled(sampler, servers={second.name}, seconds=0.5)
        seen = {sample.address for sample in sampler.samples if sample.server == first.name}
        assert seen == {first.address, "198.51.100.40"}
    sampler.assert_one_leader()


async def test_cut_off_leader_steps_down_within_its_lease(bare_lab: Lab) -> None:
    """A leader without its followers stops calling itself leader: the sampler sees both and no overlap."""
    async with LeaderSampler(bare_lab) as sampler:
        cluster = await bare_lab.up(servers=3)
        first = await cluster.wait_for_leader()
        await first.link(up=False)
        others = {host.name for host in cluster.servers} - {first.name}

        deadline = time.monotonic() + 30.0
        while not any(sample.leads for sample in sampler.samples if sample.server in others):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    sampler.assert_one_leader()
