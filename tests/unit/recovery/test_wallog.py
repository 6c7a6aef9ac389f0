"""What wal folders say: those of a real 1.18.1, those that a writer makes, and those that something has damaged."""

import contextlib
import json
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recovery.boltfile import RaftLogUnreadable, drive
from recovery.lineage import LineageUnknown, OneHistory, TwoHistories, compare
from recovery.logstore import ServerLog, Vote
from recovery.raftentry import LogPosition, Peer, parse_snapshot_meta
from recovery.raftlog import load_server
from recovery.wallog import load_wal, term_at
from recovery.walsegment import WalkRequest
from tests.unit.recovery.raftdb_writer import Entry, raft_db, snapshot_json
from tests.unit.recovery.wal_writer import Folder, Wal, meta_db

DATA = Path(__file__).parents[2] / "data" / "wal"
EXPECTED: dict[str, dict[str, Any]] = json.loads((DATA / "expected.json").read_bytes())
READABLE = sorted(name for name, told in EXPECTED.items() if "last" in told)
IDS = ("id-a", "id-b", "id-c")


@cache
def captured(name: str) -> tuple[dict[str, bytes], tuple[bytes, ...], dict[str, float]]:
    """The wal folder, the snapshots' meta.json, and when each file was written to."""
    files: dict[str, bytes] = {}
    metas: list[bytes] = []
    times: dict[str, float] = {}
    with tarfile.open(DATA / f"{name}.tar.gz") as archive:
        for member in archive:
            path = Path(member.name)
            if path.parent.name == "wal" and (file := archive.extractfile(member)):
                files[path.name] = file.read()
                times[path.name] = member.mtime
            elif path.name == "meta.json" and (file := archive.extractfile(member)):
                metas.append(file.read())
    return files, tuple(metas), times


def opened(name: str) -> tuple[ServerLog, Folder]:
    files, metas, times = captured(name)
    folder = Folder()
    listed = {each: file._replace(modified_s=times[each]) for each, file in folder.add("s1", files).items()}
    server = drive(load_wal("s1", listed, [parse_snapshot_meta(meta) for meta in metas]), folder.read)
    return server, folder


def load(
    files: dict[str, bytes], *, snapshots: tuple[bytes, ...] = (), touched_s: float = 0.0
) -> tuple[ServerLog, Folder]:
    folder = Folder(touched_s=touched_s)
    metas = [parse_snapshot_meta(each) for each in snapshots]
    return drive(load_wal("s1", folder.add("s1", files), metas), folder.read), folder


def writes(first: int, last: int, term: int = 2, data: bytes = b"write") -> list[Entry]:
    return [Entry(index, term, 0, data + b"%d" % index) for index in range(first, last + 1)]


def configuration(index: int, term: int, *addresses: str) -> Entry:
    servers = b"".join(
        b"\x83\xa8Suffrage\x00\xa2ID" + bytes([0xA0 + len(each)]) + each.encode()
        + b"\xa7Address" + bytes([0xA0 + len(each)]) + each.encode()
        for each in addresses
    )  # fmt: skip
    return Entry(index, term, 5, b"\x81\xa7Servers" + bytes([0x90 + len(addresses)]) + servers)


