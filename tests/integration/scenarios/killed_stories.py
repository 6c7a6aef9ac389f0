"""Broken clusters for runs that are disturbed: each leads to a procedure, and knows what healed means."""

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


async def left_and_started(lab: Lab, consul: Path | None) -> None:
    """Below 0.7: all left one after the other, and were started again: followers for ever."""
    assert consul is not None
    await left_one_after_the_other(lab, consul)
    await start_all(lab)


async def all_vote_with_both_keys(lab: Lab) -> None:
    """s1 to s3 are the peers, and each has the last key; no override is left behind."""
    await formed_with(lab, "first", "last")


async def two_vote_with_the_key(lab: Lab) -> None:
    """s1 and s2 are the voters, and the key is on both."""
    await _have_the_key(lab, "s1", "s2")


async def three_vote_with_the_key(lab: Lab) -> None:
    """s5 is back: three voters, and the key is on each."""
    await _have_the_key(lab, "s1", "s2", "s5")


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
STAGED = Story(
    "staged bootstrap, three left one after the other",
    left_and_started,
    "recover {cluster}",
    all_vote_with_both_keys,
    old=True,
)
READMIT = "readmit {cluster} s5"
