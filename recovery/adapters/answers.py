"""What Consul's answers say, of every version from 0.6 on: JSON and text into our values, without I/O.

Sources: Consul's agent, status, catalog and session API pages; measured on 0.6.4 and 1.8.7. Below 0.7
agent/self has no Stats: the same numbers come from `consul info` there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from recovery.model import AgentView, KnownNode, Member, MemberStatus, host_of
from recovery.raftentry import LogPosition, Peer

Stats = Mapping[str, Mapping[str, str]]
"""Section, name and value, all text, of agent/self's Stats or of `consul info`."""

_STATUS: Final = {
    0: MemberStatus.NONE,
    1: MemberStatus.ALIVE,
    2: MemberStatus.LEAVING,
    3: MemberStatus.LEFT,
    4: MemberStatus.FAILED,
}
_CONFIGURED: Final = re.compile(r"\{Suffrage:(\w+) ID:(\S+) Address:([^\s}]+)\}")
_VERSION: Final = re.compile(r"\d+(?:\.\d+)*")


def parse_json(body: str) -> Any:
    """Decode JSON; None for what is none (a proxy's error page)."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def parse_info(text: str) -> Stats:
    """Read the text of `consul info`: sections, each with indented `name = value` lines."""
    stats: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in text.splitlines():
        if line.endswith(":") and not line[:1].isspace():
            section = stats.setdefault(line[:-1], {})
        elif line[:1].isspace() and "=" in line:
            name, _, value = line.partition("=")
            section[name.strip()] = value.strip()
    return stats


def parse_configuration(text: str) -> tuple[Peer, ...]:
    """Read raft's latest_configuration, which Consul prints as Go does: `[{Suffrage:Voter ID:... Address:...}]`."""
    return tuple(
        Peer(peer_id, address, voter=suffrage == "Voter")
        for suffrage, peer_id, address in _CONFIGURED.findall(text)
    )


def parse_addresses(body: str) -> tuple[str, ...]:
    """Read /v1/status/peers: `null` (0.6) or a list of ip:port."""
    value = parse_json(body)
    return tuple(str(address) for address in value) if isinstance(value, list) else ()


def parse_leader(body: str) -> str:
    """Read /v1/status/leader: ip:port, or "" for none."""
    value = parse_json(body)
    return value if isinstance(value, str) else ""


def parse_members(body: str) -> tuple[Member, ...]:
    """Read /v1/agent/members; a member of a status we do not know counts as none."""
    value = parse_json(body)
    return tuple(_member(each) for each in value if isinstance(each, dict)) if isinstance(value, list) else ()


def _member(each: Mapping[str, Any]) -> Member:
    tags = _object(each.get("Tags"))
    status = each.get("Status")
    return Member(
        name=str(each.get("Name", "")),
        address=str(each.get("Addr", "")),
        status=_STATUS.get(status, MemberStatus.NONE) if isinstance(status, int) else MemberStatus.NONE,
        server=tags.get("role") == "consul",
        node_id=str(tags.get("id", "")).lower(),
        datacenter=str(tags.get("dc", "")),
        build=str(tags.get("build", "")).partition(":")[0],
    )


def parse_nodes(body: str) -> tuple[KnownNode, ...]:
    """Read /v1/catalog/nodes: ids, names and addresses (no ids below 0.7.3)."""
    value = parse_json(body)
    if not isinstance(value, list):
        return ()
    return tuple(
        KnownNode(
            name=str(each.get("Node", "")),
            node_id=str(each.get("ID", "")).lower(),
            address=str(each.get("Address", "")),
        )
        for each in value
        if isinstance(each, dict)
    )


def with_self(view: AgentView, body: str) -> AgentView:
    """Add what /v1/agent/self says; fields that this version does not have stay as they are."""
    value = parse_json(body)
    if not isinstance(value, dict):
        return view
    config = _object(value.get("Config"))
    # From 1.0 on most of Config is in DebugConfig.
    settings = {**config, **_object(value.get("DebugConfig"))}
    leave = settings.get("LeaveOnTerm")
    expect = settings.get("BootstrapExpect")
    found = _VERSION.match(str(config.get("Version", "")))
    view = msgspec.structs.replace(
        view,
        node_name=str(config.get("NodeName", "")),
        node_id=str(config.get("NodeID", "")).lower(),
        version=found.group() if found else "",
        datacenter=str(config.get("Datacenter", "")),
        data_dir=str(settings.get("DataDir", "")),
        leave_on_terminate=leave if isinstance(leave, bool) else None,
        # Bootstrap mode is told with an expect of 0, and is the same as 1.
        bootstrap_expect=1 if settings.get("Bootstrap") is True else expect if isinstance(expect, int) else 0,
    )
    sections = _object(value.get("Stats"))
    return with_stats(
        view, {name: {k: str(v) for k, v in _object(each).items()} for name, each in sections.items()}
    )


def without_stats(view: AgentView, *, own_address: str) -> AgentView:
    """Fill in what HTTP alone tells of a server below 0.7, whose agent/self has no numbers.

    There status/peers lists the peer set, and a server whose status/leader is its own address is the leader: Raft
    empties that when it steps down (hashicorp/raft of January 2016, setLeader).
    """
    own = {own_address, *(member.address for member in view.members if member.name == view.node_name)}
    return msgspec.structs.replace(
        view,
        names_itself_leader=bool(view.leader_address) and host_of(view.leader_address) in own,
        configuration=tuple(Peer(address, address, voter=True) for address in view.peers),
    )


def with_stats(view: AgentView, stats: Stats) -> AgentView:
    """Add Raft's numbers. Without a `raft` section (a client agent) the view stays as it is."""
    raft = stats.get("raft", {})
    if not raft:
        return view
    last = max(
        LogPosition(_number(raft, "last_log_term"), _number(raft, "last_log_index")),
        LogPosition(_number(raft, "last_snapshot_term"), _number(raft, "last_snapshot_index")),
    )
    configuration = parse_configuration(raft.get("latest_configuration", ""))
    if not configuration and "latest_configuration" not in raft:
        # Below 0.7 the peers are addresses, and what status/peers lists is the set.
        configuration = tuple(Peer(address, address, voter=True) for address in view.peers)
    return msgspec.structs.replace(
        view,
        names_itself_leader=stats.get("consul", {}).get("leader") == "true",
        bootstrap_expect=1 if stats.get("consul", {}).get("bootstrap") == "true" else view.bootstrap_expect,
        version=view.version or stats.get("build", {}).get("version", ""),
        raft_protocol=_number(raft, "protocol_version"),
        raft_state=raft.get("state", ""),
        term=_number(raft, "term"),
        last=last if "last_log_index" in raft else None,
        commit_index=_number(raft, "commit_index"),
        configuration=configuration,
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(section: Mapping[str, str], name: str) -> int:
    value = section.get(name, "")
    return int(value) if value.isascii() and value.isdecimal() else 0
