"""Consul below 0.7 on the lab: the real one if LAB_CONSUL names it, else the stand-in, which must look like it.

Only the program differs. What it shall look like are the captures of the real 0.6.4 in tests/data/captures.
"""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from lab.breakage import break_cluster
from lab.datacentre import Lab
from lab.host import CONSUL_DATA, Host
from recovery.adapters.answers import parse_info
from recovery.boltfile import drive
from recovery.raftlog import PeerSet, RaftLog, peer_sets, read_log, reader

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
NO_PEERS = "EnableSingleNode disabled, and no known peers. Aborting election."
OVERRIDE = "/etc/consul.d/zz-override.json"


def captured(state: str, server: str) -> dict[str, str]:
    """The sections of one captured server, by their titles."""
    text = (CAPTURES / state / f"{server}.txt").read_text(encoding="utf-8")
    return {title: body for title, _, body in (part.partition("\n") for part in text.split("### ")[1:])}


def shape(value: Any) -> Any:
    """What is alike in two answers of different clusters: names and kinds, not the values."""
    match value:
        case dict():
            return {name: shape(each) for name, each in value.items()}
        case list():
            return [shape(value[0])] if value else []
        case int() | float() if not isinstance(value, bool):
            return 0
        case _:
            return type(value).__name__


def http_part(section: str) -> tuple[str, frozenset[str], Any]:
    """Status, X-Consul headers and the body's shape, of a captured answer."""
    lines = section.splitlines()
    status = next(line.split()[2] for line in lines if line.startswith("# HTTP"))
    headers = frozenset(line.partition(":")[0] for line in lines if line.startswith("X-Consul-"))
    return status, headers, body_shape("\n".join(lines[len(headers) + 1 :]))


def body_shape(body: str) -> Any:
    """The shape of JSON, or the text of what is none."""
    try:
        return shape(json.loads(body))
    except ValueError:
        return body.strip()


async def answers(host: Host, paths: list[str]) -> list[tuple[str, frozenset[str], Any]]:
    """The same of the answers now."""
    asked = "; echo; echo '### next'; ".join(
        f"curl --silent --include 'http://127.0.0.1:8500{path}'" for path in paths
    )
    found = []
    for told in (await host.run(asked)).replace("\r\n", "\n").split("### next\n"):
        head, _, body = told.partition("\n\n")
        headers = frozenset(
            line.partition(":")[0] for line in head.splitlines() if line.startswith("X-Consul-")
        )
        found.append((head.split()[1], headers, body_shape(body)))
    return found


async def assert_looks_like(host: Host, state: str, server: str) -> None:
    """All that was captured of a server is answered alike by this one."""
    sections = captured(state, server)
    asked = {
        title.removeprefix("GET "): section for title, section in sections.items() if title[:4] == "GET "
    }
    for path, answer in zip(asked, await answers(host, list(asked)), strict=True):
        assert answer == http_part(asked[path]), path
    real, now = parse_info(sections["consul info"]), await info(host)
    assert {name: set(values) for name, values in now.items()} == {
        name: set(values) for name, values in real.items()
    }
    for section, name in (("raft", "state"), ("raft", "num_peers"), ("consul", "bootstrap")):
        assert now[section][name] == real[section][name]
    assert await host.run("consul members") == sections["consul members"]
    # A program names the commit that it was built from behind its version; the captured one names none.
    detailed = re.sub(r"build=0\.6\.4:[0-9a-f]*", "build=0.6.4:", await host.run("consul members -detailed"))
    assert detailed == sections["consul members -detailed"]
    # A build of one's own says .dev, the vendor's says v0.6.4.
    assert re.match(r"Consul v?0\.6\.4", await host.run("consul version"))


async def info(host: Host) -> dict[str, dict[str, str]]:
    """`consul info` of a server."""
    return {section: dict(values) for section, values in parse_info(await host.run("consul info")).items()}