class TestCaptured:
    """Folders that a killed or a stopped Consul 1.18.1 has left."""

    @pytest.mark.parametrize("name", READABLE)
    def test_what_raft_wal_reads_is_what_is_read_here(self, name: str) -> None:
        """Both ends, the current term, where the peer set stands, and the snapshots."""
        server, folder = opened(name)
        told = EXPECTED[name]
        assert server.log.first is not None
        assert server.log.last is not None

        sets = drive(server.log.peer_sets(), folder.read)

        assert {
            "first": server.log.first.index,
            "first_term": server.log.first.term,
            "last": server.log.last.index,
            "last_term": server.log.last.term,
            "current_term": server.log.current_term,
            "configuration_at": sets[-1].index if sets else None,
        } == {key: value for key, value in told.items() if key != "snapshots"}
        if "snapshots" in told:
            ends = sorted([each.last.term, each.last.index] for each in server.snapshots)
            assert ends == told["snapshots"]
        assert server.configuration is not None
        assert len(server.configuration.servers) == 3

    @pytest.mark.parametrize("name", READABLE)
    def test_every_entry_is_found_and_few_bytes_are_read(self, name: str) -> None:
        """By its index, none before and none after; how far a log is costs some KiB of it."""
        server, folder = opened(name)
        assert folder.told_bytes < 50_000
        assert server.log.first is not None
        assert server.log.last is not None
        first, last = server.log.first.index, server.log.last.index

        found = [drive(server.log.entry_at(index), folder.read) for index in range(first, last + 1)]

        assert [entry and entry.index for entry in found] == list(range(first, last + 1))
        assert drive(server.log.entry_at(first - 1), folder.read) is None
        assert drive(server.log.entry_at(last + 1), folder.read) is None

    def test_a_segment_whose_file_is_gone_is_unsound_not_blank(self) -> None:
        """Consul would see an empty log and say nothing."""
        with pytest.raises(RaftLogUnreadable, match=r"unsound: its database knows the segment .* not there"):
            opened("made-segment-missing")

    def test_what_a_crash_left_behind_the_end_is_told(self) -> None:
        """It does not count, and a person hears of it."""
        assert "never acknowledged" in opened("made-torn-last-batch")[0].log.notes[0]
        assert "never acknowledged" in opened("made-torn-entry-without-commit")[0].log.notes[0]
        assert opened("1-one-segment-killed")[0].log.notes == ()

    def test_entries_that_a_new_leader_took_back_do_not_count(self) -> None:
        """The old 937 of term 3 still stands in the sealed file; the log's own is of term 4."""
        before, old = opened("4-uncommitted-tail")
        after, new = opened("5-tail-cut")

        assert drive(before.log.entry_at(937), old.read) != drive(after.log.entry_at(937), new.read)
        folder = Folder()
        folder.folders = {"old": old.folders["s1"], "new": new.folders["s1"]}
        logs = []
        for name, capture in (("new", "5-tail-cut"), ("old", "4-uncommitted-tail")):
            files, metas, _ = captured(capture)
            listed = folder.add(name, files)
            logs.append(
                drive(load_wal(name, listed, [parse_snapshot_meta(meta) for meta in metas]), folder.read)
            )
        assert drive(compare(*logs), folder.read) == OneHistory(LogPosition(3, 932), dropped=5, missing=14)

    def test_the_vote_is_read(self) -> None:
        """Little endian here, and the candidate is text."""
        assert opened("6-graceful-s3")[0].log.last_vote == Vote(4, "198.51.100.12:8300")


