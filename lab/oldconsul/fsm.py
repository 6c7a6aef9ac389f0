"""The data that a cluster agrees on: nodes with their services, keys, sessions; and the commands that change it.

Commands are the real ones: a byte for the kind, then MessagePack. Kinds that are not known here (coordinates)
change nothing. Source: consul/fsm.go and consul/structs at v0.6.4; the captured raft.db files.
"""

import base64
import uuid
from dataclasses import dataclass, field
from typing import Any

from lab.oldconsul import msgpack
from lab.oldconsul.rules import Entry

REGISTER, DEREGISTER, KV, SESSION = range(4)
Json = dict[str, Any]


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


@dataclass(slots=True)
class Store:
    """One server's copy; `index` maps a table to the log index that changed it last."""

    nodes: dict[str, Json] = field(default_factory=dict)
    services: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    keys: dict[str, Json] = field(default_factory=dict)
    sessions: dict[str, Json] = field(default_factory=dict)
    index: dict[str, int] = field(default_factory=dict)

    def apply(self, entry: Entry) -> object:
        """Carry out a committed command; returns what its asker is told."""
        data = entry.data or b""
        if not data or data[0] not in {REGISTER, DEREGISTER, KV, SESSION}:
            return None
        command = msgpack.unpack(data[1:])
        match data[0]:
            case 0:
                return self._register(command, entry.index)
            case 1:
                return self._deregister(command, entry.index)
            case 2:
                return self._key(command, entry.index)
            case _:
                return self._session(command, entry.index)

    def _register(self, command: Json, index: int) -> object:
        name = _text(command["Node"])
        old = self.nodes.get(name)
        self.nodes[name] = {
            "Node": name,
            "Address": _text(command["Address"]),
            "TaggedAddresses": {
                key: _text(value) for key, value in (command["TaggedAddresses"] or {}).items()
            },
            "CreateIndex": old["CreateIndex"] if old else index,
            "ModifyIndex": index,
        }
        service = command["Service"]
        if service:
            self.services.setdefault(name, {})[_text(service["Service"])] = [
                _text(tag) for tag in service["Tags"] or ()
            ]
            self.index["services"] = index
        self.index["nodes"] = index
        return None

    def _deregister(self, command: Json, index: int) -> object:
        name = _text(command["Node"])
        self.nodes.pop(name, None)
        self.services.pop(name, None)
        for each in [key for key, session in self.sessions.items() if session["Node"] == name]:
            del self.sessions[each]
        self.index["nodes"] = self.index["services"] = index
        return None

    def _key(self, command: Json, index: int) -> object:
        wanted = command["DirEnt"]
        key, operation = _text(wanted["Key"]), _text(command["Op"])
        self.index["kvs"] = index
        match operation:
            case "set":
                old = self.keys.get(key)
                self.keys[key] = {
                    "LockIndex": 0,
                    "Key": key,
                    "Flags": wanted["Flags"],
                    "Value": None if wanted["Value"] is None else base64.b64encode(wanted["Value"]).decode(),
                    "CreateIndex": old["CreateIndex"] if old else index,
                    "ModifyIndex": index,
                }
            case "delete":
                self.keys.pop(key, None)
            case "delete-tree":
                for each in [name for name in self.keys if name.startswith(key)]:
                    del self.keys[each]
        return True

    def _session(self, command: Json, index: int) -> object:
        session = command["Session"]
        name = _text(session["ID"])
        self.index["sessions"] = index
        if _text(command["Op"]) == "create":
            self.sessions[name] = {
                "CreateIndex": index,
                "ID": name,
                "Name": _text(session["Name"]),
                "Node": _text(session["Node"]),
                "Checks": [_text(check) for check in session["Checks"] or ()],
                "LockDelay": session["LockDelay"],
                "Behavior": _text(session["Behavior"]),
                "TTL": _text(session["TTL"]),
            }
            return name
        self.sessions.pop(name, None)
        return True


def register(
    node: str, address: str, *, datacenter: str, service: bool = False, check: bool = False
) -> bytes:
    """Write the command that registers a node, with its serfHealth check or its service `consul`."""
    checks = {
        "CheckID": "serfHealth",
        "CreateIndex": 0,
        "ModifyIndex": 0,
        "Name": "Serf Health Status",
        "Node": node,
        "Notes": "",
        "Output": "Agent alive and reachable",
        "ServiceID": "",
        "ServiceName": "",
        "Status": "passing",
    }
    consul = {
        "Address": "",
        "CreateIndex": 0,
        "EnableTagOverride": False,
        "ID": "consul",
        "ModifyIndex": 0,
        "Port": 8300,
        "Service": "consul",
        "Tags": [],
    }
    command = {
        "Address": address,
        "Check": None,
        "Checks": [checks] if check else None,
        "Datacenter": datacenter,
        "Node": node,
        "Service": consul if service else None,
        "TaggedAddresses": {"wan": address},
        "Token": "",
    }
    return bytes([REGISTER]) + msgpack.pack(command)


def deregister(node: str, *, datacenter: str) -> bytes:
    """Write the command that takes a node out of the catalogue."""
    command = {"CheckID": "", "Datacenter": datacenter, "Node": node, "ServiceID": "", "Token": ""}
    return bytes([DEREGISTER]) + msgpack.pack(command)


def key_command(operation: str, key: str, value: bytes | None, *, flags: int, datacenter: str) -> bytes:
    """Write the command that sets or deletes a key, or a tree of keys."""
    entry = {
        "CreateIndex": 0,
        "Flags": flags,
        "Key": key,
        "LockIndex": 0,
        "ModifyIndex": 0,
        "Session": "",
        "Value": value,
    }
    return bytes([KV]) + msgpack.pack(
        {"Datacenter": datacenter, "DirEnt": entry, "Op": operation, "Token": ""}
    )


def session_command(operation: str, session: Json, *, datacenter: str) -> bytes:
    """Write the command that makes or ends a session; a new one gets an id."""
    made = {
        "Behavior": session.get("Behavior") or "release",
        "Checks": session.get("Checks") or (["serfHealth"] if operation == "create" else None),
        "CreateIndex": 0,
        "ID": session.get("ID") or str(uuid.uuid4()),
        "LockDelay": 15_000_000_000 if operation == "create" else 0,
        "ModifyIndex": 0,
        "Name": session.get("Name") or "",
        "Node": session.get("Node") or "",
        "TTL": session.get("TTL") or "",
    }
    return bytes([SESSION]) + msgpack.pack(
        {"Datacenter": datacenter, "Op": operation, "Session": made, "Token": ""}
    )
