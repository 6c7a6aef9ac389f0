"""What is seen of real servers: healthy, stopped, unreachable, damaged, without a leader, behind ACLs."""

import asyncio
import time
from collections.abc import Callable

import pytest

from lab.datacentre import Lab
from recovery.adapters.world import ClusterWorld
from recovery.model import (
    Catalogue,
    ClusterObservation,
    Fails,
    Holds,
    NodeId,
    RunId,
    ServerName,
    Unknown,
)
from recovery.plan import (
    AgentRunning,
    AgentStopped,
    CaughtUp,
    Check,
    ClusterAnswers,
    ConfigurationIs,
    IsVoter,
    LeaderElected,
    LogIs,
    NoLeader,
    OneHistory,
    Silent,
    StartAgent,
    StopAgent,
)
from recovery.ports import ActKey
from recovery.raftentry import LogPosition

pytestmark = pytest.mark.lab

KeyMaker = Callable[..., ActKey]
ALL = S1, S2, S3 = (ServerName("s1"), ServerName("s2"), ServerName("s3"))
RUN = RunId("r1")


async def stop(world: ClusterWorld, key: KeyMaker, *servers: ServerName) -> None:
    await asyncio.gather(
        *(world.perform(StopAgent(server), key=key(f"stop-{server}"), timeout_s=60) for server in servers)
    )


async def until_holds(world: ClusterWorld, check: Check) -> str:
    deadline = time.monotonic() + 40.0
    while not isinstance(fact := await world.check(check, run=RUN), Holds):
        assert time.monotonic() < deadline, f"{check}: {fact}"
        await asyncio.sleep(0.1)
    return fact.evidence


def leaders(seen: ClusterObservation) -> list[str]:
    return [each.name for each in seen.servers if each.agent is not None and each.agent.names_itself_leader]


async def test_a_healthy_cluster_is_seen_whole(lab: Lab, world: ClusterWorld) -> None:
    """Every server is reached, tells its numbers and the same three voters, and one names itself leader."""
    # A stale read is stale: a server that has just started may not have replayed its log yet; and a leader may go
    # on a busy machine, and another come.
    seen = await world.observe()
    deadline = time.monotonic() + 20.0
    while len(leaders(seen)) != 1 or not all(
        each.agent and each.agent.catalogue and each.agent.catalogue.nodes for each in seen.servers
    ):
        assert time.monotonic() < deadline
        seen = await world.observe()
    assert leaders(seen) == [(await lab.cluster.wait_for_leader()).name]
    for server in seen.servers:
        assert server.agent is not None
        assert server.host is not None
        assert (server.host_problem, server.agent_problem, server.agent.withheld) == ("", "", ())
        assert server.agent.node_id == server.host.node_id
        assert server.agent.node_name == server.name
        assert {peer.address for peer in server.configuration if peer.voter} == {
            f"{host.address}:8300" for host in lab.servers
        }
        assert server.agent.stale_reads
        assert server.agent.catalogue == Catalogue(nodes=3, services=1, sessions=0)
        assert {node.node_id for node in server.agent.known_nodes} == {each.node_id for each in seen.servers}


async def test_the_bots_own_environment_does_not_point_it_elsewhere(
    world: ClusterWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """py-consul lets CONSUL_HTTP_* beat its arguments; a bot started from somebody's shell must not care."""
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "https://192.0.2.1:1")
    monkeypatch.setenv("CONSUL_HTTP_SSL", "true")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "not-a-token")
    assert len(leaders(await world.observe())) == 1


async def test_a_stopped_servers_log_says_what_consul_info_said_before(
    lab: Lab, world: ClusterWorld, key: KeyMaker
) -> None:
    """Last entry, term and peers, read out of raft.db over SSH, equal the agent's own last numbers."""
    await lab.host("s1").api("/v1/kv/k", method="PUT", body=b"v1")
    # Without a leader logs do not grow, so the last survivor's numbers are still true after its stop.
    await stop(world, key, S2, S3)
    await until_holds(world, NoLeader((S1,)))
    info = await lab.host("s1").run("consul info")
    said = {name.strip(): value for name, _, value in (line.partition(" = ") for line in info.splitlines())}
    await stop(world, key, S1)
    stored = (await world.observe()).server("s1").stored
    assert stored is not None
    assert stored.last == LogPosition(int(said["last_log_term"]), int(said["last_log_index"]))
    assert stored.term >= int(said["term"])
    assert all(
        f"ID:{peer.id} Address:{peer.address}" in said["latest_configuration"]
        for peer in stored.configuration
    )
    assert len(stored.configuration) == 3


