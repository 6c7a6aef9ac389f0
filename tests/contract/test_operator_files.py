"""What operators copy from config/, read by the programs that will read it."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from slack_sdk.web.async_client import AsyncWebClient

from bot.doctor_slack import check_slack
from bot.finding import Finding, Verdict
from config.settings import parse_settings
from config.values import Settings
from lab.root import ensure_root
from lab.slack import LocalSlack
from recovery.adapters.host_commands import INSTALLED_AT

SUDOERS = Path("config/sudoers").read_text()
PEOPLE = Path("config/sudoers-people").read_text()
MANIFEST = yaml.safe_load(Path("config/slack-manifest.yaml").read_text())
SCOPES = MANIFEST["oauth_config"]["scopes"]["bot"]


def rules(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(
    "text", [SUDOERS, SUDOERS.replace("#consul-recovery ALL", "consul-recovery ALL"), PEOPLE]
)
def test_sudo_reads_our_sudoers(text: str) -> None:
    """visudo of the lab's Debian finds no fault with the file, with one line in use or both."""
    checked = subprocess.run(
        ["chroot", str(ensure_root()), "visudo", "-cf", "-"],
        input=text,
        text=True,
        capture_output=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr + checked.stdout


def test_the_sudoers_lines_allow_what_the_bot_calls() -> None:
    """One line is in use and allows the installed program alone; the other one is the streamed way."""
    assert rules(SUDOERS) == [f"consul-recovery ALL=(root) NOPASSWD: {INSTALLED_AT}"]
    assert "#consul-recovery ALL=(root) NOPASSWD: /bin/sh -s\n" in SUDOERS


def test_the_unit_gives_the_bot_time_to_record() -> None:
    """Only the bot is signalled at a stop: its private Redis must outlive its last record."""
    unit = Path("config/consul-recovery-bot.service").read_text()
    assert re.search(r"^KillMode=mixed$", unit, flags=re.MULTILINE)


def test_the_manifest_has_the_command_and_no_events() -> None:
    """The app gets /consul and buttons over Socket Mode, and reads nobody's messages."""
    (command,) = MANIFEST["features"]["slash_commands"]
    hint = "status | recover | abort | retry | resume | readmit | unlock | show | runs | help"
    assert (command["command"], command["usage_hint"]) == ("/consul", hint)
    assert MANIFEST["settings"]["socket_mode_enabled"]
    assert MANIFEST["settings"]["interactivity"]["is_enabled"]
    assert "event_subscriptions" not in MANIFEST["settings"]
    assert not [scope for scope in SCOPES if scope.endswith(":history")]


async def look(slack: LocalSlack, *, channel: str = "C0OPS", bot_token: str | None = None) -> list[Finding]:
    """Run the doctor's look at Slack with slack_sdk's own client, against the lab's Slack."""
    settings = lab_settings(slack, channel=channel, bot_token=bot_token or slack.bot_token)
    assert settings.slack is not None
    client = AsyncWebClient(token=settings.slack.bot_token.reveal(), base_url=settings.slack.api_url)
    return await check_slack(settings, client)


def lab_settings(slack: LocalSlack, *, channel: str, bot_token: str) -> Settings:
    tree = {
        "slack": {
            "bot_token": bot_token,
            "app_token": slack.app_token,
            "api_url": slack.api_url,
            "channel": channel,
        },
        "redis": {"private": True},
        "ssh": {"user": "bot", "key_file": "/keys/id", "known_hosts_file": "/keys/known_hosts"},
        "people": [{"name": "alice", "slack": "U0ALICE"}, {"name": "bob", "slack": "U0BOB"}],
        "approvals": {"approver_groups": ["S0ONCALL"]},
        "clusters": {"prod": {"servers": [{"name": "s1", "address": "10.0.0.1"}]}},
    }
    return parse_settings(yaml.safe_dump(tree), source=Path("settings.yaml"), environ={})


def failures(findings: Sequence[Finding]) -> list[str]:
    return [finding.subject for finding in findings if finding.verdict is not Verdict.OK]


async def test_an_app_made_from_the_manifest_is_all_the_doctor_wants() -> None:
    """With exactly the manifest's scopes every look at Slack is answered and well."""
    async with LocalSlack(scopes=SCOPES) as slack:
        findings = await look(slack)
    assert failures(findings) == []
    assert {finding.subject for finding in findings} == {
        "bot token",
        "scopes",
        "app token",
        "channel C0OPS",
        "approver group S0ONCALL",
        "how many",
    }


async def test_what_is_wrong_at_slack_is_found() -> None:
    """A wrong token, a missing scope and an unknown channel are each found in Slack's own answers."""
    async with LocalSlack(scopes=[scope for scope in SCOPES if scope != "usergroups:read"]) as slack:
        assert failures(await look(slack, channel="C0NOWHERE")) == [
            "scope usergroups:read",
            "channel C0NOWHERE",
            "approver group S0ONCALL",
            "how many",
        ]
        wrong = await look(slack, bot_token="xoxb-wrong")
        assert failures(wrong) == ["bot token", "channels and groups", "how many"]
