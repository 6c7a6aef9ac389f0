"""The whole job as people see it: bot process, local Slack, real hosts; and no secret anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from lab.bot_process import BotProcess
from lab.bot_settings import write_settings
from lab.datacentre import Lab
from lab.redis_server import RedisServer
from lab.slack import LocalSlack
from lab.slack.workspace import Message
from tests.integration.terminal_process import alice_is_us, consul_recovery

LOST = {"type:s2": "s2", "type:s3": "s3"}


@pytest.mark.consul(since=(1, 4, 0))
async def test_a_majority_gone_for_good_is_recovered_from_slack_and_no_secret_shows(lab: Lab) -> None:
    """From /consul recover to the done card; every planted secret stays out of whatever anybody can read later."""
    cluster = await lab.up(servers=3, acl=True)
    assert cluster.tokens is not None
    await lab.host("s1").run(
        f"CONSUL_HTTP_TOKEN={cluster.tokens.management} consul kv put before 'still here'"
    )
    await asyncio.gather(
        lab.replace("s2", address="198.51.100.22"), lab.replace("s3", address="198.51.100.23")
    )
    planted = {
        "bot token": f"xoxb-{secrets.token_hex(16)}",
        "app token": f"xapp-{secrets.token_hex(16)}",
        "management token": cluster.tokens.management,
        "recovery token": cluster.tokens.agent_recovery,
        "Redis password": secrets.token_hex(16),
        # The head of an OpenSSH key is the same in all of them, and its public half no secret.
        "SSH key": lab.ssh_key.read_text(encoding="ascii").splitlines()[4],
    }
    assert len(planted["SSH key"]) > 50
    slack = LocalSlack(
        sockets=[socket.create_server(("127.0.0.1", 0))],
        bot_token=planted["bot token"],
        app_token=planted["app token"],
    )
    redis_url = await lab.redis()
    async with slack, _asking_for(planted["Redis password"], lab.redis_server):
        settings = write_settings(
            lab.folder / "from-slack",
            slack_api_url=slack.api_url,
            bot_token=planted["bot token"],
            app_token=planted["app token"],
            redis_url=redis_url,
            redis_password=planted["Redis password"],
            ssh_user=lab.ssh_user,
            ssh_key=lab.ssh_key,
            known_hosts=lab.known_hosts,
            servers={host.name: host.address for host in lab.servers},
            cluster="slacked",
            tokens={
                "agent_recovery": planted["recovery token"],
                "management": planted["management token"],
            },
        )
        alice_is_us(settings)
        bot = BotProcess(settings, lab.folder / "from-slack" / "bot.log")
        await bot.start()
        arguments: set[str] = set()
        watching = asyncio.create_task(_watch_arguments(arguments))
        try:
            await slack.wait_connected(timeout_s=60)
            await slack.slash("/consul recover slacked --lost s2,s3", user="alice")
            plan = await _card(slack, ": waiting for approval")
            await slack.click(plan, "run_approve", user="alice")
            await slack.wait(lambda: slack.ephemeral("alice")[-1:], timeout_s=20)
            await slack.click(plan, "run_approve", user="bob")
            gate = await _card(slack, "waiting for the second approval")
            await slack.click(gate, "run_approve_typed", user="bob")
            modal = await slack.wait(lambda: slack.modals("bob"), timeout_s=20)
            submitted = await slack.submit(modal[-1], LOST, user="bob")
            assert submitted.acked, submitted.error
            await _card(slack, ": done")
            ended = await asyncio.gather(
                *(consul_recovery(settings, *line.split()) for line in ("doctor", "status", "runs --json"))
            )
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            await bot.stop()
        slack.assert_clean()
        assert [each.status for each in ended] == [0, 0, 0], ended
        journals = [await host.run("journalctl --boot --no-pager --output=verbose") for host in lab.hosts]
        everywhere = {
            "the bot's log": bot.log_text,
            "what Slack was asked": repr(slack.calls()),
            "what Slack delivered": repr(slack.deliveries),
            "what people saw in Slack": repr([(m, slack.plain_text(m)) for m in slack.workspace.messages]),
            "the terminal": "".join(each.out + each.err for each in ended),
            "Redis": await _everything_in_redis(redis_url, planted["Redis password"]),
        }
        for place, text in everywhere.items():
            assert "slacked" in text, f"nothing was found in {place} at all"
        everywhere["the hosts' journals"] = "".join(journals)
        everywhere["a command line"] = "\n".join(arguments)
        assert all("consul-recovery" in line or "sh -s" in line for line in journals)
        assert "sh -s" in everywhere["a command line"]
    for kind, secret in planted.items():
        for place, text in everywhere.items():
            assert secret not in text, f"the {kind} is in {place}"
    value = await lab.host("s3").run(f"CONSUL_HTTP_TOKEN={cluster.tokens.management} consul kv get before")
    assert value == "still here\n"


async def _card(slack: LocalSlack, words: str) -> Message:
    return await slack.wait_message(
        lambda m: m.thread_ts is None and words in slack.plain_text(m).partition("\n")[0], timeout_s=240
    )


async def _watch_arguments(seen: set[str]) -> None:
    """Collect the command line of every process of the machine and its hosts, often."""
    while True:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                seen.add((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def _asking_for(password: str, redis: RedisServer) -> AsyncIterator[None]:
    """Let the lab's Redis ask for a password, and no more afterwards: other tests have none."""
    await asyncio.to_thread(redis.require_password, password)
    try:
        yield
    finally:
        await asyncio.to_thread(redis.require_password, "", now=password)


async def _everything_in_redis(url: str, password: str) -> str:
    """Every key with its value as Redis would dump it, uncompressed."""
    client = Redis.from_url(url, password=password)
    try:
        await client.config_set("rdbcompression", "no")
        return repr([(key, await client.dump(key)) async for key in client.scan_iter()])
    finally:
        await client.aclose()
