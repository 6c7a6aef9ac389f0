"""Marks what is stored as written by the bot: whoever can only write to Redis makes nothing that verifies. Pure.

A journal line is ``s1 MAC JSON``. The MAC (HMAC-SHA256, RFC 2104) covers the
cluster, the run, the line's place, the MAC of the line before it, and its
JSON. So a line that was forged, edited, moved, or taken from another place,
run or cluster does not verify, and what verifies from the first line on is the
beginning of one history that truly was. What no MAC can show is that the
newest lines were taken away; there the hosts know more than the journal
(:mod:`recovery.forgotten`).

A value that is remembered beside a cluster is ``s1 MAC VALUE``; its MAC covers
cluster and name.
"""

from __future__ import annotations

import hmac
from typing import Final

from recovery.errors import Unverified

_TAG: Final = "s1"
_MAC_AT: Final = len(_TAG) + 1
_BODY_AT: Final = _MAC_AT + 64 + 1
_LABEL: Final = b"consul-recovery: what is stored in Redis, 1"
"""Keeps what is derived here apart from everything else that the same secret may be used for."""

NOT_SIGNED: Final = (
    "is not signed: an older version of the bot wrote it, or somebody else who may write to Redis"
)
NOT_OURS: Final = (
    "is not what the bot wrote there: it was changed, moved or put there by somebody who may write to Redis,"
    " or signed with another key (redis.signing_key, or else ssh.key_file)"
)


class SigningKey:
    """A key that is not in Redis; it shows in no repr."""

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        # HKDF-Extract (RFC 5869): whatever form the secret has, a key of 32 bytes.
        self._key = hmac.digest(_LABEL, secret, "sha256")

    def __repr__(self) -> str:
        return "SigningKey(***)"

    def sign_line(self, cluster: str, run: str, event: bytes, *, position: int, before: str) -> bytes:
        """Give the line for an event; ``before`` is the MAC of the line before it, "" for the first."""
        mac = self._mac("line", cluster, run, str(position), before, event)
        return f"{_TAG} {mac} ".encode() + event

    def verify_line(self, cluster: str, run: str, line: bytes, *, position: int, before: str) -> bytes:
        """Give the event of a line; Unverified if it was not signed for this place."""
        event = _body(line)
        self._check(mac_of(line), self._mac("line", cluster, run, str(position), before, event))
        return event

    def sign_value(self, cluster: str, name: str, value: str) -> str:
        """Give what is stored for a value that is remembered beside a cluster."""
        return f"{_TAG} {self._mac('value', cluster, name, value.encode())} {value}"

    def verify_value(self, cluster: str, name: str, stored: bytes) -> str:
        """Give the value; Unverified if it was not signed for this cluster and name."""
        value = _body(stored)
        self._check(mac_of(stored), self._mac("value", cluster, name, value))
        return value.decode()

    def _mac(self, *parts: str | bytes) -> str:
        whole = hmac.new(self._key, digestmod="sha256")
        for part in parts:
            piece = part if isinstance(part, bytes) else part.encode()
            # With its length, so that no two lists of parts are the same bytes.
            whole.update(len(piece).to_bytes(8, "big"))
            whole.update(piece)
        return whole.hexdigest()

    @staticmethod
    def _check(told: str, true: str) -> None:
        if not hmac.compare_digest(told.encode(), true.encode()):
            raise Unverified(NOT_OURS)


def mac_of(line: bytes) -> str:
    """The MAC as a line tells it; of one that is not signed whatever stands there."""
    return line[_MAC_AT : _BODY_AT - 1].decode("ascii", "replace")


def _body(line: bytes) -> bytes:
    if not line.startswith(f"{_TAG} ".encode()) or line[_BODY_AT - 1 : _BODY_AT] != b" ":
        raise Unverified(NOT_SIGNED)
    return line[_BODY_AT:]
