"""The terminal's commands: who may, what is shown, what is asked. Slack is not needed for any of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TextIO, assert_never

import msgspec

from bot import screen, text
from bot.authz import Allowed, Deed, Denied, Nobody, Rules, judge_terminal, maybe_the_same, nobody_named
from bot.follow import Follower
from bot.outgoing import printable
from bot.wiring import Core
from bot.wording import Phase, phase
from recovery.errors import RecoveryError
from recovery.journal import Outcome
from recovery.model import ClusterName, Person, RunId, ServerName
from recovery.policy import DIGEST_CHARACTERS, Rejected
from recovery.procedures import readmit
from recovery.runs import RunView, UnreadableRun
from recovery.service import (
    DecisionResult,
    Done,
    HeldByUnreadable,
    Locked,
    LockTaken,
    NothingToDo,
    Planned,
    Refused,
    RunProposed,
)

OK, FAILED, USAGE, UNSEEN = 0, 1, 2, 3


class NotAllowed(RecoveryError):
    """The user of this terminal may not do that."""


class WrongUsage(RecoveryError):
    """The command line does not say what is wanted; nothing was done."""


class NoActiveRun(RecoveryError):
    """There is nothing to abort or to retry."""


class Terminal:
    """One command of one user."""

    def __init__(
        self,
        core: Core,
        *,
        rules: Rules,
        user: str | Nobody,
        as_json: bool,
        out: TextIO = sys.stdout,
        ask: Callable[[str], str] = input,
    ) -> None:
        self._core = core
        self._service = core.service
        self._rules = rules
        self._user = user
        self._as_json = as_json
        self._out = out
        self._ask = ask

    # --- looking

    async def status(self, cluster: str | None) -> int:
        """Show a cluster; 0 whatever its state, for looking worked; UNSEEN where no server was reached."""
        report = await self._service.status(self._service.resolve_cluster(cluster))
        self._show("status", report, text.status(report) + self._nobody_approves())
        return OK if any(server.reached for server in report.observation.servers) else UNSEEN

    async def plan(self, cluster: str | None, *, method: str | None, lost: tuple[str, ...]) -> int:
        """Show what would be proposed."""
        name = self._service.resolve_cluster(cluster)
        answer = await self._service.plan(name, method=method, lost=_servers(lost))
        match answer:
            case Planned(report=report, proposal=proposal):
                shown = f"{text.status(report)}\n\n{text.plan(proposal.plan, proposal.report)}"
                self._show("planned", answer, shown)
                return OK
            case NothingToDo(report=report):
                self._show("nothing to do", answer, text.status(report))
                return OK
            case Refused(report=report, refusal=refusal):
                self._show("refused", answer, f"{text.status(report)}\n\n{text.refusal(refusal)}")
                return FAILED
            case _:
                assert_never(answer)

    async def runs(self, cluster: str | None) -> int:
        """List the newest runs."""
        views = await self._service.history(self._service.resolve_cluster(cluster))
        self._show("runs", views, text.run_list(views))
        return OK

    async def show(self, run: str) -> int:
        """Show a run and its journal."""
        view = await self._service.find_any(RunId(run))
        if isinstance(view, UnreadableRun):
            self._show("unreadable", view, text.unreadable(view))
            return FAILED
        journal = text.events(view.events, view.state)
        self._show("run", view, f"{self._card(view)}\n\nJournal:\n{journal}")
        return OK

    # --- deciding

    async def readmit(self, cluster: str | None, *, server: str) -> int:
        """Propose to take a fenced server back, and stay with the run to its end."""
        return await self.recover(cluster, method=readmit.NAME, lost=(), server=ServerName(server))

    async def recover(
        self,
        cluster: str | None,
        *,
        method: str | None,
        lost: tuple[str, ...],
        server: ServerName | None = None,
    ) -> int:
        """Propose, and stay with the run to its end."""
        name = self._service.resolve_cluster(cluster)
        person = self._person(Deed.RECOVER)
        result = await self._service.propose(
            name, by=person, origin="terminal", method=method, lost=_servers(lost), server=server
        )
        match result:
            case RunProposed(view=view):
                self._show("proposed", result, self._card(view) + self._nobody_approves())
                return await self._stay(view, until_asked=False)
            case Locked(holder=holder):
                self._show(
                    "locked",
                    result,
                    f"{name} is already being recovered; nothing was started.\n\n{self._card(holder)}",
                )
                return FAILED
            case HeldByUnreadable(holder=stuck):
                said = "\n".join(text.only_unlock(stuck))
                self._show("locked", result, f"{name} is locked; nothing was started.\n\n{said}")
                return FAILED
            case NothingToDo(report=report):
                self._show("nothing to do", result, text.status(report))
                return OK
            case Refused(report=report, refusal=refusal):
                self._show("refused", result, f"{text.status(report)}\n\n{text.refusal(refusal)}")
                return FAILED
            case _:
                assert_never(result)

    async def approve(
        self, run: str, *, yes: bool, digest: str, typed: list[str], alone: str | None = None
    ) -> int:
        """Show what is asked, let the digest and the names be typed, and approve."""
        if yes and len(digest) < DIGEST_CHARACTERS:
            raise WrongUsage(
                f"--yes needs --digest with at least {DIGEST_CHARACTERS} characters of the plan's digest. "
                "Nothing was done."
            )
        if self._as_json and not yes:
            raise WrongUsage(
                "With --json nobody is asked: approve needs --yes and --digest. Nothing was done."
            )
        person = self._person(Deed.APPROVE)
        view = await self._service.find(RunId(run))
        refused = maybe_the_same(person, requested_by=view.state.requested_by, rules=self._rules)
        if refused is not None:
            raise NotAllowed(text.plain(refused.message))
        gate = view.state.waiting_gate
        if gate is None:
            raise NoActiveRun(f"Run {run} asks for no approval now ({phase(view.state)}). Nothing was done.")
        if not yes:
            self._tell(self._card(view))
            self._tell("")
            digest = digest or await self._asked(
                f"Type the first {DIGEST_CHARACTERS} characters of the digest ({view.state.digest[:12]}) to approve: "
            )
            if len(digest) < DIGEST_CHARACTERS:
                self._tell("Not approved; nothing was done.")
                return FAILED
            typed = typed or [await self._asked(text.vouch(name, view.state.plan)) for name in gate.typed]
        result = await self._service.approve(
            view.cluster,
            view.run,
            by=person,
            gate=gate.id,
            digest_prefix=digest.strip().lower(),
            typed=_servers(tuple(name.strip() for name in typed)),
            reason=(alone or "").strip(),
        )
        return await self._decided(result, stay=True)

    async def abort(self, target: str | None) -> int:
        """Stop a run."""
        view = await self._run_named(target)
        person = self._person(Deed.ABORT, run=view)
        result = await self._service.abort(view.cluster, view.run, by=person)
        return await self._decided(result, stay=True, wanted=Outcome.ABORTED)

    async def retry(self, target: str | None) -> int:
        """Try the waiting step again."""
        view = await self._run_named(target)
        person = self._person(Deed.RETRY)
        if view.state.question and not self._as_json:
            self._tell(f"Run {view.run}: {text.retried(view.state)}")
        # What was shown is what is answered: should something else wait by now, nothing is retried.
        result = await self._service.retry(view.cluster, view.run, by=person, question=view.state.question)
        return await self._decided(result, stay=True)

    async def resume(self, target: str | None) -> int:
        """Stay with a run; it is driven here where nobody else does."""
        view = await self._run_named(target)
        if view.state.outcome is not None:
            self._show(
                "rejected", view, f"Run {view.run} has ended ({view.state.outcome}). Nothing was done."
            )
            return FAILED
        self._person(Deed.RESUME, run=view)
        driver = await self._service.driver(view.cluster)
        who = f"{driver.owner} drives it" if driver is not None else "nobody drove it; it is driven from here"
        if not self._as_json:
            self._tell(f"Run {view.run}: {phase(view.state)}; {who}.")
        return await self._stay(view, until_asked=True)

    async def unlock(self, target: str | None, *, holder: str, reason: str) -> int:
        """Show whose lock it is, let the holder's name and a reason be typed, and take it away."""
        found = await self._any_run_named(target)
        person = self._person(Deed.UNLOCK)
        driver = await self._service.driver(found.cluster)
        locked = await self._service.holder(found.cluster)
        if not holder and locked is not None and locked.run == found.run:
            if self._as_json:
                raise WrongUsage(
                    "With --json nobody is asked: unlock needs --holder and --reason. Nothing was done."
                )
            self._tell(text.unlock(found, driver))
            wanted = driver.owner if driver is not None else found.run
            holder = (await self._asked(f"Type {wanted} to take the lock away: ")).strip()
            reason = reason or (await self._asked("Why? "))
        result = await self._service.unlock(found.cluster, found.run, by=person, holder=holder, reason=reason)
        match result:
            case Rejected(reason=why):
                self._show("rejected", result, why)
                return FAILED
            case LockTaken(run=run, message=message):
                next_step = f"consul-recovery recover {run.cluster} plans from the servers as they are."
                self._show("done", run, f"{message}\n\n{text.unreadable(run)}\n\n{next_step}")
            case Done(view=view, message=message):
                self._show("done", view, f"{message}\n\n{self._card(view)}")
            case _:
                assert_never(result)
        return OK

    # --- parts

    def _person(self, deed: Deed, *, run: RunView | None = None) -> Person:
        verdict = judge_terminal(self._user, deed, self._rules)
        match verdict:
            case Allowed(person=person):
                return person
            case Denied(message=message):
                own = None if isinstance(self._user, Nobody) else self._rules.terminal.get(self._user)
                if run is not None and own is not None and own == run.state.requested_by:
                    return own
                raise NotAllowed(text.plain(message))

    async def _run_named(self, target: str | None) -> RunView:
        """A run by its id, or the one that holds a cluster's lock; one that can be worked with."""
        found = await self._any_run_named(target)
        if isinstance(found, UnreadableRun):
            raise found.refusal
        return found

    async def _any_run_named(self, target: str | None) -> RunView | UnreadableRun:
        """The same, whether it can be read or not."""
        if target is not None and target not in self._service.clusters:
            return await self._service.find_any(RunId(target))
        cluster: ClusterName = self._service.resolve_cluster(target)
        found = await self._service.holder(cluster)
        if found is None:
            raise NoActiveRun(f"There is no active run of {cluster}. Nothing was done.")
        return found

    async def _decided(
        self, result: DecisionResult, *, stay: bool, wanted: Outcome = Outcome.RECOVERED
    ) -> int:
        if isinstance(result, Rejected):
            self._show("rejected", result, result.reason)
            return FAILED
        self._show("done", result.view, result.message)
        return await self._stay(result.view, until_asked=True, wanted=wanted) if stay else OK

    async def _stay(self, view: RunView, *, until_asked: bool, wanted: Outcome = Outcome.RECOVERED) -> int:
        """Follow a run, and drive it where nobody else does; Ctrl-C leaves it to the bot."""
        follower = Follower(self._core, out=self._out, quiet=self._as_json)
        try:
            ended = await follower.follow(view, until_asked=until_asked)
        except asyncio.CancelledError:
            self._show(
                "left",
                view,
                f"\nYou left run {view.run}; it is not aborted. The bot goes on with it as soon as it sees that "
                "nobody drives it. Where no bot runs, it stands still until `consul-recovery approve` or "
                f"`retry` is called, or `consul-recovery abort {view.run}`.",
            )
            raise
        self._show("run", ended, self._card(ended))
        if follower.note and not self._as_json:
            self._tell(f"\n{follower.note}")
        if ended.state.outcome is None:
            return OK if phase(ended.state) in {Phase.ASKING, Phase.ASKING_AGAIN} else FAILED
        return OK if ended.state.outcome is wanted else FAILED

    def _nobody_approves(self) -> str:
        """A line of its own where the settings leave approving to nobody; "" else."""
        if not self._rules.approve.nobody:
            return ""
        return "\n" + text.plain(nobody_named(Deed.APPROVE, self._rules.approve).message)

    def _card(self, view: RunView) -> str:
        return text.run(view, now_s=self._core.clock.now_s(), unit=self._core.units[view.cluster])

    async def _asked(self, question: str) -> str:
        try:
            return await asyncio.to_thread(self._ask, printable(question))
        except EOFError:
            return ""

    def _show(self, kind: str, value: object, shown: str) -> None:
        if self._as_json:
            screen.tell_json(self._out, msgspec.json.encode({"kind": kind, "value": value}))
        else:
            self._tell(shown)

    def _tell(self, line: str) -> None:
        screen.tell(self._out, line)


def _servers(names: tuple[str, ...]) -> tuple[ServerName, ...]:
    return tuple(ServerName(name) for name in names)
