"""Who may do what is asked from Slack, and how a person is answered."""

from __future__ import annotations

import asyncio

import structlog

from bot import authz, notes
from bot.authz import Allowed, Deed, Denied, Rules
from bot.blocks import Block, Message
from bot.directory import Directory
from bot.payloads import Asked
from bot.talk import SlackProblem, Talk
from recovery.model import Person
from recovery.runs import RunView

log = structlog.get_logger()


class Reception:
    """Where everybody who asks is let in, or told why not."""

    def __init__(self, talk: Talk, *, directory: Directory, rules: Rules) -> None:
        self._talk = talk
        self._directory = directory
        self._rules = rules

    async def answer(self, asked: Asked, message: Message) -> None:
        """Answer one person; tries the other way when one does not work, and gives up quietly."""
        try:
            if asked.response_url:
                await self._talk.respond(asked.response_url, message)
                return
        except SlackProblem as problem:
            log.warning("response_url did not work", problem=str(problem))
        try:
            await self._talk.whisper(asked.channel, asked.caller.user_id, message)
        except SlackProblem as problem:
            log.warning("the person could not be answered", user=asked.caller.user_id, problem=str(problem))

    async def may(
        self, asked: Asked, deed: Deed, *, fresh: bool = False, run: RunView | None = None
    ) -> Person | None:
        """The person, or None after they were told why not."""
        caller, rules = asked.caller, self._rules
        verdict: Allowed | Denied | None = authz.foreign(caller, rules)
        if verdict is None:
            account, membership = await asyncio.gather(
                self._directory.account(caller.user_id, fresh=fresh),
                self._directory.membership(caller.user_id, rules.grant_of(deed).groups, fresh=fresh),
            )
            own = run is not None and authz.person_of(caller, rules) == run.state.requested_by
            verdict = authz.judge(
                deed, caller, account=account, membership=membership, rules=rules, own_run=own
            )
        if isinstance(verdict, Allowed):
            return verdict.person
        log.warning("denied", user=caller.user_id, team=caller.team_id, deed=str(deed), key=asked.key)
        await self.answer(asked, notes.said(verdict.message))
        return None

    async def surely_another(self, asked: Asked, person: Person, run: RunView) -> bool:
        """Whether this approver cannot be somebody who counts already; they are told why not."""
        refused = authz.maybe_the_same(person, requested_by=run.state.requested_by, rules=self._rules)
        if refused is not None:
            log.warning("denied", user=asked.caller.user_id, deed=str(Deed.APPROVE), key=asked.key)
            await self.answer(asked, notes.said(refused.message))
        return refused is None

    async def may_look(self, asked: Asked) -> bool:
        """Everybody of our workspace may look, also while Slack cannot say who they are."""
        refused = authz.foreign(asked.caller, self._rules)
        if refused is not None:
            log.warning("denied", user=asked.caller.user_id, team=asked.caller.team_id, deed="look")
            await self.answer(asked, notes.said(refused.message))
        return refused is None

    async def open_form(self, asked: Asked, trigger_id: str, modal: Block, instead: str) -> None:
        """Open a form within 3 s of the act; ``instead`` says what was not done where that failed."""
        try:
            await self._talk.open_view(trigger_id, modal)
        except SlackProblem as problem:
            log.warning("the modal could not be opened", problem=str(problem))
            await self.answer(asked, notes.said(f"Slack did not open the form in time. {instead}"))
