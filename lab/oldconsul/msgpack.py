"""MessagePack as Consul 0.6 wrote it: text and bytes are one type (raw), integers as short as they can be.

Source: the entries in the captured raft.db files (tests/data/raftdb); msgpack's old specification.
"""

import struct
from typing import Any


def pack(value: Any) -> bytes:
    """Encode None, bools, integers, floats, text, bytes, lists and dicts (keys sorted, as struct fields were)."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return _integer(value)
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case str():
            return _raw(value.encode())
        case bytes():
            return _raw(value)
        case list() | tuple():
            return _head(len(value), 0x90, 0xDC) + b"".join(pack(each) for each in value)
        case dict():
            items = sorted(value.items())
            return _head(len(items), 0x80, 0xDE) + b"".join(pack(key) + pack(each) for key, each in items)
        case _:
            raise TypeError(type(value).__name__)


def _integer(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack("b", value) if value < 0 else bytes([value])
    if value < 0:
        return b"\xd3" + struct.pack(">q", value)
    for code, shape, limit in ((0xCC, ">B", 1 << 8), (0xCD, ">H", 1 << 16), (0xCE, ">I", 1 << 32)):
        if value < limit:
            return bytes([code]) + struct.pack(shape, value)
    return b"\xcf" + struct.pack(">Q", value)


def _raw(data: bytes) -> bytes:
    if len(data) < 32:
        return bytes([0xA0 | len(data)]) + data
    if len(data) < 1 << 16:
        return b"\xda" + struct.pack(">H", len(data)) + data
    return b"\xdb" + struct.pack(">I", len(data)) + data


def _head(count: int, fixed: int, long: int) -> bytes:
    return bytes([fixed | count]) if count < 16 else bytes([long]) + struct.pack(">H", count)


def unpack(data: bytes) -> Any:
    """Decode one value; raws come back as bytes, the keys of maps as text. Raises ValueError for what is none."""
    try:
        value, end = _value(data, 0)
    except (IndexError, struct.error) as error:
        raise ValueError("the MessagePack ends in the middle of a value") from error
    if end != len(data):
        raise ValueError("there is more behind the MessagePack value")
    return value


_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_LENGTHS = {0xDA: ">H", 0xDB: ">I", 0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B"}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def _value(data: bytes, at: int) -> tuple[Any, int]:
    code = data[at]
    at += 1
    if code < 0x80:
        return code, at
    if code >= 0xE0:
        return code - 256, at
    if code in _CONSTANTS:
        return _CONSTANTS[code], at
    if code in _NUMBERS:
        shape = _NUMBERS[code]
        return struct.unpack_from(shape, data, at)[0], at + struct.calcsize(shape)
    if code < 0x90:
        return _map(data, at, code & 15)
    if code < 0xA0:
        return _list(data, at, code & 15)
    if code < 0xC0:
        return _bytes(data, at, code & 31)
    if code in _LENGTHS:
        shape = _LENGTHS[code]
        return _bytes(data, at + struct.calcsize(shape), struct.unpack_from(shape, data, at)[0])
    if code in (0xDC, 0xDE):
        count = struct.unpack_from(">H", data, at)[0]
        return (_list if code == 0xDC else _map)(data, at + 2, count)
    raise ValueError(f"{code:#04x} begins no MessagePack value that is known here")


def _bytes(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    if at + length > len(data):
        raise IndexError
    return data[at : at + length], at + length


def _list(data: bytes, at: int, count: int) -> tuple[list[Any], int]:
    found = []
    for _ in range(count):
        value, at = _value(data, at)
        found.append(value)
    return found, at


def _map(data: bytes, at: int, count: int) -> tuple[dict[str, Any], int]:
    found = {}
    for _ in range(count):
        key, at = _value(data, at)
        found[key.decode()], at = _value(data, at)
    return found, at
