"""Who is behind the leader, as the agents tell it."""

from typing import cast

from recovery.adapters.checks import answer
from recovery.adapters.collect import Probe
from recovery.adapters.consul_api import AgentSilent
from recovery.model import AgentView, Fact, Fails, Holds, HostView, RunId, ServerName, Unknown
from recovery.plan import CaughtUp
from tests.builders.observations import host

S1, S2, S3 = (ServerName(name) for name in ("s1", "s2", "s3"))
ALL = (S1, S2, S3)


def leader(commit_index: int) -> AgentView:
    return AgentView(
        leader_address="",
        peers=(),
        names_itself_leader=True,
        raft_state="Leader",
        commit_index=commit_index,
    )


def follower(commit_index: int) -> AgentView:
    return AgentView(leader_address="", peers=(), raft_state="Follower", commit_index=commit_index)


class Host:
    """A host whose agent's process is there, or is not."""

    def __init__(self, *, running: bool) -> None:
        self._running = running

    async def look(self) -> HostView:
        return host(running=self._running)


class Agents:
    """Agents whose answers are given one after the other; None is silence, the last answer stays."""

    def __init__(self, **views: list[AgentView | None]) -> None:
        self._views = views
        self.hosts = {ServerName(name): Host(running=True) for name in views}

    async def pulse(self, name: ServerName, *, numbers: bool = True) -> AgentView:
        views = self._views[name]
        view = views.pop(0) if len(views) > 1 else views[0]
        if view is None:
            raise AgentSilent("connection refused")
        return view

    async def caught_up(self) -> Fact:
        return await answer(cast("Probe", self), CaughtUp(ALL), run=RunId("r1"))


async def test_a_follower_that_has_less_than_the_leader_had_is_behind() -> None:
    """It votes and answers, and what it holds is old: it is named, with both numbers."""
    fact = await Agents(s1=[leader(19)], s2=[follower(19)], s3=[follower(16)]).caught_up()
    assert fact == Fails("s3 is at 16, s1 was at 19 (commit index)")


async def test_followers_of_a_busy_leader_are_not_behind() -> None:
    """They are held against what the leader had committed a moment before, not against what it has now."""
    agents = Agents(
        s1=[leader(19), leader(40)], s2=[follower(16), follower(39)], s3=[follower(17), follower(20)]
    )
    assert isinstance(await agents.caught_up(), Holds)


async def test_of_one_that_runs_and_is_silent_nobody_knows_how_far_it_is() -> None:
    """What could not be seen satisfies nothing."""
    fact = await Agents(s1=[leader(19)], s2=[follower(19)], s3=[None]).caught_up()
    assert fact == Unknown("s3 does not tell how far it is")


async def test_one_that_has_stopped_again_is_named() -> None:
    """A server that died right after its start is not passed over."""
    agents = Agents(s1=[leader(19)], s2=[follower(19)], s3=[None])
    agents.hosts[S3] = Host(running=False)
    assert await agents.caught_up() == Fails("s3 is stopped")


async def test_without_one_leader_nobody_has_caught_up() -> None:
    """There is no one to be held against."""
    assert isinstance(await Agents(s1=[follower(19)], s2=[follower(19)], s3=[None]).caught_up(), Fails)
    assert isinstance(await Agents(s1=[leader(19)], s2=[leader(19)], s3=[follower(19)]).caught_up(), Fails)


async def test_a_leader_that_does_not_tell_its_numbers_proves_nothing() -> None:
    """Without a token that may read the agent, the leader's numbers are withheld; the reason says so."""
    mute = AgentView(leader_address="", peers=(), names_itself_leader=True, withheld=("agent/self: 403",))
    fact = await Agents(s1=[mute], s2=[follower(0)], s3=[follower(0)]).caught_up()
    assert isinstance(fact, Unknown)
    assert "403" in fact.reason
