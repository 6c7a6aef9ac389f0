"""The whole bot on a local Slack: real slack-bolt, real engine, a cluster and a store in memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler

from bot.app import build_app, who_am_i
from bot.authz import Grant, Rules
from bot.directory import SlackDirectory
from bot.handlers import Handlers
from bot.notifier import SlackNotifier
from bot.outgoing import user
from bot.registry import TaskRegistry
from bot.talk import Talk, client_for
from bot.thread import Mentions
from lab.slack import LocalSlack, Message
from recovery.model import ClusterName, ClusterSpec, Person, RunId, ServerName, ServerSpec
from recovery.policy import ApprovalPolicy
from recovery.service import RecoveryService
from recovery.supervisor import Supervisor
from tests.fakes.fake_world import FakeServer, FakeWorld, three_servers
from tests.fakes.memory_store import MemoryStore

DC1 = ClusterName("dc1")
ALICE, BOB = Person("alice"), Person("bob")


class RealClock:
    """The clock of the machine."""

    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def rules(**changes: object) -> Rules:
    """Alice and bob may propose and approve, also by the on-call group."""
    both = frozenset({ALICE, BOB})
    known: dict[str, object] = {
        "teams": frozenset({"T0LAB"}),
        "slack": {"U0ALICE": ALICE, "U0BOB": BOB},
        "terminal": {"alice": ALICE, "bob": BOB},
        "recover": Grant(both, frozenset(), "approvals.requesters"),
        "approve": Grant(both, frozenset(), "approvals.approvers"),
    }
    return Rules(**{**known, **changes})  # type: ignore[arg-type]


@dataclass
class Bot:
    """One running bot, and what a test looks at."""

    slack: LocalSlack
    store: MemoryStore
    world: FakeWorld
    service: RecoveryService
    notifier: SlackNotifier
    tasks: TaskRegistry

    def card(self) -> Message:
        """The newest card of a run in the channel."""
        cards = [m for m in self.slack.channel_messages() if m.metadata and m.thread_ts is None]
        return cards[-1]

    async def wait_card(self, text: str, *, timeout_s: float = 10.0) -> Message:
        """Wait until a run's card says this."""
        return await self.slack.wait_message(
            lambda m: m.metadata is not None and m.thread_ts is None and text in self.slack.plain_text(m),
            timeout_s=timeout_s,
        )

    @contextlib.asynccontextmanager
    async def until(self, *, timeout_s: float = 20.0) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Look again and again, without Slack; TimeoutError after this long."""
        async with asyncio.timeout(timeout_s):
            yield lambda: asyncio.sleep(0.02)

    async def wait_whisper(self, user: str, text: str) -> str:
        """Wait until only this person is told this; everything that the message says."""
        wanted = self.slack.workspace.person(user).id
        message = await self.slack.wait_message(
            lambda m: m.ephemeral_to == wanted and text in self.slack.plain_text(m)
        )
        return self.slack.plain_text(message)


MakeBot = Callable[..., contextlib.AbstractAsyncContextManager[Bot]]


@contextlib.asynccontextmanager
async def running_bot(
    slack: LocalSlack,
    *,
    servers: tuple[FakeServer, ...] | None = None,
    store: MemoryStore | None = None,
    world: FakeWorld | None = None,
    who: Rules | None = None,
    approval: ApprovalPolicy | None = None,
    channel: str | None = "C0OPS",
    owner: str = "bot-1",
    drives: bool = True,
) -> AsyncIterator[Bot]:
    """Start a bot; ``drives=False`` serves clicks only, as another replica does."""
    clock = RealClock()
    store = store if store is not None else MemoryStore()
    world = world if world is not None else FakeWorld(DC1, servers or three_servers())
    spec = ClusterSpec(DC1, tuple(ServerSpec(s.name, s.address) for s in world.servers.values()))
    numbers = itertools.count(1)
    service = RecoveryService(
        clusters={DC1: spec},
        worlds={DC1: world},
        store=store,
        approval=approval or ApprovalPolicy(),
        clock=clock,
        new_id=lambda: RunId(f"{owner}-r{next(numbers)}"),
    )
    people = who or rules()
    client = client_for(token=slack.bot_token, api_url=slack.api_url, reads=True)
    talk = Talk(client_for(token=slack.bot_token, api_url=slack.api_url, reads=False))
    notifier = SlackNotifier(
        talk,
        store=store,
        clock=clock,
        mentions=Mentions(
            tuple(user(each) for each in people.slack),
            {p: user(u) for u, p in people.slack.items()},
            {p: u for u, p in people.slack.items()},
        ),
        channel_of=lambda _cluster: channel,
        units={},
        owner=owner,
        update_every_s=0.05,
    )
    supervisor = Supervisor(
        owner=owner, service=service, worlds={DC1: world}, store=store, notifier=notifier, clock=clock
    )
    tasks = TaskRegistry()
    handlers = Handlers(
        service=service,
        store=store,
        talk=talk,
        directory=SlackDirectory(client, clock=clock),
        rules=people,
        notifier=notifier,
        tasks=tasks,
        clock=clock,
        nudge=supervisor.nudge,
    )
    app = build_app(client, token=slack.bot_token, identity=await who_am_i(client), handlers=handlers)
    handler = AsyncSocketModeHandler(app, slack.app_token, ping_interval=2)
    await handler.connect_async()  # type: ignore[no-untyped-call]
    await slack.wait_connected()
    driving = asyncio.create_task(supervisor.serve()) if drives else None
    try:
        yield Bot(slack, store, world, service, notifier, tasks)
    finally:
        await tasks.drain(timeout_s=2)
        if driving is not None:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)
        await notifier.close(timeout_s=0.2)
        await handler.close_async()  # type: ignore[no-untyped-call]


def stop(bot: Bot, *names: str) -> None:
    """Stop these servers behind the bot's back."""
    for name in names:
        bot.world.servers[ServerName(name)].running = False
