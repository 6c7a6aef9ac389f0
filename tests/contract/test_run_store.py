"""What every RunStore promises; the same tests for the one in memory and the one in Redis."""

import asyncio
from uuid import uuid4

import pytest

from recovery.errors import IllegalEvent, LeaseLost, OutOfDate
from recovery.model import ClusterName, RunId
from recovery.ports import Lease, LeaseHeld, RunStore
from tests.contract.runs import ABORTED, ENDED, OPENED, UNLOCKED, lease_taken, proposed

R1 = RunId("r1")
R2 = RunId("r2")
LONG_S = 60.0
SHORT_S = 0.05


@pytest.fixture
def cluster() -> ClusterName:
    return ClusterName(f"c-{uuid4().hex[:12]}")


async def take(
    store: RunStore, cluster: ClusterName, *, owner: str = "bot-1", ttl_s: float = LONG_S
) -> Lease:
    """Take the lease, waiting for another one to run out."""
    async with asyncio.timeout(20):
        while True:
            lease = await store.take_lease(cluster, R1, owner=owner, ttl_s=ttl_s, above_epoch=0)
            if isinstance(lease, Lease):
                return lease
            await asyncio.sleep(0.01)


async def test_a_proposal_takes_the_lock_and_is_the_first_event(
    store: RunStore, cluster: ClusterName
) -> None:
    """A proposal holds the cluster's lock and its journal has exactly the proposal, as it was given."""
    event = proposed(cluster)
    assert await store.active(cluster) is None
    assert await store.propose(cluster, R1, event) == R1
    assert await store.active(cluster) == R1
    assert await store.events(cluster, R1) == (event,)


async def test_a_second_proposal_gets_the_first_run(store: RunStore, cluster: ClusterName) -> None:
    """While one run holds the lock another proposal leaves no trace and names the holder."""
    await store.propose(cluster, R1, proposed(cluster))
    assert await store.propose(cluster, R2, proposed(cluster)) == R1
    assert await store.events(cluster, R2) == ()
    assert await store.runs(cluster) == (R1,)


async def test_of_many_proposals_at_once_one_wins(store: RunStore, cluster: ClusterName) -> None:
    """Twenty proposals at the same time end with one run, and all are told of the same one."""
    ids = [RunId(f"r{number}") for number in range(20)]
    winners = await asyncio.gather(*(store.propose(cluster, run, proposed(cluster)) for run in ids))
    assert len(set(winners)) == 1
    assert await store.runs(cluster) == (winners[0],)


async def test_locks_of_clusters_are_apart(store: RunStore, cluster: ClusterName) -> None:
    """A run of one cluster does not hold another cluster's lock."""
    other = ClusterName(f"{cluster}-other")
    await store.propose(cluster, R1, proposed(cluster))
    assert await store.propose(other, R2, proposed(other)) == R2


async def test_an_id_is_used_once(store: RunStore, cluster: ClusterName) -> None:
    """A run id that has a journal cannot be proposed again once its run has ended."""
    await store.propose(cluster, R1, proposed(cluster))
    await store.append(await take(store, cluster), ENDED, expected_length=1)
    with pytest.raises(IllegalEvent):
        await store.propose(cluster, R1, proposed(cluster))
    assert await store.active(cluster) is None


async def test_runs_are_listed_newest_first(store: RunStore, cluster: ClusterName) -> None:
    """The history is ordered by the time of the proposal and cut at the limit."""
    for number in range(3):
        run = RunId(f"r{number}")
        await store.propose(cluster, run, proposed(cluster, at_s=float(number)))
        lease = await store.take_lease(cluster, run, owner="bot-1", ttl_s=LONG_S, above_epoch=0)
        assert isinstance(lease, Lease)
        await store.append(lease, ENDED, expected_length=1)
        await store.release_lease(lease)
    assert await store.runs(cluster) == ("r2", "r1", "r0")
    assert await store.runs(cluster, limit=2) == ("r2", "r1")


async def test_a_lease_is_held_by_one(store: RunStore, cluster: ClusterName) -> None:
    """Whoever comes second is told who drives and with which epoch."""
    first = await take(store, cluster)
    second = await store.take_lease(cluster, R1, owner="bot-2", ttl_s=LONG_S, above_epoch=0)
    assert second == LeaseHeld(owner="bot-1", epoch=first.epoch)


async def test_the_epoch_is_the_highest_ever_given(store: RunStore, cluster: ClusterName) -> None:
    """The epoch starts at 0, follows the leases, and does not go back when one is released."""
    assert await store.epoch(cluster) == 0
    lease = await store.take_lease(cluster, R1, owner="bot-1", ttl_s=LONG_S, above_epoch=6)
    assert isinstance(lease, Lease)
    await store.release_lease(lease)
    assert await store.epoch(cluster) == lease.epoch == 7