async def test_a_survivor_without_leader_is_seen_with_its_lost_peers(
    lab: Lab, world: ClusterWorld, key: KeyMaker
) -> None:
    """It still answers stale reads, lists three voters and sees the others failed; a restarted one does not answer."""
    await stop(world, key, S2, S3)
    await until_holds(world, NoLeader(ALL))
    seen = (await world.observe()).server("s1")
    assert seen.agent is not None
    assert seen.agent.stale_reads
    assert len(seen.configuration) == 3
    assert seen.last is not None
    await lab.host("s1").run("systemctl kill -s KILL consul")
    await until_holds(world, AgentRunning(S1))
    restarted = (await world.observe()).server("s1").agent
    assert restarted is not None
    assert not restarted.stale_reads
    assert any("stale reads" in note for note in restarted.withheld)
    assert restarted.last == seen.last


async def test_an_unreachable_host_is_unknown_with_what_to_do(lab: Lab, world: ClusterWorld) -> None:
    """A pulled cable hides one server, with one clear message, and none of the others."""
    await lab.host("s3").link(up=False)
    seen = await world.observe()
    assert not seen.server("s3").reached
    assert "no SSH answer within 3 s. Nothing was done. Check" in seen.server("s3").host_problem
    assert seen.server("s1").agent is not None
    assert isinstance(await world.check(AgentStopped(S3), run=RUN), Unknown)
    assert isinstance(await world.check(AgentRunning(S3), run=RUN), Unknown)
    assert isinstance(await world.check(NoLeader((S3,)), run=RUN), Unknown)


async def test_a_damaged_log_is_a_problem_not_a_position(
    lab: Lab, world: ClusterWorld, key: KeyMaker
) -> None:
    """A raft.db cut in half is refused with the reason; nobody is ranked by it."""
    db = "/var/lib/consul/raft/raft.db"
    await stop(world, key, S3)
    await lab.host("s3").run(f"cp -p {db} /root/kept; truncate -s 10000 {db}")
    try:
        server = (await world.observe()).server("s3")
        assert server.stored is None
        assert "cut short" in server.stored_problem
        check = LogIs(S3, NodeId(server.node_id), LogPosition(2, 1))
        assert isinstance(await world.check(check, run=RUN), Unknown)
    finally:
        await lab.host("s3").run(f"cp -p /root/kept {db}")


async def test_a_wiped_server_is_blank_not_unreadable(lab: Lab, world: ClusterWorld, key: KeyMaker) -> None:
    """No raft.db and no snapshot: a log without an entry, which can be said for certain."""
    await stop(world, key, S3)
    await lab.host("s3").run("mv /var/lib/consul/raft /root/raft")
    try:
        stored = (await world.observe()).server("s3").stored
        assert stored is not None
        assert (stored.last, stored.configuration) == (None, ())
    finally:
        await lab.host("s3").run("mv /root/raft /var/lib/consul/raft")


async def test_checks_of_a_healthy_cluster(lab: Lab, world: ClusterWorld) -> None:
    """A leader twice in succession, every server a voter, a consistent read; and no check holds that should not."""
    seen = await world.observe()
    name = (await lab.cluster.wait_for_leader()).name
    elected = await world.check(LeaderElected(ALL), run=RUN)
    assert isinstance(elected, Holds)
    assert name in elected.evidence
    assert isinstance(await world.check(LeaderElected(ALL, LogPosition(1, 9999)), run=RUN), Fails)
    others = tuple(server for server in ALL if server != name)
    assert isinstance(await world.check(LeaderElected(others), run=RUN), Fails)
    assert isinstance(await world.check(NoLeader(ALL), run=RUN), Fails)
    assert isinstance(await world.check(ClusterAnswers(ALL), run=RUN), Holds)
    await until_holds(world, CaughtUp(ALL))
    peers = seen.server("s1").configuration
    assert isinstance(await world.check(ConfigurationIs(S1, peers), run=RUN), Holds)
    assert isinstance(await world.check(ConfigurationIs(S1, peers[:1]), run=RUN), Fails)
    for server in ALL:
        assert isinstance(await world.check(IsVoter(server), run=RUN), Holds)
        assert isinstance(await world.check(AgentRunning(server), run=RUN), Holds)
    assert await world.leaders() == (name,)


async def test_a_survivor_that_does_not_lead_answers_no_consistent_read(
    world: ClusterWorld, key: KeyMaker
) -> None:
    """Without a leader the cluster does not answer, and the one agent that runs is no voter of any leader."""
    await stop(world, key, S2, S3)
    await until_holds(world, NoLeader(ALL))
    assert isinstance(await world.check(ClusterAnswers((S1,)), run=RUN), Fails)
    assert isinstance(await world.check(IsVoter(S1), run=RUN), Fails)
    assert isinstance(await world.check(LeaderElected((S1,)), run=RUN), Fails)


