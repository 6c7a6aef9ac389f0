"""Broken clusters for runs that are disturbed: each leads to a procedure, and knows what healed means."""

import asyncio
from pathlib import Path

from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from tests.integration.replicas import Story
from tests.integration.scenarios.old_cluster import (
    formed_with,
    left_one_after_the_other,
    start_all,
)


async def three_of_five_gone(lab: Lab, consul: Path | None) -> None:
    """A key is written; s3 and s4 are gone for good, the log of s5 is torn: s1 and s2 are left."""
    await lab.up(servers=5, consul=consul)
    await lab.host("s1").run("consul kv put key kept")
    for name in ("s3", "s4"):
        await lab.host(name).kill()
    await stop_without_leave(lab.host("s5"))
    await lab.host("s5").run("truncate --size=100 /var/lib/consul/raft/raft.db")


async def three_of_six_replaced(lab: Lab, consul: Path | None) -> None:
    """A key is written; blank machines stand in the place of s4, s5 and s6.

    Three survivors are one more than their quorum needs. Autopilot takes a while to make a new server a voter, so
    that a join is waited for.
    """
    await lab.up(servers=6, consul=consul, server_stabilization_time_s=30.0)
    await lab.host("s1").run("consul kv put key kept")
    await asyncio.gather(*(lab.replace(f"s{n}", address=f"198.51.100.{n + 20}") for n in (4, 5, 6)))


async def left_and_started(lab: Lab, consul: Path | None, *, clients: int = 0) -> None:
    """Below 0.7: all left one after the other, and were started again: followers for ever."""
    assert consul is not None
    await left_one_after_the_other(lab, consul, clients=clients)
    await start_all(lab)


async def left_and_started_under_a_client(lab: Lab, consul: Path | None) -> None:
    """The same, with a client agent that has to be restarted under the new cluster."""
    await left_and_started(lab, consul, clients=1)


async def all_vote_with_both_keys(lab: Lab) -> None:
    """s1 to s3 are the peers, and each has the last key; no override is left behind."""
    await formed_with(lab, "first", "last")


async def two_vote_with_the_key(lab: Lab) -> None:
    """s1 and s2 are the voters, and the key is on both."""
    await _have_the_key(lab, "s1", "s2")


async def three_vote_with_the_key(lab: Lab) -> None:
    """s5 is back: three voters, and the key is on each."""
    await _have_the_key(lab, "s1", "s2", "s5")


async def six_vote_with_the_key(lab: Lab) -> None:
    """The three survivors and the three new machines are voters, and the key is on each."""
    await _have_the_key(lab, *(host.name for host in lab.servers))


async def all_vote_with_a_client(lab: Lab) -> None:
    """s1 to s3 are the peers with both keys, and the leader counts c1 among the living."""
    await all_vote_with_both_keys(lab)
    members = (await lab.host("s1").api("/v1/agent/members")).json()
    assert {member["Name"] for member in members if member["Status"] == 1} == {
        host.name for host in lab.hosts
    }


async def _have_the_key(lab: Lab, *names: str) -> None:
    leader = await lab.cluster.wait_for_leader()
    wanted = {f"{lab.host(name).address}:8300" for name in names}
    assert await lab.cluster.voters(leader) == wanted
    for name in names:
        assert await lab.host(name).run("consul kv get -stale key") == "kept\n", name


PEERS_JSON = Story(
    "peers.json, three of five gone",
    three_of_five_gone,
    "recover {cluster} --lost s3,s4,s5",
    two_vote_with_the_key,
)
PEERS_JSON_AND_NEW = Story(
    "peers.json, three of six replaced",
    three_of_six_replaced,
    "recover {cluster} --lost s4,s5,s6",
    six_vote_with_the_key,
    covers=("start-s4", "join-s4"),
)
STAGED = Story(
    "staged bootstrap, three left one after the other",
    left_and_started,
    "recover {cluster}",
    all_vote_with_both_keys,
    old=True,
)
STAGED_WITH_A_CLIENT = Story(
    "staged bootstrap, with a client agent",
    left_and_started_under_a_client,
    "recover {cluster}",
    all_vote_with_a_client,
    old=True,
    covers=("stop-client-c1", "start-client-c1"),
)
READMIT = "readmit {cluster} s5"
