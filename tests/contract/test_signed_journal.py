"""Whoever may write to the store, and has not the key, makes nothing that verifies; the same for both stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast
from uuid import uuid4

import pytest

from recovery.adapters.redis_store import RedisStore
from recovery.codec import encode_event
from recovery.errors import JournalUnreadable, OutOfDate, StoreForgot, Unverified
from recovery.journal import AbortChosen, Approved
from recovery.model import ClusterName, Person, RunId
from recovery.ports import Lease
from tests.contract.runs import ABORTED, ENDED, OPENED, UNLOCKED, lease_taken, proposed
from tests.fakes.memory_store import MemoryStore

Store = MemoryStore | RedisStore
Lines = list[bytes]
R1 = RunId("r1")
R2 = RunId("r2")


@pytest.fixture
def cluster() -> ClusterName:
    return ClusterName(f"c-{uuid4().hex[:12]}")


async def lines_of(store: Store, cluster: ClusterName, run: RunId) -> Lines:
    """The raw lines, as anybody reads them who may."""
    if isinstance(store, MemoryStore):
        return store.lines(cluster, run)
    return cast("Lines", await store._client.lrange(f"consul-recovery:{{{cluster}}}:run:{run}", 0, -1))


async def rewrite(store: Store, cluster: ClusterName, run: RunId, lines: Lines) -> None:
    """Make a journal these lines, as anybody does who may write."""
    if isinstance(store, MemoryStore):
        store.rewrite(cluster, run, lines)
        return
    key = f"consul-recovery:{{{cluster}}}:run:{run}"
    await store._client.delete(key)
    if lines:
        await store._client.rpush(key, *lines)


async def lock(store: Store, cluster: ClusterName, run: RunId) -> None:
    """Make the lock name this run."""
    if isinstance(store, MemoryStore):
        store.forge_active(cluster, run)
    else:
        await store._client.set(f"consul-recovery:{{{cluster}}}:active", run)


async def keep(store: Store, cluster: ClusterName, name: str, stored: bytes) -> None:
    """Make a memo hold this."""
    if isinstance(store, MemoryStore):
        store.forge_memo(cluster, name, stored)
    else:
        await store._client.set(f"consul-recovery:{{{cluster}}}:memo:{name}", stored)


async def kept(store: Store, cluster: ClusterName, name: str) -> bytes:
    """What a memo holds."""
    if isinstance(store, MemoryStore):
        return store._clusters[cluster].memos[name]
    return cast("bytes", await store._client.get(f"consul-recovery:{{{cluster}}}:memo:{name}"))


async def begun(store: Store, cluster: ClusterName, run: RunId = R1) -> Lease:
    """A run of three events that waits for approval, and its driver's lease."""
    assert await store.propose(cluster, run, proposed(cluster)) == run
    lease = await store.take_lease(cluster, run, owner="bot-1", ttl_s=60, above_epoch=0)
    assert isinstance(lease, Lease)
    await store.append(lease, lease_taken("bot-1", lease.epoch), expected_length=1)
    await store.append(lease, OPENED, expected_length=2)
    return lease


def approved(cluster: ClusterName) -> bytes:
    """An approval in bob's name, as everybody can write it who reads a journal."""
    return encode_event(
        Approved(at_s=3.5, by=Person("bob"), gate="plan", digest=proposed(cluster).plan.digest())
    )


def edited(line: bytes, old: bytes, new: bytes) -> bytes:
    """A line with something else in it."""
    assert old in line
    return line.replace(old, new)


