"""The settings of a bot in the lab: what an operator would write, with the lab's addresses and tokens."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import yaml


def write_settings(
    folder: Path,
    *,
    slack_api_url: str,
    bot_token: str,
    app_token: str,
    redis_url: str,
    ssh_user: str,
    ssh_key: Path,
    known_hosts: Path,
    servers: Mapping[str, str],
    clients: Mapping[str, str] | None = None,
    cluster: str = "demo",
    approvals: Mapping[str, object] | None = None,
    tokens: Mapping[str, str] | None = None,
    redis_password: str | None = None,
) -> Path:
    """Write a settings file (0600) with its secrets in files beside it, and give its path."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    secrets = {"bot-token": bot_token, "app-token": app_token, **(tokens or {})}
    if redis_password is not None:
        secrets["redis-password"] = redis_password
    for name, secret in secrets.items():
        _private(folder / name, secret)
    settings: dict[str, object] = {
        "slack": {
            "bot_token_file": str(folder / "bot-token"),
            "app_token_file": str(folder / "app-token"),
            "api_url": slack_api_url,
            "channel": "C0OPS",
        },
        "redis": {
            "url": redis_url,
            **({"password_file": str(folder / "redis-password")} if redis_password is not None else {}),
        },
        "ssh": {"user": ssh_user, "key_file": str(ssh_key), "known_hosts_file": str(known_hosts)},
        "people": [
            {"name": "alice", "slack": "U0ALICE", "terminal": "alice"},
            {"name": "bob", "slack": "U0BOB", "terminal": "bob"},
        ],
        "approvals": {"approvers": ["alice", "bob"], **(approvals or {})},
        "clusters": {
            cluster: {
                "servers": _named(servers),
                **({"clients": _named(clients)} if clients else {}),
                **({"tokens": {f"{name}_file": str(folder / name) for name in tokens}} if tokens else {}),
            }
        },
    }
    path = folder / "settings.yaml"
    _private(path, yaml.safe_dump(settings, sort_keys=False))
    return path


def _named(hosts: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "address": address} for name, address in hosts.items()]


def _private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
