"""The broken worlds that make each registered procedure propose itself.

A new procedure is swept by being registered (recovery.procedures.METHODS) and
by having a story here; the test that every procedure has one fails without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from recovery.model import ServerName
from recovery.procedures import (
    found,
    leftovers,
    peers_json,
    peers_json_live,
    readmit,
    staged,
    start_stopped,
)
from recovery.raftentry import LogPosition, Peer
from tests.builders.runs import CLUSTER
from tests.fakes.fake_world import (
    FakeServer,
    FakeWorld,
    client_agents,
    majority_replaced,
    never_bootstrapped,
    one_fenced,
    peers_emptied,
    three_servers,
)


@dataclass(frozen=True, slots=True)
class Story:
    """One way to get to a plan of a procedure."""

    module: ModuleType
    """The file that makes the plan; two of them may bear one name."""
    name: str
    servers: Callable[[], tuple[FakeServer, ...]]
    lost: tuple[str, ...] = ()
    method: str | None = None
    server: str | None = None
    clients: int = 0
    """How many client agents there are."""

    @property
    def procedure(self) -> str:
        """What people call it."""
        return str(self.module.NAME)

    def __str__(self) -> str:
        return f"{self.procedure}, {self.name}"

    def world(self) -> FakeWorld:
        """A fresh world, broken."""
        return FakeWorld(CLUSTER, self.servers(), client_agents(self.clients))


def two_of_three_stopped() -> tuple[FakeServer, ...]:
    """s2 and s3 are stopped; nothing is lost."""
    servers = three_servers()
    for server in servers[1:]:
        server.running = False
    return servers


def left_by_an_abandoned_run() -> tuple[FakeServer, ...]:
    """s2 and s3 are stopped with an unread peers.json, and all are held by a run that nobody remembers."""
    servers = two_of_three_stopped()
    for server in servers:
        server.held_by = "r0"
    for server in servers[1:]:
        server.peers_json = server.voters
    return servers


def a_blank_one_runs() -> tuple[FakeServer, ...]:
    """s1 and s2 are stopped; s3 runs without data, and would vote for anybody."""
    servers = three_servers()
    for server in servers[:2]:
        server.running = False
    servers[2].node_id, servers[2].voters = "s3-new", ()
    servers[2].last, servers[2].keys = None, frozenset()
    return servers


def newest_on_one() -> tuple[FakeServer, ...]:
    """Of five, s1 and s2 were stopped before the last key, s4 and s5 are gone: s3 alone has it."""
    names = ("s1", "s2", "s3", "s4", "s5")
    voters = tuple(Peer(f"{n}-id", f"198.51.100.1{n[1]}:8300", voter=True) for n in names)
    servers = tuple(
        FakeServer(
            name=ServerName(n),
            address=f"198.51.100.1{n[1]}",
            node_id=f"{n}-id",
            voters=voters,
            last=LogPosition(term=2, index=15),
            keys=frozenset({"first"}),
            running=n == "s3",
            reachable=n not in {"s4", "s5"},
        )
        for n in names
    )
    for server in servers[2:]:
        server.last, server.keys = LogPosition(term=3, index=18), frozenset({"first", "last"})
    return servers


def an_override_left() -> tuple[FakeServer, ...]:
    """A healthy cluster; a run that ended badly left bootstrap_expect overridden on s3."""
    servers = three_servers()
    servers[2].override_by, servers[2].override = "r0", 1
    return servers


def nobody_can_lead_alone() -> tuple[FakeServer, ...]:
    """Below 0.7 with emptied peers, and every log ends with all three: they left while nobody led."""
    servers = peers_emptied()
    everyone = tuple(server.me for server in servers)
    for server in servers:
        server.log_voters = everyone
    return servers


def others_left_out() -> tuple[FakeServer, ...]:
    """s1 survives; the log of s2 cannot be read, and s3 is a machine with another cluster's data."""
    s1, s2, s3 = three_servers()
    s2.running, s2.damaged = False, True
    s3.node_id, s3.address = "s3-new", "198.51.100.23"
    strangers = tuple(Peer(f"x{n}-id", f"198.51.100.9{n}:8300", voter=True) for n in (1, 2))
    s3.voters, s3.running = (s3.me, *strangers), False
    s3.last, s3.keys = LogPosition(term=1, index=9), frozenset({"foreign"})
    return s1, s2, s3


def restarted_followers() -> tuple[FakeServer, ...]:
    """Three of 0.6.4 that left; started again, s1 hears nobody, and s2 is not made a peer."""
    servers = peers_emptied()
    # The start in which they are now counts too.
    servers[0].deaf_starts, servers[1].unlisted_starts = 2, 2
    return servers


STORIES = (
    Story(start_stopped, "two of three stopped", two_of_three_stopped),
    Story(start_stopped, "what an abandoned run has left", left_by_an_abandoned_run),
    Story(start_stopped, "two stopped, a blank one runs", a_blank_one_runs),
    Story(peers_json, "two of three replaced by blank machines", majority_replaced, lost=("s2", "s3")),
    Story(
        peers_json,
        "of five the newest entries on one",
        newest_on_one,
        lost=("s4", "s5"),
        method=peers_json.NAME,
    ),
    Story(readmit, "one of three was left out and fenced", one_fenced, method=readmit.NAME, server="s3"),
    Story(peers_json, "of three one is damaged, one has foreign data", others_left_out, lost=("s2", "s3")),
    Story(staged, "three left one after the other", peers_emptied),
    Story(peers_json_live, "below 0.7, nobody can lead alone", nobody_can_lead_alone, clients=5),
    Story(found, "three that expect five", never_bootstrapped),
    Story(leftovers, "an override left behind", an_override_left),
)

SORTED = Story(staged, "one comes back in error, one as no peer", restarted_followers)
"""Has sweeps of its own: once such a run is gone, no other plan restarts whom the leader does not make a peer."""
