"""The bot as a process: settings file in, JSON log out, a clear word and status 1 where it cannot start."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lab.slack import LocalSlack
from tests.contract.redis_server import DURABLE, running_redis

pytestmark = pytest.mark.lab


@pytest.fixture
def redis_socket() -> Iterator[Path]:
    """A real Redis of its own for each test: one bot's look is remembered, and the next bot would not look."""
    with running_redis(*DURABLE) as path:
        yield path


@pytest.fixture
async def slack() -> AsyncIterator[LocalSlack]:
    """A local Slack."""
    async with LocalSlack() as running:
        yield running


def settings(folder: Path, slack: LocalSlack, redis: str, *, bot: str = "", app: str = "") -> Path:
    """A settings file whose two servers do not answer."""
    (folder / "known_hosts").touch()
    (folder / "key").write_text("no key")
    (folder / "key").chmod(0o600)
    path = folder / "settings.yaml"
    path.touch(mode=0o600)
    path.write_text(
        f"""
slack: {{bot_token: {bot or slack.bot_token}, app_token: {app or slack.app_token}, api_url: "{slack.api_url}"}}
redis: {{url: "{redis}"}}
ssh: {{user: nobody, key_file: {folder}/key, known_hosts_file: {folder}/known_hosts, connect_timeout_s: 1}}
people:
  - {{name: alice, slack: U0ALICE}}
  - {{name: bob, slack: U0BOB}}
approvals: {{approvers: [alice, bob]}}
clusters:
  dc1:
    channel: C0OPS
    servers: [{{name: s1, address: 127.0.0.9}}, {{name: s2, address: 127.0.0.10}}]
    client_inventory: {{path: {folder}/missing, group: consul}}
"""
    )
    return path


async def start(path: Path) -> asyncio.subprocess.Process:
    """Start the bot."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "--settings", str(path)), stderr=asyncio.subprocess.PIPE
    )


async def log_until(process: asyncio.subprocess.Process, event: str) -> bytes:
    """Read its log up to the line with this event, and give what was read."""
    assert process.stderr is not None
    read = b""
    async with asyncio.timeout(30):
        while event.encode() not in read:
            line = await process.stderr.readline()
            assert line, f"the log ended without {event}: {read.decode()}"
            read += line
    return read


async def test_it_serves_until_it_is_told_to_stop(
    slack: LocalSlack, redis_socket: Path, tmp_path: Path
) -> None:
    """Two sockets, a true answer, status 0 at SIGTERM, and no token in its log."""
    process = await start(settings(tmp_path, slack, f"unix://{redis_socket}"))
    await slack.wait_connected(2, timeout_s=30)
    delivery = await slack.slash("/consul status")
    assert delivery.acked
    await slack.wait_message(lambda m: "cannot tell" in m.text, timeout_s=30)
    # It looks at the cluster by itself too, and that look sees that the inventory is not there.
    before = await log_until(process, "client agents may be missing")
    process.send_signal(signal.SIGTERM)
    _, rest = await process.communicate()
    assert process.returncode == 0
    log = before + rest
    lines = log.decode().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert "started" in events
    assert slack.bot_token not in log.decode()
    assert slack.app_token not in log.decode()
    slack.assert_clean()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bot": "xoxb-not-ours"}, "slack.bot_token"),
        ({"app": "xapp-not-ours"}, "slack.app_token"),
        ({"redis": "redis://:s3cr3tpassword@127.0.0.1:1/0"}, "Redis at 127.0.0.1:1"),
    ],
)
async def test_a_start_that_cannot_work_ends_with_one_message(
    slack: LocalSlack, redis_socket: Path, tmp_path: Path, wrong: dict[str, str], said: str
) -> None:
    """Status 1, what is wrong in one sentence, no trace and no secret."""
    redis = wrong.get("redis", f"unix://{redis_socket}")
    path = settings(tmp_path, slack, redis, bot=wrong.get("bot", ""), app=wrong.get("app", ""))
    process = await start(path)
    _, log = await process.communicate()
    assert process.returncode == 1
    last = log.decode().splitlines()[-1]
    assert said in last
    assert "Traceback" not in log.decode()
    assert "s3cr3tpassword" not in log.decode()
    assert "not-ours" not in log.decode()
