"""Servers that a run holds: said so, counted so, and nobody is told to wait for them."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.diagnosis import (
    Degraded,
    ElectionInProgress,
    EmptyWhereDataWas,
    Healthy,
    Holder,
    MajorityGone,
    OutOfSight,
    ServersStopped,
    TwoLeaders,
    diagnose,
    held_down,
)
from recovery.model import NodeId, RunId, ServerName, ServerObservation
from recovery.raftentry import Peer
from recovery.service import Locked, RunProposed
from tests.builders.observations import (
    NOTHING_KNOWN,
    blank,
    cluster,
    damaged,
    node_id,
    peers,
    running,
    stopped,
    unreachable,
)
from tests.builders.runs import BOB, CLUSTER, Table
from tests.fakes.fake_world import FakeWorld, majority_replaced

THREE = peers("s1", "s2", "s3")
FIVE = peers("s1", "s2", "s3", "s4", "s5")


def ids(*names: str) -> tuple[NodeId, ...]:
    return tuple(NodeId(node_id(name)) for name in names)


EXPIRED = Holder(run=RunId("r7f3"), stands="expired", lost=ids("s4", "s5"))
COMES_BY_ITSELF = re.compile(
    r"by itself|only needs? to be started|bring (these|the) hosts|bring (it|them) back", re.IGNORECASE
)


def held(name: str, *, voters: tuple[Peer, ...] = FIVE, run: str = "r7f3") -> ServerObservation:
    return stopped(name, voters=voters, held_by=run)


def test_held_survivors_are_said_to_be_held_by_the_run_that_expired() -> None:
    """Three of five held, two claimed before: held and counted as held, and the way on names the same claims."""
    seen = cluster(*(held(name) for name in ("s1", "s2", "s3")), unreachable("s4"), unreachable("s5"))
    found = diagnose(seen, holders=(EXPIRED,))
    assert isinstance(found, ServersStopped)
    assert "s1, s2 and s3 are held by run r7f3 (expired)" in found.headline
    assert "0 of 5 voters run, 3 are held, a leader needs 3" in found.headline
    assert "`/consul recover demo`" in found.advice


def test_a_held_survivor_with_the_rest_out_of_sight_is_planned_anew_with_the_same_claims() -> None:
    """One survivor of three is held: bringing the others back is no longer the advice, what was claimed is."""
    seen = cluster(held("s1", voters=THREE), unreachable("s2"), unreachable("s3"))
    found = diagnose(seen, holders=(Holder(run=RunId("r7f3"), stands="expired", lost=ids("s2", "s3")),))
    assert isinstance(found, OutOfSight)
    assert "s1 is held by run r7f3 (expired)" in found.headline
    assert "`/consul recover demo --lost s2,s3`" in found.advice


def test_without_earlier_claims_the_way_on_names_whom_to_claim() -> None:
    """The run that holds is not known: who would have to be claimed is said, and only as a condition."""
    seen = cluster(held("s1"), held("s2"), *(unreachable(name) for name in ("s3", "s4", "s5")))
    found = diagnose(seen)
    assert isinstance(found, MajorityGone | OutOfSight)
    assert "Redis does not know it" in found.advice
    assert "Only if s3,s4,s5 are gone for good: `/consul recover demo --lost s3,s4,s5`" in found.advice


def test_an_open_run_is_answered_and_not_planned_again() -> None:
    """While the run that holds is open, the way on is its card, a retry or an abort."""
    seen = cluster(held("s1", voters=THREE), unreachable("s2"), unreachable("s3"))
    waits = Holder(run=RunId("r7f3"), stands="waits for approval", over=False)
    found = diagnose(seen, holders=(waits,))
    assert "(waits for approval)" in found.headline
    assert "`/consul show r7f3`" in found.advice
    assert "`/consul abort demo`" in found.advice
    assert "recover" not in found.advice


def test_a_held_server_beside_a_leader_is_said_to_be_held() -> None:
    """A cluster with a leader is degraded, and says who holds the one that is down."""
    seen = cluster(
        running("s1", voters=THREE, leader=True), running("s2", voters=THREE), held("s3", voters=THREE)
    )
    found = diagnose(seen, holders=(EXPIRED,))
    assert isinstance(found, Degraded)
    assert found.stopped == ("s3",)
    assert "s3 is held by run r7f3 (expired)" in found.headline


def test_two_runs_are_both_named() -> None:
    """Each server with the run that holds it."""
    seen = cluster(held("s1", voters=THREE), held("s2", voters=THREE, run="r0"), unreachable("s3"))
    found = diagnose(seen, holders=(EXPIRED,))
    assert "s1 is held by run r7f3 (expired)" in found.headline
    assert "s2 is held by run r0" in found.headline


def test_a_hold_on_a_running_server_and_a_fence_are_no_reason_to_speak_of_held_ones() -> None:
    """Held means stopped and kept from starting."""
    fenced = stopped("s3", voters=THREE, held_by="r7f3", fenced_by="r7f3")
    assert held_down(cluster(fenced, running("s1", voters=THREE))) == {}


def test_a_name_that_no_run_has_is_made_harmless() -> None:
    """What a host says of its holder may be anything; a headline is a push notification."""
    seen = cluster(held("s1", voters=THREE, run="<!channel>\x1b[2J"), unreachable("s2"), unreachable("s3"))
    found = diagnose(seen)
    assert "held by run channel2J" in found.headline
    assert not set("<>!\x1b") & set(found.headline)


SETS = st.sampled_from((THREE, FIVE, peers("s1", "s2"), ()))


@st.composite
def any_server(draw: st.DrawFn, name: str) -> ServerObservation:
    """One server, in any state."""
    voters = draw(SETS)
    run = draw(st.sampled_from(("", "r1", "r2")))
    fence = draw(st.sampled_from(("", "", "", "r0")))
    last = draw(st.sampled_from(((2, 15), (2, 17), (3, 17))))
    return draw(
        st.sampled_from(
            (
                stopped(name, voters=voters, last=last, held_by=run, fenced_by=fence),
                running(name, voters=voters, last=last),
                running(name, voters=voters, last=last, leader=True),
                blank(name),
                blank(name, is_running=False, held_by=run),
                damaged(name),
                unreachable(name),
            )
        )
    )


@st.composite
def any_holders(draw: st.DrawFn) -> tuple[Holder, ...]:
    """What is known of the runs: all, some, none."""
    return tuple(
        Holder(
            run=RunId(run),
            stands=draw(st.sampled_from(("expired", "aborted"))),
            over=draw(st.booleans()),
            lost=lost,
        )
        for run in draw(st.sets(st.sampled_from(("r1", "r2"))))
        for lost in [draw(st.sampled_from(((), ids("s4", "s5"))))]
    )


@given(
    servers=st.tuples(*(any_server(f"s{number}") for number in range(1, 6))),
    holders=any_holders(),
    lost=st.sets(st.sampled_from(("s1", "s2", "s3", "s4", "s5"))),
)
def test_where_servers_are_held_nobody_is_told_to_wait_for_them(
    servers: tuple[ServerObservation, ...], holders: tuple[Holder, ...], lost: set[str]
) -> None:
    """Whatever else is seen: every held server is named with its run, and no word says that it comes by itself."""
    seen = cluster(*servers)
    found = diagnose(seen, tuple(ServerName(name) for name in sorted(lost)), holders=holders)
    if not held_down(seen) or isinstance(found, TwoLeaders):
        return
    assert not isinstance(found, Healthy)
    for run, names in held_down(seen).items():
        assert f"held by run {run}" in found.headline
        assert all(name in found.headline for name in names)
        assert f"Run {run} is " in found.advice
    assert not COMES_BY_ITSELF.search(f"{found.headline} {found.advice}"), found


@pytest.mark.parametrize("count", [1, 2])
def test_enough_running_ones_elect_whoever_is_held(count: int) -> None:
    """An election in progress stays one; the held ones are named beside it."""
    names = ("s4", "s5")[:count]
    seen = cluster(
        *(running(name, voters=FIVE) for name in ("s1", "s2", "s3")), *(held(name) for name in names)
    )
    found = diagnose(seen, holders=(EXPIRED,))
    assert isinstance(found, ElectionInProgress)
    assert "held by run r7f3 (expired)" in found.headline


async def test_status_knows_how_the_run_that_holds_stands() -> None:
    """While it is open and after it was aborted: status names the run, how it stands, and what may be planned anew."""
    table = Table(FakeWorld(CLUSTER, majority_replaced()))
    run = await table.proposed(lost=("s2", "s3"))
    driving = asyncio.create_task(table.drive(run))
    await table.until(run, lambda state: state.waiting_gate is not None)
    await table.approve(run)
    await table.until(run, lambda s: s.waiting_gate is not None and s.waiting_gate.id == "irreversible")
    waiting = await table.service.status(CLUSTER)
    assert f"held by run {run} (waits for approval)" in waiting.diagnosis.headline
    assert not waiting.held[0].over
    await table.service.abort(CLUSTER, run, by=BOB)
    await driving
    aborted = await table.service.status(CLUSTER)
    assert f"held by run {run} (aborted)" in aborted.diagnosis.headline
    assert aborted.held[0].lost == ("s2-id", "s3-id")


async def test_what_came_to_nothing_is_planned_again_with_what_it_was_told() -> None:
    """The new plan has the procedure and the claims of the old one, takes its place, and brings the cluster back."""
    table = Table(FakeWorld(CLUSTER, majority_replaced()))
    run = await table.proposed(lost=("s2", "s3"))
    view = await table.service.show(CLUSTER, run)
    assert isinstance(await table.service.propose_again(view, by=BOB, origin="terminal"), Locked)
    driving = asyncio.create_task(table.drive(run))
    await table.until(run, lambda state: state.waiting_gate is not None)
    await table.approve(run)
    await table.until(run, lambda s: s.waiting_gate is not None and s.waiting_gate.id == "irreversible")
    await table.service.abort(CLUSTER, run, by=BOB)
    await driving
    answer = await table.service.propose_again(view, by=BOB, origin="terminal")
    assert isinstance(answer, RunProposed)
    again = answer.view.state
    assert again.replaces == run
    assert again.requested_by == BOB
    assert again.plan.procedure == view.state.plan.procedure
    assert [claim.node_id for claim in again.plan.claims] == ["s2-id", "s3-id"]


@pytest.mark.parametrize("over", [True, False])
def test_where_data_was_a_hold_is_named_and_nothing_is_proposed(*, over: bool) -> None:
    """The empty directories come first: no word sends anybody to a plan that is refused."""
    seen = cluster(*(blank(name, is_running=False, held_by="r1") for name in ("s1", "s2", "s3")))
    found = diagnose(seen, holders=(Holder(run=RunId("r1"), stands="failed", over=over),), past=NOTHING_KNOWN)
    assert isinstance(found, EmptyWhereDataWas)
    assert "s1, s2 and s3 are held by run r1 (failed)" in found.headline
    assert "Mount the disks" in found.advice
    assert f"Run r1 is {'over' if over else 'not over'}" in found.advice
    assert "/consul recover" not in found.advice
