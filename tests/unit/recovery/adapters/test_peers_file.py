"""raft/peers.json: what is written for which Raft protocol, and what counts as the same list."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.adapters.peers_file import peers_json, peers_match
from recovery.raftentry import Peer

PEERS = (Peer("A1", "10.0.0.1:8300", voter=True), Peer("b2", "10.0.0.2:8300", voter=False))


def test_protocol_3_lists_objects_with_lower_case_ids() -> None:
    """Raft compares ids case-sensitively, and Consul keeps its own in lower case."""
    assert json.loads(peers_json(PEERS, raft_protocol=3)) == [
        {"id": "a1", "address": "10.0.0.1:8300", "non_voter": False},
        {"id": "b2", "address": "10.0.0.2:8300", "non_voter": True},
    ]


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_older_protocols_list_addresses(protocol: int) -> None:
    """Below protocol 3 the file is an array of addresses; objects would be refused at the start."""
    assert json.loads(peers_json(PEERS, raft_protocol=protocol)) == ["10.0.0.1:8300", "10.0.0.2:8300"]


@given(
    peers=st.lists(
        st.builds(Peer, st.uuids().map(str), st.sampled_from(["10.0.0.1:8300", "[::1]:8300"]), st.booleans()),
        max_size=4,
    ).map(tuple),
    protocol=st.sampled_from([2, 3]),
)
def test_what_was_written_is_recognised(peers: tuple[Peer, ...], protocol: int) -> None:
    """Every list matches its own file, in whatever order it is written."""
    content = peers_json(peers, raft_protocol=protocol)
    assert peers_match(json.dumps(json.loads(content)[::-1]).encode(), peers)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[",
        b"{}",
        b"[1]",
        b'["10.0.0.1:8300"]',
        b'[{"id":"a1","address":"10.0.0.1:8300"}]',
        b"\xff",
    ],
)
def test_another_list_or_a_damaged_one_does_not_match(content: bytes) -> None:
    """A missing peer, an old emptied file and bytes that are no JSON are all not the list we wrote."""
    assert not peers_match(content, PEERS)
