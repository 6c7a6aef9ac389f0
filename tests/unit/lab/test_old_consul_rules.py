"""The rules of Raft that the stand-in of old Consul decides by: what keeps committed data, and what lost it."""

from dataclasses import replace
from pathlib import Path

import pytest

from lab.oldconsul.config import ConfigError, read_config
from lab.oldconsul.gossip import Member, Status, merged
from lab.oldconsul.rules import (
    ADD_PEER,
    COMMAND,
    REMOVE_PEER,
    Ballot,
    VoteRequest,
    commit_index,
    decide_vote,
    next_index,
    peer_change,
    quorum,
    quorum_for,
    set_after,
)

S1, S2, S3 = "198.51.100.11:8300", "198.51.100.12:8300", "198.51.100.13:8300"
BALLOT = Ballot(term=3, leader="", voted_term=2, voted_for=S3, last_term=2, last_index=10)
ASKED = VoteRequest(term=4, candidate=S1, last_term=2, last_index=10)


def test_a_vote_goes_to_a_log_that_is_not_behind() -> None:
    """Higher last term, or the same and at least our last index: yes, and its term becomes ours."""
    for last in ((2, 10), (2, 11), (3, 1)):
        decision = decide_vote(BALLOT, replace(ASKED, last_term=last[0], last_index=last[1]))
        assert (decision.granted, decision.term) == (True, 4)


@pytest.mark.parametrize(("last_term", "last_index", "what"), [(1, 99, "term"), (2, 9, "index")])
def test_no_vote_for_a_log_that_lacks_ours(last_term: int, last_index: int, what: str) -> None:
    """A long log of an older term is behind; the newer term is taken over all the same."""
    decision = decide_vote(BALLOT, replace(ASKED, last_term=last_term, last_index=last_index))
    assert (decision.granted, decision.term) == (False, 4)
    assert f"our last {what} is greater" in decision.why_not


def test_one_vote_a_term() -> None:
    """Who voted in a term votes for nobody else in it, also after a restart; the same one may ask again."""
    voted = replace(BALLOT, term=4, voted_term=4, voted_for=S2)
    assert not decide_vote(voted, ASKED).granted
    assert decide_vote(voted, replace(ASKED, candidate=S2)).granted


def test_no_vote_in_an_old_term_or_while_there_is_a_leader() -> None:
    """Neither changes the term: a candidate that nobody hears does not depose the leader it cannot see."""
    assert decide_vote(BALLOT, replace(ASKED, term=2)) == decide_vote(BALLOT, replace(ASKED, term=1))
    led = decide_vote(replace(BALLOT, leader=S2), ASKED)
    assert (led.granted, led.term) == (False, 3)
    assert led.why_not == f"Rejecting vote request from {S1} since we have a leader: {S2}"


def test_a_majority_commits_and_only_of_the_own_term() -> None:
    """Entries of an earlier term are not committed by counting them, however many servers hold them."""
    quorums = {8: 2, 9: 2}
    assert commit_index(committed=5, own_term_from=8, quorums=quorums, matches=[7, 7]) == 5
    assert commit_index(committed=5, own_term_from=8, quorums=quorums, matches=[8, 0]) == 8
    assert commit_index(committed=8, own_term_from=8, quorums=quorums, matches=[9, 9]) == 9
    assert commit_index(committed=5, own_term_from=8, quorums={8: 3, 9: 2}, matches=[9, 7]) == 5
    assert commit_index(committed=0, own_term_from=1, quorums={1: 1}, matches=[]) == 1


