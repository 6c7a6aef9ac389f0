"""One history, two histories, or unknown: on logs of real servers and on every way two logs can part."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.boltfile import PageRequest, drive
from recovery.lineage import Lineage, LineageUnknown, OneHistory, Rank, TwoHistories, compare, freshest
from recovery.raftentry import parse_snapshot_meta
from recovery.raftlog import LogPosition, ServerLog, load_server
from tests.unit.recovery.raftdb_writer import Entry, raft_db, snapshot_json

DATA = Path(__file__).parents[2] / "data" / "raftdb"
IDS = ("id-a", "id-b", "id-c")


class Servers:
    """Logs of several servers, written on the spot and read through one reader."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.logs: dict[str, ServerLog] = {}
        self.reads = 0

    def add(self, name: str, content: bytes, snapshots: Sequence[bytes] = ()) -> ServerLog:
        self.files[name] = content
        metas = [parse_snapshot_meta(each) for each in snapshots]
        self.logs[name] = drive(load_server(name, len(content), metas), self.read)
        return self.logs[name]

    def read(self, request: PageRequest) -> bytes:
        self.reads += 1
        return self.files[request.file][request.offset : request.offset + request.length]


def judge(
    fresh: Sequence[Entry],
    stale: Sequence[Entry],
    *,
    fresh_snapshots: Sequence[bytes] = (),
    stale_snapshots: Sequence[bytes] = (),
) -> Lineage:
    servers = Servers()
    one = servers.add("fresh", raft_db(fresh, current_term=99), fresh_snapshots)
    two = servers.add("stale", raft_db(stale, current_term=99), stale_snapshots)
    return drive(compare(one, two), servers.read)


def run(first: int, last: int, term: int, data: bytes = b"write") -> list[Entry]:
    return [Entry(index, term, 0, data + b"%d" % index) for index in range(first, last + 1)]


def captured() -> Servers:
    servers = Servers()
    for path in sorted(DATA.glob("*.raft.db")):
        servers.add(path.name.removesuffix(".raft.db"), path.read_bytes())
    return servers


def test_real_servers_of_one_cluster_are_one_history() -> None:
    """s1 of the old cluster lacks the last two entries of s3 and has none of its own."""
    servers = captured()

    found = drive(compare(servers.logs["0.6.4-s3"], servers.logs["0.6.4-s1"]), servers.read)

    assert found == OneHistory(LogPosition(term=1, index=45), dropped=0, missing=2)


def test_real_servers_of_two_clusters_are_two_histories() -> None:
    """A 1.8.7 server and a 0.6.4 one never shared an entry."""
    servers = captured()

    found = drive(compare(servers.logs["1.8.7-s1"], servers.logs["0.6.4-s2"]), servers.read)

    assert isinstance(found, TwoHistories)


def test_servers_are_ranked_by_term_then_index_with_equal_ones_together() -> None:
    """A later term beats more entries; equal logs share a rank; blank ones come last."""
    servers = captured()
    servers.add("blank", raft_db([]))

    assert freshest(servers.logs) == (
        Rank(LogPosition(term=4, index=43), ("1.8.7-s1",)),
        Rank(LogPosition(term=1, index=47), ("0.6.4-s2", "0.6.4-s3")),
        Rank(LogPosition(term=1, index=45), ("0.6.4-s1",)),
        Rank(None, ("blank",)),
    )


@given(
    shared=st.integers(1, 80), tail=st.integers(0, 80), ahead=st.integers(1, 80),
    compacted=st.tuples(st.integers(0, 79), st.integers(0, 79)),
)  # fmt: skip
def test_a_tail_of_lower_term_is_dropped_and_counted(
    *, shared: int, tail: int, ahead: int, compacted: tuple[int, int]
) -> None:
    """Wherever two logs of a cluster part, the newest common entry and both counts are exact."""
    beginning = run(1, shared, 2)
    fresh = beginning + run(shared + 1, shared + ahead, 5, b"kept")
    stale = beginning + run(shared + 1, shared + tail, 3, b"lost")

    found = judge(fresh[min(compacted[0], shared - 1) :], stale[min(compacted[1], shared - 1) :])

    assert found == OneHistory(LogPosition(term=2, index=shared), dropped=tail, missing=ahead)


