"""What stands against calling a cluster new: the store's memory, and what hosts tell of empty directories."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from recovery.diagnosis import (
    EmptyWhereDataWas,
    MajorityGone,
    NeverBootstrapped,
    OutOfSight,
    diagnose,
)
from recovery.membership import NOBODY, Known, KnownLog, Membership
from recovery.model import (
    Catalogue,
    ClusterObservation,
    DirectoryView,
    HostRun,
    Member,
    MemberStatus,
    ServerName,
    ServerObservation,
    Unmounted,
)
from recovery.past import FOUNDING, EarlierRun, Past
from recovery.plan import Proposal, Refusal
from recovery.procedures import METHODS, propose
from recovery.raftentry import LogPosition
from tests.builders.observations import (
    NOTHING_KNOWN,
    blank,
    cluster,
    host,
    node_id,
    peers,
    stopped,
    unreachable,
)

NOW_S = 1_800_000_000.0
HOUR_S = 3600.0
S1 = ServerName("s1")


def bare(name: str) -> ServerObservation:
    """A stopped server in whose data directory no agent ever ran."""
    seen = blank(name, is_running=False)
    return msgspec.structs.replace(seen, host=host(running=False, raft_db_bytes=-1, peers_info=False))


def all_bare() -> ClusterObservation:
    return cluster(bare("s1"), bare("s2"), bare("s3"))


def of_s1(
    seen: ClusterObservation, change: Callable[[ServerObservation], ServerObservation]
) -> ClusterObservation:
    """The same with something else at s1."""
    return msgspec.structs.replace(seen, servers=(change(seen.servers[0]), *seen.servers[1:]))


def directory(seen: ClusterObservation, view: DirectoryView | None, problem: str = "") -> ClusterObservation:
    return of_s1(seen, lambda s1: msgspec.structs.replace(s1, directory=view, directory_problem=problem))


def hosted(seen: ClusterObservation, **more: object) -> ClusterObservation:
    def changed(s1: ServerObservation) -> ServerObservation:
        assert s1.host is not None
        return msgspec.structs.replace(s1, host=msgspec.structs.replace(s1.host, **more))

    return of_s1(seen, changed)


def member(name: str, *, ident: str = "") -> Known:
    at = Member(name, "198.51.100.99", MemberStatus.ALIVE, server=True, node_id=ident)
    return Known(at, NOW_S - HOUR_S)


def remembering(**more: object) -> Past:
    return Past(membership=msgspec.structs.replace(NOBODY, **more))


LOG = KnownLog(server=S1, node_id=node_id("s1"), last=LogPosition(4, 44), at_s=NOW_S - HOUR_S)
BY_STORE: dict[str, tuple[Past, str]] = {
    "a leader": (
        remembering(led_at_s=NOW_S - HOUR_S, held=Catalogue(12, 30, 4)),
        "the bot saw this cluster with a leader, last 2027-01-15 07:00 UTC, 1 h before, its catalogue held 12 nodes",
    ),
    "a log": (remembering(logs=(LOG,)), "s1 (id s1-0000-) held a log up to term 4, index 44, last seen 2027"),
    "a member that the settings do not name": (
        remembering(known=(member("s9"),)),
        "gossip had a server s9 at 198.51.100.99, which the settings do not name",
    ),
    "a member under another id": (
        remembering(known=(member("s1", ident="gone-id1"),)),
        "s1 was in gossip under another id (gone-id1)",
    ),
    "what an older version kept": (
        Past(membership=Membership(NOW_S, (member("s1"),))),
        "s1 was remembered as a server by an earlier version of the bot",
    ),
    "a run": (
        Past(membership=NOBODY, runs=(EarlierRun(run="r7", at_s=NOW_S - HOUR_S, procedure="start"),)),
        "the bot's store holds run r7 (start), proposed 2027-01-15 07:00 UTC, 1 h before",
    ),
    "a run that cannot be read": (
        Past(membership=NOBODY, runs=(EarlierRun(run="r7", at_s=0.0),)),
        "run r7 of this cluster, whose journal cannot be read",
    ),
}
BY_HOST: dict[str, tuple[Callable[[ClusterObservation], ClusterObservation], str]] = {
    "the directory is not there": (
        lambda seen: of_s1(
            hosted(seen, data_dir_missing=True, unit="consul.service"),
            lambda s1: msgspec.structs.replace(s1, stored=None, stored_problem="it is not there"),
        ),
        "s1: its data directory /var/lib/consul, as consul.service names it, is not there",
    ),
    "a log of 0.5": (
        lambda seen: hosted(seen, lmdb=True),
        "s1: /var/lib/consul/raft/mdb is the log of a Consul 0.5",
    ),
    "a mount point": (
        lambda seen: directory(
            seen,
            DirectoryView(
                unmounted=(Unmounted(point="/var/lib/consul", named_by="/etc/fstab", what="/dev/vdb (ext4)"),)
            ),
        ),
        "s1: /etc/fstab names /var/lib/consul as the mount point of /dev/vdb (ext4), which is not mounted",
    ),
    "data under a mount": (
        lambda seen: directory(seen, DirectoryView(beneath="/var/lib/consul/raft/raft.db")),
        "s1: /var/lib/consul/raft/raft.db lies covered, under a mount",
    ),
    "mounts that nobody could look under": (
        lambda seen: directory(seen, DirectoryView(hindered="two are mounted there")),
        "s1: two are mounted there",
    ),
    "another view of the files": (
        lambda seen: directory(seen, DirectoryView(elsewhere="the unit has RootDirectory=/srv")),
        "s1: the unit has RootDirectory=/srv",
    ),
    "a directory that is not the agent's": (
        lambda seen: directory(seen, DirectoryView(not_ours="it belongs to root")),
        "s1: it belongs to root",
    ),
    "a file system in memory": (
        lambda seen: directory(seen, DirectoryView(volatile="it lies on a tmpfs")),
        "s1: it lies on a tmpfs",
    ),
    "a raft directory without its files": (
        lambda seen: directory(seen, DirectoryView(raft_gone="raft is there and raft.db is not")),
        "s1: raft is there and raft.db is not",
    ),
    "a journal that tells of a leader": (
        lambda seen: directory(
            seen, DirectoryView(led="New leader elected: payload=s1", led_at_s=NOW_S - HOUR_S)
        ),
        "s1: its agent knew a leader 2027-01-15 07:00 UTC, 1 h before: New leader elected: payload=s1",
    ),
    "an archive of a run": (
        lambda seen: directory(
            seen, DirectoryView(runs=(HostRun(run="r3", at_s=NOW_S - HOUR_S, archived=True),))
        ),
        "s1: run r3 of the bot worked there and left an archive there, 2027-01-15 07:00 UTC, 1 h before",
    ),
    "receipts of a run": (
        lambda seen: hosted(seen, last_run="r3", epoch=4, receipts=("hold-s1.1.do", "start-s1.1.do")),
        "s1: run r3 of the bot worked there",
    ),
    "a fence": (lambda seen: hosted(seen, fenced_by="r2"), "s1: run r2 of the bot worked there"),
}


def refused(seen: ClusterObservation, past: Past) -> EmptyWhereDataWas:
    """The diagnosis, after no method was found that would act on it."""
    found = diagnose(seen, past=past)
    assert isinstance(found, EmptyWhereDataWas), found
    for method in (None, *METHODS):
        for lost in ((), (S1,)):
            answer = propose(seen, found, method=method, lost=lost, server=S1)
            assert isinstance(answer, Refusal), answer
            assert "by hand" in answer.next_step
            assert found.known[0] in answer.reasons[0]
    return found


@pytest.mark.parametrize("trace", BY_STORE)
@pytest.mark.parametrize(
    "seen", [all_bare(), cluster(blank("s1"), blank("s2"), bare("s3"))], ids=["bare", "run"]
)
def test_what_the_store_knows_makes_it_empty_where_data_was(trace: str, seen: ClusterObservation) -> None:
    """Whatever it remembers is said with since when, and there is no plan by any method."""
    past, said = BY_STORE[trace]
    found = refused(seen, past)
    assert said in found.known[0]
    assert found.evidence[: len(found.known)] == found.known


@pytest.mark.parametrize("trace", BY_HOST)
def test_what_a_host_tells_makes_it_empty_where_data_was(trace: str) -> None:
    """One host that tells of data is enough, with a store that knows nothing."""
    change, said = BY_HOST[trace]
    found = refused(change(all_bare()), NOTHING_KNOWN)
    assert found.known[0].startswith(said)


def test_the_next_step_names_what_is_to_be_mounted() -> None:
    """Not only that something is wrong, but where."""
    unmounted = BY_HOST["a mount point"][0](all_bare())
    assert "Mount /var/lib/consul on s1" in refused(unmounted, NOTHING_KNOWN).advice
    missing = BY_HOST["the directory is not there"][0](all_bare())
    assert "Bring /var/lib/consul on s1 back" in refused(missing, NOTHING_KNOWN).advice


@pytest.mark.parametrize(
    ("seen", "past", "said"),
    [
        (all_bare(), Past(problem="Redis cannot be reached"), "Redis cannot be reached"),
        (directory(all_bare(), None, "no answer"), NOTHING_KNOWN, "no answer"),
        (
            hosted(cluster(blank("s1"), blank("s2"), blank("s3")), config_problem="a script", data_dir=""),
            NOTHING_KNOWN,
            "a script",
        ),
    ],
    ids=["the store", "a host", "a configuration"],
)
def test_whoever_could_not_be_asked_is_not_silent(seen: ClusterObservation, past: Past, said: str) -> None:
    """What nobody could tell is unknown: it is neither new, nor said to have had data."""
    found = diagnose(seen, past=past)
    assert isinstance(found, OutOfSight)
    assert said in found.evidence[0]
    assert isinstance(propose(seen, found), Refusal)
    assert isinstance(propose(seen, found, method="bootstrap"), Refusal)


def test_a_store_that_was_not_asked_calls_nothing_new() -> None:
    """Who forgets to ask it gets no founding by that."""
    assert isinstance(diagnose(all_bare()), OutOfSight)


def test_where_all_is_silent_every_name_is_typed() -> None:
    """A founding is offered there, and the approver vouches for each server."""
    seen = all_bare()
    found = diagnose(seen, past=NOTHING_KNOWN)
    assert isinstance(found, NeverBootstrapped)
    answer = propose(seen, found)
    assert isinstance(answer, Proposal)
    assert answer.plan.typed_names == ("s1", "s2", "s3")


def test_gossip_among_blank_servers_is_no_trace() -> None:
    """Agents that wait for more of them list each other; a look that remembered that has seen no data."""
    seen = cluster(blank("s1"), blank("s2"), blank("s3"))
    known = tuple(member(server.name, ident=server.node_id) for server in seen.servers)
    assert isinstance(diagnose(seen, past=remembering(known=known, seen_at_s=NOW_S)), NeverBootstrapped)


HELD = f"{FOUNDING}hold-s1.1.do"


@pytest.mark.parametrize(
    ("receipts", "past", "is_new"),
    [
        ((HELD,), NOTHING_KNOWN, True),
        ((HELD, "stop-s1.1.do", "archive-s1.1.do", "override-s1.1.do", "start-s1.1.do"), NOTHING_KNOWN, True),
        ((HELD, "stop-s1.1.do", "override-s1.1.do", "override-s1.1.undo"), NOTHING_KNOWN, True),
        # The others of a founding are started only once the first one leads.
        ((HELD, "stop-s1.1.do", "start-s1.1.do"), NOTHING_KNOWN, False),
        ((HELD, "override-s1.1.do", "start-s1.1.do", "override-off-s1.1.do"), NOTHING_KNOWN, False),
        (("hold-s1.1.do", "stop-s1.1.do"), NOTHING_KNOWN, False),
        ((), NOTHING_KNOWN, False),
        (
            (HELD,),
            Past(membership=NOBODY, runs=(EarlierRun(run="r3", at_s=NOW_S, procedure="bootstrap"),)),
            False,
        ),
        (
            (HELD, "stop-s1.1.do"),
            Past(
                membership=NOBODY,
                runs=(EarlierRun(run="r3", at_s=NOW_S, procedure="bootstrap", founds_nothing=True),),
            ),
            True,
        ),
    ],
)
def test_a_founding_that_never_had_a_leader_can_be_asked_for_again(
    receipts: tuple[str, ...], past: Past, is_new: bool
) -> None:
    """What it did on the hosts tells of no data; what another run did does, and so does one that had a leader."""
    seen = hosted(all_bare(), last_run="r3", epoch=4, receipts=receipts)
    found = diagnose(seen, past=past)
    assert isinstance(found, NeverBootstrapped if is_new else EmptyWhereDataWas)


def missing(name: str) -> ServerObservation:
    """A server that answers, and whose data directory is not there."""
    seen = bare(name)
    assert seen.host is not None
    view = msgspec.structs.replace(seen.host, data_dir_missing=True, unit="consul.service")
    return msgspec.structs.replace(
        seen,
        host=view,
        stored=None,
        stored_problem="its data directory /var/lib/consul, as consul.service names it, is not there",
        address=f"198.51.100.1{name[1]}",
    )


class TestUnknownIsNeverBlank:
    """A directory that is not there, or that was not found: its host answers, and it is not gone."""

    def test_beside_a_survivor_it_is_not_called_gone_and_cannot_be_claimed(self) -> None:
        """The word is about what bars the look, with the file, and a claim is refused."""
        seen = cluster(stopped("s1", voters=peers("s1", "s2", "s3")), missing("s2"), missing("s3"))
        found = diagnose(seen)
        assert isinstance(found, OutOfSight)
        told = " ".join((found.headline, found.advice, *found.evidence))
        assert "s2 and s3" in found.headline or "s2, s3" in found.headline
        assert "its data directory /var/lib/consul, as consul.service names it, is not there" in found.advice
        assert "not reachable" not in told
        assert "back" not in found.advice
        assert "--lost" not in told
        lost = (ServerName("s2"), ServerName("s3"))
        claimed = diagnose(seen, lost)
        assert not isinstance(claimed, MajorityGone)
        answer = propose(seen, claimed, lost=lost)
        assert isinstance(answer, Refusal)
        assert "its host answers" in answer.reasons[0]

    def test_one_that_is_away_is_the_one_to_bring_back(self) -> None:
        """Of the others it is said what bars the look at them."""
        found = diagnose(cluster(missing("s1"), bare("s2"), unreachable("s3")), past=NOTHING_KNOWN)
        assert isinstance(found, OutOfSight)
        assert "Unreachable is not dead" in found.advice
        assert "s1 answered, but what it holds could not be read: s1: its data directory" in found.advice

    def test_a_directory_that_was_not_found_is_not_empty(self) -> None:
        """Nothing is founded, and nobody is asked to bring back what answers."""
        seen = of_s1(
            all_bare(),
            lambda s1: msgspec.structs.replace(
                s1,
                host=host(running=False, data_dir="", raft_db_bytes=-1),
                stored=None,
                stored_problem="its data directory cannot be found in the flags and configuration of consul.service",
                directory=None,
            ),
        )
        found = diagnose(seen, past=NOTHING_KNOWN)
        assert isinstance(found, OutOfSight)
        assert "cannot be found in the flags and configuration of consul.service" in found.advice
        assert "Bring" not in found.advice


@given(
    by_store=st.lists(st.sampled_from(sorted(BY_STORE)), max_size=2),
    by_host=st.lists(st.sampled_from(sorted(BY_HOST)), max_size=3),
    on=st.lists(st.integers(0, 2), min_size=3, max_size=3),
    runs=st.lists(st.booleans(), min_size=3, max_size=3),
    asked=st.booleans(),
)
def test_nothing_is_founded_where_anything_tells_of_data(
    by_store: list[str], by_host: list[str], on: list[int], runs: list[bool], asked: bool
) -> None:
    """Over random traces on random servers, running or not: a founding exactly where there is none."""
    seen = cluster(
        *(blank(name) if up else bare(name) for name, up in zip(("s1", "s2", "s3"), runs, strict=True))
    )
    for trace, where in zip(by_host, on, strict=False):
        order = (*seen.servers[where:], *seen.servers[:where])
        changed = BY_HOST[trace][0](msgspec.structs.replace(seen, servers=order))
        seen = msgspec.structs.replace(
            seen, servers=tuple(sorted(changed.servers, key=lambda server: server.name))
        )
    past = NOTHING_KNOWN if asked else Past(problem="Redis cannot be reached")
    for trace in by_store:
        told = BY_STORE[trace][0]
        past = msgspec.structs.replace(told, problem=past.problem)
    found = diagnose(seen, past=past)
    silent = asked and not by_store and not by_host
    event(f"silent: {silent}")
    assert isinstance(found, NeverBootstrapped) == silent
    for method in (None, *METHODS):
        answer = propose(seen, found, method=method)
        founds = isinstance(answer, Proposal) and answer.plan.procedure == "bootstrap"
        assert founds == (silent and method in {None, "bootstrap"})
