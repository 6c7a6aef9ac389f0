"""Who holds a cluster's lock and who drives: shown, taken up, and the form that takes it away."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from bot import notes
from bot.authz import Deed
from bot.notifier import SlackNotifier
from bot.payloads import Asked, PrivateUnlock
from bot.reception import Reception
from recovery.runs import RunView, UnreadableRun
from recovery.service import RecoveryService

log = structlog.get_logger()


class LockDesk:
    """What people ask about a run and the process behind it."""

    def __init__(
        self,
        service: RecoveryService,
        *,
        reception: Reception,
        notifier: SlackNotifier,
        nudge: Callable[[], None],
    ) -> None:
        self._service = service
        self._reception = reception
        self._notifier = notifier
        self._nudge = nudge

    async def show(self, asked: Asked, view: RunView | UnreadableRun) -> None:
        """A run as it stands, for everybody."""
        if not await self._reception.may_look(asked):
            return
        if isinstance(view, UnreadableRun):
            await self._reception.answer(asked, notes.shown_unreadable(view))
            return
        link = await self._notifier.link(view.cluster, view.run)
        await self._reception.answer(asked, notes.shown(view, link, self._notifier.look(view)))

    async def resume(self, asked: Asked, view: RunView) -> None:
        """Say who drives a run, and take it up where nobody does."""
        person = await self._reception.may(asked, Deed.RESUME, run=view)
        if person is None:
            return
        if view.state.outcome is not None:
            await self._reception.answer(
                asked, notes.told(f"Run {view.run} has ended ({view.state.outcome}). Nothing was done.")
            )
            return
        driver = await self._service.driver(view.cluster)
        log.info("resume", run=view.run, by=person, driver=driver.owner if driver is not None else "")
        self._nudge()
        await self._reception.answer(
            asked, notes.resumed(view, driver, await self._notifier.link(view.cluster, view.run))
        )

    async def ask_unlock(self, asked: Asked, view: RunView | UnreadableRun) -> None:
        """Open the form at once: the trigger lives three seconds. Rights are asked before and after."""
        if isinstance(view, RunView) and view.state.outcome is not None:
            await self._reception.answer(
                asked,
                notes.told(
                    f"Run {view.run} has ended ({view.state.outcome}) and holds no lock. Nothing was done."
                ),
            )
            return
        if await self._reception.may(asked, Deed.UNLOCK) is None:
            return
        locked = await self._service.holder(view.cluster)
        if locked is None or locked.run != view.run:
            await self._reception.answer(
                asked,
                notes.told(f"Run {view.run} does not hold the lock of {view.cluster}. Nothing was done."),
            )
            return
        driver = await self._service.driver(view.cluster)
        form = PrivateUnlock(view.run, notes.holder_of(view.run, driver), asked.channel, asked.response_url)
        modal = notes.unlock_modal(view, driver, private=msgspec.json.encode(form).decode())
        await self._reception.open_form(
            asked, asked.trigger_id, modal, "Nothing was unlocked; type it again."
        )
