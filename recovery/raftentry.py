"""What one Raft log entry, one peer set and one snapshot's meta.json say.

In raft.db entries are MessagePack of an old kind: byte strings and text share one type ("raw"), so a strict
decoder takes Data for text and fails on the first byte that is not UTF-8. Here Data and Extensions are
cut out undecoded. Fields it does not know (AppendedAt in newer ones) are skipped. The WAL has an encoding of its own
around the same Data, so an entry's digest is the same in both.

Sources: hashicorp/raft log.go (types), configuration.go, peersjson.go, file_snapshot.go; raft-boltdb util.go;
raft-wal codec.go (BinaryCodec).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec

from recovery.boltfile import RaftLogUnreadable

COMMAND: Final = 0
NO_OP: Final = 1
ADD_PEER: Final = 2
REMOVE_PEER: Final = 3
BARRIER: Final = 4
CONFIGURATION: Final = 5


@dataclass(frozen=True, slots=True, order=True)
class LogPosition:
    """A place in a Raft log; the later one is that of the higher term, then of the higher index."""

    term: int
    index: int

    def __str__(self) -> str:
        """Say it to people."""
        return f"term {self.term}, index {self.index}"


@dataclass(frozen=True, slots=True)
class Peer:
    """A server as a peer set names it; below Raft protocol 3 its id is its address."""

    id: str
    address: str
    voter: bool


@dataclass(frozen=True, slots=True)
class PeerSet:
    """Who belonged to the cluster from this entry on."""

    index: int
    term: int
    servers: tuple[Peer, ...]

    @property
    def position(self) -> LogPosition:
        """Where the entry stands that made this set."""
        return LogPosition(self.term, self.index)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry, with its data as a SHA-256 only: Data may hold tokens and keys, and is never shown.

    The digest is over type, data and extensions; `data_bytes` is how long data is.
    """

    index: int
    term: int
    type: int
    data_digest: bytes
    data_bytes: int

    @property
    def position(self) -> LogPosition:
        """Where the entry stands."""
        return LogPosition(self.term, self.index)


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """A snapshot's meta.json: up to where it goes, who the peers were, and the checksum of its content.

    `configuration_index` is 1 after a recovery by peers.json, and where the first set still stands. `checksum` is
    Consul's CRC-64 in base64, or empty.
    """

    last: LogPosition
    servers: tuple[Peer, ...]
    configuration_index: int
    size: int
    checksum: str


class _Entry(msgspec.Struct):
    Index: int
    Term: int
    Type: int
    Data: msgspec.Raw = msgspec.Raw(b"\xc0")
    Extensions: msgspec.Raw = msgspec.Raw(b"\xc0")


class _Server(msgspec.Struct):
    Suffrage: int
    ID: str
    Address: str


class _Configuration(msgspec.Struct):
    Servers: list[_Server] | None


class _Meta(msgspec.Struct):
    Index: int
    Term: int
    Peers: str | None = None
    Configuration: _Configuration | None = None
    ConfigurationIndex: int = 0
    Size: int = 0
    CRC: str | None = None


# Of a number in seven bits a byte: 64 bits are ten bytes.
_LAST_SHIFT: Final = 63
_HIGHEST: Final = (1 << 64) - 1

_decode_entry = msgspec.msgpack.Decoder(_Entry).decode
_decode_configuration = msgspec.msgpack.Decoder(_Configuration).decode
_decode_addresses = msgspec.msgpack.Decoder(list[str] | None).decode
_decode_meta = msgspec.json.Decoder(_Meta).decode
# msgspec does not wrap the recursion limit, which nested garbage reaches.
_UNDECODABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


def _raw_bytes(value: bytes) -> bytes:
    """Cut the header off a MessagePack raw, text or binary string; nil is empty.

    A length that does not fit cannot come here: the decoder has walked over the value.
    """
    first = value[0]
    if first == 0xC0:
        return b""
    if 0xA0 <= first <= 0xBF:
        return value[1:]
    header = {0xC4: 2, 0xD9: 2, 0xC5: 3, 0xDA: 3, 0xC6: 5, 0xDB: 5}.get(first)
    if header is None:
        raise RaftLogUnreadable(f"an entry's data begins with {first:#04x}, which is no byte string")
    return value[header:]


def _split(key: bytes, value: bytes) -> tuple[LogEntry, bytes]:
    if len(key) != 8:
        raise RaftLogUnreadable(f"an entry has a key of {len(key)} bytes, not 8")
    index = int.from_bytes(key, "big")
    try:
        entry = _decode_entry(value)
    except _UNDECODABLE as error:
        raise RaftLogUnreadable(f"the entry at index {index} is damaged ({error})") from None
    if entry.Index != index:
        raise RaftLogUnreadable(f"the entry kept at index {index} calls itself {entry.Index}")
    if entry.Term < 1 or entry.Type not in range(COMMAND, 256):
        raise RaftLogUnreadable(f"the entry at index {index} has term {entry.Term} and type {entry.Type}")
    data, extensions = _raw_bytes(bytes(entry.Data)), _raw_bytes(bytes(entry.Extensions))
    return _log_entry(index, entry.Term, entry.Type, data, extensions), data


