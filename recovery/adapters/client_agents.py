"""Where a cluster's client agents are known from, asked together: settings, inventory, gossip now and before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from recovery.adapters.ansible_inventory import AnsibleInventory
from recovery.errors import RecoveryError
from recovery.inventory.groups import Selection
from recovery.membership import NOBODY, Membership, client_agents, listed
from recovery.model import ClientAgent, ServerObservation, ServerSpec

Recall = Callable[[], Awaitable[Membership]]
"""Give the last known membership; raises StoreUnavailable."""


class Found(NamedTuple):
    """Client agents, and why some of them may be missing ("" if nothing went wrong)."""

    clients: tuple[ClientAgent, ...]
    problem: str


class ClientAgents:
    """One cluster's client agents. What one source cannot tell is said, and the others still count."""

    def __init__(
        self,
        servers: Sequence[ServerSpec],
        *,
        settings: Sequence[ClientAgent] = (),
        inventory: AnsibleInventory | None = None,
        recall: Recall | None = None,
    ) -> None:
        """Make it; without ``recall`` there is no last known membership."""
        self._servers = servers
        self._settings = settings
        self._inventory = inventory
        self._recall = recall

    async def find(self, seen: Sequence[ServerObservation], *, at_s: float) -> Found:
        """Merge the sources as they are now; `seen` is what the servers show at this moment."""
        problems: list[str] = []
        selection, before = Selection(()), NOBODY
        if self._inventory is not None:
            try:
                selection = await self._inventory.read()
            except RecoveryError as fault:
                problems.append(str(fault))
        if selection.left_out:
            problems.append(f"The inventory leaves out {'; '.join(selection.left_out)}.")
        try:
            before = NOBODY if self._recall is None else await self._recall()
        except RecoveryError as fault:
            problems.append(f"The last known membership is not at hand. {fault}")
        clients = client_agents(
            servers=self._servers,
            settings=self._settings,
            inventory=selection.hosts,
            inventory_name=self._inventory.name if self._inventory is not None else "",
            now=listed(seen),
            before=before,
            at_s=at_s,
        )
        return Found(clients, " ".join(problems))
