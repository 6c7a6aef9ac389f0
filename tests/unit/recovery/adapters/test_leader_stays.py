"""A leader that stays: how long it is watched, and what shows that it was elected anew meanwhile."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from recovery.adapters.checks import answer
from recovery.adapters.collect import Probe
from recovery.model import AgentView, Fact, Fails, Holds, RunId, ServerName
from recovery.plan import LeaderStays
from recovery.raftentry import LogPosition
from tests.sweeps.virtual_time import run_virtually

S1 = ServerName("s1")
QUICK_S = 0.01


class Agent:
    """One that leads in the term of each moment; its numbers take a while, as a program that is started does."""

    def __init__(self, term_at: Callable[[float], int], *, numbers_take_s: float) -> None:
        self._term_at = term_at
        self._numbers_take_s = numbers_take_s

    async def pulse(self, name: ServerName, *, numbers: bool = True) -> AgentView:
        del name
        await asyncio.sleep(self._numbers_take_s if numbers else QUICK_S)
        term = self._term_at(asyncio.get_running_loop().time()) if numbers else 0
        last = LogPosition(term, 40) if numbers else None
        return AgentView(leader_address="", peers=(), names_itself_leader=True, term=term, last=last)


def watched(agent: Agent, *, at_least: LogPosition | None = None) -> tuple[Fact, float]:
    """Whether it stays leader for 3 s, and how long it took to say so."""

    async def ask() -> tuple[Fact, float]:
        fact = await answer(cast("Probe", agent), LeaderStays((S1,), 3, at_least), run=RunId("r1"))
        return fact, asyncio.get_running_loop().time()

    return run_virtually(ask())


def test_it_has_led_since_it_was_first_seen_where_no_election_fits_in_between() -> None:
    """The term that is told half a second later is the one that it led in already."""
    fact, took_s = watched(Agent(lambda _: 2, numbers_take_s=0.5))
    assert isinstance(fact, Holds)
    assert took_s == pytest.approx(QUICK_S + 3.0 + 0.5)


def test_it_is_watched_from_its_term_on_where_an_election_may_lie_in_between() -> None:
    """A host that takes seconds to tell the term may have elected it anew meanwhile."""
    fact, took_s = watched(Agent(lambda _: 2, numbers_take_s=1.5))
    assert isinstance(fact, Holds)
    assert took_s == pytest.approx(QUICK_S + 1.5 + 3.0 + 1.5)


def test_who_was_elected_anew_did_not_stay() -> None:
    """Every sample names it leader; only the term tells."""
    fact, _ = watched(Agent(lambda now_s: 2 if now_s < 2.0 else 3, numbers_take_s=0.2))
    assert fact == Fails("s1 did not stay leader: s1 leads in term 3")


def test_whose_log_ends_too_early_is_not_the_leader_that_was_wanted() -> None:
    """It may have lost its log: the others must not be started under it."""
    fact, _ = watched(Agent(lambda _: 2, numbers_take_s=0.2), at_least=LogPosition(1, 41))
    assert fact == Fails("s1 leads, but its log ends at term 2, index 40, before term 1, index 41")
