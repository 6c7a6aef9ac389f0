"""The staged bootstrap, driven to its end and left at every stage: never two leaders, never the stalest log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from recovery.journal import Event, Outcome, RunState, StepStatus
from recovery.model import ClusterName, RunId, ServerName
from recovery.plan import OverrideExpect
from recovery.supervisor import Supervisor
from tests.builders.left_behind import OnHost, untold
from tests.builders.runs import BOB, CLUSTER, Listener, Table
from tests.fakes.fake_world import FakeServer, FakeWorld, never_bootstrapped, peers_emptied

pytestmark = pytest.mark.virtual_time

STAGES = (
    "stop-s3", "archive-s3", "override-s3", "start-s3", "leader", "start-s1", "sort-s1", "override-off-s3",
    "stop-leader-s3", "new-leader", "start-again-s3", "stop-client-c1", "start-client-c1",
)  # fmt: skip


def client(name: str, *, running: bool = True) -> FakeServer:
    """A client agent of the same age."""
    return FakeServer(
        name=ServerName(name), address=f"203.0.113.{name[1:]}", node_id="", version="0.6.4", voters=(), last=None,
        running=running,
    )  # fmt: skip


def table(servers: tuple[FakeServer, ...] | None = None, *clients: FakeServer) -> Table:
    """Three emptied servers, s1 stalest, and what else is given; two leaders are noticed at every act."""
    world = FakeWorld(CLUSTER, servers or peers_emptied(), clients)

    def look(*_: object) -> None:
        assert len(world.leading()) < 2, "two servers lead at once"

    world.before_act = world.after_act = look
    return Table(world)


async def recovered(on: Table, **how: object) -> RunState:
    """Proposed, approved and driven to a good end."""
    run = await on.proposed(**how)  # type: ignore[arg-type]
    state = await on.drive_approved(run)
    assert state.outcome is Outcome.RECOVERED, state.waiting_step
    return state


def status(state: RunState, step: str) -> StepStatus:
    return state.step_state(step).status  # type: ignore[arg-type]


def keys(on: Table) -> set[frozenset[str]]:
    return {server.keys for server in on.world.servers.values()}


class TestGood:
    async def test_one_leader_all_peers_and_the_last_key_everywhere(self) -> None:
        """s3 led alone first; in the end all three are peers, nobody is overridden, and nothing is lost."""
        on = table()
        state = await recovered(on)
        assert len(on.world.leading()) == 1
        assert keys(on) == {frozenset({"first", "last"})}
        assert not any(server.override or server.took == 1 for server in on.world.servers.values())
        assert status(state, "stop-error-s1") is status(state, "stop-follower-s1") is StepStatus.NOT_NEEDED

    async def test_a_server_in_error_is_stopped_and_started_until_it_is_a_peer(self) -> None:
        """One that hears of no leader after its start is sorted as error, and its second start heals it."""
        on = table()
        on.world.servers[ServerName("s1")].deaf_starts = 2  # it runs deaf now, and once more when started
        state = await recovered(on)
        assert status(state, "sort-s1") is StepStatus.FAILED
        assert "no leader" in state.step_state("sort-s1").detail  # type: ignore[arg-type]
        assert status(state, "stop-error-s1") is status(state, "start-error-s1") is StepStatus.DONE
        assert status(state, "stop-error-s2") is StepStatus.NOT_NEEDED

    async def test_a_blank_server_joins_at_the_end(self) -> None:
        """Its disk was emptied: it gets everything from the others."""
        servers = peers_emptied()
        servers[0].last, servers[0].log_voters, servers[0].keys = None, (), frozenset()
        on = table(servers)
        await recovered(on)
        assert keys(on) == {frozenset({"first", "last"})}

    async def test_clients_are_stopped_and_started_last(self) -> None:
        """Also one that was stopped and that no member list shows; each is a member in the end."""
        on = table(None, client("c1"), client("c2", running=False))
        await recovered(on)
        assert all(agent.running for agent in on.world.clients.values())
        assert on.world.clients[ServerName("c1")].stops == 1

    async def test_a_cluster_that_was_never_bootstrapped_is_founded_once(self) -> None:
        """One server founds it, the others are its voters, and the override is off again."""
        on = table(never_bootstrapped())
        await recovered(on)
        leader = on.world.leader()
        assert leader is not None
        assert len(leader.voters) == 3
        assert not any(server.override for server in on.world.servers.values())


class TestClientsBudget:
    async def test_one_of_several_may_stay_away(self) -> None:
        """It is noted, and the run is done."""
        away = client("c2")
        away.reachable, away.running = False, False
        on = table(None, client("c1"), away, client("c3"))
        state = await recovered(on)
        assert status(state, "start-client-c2") is StepStatus.FAILED

    async def test_more_than_the_budget_stops_the_run_for_a_person(self) -> None:
        """When the second one does not come back, the third is not even touched."""
        deaf = [client(f"c{n}") for n in (1, 2, 3)]
        for agent in deaf[:2]:
            agent.deaf_starts = 9
        on = table(None, *deaf)
        run = await on.proposed()
        state = await on.drive_approved(run)
        assert state.outcome is None
        assert state.waiting_step is not None
        assert state.waiting_step.id == "clients-2"
        assert on.world.clients[ServerName("c3")].stops == 0


class TestBad:
    async def test_a_follower_that_does_not_become_a_peer_stops_the_run_with_the_reason(self) -> None:
        """It is restarted once; then a person decides, and an abort takes the override off."""
        on = table()
        on.world.servers[ServerName("s1")].deaf_starts = 9
        run = await on.proposed()
        state = await on.drive_approved(run)
        assert state.waiting_step is not None
        assert state.waiting_step.id == "start-error-s1"
        await on.service.abort(CLUSTER, run, by=BOB)
        ended = await on.drive(run)
        assert isinstance(ended, RunState)
        assert ended.outcome is Outcome.ABORTED
        assert not on.world.servers[ServerName("s3")].override_by

    async def test_a_leader_that_does_not_stay_gives_way_to_peers_json(self) -> None:
        """Its override is taken off, it is stopped, and a new plan is shown, which heals without a loss."""
        servers = peers_emptied()
        servers[2].unsteady = True
        on = table(servers)
        supervisor = Supervisor(
            owner="bot-1", service=on.service, worlds={CLUSTER: on.world}, store=on.store, notifier=on.listener,
            clock=on.clock,
        )  # fmt: skip
        first = await on.proposed()
        task = asyncio.create_task(supervisor.drive(CLUSTER, first))
        while (
            await on.until(first, lambda s: s.outcome is not None or s.waiting_gate is not None)
        ).outcome is None:
            await on.approve(first)
        state = await task
        assert state is not None
        assert state.outcome is Outcome.VOID
        assert not servers[2].running
        assert not servers[2].override_by
        second = await on.service.active(CLUSTER)
        assert second is not None
        assert second.state.plan.procedure == "peers-json"
        ended = await on.drive_approved(second.run)
        assert ended.outcome is Outcome.RECOVERED
        assert keys(on) == {frozenset({"first", "last"})}

    @pytest.mark.parametrize("dead", ["s1", "s2", "s3"])
    async def test_with_a_dead_server_the_other_two_heal(self, dead: str) -> None:
        """Whoever is gone for good, also the last to leave: the other two are the new cluster."""
        servers = peers_emptied()
        gone = next(server for server in servers if server.name == dead)
        gone.running = gone.reachable = False
        on = table(servers)
        state = await recovered(on, lost=(dead,))
        assert state.plan.procedure == ("peers-json" if dead == "s3" else "staged")
        assert all("last" in server.keys for server in servers if server is not gone)

    async def test_without_a_log_that_ends_alone_peers_json_heals(self) -> None:
        """All left while nobody led: no server may lead alone, and the file with all three does it."""
        servers = peers_emptied()
        everyone = tuple(server.me for server in servers)
        for server in servers:
            server.log_voters = everyone
        on = table(servers)
        state = await recovered(on)
        assert state.plan.procedure == "peers-json"
        assert keys(on) == {frozenset({"first", "last"})}

    async def test_a_log_that_was_not_what_it_seemed_voids_the_approval(self) -> None:
        """Once everything is stopped the chosen one's log is read again; nothing is overridden before."""
        on = table()

        def changed(action: object, _key: object) -> None:
            if "Archive" in type(action).__name__:
                on.world.servers[ServerName("s3")].log_voters = ()

        on.world.after_act = changed
        run = await on.proposed()
        state = await on.drive_approved(run)
        assert state.outcome is Outcome.VOID
        assert not any(isinstance(action, OverrideExpect) for action, _ in on.world.performed)


