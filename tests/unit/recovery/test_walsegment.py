"""The walk through a segment: the same in Python and on a host, and blind to nothing that Consul would not notice."""

import random
import re
import subprocess
import tarfile
from functools import cache
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recovery.walsegment import Walk, crc32c, parse_walk, walked
from tests.unit.recovery.raftdb_writer import Entry
from tests.unit.recovery.wal_writer import Written, frame

DATA = Path(__file__).parents[2] / "data" / "wal"


@cache
def host_program() -> str:
    """The walk as host.sh has it."""
    text = resources.files("recovery.adapters").joinpath("host.sh").read_text()
    found = re.search(r"<<'PERL'\n(.*?)\nPERL\n", text, re.DOTALL)
    assert found is not None
    return found.group(1)


def on_host(file: Path, *, checked: bool) -> bytes:
    done = subprocess.run(
        ["perl", "-", str(file), "1" if checked else "0"],
        input=host_program().encode(),
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout


def here(content: bytes, *, checked: bool = True) -> bytes:
    return walked(lambda at, count: content[at : at + count], len(content), checked=checked)


def walk_of(content: bytes) -> Walk:
    return parse_walk(here(content))


def writes(first: int, last: int, term: int = 2, size: int = 40) -> list[Entry]:
    return [Entry(index, term, 0, bytes([index % 256]) * size) for index in range(first, last + 1)]


def segment(*batches: int) -> Written:
    """A tail with batches of so many entries."""
    written, index = Written(0, 1, 65536, 1), 1
    for count in batches:
        written.put(writes(index, index + count - 1))
        written.commit()
        index += count
    return written


def captured() -> list[tuple[str, bytes]]:
    found = []
    for path in sorted(DATA.glob("*.tar.gz")):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name.endswith(".wal") else None
                if file is not None:
                    found.append((f"{path.name} {member.name}", file.read()))
    return found


def test_the_checksum_is_castagnolis() -> None:
    """As in RFC 3720, appendix B.4: 32 zeros, 32 ones, counting up; and going on from a part is the whole."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(bytes(range(16, 32)), crc32c(bytes(range(16)))) == 0x46DD794E


@pytest.mark.parametrize("checked", [True, False])
def test_a_host_walks_through_real_segments_as_we_do(tmp_path: Path, *, checked: bool) -> None:
    """Every segment of the captured folders: the host's answer is ours to the byte."""
    file = tmp_path / "segment.wal"
    segments = captured()
    assert len(segments) > 15
    for name, content in segments:
        file.write_bytes(content)
        assert on_host(file, checked=checked) == here(content, checked=checked), name


def test_a_host_walks_through_damaged_segments_as_we_do(tmp_path: Path) -> None:
    """Overwritten, cut, shifted, of odd lengths: whatever stands in a file, both say the same of it."""
    chance = random.Random(19)
    file = tmp_path / "segment.wal"
    whole = segment(1, 3, 1, 5, 2).file()
    used = len(segment(1, 3, 1, 5, 2).content)
    for _ in range(40):
        content = bytearray(whole)
        for _ in range(chance.choice((0, 1, 1, 2))):
            at, count = chance.randrange(used + 64), chance.choice((1, 4, 8, 100))
            content[at : at + count] = chance.choice((bytes(count), chance.randbytes(count)))
        if not chance.randrange(3):
            del content[chance.randrange(used + 64) :]
        file.write_bytes(content)
        assert on_host(file, checked=True) == here(bytes(content))


def test_frames_larger_than_what_is_read_at_once(tmp_path: Path) -> None:
    """Entries of several MiB, and a commit right at the end of a block."""
    written = Written(0, 1, 8 << 20, 1)
    for size in (3 << 20, (1 << 20) - 70, 12, (2 << 20) + 5):
        written.put(writes(len(written.offsets) + 1, len(written.offsets) + 1, size=size))
        written.commit()
    file = tmp_path / "segment.wal"
    file.write_bytes(written.file())

    walk = walk_of(written.file())

    assert on_host(file, checked=True) == here(written.file())
    assert (walk.entries, walk.rotten, walk.torn, walk.lost, walk.behind) == (4, 0, False, 0, False)


def test_what_is_behind_the_last_commit_does_not_count() -> None:
    """Entries that were written and not committed were never acknowledged."""
    written = segment(2, 3)
    written.put(writes(6, 7))

    walk = walk_of(written.file())

    assert (walk.entries, walk.loose, walk.rotten, walk.lost) == (5, 2, 0, 0)


def test_a_last_batch_that_does_not_fit_was_being_written() -> None:
    """Consul goes back to the commit before it, and so does the walk."""
    content = bytearray(segment(2, 3).file())
    content[segment(2).summed + 20] ^= 1

    walk = walk_of(bytes(content))

    assert (walk.entries, walk.torn, walk.rotten) == (2, True, 0)


@given(bit=st.integers(0, 7), place=st.floats(0, 1, exclude_max=True))
@settings(max_examples=100)
def test_a_flipped_bit_before_the_last_batch_is_told(bit: int, place: float) -> None:
    """Whatever bit it is: a checksum that does not fit, or entries that the walk cannot come to any more.

    But for the byte that says what the commit before the last batch is: without that commit, what follows is as it
    would be had the machine died while a larger batch was written; so much is told.
    """
    written = segment(2, 3, 1, 4)
    before_last = segment(2, 3, 1).summed
    content = bytearray(written.file())
    content[at := int(place * before_last)] ^= 1 << bit

    walk = walk_of(bytes(content))

    reserved = {
        commit - 8 + byte
        for commit in (segment(2).summed, segment(2, 3).summed, before_last)
        for byte in (1, 2, 3)
    }
    told = walk.rotten or walk.lost or (walk.behind and walk.stop_at == max(walk.end, 32))
    if at == before_last - 8:
        assert walk.loose, bit
        assert walk.end < at
    elif at not in reserved:
        assert told or walk.header != bytes(written.content[:32]), at
    else:
        assert walk.entries == 10


@given(start=st.integers(0, 480), length=st.integers(1, 700))
@example(
    start=185, length=4
)  # The end of a batch becomes a frame that nobody wrote, behind a commit that has rotted.
@settings(max_examples=100)
def test_a_hole_is_told_as_long_as_a_batch_and_an_entry_are_left_behind_it(start: int, length: int) -> None:
    """Zeros over what was acknowledged; and in no case does the log end within a batch without a word."""
    written = segment(2, 3, 1, 4)
    third_commit = segment(2, 3, 1).summed - 8
    content = bytearray(written.file())
    end = min(start + length, len(written.content))
    content[start:end] = bytes(end - start)

    walk = walk_of(bytes(content))

    assert walk.entries in {0, 2, 5, 6, 10} or walk.rotten
    if walk.entries < 10 and end <= third_commit:
        assert walk.rotten or walk.lost or walk.header != bytes(written.content[:32])


def test_a_batch_that_was_torn_and_written_over_is_no_loss() -> None:
    """What is left of a longer torn batch behind a later one: one commit, and no entry behind it."""
    written = segment(2)
    at = len(written.content)
    torn = segment(2)
    torn.put(writes(3, 8))
    torn.commit()
    written.put(writes(3, 3, size=11))
    written.commit()
    content = bytes(written.content) + bytes(torn.content[len(written.content) :])

    walk = walk_of(content.ljust(65536, b"\0"))

    assert at < walk.end
    assert (walk.entries, walk.rotten, walk.lost) == (3, 0, 0)


def test_an_answer_that_is_no_answer_is_refused() -> None:
    """A host that says something else is not believed."""
    told = here(segment(1).file())
    for wrong in (
        b"",
        b"size 1\n",
        told.replace(b"entries 1", b"entries x"),
        told.replace(b"marks 0:32", b"marks 0"),
    ):
        with pytest.raises(Exception, match="gave no answer"):
            parse_walk(wrong)


def test_marks_let_an_entry_be_found_in_one_read() -> None:
    """In a file of many small entries a mark stands every 16 KiB, so the answer stays small."""
    written = Written(0, 1, 1 << 20, 1)
    for index in range(1, 6001):
        written.put(writes(index, index, size=100))
        written.commit()
    content = written.file()

    walk = walk_of(content)

    assert walk.entries == 6000
    assert len(here(content)) < 1500
    assert all(b[1] - a[1] < 16384 + 200 for a, b in zip(walk.marks, walk.marks[1:], strict=False))
    assert frame(1, b"x" * 3) == b"\x01\0\0\0\x03\0\0\0xxx\0\0\0\0\0"