@pytest.mark.parametrize(("servers", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_quorum(servers: int, needed: int) -> None:
    """More than half."""
    assert quorum(servers) == needed


def test_a_removed_server_keeps_nobody_but_itself() -> None:
    """Its own removal makes a server step down, with itself as the only peer in its file."""
    change = peer_change(entry_type=REMOVE_PEER, peers=[S2, S3], own=S1)
    assert (change.removes_us, change.stored, change.others) == (True, (S1,), ())
    change = peer_change(entry_type=REMOVE_PEER, peers=[S2, S3], own=S2)
    assert (change.removes_us, change.stored, change.others) == (False, (S2, S3), (S3,))


def test_a_leader_alone_makes_its_own_set_everybodys() -> None:
    """An AddPeer without us takes us in as a follower of that set: how s1's {s1} emptied the others' peers."""
    change = peer_change(entry_type=ADD_PEER, peers=[S1], own=S2)
    assert (change.removes_us, change.stored, change.others) == (False, (S1,), (S1,))


def test_peer_changes_carry_the_whole_set() -> None:
    """As the captured entries have it; a change of nothing is none."""
    assert set_after(entry_type=REMOVE_PEER, peer=S1, own=S2, others=(S1, S3)) == (S2, S3)
    assert set_after(entry_type=REMOVE_PEER, peer=S2, own=S2, others=(S3,)) == (S3,)
    assert set_after(entry_type=ADD_PEER, peer=S1, own=S2, others=(S3,)) == (S1, S2, S3)
    assert set_after(entry_type=ADD_PEER, peer=S3, own=S2, others=(S3,)) is None
    assert set_after(entry_type=REMOVE_PEER, peer=S1, own=S2, others=(S3,)) is None


def test_the_own_removal_needs_the_old_majority() -> None:
    """A leader that leaves two behind needs one of them; every other change counts in the new set."""
    assert quorum_for(entry_type=REMOVE_PEER, peers=[S3], others=(S3,), own=S2) == 2
    assert quorum_for(entry_type=REMOVE_PEER, peers=[S2], others=(S3,), own=S2) == 1
    assert quorum_for(entry_type=ADD_PEER, peers=[S1, S2], others=(), own=S2) == 2
    assert quorum_for(entry_type=COMMAND, peers=(), others=(S1, S3), own=S2) == 2


def test_a_refused_leader_goes_back_to_where_the_follower_is() -> None:
    """One back, or right behind the follower's last entry if that is shorter; never before the first."""
    assert next_index(tried=47, follower_last=47) == 46
    assert next_index(tried=47, follower_last=10) == 11
    assert next_index(tried=1, follower_last=0) == 1


MEMBER = Member("s1", "198.51.100.11", {"role": "consul"}, incarnation=5)


def test_a_member_that_left_is_back_by_a_new_incarnation_only() -> None:
    """Old tables that still show it alive do not bring it back."""
    left = replace(MEMBER, status=Status.LEFT)
    assert merged(MEMBER, left, first_hand=False) == left
    assert merged(left, MEMBER, first_hand=True) is None
    again = replace(MEMBER, incarnation=6)
    assert merged(left, again, first_hand=False) == again
    assert merged(again, left, first_hand=True) is None


def test_a_failed_member_is_alive_when_it_says_so_itself() -> None:
    """Hearsay does not revive."""
    failed = replace(MEMBER, status=Status.FAILED)
    assert merged(failed, MEMBER, first_hand=False) is None
    assert merged(failed, MEMBER, first_hand=True) == MEMBER


def test_the_last_file_wins_and_flags_win_over_files(tmp_path: Path) -> None:
    """Names sorted, .json only, lists grow: what the override of bootstrap_expect stands on."""
    (tmp_path / "a.json").write_text('{"server": true, "bootstrap_expect": 3, "bind_addr": "198.51.100.11",'
                                     ' "retry_join": ["x"], "data_dir": "/d"}')  # fmt: skip
    (tmp_path / "zz.json").write_text('{"bootstrap_expect": 1, "retry_join": ["y"]}')
    (tmp_path / "zzz.hcl").write_text("not read")
    config = read_config([f"-config-dir={tmp_path}"], host_name="s1")
    assert (config.bootstrap_expect, config.retry_join, config.node_name) == (1, ["x", "y"], "s1")
    flags = ["-config-dir", str(tmp_path), "-bootstrap-expect=5"]
    assert read_config(flags, host_name="s1").bootstrap_expect == 5


def test_keys_of_later_versions_are_refused(tmp_path: Path) -> None:
    """As 0.6 refused them: it would not start."""
    (tmp_path / "a.json").write_text('{"performance": {"raft_multiplier": 1}}')
    with pytest.raises(ConfigError, match="invalid keys: performance"):
        read_config([f"-config-dir={tmp_path}", "-data-dir=/d"], host_name="s1")