async def test_the_run_after_an_abort_starts_the_rest_beside_the_leader() -> None:
    """Aborted once s3 leads alone: s1 and s2 have no peers, so starting them beside it is safe, and heals."""
    on = table()
    run = await on.proposed()
    task = asyncio.create_task(on.drive(run))
    while not _over(
        state := await on.until(run, lambda s: s.waiting_gate is not None or _over(s, "leader")), "leader"
    ):
        assert state.waiting_gate is not None
        await on.approve(run)
    await on.service.abort(CLUSTER, run, by=BOB)
    await task
    state = await recovered(on)
    assert state.plan.procedure == "start"
    assert keys(on) == {frozenset({"first", "last"})}


@pytest.mark.parametrize("stage", STAGES)
async def test_an_abort_after_each_stage_leaves_what_the_card_says(stage: str) -> None:
    """No override is left; who is held, stopped, started or archived is named so, and nobody else is."""
    on = table(None, client("c1"))
    run, ended, before = await _left_at(on, stage, by_abort=True)
    assert ended.outcome is Outcome.ABORTED
    assert not any(server.override_by for server in on.world.servers.values())
    assert untold(await on.service.show(CLUSTER, run), before, _on_hosts(on)) == []


async def test_an_abort_before_the_one_that_was_started_leads() -> None:
    """It is stopped again, because it might still be elected; its start took the hold off, and the card knows."""
    servers = peers_emptied()
    servers[2].unsteady = True
    on = table(servers)
    run, ended, before = await _left_at(on, "start-s3", by_abort=True)
    assert status(ended, "start-s3") is status(ended, "override-s3") is StepStatus.UNDONE
    assert not servers[2].running
    assert untold(await on.service.show(CLUSTER, run), before, _on_hosts(on)) == []


