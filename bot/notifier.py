"""Shows runs in Slack: one live card a run, an append-only thread, people called when they must decide.

Rules, because a failed post must never stop a run:
- show() only notes what is newest and returns; a task of each run does the talking, and never raises.
- Latest wins. Nothing is queued: what is shown is made from the journal at the moment of sending, and the
  card remembers (in the store) up to which event its thread has told the story.
- At most one update in two seconds, at once when people are asked or the run ends. Slack allows some 50
  updates a minute for the whole workspace (docs.slack.dev, chat.update is tier 3).
- Any process can go on: where the card is lies in the store. The process that drives a run tells of it; while
  nobody drives, whoever has news does, and each post is claimed in the store before it is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog

from bot import outgoing
from bot.blocks import Message, esc
from bot.run_card import Look, run_card
from bot.talk import Gone, NoAnswer, NotReached, SaidNo, SlackProblem, Talk, Throttled
from bot.thread import (
    Mentions,
    answered_post,
    ask_post,
    end_post,
    glass_post,
    note_post,
    question,
    remind_alone,
    remind_post,
    reminded_directly,
    thread_lines,
)
from bot.wording import Phase, phase
from recovery.errors import RecoveryError, Unverified
from recovery.journal import Event, LeaseTaken, RunState, fold
from recovery.model import ClusterName, RunId
from recovery.ports import Clock, RunStore
from recovery.runs import RunView

UPDATE_EVERY_S = 2.0
REFRESH_EVERY_S = 15.0
"""A running step's time grows on the card although nothing happened."""
PATIENCE_S = 30.0
"""Where Slack says no (not invited), it is asked again after this long."""
CLAIM_S = 20.0
"""Whoever claimed a run's card and has not said where it is by then, has died."""
CARD_WITHIN_S = 5.0
"""A run that has just begun has no card yet; whoever asks for a link to it waits this long."""
LOOK_EVERY_S = 0.1
GIVE_UP_AFTER_END_S = 86400.0
"""Slack may be away for hours: the card is redrawn when it is back. Asking costs a call in half a minute."""

log = structlog.get_logger()


class Ask(msgspec.Struct, frozen=True):
    """A post that asked something."""

    key: str
    ts: str


class Card(msgspec.Struct, frozen=True):
    """Where a run is shown, kept in the store."""

    channel: str
    ts: str
    told: int = 0
    """Events that the thread has told."""
    ask: Ask | None = None
    ended: bool = False
    """Whether the end was told."""
    note: str = ""
    """What was told that the journal cannot say."""
    glass: tuple[str, ...] = ()
    """The gates that somebody opened alone, and everybody was told."""
    reminded: int = 0
    """How many reminders were told."""


class _Track:
    """One run that is being shown."""

    def __init__(self, view: RunView) -> None:
        self.view = view
        self.news = asyncio.Event()
        self.urgent = asyncio.Event()
        self.card: Card | None = None
        self.shown: Message | None = None
        self.may_post = False
        """Whether this process claimed the card, or has found it gone."""
        self.claims: set[str] = set()
        """The posts that this process has claimed."""
        self.told_at_most = sys.maxsize
        """How many events the thread can have told, where the store was put back to an older state since."""
        self.over_since_s: float | None = None
        self.note = ""
        """What is to be told that the journal cannot say; nothing more comes after it."""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.view.state.outcome is not None or bool(self.note)


class _NotOurs(Exception):
    """Another process has just claimed this post."""