FORGERIES: dict[str, tuple[Callable[[Lines, ClusterName], Lines], int]] = {
    "an approval without a signature": (lambda lines, cluster: [*lines, approved(cluster)], 4),
    "an approval with a made-up signature": (
        lambda lines, cluster: [*lines, b"s1 " + b"0" * 64 + b" " + approved(cluster)],
        4,
    ),
    "an approval with the signature of the line before": (
        lambda lines, cluster: [*lines, lines[-1][:68] + approved(cluster)],
        4,
    ),
    "an edited plan": (
        lambda lines, _: [edited(lines[0], b"Wait for s1", b"Wipe all of"), *lines[1:]],
        1,
    ),
    "fewer people needed": (
        lambda lines, _: [
            edited(lines[0], b'"requester_counts":false', b'"requester_counts":true'),
            *lines[1:],
        ],
        1,
    ),
    "a line twice": (lambda lines, _: [*lines, lines[-1]], 4),
    "two lines changed places": (lambda lines, _: [lines[0], lines[2], lines[1]], 2),
    "a line in the middle taken out": (lambda lines, _: [lines[0], lines[2]], 2),
    "the first line taken out": (lambda lines, _: lines[1:], 1),
    "nothing but garbage": (lambda _, __: [b"\xff\x00garbage"], 1),
    "an empty line": (lambda lines, _: [*lines, b""], 4),
    "a tag alone": (lambda lines, _: [*lines, b"s1 "], 4),
    "a journal without signatures": (
        lambda lines, _: [line[68:] for line in lines],
        1,
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_what_was_not_signed_for_its_place_is_not_read(
    store: Store, cluster: ClusterName, forgery: str
) -> None:
    """It is said which line; nobody reads, appends or decides, and an unlock ends it with all lines kept."""
    lease = await begun(store, cluster)
    change, line = FORGERIES[forgery]
    forged = change(await lines_of(store, cluster, R1), cluster)
    await rewrite(store, cluster, R1, forged)
    with pytest.raises(JournalUnreadable, match=f"Run r1 of .* line {line} of its journal .* `unlock r1`"):
        await store.events(cluster, R1)
    journal = await store.journal(cluster, R1)
    assert journal.fault is not None
    assert (journal.fault.line, journal.length, len(journal.events)) == (line, len(forged), line - 1)
    with pytest.raises((JournalUnreadable, OutOfDate, StoreForgot)):
        await store.decide(cluster, R1, ABORTED, expected_length=len(forged))
    with pytest.raises((JournalUnreadable, OutOfDate, StoreForgot)):
        await store.append(lease, ENDED, expected_length=len(forged))
    with pytest.raises((JournalUnreadable, StoreForgot)):
        await store.events(cluster, R1, after=3)
    assert await lines_of(store, cluster, R1) == forged
    await store.unlock(cluster, R1, UNLOCKED, expected_length=len(forged))
    assert await store.active(cluster) is None
    assert (await lines_of(store, cluster, R1))[:-1] == forged
    after = await store.journal(cluster, R1)
    assert (after.fault, after.length, after.unlocked) == (journal.fault, len(forged) + 1, UNLOCKED)
    assert await store.propose(cluster, R2, proposed(cluster)) == R2


async def test_a_journal_of_another_run_or_cluster_does_not_verify(
    store: Store, cluster: ClusterName
) -> None:
    """Two runs whose journals changed places, and a run of another cluster, are both refused."""
    lease = await begun(store, cluster)
    await store.append(lease, ENDED, expected_length=3)
    await store.release_lease(lease)
    await begun(store, cluster, R2)
    other = ClusterName(f"{cluster}-other")
    await begun(store, other)
    first, second = await lines_of(store, cluster, R1), await lines_of(store, cluster, R2)
    for where, run, lines in ((cluster, R1, second), (cluster, R2, first), (other, R1, first[:3])):
        await rewrite(store, where, run, lines)
        with pytest.raises(JournalUnreadable, match="line 1"):
            await store.events(where, run)


async def test_lines_of_two_histories_of_one_run_do_not_fit(store: Store, cluster: ClusterName) -> None:
    """A true line of the same run and place does not verify behind a line that it was not written behind."""
    await begun(store, cluster)
    early = await lines_of(store, cluster, R1)
    await store.decide(cluster, R1, ABORTED, expected_length=3)
    await store.decide(cluster, R1, AbortChosen(at_s=4.5, by=Person("carol")), expected_length=4)
    one = await lines_of(store, cluster, R1)
    # The newest lines taken away: no signature shows that, and the run goes on another way.
    await rewrite(store, cluster, R1, early)
    assert len(await store.events(cluster, R1)) == 3
    await store.decide(cluster, R1, AbortChosen(at_s=4.2, by=Person("dave")), expected_length=3)
    two = await lines_of(store, cluster, R1)
    await rewrite(store, cluster, R1, [*two, one[4]])
    with pytest.raises(JournalUnreadable, match="line 5"):
        await store.events(cluster, R1)


async def test_nothing_comes_behind_another_history(store: Store, cluster: ClusterName) -> None:
    """Whoever read a journal that has become shorter or another one since writes nothing, and is told."""
    lease = await begun(store, cluster)
    early = await lines_of(store, cluster, R1)
    await store.decide(cluster, R1, ABORTED, expected_length=3)
    await rewrite(store, cluster, R1, early[:2])
    with pytest.raises(OutOfDate):
        await store.append(lease, ENDED, expected_length=4)
    with pytest.raises(StoreForgot, match="Redis knows 2 of the 4 events"):
        await store.events(cluster, R1, after=4)


async def test_events_after_some_are_the_rest(store: Store, cluster: ClusterName) -> None:
    """Whoever has read a part reads on from there; where the part has become shorter that is said."""
    assert await store.events(cluster, R1) == ()
    lease = await begun(store, cluster)
    whole = await store.events(cluster, R1)
    for after in range(4):
        assert await store.events(cluster, R1, after=after) == whole[after:]
    with pytest.raises(StoreForgot, match="Redis knows 3 of the 4 events"):
        await store.events(cluster, R1, after=4)
    await store.append(lease, ENDED, expected_length=3)
    assert await store.events(cluster, R1, after=3) == (ENDED,)


async def test_a_lock_that_names_what_is_not_there_can_be_taken_away(
    store: Store, cluster: ClusterName
) -> None:
    """Somebody made the lock name a run that never was: its journal stays empty, and the lock goes."""
    await lock(store, cluster, R2)
    assert (await store.journal(cluster, R2)).length == 0
    await store.unlock(cluster, R2, UNLOCKED, expected_length=0)
    assert await store.active(cluster) is None
    assert await store.events(cluster, R2) == ()


@pytest.mark.parametrize(
    "stored",
    [b"[]", b"", b"s1 ", b"s1 " + b"0" * 64 + b" []", b"\xff" * 80],
    ids=["not signed", "empty", "a tag alone", "a made-up signature", "garbage"],
)
async def test_a_memo_that_was_not_signed_is_not_used(
    store: Store, cluster: ClusterName, stored: bytes
) -> None:
    """It is refused by name, and the next value that is kept counts again."""
    await keep(store, cluster, "members", stored)
    with pytest.raises(Unverified, match="members"):
        await store.recall(cluster, "members")
    await store.remember(cluster, "members", "[1]")
    assert await store.recall(cluster, "members") == "[1]"


async def test_a_memo_of_another_name_or_cluster_is_not_used(store: Store, cluster: ClusterName) -> None:
    """A true value under another name is as good as a forged one."""
    other = ClusterName(f"{cluster}-other")
    await store.remember(other, "members", "[1]")
    await store.remember(cluster, "card:r1", "[1]")
    true = [await kept(store, other, "members"), await kept(store, cluster, "card:r1")]
    for stored in true:
        await keep(store, cluster, "members", stored)
        with pytest.raises(Unverified):
            await store.recall(cluster, "members")