async def test_of_many_drivers_at_once_one_wins(store: RunStore, cluster: ClusterName) -> None:
    """Twenty drivers at the same time end with one lease."""
    answers = await asyncio.gather(
        *(
            store.take_lease(cluster, R1, owner=f"bot-{number}", ttl_s=LONG_S, above_epoch=0)
            for number in range(20)
        )
    )
    assert sum(isinstance(answer, Lease) for answer in answers) == 1


async def test_an_epoch_is_above_all_before(store: RunStore, cluster: ClusterName) -> None:
    """Epochs rise with each lease, never fall, and jump over the highest one that a host has seen."""
    first = await take(store, cluster)
    assert first.epoch == 1
    await store.release_lease(first)
    above = await store.take_lease(cluster, R1, owner="bot-2", ttl_s=LONG_S, above_epoch=41)
    assert isinstance(above, Lease)
    assert above.epoch == 42
    await store.release_lease(above)
    third = await take(store, cluster)
    assert third.epoch == 43


async def test_a_lease_runs_out(store: RunStore, cluster: ClusterName) -> None:
    """A driver that stopped renewing loses the lease to the next one, and cannot renew or write any more."""
    await store.propose(cluster, R1, proposed(cluster))
    old = await take(store, cluster, ttl_s=SHORT_S)
    new = await take(store, cluster, owner="bot-2")
    assert new.epoch > old.epoch
    with pytest.raises(LeaseLost):
        await store.renew_lease(old, ttl_s=LONG_S)
    with pytest.raises(LeaseLost):
        await store.append(old, OPENED, expected_length=1)
    assert len(await store.events(cluster, R1)) == 1


async def test_a_lease_that_ran_out_is_lost_though_nobody_took_it(
    store: RunStore, cluster: ClusterName
) -> None:
    """After its time a lease is gone for good, even where no other driver came."""
    lease = await take(store, cluster, ttl_s=SHORT_S)
    async with asyncio.timeout(20):
        while True:
            try:
                await store.renew_lease(lease, ttl_s=SHORT_S)
            except LeaseLost:
                break
            await asyncio.sleep(SHORT_S * 2)
    with pytest.raises(LeaseLost):
        await store.renew_lease(lease, ttl_s=LONG_S)


async def test_renewing_keeps_the_lease(store: RunStore, cluster: ClusterName) -> None:
    """A lease that was renewed for longer outlives its first time to live."""
    lease = await take(store, cluster, ttl_s=1.0)
    await store.renew_lease(lease, ttl_s=LONG_S)
    await asyncio.sleep(1.1)  # There is no condition to wait for: what is proven is that nothing happens.
    answer = await store.take_lease(cluster, R1, owner="bot-2", ttl_s=LONG_S, above_epoch=0)
    assert answer == LeaseHeld(owner="bot-1", epoch=lease.epoch)


async def test_appending_keeps_the_lease(store: RunStore, cluster: ClusterName) -> None:
    """Each append extends the lease by its whole time to live."""
    await store.propose(cluster, R1, proposed(cluster))
    lease = await take(store, cluster, ttl_s=1.0)
    await asyncio.sleep(0.6)
    await store.append(lease, OPENED, expected_length=1)
    await asyncio.sleep(0.6)
    answer = await store.take_lease(cluster, R1, owner="bot-2", ttl_s=LONG_S, above_epoch=0)
    assert answer == LeaseHeld(owner="bot-1", epoch=lease.epoch)


async def test_giving_back_a_lost_lease_does_not_hurt_its_new_holder(
    store: RunStore, cluster: ClusterName
) -> None:
    """Only the holder's own lease is given back."""
    old = await take(store, cluster, ttl_s=SHORT_S)
    new = await take(store, cluster, owner="bot-2")
    await store.release_lease(old)
    await store.renew_lease(new, ttl_s=LONG_S)


async def test_the_owner_alone_is_not_enough(store: RunStore, cluster: ClusterName) -> None:
    """A driver with the same name and an older epoch is another driver."""
    await store.propose(cluster, R1, proposed(cluster))
    lease = await take(store, cluster)
    older = Lease(cluster=cluster, run=R1, owner=lease.owner, epoch=lease.epoch - 1)
    with pytest.raises(LeaseLost):
        await store.append(older, OPENED, expected_length=1)
    with pytest.raises(LeaseLost):
        await store.renew_lease(older, ttl_s=LONG_S)