def test_a_longer_log_of_a_lower_term_is_the_staler_one() -> None:
    """More entries do not make a log fresher: what follows the common entry is dropped."""
    shared = run(1, 10, 2)

    found = judge([*shared, Entry(11, 4)], shared + run(11, 30, 3, b"lost"))

    assert found == OneHistory(LogPosition(2, 10), dropped=20, missing=1)


def test_finding_the_common_entry_costs_few_reads() -> None:
    """On a log of two thousand entries the parting is found by seeking, not by reading everything."""
    servers = Servers()
    shared = run(1, 1500, 2)
    one = servers.add("fresh", raft_db(shared + run(1501, 2000, 5), fanout=30))
    two = servers.add("stale", raft_db(shared + run(1501, 1900, 3), fanout=30))
    servers.reads = 0

    assert drive(compare(one, two), servers.read) == OneHistory(
        LogPosition(2, 1500), dropped=400, missing=500
    )
    assert servers.reads < 60


def test_the_same_place_with_other_data_is_another_history() -> None:
    """One term has one leader, so one entry at an index: two kinds of data are two clusters."""
    shared = run(1, 10, 2)

    found = judge(shared + run(11, 20, 3, b"ours"), shared + run(11, 15, 3, b"theirs"))

    assert isinstance(found, TwoHistories)
    assert "index 15" in found.evidence


def test_logs_that_part_and_end_in_the_same_term_are_two_histories() -> None:
    """A leader's log of one term cannot go two ways, even where no index is held in that term by both."""
    shared = run(1, 10, 2)

    found = judge([*shared, *run(11, 14, 3), *run(15, 16, 5)], [*shared, *run(11, 14, 5)])

    assert isinstance(found, TwoHistories)


def test_a_snapshot_past_the_parting_means_two_histories() -> None:
    """What a snapshot holds was committed, and a commit is never dropped within one cluster."""
    shared = run(1, 10, 2)

    found = judge(
        shared + run(11, 20, 5),
        shared + run(11, 18, 3, b"theirs"),
        stale_snapshots=[snapshot_json(16, 3, IDS)],
    )

    assert isinstance(found, TwoHistories)
    assert "committed" in found.evidence


def test_logs_that_differ_from_the_first_entry_on_are_two_histories() -> None:
    """Two clusters that were founded apart share nothing."""
    assert isinstance(judge(run(1, 9, 3), run(1, 8, 2, b"other")), TwoHistories)


def test_entries_without_data_prove_nothing() -> None:
    """Every cluster begins with no-ops: logs that hold only these alike may be of two clusters."""
    no_ops = [Entry(index, 1, 1, b"") for index in (5, 6)]

    found = judge([*no_ops, *run(7, 9, 4)], [*no_ops, *run(7, 8, 3, b"other")])

    assert isinstance(found, LineageUnknown)


def test_a_no_op_after_a_common_write_is_common() -> None:
    """The proof may stand before the newest common entry: a no-op follows every election."""
    shared = [*run(1, 5, 2), Entry(6, 3, 1, b""), Entry(7, 4, 1, b"")]

    assert judge([*shared, *run(8, 9, 6)], [*shared, *run(8, 8, 5)]) == OneHistory(
        LogPosition(4, 7), dropped=1, missing=2
    )


def test_a_blank_server_has_no_lineage() -> None:
    """Nothing can be proven of a server without an entry or a snapshot."""
    assert isinstance(judge(run(1, 5, 2), []), LineageUnknown)


def test_the_order_of_the_two_logs_matters() -> None:
    """Given the wrong way round the counts would be wrong, so it is refused as a mistake of the caller."""
    with pytest.raises(ValueError, match="staler"):
        judge(run(1, 5, 2), run(1, 6, 2))


def test_a_hole_in_a_log_leaves_its_lineage_unknown() -> None:
    """A raft.db with missing entries is half-restored: not a ground to decide on."""
    shared = run(1, 9, 2)

    found = judge([*shared, *run(10, 13, 5)], [*shared, Entry(10, 3), Entry(12, 3)])

    assert isinstance(found, LineageUnknown)
    assert "staler log has a hole at index 11" in found.reason