def _log_entry(index: int, term: int, kind: int, data: bytes, extensions: bytes) -> LogEntry:
    digest = hashlib.sha256(b"%d:%d:%d:" % (kind, len(data), len(extensions)))
    digest.update(data)
    digest.update(extensions)
    return LogEntry(index, term, kind, digest.digest(), len(data))


def _split_binary(index: int, payload: bytes) -> tuple[LogEntry, bytes]:
    at = 0

    def number() -> int:
        nonlocal at
        value, shift = 0, 0
        while True:
            if at == len(payload) or shift > _LAST_SHIFT:
                raise RaftLogUnreadable(f"the entry at index {index} is damaged (a number has no end)")
            byte = payload[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value

    def text() -> bytes:
        nonlocal at
        length = number()
        if length > len(payload) - at:
            raise RaftLogUnreadable(f"the entry at index {index} is damaged (it is cut short)")
        at += length
        return payload[at - length : at]

    own, term, kind = number(), number(), number()
    if own != index:
        raise RaftLogUnreadable(f"the entry kept at index {index} calls itself {own}")
    if not 1 <= term <= _HIGHEST or kind not in range(COMMAND, 256):
        raise RaftLogUnreadable(f"the entry at index {index} has term {term} and type {kind}")
    data, extensions = text(), text()
    if (payload[at : at + 1], len(payload) - at) not in ((b"\x01", 15), (b"\x02", 16)):
        raise RaftLogUnreadable(f"the entry at index {index} is damaged (it does not end with its time)")
    return _log_entry(index, term, kind, data, extensions), data


def parse_binary_entry(index: int, payload: bytes) -> LogEntry:
    """Decode one entry of a WAL segment (its codec 1); raises RaftLogUnreadable when it is damaged."""
    return _split_binary(index, payload)[0]


def parse_binary_peer_set(index: int, payload: bytes) -> PeerSet | None:
    """Return the peer set that an entry of a WAL segment carries, or None when it is of another type."""
    return _peer_set(*_split_binary(index, payload))


def parse_entry(key: bytes, value: bytes) -> LogEntry:
    """Decode one entry of the `logs` bucket; raises RaftLogUnreadable when it is damaged."""
    return _split(key, value)[0]


def parse_peer_set(key: bytes, value: bytes) -> PeerSet | None:
    """Return the peer set that an entry carries, or None when it is of another type.

    Old entries (add peer, remove peer) carry the whole set after the change, as addresses.
    """
    return _peer_set(*_split(key, value))


def _peer_set(entry: LogEntry, data: bytes) -> PeerSet | None:
    try:
        match entry.type:
            case 2 | 3:
                servers = _from_addresses(data)
            case 5:
                servers = _from_configuration(_decode_configuration(data))
            case _:
                return None
    except _UNDECODABLE as error:
        raise RaftLogUnreadable(f"the peer set at index {entry.index} is damaged ({error})") from None
    return PeerSet(entry.index, entry.term, servers)


def _from_addresses(packed: bytes) -> tuple[Peer, ...]:
    return tuple(Peer(address, address, voter=True) for address in _decode_addresses(packed) or ())


def _from_configuration(configuration: _Configuration) -> tuple[Peer, ...]:
    return tuple(
        Peer(server.ID, server.Address, voter=server.Suffrage == 0) for server in configuration.Servers or ()
    )


def parse_snapshot_meta(text: bytes) -> SnapshotMeta:
    """Decode the meta.json of a snapshot, of any Consul; raises RaftLogUnreadable when it is damaged."""
    try:
        meta = _decode_meta(text)
        if meta.Configuration is not None and meta.Configuration.Servers:
            servers = _from_configuration(meta.Configuration)
        else:
            packed = base64.b64decode(meta.Peers or "", validate=True)
            servers = _from_addresses(packed) if packed else ()
    except (*_UNDECODABLE, binascii.Error, ValueError) as error:
        raise RaftLogUnreadable(f"a snapshot's meta.json is damaged ({error})") from None
    if meta.Index < 1 or meta.Term < 1:
        raise RaftLogUnreadable(f"a snapshot's meta.json says index {meta.Index} in term {meta.Term}")
    return SnapshotMeta(
        LogPosition(meta.Term, meta.Index), servers, meta.ConfigurationIndex, meta.Size, meta.CRC or ""
    )
