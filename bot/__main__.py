"""The bot as a service: settings -> adapters -> app, until SIGTERM.

Recoveries do not wait for Slack: the supervisor drives open runs as soon as
the store answers, also while Slack does not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys

import aiohttp
import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot import logs, screen
from bot.app import Identity, build_app, who_am_i
from bot.directory import SlackDirectory
from bot.handlers import Handlers
from bot.notifier import SlackNotifier
from bot.presence import keep_marking
from bot.registry import TaskRegistry
from bot.secret_files import refuse_open_secrets
from bot.sockets import Sockets
from bot.talk import Talk, client_for, on_loopback
from bot.version import version
from bot.wiring import Core, mentions_of, open_core, rules_of, secrets_of
from config.settings import load_settings, settings_path
from config.values import Settings, SlackSettings
from recovery.engine import end_tasks
from recovery.errors import RecoveryError, SettingsProblem
from recovery.lookout import Lookout
from recovery.supervisor import Supervisor

ANSWERS_S = 5.0
"""For what people asked before the stop."""
DRAIN_S = 20.0
"""For the step under way. Together below the 30 s that Kubernetes gives before it kills."""
SLACK_AGAIN_S = 5.0
RECENT_RUNS = 5
_TOKEN_FAULTS = frozenset(
    {
        "invalid_auth",
        "not_authed",
        "account_inactive",
        "token_revoked",
        "token_expired",
        "not_allowed_token_type",
        "missing_scope",
    }
)

log = structlog.get_logger()


def main() -> None:
    """Run the bot; a start that cannot work ends with one message and status 1."""
    parser = argparse.ArgumentParser(
        prog="consul-recovery-bot",
        description="The Slack bot that recovers Consul clusters.",
        allow_abbrev=False,
    )
    parser.add_argument("--settings", metavar="FILE", help="the settings file")
    parser.add_argument("--version", action="version", version=version())
    arguments = parser.parse_args()
    try:
        settings = load_settings(settings_path(arguments.settings, os.environ), environ=os.environ)
        logs.configure(secrets_of(settings))
        asyncio.run(serve(settings))
    except RecoveryError as problem:
        screen.tell(sys.stderr, str(problem))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; raises RecoveryError when a start cannot work."""
    slack = settings.slack
    if slack is None:
        raise SettingsProblem(
            f"The settings in {settings.source} have no section slack; nothing was started."
        )
    refuse_open_secrets(settings.secret_files)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if not settings.approvals.approvers and not settings.approvals.approver_groups:
        log.warning("nobody can approve: name people or groups under approvals.approvers in the settings")
    async with open_core(settings, kind="bot") as core:
        await _check_store(core)
        talk = Talk(client_for(token=slack.bot_token.reveal(), api_url=slack.api_url, reads=False))
        notifier = SlackNotifier(
            talk,
            store=core.store,
            clock=core.clock,
            mentions=mentions_of(settings),
            channel_of=settings.channel_of,
            units=core.units,
            owner=core.owner,
        )
        supervisor = Supervisor(
            owner=core.owner,
            service=core.service,
            worlds=core.worlds,
            store=core.driving_store,
            notifier=notifier,
            clock=core.clock,
        )
        tasks = TaskRegistry()
        lookout = Lookout(
            service=core.service,
            store=core.store,
            clock=core.clock,
            every_s=settings.lookout_every_s,
        )
        driving = asyncio.create_task(supervisor.serve(), name="supervisor")
        looking = asyncio.create_task(lookout.serve(), name="lookout")
        marking = asyncio.create_task(
            keep_marking(core.store, core.service.clusters, owner=core.owner, clock=core.clock),
            name="presence",
        )
        front = asyncio.create_task(
            _slack(core, slack, talk=talk, notifier=notifier, supervisor=supervisor, tasks=tasks),
            name="slack front end",
        )
        stopping: asyncio.Task[object] = asyncio.create_task(stop.wait(), name="stop")
        try:
            log.info("started", owner=core.owner, clusters=list(core.service.clusters))
            # Without its mark a process goes on: nothing hangs on it but the doctor's word.
            await asyncio.wait({driving, front, looking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in (driving, front, looking):
                if task.done():
                    task.result()
        finally:
            log.info("stopping")
            # No further step is begun from now on; the one under way is finished meanwhile.
            supervisor.drain()
            # First the ears: what Slack sends from now on goes to another process.
            await end_tasks(front, looking, marking)
            await tasks.drain(timeout_s=ANSWERS_S)
            await asyncio.wait({driving}, timeout=DRAIN_S)
            # An act under way on a host ends there by itself; its outcome is asked for by the next driver.
            await end_tasks(driving, stopping)
            await notifier.close(timeout_s=1.0)


async def _check_store(core: Core) -> None:
    """Find out now, not at the first click, that the store does not answer or forgets."""
    for cluster in core.service.clusters:
        await core.store.active(cluster)
    if problems := await core.store.check_persistence():
        log.warning("redis may forget runs", problem=" ".join(problems))


async def _slack(
    core: Core,
    slack: SlackSettings,
    *,
    talk: Talk,
    notifier: SlackNotifier,
    supervisor: Supervisor,
    tasks: TaskRegistry,
) -> None:
    """Be there for people in Slack; raises SettingsProblem where the tokens are not good."""
    token = slack.bot_token.reveal()
    client = client_for(token=token, api_url=slack.api_url, reads=True)
    identity = await _identity(client, slack)
    team = slack.team_id or identity.team_id
    teams = frozenset(name for name in (team, identity.enterprise_id) if name)
    handlers = Handlers(
        service=core.service,
        store=core.store,
        talk=talk,
        directory=SlackDirectory(client, clock=core.clock),
        rules=rules_of(core.settings, teams=teams),
        notifier=notifier,
        tasks=tasks,
        clock=core.clock,
        nudge=supervisor.nudge,
    )
    await _catch_up(core, notifier)
    app = build_app(client, token=token, identity=identity, handlers=handlers)
    await Sockets(
        app,
        app_token=slack.app_token.reveal(),
        clock=core.clock,
        on_loopback=on_loopback(slack.api_url),
    ).serve()


async def _catch_up(core: Core, notifier: SlackNotifier) -> None:
    """Tell in Slack what ended while it was away and the process that drove it is gone."""
    for cluster in core.service.clusters:
        try:
            views = await core.service.runs(cluster, limit=RECENT_RUNS)
        except RecoveryError as problem:
            log.warning("runs that were not told are not known", cluster=cluster, problem=str(problem))
            continue
        for view in views:
            await notifier.catch_up(view)


async def _identity(client: AsyncWebClient, slack: SlackSettings) -> Identity:
    """Ask Slack who we are with both tokens; waits where Slack does not answer at all."""
    while True:
        try:
            identity = await who_am_i(client)
            await client.apps_connections_open(app_token=slack.app_token.reveal())
        except SlackApiError as refusal:
            error = str(refusal.response.get("error", "")) if refusal.response is not None else ""
            if error in _TOKEN_FAULTS:
                which = (
                    "slack.app_token" if "connections" in str(refusal.response.api_url) else "slack.bot_token"
                )
                raise SettingsProblem(
                    f"Slack does not take {which} ({error}); the bot was not started. Copy the token again from "
                    "the app's page at api.slack.com/apps; `consul-recovery doctor` checks it."
                ) from None
            log.warning("slack refuses, asked again", problem=error)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("slack does not answer, asked again", problem=type(error).__name__)
        else:
            if slack.team_id and slack.team_id not in {identity.team_id, identity.enterprise_id}:
                raise SettingsProblem(
                    f"slack.team_id is {slack.team_id}, but the bot token belongs to {identity.team_id}; the bot "
                    "was not started. Correct one of them."
                )
            return identity
        with contextlib.suppress(TimeoutError):
            await asyncio.sleep(SLACK_AGAIN_S)


if __name__ == "__main__":
    main()
