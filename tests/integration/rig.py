"""The bot's own composition over a lab, without Slack: real settings, SSH, Redis, engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bot.wiring import Core, open_core
from config.settings import load_settings
from lab.bot_settings import write_settings
from lab.datacentre import Lab
from recovery.engine import drive_run
from recovery.journal import Event, RunState
from recovery.model import ClusterName, Person, RunId, ServerName
from recovery.ports import LeaseHeld
from recovery.service import ProposeResult, RunProposed, StatusReport

ALICE, BOB = Person("alice"), Person("bob")


@dataclass
class Journal:
    """Keeps what a notifier is told."""

    events: list[Event] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    async def show(self, cluster: ClusterName, run: RunId, state: RunState, events: Sequence[Event]) -> None:
        del cluster, run, state
        self.events += events

    async def say(self, cluster: ClusterName, run: RunId, state: RunState, note: str) -> None:
        del cluster, run, state
        self.notes.append(note)


@dataclass
class Rig:
    """One cluster of the lab as the bot sees it."""

    lab: Lab
    core: Core
    cluster: ClusterName
    before_approval: Callable[[RunState], object] = lambda _state: None
    """Called before Bob approves, with the run as it waits; for what happens meanwhile on the hosts."""
    journal: Journal = field(default_factory=Journal)

    async def status(self, *, lost: tuple[str, ...] = ()) -> StatusReport:
        """What `/consul status` sees."""
        return await self.core.service.status(self.cluster, lost=tuple(ServerName(name) for name in lost))

    async def propose(self, *, lost: tuple[str, ...] = (), method: str | None = None) -> ProposeResult:
        """Alice asks for a recovery."""
        names = tuple(ServerName(name) for name in lost)
        return await self.core.service.propose(
            self.cluster, by=ALICE, origin="terminal", lost=names, method=method
        )

    async def proposed(self, *, lost: tuple[str, ...] = (), method: str | None = None) -> RunId:
        """Alice asks, and there is a plan."""
        answer = await self.propose(lost=lost, method=method)
        assert isinstance(answer, RunProposed), getattr(answer, "refusal", answer)
        return answer.view.run

    async def state(self, run: RunId) -> RunState:
        """The run as the store has it."""
        return (await self.core.service.show(self.cluster, run)).state

    async def drive(self, run: RunId) -> RunState:
        """Drive with Bob approving, until it has ended or waits for a person's decision."""
        task = asyncio.create_task(
            drive_run(
                self.cluster,
                run,
                owner=self.core.owner,
                world=self.core.worlds[self.cluster],
                store=self.core.store,
                notifier=self.journal,
                clock=self.core.clock,
            )
        )
        try:
            while not task.done():
                await self.core.store.wait(self.cluster, run, length=0, timeout_s=0.1)
                state = await self.state(run)
                if state.waiting_gate is not None:
                    await self.approve(run, state)
                elif state.waiting_step is not None or state.doubts or state.two_leaders:
                    return state
                await asyncio.sleep(0.1)
            ended = await task
            assert not isinstance(ended, LeaseHeld), ended
            return ended
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def approve(self, run: RunId, state: RunState) -> None:
        """Bob approves the gate that is open, typing what has to be typed."""
        gate = state.waiting_gate
        assert gate is not None
        done = self.before_approval(state)
        if asyncio.iscoroutine(done):
            await done
        await self.core.service.approve(
            self.cluster, run, by=BOB, gate=gate.id, digest_prefix=state.digest[:12], typed=gate.typed
        )

    async def recover(self, *, lost: tuple[str, ...] = (), method: str | None = None) -> RunState:
        """Propose and drive."""
        return await self.drive(await self.proposed(lost=lost, method=method))


@asynccontextmanager
async def open_rig(
    lab: Lab,
    *,
    tokens: Mapping[str, str] | None = None,
    approvals: Mapping[str, object] | None = None,
    list_clients: bool = True,
    without: tuple[str, ...] = (),
) -> AsyncIterator[Rig]:
    """Put the bot's composition over the lab as it is now, with the hosts' present addresses.

    With `list_clients` False the settings name no client agent: only gossip tells of them. Servers in `without`
    have been taken out of the settings.
    """
    name = f"t{os.urandom(4).hex()}"
    path = write_settings(
        lab.folder / "settings" / name,
        slack_api_url="http://127.0.0.1:1/api/",
        bot_token="xoxb-not-used",
        app_token="xapp-not-used",
        redis_url=await lab.redis(),
        ssh_user=lab.ssh_user,
        ssh_key=lab.ssh_key,
        known_hosts=lab.known_hosts,
        servers={host.name: host.address for host in lab.servers if host.name not in without},
        clients={host.name: host.address for host in lab.hosts if list_clients and not host.server},
        cluster=name,
        tokens=tokens,
        approvals=approvals,
    )
    async with open_core(load_settings(path, environ={}), kind="test") as core:
        yield Rig(lab, core, ClusterName(name))
