"""Who may be started beside whom, and whose word counts about a server that is said to be gone."""

import msgspec

from recovery.diagnosis import Degraded, Diagnosis, Healthy, diagnose
from recovery.model import ClusterObservation, NodeId, ServerName, ServerObservation, StoredLog
from recovery.plan import (
    ArchiveState,
    JoinGossip,
    LogIs,
    NoLeader,
    Plan,
    Proposal,
    Refusal,
    ReleaseHold,
    Silent,
    StartAgent,
    WipeRaft,
    WritePeers,
)
from recovery.procedures import propose
from recovery.raftentry import LogPosition, Peer
from tests.builders.observations import address, blank, cluster, host, peers, running, stopped, unreachable

replace = msgspec.structs.replace
END = LogPosition(term=2, index=15)
"""Where the builders' logs end."""
TWO, THREE, FIVE = peers("s1", "s2"), peers("s1", "s2", "s3"), peers("s1", "s2", "s3", "s4", "s5")


def by_address(*names: str) -> tuple[Peer, ...]:
    """A peer set of Raft protocol 2, or one from before an upgrade: the id is the address."""
    return tuple(Peer(id=f"{address(n)}:8300", address=f"{address(n)}:8300", voter=True) for n in names)


def protocol_2(server: ServerObservation) -> ServerObservation:
    """A server between 0.7.3 and 1.8 with Raft protocol 2: it has a node id, the peer set has none."""
    assert server.agent is not None
    return replace(server, agent=replace(server.agent, raft_protocol=2))


def asked(
    seen: ClusterObservation, *lost: str, method: str | None = None, server: str | None = None
) -> Proposal | Refusal:
    names = tuple(ServerName(name) for name in lost)
    diagnosis: Diagnosis = diagnose(seen, names)
    return propose(
        seen, diagnosis, lost=names, method=method, server=None if server is None else ServerName(server)
    )


def planned(answer: Proposal | Refusal) -> Plan:
    assert isinstance(answer, Proposal), answer
    return answer.plan


def refused(answer: Proposal | Refusal) -> str:
    assert isinstance(answer, Refusal), answer
    return " ".join((*answer.reasons, answer.next_step))


class TestRaftProtocol2:
    def test_a_claimed_server_that_gossip_sees_alive_is_not_gone(self) -> None:
        """Its members have ids and its peer set has none: the address tells that they are the same."""
        survivor = protocol_2(running("s1", voters=by_address("s1", "s2", "s3"), alive=("s2", "s3")))
        seen = cluster(survivor, unreachable("s2"), unreachable("s3"))
        assert "s1 sees it alive in gossip" in refused(asked(seen, "s2", "s3"))

    def test_a_fenced_server_that_still_votes_is_never_wiped(self) -> None:
        """Wiped it would vote for anybody in the name of one who had promised otherwise."""
        voters = by_address("s1", "s2", "s3")
        led = protocol_2(running("s1", voters=voters, leader=True))
        fenced = stopped("s3", voters=voters, fenced_by="r0")
        seen = cluster(led, protocol_2(running("s2", voters=voters)), fenced)
        plan = planned(asked(seen, method="readmit", server="s3"))
        assert not any(isinstance(step.action, WipeRaft) for step in plan.steps)

    def test_a_healthy_cluster_is_healthy(self) -> None:
        """Every server is a voter, though no id of a host stands in the peer set."""
        voters = by_address("s1", "s2", "s3")
        seen = cluster(
            protocol_2(running("s1", voters=voters, leader=True)),
            protocol_2(running("s2", voters=voters)),
            protocol_2(running("s3", voters=voters)),
        )
        assert isinstance(diagnose(seen), Healthy)

    def test_after_an_upgrade_the_new_set_has_real_ids(self) -> None:
        """consul#3580: the set still has addresses as ids, the server runs protocol 3 and knows itself by its id."""
        seen = cluster(running("s1", voters=by_address("s1", "s2", "s3")), blank("s2"), blank("s3"))
        lost = (f"{address('s2')}:8300", f"{address('s3')}:8300")
        plan = planned(asked(seen, *lost))
        write = next(step.action for step in plan.steps if isinstance(step.action, WritePeers))
        assert [peer.id for peer in write.peers] == [seen.server("s1").node_id]

    def test_a_stopped_server_with_addresses_as_ids_does_not_tell_its_protocol(self) -> None:
        """From 1.0 on it may be set to protocol 3 all the same: the wrong format would be refused, or worse."""
        seen = cluster(stopped("s1", voters=by_address("s1", "s2", "s3")), blank("s2"), blank("s3"))
        lost = (f"{address('s2')}:8300", f"{address('s3')}:8300")
        assert "protocol version is not known" in refused(asked(seen, *lost))


