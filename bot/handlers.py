"""What the bot does when Slack tells it something: ack first, always, then hand over.

Slack gives three seconds. What is done before the ack is parsing, nothing
else: no store, no Slack, no host. What comes behind it is bounded, for all and for
each person; where there is no place, that is the answer. The ack is awaited alone, because bolt loses
it when the listener raises right after it (slack-bolt 1.30,
AsyncioListenerRunner), and a listener whose ack came too late runs on to its
end while the person sees a failure: so everything behind it happens once
(RunStore.once) and only where the run's state allows it (recovery.policy).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, assert_never

import msgspec
import structlog

from bot import commands, notes
from bot.answers import later_answers
from bot.authz import Deed, Rules
from bot.buttons import (
    ABORT,
    AGAIN,
    APPROVE,
    APPROVE_TYPED,
    REASON_BLOCK,
    RECOVER,
    REFRESH,
    RETRY,
    TYPED_MODAL,
    UNLOCK_MODAL,
    Press,
    read_value,
)
from bot.commands import (
    Abort,
    Command,
    Help,
    Readmit,
    Recover,
    Reply,
    Resume,
    Retry,
    Runs,
    Show,
    Status,
    Unlock,
)
from bot.directory import Directory
from bot.lock_desk import LockDesk
from bot.notifier import CARD_WITHIN_S, SlackNotifier
from bot.payloads import (
    Asked,
    Json,
    Private,
    PrivateUnlock,
    asked_by_click,
    asked_by_command,
    caller_of,
    read_private,
    read_unlock,
)
from bot.reception import Reception
from bot.registry import TaskRegistry
from bot.run_card import unlocked_line
from bot.status_card import status_card
from bot.talk import NOT_INVITED, SaidNo, SlackProblem, Talk
from recovery.errors import RecoveryError
from recovery.model import ClusterName, Person, RunId, ServerName
from recovery.policy import Rejected
from recovery.ports import Clock, RunStore
from recovery.procedures import readmit
from recovery.runs import RunView, UnreadableRun
from recovery.service import (
    DecisionResult,
    HeldByUnreadable,
    Locked,
    LockTaken,
    NothingToDo,
    ProposeResult,
    RecoveryService,
    Refused,
    RunProposed,
    UnknownCluster,
)

Ack = Callable[..., Awaitable[Any]]

REPEAT_S = 600.0
"""Slack repeats payloads within five minutes (Events API: at once, after 1 and 5 minutes)."""

log = structlog.get_logger()


class Handlers:
    """One method a kind of payload; all state is in the store."""

    def __init__(
        self,
        *,
        service: RecoveryService,
        store: RunStore,
        talk: Talk,
        directory: Directory,
        rules: Rules,
        notifier: SlackNotifier,
        tasks: TaskRegistry,
        clock: Clock,
        nudge: Callable[[], None],
    ) -> None:
        self._service = service
        self._store = store
        self._talk = talk
        self._reception = Reception(talk, directory=directory, rules=rules)
        self._lock = LockDesk(service, reception=self._reception, notifier=notifier, nudge=nudge)
        self._notifier = notifier
        self._tasks = tasks
        self._clock = clock
        self._nudge = nudge

    # --- what Slack sends; everything before `ack` is pure

    async def on_command(self, ack: Ack, body: Json) -> None:
        """A slash command."""
        parsed = commands.parse(str(body.get("text") or ""), name=str(body.get("command") or commands.NAME))
        asked = asked_by_command(body)
        if isinstance(parsed, Help):
            await ack(text=notes.helped())
            return
        if isinstance(parsed, Reply):
            await ack(text=parsed.text)
            return
        try:
            first = self._first_words(parsed)
        except UnknownCluster as unknown:
            await ack(text=str(unknown))
            return
        # The answer to the command itself can say it: nothing more is sent.
        if busy := self._tasks.full(asked.caller.user_id):
            await ack(text=busy)
            return
        await ack(text=first)
        self._hand_over(asked, lambda: self._command(asked, parsed), name=type(parsed).__name__)

    async def on_button(self, ack: Ack, body: Json) -> None:
        """A button of ours, or an unknown one."""
        action = (body.get("actions") or [{}])[0]
        await ack()
        asked = asked_by_click(body, action)
        name, value = str(action.get("action_id") or ""), str(action.get("value") or "")
        self._hand_over(asked, lambda: self._button(asked, name, value, body), name=name[:40])

    async def on_submission(self, ack: Ack, body: Json) -> None:
        """A modal was submitted; wrong names are shown in it."""
        view = body.get("view") or {}
        private = read_private(str(view.get("private_metadata") or ""))
        if view.get("callback_id") == UNLOCK_MODAL:
            await self._on_unlock(ack, body)
            return
        if view.get("callback_id") != TYPED_MODAL or private is None:
            await ack()
            return
        typed = typed_in(view)
        errors = self._no_place(view, body) or notes.typing_errors(
            private.press.typed, typed, alone=private.alone
        )
        if errors:
            await ack(response_action="errors", errors=errors)
            return
        await ack()
        asked = Asked(
            caller=caller_of(body),
            channel=private.channel,
            response_url=private.response_url,
            key=f"view:{view.get('id')}:{caller_of(body).user_id}",
        )
        self._hand_over(
            asked,
            lambda: self._approve(
                asked,
                private.press,
                typed=private.press.typed,
                reason=typed[REASON_BLOCK].strip() if private.alone else "",
            ),
            name="approve typed",
        )

    async def _on_unlock(self, ack: Ack, body: Json) -> None:
        view = body.get("view") or {}
        form = read_unlock(str(view.get("private_metadata") or ""))
        if form is None:
            await ack()
            return
        typed = typed_in(view)
        errors = self._no_place(view, body) or notes.unlock_errors(form.holder, typed)
        if errors:
            await ack(response_action="errors", errors=errors)
            return
        await ack()
        asked = Asked(
            caller=caller_of(body),
            channel=form.channel,
            response_url=form.response_url,
            key=f"view:{view.get('id')}:{caller_of(body).user_id}",
        )
        self._hand_over(asked, lambda: self._unlock(asked, form, typed[REASON_BLOCK]), name="unlock")

    async def on_closed(self, ack: Ack) -> None:
        """A modal was closed."""
        await ack()

    def _no_place(self, view: Json, body: Json) -> dict[str, str]:
        """The form says that it was not taken, and stays open: what was typed is not lost."""
        busy = self._tasks.full(caller_of(body).user_id)
        return dict.fromkeys(list(typed_in(view))[:1], busy) if busy else {}

    def _first_words(self, command: Command) -> str:
        match command:
            case Status(cluster=cluster):
                return f"Looking at {self._service.resolve_cluster(cluster)}…"
            case Recover(cluster=cluster):
                name = self._service.resolve_cluster(cluster)
                return f"Looking at {name}, then I propose a plan. Nothing is changed before it is approved…"
            case Runs(cluster=cluster):
                return f"Looking for runs of {self._service.resolve_cluster(cluster)}…"
            case Readmit(cluster=cluster, server=server):
                name = self._service.resolve_cluster(cluster)
                return f"Looking at {name} for a way back for {server}. Nothing is changed before it is approved…"
            case Abort():
                return "Aborting…"
            case Resume():
                return "Looking who drives it…"
            case Unlock():
                return "Looking who holds the lock; a form opens…"
            case Show():
                return "Looking for the run…"
            case Retry():
                return "Retrying…"
            case Help():
                return notes.helped()
            case _:
                assert_never(command)

    # --- handing over

    def _hand_over(self, asked: Asked, work: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> None:
        who = asked.caller.user_id
        if busy := self._tasks.full(who):
            log.warning("too many requests are under way; this one was not taken", user=who, name=name)
            self._tasks.refuse(self._reception.answer(asked, notes.said(busy)), name=f"no place: {name}")
            return
        self._tasks.spawn(self._guarded(asked, work), name=name, who=who)

    async def _guarded(self, asked: Asked, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run it once; whatever goes wrong is told to the person who asked."""
        bound = log.bind(user=asked.caller.user_id, team=asked.caller.team_id, channel=asked.channel)
        try:
            if not await self._first_time(asked):
                bound.info("the same payload again, nothing is done", key=asked.key)
                return
            await work()
        except RecoveryError as problem:
            bound.warning("could not be done", problem=str(problem))
            await self._reception.answer(asked, notes.told(str(problem)))
        except SlackProblem as problem:
            bound.warning("slack did not take the answer", problem=str(problem))
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - it is told to the person and logged with its trace
            error_id = secrets.token_hex(4)
            bound.exception("a handler failed", error_id=error_id)
            await self._reception.answer(asked, notes.broken(error_id))

    async def _first_time(self, asked: Asked) -> bool:
        try:
            return await self._store.once(f"slack:{asked.key}", ttl_s=REPEAT_S)
        except RecoveryError as problem:
            # Without a store nothing but looking works anyway, and looking twice does no harm.
            log.warning("repeated payloads cannot be told", problem=str(problem))
            return True

    # --- the commands

    async def _command(self, asked: Asked, command: Command) -> None:
        match command:
            case Status(cluster=cluster):
                await self._status(asked, self._service.resolve_cluster(cluster))
            case Recover(cluster=cluster, method=method, lost=lost):
                await self._recover(asked, self._service.resolve_cluster(cluster), method, lost)
            case Readmit(cluster=cluster, server=server):
                await self._recover(
                    asked, self._service.resolve_cluster(cluster), readmit.NAME, (), server=ServerName(server)
                )
            case Resume(target=target):
                await self._lock.resume(asked, await self._run_named(target))
            case Unlock(target=target):
                await self._lock.ask_unlock(asked, await self._any_run_named(target))
            case Show(target=target):
                await self._lock.show(asked, await self._any_run_named(target))
            case Runs(cluster=cluster):
                await self._runs(asked, self._service.resolve_cluster(cluster))
            case Abort(target=target):
                view = await self._run_named(target)
                await self._abort(asked, view)
            case Retry(target=target):
                view = await self._run_named(target)
                await self._retry(asked, view)
            case Help():
                await self._reception.answer(asked, notes.said(notes.helped()))
            case _:
                assert_never(command)

    async def _run_named(self, target: str | None) -> RunView:
        """A run by its id, or the active one of a cluster, or of the only cluster; one that can be worked with."""
        found = await self._any_run_named(target)
        if isinstance(found, UnreadableRun):
            raise found.refusal
        return found

    async def _any_run_named(self, target: str | None) -> RunView | UnreadableRun:
        """The same, whether it can be read or not."""
        if target is not None and target not in self._service.clusters:
            return await self._service.find_any(RunId(target))
        cluster = self._service.resolve_cluster(target)
        found = await self._service.holder(cluster)
        if found is None:
            raise NoActiveRun(f"There is no active run of {cluster}. Nothing was done.")
        return found

    async def _status(self, asked: Asked, cluster: ClusterName) -> None:
        if not await self._reception.may_look(asked):
            return
        message = status_card(await self._service.status(cluster))
        try:
            await self._talk.post(asked.channel, message)
        except SaidNo as refusal:
            if refusal.error not in NOT_INVITED:
                raise
            await self._reception.answer(asked, notes.not_invited(message))

    async def _recover(
        self,
        asked: Asked,
        cluster: ClusterName,
        method: str | None,
        lost: tuple[str, ...],
        *,
        server: ServerName | None = None,
    ) -> None:
        person = await self._reception.may(asked, Deed.RECOVER)
        if person is None:
            return
        result = await self._service.propose(
            cluster,
            by=person,
            origin=asked.channel,
            method=method,
            lost=tuple(ServerName(name) for name in lost),
            server=server,
        )
        await self._proposed(asked, cluster, result, by=person)

    async def _again(self, asked: Asked, view: RunView) -> None:
        """Plan anew what a run was about that came to nothing."""
        person = await self._reception.may(asked, Deed.RECOVER)
        if person is None:
            return
        if view.state.outcome is None:
            await self._reception.answer(asked, notes.said(notes.OLD_BUTTON))
            return
        result = await self._service.propose_again(view, by=person, origin=asked.channel)
        await self._proposed(asked, view.cluster, result, by=person)

    async def _proposed(
        self, asked: Asked, cluster: ClusterName, result: ProposeResult, *, by: Person
    ) -> None:
        match result:
            case RunProposed(view=view):
                log.info("proposed", run=view.run, cluster=cluster, by=by, user=asked.caller.user_id)
                await self._notifier.show(cluster, view.run, view.state, view.events)
                self._nudge()
            case Locked(holder=holder):
                link = await self._notifier.link(cluster, holder.run, within_s=CARD_WITHIN_S)
                await self._reception.answer(asked, notes.locked(holder, link, now_s=self._clock.now_s()))
            case HeldByUnreadable(holder=stuck):
                await self._reception.answer(asked, notes.held_by_unreadable(stuck))
            case NothingToDo(report=report):
                await self._reception.answer(asked, notes.nothing_to_do(report))
            case Refused():
                await self._reception.answer(asked, notes.refused(result))
            case _:
                assert_never(result)

    async def _runs(self, asked: Asked, cluster: ClusterName) -> None:
        if not await self._reception.may_look(asked):
            return
        views = await self._service.history(cluster, limit=10)
        links = await asyncio.gather(*(self._notifier.link(cluster, view.run) for view in views))
        await self._reception.answer(asked, notes.runs(cluster, zip(views, links, strict=True)))

    async def _unlock(self, asked: Asked, form: PrivateUnlock, reason: str) -> None:
        person = await self._reception.may(asked, Deed.UNLOCK, fresh=True)
        if person is None:
            return
        found = await self._service.find_any(form.run)
        # What was typed is what the form named. Should somebody drive it by now, the service refuses it.
        result = await self._service.unlock(
            found.cluster, found.run, by=person, holder=form.holder, reason=reason
        )
        if isinstance(result, LockTaken):
            log.info("unlocked", run=found.run, by=person, user=asked.caller.user_id)
            if result.run.state is not None and result.run.unlocked is not None:
                told = unlocked_line(result.run.unlocked)
                await self._notifier.say(found.cluster, found.run, result.run.state, told)
            await self._reception.answer(asked, notes.lock_taken(result))
            self._nudge()
            return
        await self._decided(asked, result, "unlocked", by=person)

    # --- the buttons

    async def _button(self, asked: Asked, name: str, value: str, body: Json) -> None:
        if name in {REFRESH, RECOVER}:
            cluster = self._service.resolve_cluster(value)
            if name == REFRESH:
                await self._refresh(asked, cluster, body)
            else:
                await self._recover(asked, cluster, None, ())
            return
        if name == AGAIN:
            await self._again(asked, await self._service.find(RunId(value)))
            return
        press = read_value(value)
        if press is None or name not in {APPROVE, APPROVE_TYPED, ABORT, RETRY}:
            await self._reception.answer(asked, notes.said(notes.OLD_BUTTON))
            return
        if name == APPROVE:
            await self._approve(asked, press)
        elif name == APPROVE_TYPED:
            await self._ask_names(asked, press)
        elif name == ABORT:
            await self._abort(asked, await self._service.find(press.run))
        elif "@" in press.what:
            await self._retry(asked, await self._service.find(press.run), question=press.what)
        else:
            # Written by an earlier version of the bot: it does not say which attempt its reader saw.
            await self._reception.answer(asked, notes.said(notes.OLD_BUTTON))

    async def _refresh(self, asked: Asked, cluster: ClusterName, body: Json) -> None:
        if not await self._reception.may_look(asked):
            return
        container = body.get("container") or {}
        message = status_card(await self._service.status(cluster))
        try:
            await self._talk.update(asked.channel, str(container.get("message_ts") or ""), message)
        except SlackProblem:
            # An ephemeral one, or one that is gone.
            await self._reception.answer(asked, message)

    async def _ask_names(self, asked: Asked, press: Press) -> None:
        """Open the modal at once: the trigger lives three seconds. Rights are asked before and after."""
        person = await self._reception.may(asked, Deed.APPROVE)
        if person is None:
            return
        view = await self._service.find(press.run)
        await self._open_approval(asked, press, view, alone=breaks_glass(view, press, person))

    async def _open_approval(self, asked: Asked, press: Press, view: RunView, *, alone: bool) -> None:
        private = Private(press, asked.channel, asked.response_url, alone=alone)
        gate = view.state.gate(press.what)
        form = notes.typed_modal(
            press,
            view.state.plan,
            private=msgspec.json.encode(private).decode(),
            alone=alone,
            later=later_answers(view.state, gate) if gate is not None else "",
        )
        await self._reception.open_form(asked, asked.trigger_id, form, "Nothing was approved; click again.")

    async def _approve(
        self, asked: Asked, press: Press, *, typed: tuple[ServerName, ...] = (), reason: str = ""
    ) -> None:
        # Asked afresh: whoever left the group a minute ago must not approve.
        person = await self._reception.may(asked, Deed.APPROVE, fresh=True)
        if person is None:
            return
        view = await self._service.find(press.run)
        if not await self._reception.surely_another(asked, person, view):
            return
        if not reason and asked.trigger_id and breaks_glass(view, press, person):
            await self._open_approval(asked, press, view, alone=True)
            return
        result = await self._service.approve(
            view.cluster,
            view.run,
            by=person,
            gate=press.what,
            digest_prefix=press.digest_prefix,
            typed=typed,
            reason=reason,
        )
        await self._decided(asked, result, f"approved {press.what}", by=person)

    async def _abort(self, asked: Asked, view: RunView) -> None:
        person = await self._reception.may(asked, Deed.ABORT, fresh=True, run=view)
        if person is None:
            return
        result = await self._service.abort(view.cluster, view.run, by=person)
        await self._decided(asked, result, "aborted", by=person)

    async def _retry(self, asked: Asked, view: RunView, *, question: str = "") -> None:
        person = await self._reception.may(asked, Deed.RETRY, fresh=True, run=view)
        if person is None:
            return
        result = await self._service.retry(view.cluster, view.run, by=person, question=question)
        await self._decided(asked, result, "retry chosen", by=person)

    async def _decided(self, asked: Asked, result: DecisionResult, what: str, *, by: Person) -> None:
        if isinstance(result, Rejected):
            log.warning("a decision did not count", wanted=what, by=by, reason=result.reason)
            await self._reception.answer(asked, notes.told(result.reason))
            return
        view = result.view
        log.info(what, run=view.run, by=by, user=asked.caller.user_id)
        await self._notifier.show(view.cluster, view.run, view.state, view.events)
        self._nudge()


def breaks_glass(view: RunView, press: Press, person: Person) -> bool:
    """Whether this click would be the requester's own approval, which counts only with a reason."""
    gate = view.state.waiting_gate
    return (
        gate is not None
        and gate.id == press.what
        and gate.break_glass
        and not gate.requester_counts
        and person == view.state.requested_by
    )


def typed_in(view: Json) -> dict[str, str]:
    """What was typed into a modal, by block id."""
    values = (view.get("state") or {}).get("values") or {}
    return {
        str(block): str((fields.get("typed") or {}).get("value") or "") for block, fields in values.items()
    }


class NoActiveRun(RecoveryError):
    """There is nothing to abort or to retry."""
