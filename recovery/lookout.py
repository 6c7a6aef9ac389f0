"""The bot's own quiet looks: so that the members of a cluster are known when it can no longer be asked.

A cluster is healthy only before the disaster, and nobody asks for the status of
a healthy one. Nothing is shown to anybody.
"""

from __future__ import annotations

from typing import Final

import structlog

from recovery.errors import RecoveryError
from recovery.model import ClusterName
from recovery.ports import Clock, RunStore
from recovery.service import RecoveryService

log = structlog.get_logger()

_SHARE: Final = 0.9
"""Of the interval: the marker must be gone when the next look is due."""


class Lookout:
    """Looks at every cluster now and then; of several replicas, one."""

    def __init__(self, *, service: RecoveryService, store: RunStore, clock: Clock, every_s: float) -> None:
        self._service = service
        self._store = store
        self._clock = clock
        self._every_s = every_s

    async def serve(self) -> None:
        """Look until cancelled; what goes wrong is logged, and looked for again."""
        while True:
            for cluster in self._service.clusters:
                try:
                    await self.look(cluster)
                except RecoveryError as error:
                    log.warning("the members were not looked at", cluster=cluster, problem=str(error))
            await self._clock.sleep(self._every_s)

    async def look(self, cluster: ClusterName) -> None:
        """Look once, unless another replica has just done so; looking is what makes the service remember."""
        if not await self._store.once(f"lookout:{cluster}", ttl_s=self._every_s * _SHARE):
            return
        report = await self._service.status(cluster)
        if report.store_problem:
            log.warning("the members were not remembered", cluster=cluster, problem=report.store_problem)
        if report.observation.clients_problem:
            log.warning(
                "client agents may be missing", cluster=cluster, problem=report.observation.clients_problem
            )
