"""Whether a leader's log holds the newest entry: by who it is, else by the term of the entry at that index."""

from __future__ import annotations

import pytest

from recovery.adapters.collect import Probe
from recovery.adapters.consul_api import AgentAccess
from recovery.adapters.host_commands import HostAccess
from recovery.adapters.leader_checks import holds_entry
from recovery.adapters.ssh import SshAccess, SshPool
from recovery.model import ClusterName, ClusterSpec, Fact, Fails, Holds, ServerName, ServerSpec, Unknown
from recovery.raftentry import LogPosition

S1, S3 = ServerName("s1"), ServerName("s3")
NEWEST = LogPosition(term=3, index=18)


class OneLog(Probe):
    """A probe of which only the term at one index is asked."""

    def __init__(self, term: int | None) -> None:
        nobody = SshAccess(user="nobody", key_path="/dev/null", known_hosts_path="/dev/null")
        super().__init__(
            ClusterSpec(ClusterName("dc1"), (ServerSpec(S1, "192.0.2.1"),)),
            pool=SshPool(nobody),
            host=HostAccess(user="nobody"),
            agent=AgentAccess(),
        )
        self.term = term
        self.asked: list[tuple[str, int]] = []

    async def term_at(self, name: ServerName, index: int) -> int | None:
        self.asked.append((name, index))
        return self.term


async def told(term: int | None, *, last: LogPosition | None, leader: ServerName = S1) -> Fact:
    probe = OneLog(term)
    return await holds_entry(probe, leader, last, at_least=NEWEST, holders=(S3,), said=f"{leader} leads")


async def test_a_stale_leader_whose_own_entries_have_passed_the_index_is_none() -> None:
    """Its log ends at term 7, index 30; at index 18 it holds an entry of another term: the newest one is not there."""
    fact = await told(2, last=LogPosition(term=7, index=30))
    assert isinstance(fact, Fails)
    assert "s1 leads without the newest entry" in fact.observed
    assert fact.final


async def test_a_leader_with_the_newest_term_at_the_newest_index_holds_it() -> None:
    """One term has one leader, and so one entry at an index."""
    fact = await told(3, last=LogPosition(term=7, index=30))
    assert isinstance(fact, Holds)


async def test_one_whose_own_log_was_read_and_ended_there_is_not_asked_again() -> None:
    """It is the holder itself, however far it has come since."""
    probe = OneLog(None)
    fact = await holds_entry(
        probe, S3, LogPosition(term=9, index=900), at_least=NEWEST, holders=(S3,), said="s3 leads"
    )
    assert isinstance(fact, Holds)
    assert probe.asked == []


async def test_a_log_that_does_not_tell_any_more_is_not_known_to_hold_it() -> None:
    """Compacted into a later snapshot: neither proven nor refuted."""
    assert isinstance(await told(None, last=LogPosition(term=7, index=30)), Unknown)


@pytest.mark.parametrize("last", [None, LogPosition(term=7, index=17)])
async def test_a_log_that_ends_before_it_fails_and_may_still_come(last: LogPosition | None) -> None:
    """A leader that is still replaying has not told its end yet."""
    fact = await told(3, last=last)
    assert isinstance(fact, Fails)
    assert not fact.final
