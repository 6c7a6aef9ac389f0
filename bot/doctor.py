"""The doctor: each step of the set-up checked, with one message and the next thing to do.

It changes nothing and asks only what the bot itself will ask. What reaches
outside is passed in (:class:`Probes`); no secret is in any finding.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot.authz import Nobody
from bot.doctor_clients import ClientRuns
from bot.doctor_hosts import HostTime, Observe, check_hosts
from bot.doctor_slack import SlackProbe, check_slack
from bot.finding import Finding, Verdict, failed, ok, skipped, warning
from bot.presence import Mark
from bot.secret_files import check_secret_files
from config.values import PrivateRedis, Settings
from recovery.adapters.redis_access import Access
from recovery.errors import RecoveryError, SettingsProblem
from recovery.model import ClusterName


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What the doctor looks with."""

    slack: SlackProbe
    persistence: Callable[[], Awaitable[Sequence[str]]]
    """Open the store and give a sentence for each setting of Redis that can lose a run; raises RecoveryError."""
    access: Callable[[], Awaitable[Access]]
    """Open the store and see who may write its keys; raises RecoveryError."""
    mark: Callable[[ClusterName], Awaitable[Mark | None]]
    """Open the store and give the newest mark of a running bot; raises RecoveryError."""
    observe: Observe
    client_runs: ClientRuns
    host_time_s: HostTime
    now_s: Callable[[], float]
    sitter: str | Nobody
    """Who sits at this terminal."""


def settings_refused(problem: SettingsProblem, *, path: Path) -> tuple[Finding, ...]:
    """What there is to say when the settings could not be loaded: nothing else can be looked at then."""
    return (
        failed(
            "settings", str(path), str(problem), next_step="Correct the settings, then run the doctor again."
        ),
    )


async def run_doctor(settings: Settings, probes: Probes) -> list[Finding]:
    """Check every step of the set-up, in the order in which a person sets it up."""
    slack, redis, hosts = await asyncio.gather(
        check_slack(settings, probes.slack),
        _check_redis(settings, probes),
        check_hosts(
            settings,
            observe=probes.observe,
            client_runs=probes.client_runs,
            host_time_s=probes.host_time_s,
            now_s=probes.now_s,
        ),
    )
    return [
        ok(
            "settings",
            str(settings.source),
            f"read; clusters: {', '.join(c.name for c in settings.clusters)}",
        ),
        *check_secret_files(settings.secret_files),
        *_check_terminal(settings, probes.sitter),
        *slack,
        *redis,
        *hosts,
        # Only where the store answers: else that is what has to be said.
        *(
            await _check_bot(settings, probes)
            if not any(finding.verdict is Verdict.FAILED for finding in redis)
            else ()
        ),
    ]


def _check_terminal(settings: Settings, sitter: str | Nobody) -> list[Finding]:
    """Whether the people whom the settings know at a terminal can be known at this one."""
    if not any(person.terminal_users for person in settings.people):
        return []
    if isinstance(sitter, Nobody):
        return [
            warning(
                "people",
                "terminal",
                f"nobody can propose or approve at a terminal like this one: {sitter.why}",
                next_step=sitter.mend,
            )
        ]
    person = settings.person_of_terminal(sitter)
    counts = f"counts as {person}" if person is not None else "is nobody in the settings, and may only look"
    return [ok("people", "terminal", f"{sitter}, who sits here, {counts}")]


async def _check_bot(settings: Settings, probes: Probes) -> list[Finding]:
    """The last step of the set-up: somebody is there who answers in Slack."""
    cluster = settings.clusters[0].name
    try:
        mark = await probes.mark(cluster)
    except RecoveryError as error:
        return [failed("bot", "process", str(error), next_step="Without Redis no bot can be seen.")]
    now_s = probes.now_s()
    if mark is not None and mark.fresh(now_s):
        return [ok("bot", mark.owner, f"runs: {mark.told(now_s)}")]
    said = f"the last one, {mark.told(now_s)}" if mark is not None else "none was ever seen on this Redis"
    return [
        warning(
            "bot",
            "process",
            f"no bot runs with these settings: {said}",
            next_step="Start it: `consul-recovery-bot --settings FILE`, or its unit (README, step 10).",
        )
    ]


async def _check_redis(settings: Settings, probes: Probes) -> list[Finding]:
    private = isinstance(settings.redis, PrivateRedis)
    subject = "private" if private else "server"
    try:
        warnings = await probes.persistence()
        # Nobody but its own user reaches the private one.
        access = None if private else await probes.access()
    except RecoveryError as error:
        return [
            failed(
                "redis",
                subject,
                str(error),
                next_step="Without Redis the bot starts no run; correct this first.",
            )
        ]
    kept = [
        warning("redis", subject, text, next_step="Change it before a run depends on it.")
        for text in warnings
    ] or [ok("redis", subject, "answers, and keeps what it is told")]
    return [*kept, *(_access_findings(access) if access is not None else ())]


def _access_findings(access: Access) -> list[Finding]:
    if access.unseen:
        return [skipped("redis", "who may write", access.unseen)]
    return [
        warning("redis", "who may write", text, next_step="Keep a Redis, or a user of it, for the bot alone.")
        for text in access.warnings
    ] or [ok("redis", "who may write", "the bot's user, with no more rights than it needs, and nobody else")]