class TestBesideARecovery:
    """A peers.json recovery of some was cut short; the others still go by the old set."""

    def test_nobody_is_started_with_the_set_from_before(self) -> None:
        """s1 has the new set of two, s2 still the old one of five: with s3 to s5 it could elect a second leader."""
        s1 = replace(running("s1", voters=TWO), set_by_snapshot=END)
        seen = cluster(s1, stopped("s2", voters=FIVE), *(unreachable(n) for n in ("s3", "s4", "s5")))
        answer = refused(asked(seen))
        assert "s2 still goes by the peer set from before a recovery" in answer
        assert "--method peers-json" in answer

    def test_a_peers_json_that_was_not_read_yet_is_not_thrown_away(self) -> None:
        """The run was unlocked: its unread file on s2 is the new set, and a start without it would be the old one."""
        s1 = replace(running("s1", voters=TWO), set_by_snapshot=END)
        s2 = stopped("s2", voters=FIVE, peers_json="[]", held_by="r0")
        answer = refused(asked(cluster(s1, s2, *(unreachable(n) for n in ("s3", "s4", "s5")))))
        assert "before a recovery" in answer

    def test_those_with_the_new_set_are_started_without_the_one_that_has_the_old(self) -> None:
        """They are a quorum of the new set; the other stays stopped, and the plan says why."""
        new = tuple(
            replace(stopped(n, voters=THREE, last=(3, 30)), set_by_snapshot=END) for n in ("s2", "s3")
        )
        plan = planned(asked(cluster(stopped("s1", voters=FIVE, last=(3, 30)), *new)))
        started = [step.action.server for step in plan.steps if isinstance(step.action, StartAgent)]
        assert started == ["s2", "s3"]
        assert any("s1 still goes by the peer set from before" in line for line in plan.warnings)

    def test_one_that_is_behind_the_recovery_is_started(self) -> None:
        """It is sent the snapshot, and with it the new set."""
        s1 = replace(running("s1", voters=TWO), set_by_snapshot=END)
        plan = planned(asked(cluster(s1, stopped("s2", voters=FIVE, last=(2, 9)))))
        assert any(step.action == StartAgent(ServerName("s2")) for step in plan.steps)

    def test_who_was_claimed_then_is_claimed_again_by_name(self) -> None:
        """The new set does not have them any more, the old one does: their ids are known, and are held to silence."""
        s1 = replace(running("s1", voters=TWO), set_by_snapshot=END)
        seen = cluster(s1, stopped("s2", voters=FIVE), *(unreachable(n) for n in ("s3", "s4", "s5")))
        assert "--method peers-json --lost s3,s4,s5" in refused(asked(seen))
        plan = planned(asked(seen, "s3", "s4", "s5", method="peers-json"))
        assert [claim.node_id for claim in plan.claims] == [peer.id for peer in FIVE[2:]]

    def test_giving_all_the_same_set_is_no_bigger_act_than_needed(self) -> None:
        """What the refusal advises does not say that a start would heal too."""
        s1 = replace(running("s1", voters=TWO), set_by_snapshot=END)
        seen = cluster(s1, stopped("s2", voters=FIVE), *(unreachable(n) for n in ("s3", "s4", "s5")))
        known = replace(seen, servers=seen.servers[:2])
        plan = planned(asked(known, method="peers-json"))
        assert not any("Starting what is stopped would heal too" in line for line in plan.warnings)

    def test_a_server_that_missed_a_change_of_the_set_is_started(self) -> None:
        """Without a recovery the leader's log tells it of the change."""
        led = running("s1", voters=THREE, leader=True, last=(2, 40))
        late = stopped("s3", voters=peers("s1", "s3"), last=(2, 20))
        plan = planned(asked(cluster(led, running("s2", voters=THREE, last=(2, 40)), late)))
        assert any(step.action == StartAgent(ServerName("s3")) for step in plan.steps)


def alone(plan: Plan) -> list[str]:
    """The steps from the first start of a blank server on."""
    return [
        step.id
        for step in plan.steps
        if isinstance(step.action, StartAgent | JoinGossip)
        and not step.together.startswith(("start-quorum", "start-rest"))
    ]


class TestBlankServers:
    def test_they_come_one_by_one_each_a_voter_before_the_next(self) -> None:
        """Two that see each other before the leader could found a cluster of their own."""
        survivors = (running("s1", voters=FIVE), running("s2", voters=FIVE))
        plan = planned(asked(cluster(*survivors, blank("s3"), blank("s4"), blank("s5")), "s3", "s4", "s5"))
        starts = [s for s in plan.steps if s.id in {"start-s3", "start-s4", "start-s5"}]
        assert [step.together for step in starts] == ["", "", ""]
        assert alone(plan)[-6:] == ["start-s3", "join-s3", "start-s4", "join-s4", "start-s5", "join-s5"]

    def test_one_whose_agent_never_ran_is_no_obstacle(self) -> None:
        """No raft directory, no node id: nothing to archive, and its emptiness is still held against the plan."""
        fresh = ServerObservation(
            name=ServerName("s3"),
            address="198.51.100.23",
            host=host(running=False, raft_db_bytes=-1, peers_info=False),
            stored=StoredLog(last=None, term=0, configuration=()),
        )
        plan = planned(asked(cluster(running("s1", voters=THREE), blank("s2"), fresh), "s2", "s3"))
        assert ArchiveState(ServerName("s3")) not in [step.action for step in plan.steps]
        assert LogIs(ServerName("s3"), NodeId("198.51.100.23:8300"), None) in plan.assumptions


