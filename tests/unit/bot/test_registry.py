"""How many requests go on at once, and what the rest is told."""

import asyncio

from bot.registry import MOST, MOST_OF_ONE, MOST_REFUSALS, TaskRegistry


async def test_nobody_fills_all_places_alone_and_all_together_not_more_than_there_are() -> None:
    """One person has some places; others still find one; when all are taken everybody is told, until some end."""
    tasks, go_on = TaskRegistry(), asyncio.Event()

    async def wait() -> None:
        await go_on.wait()

    for number in range(MOST):
        who = f"U{number // MOST_OF_ONE}"
        assert tasks.full(who) == ""
        tasks.spawn(wait(), name="request", who=who)
        assert (f"{MOST_OF_ONE} of your requests" in tasks.full(who)) == ((number + 1) % MOST_OF_ONE == 0)
    assert "nothing was done" in tasks.full("somebody else")
    assert tasks.count == MOST
    go_on.set()
    await tasks.drain(timeout_s=2)
    assert tasks.full("somebody else") == tasks.full("U0") == ""


async def test_refusals_are_bounded_too() -> None:
    """More clicks than can be answered need no more answers; one that ends makes room for the next."""
    tasks, go_on, said = TaskRegistry(), asyncio.Event(), list[int]()

    async def say(number: int) -> None:
        said.append(number)
        await go_on.wait()

    for number in range(MOST_REFUSALS * 3):
        tasks.refuse(say(number), name="no place")
    await asyncio.sleep(0)
    assert said == list(range(MOST_REFUSALS))
    go_on.set()
    await tasks.drain(timeout_s=2)
    tasks.refuse(say(-1), name="no place")
    await tasks.drain(timeout_s=2)
    assert said[-1] == -1


async def test_a_task_that_fails_gives_its_place_back() -> None:
    """A fault is logged and costs no place for ever."""
    tasks = TaskRegistry()

    async def fail() -> None:
        raise ValueError("a fault of ours")

    for _ in range(MOST_OF_ONE):
        tasks.spawn(fail(), name="request", who="U1")
    assert tasks.full("U1")
    await tasks.drain(timeout_s=2)
    assert tasks.full("U1") == ""
