"""One configuration, twice: what a real agent says of it, and what host.sh reads of the same, stopped."""

import json
import os
import subprocess
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab.namespaces import enter_network
from tests.builders.agent_configurations import ADDRESSES, PORTS, Configuration, make_configuration
from tests.builders.host_program import HostProgram

_START_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True)
class Compared:
    """What came of one seed."""

    seed: int
    refused: str = ""
    """Consul's own words, where it does not start with this."""
    unknown: str = ""
    """Why host.sh does not read it."""
    differences: tuple[str, ...] = ()


def compare(seed: int, consul: Path, version: tuple[int, ...]) -> Compared:
    """Make the configuration of a seed and have it read by both."""
    with tempfile.TemporaryDirectory(prefix="reading-") as name:
        folder = Path(name)
        made = make_configuration(seed, folder / "agent", version)
        read = HostProgram(folder / "program").read([str(consul), *made.argv], directory=str(made.directory))
        said = _ask(consul, made, folder)
        if isinstance(said, str):
            return Compared(seed, refused=said)
        if read["config_problem"]:
            return Compared(seed, unknown=read["config_problem"])
        return Compared(seed, differences=tuple(_differences(read, said, made, version)))


def _ask(consul: Path, made: Configuration, folder: Path) -> dict[str, Any] | str:
    log = folder / "log"
    with log.open("wb") as out:
        agent = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", str(consul), *made.argv],
            cwd=made.directory,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if agent.poll() is not None:
                return log.read_text(errors="replace")[-600:]
            # A thread of its own: it stays in the network that it has entered.
            with ThreadPoolExecutor(1) as thread:
                found = thread.submit(_debug_config, agent.pid).result()
            if found is not None:
                return {**found, "gossip": _says_gossip(log.read_text(errors="replace"))}
            time.sleep(0.05)
        raise AssertionError(
            f"no agent answered within {_START_TIMEOUT_S:g} s: {log.read_text(errors='replace')}"
        )
    finally:
        agent.kill()
        agent.wait()


def _says_gossip(log: str) -> bool:
    # The second one is newer; DebugConfig hides the key, set or not.
    return any(each in log for each in ("Gossip: true", "Gossip Encryption: true", "Gossip encrypt: true"))


def _as_debug_config(config: dict[str, Any]) -> dict[str, Any]:
    """Below 1.0 agent/self has the whole configuration, under other names."""
    address = config["Addresses"].get("HTTP") or config["ClientAddr"]
    return {
        **config,
        "ServerMode": config["Server"],
        "HTTPAddrs": [f"tcp://{address}:{config['Ports']['HTTP']}"],
        "HTTPPort": config["Ports"]["HTTP"],
        "HTTPSPort": config["Ports"]["HTTPS"],
        "RetryJoinLAN": config["RetryJoin"],
    }


def _debug_config(pid: int) -> dict[str, Any] | None:
    own, there = Path("/proc/self/ns/net").stat(), Path(f"/proc/{pid}/ns/net").stat()
    if own.st_ino == there.st_ino:
        return None
    enter_network(Path(f"/proc/{pid}/ns/net"))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for port in PORTS:
        for address in ("127.0.0.1", "127.0.0.2"):
            try:
                with opener.open(f"http://{address}:{port}/v1/agent/self", timeout=5) as answer:
                    told: dict[str, Any] = json.load(answer)
                    found: dict[str, Any] = told.get("DebugConfig") or _as_debug_config(told["Config"])
                    return found
            except OSError:
                continue
    return None


def _differences(
    read: dict[str, str], said: dict[str, Any], made: Configuration, version: tuple[int, ...]
) -> list[str]:
    server = read["server"] == "true"
    known = version >= (0, 7)
    default = {"leave_on_terminate": known and not server, "skip_leave_on_interrupt": known and server}
    expect = int(read["bootstrap_expect"])
    first = read["addresses_http"] or read["client_addr"] or "127.0.0.1"
    assert set(ADDRESSES) >= {first}
    ours: dict[str, Any] = {
        "DataDir": os.path.normpath(read["data_dir"]),
        "NodeName": read["node_name"],
        "ServerMode": server,
        "LeaveOnTerm": read["leave_on_terminate"] == "true"
        if read["leave_on_terminate"]
        else default["leave_on_terminate"],
        "SkipLeaveOnInt": read["skip_leave_on_interrupt"] == "true"
        if read["skip_leave_on_interrupt"]
        else default["skip_leave_on_interrupt"],
        "Bootstrap": read["bootstrap"] == "true" or expect == 1,
        "BootstrapExpect": 0 if expect == 1 else expect,
        "HTTPAddrs": [f"tcp://{address}:{read['port_http']}" for address in first.split()],
        "HTTPPort": int(read["port_http"]),
        "HTTPSPort": int(read["port_https"]),
        "RetryJoinLAN": int(read["retry_join"]),
        "gossip": read["encrypt"] == "yes",
    }
    theirs = {**said, "RetryJoinLAN": len(said["RetryJoinLAN"] or [])}
    theirs["DataDir"] = os.path.normpath(made.directory / said["DataDir"])
    if read["node_id"]:
        ours["NodeID"], theirs["NodeID"] = read["node_id"], said["NodeID"].lower()
    if "RaftLogStoreConfig" in said:
        ours["Backend"] = read["raft_logstore"] or "default"
        theirs["Backend"] = said["RaftLogStoreConfig"]["Backend"]
    return [
        f"{name}: read {ours[name]!r}, the agent says {theirs[name]!r}"
        for name in ours
        if ours[name] != theirs[name]
    ]