def test_a_server_that_is_no_voter_and_away_is_no_dead_end() -> None:
    """Claiming it does not help, and the answer says what does."""
    seen = cluster(running("s1", voters=THREE), blank("s2"), blank("s3"), unreachable("s4"))
    answer = refused(asked(seen, "s2", "s3"))
    assert "take it out of the settings" in answer


def test_a_hold_on_a_running_server_is_seen_and_taken_off() -> None:
    """A run was abandoned after its first hold: at the next reboot that server would stay down."""
    s2 = running("s2", voters=THREE)
    assert s2.host is not None
    s2 = replace(s2, host=replace(s2.host, held_by="r0"))
    seen = cluster(running("s1", voters=THREE, leader=True), s2, running("s3", voters=THREE))
    diagnosis = diagnose(seen)
    assert isinstance(diagnosis, Degraded)
    assert "s2 runs, but is held by run r0" in diagnosis.headline
    assert [step.action for step in planned(asked(seen)).steps] == [ReleaseHold(ServerName("s2"))]


class TestEmptyDataDirectory:
    """A disk that is not mounted looks like a machine whose agent never ran."""

    @staticmethod
    def bare(name: str) -> ServerObservation:
        return ServerObservation(
            name=ServerName(name),
            address=address(name),
            host=host(running=False, raft_db_bytes=-1, peers_info=False),
            stored=StoredLog(last=None, term=0, configuration=()),
        )

    def test_it_has_to_be_claimed_and_its_name_typed(self) -> None:
        """Nobody can tell whether the voter's disk is gone: whoever says so types it, and is warned."""
        seen = cluster(running("s1", voters=THREE), blank("s2"), self.bare("s3"))
        assert "--lost s2,s3" in refused(asked(seen))
        plan = planned(asked(seen, "s2", "s3"))
        assert "s3" in plan.typed_names
        assert any("is a disk not mounted" in line for line in plan.warnings)

    def test_below_protocol_3_too(self) -> None:
        """There its address is the voter's id, and it is no emptied server that would need no claim."""
        voters = by_address("s1", "s2", "s3")
        survivor = protocol_2(running("s1", voters=voters))
        seen = cluster(survivor, unreachable("s2"), self.bare("s3"))
        assert "s3" in refused(asked(seen, "s2"))

    def test_a_start_leaves_it_alone(self) -> None:
        """With enough others it is not needed, and an agent started on it would be a new server."""
        seen = cluster(stopped("s1", voters=THREE), stopped("s2", voters=THREE), self.bare("s3"))
        plan = planned(asked(seen))
        started = [step.action.server for step in plan.steps if isinstance(step.action, StartAgent)]
        assert started == ["s1", "s2"]
        assert any("s3 is not started: its data directory is empty" in line for line in plan.warnings)

    def test_alone_it_is_a_refusal_that_says_why(self) -> None:
        """With a leader and nothing else to start there is no plan, and the reason is not left out."""
        led = running("s1", voters=THREE, leader=True)
        answer = refused(asked(cluster(led, running("s2", voters=THREE), self.bare("s3"))))
        assert "s3 is not started: its data directory is empty" in answer
        assert "Mount the disk" in answer


def test_every_try_of_a_recovered_start_asks_whether_the_lost_are_silent() -> None:
    """A retry may come hours later, when they are back and lead."""
    seen = cluster(running("s1", voters=THREE), blank("s2"), blank("s3"))
    plan = planned(asked(seen, "s2", "s3"))
    [start] = [step for step in plan.steps if step.id == "start-s1"]
    assert {check.name for check in start.before if isinstance(check, Silent)} == {"s2", "s3"}
    assert any(isinstance(check, NoLeader) for check in start.before)


def test_where_the_origin_of_a_set_could_not_be_seen_nothing_is_started() -> None:
    """One lost answer must not switch the rule off."""
    s1 = replace(running("s1", voters=TWO), origin_problem="the connection broke")
    answer = refused(asked(cluster(s1, stopped("s2", voters=FIVE))))
    assert "could not be seen (the connection broke)" in answer
    assert "Ask again" in answer


def test_one_that_is_behind_is_started_only_while_the_left_out_are_silent() -> None:
    """Until it has caught up it would still vote with them."""
    s1 = replace(running("s1", voters=TWO), set_by_snapshot=END)
    plan = planned(asked(cluster(s1, stopped("s2", voters=FIVE, last=(2, 9)))))
    [start] = [step for step in plan.steps if step.id == "start-s2"]
    assert len([check for check in start.before if isinstance(check, Silent)]) == 3
    assert any("keep" in line and "off until then" in line for line in plan.warnings)