async def test_appends_build_the_journal(store: RunStore, cluster: ClusterName) -> None:
    """What the driver appends is read back in order and unchanged."""
    await store.propose(cluster, R1, proposed(cluster))
    lease = await take(store, cluster)
    await store.append(lease, lease_taken("bot-1", lease.epoch), expected_length=1)
    await store.append(lease, OPENED, expected_length=2)
    assert await store.events(cluster, R1) == (proposed(cluster), lease_taken("bot-1", lease.epoch), OPENED)


@pytest.mark.parametrize("length", [0, 2, 7])
async def test_an_append_to_a_journal_of_another_length_is_refused(
    store: RunStore, cluster: ClusterName, length: int
) -> None:
    """A driver that believes in another history records nothing."""
    await store.propose(cluster, R1, proposed(cluster))
    lease = await take(store, cluster)
    with pytest.raises(OutOfDate):
        await store.append(lease, OPENED, expected_length=length)
    assert len(await store.events(cluster, R1)) == 1


async def test_an_append_sent_twice_is_recorded_once(store: RunStore, cluster: ClusterName) -> None:
    """The same event at the same place, sent again because its answer was lost, succeeds and changes nothing."""
    await store.propose(cluster, R1, proposed(cluster))
    lease = await take(store, cluster)
    for event, length in ((OPENED, 1), (ENDED, 2)):
        await store.append(lease, event, expected_length=length)
        await store.append(lease, event, expected_length=length)
    assert len(await store.events(cluster, R1)) == 3


async def test_a_decision_needs_no_lease(store: RunStore, cluster: ClusterName) -> None:
    """A person's decision is recorded while somebody else drives, and while nobody does."""
    await store.propose(cluster, R1, proposed(cluster))
    await store.decide(cluster, R1, ABORTED, expected_length=1)
    assert (await store.events(cluster, R1))[-1] == ABORTED


async def test_a_decision_on_an_old_view_is_refused(store: RunStore, cluster: ClusterName) -> None:
    """A decision made on a shorter journal than the present one is not recorded."""
    await store.propose(cluster, R1, proposed(cluster))
    await store.append(await take(store, cluster), OPENED, expected_length=1)
    with pytest.raises(OutOfDate):
        await store.decide(cluster, R1, ABORTED, expected_length=1)
    assert len(await store.events(cluster, R1)) == 2


async def test_of_a_decision_and_an_append_at_once_one_wins(store: RunStore, cluster: ClusterName) -> None:
    """When person and driver write at the same length, exactly one is recorded and the other one is told."""
    await store.propose(cluster, R1, proposed(cluster))
    lease = await take(store, cluster)
    results = await asyncio.gather(
        store.append(lease, OPENED, expected_length=1),
        store.decide(cluster, R1, ABORTED, expected_length=1),
        return_exceptions=True,
    )
    assert [type(result) for result in results if result is not None] == [OutOfDate]
    assert len(await store.events(cluster, R1)) == 2


async def test_the_end_frees_the_lock(store: RunStore, cluster: ClusterName) -> None:
    """With its end a run gives the cluster's lock back, keeps its journal, and the next one may begin."""
    await store.propose(cluster, R1, proposed(cluster))
    lease = await take(store, cluster)
    await store.append(lease, ENDED, expected_length=1)
    assert await store.active(cluster) is None
    assert await store.events(cluster, R1) == (proposed(cluster), ENDED)
    assert await store.propose(cluster, R2, proposed(cluster)) == R2


async def test_nothing_is_written_after_the_end(store: RunStore, cluster: ClusterName) -> None:
    """A run that has ended takes neither decisions nor appends, also while the next run is there."""
    await store.propose(cluster, R1, proposed(cluster))
    lease = await take(store, cluster)
    await store.append(lease, ENDED, expected_length=1)
    await store.propose(cluster, R2, proposed(cluster))
    with pytest.raises(OutOfDate):
        await store.decide(cluster, R1, ABORTED, expected_length=2)
    with pytest.raises(OutOfDate):
        await store.append(lease, OPENED, expected_length=2)
    assert await store.active(cluster) == R2
    assert len(await store.events(cluster, R1)) == 2


async def test_a_decision_cannot_end_a_run(store: RunStore, cluster: ClusterName) -> None:
    """Only the driver ends a run: an end without the lease would free the lock under a driver's hands."""
    await store.propose(cluster, R1, proposed(cluster))
    with pytest.raises(IllegalEvent):
        await store.decide(cluster, R1, ENDED, expected_length=1)
    assert await store.active(cluster) == R1