async def test_logs_of_one_cluster_are_one_history(lab: Lab, world: ClusterWorld, key: KeyMaker) -> None:
    """All stopped, the freshest proves to hold what the others hold; the wrong one is not taken for the freshest."""
    await stop(world, key, S3)
    for value in range(5):
        await until_put(lab, value)
    await stop(world, key, S1, S2)
    seen = await world.observe()
    ranked = sorted(ALL, key=lambda name: seen.server(name).last or LogPosition(0, 0))
    assert ranked[0] == S3
    fact = await world.check(OneHistory(ranked[-1], tuple(ranked[:-1])), run=RUN)
    assert isinstance(fact, Holds), fact
    assert isinstance(await world.check(OneHistory(S3, (ranked[-1],)), run=RUN), Fails)
    server = seen.server("s3")
    assert isinstance(await world.check(LogIs(S3, NodeId(server.node_id), server.last), run=RUN), Holds)
    assert isinstance(await world.check(LogIs(S3, NodeId(server.node_id), LogPosition(1, 1)), run=RUN), Fails)
    assert isinstance(await world.check(LogIs(S3, NodeId("another"), server.last), run=RUN), Fails)


async def until_put(lab: Lab, value: int) -> None:
    """Write a key through s1 as soon as there is a leader."""
    deadline = time.monotonic() + 20.0
    while (
        await lab.host("s1").api("/v1/kv/k", method="PUT", body=b"%d" % value, timeout_s=10)
    ).status != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_a_server_that_lives_is_not_silent(lab: Lab, world: ClusterWorld, key: KeyMaker) -> None:
    """A claim is contradicted by its host, by gossip, and by a stopped server that anything could start again."""
    seen = await world.observe()
    address = f"{lab.host('s3').address}:8300"
    check = Silent(S3, NodeId(seen.server("s3").node_id), address)
    assert isinstance(await world.check(check, run=RUN), Fails)
    # SSH cut off, gossip not: the others still see it alive.
    await lab.host("s3").run("systemctl stop ssh; pkill -x sshd", check=False)
    fact = await world.check(check, run=RUN)
    await lab.host("s3").run("systemctl start ssh")
    assert isinstance(fact, Fails)
    assert "alive in gossip" in fact.observed
    await stop(world, key, S3)
    assert isinstance(await world.check(check, run=RUN), Fails)
    assert isinstance(
        await world.check(Silent(S3, NodeId("somebody-else"), "192.0.2.9:8300"), run=RUN), Holds
    )


async def test_a_dead_host_is_silent_once_gossip_has_noticed(lab: Lab, world: ClusterWorld) -> None:
    """With its power cut, no host carries the id and nobody sees it alive."""
    seen = await world.observe()
    await lab.host("s3").kill()
    await until_holds(world, Silent(S3, NodeId(seen.server("s3").node_id), f"{lab.host('s3').address}:8300"))


async def test_a_start_does_not_wait_for_peers(world: ClusterWorld, key: KeyMaker) -> None:
    """The only server up is started and answers, although nobody is there to join."""
    await stop(world, key, *ALL)
    assert await world.perform(StartAgent(S1), key=key("start"), timeout_s=20) == "start asked for"
    await until_holds(world, AgentRunning(S1))


async def test_the_journal_explains(world: ClusterWorld, key: KeyMaker) -> None:
    """A server's last telling lines come with the observation of what happened to it."""
    await stop(world, key, S2, S3)
    # A follower that missed its leader says so only when its heartbeat timeout is over.
    deadline = time.monotonic() + 20.0
    while not any("leader" in line or "election" in line for line in await world.explain(S1)):
        assert time.monotonic() < deadline, await world.explain(S1)
        await asyncio.sleep(0.1)


async def test_hosts_tell_who_drove_last_and_what_was_done(world: ClusterWorld, key: KeyMaker) -> None:
    """A store that forgot a run is told by the hosts: the epoch, the run, and each act of it."""
    assert {trace.epoch for trace in await world.traces()} == {0}
    await world.perform(StopAgent(S2), key=key("stop", epoch=41), timeout_s=60)
    await world.perform(StopAgent(S3), key=key("stop", epoch=7), timeout_s=60)
    traces = {trace.server: trace for trace in await world.traces()}
    assert (traces[S2].epoch, traces[S2].run, traces[S2].receipts) == (41, RUN, ("stop.1.do",))
    assert traces[S3].epoch == 7
    assert (traces[S1].epoch, traces[S1].run, traces[S1].receipts) == (0, "", ())
