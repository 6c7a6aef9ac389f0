"""The lab is what the other tests take it for: real machines that can be reached, lost and replaced."""

import asyncio
import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable

import asyncssh
import pytest
import redis

from lab.agent import Answer
from lab.breakage import break_cluster
from lab.datacentre import Lab
from lab.host import Host


async def until(what: Callable[[], Awaitable[bool]], *, within_s: float = 45.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + within_s
    while not await what():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        await asyncio.sleep(0.1)


async def ssh(lab: Lab, host: Host, command: str) -> str:
    """What a command prints over SSH, with the lab's key and known_hosts."""
    async with asyncssh.connect(
        host.address,
        username=lab.ssh_user,
        client_keys=[str(lab.ssh_key)],
        known_hosts=str(lab.known_hosts),
        config=None,
    ) as connection:
        return str((await connection.run(command, check=True)).stdout)


async def identity(host: Host) -> tuple[str, str, str]:
    """What tells one machine from another: machine-id, SSH host key, Consul's node id."""
    text = await host.run("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub /var/lib/consul/node-id")
    machine_id, host_key, node_id = text.split("\n")[:3]
    return machine_id, host_key, node_id


async def knows_no_leader(lab: Lab, host: Host) -> bool:
    """Whether this server has noticed that nobody leads."""
    answer = await lab.cluster.ask(host, "/v1/status/leader")
    return answer is not None and answer.status in {200, 500} and answer.body in {b'""', b"No cluster leader"}


async def test_three_servers_are_voters_of_one_leader(lab: Lab) -> None:
    """`up` returns a cluster in which every server votes and every host, client or server, is alive."""
    cluster = await lab.up(servers=3, clients=1)
    leader = await cluster.wait_for_leader()
    assert await cluster.voters(leader) == {f"198.51.100.1{n}:8300" for n in (1, 2, 3)}
    answer = await cluster.ask(lab.host("c1"), "/v1/agent/members")
    assert answer is not None
    assert {member["Name"] for member in answer.json()} == {"s1", "s2", "s3", "c1"}


async def test_operator_logs_in_and_becomes_root(lab: Lab) -> None:
    """SSH with the lab's key and strict host keys reaches every host, and sudo asks for no password."""
    await lab.up(servers=2, wait=False)
    assert [await ssh(lab, host, "sudo -n id -u; hostname") for host in lab.hosts] == ["0\ns1\n", "0\ns2\n"]


async def test_sudoers_can_be_narrowed(lab: Lab) -> None:
    """A host may be made on which the operator's sudo permits one program and nothing else."""
    await lab.up(servers=1, sudoers="recovery ALL=(root) NOPASSWD: /usr/bin/id\n")
    assert await ssh(lab, lab.host("s1"), "sudo -n /usr/bin/id -u") == "0\n"
    with pytest.raises(asyncssh.ProcessError):
        await ssh(lab, lab.host("s1"), "sudo -n /usr/bin/hostname")


async def test_host_keeps_its_disk_over_a_power_cut(lab: Lab) -> None:
    """A host that lost its power comes back as the same machine with the same data, its agent started."""
    cluster = await lab.up(servers=1)
    host = lab.host("s1")
    await host.run("consul kv put kept yes && touch /root/kept")
    before = await identity(host)
    await host.kill()
    assert not host.is_on()
    await host.start()
    await cluster.wait_for_leader()
    assert await identity(host) == before
    assert await host.run("consul kv get kept; ls /root") == "yes\nkept\n"


async def test_disabled_agent_is_not_started_by_a_reboot(lab: Lab) -> None:
    """What systemctl disables stays down over a reboot, as on a real machine."""
    await lab.up(servers=1)
    host = lab.host("s1")
    await host.run("systemctl disable consul")
    await host.reboot()
    await until(lambda: _said(host, "systemctl is-system-running", "running"))
    assert await host.run("systemctl is-active consul", check=False) == "inactive\n"


async def _said(host: Host, command: str, answer: str) -> bool:
    return (await host.run(command, check=False)).strip() == answer


async def test_replaced_host_is_another_machine(lab: Lab) -> None:
    """A replaced host has its name, and nothing else, of the old one."""
    await lab.up(servers=3)
    before = await identity(lab.host("s3"))
    new = await lab.replace("s3", address="198.51.100.23")
    await until(lambda: _said(new, "test -s /var/lib/consul/node-id && echo there", "there"))
    after = await identity(new)
    assert all(old != now for old, now in zip(before, after, strict=True))
    assert await ssh(lab, new, "hostname") == "s3\n"


@pytest.mark.soak
async def test_autopilot_makes_a_replaced_host_a_voter(lab: Lab) -> None:
    """Where the others have a leader, nobody has to recover anything."""
    cluster = await lab.up(servers=3)
    await lab.replace("s3", address="198.51.100.23")

    async def votes() -> bool:
        leader = await lab.cluster.leader()
        return leader is not None and "198.51.100.23:8300" in await cluster.voters(leader)

    # Gossip gives a dead member's name to another machine after 30 s (memberlist DeadNodeReclaimTime, set in
    # agent/consul/config.go), then autopilot waits.
    await until(votes, within_s=120.0)


@pytest.mark.parametrize("way", ["stop-majority", "lose-majority", "replace-majority", "cut-majority"])
async def test_breakage_takes_the_leader_away(lab: Lab, way: str) -> None:
    """The ways that take a quorum leave a survivor that knows no leader."""
    await lab.up(servers=3)
    await break_cluster(lab, way)
    await until(lambda: knows_no_leader(lab, lab.host("s1")))
    assert await lab.cluster.leader() is None or way == "cut-majority"


@pytest.mark.parametrize(
    "way", ["leave-all", "power-cut", "move-all", "wipe-majority", "stop-one", "cut-one"]
)
async def test_breakage_that_current_consul_heals(lab: Lab, way: str) -> None:
    """The ways that Consul 1.8.7 was measured to heal leave, or come back to, one leader and the data."""
    await lab.up(servers=3)
    await lab.host("s1").run("consul kv put kept yes")
    await break_cluster(lab, way)

    async def answers() -> bool:
        answer: Answer | None = await lab.cluster.ask(lab.host("s1"), "/v1/kv/kept?raw")
        return answer is not None and answer == Answer(status=200, body=b"yes")

    await until(answers)


async def test_agent_with_spoiled_peers_json_refuses_to_start(lab: Lab) -> None:
    """An unreadable peers.json ends in a failed unit whose journal says why."""
    await lab.up(servers=3)
    await break_cluster(lab, "spoil-peers-json")
    host = lab.host("s3")
    await until(lambda: _said(host, "systemctl is-failed consul", "failed"))
    assert "recovery failed to parse peers.json" in await host.run("journalctl --unit consul --no-pager")


async def test_agent_with_truncated_raft_db_does_not_run(lab: Lab) -> None:
    """A raft.db without its pages is no raft.db: the agent panics or refuses, and the unit fails."""
    await lab.up(servers=3)
    await break_cluster(lab, "truncate-raft")
    await until(lambda: _said(lab.host("s3"), "systemctl is-failed consul", "failed"))


async def test_frozen_agent_does_not_answer(lab: Lab) -> None:
    """A frozen agent accepts connections and stays silent, while the others go on."""
    await lab.up(servers=3)
    await break_cluster(lab, "freeze-one")
    with pytest.raises(TimeoutError):
        await lab.host("s3").api("/v1/status/leader", timeout_s=1.0)
    await until(lambda: _leads_another(lab, "s3"))


async def _leads_another(lab: Lab, name: str) -> bool:
    answer = await lab.cluster.ask(lab.host("s1"), "/v1/status/leader")
    frozen = f"{lab.host(name).address}:8300"
    return answer is not None and json.loads(answer.body) not in {"", frozen}


async def test_full_disk_is_full(lab: Lab) -> None:
    """A server's data folder with no space left refuses a megabyte."""
    await lab.up(servers=3)
    await break_cluster(lab, "fill-disk")
    script = "head -c 1000000 /dev/zero >/var/lib/consul/more || echo full"
    assert await lab.host("s3").run(script) == "full\n"


@pytest.mark.consul(since=(1, 4, 0))
async def test_acl_default_deny(lab: Lab) -> None:
    """With ACLs on nothing is told without a token, and the recovery token opens the node's own agent."""
    cluster = await lab.up(servers=3, acl=True)
    assert cluster.tokens is not None
    host = lab.host("s1")
    assert (await host.api("/v1/agent/self")).status == 403
    assert (await host.api("/v1/agent/self", token=cluster.tokens.agent_recovery)).status == 200
    assert (await host.api("/v1/kv/x", method="PUT", token=cluster.tokens.management)).status == 200

    async def registered() -> bool:
        answer = await cluster.ask(host, "/v1/catalog/nodes")
        return answer is not None and {node["Node"] for node in answer.json()} == {"s1", "s2", "s3"}

    await until(registered)


async def test_default_raft_timing_forms_a_cluster(lab: Lab) -> None:
    """Consul's own election times work in the lab too."""
    cluster = await lab.up(servers=3, raft_multiplier=None)
    assert cluster.leader_lease_s == 2.5
    assert await cluster.leader() is not None


async def test_too_high_bootstrap_expect_never_bootstraps(lab: Lab) -> None:
    """Servers that wait for more servers than there are have no leader and an empty log."""
    await lab.up(servers=2, bootstrap_expect=3, wait=False)
    await until(lambda: knows_no_leader(lab, lab.host("s1")))
    answer = await lab.host("s1").api("/v1/agent/self")
    assert answer.json()["Stats"]["raft"]["last_log_index"] == "0"


async def test_redis_keeps_what_it_acknowledged(lab: Lab) -> None:
    """A write that Redis answered is there after kill -9 and a new start."""
    store = redis.Redis.from_url(await lab.redis())
    with contextlib.closing(store):
        store.set("kept", "yes")
        lab.redis_server.kill()
        with pytest.raises(redis.ConnectionError):
            store.get("kept")
        lab.redis_server.start()
        assert store.getdel("kept") == b"yes"


def test_only_the_lab_is_reachable(session_lab: Lab) -> None:
    """A process inside the control network has no route to anywhere but the lab."""
    assert session_lab.folder.is_dir()
    routes = subprocess.run(["ip", "-o", "route"], check=True, capture_output=True, text=True).stdout
    assert [line.split()[0] for line in routes.splitlines()] == ["198.51.100.0/24"]


def test_person_outside_reaches_a_socket_opened_from_inside(session_lab: Lab) -> None:
    """listen_outside gives a port on the machine's own loopback, to which a browser there connects."""
    with contextlib.closing(session_lab.listen_outside()) as listener:
        port = listener.getsockname()[1]
        inside = socket.socket()
        with contextlib.closing(inside), pytest.raises(ConnectionRefusedError):
            inside.connect(("127.0.0.1", port))
        probe = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        command = ["nsenter", f"--net={session_lab.outside}", "python3", "-c", probe]
        assert subprocess.run(command, check=False).returncode == 0
