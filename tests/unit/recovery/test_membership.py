"""What is remembered of a cluster's members, and which client agents follow from it."""

from __future__ import annotations

import msgspec

from recovery.inventory.groups import InventoryHost
from recovery.membership import (
    FORGET_AFTER_S,
    NOBODY,
    Membership,
    client_agents,
    decode,
    encode,
    listed,
    updated,
)
from recovery.model import (
    Catalogue,
    ClientAgent,
    ClusterObservation,
    Member,
    MemberStatus,
    ServerName,
    ServerSpec,
)
from recovery.raftentry import LogPosition
from tests.builders.observations import CLUSTER, blank, node_id, peers, running, unreachable

NOW_S = 1_800_000_000.0
SERVERS = (ServerSpec(ServerName("s1"), "198.51.100.11"),)


def client(name: str, *, status: MemberStatus = MemberStatus.ALIVE, at: str = "") -> Member:
    """A client agent as gossip lists it."""
    number = int(name.removeprefix("c"))
    return Member(name=name, address=at or f"198.51.100.{50 + number}", status=status, server=False)


def seen(*clients: Member, at_s: float = NOW_S) -> ClusterObservation:
    """A look at s1, which leads and lists itself and these client agents."""
    server = running("s1", voters=peers("s1"), leader=True)
    assert server.agent is not None
    agent = msgspec.structs.replace(server.agent, members=(*server.agent.members, *clients))
    server = msgspec.structs.replace(server, agent=agent)
    return ClusterObservation(cluster=CLUSTER, taken_at_s=at_s, servers=(server, unreachable("s2")))


def names(membership: Membership) -> set[str]:
    """Who is remembered, without the servers."""
    return {each.member.name for each in membership.known if not each.member.server}


def agents(
    *,
    settings: tuple[ClientAgent, ...] = (),
    inventory: tuple[InventoryHost, ...] = (),
    now: tuple[Member, ...] = (),
    before: Membership = NOBODY,
) -> dict[str, tuple[str, str]]:
    """The client agents by name: address and source."""
    found = client_agents(
        servers=SERVERS,
        settings=settings,
        inventory=inventory,
        inventory_name="inventory /x",
        now=now,
        before=before,
        at_s=NOW_S,
    )
    return {agent.name: (agent.address, agent.source) for agent in found}


def test_members_are_remembered_with_their_time_through_the_store() -> None:
    """What a look shows is kept as text and comes back as it was."""
    kept = updated(NOBODY, seen(client("c1")), led=True)
    assert names(kept) == {"c1"}
    assert kept.seen_at_s == NOW_S
    assert decode(encode(kept)) == kept
    assert decode(None) == decode("of another version") == NOBODY


def test_a_look_that_shows_fewer_forgets_nobody() -> None:
    """After all servers were restarted few clients are listed; those that have not come back are looked for."""
    kept = updated(updated(NOBODY, seen(client("c1"), client("c2")), led=True), seen(client("c1")), led=True)
    assert names(kept) == {"c1", "c2"}


def test_a_list_without_the_server_itself_teaches_nothing() -> None:
    """A weak token gets a filtered list with status 200: it must not count as a list."""
    look = seen()
    server = look.servers[0]
    assert server.agent is not None
    filtered = msgspec.structs.replace(server.agent, members=(client("c9"),))
    look = msgspec.structs.replace(look, servers=(msgspec.structs.replace(server, agent=filtered),))
    assert listed(look.servers) == ()
    kept = updated(NOBODY, look, led=True)
    assert (kept.known, kept.seen_at_s) == ((), 0.0)


def test_one_that_left_is_forgotten_only_while_there_is_a_leader() -> None:
    """A stop that was a leave is part of the disaster; with a leader it is somebody's wish."""
    kept = updated(NOBODY, seen(client("c1")), led=True)
    left = seen(client("c1", status=MemberStatus.LEFT), at_s=NOW_S + 60)
    assert names(updated(kept, left, led=False)) == {"c1"}
    assert names(updated(kept, left, led=True)) == set()


def test_one_that_stays_away_is_forgotten_after_three_days_with_a_leader() -> None:
    """As Consul's own reconnect_timeout has it; a disaster that lasts longer forgets nobody."""
    kept = updated(NOBODY, seen(client("c1")), led=True)
    later = seen(client("c1", status=MemberStatus.FAILED), at_s=NOW_S + FORGET_AFTER_S + 1)
    assert names(updated(kept, later, led=False)) == {"c1"}
    assert names(updated(kept, later, led=True)) == set()


