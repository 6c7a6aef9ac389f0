"""What an agent is told: its flags and its configuration files, merged as Consul 0.6 merged them.

Files come in the order of the command line, a folder's *.json in the order of their names; the last one wins,
lists grow, and flags win over all files. Source: command/agent/command.go and config.go at v0.6.4.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class ConfigError(Exception):
    """The agent refuses to start; one sentence why, as it says it."""


@dataclass(slots=True)
class Config:
    """An agent's settings. `bootstrap_expect` 1 has become `bootstrap` by then."""

    node_name: str = ""
    datacenter: str = "dc1"
    data_dir: str = ""
    server: bool = False
    bootstrap: bool = False
    bootstrap_expect: int = 0
    bind_addr: str = "0.0.0.0"
    advertise_addr: str = ""
    log_level: str = "INFO"
    leave_on_terminate: bool = False
    skip_leave_on_interrupt: bool = False
    disable_update_check: bool = False
    disable_remote_exec: bool = False
    rejoin_after_leave: bool = False
    retry_interval: str = "30s"
    start_join: list[str] = field(default_factory=list)
    retry_join: list[str] = field(default_factory=list)


# Known to 0.6.4 and without effect here: refusing them would make the stand-in stricter than the real one.
_IGNORED = frozenset(
    {
        "acl_datacenter",
        "acl_default_policy",
        "acl_down_policy",
        "acl_token",
        "acl_ttl",
        "addresses",
        "advertise_addr_wan",
        "advertise_addrs",
        "atlas_endpoint",
        "atlas_infrastructure",
        "atlas_join",
        "atlas_token",
        "ca_file",
        "cert_file",
        "check",
        "check_update_interval",
        "checks",
        "client_addr",
        "disable_anonymous_signature",
        "disable_coordinates",
        "dns_config",
        "domain",
        "enable_debug",
        "enable_syslog",
        "encrypt",
        "http_api_response_headers",
        "key_file",
        "pid_file",
        "ports",
        "protocol",
        "reap",
        "recursor",
        "recursors",
        "retry_interval_wan",
        "retry_join_wan",
        "retry_max",
        "retry_max_wan",
        "server_name",
        "service",
        "services",
        "session_ttl_min",
        "start_join_wan",
        "syslog_facility",
        "telemetry",
        "translate_wan_addrs",
        "ui",
        "ui_dir",
        "unix_sockets",
        "verify_incoming",
        "verify_outgoing",
        "verify_server_hostname",
        "watches",
    }
)
_FLAGS = {
    "node": "node_name",
    "dc": "datacenter",
    "bind": "bind_addr",
    "advertise": "advertise_addr",
    "join": "start_join",
    "rejoin": "rejoin_after_leave",
}


def read_config(words: Sequence[str], *, host_name: str) -> Config:
    """Return the settings that `consul agent WORDS` is started with; raises ConfigError."""
    given: dict[str, Any] = {}
    sources: list[Path] = []
    rest = list(words)
    while rest:
        flag, has_value, value = rest.pop(0).removeprefix("-").removeprefix("-").partition("=")
        name = _FLAGS.get(flag, flag.replace("-", "_"))
        known = getattr(Config(), name, None)
        if isinstance(known, bool):
            given[name] = value != "false"
            continue
        if not has_value:
            value = rest.pop(0) if rest else ""
        if flag in {"config-dir", "config-file"}:
            sources.append(Path(value))
        elif isinstance(known, list):
            given.setdefault(name, []).append(value)
        elif isinstance(known, int):
            given[name] = int(value)
        elif known is not None:
            given[name] = value
        elif name not in _IGNORED:
            raise ConfigError(f"flag provided but not defined: -{flag}")
    config = Config()
    for source in sources:
        for file in _files(source):
            _merge(config, _read(file))
    _merge(config, given)
    return _settled(config, host_name=host_name)


def _files(source: Path) -> list[Path]:
    if not source.exists():
        raise ConfigError(f"Error reading '{source}': open {source}: no such file or directory")
    if not source.is_dir():
        return [source]
    return sorted(file for file in source.iterdir() if file.suffix == ".json" and not file.is_dir())


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text) if text.strip() else {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"Error decoding '{file}': {error}") from error
    known = {*Config.__dataclass_fields__, *_IGNORED}
    unknown = sorted(set(content) - known)
    if unknown:
        raise ConfigError(f"Error decoding '{file}': Config has invalid keys: {', '.join(unknown)}")
    return dict(content)


def _merge(config: Config, content: dict[str, Any]) -> None:
    for name, value in content.items():
        if name not in Config.__dataclass_fields__:
            continue
        old = getattr(config, name)
        if isinstance(old, list):
            old.extend(value)
        elif value:
            # What is empty, 0 or false says nothing: it never takes back what an earlier file said.
            setattr(config, name, value)


def _settled(config: Config, *, host_name: str) -> Config:
    config.node_name = config.node_name or host_name
    if not config.data_dir:
        raise ConfigError("Must specify data directory using -data-dir")
    if config.bootstrap_expect and not config.server:
        raise ConfigError("Expect mode cannot be enabled when server mode is not enabled")
    if config.bootstrap_expect and config.bootstrap:
        raise ConfigError("Bootstrap cannot be provided with an expected server count")
    if config.bootstrap and not config.server:
        raise ConfigError("Bootstrap mode cannot be enabled when server mode is not enabled")
    config.advertise_addr = config.advertise_addr or config.bind_addr
    if config.advertise_addr == "0.0.0.0":
        raise ConfigError("Error starting agent: Failed to get advertise address: give bind_addr")
    return config


def seconds(text: str) -> float:
    """Read a duration as Go writes it: 1s, 500ms, 1m30s."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h)", text))
