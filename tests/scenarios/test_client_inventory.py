"""The inventory that the settings name, through the whole wiring, without any host."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.wiring import open_hosts
from config.settings import parse_settings
from recovery.errors import HostUnreachable
from recovery.model import ClusterName, RunId, ServerName, Unknown
from recovery.plan import AgentRunning, StartAgent, StepId
from recovery.ports import ActKey

SETTINGS = """
redis: {{url: "redis://127.0.0.1:1/0"}}
ssh: {{user: consul-recovery, key_file: {folder}/id, known_hosts_file: {folder}/known_hosts}}
clusters:
  prod:
    servers: [{{name: s1, address: 192.0.2.11}}]
    tokens: {{management_env: CONSUL_TOKEN}}
    client_inventory: {{path: {folder}/program, group: consul}}
"""


async def test_an_agent_that_nobody_knows_is_not_guessed_and_no_secret_is_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inventory is asked for an unknown name, without our secrets; what stays unknown is not touched."""
    monkeypatch.setenv("CONSUL_TOKEN", "management-token-1")
    monkeypatch.setenv("CLOUD_REGION", "north")
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nenv >{tmp_path}/env\necho '{{\"consul\": []}}'\n", encoding="utf-8")
    program.chmod(0o755)
    settings = parse_settings(
        SETTINGS.format(folder=tmp_path),
        source=tmp_path / "settings.yaml",
        environ={"CONSUL_TOKEN": "management-token-1"},
        slack=False,
    )
    async with open_hosts(settings) as (_, worlds):
        world = worlds[ClusterName("prod")]
        fact = await world.check(AgentRunning(ServerName("c1")), run=RunId("r1"))
        key = ActKey(RunId("r1"), StepId("start"), 1, "do", "bot-1", 1)
        with pytest.raises(HostUnreachable, match="c1 is no server of the settings"):
            await world.perform(StartAgent(ServerName("c1")), key=key, timeout_s=5)
    assert isinstance(fact, Unknown)
    assert "Write its name and address under clients" in fact.reason
    given = (tmp_path / "env").read_text(encoding="utf-8")
    assert "CLOUD_REGION=north" in given
    assert "management-token-1" not in given