class TestWritten:
    """Folders of every shape that the store can have."""

    @given(
        counts=st.lists(st.integers(1, 7), min_size=1, max_size=12),
        size=st.integers(1, 300),
        limit=st.sampled_from((600, 2048, 65536)),
        head=st.integers(0, 40),
        tail=st.integers(0, 40),
        loose=st.integers(0, 3),
    )
    @settings(max_examples=60, deadline=None)
    def test_what_was_written_is_read(
        self, *, counts: list[int], size: int, limit: int, head: int, tail: int, loose: int
    ) -> None:
        """Batches over several segments, cut at its head and at its tail, written on, with a batch that was cut off."""
        wal, index, truth = Wal(limit=limit), 1, dict[int, Entry]()
        for count in counts:
            batch = writes(index, index + count - 1, data=b"x" * size)
            wal.append(*batch)
            truth |= {entry.index: entry for entry in batch}
            index += count
        if 0 < tail < index - 1:
            wal.cut_tail(tail)
            truth = {at: entry for at, entry in truth.items() if at <= tail}
            again = [configuration(tail + 1, 3, "a:1", "b:1"), *writes(tail + 2, tail + 5, 3)]
            wal.append(*again)
            truth |= {entry.index: entry for entry in again}
        last = max(truth)
        snapshots: tuple[bytes, ...] = ()
        if 1 < head <= last:
            wal.cut_head(head)
            truth = {at: entry for at, entry in truth.items() if at >= head}
            snapshots = (snapshot_json(head - 1 or 1, truth[min(truth)].term, IDS),)
        if loose:
            wal.tail.put(writes(last + 1, last + loose, 3))

        server, folder = load(wal.folder(), snapshots=snapshots)

        assert server.log.first is not None
        assert server.log.last == LogPosition(truth[last].term, last)
        assert server.log.first.index == min(truth)
        for at, entry in truth.items():
            read = drive(server.log.entry_at(at), folder.read)
            assert read is not None
            assert (read.term, read.type, read.data_bytes) == (entry.term, entry.type, len(entry.data))
        sets = drive(server.log.peer_sets(), folder.read)
        assert [each.index for each in sets] == [at for at, entry in truth.items() if entry.type == 5]
        assert all(
            peer_set.servers == (Peer("a:1", "a:1", True), Peer("b:1", "b:1", True)) for peer_set in sets
        )

    def test_a_new_folder_is_blank(self) -> None:
        """One empty tail, no term: nobody was ever here. And one that has voted for another is still blank."""
        wal = Wal()
        assert load(wal.folder())[0].last is None
        wal.current_term, wal.vote = 7, (7, b"s2:8300")
        server, _ = load(wal.folder())
        assert (server.last, server.log.last_vote) == (None, Vote(7, "s2:8300"))
        assert load({})[0].last is None
        assert load({"wal-meta.db": meta_db(None, [])})[0].last is None

    def test_after_a_recovery_the_snapshot_is_the_end(self) -> None:
        """RecoverCluster empties the log; the new tail begins behind the snapshot."""
        wal = Wal(base=41)
        wal.current_term = 3

        server, _ = load(wal.folder(), snapshots=(snapshot_json(40, 3, IDS),))

        assert server.last == LogPosition(3, 40)
        assert server.configuration is not None
        assert [peer.id for peer in server.configuration.servers] == list(IDS)

    def test_a_segment_that_was_just_begun_is_empty_and_the_log_ends_before_it(self) -> None:
        """The batch that fills a segment seals it; the next one may never have been written to."""
        wal = Wal(limit=600).batches(writes(1, 4, data=b"x" * 100))
        assert not wal.tail.content

        server, folder = load(wal.folder())

        assert server.log.last == LogPosition(2, wal.tail.base - 1)
        assert drive(server.log.entry_at(wal.tail.base - 1), folder.read) is not None

    def test_a_file_that_the_list_does_not_name_does_not_exist(self) -> None:
        """Left over from a crash: Consul deletes it."""
        wal = Wal().batches(writes(1, 9))
        wal.orphans = {Wal(base=10).append(*writes(10, 12)).tail.name: b"whatever", "wal-meta.db.tmp": b""}

        assert load(wal.folder())[0].log.last == LogPosition(2, 9)

    def test_peer_sets_above_a_snapshot_cost_no_walk_below_it(self) -> None:
        """Only the segments that go past the snapshot are walked through, and the one that the log begins in."""
        wal = Wal(limit=700).batches(writes(1, 60, data=b"x" * 90))
        assert len(wal.segments) > 8

        _, folder = load(wal.folder(), snapshots=(snapshot_json(58, 2, IDS),))

        walked = {request.file for request in folder.asked if isinstance(request, WalkRequest)}
        assert len(walked) <= 3

    def test_entries_larger_than_what_is_read_at_once(self) -> None:
        """A second round trip fetches the rest, in a sealed segment and in the tail."""
        wal = Wal(limit=1 << 20)
        for index in range(1, 13):
            wal.append(Entry(index, 2, 0, bytes([index]) * 150_000))

        server, folder = load(wal.folder())

        for index in range(1, 13):
            entry = drive(server.log.entry_at(index), folder.read)
            assert entry is not None
            assert entry.data_bytes == 150_000


class TestTermAt:
    """What a leader's log says of one entry, while it goes on writing."""

    @pytest.mark.parametrize("limit", [700, 1 << 20])
    def test_an_entry_in_the_log_or_under_a_snapshot(self, limit: int) -> None:
        """In any segment; where it is compacted away, a snapshot that ends there; None past the end."""
        wal = Wal(limit=limit).batches([*writes(1, 20, 2), *writes(21, 40, 5)]).cut_head(11)
        wal.tail.put(writes(41, 42, 6))
        folder = Folder()
        files = folder.add("s1", wal.folder())
        metas = [
            parse_snapshot_meta(snapshot_json(10, 2, IDS)),
            parse_snapshot_meta(snapshot_json(41, 6, IDS)),
        ]

        def told(index: int) -> int | None:
            return drive(term_at("s1", files, metas, index), folder.read)

        assert [told(index) for index in (11, 20, 21, 40)] == [2, 2, 5, 5]
        assert [told(index) for index in (9, 10, 41, 42, 99)] == [None, 2, 6, None, None]

    def test_what_is_appended_meanwhile_does_not_matter(self) -> None:
        """The walk sees a batch that is half there, or data behind where it stopped."""
        wal = Wal(limit=4096).batches(writes(1, 10, 2))
        content = wal.tail.file()
        half = content[: wal.tail.summed + 200] + b"\x01" * 64 + content[wal.tail.summed + 264 :]
        folder = Folder()
        files = folder.add("s1", wal.folder() | {wal.tail.name: half})

        assert drive(term_at("s1", files, (), 10), folder.read) == 2