@pytest.mark.parametrize("stage", STAGES)
async def test_a_run_that_is_unlocked_leaves_what_the_card_says(stage: str) -> None:
    """Nothing is taken back there: while the override is on, the card says that a start takes it."""
    on = table(None, client("c1"))
    run, ended, before = await _left_at(on, stage, by_abort=False)
    assert ended.outcome is Outcome.UNLOCKED
    on_now = status(ended, "override-s3") is StepStatus.DONE is not status(ended, "override-off-s3")
    assert {n for n, server in on.world.servers.items() if server.override_by} == (
        {"s3"} if on_now else set()
    )
    assert untold(await on.service.show(CLUSTER, run), before, _on_hosts(on)) == []


@dataclass(kw_only=True)
class GivesUp(Listener):
    """Gives the run up as soon as the step's end is in the journal, before the driver does anything more."""

    on: Table
    stage: str
    by_abort: bool

    async def show(self, cluster: ClusterName, run: RunId, state: RunState, events: Sequence[Event]) -> None:
        if not any(
            getattr(event, "step", None) == self.stage and _over(state, self.stage) for event in events
        ):
            return
        if self.by_abort:
            await self.on.service.abort(cluster, run, by=BOB)
        else:
            await self.on.service.unlock(cluster, run, by=BOB, holder="bot-1", reason="nobody answers for it")


async def _left_at(on: Table, stage: str, *, by_abort: bool) -> tuple[RunId, RunState, dict[str, OnHost]]:
    """Drive until a step is over, then give the run up: the run, its end, and what the hosts showed at first."""
    before = _on_hosts(on)
    on.listener = GivesUp(on=on, stage=stage, by_abort=by_abort)
    run = await on.proposed()
    task = asyncio.create_task(on.drive(run))
    while (
        state := await on.until(run, lambda s: s.outcome is not None or s.waiting_gate is not None)
    ).outcome is None:
        await on.approve(run)
    # A driver that lost its lock ends with that as a fault.
    await asyncio.gather(task, return_exceptions=not by_abort)
    return run, state, before


def _on_hosts(on: Table) -> dict[str, OnHost]:
    return {
        str(name): OnHost(
            running=host.running,
            held_by=host.held_by,
            override_by=host.override_by,
            peers_json=" ".join(peer.address for peer in host.voters),
            archives=frozenset(host.archives),
        )
        for name, host in (on.world.servers | on.world.clients).items()
    }


def _over(state: RunState, stage: str) -> bool:
    return status(state, stage) not in {StepStatus.TODO, StepStatus.DOING}