def test_three_sources_are_merged_and_each_is_named() -> None:
    """An agent is there once, with the operator's address, and says from where it is known."""
    before = updated(NOBODY, seen(client("c1"), client("c2"), client("c3"), at_s=NOW_S - 3 * 3600), led=True)
    found = agents(
        settings=(ClientAgent(ServerName("c1"), "192.0.2.1", "settings"),),
        inventory=(InventoryHost("c2.example.com", "192.0.2.2"), InventoryHost("c8", "192.0.2.8")),
        now=(client("c3", status=MemberStatus.FAILED),),
        before=before,
    )
    assert set(found) == {"c1", "c2", "c3", "c8"}
    assert found["c1"][0] == "192.0.2.1"
    assert found["c1"][1].startswith("settings; last known membership (alive ")
    assert "3 h before" in found["c1"][1]
    assert found["c2"][0] == "192.0.2.2"
    assert found["c3"] == ("198.51.100.53", "gossip (failed now)")
    assert found["c8"] == ("192.0.2.8", "inventory /x")


def test_servers_are_never_client_agents() -> None:
    """Neither by name nor by address, nor one that gossip calls a server."""
    other = Member(name="s9", address="192.0.2.9", status=MemberStatus.ALIVE, server=True)
    found = agents(
        inventory=(
            InventoryHost("s1", "192.0.2.1"),
            InventoryHost("x", "198.51.100.11"),
            InventoryHost("s9", "192.0.2.9"),
            InventoryHost("c1", "198.51.100.51"),
        ),
        now=(other,),
    )
    assert set(found) == {"c1"}


def test_gossips_name_counts_for_the_same_address() -> None:
    """The inventory's name for a machine may be another; it has to come back as a member by gossip's."""
    found = agents(inventory=(InventoryHost("front.example.com", "198.51.100.51"),), now=(client("c1"),))
    assert set(found) == {"c1"}


def test_a_renamed_agent_is_there_once() -> None:
    """A host that came back under another name is not stopped and started twice."""
    before = updated(NOBODY, seen(client("c1", at="198.51.100.60"), at_s=NOW_S - 60), led=True)
    found = agents(now=(client("c2", at="198.51.100.60"),), before=before)
    assert set(found) == {"c2"}


def test_one_that_left_is_no_client_agent_unless_it_was_remembered() -> None:
    """Who left before anybody looked is gone; who was alive at the last healthy look is looked for."""
    left = client("c1", status=MemberStatus.LEFT)
    assert agents(now=(left,)) == {}
    before = updated(NOBODY, seen(client("c1")), led=True)
    assert set(agents(now=(left,), before=before)) == {"c1"}


def holding(last: tuple[int, int], *, at_s: float, leader: bool = False) -> ClusterObservation:
    """A look at s1 alone, whose log ends there."""
    server = running("s1", voters=peers("s1", "s2"), last=last, leader=leader)
    return ClusterObservation(cluster=CLUSTER, taken_at_s=at_s, servers=(server,))


def test_the_furthest_end_of_a_log_is_kept_with_its_time_and_peers() -> None:
    """A disk that was restored from an old image, or is gone, takes nothing from what was once seen."""
    kept = updated(NOBODY, holding((2, 15), at_s=NOW_S), led=False)
    kept = updated(kept, holding((3, 18), at_s=NOW_S + 60), led=False)
    kept = updated(kept, holding((3, 17), at_s=NOW_S + 120), led=False)
    [log] = kept.logs
    assert (log.server, log.node_id, log.last) == ("s1", node_id("s1"), LogPosition(3, 18))
    assert (log.at_s, log.peers) == (NOW_S + 60, peers("s1", "s2"))


def test_a_blank_server_is_no_log() -> None:
    """One that waits for others to found a cluster with has nothing that could be lost."""
    look = ClusterObservation(cluster=CLUSTER, taken_at_s=NOW_S, servers=(blank("s1"),))
    kept = updated(NOBODY, look, led=False)
    assert (kept.logs, kept.led_at_s) == ((), 0.0)


def test_a_leader_is_remembered_with_what_its_catalogue_held() -> None:
    """When everything is gone, somebody must be able to say that there was something."""
    look = holding((2, 15), at_s=NOW_S, leader=True)
    agent = look.servers[0].agent
    assert agent is not None
    held = Catalogue(nodes=12, services=30, sessions=4)
    leader = msgspec.structs.replace(look.servers[0], agent=msgspec.structs.replace(agent, catalogue=held))
    kept = updated(NOBODY, msgspec.structs.replace(look, servers=(leader,)), led=True)
    later = updated(kept, holding((2, 15), at_s=NOW_S + 60), led=False)
    assert (later.led_at_s, later.held) == (NOW_S, held)


def test_what_an_older_version_kept_does_not_say_whether_there_was_a_leader() -> None:
    """It is read as it is, and a look at a cluster without a leader does not make a never of it."""
    text = '{"seen_at_s": 1.0, "known": []}'
    assert decode(text).led_at_s is None
    assert updated(decode(text), holding((2, 15), at_s=NOW_S), led=False).led_at_s is None
    assert updated(decode(text), holding((2, 15), at_s=NOW_S), led=True).led_at_s == NOW_S
