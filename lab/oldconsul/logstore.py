"""The Raft log and vote in raft/raft.db, and the peer set in raft/peers.json, which is a live file here.

Every change is on the disk before anybody is told of it. Entries are kept in memory too: labs are small.
"""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.oldconsul import msgpack
from lab.oldconsul.boltwriter import raft_db, replace_file
from lab.oldconsul.rules import Entry
from recovery.boltdb import drive, open_bucket, scan
from recovery.boltfile import Element, PageRequest, open_database


class LogStore:
    """One raft.db: entries by index without a gap, the current term and the last vote."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: list[Entry] = []
        self._packed: list[tuple[bytes, bytes]] = []
        self._conf: dict[bytes, bytes] = {}
        self._transaction = 3

    @classmethod
    def open(cls, path: Path) -> "LogStore":
        """Read raft.db, or make an empty one. Raises RaftLogUnreadable or ValueError if it is damaged."""
        store = cls(path)
        if path.exists():
            store._load(path.read_bytes())
        else:
            store._write()
        return store

    def _load(self, content: bytes) -> None:
        def read(request: PageRequest) -> bytes:
            return content[request.offset : request.offset + request.length]

        db = drive(open_database(str(self._path), len(content)), read)
        self._transaction = db.transaction
        for name, visit in ((b"logs", self._take), (b"conf", self._take_conf)):
            bucket = drive(open_bucket(db, name), read)
            if bucket is None:
                raise ValueError(f"{self._path} has no bucket {name.decode()}")
            drive(scan(db, bucket, b"", visit), read)

    def _take(self, element: Element) -> None:
        fields: dict[str, Any] = msgpack.unpack(element.value)
        entry = Entry(fields["Index"], fields["Term"], fields["Type"], fields["Data"])
        if self._entries and entry.index != self.last_index + 1:
            raise ValueError(f"{self._path} lacks the entry {self.last_index + 1}")
        self._entries.append(entry)
        self._packed.append((element.key, element.value))

    def _take_conf(self, element: Element) -> None:
        self._conf[element.key] = element.value

    def _write(self) -> None:
        self._transaction += 1
        replace_file(self._path, raft_db(self._packed, self._conf, transaction=self._transaction))

    # -- the log -------------------------------------------------------------------------------------------

    @property
    def last_index(self) -> int:
        """The last entry's index, 0 for an empty log."""
        return self._entries[-1].index if self._entries else 0

    @property
    def last_term(self) -> int:
        """The last entry's term, 0 for an empty log."""
        return self._entries[-1].term if self._entries else 0

    def get(self, index: int) -> Entry | None:
        """Return an entry, or None if the log does not hold it."""
        at = index - self._entries[0].index if self._entries else -1
        return self._entries[at] if 0 <= at < len(self._entries) else None

    def between(self, first: int, last: int) -> list[Entry]:
        """Return the entries from `first` to `last`, both included."""
        return [entry for index in range(first, last + 1) if (entry := self.get(index)) is not None]

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries behind the last one, after dropping what the log holds from the first one's index on."""
        keep = sum(entry.index < entries[0].index for entry in self._entries)
        del self._entries[keep:], self._packed[keep:]
        for entry in entries:
            fields = {"Data": entry.data, "Index": entry.index, "Term": entry.term, "Type": entry.type}
            self._entries.append(entry)
            self._packed.append((struct.pack(">Q", entry.index), msgpack.pack(fields)))
        self._write()

    # -- term and vote -------------------------------------------------------------------------------------

    def _number(self, key: bytes) -> int:
        return int.from_bytes(self._conf.get(key, b""), "big")

    @property
    def term(self) -> int:
        """The current term, 0 in the beginning."""
        return self._number(b"CurrentTerm")

    @property
    def voted_term(self) -> int:
        """The term of the last vote."""
        return self._number(b"LastVoteTerm")

    @property
    def voted_for(self) -> str:
        """Whom the last vote was for; "" if there was none."""
        return self._conf.get(b"LastVoteCand", b"").decode()

    def set_term(self, term: int) -> None:
        """Keep a new current term."""
        self._conf[b"CurrentTerm"] = struct.pack(">Q", term)
        self._write()

    def set_vote(self, term: int, candidate: str) -> None:
        """Keep a vote, and its term as the current one."""
        self._conf[b"LastVoteTerm"] = struct.pack(">Q", term)
        self._conf[b"LastVoteCand"] = candidate.encode()
        self.set_term(term)


class PeersFile:
    """raft/peers.json: read at the start and by status/peers, written at every change of the peer set."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[str, ...]:
        """Return the addresses in it; none if there is no file, an empty one, or `null`. Raises ValueError."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ()
        value = json.loads(text) if text.strip() else None
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ValueError("json: cannot unmarshal into Go value of type []string")
        return tuple(value)

    def write(self, peers: Sequence[str] | None) -> None:
        """Write the set; None is `null`, what a graceful leave leaves behind."""
        text = json.dumps(None if peers is None else list(peers), separators=(",", ":"))
        self._path.write_text(text + "\n", encoding="utf-8")
        self._path.chmod(0o755)
