"""Several servers asked at once: who is waited for, and who is not."""

import asyncio
from typing import cast

import pytest

from recovery.adapters.asking import leaders_of, pulses_until_led
from recovery.adapters.collect import Probe
from recovery.adapters.consul_api import AgentSilent
from recovery.model import AgentView, ServerName

pytestmark = pytest.mark.virtual_time

S1, S2, S3 = (ServerName(name) for name in ("s1", "s2", "s3"))
LEADER = AgentView(leader_address="", peers=(), names_itself_leader=True)
FOLLOWER = AgentView(leader_address="", peers=())


class Agents:
    """Each answers once it may; one without a view is silent."""

    def __init__(self, views: dict[ServerName, AgentView | None]) -> None:
        self._views = views
        self.may_answer = {name: asyncio.Event() for name in views}

    async def pulse(self, name: ServerName, *, numbers: bool = True) -> AgentView:
        await self.may_answer[name].wait()
        view = self._views[name]
        if view is None:
            raise AgentSilent("connection refused")
        return view

    def ask(self, needed: ServerName) -> asyncio.Task[dict[ServerName, AgentView | str]]:
        return asyncio.create_task(pulses_until_led(cast("Probe", self), tuple(self._views), needed))


async def test_a_host_that_is_gone_holds_nobody_up_once_there_is_a_leader() -> None:
    """It never answers, and is told as silent."""
    agents = Agents({S1: LEADER, S2: FOLLOWER, S3: FOLLOWER})
    asked = agents.ask(S2)
    agents.may_answer[S1].set()
    agents.may_answer[S2].set()
    found = await asked
    assert leaders_of(found) == (S1,)
    assert found[S2] is FOLLOWER
    assert isinstance(found[S3], str)


async def test_without_a_leader_the_slowest_is_waited_for() -> None:
    """It may be the one that leads."""
    agents = Agents({S1: FOLLOWER, S2: FOLLOWER, S3: LEADER})
    asked = agents.ask(S1)
    agents.may_answer[S1].set()
    agents.may_answer[S2].set()
    await asyncio.wait({asked}, timeout=1.2)  # longer than stragglers are given
    assert not asked.done()
    agents.may_answer[S3].set()
    assert leaders_of(await asked) == (S3,)


async def test_the_one_that_the_question_is_about_is_waited_for() -> None:
    """A leader's answer alone says nothing of it."""
    agents = Agents({S1: LEADER, S2: None, S3: FOLLOWER})
    asked = agents.ask(S2)
    agents.may_answer[S1].set()
    await asyncio.wait({asked}, timeout=1.2)
    assert not asked.done()
    agents.may_answer[S2].set()
    assert (await asked)[S2] == "connection refused"


async def test_two_leaders_are_both_told() -> None:
    """The second one answers a moment after the first."""
    agents = Agents({S1: LEADER, S2: LEADER, S3: FOLLOWER})
    asked = agents.ask(S1)
    agents.may_answer[S1].set()
    await asyncio.wait({asked}, timeout=0.1)
    agents.may_answer[S2].set()
    assert leaders_of(await asked) == (S1, S2)