class SlackNotifier:
    """The notifier of the engine, and where the handlers have a run shown."""

    def __init__(
        self,
        talk: Talk,
        *,
        store: RunStore,
        clock: Clock,
        mentions: Mentions,
        channel_of: Callable[[ClusterName], str | None],
        units: Mapping[ClusterName, str],
        owner: str,
        update_every_s: float = UPDATE_EVERY_S,
    ) -> None:
        self._talk = talk
        self._store = store
        self._clock = clock
        self._mentions = mentions
        self._channel_of = channel_of
        self._units = units
        self._owner = owner
        self._update_every_s = update_every_s
        self._tracks: dict[RunId, _Track] = {}
        self._tasks: dict[RunId, asyncio.Task[None]] = {}

    async def show(self, cluster: ClusterName, run: RunId, state: RunState, events: Sequence[Event]) -> None:
        """Note what is newest; never waits for Slack, never raises."""
        known = run in self._tracks
        track = self._track(RunView(cluster, run, state, tuple(events)))
        if known and _not_older(state, track.view.state):
            if question(state) != question(track.view.state) or state.outcome is not None:
                track.urgent.set()
            if len(state.reminded) > len(track.view.state.reminded):
                track.urgent.set()
            if state.length < track.view.state.length:
                track.told_at_most = state.length - len(events)
            track.view = RunView(cluster, run, state, track.view.events)
        track.news.set()

    async def say(self, cluster: ClusterName, run: RunId, state: RunState, note: str) -> None:
        """Tell it on the card and in the thread; never waits for Slack, never raises."""
        track = self._track(RunView(cluster, run, state, ()))
        track.note = note
        track.urgent.set()
        track.news.set()

    async def catch_up(self, view: RunView) -> None:
        """Show a run that ended while nobody could tell it: its process died before Slack was back."""
        if view.state.outcome is None or self._clock.now_s() - view.state.ended_s > GIVE_UP_AFTER_END_S:
            return
        try:
            card = await self._recall(view.cluster, view.run)
        except RecoveryError as problem:
            log.warning("whether a run was told is not known", run=view.run, problem=str(problem))
            return
        if card is None or not card.ended:
            await self.show(view.cluster, view.run, view.state, view.events)

    def _track(self, view: RunView) -> _Track:
        track = self._tracks.get(view.run)
        if track is None:
            track = self._tracks[view.run] = _Track(view)
            self._tasks[view.run] = asyncio.create_task(self._serve(track), name=f"card of {view.run}")
        return track

    async def link(self, cluster: ClusterName, run: RunId, *, within_s: float = 0.0) -> str:
        """Mrkdwn link to a run's card, or its bare id where there is none; a card may be under way."""
        deadline_s = self._clock.monotonic_s() + within_s
        try:
            while (card := await self._recall(cluster, run)) is None:
                if self._clock.monotonic_s() >= deadline_s:
                    break
                await self._clock.sleep(LOOK_EVERY_S)
            if card is not None:
                return outgoing.link(await self._talk.permalink(card.channel, card.ts), esc(run))
        except (RecoveryError, SlackProblem) as problem:
            log.info("no link to a card", run=run, problem=str(problem))
        return f"*{esc(run)}*"

    async def close(self, *, timeout_s: float) -> None:
        """Say what is still to be said, then stop."""
        for track in self._tracks.values():
            track.urgent.set()
            track.news.set()
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()), timeout=timeout_s)
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    # --- one run

    async def _serve(self, track: _Track) -> None:
        bound = log.bind(run=track.view.run, cluster=track.view.cluster)
        failures = 0
        while True:
            await self._news(track)
            wait_s = self._update_every_s
            cut_short = True
            try:
                view = await self._newest(track)
                if view.state.outcome is None and view.state.owner not in {"", self._owner}:
                    # Its driver has seen it in the journal and tells it.
                    break
                await self._tell(track, view)
                failures = 0
                if track.over and not track.news.is_set():
                    break
            except asyncio.CancelledError:
                raise
            except Exception as problem:  # noqa: BLE001 - nothing in a card may stop a recovery
                track.news.set()
                failures += 1
                wait_s, cut_short = self._after(problem, track, failures)
                (bound.info if isinstance(problem, _NotOurs) else bound.warning)(
                    "the run could not be shown; it goes on all the same",
                    problem=f"{type(problem).__name__}: {problem}",
                    # Only a fault of ours has a trace worth reading.
                    exc_info=not isinstance(problem, SlackProblem | RecoveryError | _NotOurs),
                )
                if self._gave_up(track):
                    break
            await self._pause(track, wait_s, cut_short=cut_short)
        self._tracks.pop(track.view.run, None)
        self._tasks.pop(track.view.run, None)

    async def _news(self, track: _Track) -> None:
        running = phase(track.view.state) is Phase.RUNNING and not track.over
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_EVERY_S if running else None):
                await track.news.wait()
        track.news.clear()
        track.urgent.clear()

    def _after(self, problem: Exception, track: _Track, failures: int) -> tuple[float, bool]:
        """How long to wait, and whether something urgent may cut that short."""
        match problem:
            case Throttled(wait_s=wait_s):
                return wait_s, False
            case Gone():
                track.card, track.shown, track.may_post = None, None, True
                return 0.0, False
            case SaidNo():
                return PATIENCE_S, True
            case _NotOurs():
                return self._update_every_s, False
            case _:
                return min(PATIENCE_S, self._update_every_s * failures), False

    def _gave_up(self, track: _Track) -> bool:
        if not track.over:
            return False
        now_s = self._clock.monotonic_s()
        track.over_since_s = track.over_since_s if track.over_since_s is not None else now_s
        return now_s - track.over_since_s > GIVE_UP_AFTER_END_S

    async def _pause(self, track: _Track, wait_s: float, *, cut_short: bool) -> None:
        if not cut_short:
            await asyncio.sleep(wait_s)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await track.urgent.wait()

    async def _tell(self, track: _Track, view: RunView) -> None:
        """Bring the card, the thread and the calls up to date."""
        card = await self._show_card(track, view)
        card = await self._tell_thread(track, view, card)
        card = await self._tell_glass(track, view, card)
        card = await self._ask(track, view, card)
        card = await self._remind(track, view, card)
        if track.note and card.note != track.note:
            await self._claim(track, "note")
            noted = msgspec.structs.replace(card, note=track.note)
            message = note_post(view, track.note, self._mentions)
            card = await self._post_once(track, card, noted, message, run=view.run)
        if view.state.outcome is not None and not card.ended:
            await self._claim(track, "end")
            ended = msgspec.structs.replace(card, ended=True)
            message = end_post(view, self._mentions)
            await self._post_once(track, card, ended, message, broadcast=True, run=view.run)

    async def _post_once(
        self,
        track: _Track,
        card: Card,
        posted: Card,
        message: Message,
        *,
        broadcast: bool = False,
        run: str = "",
    ) -> Card:
        """Post to the thread what must not be there twice.

        Noted first: a line that is missing is better than one that is there twice after a lost answer. Where it
        is certain that nothing was posted, the note is taken back.
        """
        await self._keep(track, posted)
        try:
            await self._talk.post(card.channel, message, thread_ts=card.ts, broadcast=broadcast, run=run)
        except (Throttled, SaidNo, NotReached):
            await self._keep(track, card)
            raise
        return posted

    async def _newest(self, track: _Track) -> RunView:
        """The run as the store has it, or as the driver last said where the store does not answer."""
        known = track.view
        try:
            events = await self._store.events(known.cluster, known.run)
            state = fold(events) if events else known.state
        except RecoveryError as error:
            log.info("the journal cannot be read for the card", run=known.run, problem=str(error))
            return known
        if events and _not_older(state, known.state):
            if state.length < known.state.length:
                track.told_at_most = _gone_on_at(events, known.state.epoch)
            track.view = RunView(known.cluster, known.run, state, events)
        if track.card is not None and track.told_at_most < track.card.told:
            # The card is where it was, also for an old dump of the store; the thread tells what came after it.
            await self._keep(track, msgspec.structs.replace(track.card, told=track.told_at_most))
        track.told_at_most = sys.maxsize
        return track.view

    async def _show_card(self, track: _Track, view: RunView) -> Card:
        card = track.card
        if card is None and not track.may_post:
            card = await self._recall(view.cluster, view.run)
        note = track.note or (card.note if card is not None else "")
        message = run_card(view, msgspec.structs.replace(self.look(view), note=note))
        if card is None:
            return await self._post_card(track, view, message)
        track.card = card
        if message != track.shown:
            await self._talk.update(card.channel, card.ts, message)
            track.shown = message
        return card

    async def _post_card(self, track: _Track, view: RunView, message: Message) -> Card:
        channel = self._channel(view)
        if channel is None:
            raise SaidNo("no channel: name one for the cluster in the settings")
        if not track.may_post and not await self._store.once(f"card:{view.run}", ttl_s=CLAIM_S):
            raise _NotOurs
        track.may_post = True
        where, ts = await self._talk.post(channel, message, run=view.run)
        track.shown, track.may_post = message, False
        card = Card(where, ts)
        await self._keep(track, card)
        if view.state.replaces:
            await self._point_here(view)
        return card

    def _channel(self, view: RunView) -> str | None:
        """The cluster's channel, or the one where it was asked for."""
        asked = view.state.origin if view.state.origin[:1] in {"C", "G", "D"} else None
        return self._channel_of(view.cluster) or asked

    async def _point_here(self, view: RunView) -> None:
        """Put the link to this run on the card of the one it replaces."""
        old = RunId(view.state.replaces)
        try:
            card = await self._recall(view.cluster, old)
            events = await self._store.events(view.cluster, old)
            if card is None or not events:
                return
            old_view = RunView(view.cluster, old, fold(events), events)
            look = msgspec.structs.replace(
                self.look(old_view), next_run=await self.link(view.cluster, view.run)
            )
            await self._talk.update(card.channel, card.ts, run_card(old_view, look))
        except (RecoveryError, SlackProblem) as problem:
            log.warning("the old card has no link to the new plan", run=old, problem=str(problem))

    async def _tell_thread(self, track: _Track, view: RunView, card: Card) -> Card:
        news = view.events[card.told :]
        if len(view.events) < view.state.length or not news:
            # The driver's word without the journal: the card shows it, the thread waits for the journal.
            return card
        await self._claim(track, f"thread:{card.told}")
        message = thread_lines(news, view.state)
        told = msgspec.structs.replace(card, told=len(view.events))
        if message is None:
            return await self._keep(track, told)
        return await self._post_once(track, card, told, message)

    async def _tell_glass(self, track: _Track, view: RunView, card: Card) -> Card:
        for approval in view.state.approvals:
            if approval.reason and approval.gate not in card.glass:
                await self._claim(track, f"glass:{approval.gate}")
                told = msgspec.structs.replace(card, glass=(*card.glass, approval.gate))
                message = glass_post(view, approval, self._mentions)
                try:
                    card = await self._post_once(track, card, told, message, broadcast=True, run=view.run)
                except NoAnswer:
                    # Of all posts this one may rather be there twice than not at all.
                    await self._keep(track, card)
                    raise
        return card

    async def _remind(self, track: _Track, view: RunView, card: Card) -> Card:
        """Call people once more, in the channel and each one alone; only the newest reminder, only while it is true."""
        known = len(view.state.reminded)
        if card.reminded >= known:
            return card
        told = msgspec.structs.replace(card, reminded=known)
        gate = view.state.waiting_gate
        if track.over or gate is None or gate.id != view.state.reminded[-1].gate:
            return await self._keep(track, told)
        await self._claim(track, f"remind:{known}")
        event = view.state.reminded[-1]
        link = await self.link(view.cluster, view.run)
        message = remind_post(view, event, self._mentions, link)
        try:
            return await self._post_once(track, card, told, message, broadcast=True, run=view.run)
        finally:
            # Where the channel was told, or may have been; who cannot be written to alone holds up nobody.
            if track.card is not None and track.card.reminded == known:
                for user in reminded_directly(view, gate, self._mentions):
                    with contextlib.suppress(SlackProblem):
                        await self._talk.post(user, remind_alone(view, event, link))

    async def _ask(self, track: _Track, view: RunView, card: Card) -> Card:
        key = "" if track.over else question(view.state)
        if card.ask is not None and card.ask.key != key:
            with contextlib.suppress(Gone):
                await self._talk.update(card.channel, card.ask.ts, answered_post(view, card.ask.key))
            card = await self._keep(track, msgspec.structs.replace(card, ask=None))
        if key and card.ask is None:
            await self._claim(track, f"ask:{key}")
            _, ts = await self._talk.post(
                card.channel, ask_post(view, self._mentions), thread_ts=card.ts, run=view.run
            )
            card = await self._keep(track, msgspec.structs.replace(card, ask=Ask(key, ts)))
        return card

    def look(self, view: RunView) -> Look:
        """What a card of this run needs beside it."""
        return Look(now_s=self._clock.now_s(), unit=self._units.get(view.cluster, "consul"))

    async def _claim(self, track: _Track, post: str) -> None:
        """Make sure that no other process makes the same post; raises _NotOurs.

        The store remembers a claim for CLAIM_S only: should its process die before it has said that the post
        is made, another one makes it.
        """
        if post in track.claims:
            return
        try:
            first = await self._store.once(f"post:{track.view.run}:{post}", ttl_s=CLAIM_S)
        except RecoveryError as error:
            # Better told twice than not at all: people may be asked something.
            log.info("a post could not be claimed", run=track.view.run, problem=str(error))
            return
        if not first:
            track.card = None
            raise _NotOurs
        track.claims.add(post)

    # --- where the card is

    async def _recall(self, cluster: ClusterName, run: RunId) -> Card | None:
        try:
            text = await self._store.recall(cluster, f"card:{run}")
        except Unverified as problem:
            # Nobody but us says where we write.
            log.warning("where the card is, is not known", run=run, problem=str(problem))
            return None
        return None if text is None else msgspec.json.decode(text, type=Card)

    async def _keep(self, track: _Track, card: Card) -> Card:
        track.card = card
        try:
            await self._store.remember(
                track.view.cluster, f"card:{track.view.run}", msgspec.json.encode(card).decode()
            )
        except RecoveryError as error:
            log.warning("where the card is could not be kept", run=track.view.run, problem=str(error))
        return card


def _gone_on_at(events: Sequence[Event], epoch: int) -> int:
    """How many events stand before the first one of a driver above this epoch."""
    above = (n for n, event in enumerate(events) if isinstance(event, LeaseTaken) and event.epoch > epoch)
    return next(above, len(events))


def _not_older(state: RunState, known: RunState) -> bool:
    """A higher epoch is newer, however short: a driver went on from an old dump of the store."""
    return (state.epoch, state.length) >= (known.epoch, known.length)