class TestCompactedAway:
    """Logs that share no entry any more, judged by their snapshots."""

    def test_equal_snapshots_of_the_same_servers_and_empty_logs(self) -> None:
        """Both recovered at the same place: equal."""
        meta = snapshot_json(40, 3, IDS)

        assert judge([], [], fresh_snapshots=[meta], stale_snapshots=[meta]) == OneHistory(
            LogPosition(3, 40), dropped=0, missing=0
        )

    def test_a_snapshot_that_ends_inside_the_other_log(self) -> None:
        """The staler server is only a snapshot; the fresher one holds that index in that term."""
        found = judge(
            run(30, 60, 3),
            [],
            fresh_snapshots=[snapshot_json(45, 3, IDS)],
            stale_snapshots=[snapshot_json(40, 3, IDS)],
        )

        assert found == OneHistory(LogPosition(3, 40), dropped=0, missing=20)

    def test_the_same_place_in_unknown_company_proves_nothing(self) -> None:
        """Index and term alone fit another cluster too."""
        found = judge(
            [],
            [],
            fresh_snapshots=[snapshot_json(40, 3, IDS)],
            stale_snapshots=[snapshot_json(40, 3, ("id-a", "id-x", "id-y"))],
        )

        assert isinstance(found, LineageUnknown)

    def test_the_same_content_proves_it_without_the_servers(self) -> None:
        """Snapshots with one checksum and size are the same state, whoever the peers became since."""
        found = judge(
            [],
            [],
            fresh_snapshots=[snapshot_json(40, 3, IDS, checksum="qG==", size=900)],
            stale_snapshots=[snapshot_json(40, 3, ("id-x",), checksum="qG==", size=900)],
        )

        assert found == OneHistory(LogPosition(3, 40), dropped=0, missing=0)

    def test_a_committed_place_of_another_term_is_another_history(self) -> None:
        """The staler server's snapshot contradicts the fresher one's log."""
        found = judge(run(30, 60, 5), [], stale_snapshots=[snapshot_json(40, 3, IDS)])

        assert isinstance(found, TwoHistories)

    def test_logs_that_part_right_after_a_common_snapshot(self) -> None:
        """After a recovery both begin at the same snapshot: what follows is counted exactly."""
        meta = snapshot_json(40, 3, IDS)

        found = judge(run(41, 50, 5), run(41, 44, 4, b"lost"), fresh_snapshots=[meta], stale_snapshots=[meta])

        assert found == OneHistory(LogPosition(3, 40), dropped=4, missing=10)

    def test_a_gap_between_both_logs_is_unknown(self) -> None:
        """The fresher server compacted everything that the staler one still holds."""
        found = judge(run(60, 90, 5), run(1, 40, 3), fresh_snapshots=[snapshot_json(80, 5, IDS)])

        assert isinstance(found, LineageUnknown)

    def test_a_snapshot_installed_over_an_older_log(self) -> None:
        """The old entries below an installed snapshot prove the cluster, its end is the common place."""
        found = judge(
            [*run(1, 20, 2), *run(21, 60, 4)], run(1, 20, 2), stale_snapshots=[snapshot_json(50, 4, IDS)]
        )

        assert found == OneHistory(LogPosition(4, 50), dropped=0, missing=10)

    def test_a_recovery_by_some_of_the_old_voters_is_of_their_cluster(self) -> None:
        """Of five two made themselves the new set: never a majority of the old one, yet all of them are known to it."""
        new, old = snapshot_json(40, 3, ("id-a", "id-b")), snapshot_json(20, 2, (*IDS, "id-d", "id-e"))

        found = judge([], run(21, 40, 3), fresh_snapshots=[new], stale_snapshots=[old])

        assert found == OneHistory(LogPosition(3, 40), dropped=0, missing=0)

    def test_a_recovery_with_a_voter_that_the_other_does_not_know_proves_nothing(self) -> None:
        """Somebody else's cluster may stand at the same place."""
        new, old = snapshot_json(40, 3, ("id-a", "id-z")), snapshot_json(20, 2, (*IDS, "id-d", "id-e"))

        found = judge([], run(21, 40, 3), fresh_snapshots=[new], stale_snapshots=[old])

        assert isinstance(found, LineageUnknown)