async def until(what: Callable[[], Awaitable[bool]], *, within_s: float = 30.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + within_s
    while not await what():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        await asyncio.sleep(0.1)


async def logged(host: Host, text: str) -> bool:
    """Whether the agent logged this since it was started last."""
    said = await host.run("journalctl --unit=consul --output=cat --no-pager")
    return text in said.rpartition("Starting Consul agent RPC...")[2]


def raft_log(host: Host) -> tuple[RaftLog, tuple[PeerSet, ...]]:
    """What a server's raft.db says, read by the bot's own reader from the host's disk."""
    content = (host.disk / CONSUL_DATA / "raft" / "raft.db").read_bytes()
    read = reader(lambda offset, length: content[offset : offset + length])
    log = read_log(lambda offset, length: content[offset : offset + length], len(content))
    return log, drive(peer_sets(log), read)


def peers_json(host: Host) -> Any:
    """The live file."""
    return json.loads((host.disk / CONSUL_DATA / "raft" / "peers.json").read_text())


async def stop_without_leave(host: Host) -> None:
    """A stop by SIGTERM. Not a kill and then a stop: Restart=on-failure may be quicker, and that stop would leave."""
    dropin = "/run/systemd/system/consul.service.d"
    await host.run(
        f"mkdir -p {dropin}; printf '[Service]\\nKillSignal=SIGTERM\\n' >{dropin}/test-term.conf; "
        f"systemctl daemon-reload; systemctl stop consul; rm {dropin}/test-term.conf; systemctl daemon-reload"
    )


async def start_with_override(host: Host) -> None:
    """Start one server that expects nobody else."""
    await host.run(f"echo '{{\"bootstrap_expect\": 1}}' >{OVERRIDE}; systemctl start consul")


async def all_tagged(host: Host) -> bool:
    """Whether the catalogue has each node's tagged addresses: its agent enters them after the leader entered it."""
    nodes = (await host.api("/v1/catalog/nodes")).json()
    return len(nodes) == 3 and all(node["TaggedAddresses"] for node in nodes)


async def test_the_trap(lab: Lab, old_consul: Path) -> None:
    """Servers stopped one after the other and started again: followers for ever, and the logs say who can lead."""
    cluster = await lab.up(servers=3, consul=old_consul)
    s1, s2, s3 = lab.servers
    assert (await s1.api("/v1/kv/k", method="PUT", body=b"v1")).body.strip() == b"true"
    leader = await cluster.wait_for_leader()
    follower = next(host for host in lab.servers if host != leader)
    await until(lambda: all_tagged(leader))
    await assert_looks_like(follower, "0.6.4-healthy", "s1")
    await assert_looks_like(leader, "0.6.4-healthy", "s2")
    assert "3 / 3 node(s) completed / acknowledged" in await s1.run("consul exec true")
    addresses = {f"{host.address}:8300" for host in lab.servers}
    assert all(set(peers_json(host)) == addresses for host in lab.servers)

    await break_cluster(lab, "leave-stopped")
    sections = captured("0.6.4-stopped", "s1")
    assert (await s1.run('consul info 2>&1; echo "# exit $?"')) == sections["consul info"]
    logs = {host.name: raft_log(host) for host in lab.servers}
    ends = {name: log.last for name, (log, _) in logs.items()}
    believed = {name: {peer.address for peer in sets[-1].servers} for name, (_, sets) in logs.items()}
    assert [peers_json(host) for host in lab.servers] == [None, None, None]
    assert ends["s1"] is not None
    assert ends["s3"] is not None
    assert ends["s1"] < ends["s3"]
    assert believed["s1"] == {f"{s2.address}:8300", f"{s3.address}:8300"}
    assert believed["s3"] == {f"{s3.address}:8300"}, "the last to leave cannot commit its own removal"

    for host in lab.servers:
        await host.run("systemctl start consul")
    for host in lab.servers:
        await until(lambda host=host: logged(host, NO_PEERS))  # type: ignore[misc]
        await until(lambda host=host: all_alive(host))  # type: ignore[misc]
    for host in lab.servers:
        await assert_looks_like(host, "0.6.4-stuck", host.name)
        told = (await info(host))["raft"]
        position = ends[host.name]
        assert position is not None
        assert (told["last_log_term"], told["last_log_index"]) == (str(position.term), str(position.index))
    assert "Failed to create session: Unexpected response code: 500 (No cluster leader)" in await s1.run(
        "consul exec true 2>&1; test $? = 1 || echo another exit status"
    )
    assert await cluster.leader() is None


async def serves_the_key(lab: Lab, host: Host) -> bool:
    """Whether this server answers with the key, which needs a leader."""
    answer = await lab.cluster.ask(host, "/v1/kv/k?raw")
    return answer is not None and answer.status == 200 and answer.body == b"v1"


async def all_alive(host: Host) -> bool:
    """Whether this server sees three members."""
    return (await host.run("consul members", check=False)).count(" alive ") == 3


async def test_the_ways_out_and_the_way_that_is_none(lab: Lab, old_consul: Path) -> None:
    """A server that replays its own removal steps down; the last to leave leads alone and takes the rest in.

    Then the other cure: a stop without a leave keeps peers.json, and the same array on all makes a leader.
    """
    cluster = await lab.up(servers=3, clients=1, consul=old_consul)
    s1, s2, s3 = lab.servers
    (client,) = cluster.clients
    assert (await client.api("/v1/kv/k", method="PUT", body=b"v1")).body.strip() == b"true"
    await break_cluster(lab, "leave-stopped")

    await start_with_override(s2)
    await until(lambda: logged(s2, "Removed ourself, transitioning to follower"))
    await until(lambda: logged(s2, NO_PEERS))
    stuck = await info(s2)
    assert (stuck["consul"]["bootstrap"], stuck["raft"]["state"], stuck["raft"]["num_peers"]) == (
        "true", "Follower", "0",
    )  # fmt: skip
    assert peers_json(s2) == [f"{s2.address}:8300"]
    await stop_without_leave(s2)
    said = await s2.run("systemctl show consul --property=ExecMainStatus --property=ActiveState")
    assert said.split() == ["ExecMainStatus=1", "ActiveState=failed"]
    assert peers_json(s2) == [f"{s2.address}:8300"], "not emptied: nobody left"
    await s2.run(f"rm {OVERRIDE}; echo null >/{CONSUL_DATA}/raft/peers.json")

    await start_with_override(s3)
    assert await cluster.wait_for_leader() == s3
    for host in (s1, s2):
        await host.run("systemctl start consul")
    await client.run("systemctl restart consul")
    assert await cluster.wait_until_formed() == s3
    for host in (*lab.servers, client):
        assert (await host.api("/v1/kv/k?raw&stale")).body == b"v1"

    await asyncio.gather(*(stop_without_leave(host) for host in lab.servers))
    addresses = [f"{host.address}:8300" for host in lab.servers]
    assert all(sorted(peers_json(host)) == addresses for host in lab.servers)
    for host in lab.servers:
        await host.run(
            f"rm --force {OVERRIDE}; echo '{json.dumps(addresses)}' >/{CONSUL_DATA}/raft/peers.json"
        )
    await asyncio.gather(*(host.run("systemctl start consul") for host in lab.servers))
    # The first leader may be s2, which meets its own old removal in the log and gives way.
    await until(lambda: serves_the_key(lab, s1))
    leader = await cluster.wait_until_formed()
    assert set(peers_json(leader)) == set(addresses)
    log, _ = raft_log(leader)
    told = (await info(leader))["raft"]
    assert log.last is not None
    assert (str(log.last.term), str(log.last.index)) == (told["last_log_term"], told["last_log_index"])
