"""The whole job as people see it: bot process, local Slack, real hosts; and no secret anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from pathlib import Path

from redis.asyncio import Redis

from lab.bot_process import BotProcess
from lab.bot_settings import write_settings
from lab.datacentre import Lab
from lab.slack import LocalSlack
from lab.slack.workspace import Message

LOST = {"type:s2": "s2", "type:s3": "s3"}


async def test_a_majority_gone_for_good_is_recovered_from_slack_and_no_secret_shows(lab: Lab) -> None:
    """From /consul recover to the done card; every planted secret stays out of logs, Slack, Redis and argv."""
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
    }
    slack = LocalSlack(
        sockets=[socket.create_server(("127.0.0.1", 0))],
        bot_token=planted["bot token"],
        app_token=planted["app token"],
    )
    async with slack:
        settings = write_settings(
            lab.folder / "from-slack",
            slack_api_url=slack.api_url,
            bot_token=planted["bot token"],
            app_token=planted["app token"],
            redis_url=await lab.redis(),
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
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            await bot.stop()
        slack.assert_clean()
        said = repr([slack.calls(), [slack.plain_text(m) for m in slack.workspace.messages]])
    stored = await _everything_in_redis(await lab.redis())
    assert "slacked" in stored
    assert any("consul-recovery" in line or "sh -s" in line for line in arguments)
    for kind, secret in planted.items():
        assert secret not in bot.log_text, f"the {kind} is in the bot's log"
        assert secret not in said, f"the {kind} was sent to Slack"
        assert secret not in stored, f"the {kind} is in Redis"
        assert not any(secret in line for line in arguments), f"the {kind} is in a command line"
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


async def _everything_in_redis(url: str) -> str:
    """Every key with its value as Redis would dump it, uncompressed."""
    client = Redis.from_url(url)
    try:
        await client.config_set("rdbcompression", "no")
        return repr([(key, await client.dump(key)) async for key in client.scan_iter()])
    finally:
        await client.aclose()