async def test_a_run_that_never_was_takes_nothing(store: RunStore, cluster: ClusterName) -> None:
    """An unknown run has an empty journal and cannot be written to."""
    assert await store.events(cluster, R1) == ()
    with pytest.raises(OutOfDate):
        await store.decide(cluster, R1, ABORTED, expected_length=0)
    assert await store.events(cluster, R1) == ()


async def test_waiting_ends_when_the_journal_grows(store: RunStore, cluster: ClusterName) -> None:
    """Somebody who waits for more than one event is woken by the second one."""
    await store.propose(cluster, R1, proposed(cluster))
    waiter = asyncio.create_task(store.wait(cluster, R1, length=1, timeout_s=LONG_S))
    await asyncio.sleep(0)
    assert not waiter.done()
    await store.decide(cluster, R1, ABORTED, expected_length=1)
    async with asyncio.timeout(20):
        await waiter


async def test_waiting_for_what_is_there_ends_at_once(store: RunStore, cluster: ClusterName) -> None:
    """Nobody waits for an event that was recorded before the wait began."""
    await store.propose(cluster, R1, proposed(cluster))
    async with asyncio.timeout(20):
        await store.wait(cluster, R1, length=0, timeout_s=LONG_S)


async def test_waiting_ends_at_the_timeout(store: RunStore, cluster: ClusterName) -> None:
    """Where nothing happens the wait ends without an error and without an event."""
    await store.propose(cluster, R1, proposed(cluster))
    async with asyncio.timeout(20):
        await store.wait(cluster, R1, length=1, timeout_s=SHORT_S)
    assert len(await store.events(cluster, R1)) == 1


async def test_memos_are_kept_beside_their_cluster(store: RunStore, cluster: ClusterName) -> None:
    """A small value is given back as it was, the newest one counts, and another cluster does not see it."""
    assert await store.recall(cluster, "card") is None
    await store.remember(cluster, "card", "C1/1.0")
    await store.remember(cluster, "card", "C1/2.0 ä")
    assert await store.recall(cluster, "card") == "C1/2.0 ä"
    assert await store.recall(ClusterName(f"{cluster}-other"), "card") is None


async def test_once_is_once(store: RunStore, cluster: ClusterName) -> None:
    """Of many deliveries of the same payload exactly one counts, and another payload counts too."""
    seen = await asyncio.gather(*(store.once(f"{cluster}/a", ttl_s=LONG_S) for _ in range(10)))
    assert sum(seen) == 1
    assert await store.once(f"{cluster}/b", ttl_s=LONG_S)


async def test_once_forgets_after_its_time(store: RunStore, cluster: ClusterName) -> None:
    """A key is new again when its time is over."""
    assert await store.once(str(cluster), ttl_s=SHORT_S)
    async with asyncio.timeout(20):
        while True:
            await asyncio.sleep(SHORT_S * 2)
            if await store.once(str(cluster), ttl_s=SHORT_S):
                return


async def test_the_driver_is_whoever_has_the_lease(store: RunStore, cluster: ClusterName) -> None:
    """Nobody before, its owner and epoch while it lives, nobody after it was given back."""
    await store.propose(cluster, R1, proposed(cluster))
    assert await store.driver(cluster) is None
    lease = await take(store, cluster)
    assert await store.driver(cluster) == LeaseHeld(owner="bot-1", epoch=lease.epoch)
    await store.release_lease(lease)
    assert await store.driver(cluster) is None


async def test_unlocking_ends_the_run_frees_the_lock_and_stops_the_driver(
    store: RunStore, cluster: ClusterName
) -> None:
    """In one act: the entry is the journal's last, another run may be proposed, and the old driver is told."""
    await store.propose(cluster, R1, proposed(cluster))
    lease = await take(store, cluster)
    with pytest.raises(OutOfDate):
        await store.unlock(cluster, R1, UNLOCKED, expected_length=7)
    assert await store.active(cluster) == R1
    await store.unlock(cluster, R1, UNLOCKED, expected_length=1)
    assert (await store.events(cluster, R1))[-1] == UNLOCKED
    assert await store.active(cluster) is None
    assert await store.driver(cluster) is None
    with pytest.raises(LeaseLost):
        await store.append(lease, OPENED, expected_length=2)
    assert await store.propose(cluster, R2, proposed(cluster)) == R2


async def test_a_decision_is_never_an_unlock(store: RunStore, cluster: ClusterName) -> None:
    """An unlock that leaves the lock would be a run that nobody can end."""
    await store.propose(cluster, R1, proposed(cluster))
    with pytest.raises(IllegalEvent):
        await store.decide(cluster, R1, UNLOCKED, expected_length=1)
