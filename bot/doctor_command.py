"""`consul-recovery doctor`: the doctor's probes on the real things."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from bot import logs, screen
from bot.doctor import Probes, run_doctor, settings_refused
from bot.finding import Finding, exit_code, render_json, render_text
from bot.presence import Mark, last_mark
from bot.talk import client_for
from bot.terminal_user import Traces, sitter
from bot.wiring import open_hosts, open_store, secrets_of
from config.settings import load_settings
from config.values import Settings
from recovery.adapters.redis_access import Access
from recovery.errors import HostUnreachable, SettingsProblem
from recovery.model import ClusterName, ClusterObservation, Fact, RunId, ServerName, ServerSpec
from recovery.plan import AgentRunning

CLOCK_TIMEOUT_S = 10.0


async def run(path: Path, *, as_json: bool, out: TextIO, seen: Traces) -> int:
    """Check the set-up of these settings and write what was found; 1 when something does not work."""
    findings: Sequence[Finding]
    try:
        settings = load_settings(path, environ=os.environ)
    except SettingsProblem as problem:
        findings = settings_refused(problem, path=path)
    else:
        # The doctor says what is wrong; the same again in a log would hide it.
        logs.configure(secrets_of(settings), level=logs.SILENT)
        findings = await _look(settings, seen)
    if as_json:
        screen.tell_json(out, render_json(findings))
    else:
        screen.tell(out, render_text(findings))
    return exit_code(findings)


async def _look(settings: Settings, seen: Traces) -> list[Finding]:
    slack = settings.slack
    client = client_for(
        token=slack.bot_token.reveal() if slack is not None else "",
        api_url=slack.api_url if slack is not None else "https://slack.com/api/",
        reads=True,
    )
    async with open_hosts(settings) as (pool, worlds):

        async def observe(cluster: ClusterName) -> ClusterObservation:
            return await worlds[cluster].observe()

        async def client_runs(cluster: ClusterName, name: ServerName) -> Fact:
            return await worlds[cluster].check(AgentRunning(name), run=RunId("doctor"))

        async def host_time_s(_cluster: ClusterName, server: ServerSpec) -> float:
            answer = await pool.run(server.address, "date +%s.%N", stdin=b"", timeout_s=CLOCK_TIMEOUT_S)
            try:
                return float(answer.stdout)
            except ValueError:
                raise HostUnreachable(f"{server.address} did not tell its time") from None

        async def persistence() -> Sequence[str]:
            async with open_store(settings) as store:
                return await store.check_persistence()

        async def access() -> Access:
            async with open_store(settings) as store:
                return await store.check_access()

        async def mark(cluster: ClusterName) -> Mark | None:
            async with open_store(settings) as store:
                return await last_mark(store, cluster)

        probes = Probes(
            slack=client,
            persistence=persistence,
            access=access,
            mark=mark,
            observe=observe,
            client_runs=client_runs,
            host_time_s=host_time_s,
            now_s=time.time,
            sitter=sitter(seen, settings.terminal_identity),
        )
        return await run_doctor(settings, probes)