class TestBothStores:
    """Clusters whose servers have different log stores are ranked and compared alike."""

    @pytest.mark.parametrize("fresh_is_wal", [True, False])
    def test_an_entry_is_the_same_in_raft_db_and_in_a_segment(self, fresh_is_wal: bool) -> None:
        """One history, with what each lacks, whichever server has changed to the other store."""
        shared = [configuration(1, 1, "a:1", "b:1"), *writes(2, 30)]
        fresh = [*shared, *writes(31, 50, 5)]
        stale = [*shared, *writes(31, 36, 3, b"lost")]
        servers, read = self.mixed(fresh if fresh_is_wal else stale, stale if fresh_is_wal else fresh)

        pair = servers if fresh_is_wal else servers[::-1]

        assert drive(compare(*pair), read) == OneHistory(LogPosition(2, 30), dropped=6, missing=20)
        assert all(server.configuration is not None for server in servers)

    def test_two_clusters_are_told_apart(self) -> None:
        """Other data at the same place of the same term."""
        servers, read = self.mixed(writes(1, 9), writes(1, 9, data=b"other"))

        assert isinstance(drive(compare(*servers), read), TwoHistories)

    def test_a_blank_server_has_no_lineage(self) -> None:
        """Whatever its store."""
        servers, read = self.mixed(writes(1, 9), [])

        assert isinstance(drive(compare(*servers), read), LineageUnknown)

    @staticmethod
    def mixed(
        in_wal: list[Entry], in_raft_db: list[Entry]
    ) -> tuple[tuple[ServerLog, ServerLog], Callable[..., bytes]]:
        folder, content = Folder(), raft_db(in_raft_db, current_term=99)

        def read(request: Any) -> bytes:
            if request.file == "s2":
                return content[request.offset : request.offset + request.length]
            return folder.read(request)

        files = folder.add("s1", Wal(limit=700).batches(in_wal, size=3).folder())
        one = drive(load_wal("s1", files, ()), read)
        return (one, drive(load_server("s2", len(content), ()), read)), read


def unsound(wal: Wal | dict[str, bytes], reason: str, **more: Any) -> None:
    files = wal if isinstance(wal, dict) else wal.folder()
    with pytest.raises(RaftLogUnreadable, match=reason):
        load(files, **more)


