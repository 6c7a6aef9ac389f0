"""A running bot leaves a mark in the store, so that the doctor can tell whether one is there.

The mark is of whichever process wrote last: that one is there is what matters, the card says who drives a run.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import structlog

from bot.wording import duration
from recovery.errors import RecoveryError, Unverified
from recovery.model import ClusterName
from recovery.ports import Clock, RunStore

MARK_EVERY_S = 10.0
GONE_AFTER_S = 60.0
_NAME = "bot"

log = structlog.get_logger()


class Mark(msgspec.Struct, frozen=True):
    """Who was there, and when."""

    owner: str
    at_s: float
    """Unix time, by that process's clock."""

    def fresh(self, now_s: float) -> bool:
        """Whether it is recent enough for a process that still runs."""
        return now_s - self.at_s < GONE_AFTER_S

    def told(self, now_s: float) -> str:
        """A sentence about it."""
        return f"{self.owner} was there {duration(max(0.0, now_s - self.at_s))} ago"


async def keep_marking(store: RunStore, clusters: Iterable[ClusterName], *, owner: str, clock: Clock) -> None:
    """Leave the mark until cancelled; a store that does not answer is asked again."""
    names = tuple(clusters)
    while True:
        mark = msgspec.json.encode(Mark(owner, clock.now_s())).decode()
        for cluster in names:
            try:
                await store.remember(cluster, _NAME, mark)
            except RecoveryError as problem:
                log.info("the mark of this process was not left", cluster=cluster, problem=str(problem))
        await clock.sleep(MARK_EVERY_S)


async def last_mark(store: RunStore, cluster: ClusterName) -> Mark | None:
    """The newest mark; None where no bot with our key was ever there. Raises StoreUnavailable."""
    try:
        text = await store.recall(cluster, _NAME)
    except Unverified:
        return None
    return None if text is None else msgspec.json.decode(text, type=Mark)
