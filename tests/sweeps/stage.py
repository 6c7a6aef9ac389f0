"""One play of a story: a world, a store, processes of the bot, and the people who decide."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from recovery.errors import HostRefused, RecoveryError, StoreUnavailable
from recovery.journal import AwaitPerson, Gate, Outcome, RunState, decide
from recovery.model import ClusterSpec, Fact, RunId, ServerName, ServerSpec
from recovery.plan import Action, Check
from recovery.policy import ApprovalPolicy
from recovery.ports import ActKey, Notifier, RunStore, World
from recovery.service import Locked, NothingToDo, ProposeResult, RecoveryService, Refused, RunProposed
from tests.builders.runs import ALICE, BOB, CLUSTER
from tests.fakes.memory_store import MemoryStore
from tests.sweeps.points import Point, changes_a_host, host_of
from tests.sweeps.process import Act, Process, Quiet
from tests.sweeps.stories import Story
from tests.sweeps.virtual_time import VirtualClock

LOOK_EVERY_S = 1.0
PATIENCE_S = 4 * 3600.0
"""No play of a run takes longer than this; one that does neither ends nor says what it waits for."""

MOST_RUNS = 6
"""Whoever asked so often for another run gives up."""

Effects = Counter[tuple[str, str]]
"""How often each kind of act took effect on each server."""


class Choice(Enum):
    """What a person does about a run that waits."""

    RETRY = "retry"
    ABORT = "abort"
    WAIT = "wait"
    """Not yet; asks again in a moment."""
    LEAVE = "leave"
    """The play ends here: the run waits, and says for what."""


Person = Callable[["Stage", RunState], Choice]
Fault = Callable[[Point, "Stage", Process], None]


def nothing_happens(point: Point, stage: Stage, process: Process) -> None:
    """The fault of an undisturbed play."""


@dataclass
class Stage:
    """Everything that one play needs, and what was seen of it from outside."""

    story: Story
    fault: Fault = nothing_happens
    store: MemoryStore = field(init=False)
    points: list[Point] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What may never be, seen while it was."""
    retries: int = 0
    aborted: bool = False
    asks_again: bool = False
    """Whether people ask for another recovery when a run has ended without one, or is gone."""
    epilogue: Callable[[Stage], None] | None = None
    """Called when the run is over."""
    epilogue_s: float = 60.0
    """The processes go on for so long after it."""
    notifier_of: Callable[[Process], Notifier] = lambda _process: Quiet()
    """Who shows the run to people, for each process."""
    act_takes_s: float = 0.0
    """How long a host needs for an act."""
    approval: ApprovalPolicy = field(default_factory=ApprovalPolicy)
    answers: Callable[[Gate], bool] = lambda _gate: True
    """Whether Bob approves at a gate; where he does not, nobody does."""
    sees: Callable[[Check, RunId], Fact | None] = lambda _check, _run: None
    """What the processes see instead of the truth; None where they see the truth."""
    act: Act | None = None
    """The act that the newest point is about."""
    on_its_way: Act | None = None
    """An act that outlived its driver and reaches its host when the next one asks there."""
    _runs: int = 0
    _hosts: dict[str, ServerName] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world = self.story.world()
        self.store = MemoryStore()
        self.world.in_act = self._in_act
        self.ran = {agent.name for agent in self.world.agents.values() if agent.running}
        """Who ran in the beginning."""
        self.had_keys = any(server.keys for server in self.world.servers.values())
        """Whether there was anything to lose: a cluster that was never bootstrapped holds nothing."""
        peers = {peer for server in self.world.servers.values() for peer in server.voters}
        self._addresses = {
            name: next(p.address for p in peers if p.id == f"{name}-id") for name in self.story.lost
        }

    def service(self, *, world: World, store: RunStore) -> RecoveryService:
        """The use cases over these ports."""
        spec = ClusterSpec(CLUSTER, tuple(ServerSpec(s.name, s.address) for s in self.world.servers.values()))
        return RecoveryService(
            clusters={CLUSTER: spec},
            worlds={CLUSTER: world},
            store=store,
            approval=self.approval,
            clock=VirtualClock(),
            new_id=self._new_id,
        )

    def _new_id(self) -> RunId:
        self._runs += 1
        return RunId(f"r{self._runs}")

    @property
    def people(self) -> RecoveryService:
        """The use cases as people reach them, past every fault of the processes."""
        return self.service(world=self.world, store=self.store)

    def process(self, owner: str) -> Process:
        """Start a process of the bot."""
        process = Process(self, owner, self.notifier_of)
        self.processes.append(process)
        return process

    @property
    def effects(self) -> Effects:
        """What took effect on the hosts."""
        return Counter(
            (type(action).__name__, str(getattr(action, "server", "")))
            for action, _ in self.world.performed
            if changes_a_host(action)
        )

    @property
    def acts(self) -> list[tuple[Action, ActKey]]:
        """What took effect, with the key of each try."""
        return [(action, key) for action, key in self.world.performed if changes_a_host(action)]

    # --- points

    def reached(self, process: Process, when: str, what: str, step: str) -> None:
        """A process is at a point; may raise what happens to it there."""
        self.look()
        process.reached += 1
        servers = [server for server in self.world.servers.values() if server.reachable]
        point = Point(
            number=process.reached,
            when=when,
            what=what,
            step=step,
            host=self._host_of(step),
            running=frozenset(server.name for server in servers if server.running),
            startable=frozenset(s.name for s in servers if not s.running and not s.barred),
        )
        if process is self.processes[0]:
            self.points.append(point)
        self.fault(point, self, process)

    def _in_act(self, action: Action, key: ActKey) -> None:
        del action
        told = self.store.folded(CLUSTER, key.run) if self.store.knows(CLUSTER, key.run) else None
        if told is not None and told.step_state(key.step).attempt < key.attempt:
            self.problems.append(f"{key.direction} {key.step} took effect before its start was recorded")
        if self.act is not None and self.act.key == key:
            self.reached(self.act.process, "in act", str(self.act), key.step)

    async def land(self) -> None:
        """What was on its way reaches its host."""
        act, self.on_its_way, self.act = self.on_its_way, None, None
        if act is not None:
            with contextlib.suppress(HostRefused):
                await self.world.perform(act.action, key=act.key, timeout_s=60.0)

    def _host_of(self, step: str) -> ServerName | None:
        """The server whose step it is; a step that waits for several is about none."""
        return self._hosts.get(step)

    def look(self) -> None:
        """Hold what is on the stage against what may never be."""
        leaders = [server.name for server in self.world.leading()]
        if len(leaders) > 1:
            self.problems.append(f"{' and '.join(leaders)} lead at once")

    # --- people

    async def propose(self) -> RunId:
        """Alice asks for the story's recovery."""
        answer = await self._ask(self.story.lost, self.story.method)
        assert isinstance(answer, RunProposed), f"{self.story}: {answer}"
        for step in answer.view.state.plan.steps:
            host = host_of(step.action)
            if host is not None:
                self._hosts[step.id] = host
        return answer.view.run

    async def _ask(self, lost: tuple[str, ...], method: str | None) -> ProposeResult:
        server = self.story.server if method is not None and method == self.story.method else None
        return await self.people.propose(
            CLUSTER,
            by=ALICE,
            origin="terminal",
            lost=tuple(ServerName(name) for name in lost),
            method=method,
            server=ServerName(server) if server is not None else None,
        )

    async def _ask_again(self) -> RunId | None:
        """Alice asks anew, in the words that fit what she sees now; None when there is nothing to do."""
        # By name where somebody still tells it, else by address: the refusal says which.
        words = itertools.product(*((name, self._addresses[name]) for name in self.story.lost))
        refused: list[str] = []
        for lost, method in ((), None), *((told, self.story.method) for told in words):
            try:
                answer = await self._ask(lost, method)
            except StoreUnavailable:
                raise
            except RecoveryError as problem:
                refused.append(str(problem))
                continue
            match answer:
                case RunProposed(view=view):
                    return view.run
                case Locked(holder=holder):
                    return holder.run
                case NothingToDo():
                    return None
                case Refused(refusal=refusal):
                    refused += refusal.reasons
        if not self.world.leading():
            self.problems.append(f"asked again, and all is refused: {'; '.join(dict.fromkeys(refused))}")
        return None

    async def play(self, person: Person) -> RunState:
        """Until the run, and each that follows on a void one, has ended or waits; the last one's state."""
        run = await self.propose()
        self.process("bot-1")
        deadline_s = asyncio.get_running_loop().time() + PATIENCE_S
        state = self.store.folded(CLUSTER, run)
        while asyncio.get_running_loop().time() < deadline_s:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()
            if self.processes[-1].dead or not self.processes[-1].woken.is_set():
                self.process(f"bot-{len(self.processes) + 1}")
            try:
                run = await self.store.active(CLUSTER) or run
                if not self.store.knows(CLUSTER, run):
                    if (next_run := await self._ask_again()) is None:
                        return state
                    run = next_run
                state = self.store.folded(CLUSTER, run)
                if state.outcome is not None:
                    if await self.store.active(CLUSTER) is None and not await self._followed(state):
                        if self.asks_again and state.outcome is not Outcome.RECOVERED:
                            if self._runs > MOST_RUNS:
                                self.problems.append(f"asked for {self._runs} runs, and none recovered it")
                                return state
                            if await self._ask_again() is None:
                                return state
                            continue
                        await self._epilogue()
                        return state
                elif await self._decided(run, state, person) is Choice.LEAVE:
                    return state
            except RecoveryError:
                continue  # Redis is away for people too; they try again.
        self.problems.append("the run neither ended nor said what it waits for")
        return state

    async def _epilogue(self) -> None:
        if self.epilogue is not None:
            self.epilogue(self)
            await asyncio.sleep(self.epilogue_s)
            self.look()

    async def _followed(self, state: RunState) -> bool:
        """Whether another run has taken the place of a void one."""
        if state.outcome is not Outcome.VOID:
            return False
        await asyncio.sleep(5.0)
        return await self.store.active(CLUSTER) is not None

    async def _decided(self, run: RunId, state: RunState, person: Person) -> Choice | None:
        gate = state.waiting_gate
        if gate is not None and not self.answers(gate):
            return None
        if gate is not None:
            await self.people.approve(
                CLUSTER, run, by=BOB, gate=gate.id, digest_prefix=state.digest[:12], typed=gate.typed
            )
            return None
        waits = decide(state, VirtualClock().now_s())
        if not isinstance(waits, AwaitPerson):
            return None
        choice = person(self, state)
        match choice:
            case Choice.RETRY:
                self.retries += 1
                await self.people.retry(CLUSTER, run, by=BOB)
            case Choice.ABORT:
                self.aborted = True
                await self.people.abort(CLUSTER, run, by=BOB)
            case Choice.LEAVE | Choice.WAIT:
                pass
        return choice

    async def close(self) -> None:
        """Send everybody home."""
        for process in self.processes:
            process.dead = True
            process.woken.set()
            process.task.cancel()
        await asyncio.gather(*(process.task for process in self.processes), return_exceptions=True)