class TestUnsound:
    """What Consul would take for an empty or a shorter log, and what contradicts itself."""

    @staticmethod
    def wal(count: int = 12, *, limit: int = 600) -> Wal:
        return Wal(limit=limit).batches(writes(1, count, data=b"x" * 60))

    def test_a_tail_that_is_cut_short(self) -> None:
        """It was made as long as it may become."""
        wal = self.wal(4, limit=4096)
        for length in (0, 16, 300, 4088):
            unsound(wal.folder() | {wal.tail.name: wal.tail.file()[:length]}, "unsound: .* is cut short")

    def test_a_tail_that_was_emptied(self) -> None:
        """All zeros again, but written to since it was made."""
        wal = self.wal(4, limit=4096)
        emptied = wal.folder() | {wal.tail.name: bytes(4096)}
        unsound(emptied, "unsound: .* is empty, but was written to 3600 s after", touched_s=3600.0)
        unsound(
            emptied | {wal.tail.name: wal.tail.file()[:32].ljust(4096, b"\0")},
            "unsound: .* no entry where its first one should be",
        )
        unsound(
            emptied | {wal.tail.name: bytes(32) + wal.tail.file()[32:]},
            "unsound: .* does not begin as this segment has to",
        )

    def test_a_hole_in_the_tail(self) -> None:
        """Acknowledged entries stand behind it that Consul would not come to."""
        wal = self.wal(8, limit=4096)
        content = wal.tail.file()
        for start, end in ((32, 40), (32, 300), (wal.tail.offsets[3], wal.tail.offsets[5])):
            holed = content[:start] + bytes(end - start) + content[end:]
            unsound(wal.folder() | {wal.tail.name: holed}, "unsound: ")

    def test_a_commit_that_is_none_any_more(self) -> None:
        """Whatever bit of what it is has flipped: what followed it was acknowledged."""
        wal = self.wal(8, limit=4096)
        at = wal.tail.offsets[6] - 8
        for bit in range(8):
            content = bytearray(wal.tail.file())
            content[at] ^= 1 << bit
            unsound(wal.folder() | {wal.tail.name: bytes(content)}, "unsound: ")

    def test_rot_in_the_middle_of_the_tail_and_of_a_sealed_segment(self) -> None:
        """Consul looks at the last checksum of the tail only."""
        wal = self.wal(8, limit=4096)
        at = wal.tail.offsets[2] + 30
        content = bytearray(wal.tail.file())
        content[at] ^= 4
        unsound(
            wal.folder() | {wal.tail.name: bytes(content)}, "unsound: bits have rotted in .* in its middle"
        )
        wal = self.wal(30)
        sealed = wal.segments[-2]
        content = bytearray(sealed.file())
        content[sealed.offsets[0] + 30] ^= 4
        unsound(wal.folder() | {sealed.name: bytes(content)}, "unsound: bits have rotted")

    def test_the_database_is_missing_beside_segments(self) -> None:
        """Consul refuses to start; and nobody can tell which segments count."""
        files = self.wal().folder()
        del files["wal-meta.db"]
        unsound(files, r"unsound: wal-meta\.db is missing")

    def test_a_database_that_forgot_its_segments(self) -> None:
        """Consul would delete them all, and begin a new log."""
        wal = self.wal()
        for listed in (
            None,
            b'{"NextSegmentID": 0, "Segments": null}',
            b'{"NextSegmentID": 1, "Segments": []}',
        ):
            unsound(
                wal.folder() | {"wal-meta.db": meta_db(listed, [])}, "unsound: its database names no segment"
            )
        term = [(b"CurrentTerm", (4).to_bytes(8, "little"))]
        unsound({"wal-meta.db": meta_db(None, term)}, "unsound: .* has been in term 4")

    def test_a_sealed_segment_that_is_missing_or_of_another(self) -> None:
        """Each is checked by the header that it has to have."""
        wal = self.wal(30)
        files = wal.folder()
        one, two = wal.segments[-3], wal.segments[-2]
        unsound({name: data for name, data in files.items() if name != one.name}, "unsound: .* not there")
        unsound(files | {two.name: one.file()}, "unsound: .* does not begin as this segment has to")

    def test_a_list_that_leaves_something_out(self) -> None:
        """Segments follow each other without a gap, the last one is the one that is written to."""
        wal = self.wal(30)
        wal.segments.pop(2)
        unsound(wal, "unsound: entries are missing between")
        wal = self.wal(30)
        wal.segments.pop()
        unsound(wal, "unsound: the list of its segments does not end")
        wal = self.wal(30)
        wal.next_number = 3
        unsound(wal, "unsound: .* number was not given yet")
        wal = self.wal(30)
        wal.segments[1].first += 1
        unsound(wal, "unsound: ")

    def test_a_log_that_its_snapshots_contradict(self) -> None:
        """A gap behind the newest one, an end before it, or an empty folder beside it."""
        wal = self.wal(30).cut_head(12)
        unsound(wal, "unsound: the log begins at index 12, but there is no snapshot")
        unsound(wal, "goes to 9: what was between", snapshots=(snapshot_json(9, 2, IDS),))
        unsound(wal, "ends at index 30, before .* snapshot at 35", snapshots=(snapshot_json(35, 2, IDS),))
        unsound({}, "unsound: it is empty beside", snapshots=(snapshot_json(35, 2, IDS),))
        unsound(Wal(base=41), "begins at index 41, but there is no snapshot")

    def test_numbers_that_contradict_each_other(self) -> None:
        """Terms never fall, and never pass the current one; a tail cannot begin past its end."""
        wal = Wal().append(*writes(1, 3, 5)).append(*writes(4, 5, 4))
        unsound(wal, "contradict")
        wal = Wal().append(*writes(1, 3, 5))
        wal.current_term = 4
        unsound(wal, "contradict")
        wal = Wal().append(*writes(1, 3, 5))
        wal.tail.first = 9
        unsound(wal, "unsound: .* ends at the entry 3, but the list has it begin at 9")

    def test_another_encoding_is_not_guessed_at(self) -> None:
        """A later Consul may bring one."""
        wal = self.wal(4)
        text = wal.meta_db().replace(b'"Codec": 1', b'"Codec": 2')
        unsound(wal.folder() | {"wal-meta.db": text}, r"an encoding \(2\) that is not known")

    def test_a_file_with_a_name_that_is_none(self) -> None:
        """Consul refuses to start with it."""
        unsound(self.wal(4).folder() | {"copy of 1.wal": b""}, "unsound: a file is named")


