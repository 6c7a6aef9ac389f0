"""The terminal's raft-log: what a person reads about raft.db files, and when it refuses."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from bot.raft_log_command import run

DATA = Path(__file__).parents[2] / "data" / "raftdb"
S1, S2, S3 = (DATA / f"0.6.4-s{number}.raft.db" for number in (1, 2, 3))


def text_of(*paths: Path) -> tuple[int, str]:
    out = io.StringIO()
    return run(paths, as_json=False, out=out), out.getvalue()


def server_directory(where: Path, folder: str) -> Path:
    """Lay a kept server out as Consul does: data_dir/raft/raft.db and raft/snapshots/*/meta.json."""
    raft = where / folder / "raft"
    raft.mkdir(parents=True)
    (raft / "raft.db").write_bytes(gzip.decompress((DATA / folder / "raft.db.gz").read_bytes()))
    for meta in (DATA / folder).glob("meta-*.json"):
        snapshot = raft / "snapshots" / meta.stem
        snapshot.mkdir(parents=True)
        (snapshot / "meta.json").write_bytes(meta.read_bytes())
    return where / folder


def test_a_person_sees_position_vote_and_peers() -> None:
    """One file: how far it goes, whom it voted for, how the peers changed."""
    code, text = text_of(S1)

    assert code == 0
    assert "index 45, term 1" in text
    assert "198.51.100.12:8300 in term 1" in text
    assert "198.51.100.12:8300, 198.51.100.13:8300\n" in text


def test_the_freshest_of_several_comes_first_with_what_the_others_lack() -> None:
    """Three files of one cluster: the order, and that they are one history."""
    code, text = text_of(S1, S2, S3)

    assert code == 0
    assert f"freshest  {S2}, {S3}: index 47, term 1" in text
    assert f"{S1} and {S2}: one history up to index 45, term 1; the first lacks 2 entries" in text


def test_two_histories_are_shouted() -> None:
    """Logs of two clusters are named as such."""
    _, text = text_of(S1, DATA / "1.8.7-s1.raft.db")

    assert "TWO HISTORIES" in text


def test_snapshots_beside_the_log_count(tmp_path: Path) -> None:
    """A recovered server's empty log is as far as its snapshot, whichever way it is named."""
    data_dir = server_directory(tmp_path, "1.8.7-recovered")

    for path in (data_dir, data_dir / "raft", data_dir / "raft" / "raft.db"):
        code, text = text_of(path)
        assert code == 0
        assert "last position    index 135, term 2" in text


def test_json_holds_the_same(tmp_path: Path) -> None:
    """For programs: positions, peers, order and lineage as one document."""
    data_dir = server_directory(tmp_path, "1.8.7-snap")
    out = io.StringIO()

    code = run([S1, S3, data_dir, tmp_path / "none"], as_json=True, out=out)
    document = json.loads(out.getvalue())

    assert code == 1
    assert [each["last"] for each in document["logs"]] == [
        {"term": 1, "index": 45},
        {"term": 1, "index": 47},
        {"term": 2, "index": 135},
    ]
    assert document["logs"][2]["newest_snapshot"]["last"] == {"term": 2, "index": 128}
    assert document["order"][0]["paths"] == [str(data_dir)]
    assert [each["result"] for each in document["lineage"]] == ["unknown", "unknown"]
    assert document["errors"] == [{"path": str(tmp_path / "none"), "reason": "No such file or directory"}]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty or cut short"),
        (b"{}" * 9000, "not a BoltDB file"),
        (S1.read_bytes()[:20480], "cut short"),
    ],
)
def test_a_wrong_or_damaged_file_is_one_clear_line(tmp_path: Path, content: bytes, reason: str) -> None:
    """The others are still shown, the reason stands in one line, and the exit code is 1."""
    wrong = tmp_path / "raft.db"
    wrong.write_bytes(content)

    code, text = text_of(wrong, S1)

    assert code == 1
    assert [line for line in text.splitlines() if str(wrong) in line and reason in line]
    assert "index 45, term 1" in text


def wal_directory(tmp_path: Path, name: str) -> Path:
    """Lay a captured server of Consul 1.18.1 out: data_dir/raft/wal and the snapshots beside it."""
    data_dir = tmp_path / name
    with tarfile.open(DATA.parent / "wal" / f"{name}.tar.gz") as archive:
        archive.extractall(data_dir, filter="data")
    return data_dir


def test_a_write_ahead_log_is_read_however_it_is_named(tmp_path: Path) -> None:
    """A data_dir, its raft folder, the wal folder, or a file in it."""
    data_dir = wal_directory(tmp_path, "1-one-segment-killed")
    wal = data_dir / "raft" / "wal"

    for path in (data_dir, data_dir / "raft", wal, wal / "wal-meta.db", next(wal.glob("*.wal"))):
        code, text = text_of(path)
        assert code == 0
        assert "last position    index 85, term 2" in text
        assert "peers from index 1, term 1" in text


def test_write_ahead_logs_are_compared(tmp_path: Path) -> None:
    """What a new leader took back is what the staler one has of its own."""
    old, new = (wal_directory(tmp_path, name) for name in ("4-uncommitted-tail", "5-tail-cut"))

    code, text = text_of(old, new)

    assert code == 0
    assert "one history up to index 932, term 3; the first lacks 14 entries and has 5 of its own" in text


def test_an_unsound_write_ahead_log_is_one_clear_line(tmp_path: Path) -> None:
    """Consul would start with an empty log; here it is said why nobody may rely on it."""
    code, text = text_of(wal_directory(tmp_path, "made-segment-missing"))

    assert code == 1
    assert "cannot be read: it is unsound: its database knows the segment" in text


def test_a_torn_batch_is_a_note(tmp_path: Path) -> None:
    """The log can be relied on; a person should know all the same."""
    code, text = text_of(wal_directory(tmp_path, "made-torn-last-batch"))

    assert code == 0
    assert "note             its last batch was being written and is torn" in text


def test_raft_db_wins_beside_a_wal(tmp_path: Path) -> None:
    """As Consul has it: the wal is dead as long as raft.db is there."""
    data_dir = server_directory(tmp_path, "1.8.7-snap")
    (data_dir / "raft" / "wal").mkdir()

    code, text = text_of(data_dir)

    assert code == 0
    assert "index 135, term 2" in text
    assert "the wal folder beside it is dead" in text


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    """A wrong folder is told from a damaged file."""
    code, text = text_of(tmp_path)

    assert code == 1
    assert "there is no raft.db in it" in text
