"""Consul's answers, of the versions that were captured, into our values."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.adapters import answers
from recovery.model import AgentView, Member, MemberStatus
from recovery.raftentry import LogPosition, Peer

CAPTURES = Path(__file__).parents[3] / "data" / "captures"
BLANK = AgentView(leader_address="", peers=())


def capture(state: str, server: str, section: str) -> str:
    text = (CAPTURES / state / f"{server}.txt").read_text(encoding="utf-8")
    body = text.split(f"### {section}\n", 1)[1].split("\n### ", 1)[0]
    return "\n".join(line for line in body.splitlines() if not line.startswith(("# HTTP", "X-Consul-")))


def told_by_info(state: str, server: str, *, peers: tuple[str, ...] = ()) -> AgentView:
    view = AgentView(leader_address="", peers=peers)
    return answers.with_stats(view, answers.parse_info(capture(state, server, "consul info")))


def test_a_leader_names_itself_and_tells_its_numbers() -> None:
    """What a healthy 1.8.7 leader says of itself is read whole."""
    view = told_by_info("1.8.7-healthy", "s1")
    assert (view.names_itself_leader, view.raft_state, view.raft_protocol) == (True, "Leader", 3)
    assert (view.term, view.last, view.commit_index) == (2, LogPosition(2, 14), 14)
    assert view.configuration[0] == Peer(
        "02c4c939-83e8-2e74-646b-8c877e6e8076", "198.51.100.13:8300", voter=True
    )
    assert len(view.configuration) == 3


def test_a_follower_does_not_name_itself_leader() -> None:
    """Only one of the three healthy servers names itself."""
    assert not told_by_info("1.8.7-healthy", "s2").names_itself_leader


def test_the_last_survivor_is_a_candidate_that_keeps_the_whole_peer_set() -> None:
    """A survivor without its majority still lists all three voters, and is no leader."""
    view = told_by_info("1.8.7-majority-gone", "s1")
    assert (view.names_itself_leader, view.raft_state, view.last) == (False, "Candidate", LogPosition(2, 15))
    assert sum(peer.voter for peer in view.configuration) == 3


def test_a_server_that_never_bootstrapped_is_blank() -> None:
    """It tells that it is at index 0, which is not the same as not telling; and there is no configuration."""
    view = told_by_info("1.8.7-never-bootstrapped", "s1")
    assert view.last == LogPosition(0, 0)
    assert view.configuration == ()


def test_below_0_7_the_peers_are_the_configuration() -> None:
    """0.6 prints no latest_configuration: what status/peers lists is the set, the address is the id."""
    peers = answers.parse_addresses(capture("0.6.4-healthy", "s1", "GET /v1/status/peers"))
    view = told_by_info("0.6.4-healthy", "s1", peers=peers)
    assert len(peers) == 3
    assert view.configuration == tuple(Peer(peer, peer, voter=True) for peer in peers)


def test_the_emptied_peer_set_of_0_6_is_empty() -> None:
    """After a graceful stop of all, status/peers is null and status/leader an empty text."""
    assert answers.parse_addresses(capture("0.6.4-stuck", "s1", "GET /v1/status/peers")) == ()
    assert answers.parse_leader(capture("0.6.4-stuck", "s1", "GET /v1/status/leader")) == ""
    assert told_by_info("0.6.4-stuck", "s1").configuration == ()


def test_agent_self_of_0_6_gives_settings_but_no_raft_numbers() -> None:
    """0.6 has everything in Config and no Stats: Raft's part of the view stays empty."""
    view = answers.with_self(BLANK, capture("0.6.4-stuck", "s1", "GET /v1/agent/self"))
    assert (view.node_name, view.datacenter, view.bootstrap_expect) == ("s1", "dc1", 3)
    assert view.leave_on_terminate is False
    assert (view.raft_state, view.last) == ("", None)


def test_members_tell_who_is_a_server_and_of_which_version() -> None:
    """Tags carry the role, the datacenter and the build; 0.6 has no node ids."""
    members = answers.parse_members(capture("0.6.4-stuck", "s1", "GET /v1/agent/members"))
    assert members[0] == Member(
        name="s1",
        address="198.51.100.11",
        status=MemberStatus.ALIVE,
        server=True,
        node_id="",
        datacenter="dc1",
        build="0.6.4",
    )


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (1, MemberStatus.ALIVE),
        (2, MemberStatus.LEAVING),
        (3, MemberStatus.LEFT),
        (4, MemberStatus.FAILED),
        (9, MemberStatus.NONE),
    ],
)
def test_a_members_status_is_serfs_number(number: int, status: MemberStatus) -> None:
    """A number that we do not know is none: it must not count as alive, nor as failed."""
    (member,) = answers.parse_members(json.dumps([{"Name": "s2", "Status": number, "Tags": {"id": "ABC"}}]))
    assert (member.status, member.node_id) == (status, "abc")


def test_after_a_recovery_the_snapshot_is_the_last_position() -> None:
    """RecoverCluster empties the log: last_log_index is 0, and the snapshot says how far the server is."""
    raft = {
        "last_log_index": "0",
        "last_log_term": "0",
        "last_snapshot_index": "41",
        "last_snapshot_term": "7",
    }
    assert answers.with_stats(BLANK, {"raft": raft}).last == LogPosition(7, 41)


def test_a_higher_term_beats_a_higher_index() -> None:
    """The larger of both ends is by term first, as Raft compares logs."""
    raft = {
        "last_log_index": "90",
        "last_log_term": "3",
        "last_snapshot_index": "41",
        "last_snapshot_term": "7",
    }
    assert answers.with_stats(BLANK, {"raft": raft}).last == LogPosition(7, 41)


def test_a_non_voter_and_an_ipv6_address_are_read() -> None:
    """latest_configuration is Go's own print; brackets in an address belong to it."""
    text = "[{Suffrage:Voter ID:a Address:[2001:db8::1]:8300} {Suffrage:Nonvoter ID:b Address:10.0.0.2:8300}]"
    assert answers.parse_configuration(text) == (
        Peer("a", "[2001:db8::1]:8300", voter=True),
        Peer("b", "10.0.0.2:8300", voter=False),
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Config", "Stats", "DebugConfig", "raft", "Tags", "Status", "term", "Version"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(value=JSON, garbage=st.text(max_size=20))
def test_answers_of_no_known_shape_are_read_as_nothing_known(value: Any, garbage: str) -> None:
    """A proxy's page or another version's shape must not end a look at the whole cluster."""
    for body in (json.dumps(value), garbage):
        answers.parse_members(body)
        answers.parse_nodes(body)
        assert answers.parse_leader(body) == (
            value if isinstance(value, str) and body != garbage else ""
        ) or (body == garbage)
        assert not answers.with_self(BLANK, body).names_itself_leader