SMALL = Wal(limit=600).batches([configuration(1, 1, "a:1", "b:1"), *writes(2, 30, data=b"x" * 50)], size=2)


@given(
    part=st.sampled_from(sorted(SMALL.folder())),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
@settings(max_examples=300, deadline=None)
def test_a_flipped_bit_never_gives_another_log(part: str, place: float, bit: int) -> None:
    """A folder with one bit flipped is refused, or read right, or ends before its last batch and says so."""
    check_mutated(part, place, lambda byte: byte ^ 1 << bit)


@given(name=st.sampled_from(READABLE), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_a_flipped_bit_in_a_real_tail_never_gives_another_log(name: str, place: float, bit: int) -> None:
    """The same of the captured folders, in what was written of the tail."""
    files, metas, _ = captured(name)
    truth, _ = opened(name)
    part = max(each for each in files if each.endswith(".wal"))
    content = bytearray(files[part])
    used = len(files[part].rstrip(b"\0"))
    content[int(place * used)] ^= 1 << bit
    with contextlib.suppress(RaftLogUnreadable):
        server, _ = load(files | {part: bytes(content)}, snapshots=metas)
        assert server.log.first == truth.log.first
        assert server.log.last == truth.log.last or server.log.notes


def check_mutated(part: str, place: float, change: Callable[[int], int]) -> None:
    files = SMALL.folder()
    content = bytearray(files[part])
    at = int(place * len(content.rstrip(b"\0")))
    content[at] = change(content[at])
    try:
        server, folder = load(files | {part: bytes(content)})
        entries = [drive(server.log.entry_at(index), folder.read) for index in range(1, 31)]
        sets = drive(server.log.peer_sets(), folder.read)
    except RaftLogUnreadable:
        return
    assert server.log.first == LogPosition(1, 1)
    assert [each.servers for each in sets] == [(Peer("a:1", "a:1", True), Peer("b:1", "b:1", True))]
    truth, _ = load(files)
    if server.log.last != truth.log.last:
        assert server.log.last == LogPosition(2, 29 - (30 - SMALL.tail.base) % 2)
        assert server.log.notes
    if server.log.last == truth.log.last:
        assert entries == [drive(truth.log.entry_at(at), folder_of(files).read) for at in range(1, 31)]


def folder_of(files: dict[str, bytes]) -> Folder:
    folder = Folder()
    folder.add("s1", files)
    return folder


@given(
    part=st.sampled_from(sorted(SMALL.folder())),
    places=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=64)), max_size=4
    ),
    cut=st.floats(0, 1),
)
@settings(max_examples=150, deadline=None)
def test_heavy_damage_ends_in_a_refusal_or_an_answer(
    part: str, places: list[tuple[float, bytes]], cut: float
) -> None:
    """Whatever is written over a file, reading it ends, and with no other error than our own."""
    files = SMALL.folder()
    content = bytearray(files[part])
    for place, new in places:
        at = int(place * len(content))
        content[at : at + len(new)] = new
    files[part] = bytes(content[: int(cut * len(content))] if cut < 0.9 else content)
    with contextlib.suppress(RaftLogUnreadable):
        server, folder = load(files)
        drive(server.log.peer_sets(), folder.read)
        for index in (1, 15, 30):
            drive(server.log.entry_at(index), folder.read)


def test_an_answer_that_is_too_short_is_refused() -> None:
    """A file that became shorter while it was read."""
    wal = Wal().batches(writes(1, 9))
    folder = Folder()
    files = folder.add("s1", wal.folder())

    def short(request: Any) -> bytes:
        return folder.read(request)[:-1]

    with pytest.raises(RaftLogUnreadable):
        drive(load_wal("s1", files, ()), short)
