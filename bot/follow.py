"""Staying with a run in the foreground: drives it where nobody does, shows it live on a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TextIO

import structlog
from rich.console import Console
from rich.live import Live
from rich.text import Text

from bot import text
from bot.answers import reminder
from bot.notifier import SlackNotifier
from bot.outgoing import printable
from bot.talk import Talk, client_for
from bot.thread import question
from bot.wiring import Core, mentions_of
from bot.wording import Phase, phase, utc_time
from recovery.errors import JournalUnreadable, LeaseLost, RecoveryError
from recovery.journal import Event, Outcome, Reminded, RunState
from recovery.model import ClusterName, RunId
from recovery.ports import Notifier
from recovery.runs import RunView
from recovery.service import SETTLE_PATIENCE_S, UnknownRun
from recovery.supervisor import Supervisor, lost_text

LOOK_EVERY_S = 1.0
LAST_WORDS_S = 5.0
NEW_PLAN_S = SETTLE_PATIENCE_S + 60.0

log = structlog.get_logger()


class RunLost(RecoveryError):
    """The store no longer knows the run that was followed."""


class _Beside:
    """Keeps what the journal cannot say; the terminal reads the journal itself, Slack is told where it is set up."""

    def __init__(self, slack: Notifier | None) -> None:
        self._slack = slack
        self.note = ""

    async def show(self, cluster: ClusterName, run: RunId, state: RunState, events: Sequence[Event]) -> None:
        if self._slack is not None:
            await self._slack.show(cluster, run, state, events)

    async def say(self, cluster: ClusterName, run: RunId, state: RunState, note: str) -> None:
        self.note = note
        if self._slack is not None:
            await self._slack.say(cluster, run, state, note)


class Follower:
    """Follows one run; ``note`` is what came of it beside its journal, for after the end."""

    def __init__(self, core: Core, *, out: TextIO, quiet: bool) -> None:
        self._core = core
        self._quiet = quiet
        self._console = Console(file=out, highlight=False, markup=False, emoji=False)
        self.note = ""

    async def follow(self, view: RunView, *, until_asked: bool) -> RunView:
        """Give the run as it ended, or, with ``until_asked``, as soon as it waits for people.

        The lease decides who drives: where the bot has it, this only looks. Raises RunLost where the store
        no longer knows the run.
        """
        slack = self._slack()
        beside = _Beside(slack)
        driving = asyncio.create_task(self._drive(view, beside), name=f"drive {view.run}")
        try:
            ended = await self._watch(view, until_asked=until_asked)
            if ended.state.outcome is Outcome.VOID and ended.state.owner == self._core.owner:
                # The next plan is ours to make, and people wait for it.
                await asyncio.wait({driving}, timeout=NEW_PLAN_S)
                self.note = beside.note or await self._new_plan(ended)
            return ended
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)
            if slack is not None:
                await slack.close(timeout_s=LAST_WORDS_S)

    async def _new_plan(self, ended: RunView) -> str:
        active = await self._core.service.active(ended.cluster)
        if active is None or active.state.replaces != ended.run:
            return ""
        return f"A new plan waits for approval: consul-recovery show {active.run}, approve {active.run}"

    def _slack(self) -> SlackNotifier | None:
        """The colleagues see in Slack what is driven from here, where Slack is set up."""
        settings = self._core.settings
        if settings.slack is None:
            return None
        token, api_url = settings.slack.bot_token.reveal(), settings.slack.api_url
        return SlackNotifier(
            Talk(client_for(token=token, api_url=api_url, reads=False)),
            store=self._core.store,
            clock=self._core.clock,
            mentions=mentions_of(settings),
            channel_of=settings.channel_of,
            units=self._core.units,
            owner=self._core.owner,
        )

    async def _drive(self, view: RunView, notifier: Notifier) -> None:
        core = self._core
        supervisor = Supervisor(
            owner=core.owner,
            service=core.service,
            worlds=core.worlds,
            store=core.driving_store,
            notifier=notifier,
            clock=core.clock,
        )
        while True:
            try:
                if await supervisor.drive(view.cluster, view.run) is not None:
                    return
            except LeaseLost as taken:
                log.info("somebody else drives now", problem=str(taken))
            except JournalUnreadable:
                return  # Whoever watches it says so.
            except RecoveryError as problem:
                log.warning("the run stands still and is taken up again", problem=str(problem))
            await core.clock.sleep(LOOK_EVERY_S)

    async def _watch(self, view: RunView, *, until_asked: bool) -> RunView:
        if self._quiet or not self._console.is_terminal:
            return await self._lines(view, until_asked=until_asked)
        with Live(self._picture(view), console=self._console, transient=True, auto_refresh=False) as live:
            while not _waits(view, until_asked=until_asked):
                before, view = view, await self._next(view)
                for event in view.state.reminded[len(before.state.reminded) :]:
                    self._console.print(self._reminder(view, event), soft_wrap=True)
                live.update(self._picture(view), refresh=True)
        return view

    async def _lines(self, view: RunView, *, until_asked: bool) -> RunView:
        """Without a screen: a line for each event."""
        told = len(view.events)
        asked = question(view.state)
        while True:
            if not self._quiet and (news := view.events[told:]):
                self._print(text.events(news, view.state))
            told = len(view.events)
            if not self._quiet and question(view.state) not in {"", asked}:
                self._print("\n".join(self._question(view)))
            asked = question(view.state)
            if _waits(view, until_asked=until_asked):
                return view
            view = await self._next(view)

    def _reminder(self, view: RunView, event: Reminded) -> str:
        return text.clean(f"{utc_time(event.at_s)} {reminder(view.run, view.cluster, view.state, event)}")

    async def _next(self, view: RunView) -> RunView:
        try:
            await self._core.store.wait(
                view.cluster, view.run, length=view.state.length, timeout_s=LOOK_EVERY_S
            )
            return await self._core.service.show(view.cluster, view.run)
        except UnknownRun:
            raise RunLost(lost_text(view.cluster)) from None
        except JournalUnreadable:
            raise
        except RecoveryError as problem:
            log.warning("the run cannot be read just now", problem=str(problem))
            await self._core.clock.sleep(LOOK_EVERY_S)
            return view

    def _print(self, shown: str) -> None:
        self._console.print(printable(shown), soft_wrap=True)

    def _question(self, view: RunView) -> list[str]:
        gate = view.state.waiting_gate
        unit = self._core.units[view.cluster]
        return text.asked(view, gate) if gate is not None else text.decision(view, unit=unit)

    def _picture(self, view: RunView) -> Text:
        unit = self._core.units[view.cluster]
        return Text(printable(text.run(view, now_s=self._core.clock.now_s(), unit=unit)))


def _waits(view: RunView, *, until_asked: bool) -> bool:
    if view.state.outcome is not None:
        return True
    return until_asked and phase(view.state) in {Phase.ASKING, Phase.ASKING_AGAIN, Phase.DECISION}
