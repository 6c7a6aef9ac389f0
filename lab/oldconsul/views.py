"""What an agent says of itself and its members: the JSON of /v1/agent, and `consul info`.

Names, order and constants are those of the captures of 0.6.4 (tests/data/captures).
"""

import json
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Any

from lab.oldconsul.config import Config
from lab.oldconsul.gossip import PORT, Member, Status

VERSION = "0.6.4"
VERSION_TEXT = f"Consul {VERSION}.dev\nConsul Protocol: 3 (Understands back to: 1)"
Json = dict[str, Any]
Sections = Mapping[str, Mapping[str, object]]


def tags_of(config: Config) -> dict[str, str]:
    """Return the gossip tags of an agent."""
    tags = {"build": f"{VERSION}:", "dc": config.datacenter, "role": "node", "vsn": "2"}
    tags |= {"vsn_max": "3", "vsn_min": "1"}
    if config.server:
        tags |= {"role": "consul", "port": "8300"}
    if config.bootstrap:
        tags["bootstrap"] = "1"
    if config.bootstrap_expect:
        tags["expect"] = str(config.bootstrap_expect)
    return dict(sorted(tags.items()))


def member_json(member: Member) -> Json:
    """Return a member as /v1/agent/members lists it."""
    return {
        "Name": member.name,
        "Addr": member.address,
        "Port": PORT,
        "Tags": dict(member.tags),
        "Status": member.status.value,
        "ProtocolMin": 1,
        "ProtocolMax": 3,
        "ProtocolCur": 2,
        "DelegateMin": 2,
        "DelegateMax": 4,
        "DelegateCur": 4,
    }


def self_json(config: Config, own: Member) -> Json:
    """Return /v1/agent/self: no Stats before 0.7. What is not set here is as it was captured."""
    answer: Json = json.loads(pkgutil.get_data(__package__, "agent_self.json") or b"")
    answer["Config"] |= {
        "Bootstrap": config.bootstrap,
        "BootstrapExpect": config.bootstrap_expect,
        "Server": config.server,
        "Datacenter": config.datacenter,
        "DataDir": config.data_dir,
        "LogLevel": config.log_level,
        "NodeName": config.node_name,
        "BindAddr": config.bind_addr,
        "AdvertiseAddr": config.advertise_addr,
        "AdvertiseAddrWan": config.advertise_addr,
        "TaggedAddresses": {"wan": config.advertise_addr},
        "LeaveOnTerm": config.leave_on_terminate,
        "SkipLeaveOnInt": config.skip_leave_on_interrupt,
        "StartJoin": config.start_join,
        "RetryJoin": config.retry_join,
        "RejoinAfterLeave": config.rejoin_after_leave,
        "DisableRemoteExec": config.disable_remote_exec,
        "DisableUpdateCheck": config.disable_update_check,
        "Version": VERSION,
    }
    return answer | {"Member": member_json(own)}


def info_text(sections: Sections) -> str:
    """Write `consul info`: sections and names in alphabetical order."""
    lines = []
    for section in sorted(sections):
        lines.append(f"{section}:")
        lines.extend(f"\t{name} = {sections[section][name]}" for name in sorted(sections[section]))
    return "\n".join(lines)


def info(
    config: Config, members: Iterable[Member], *, leads: bool, raft: Mapping[str, str] | None
) -> Sections:
    """Return the sections of `consul info`; a client agent (`raft` None) has no Raft."""
    seen = list(members)
    sections: dict[str, dict[str, object]] = {
        "agent": {"check_monitors": 0, "check_ttls": 0, "checks": 0, "services": 1 if config.server else 0},
        "build": {"prerelease": "", "revision": "", "version": VERSION},
        "runtime": {
            "arch": "amd64", "cpu_count": 2, "goroutines": 54, "max_procs": 2, "os": "linux", "version": "go1.19.8",
        },
        "serf_lan": _serf(seen),
    }  # fmt: skip
    if raft is None:
        known = sum(member.is_server for member in seen)
        sections["consul"] = {"known_servers": known, "server": "false"}
        return sections
    yes = {True: "true", False: "false"}
    sections["consul"] = {
        "bootstrap": yes[config.bootstrap],
        "known_datacenters": 1,
        "leader": yes[leads],
        "server": "true",
    }
    sections["raft"] = dict(raft)
    sections["serf_wan"] = _serf([member for member in seen if member.name == config.node_name])
    return sections


def _serf(members: list[Member]) -> dict[str, object]:
    count = {status: sum(member.status is status for member in members) for status in Status}
    return {
        "encrypted": "false", "event_queue": 0, "event_time": 1, "failed": count[Status.FAILED],
        "intent_queue": 0, "left": count[Status.LEFT], "member_time": 1, "members": len(members),
        "query_queue": 0, "query_time": 1,
    }  # fmt: skip


def members_text(members: Iterable[Json], *, detailed: bool) -> str:
    """Write the table of `consul members`."""
    names = {status.value: status.name.lower() for status in Status}
    rows = [["Node", "Address", "Status", *(["Tags"] if detailed else ["Type", "Build", "Protocol", "DC"])]]
    for each in sorted(members, key=lambda member: str(member["Name"])):
        tags = each["Tags"]
        row = [each["Name"], f"{each['Addr']}:{each['Port']}", names[each["Status"]]]
        if detailed:
            row.append(",".join(f"{name}={tags[name]}" for name in sorted(tags)))
        else:
            kind = "server" if tags["role"] == "consul" else "client"
            row += [kind, tags["build"].partition(":")[0], tags["vsn"], tags["dc"]]
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
