"""Each situation is called by its name, and what cannot be seen is never called dead."""

import msgspec

from recovery.diagnosis import (
    Degraded,
    ElectionInProgress,
    Healthy,
    MajorityGone,
    OutOfSight,
    ServersStopped,
    Sight,
    TwoLeaders,
    diagnose,
)
from recovery.model import ServerName, ServerObservation
from tests.builders.observations import (
    blank,
    cluster,
    damaged,
    host,
    peers,
    running,
    stopped,
    unreachable,
)

THREE = peers("s1", "s2", "s3")
LOST = (ServerName("s2"), ServerName("s3"))


class TestWithLeader:
    def test_all_voters_running_is_healthy(self) -> None:
        """A leader and every server of the settings a running voter is healthy."""
        seen = cluster(
            running("s1", voters=THREE, leader=True), running("s2", voters=THREE), running("s3", voters=THREE)
        )
        found = diagnose(seen)
        assert isinstance(found, Healthy)
        assert found.leader == "s1"

    def test_one_stopped_follower_is_degraded_and_startable(self) -> None:
        """With a leader, a stopped voter is named as what to start."""
        seen = cluster(
            running("s1", voters=THREE, leader=True), running("s2", voters=THREE), stopped("s3", voters=THREE)
        )
        found = diagnose(seen)
        assert isinstance(found, Degraded)
        assert found.stopped == ("s3",)

    def test_an_unreachable_host_makes_a_led_cluster_degraded(self) -> None:
        """A host that cannot be seen is a problem to name, not a server to start."""
        seen = cluster(
            running("s1", voters=THREE, leader=True), running("s2", voters=THREE), unreachable("s3")
        )
        found = diagnose(seen)
        assert isinstance(found, Degraded)
        assert found.stopped == ()
        assert "not reachable" in found.headline

    def test_a_server_that_is_no_voter_is_degraded(self) -> None:
        """A running server of the settings that the leader does not count as voter is a problem."""
        seen = cluster(
            running("s1", voters=peers("s1", "s2"), leader=True),
            running("s2", voters=peers("s1", "s2")),
            blank("s3"),
        )
        assert isinstance(diagnose(seen), Degraded)

    def test_two_that_name_themselves_leader(self) -> None:
        """Two self-named leaders are a situation of their own, with no cure offered."""
        seen = cluster(
            running("s1", voters=THREE, leader=True),
            running("s2", voters=THREE, leader=True),
            stopped("s3", voters=THREE),
        )
        assert isinstance(diagnose(seen), TwoLeaders)


class TestWithoutLeader:
    def test_enough_running_voters_are_electing(self) -> None:
        """A running majority without a leader is an election, not an outage."""
        seen = cluster(running("s1", voters=THREE), running("s2", voters=THREE), unreachable("s3"))
        assert isinstance(diagnose(seen), ElectionInProgress)

    def test_stopped_majority_only_needs_starting(self) -> None:
        """Stopped voters with their data are started, nothing more."""
        seen = cluster(running("s1", voters=THREE), stopped("s2", voters=THREE), stopped("s3", voters=THREE))
        found = diagnose(seen)
        assert isinstance(found, ServersStopped)
        assert found.stopped == ("s2", "s3")

    def test_a_fenced_server_is_not_offered_for_starting(self) -> None:
        """What a run fenced is not called stopped: starting it could make a second leader."""
        seen = cluster(
            running("s1", voters=THREE),
            stopped("s2", voters=THREE),
            stopped("s3", voters=THREE, fenced_by="r1"),
        )
        found = diagnose(seen)
        assert isinstance(found, ServersStopped)
        assert found.stopped == ("s2",)

    def test_unreachable_majority_is_out_of_sight_until_claimed(self) -> None:
        """Unreachable is not dead: only the operator's claim makes it a gone majority."""
        seen = cluster(running("s1", voters=THREE), unreachable("s2"), unreachable("s3"))
        assert isinstance(diagnose(seen), OutOfSight)
        found = diagnose(seen, LOST)
        assert isinstance(found, MajorityGone)
        assert [voter.name for voter in found.survivors] == ["s1"]

    def test_replaced_machines_are_seen_as_a_gone_majority(self) -> None:
        """New ids under the old names prove that the old disks are not there; they stay unclaimed."""
        seen = cluster(
            running("s1", voters=THREE), blank("s2", at="198.51.100.12"), blank("s3", at="198.51.100.13")
        )
        found = diagnose(seen)
        assert isinstance(found, MajorityGone)
        assert {voter.sight for voter in found.gone} == {Sight.REPLACED}
        assert [voter.name for voter in found.unaccounted] == ["s2", "s3"]

    def test_a_claim_about_a_living_server_does_not_count(self) -> None:
        """A claimed server that gossip sees alive is not gone."""
        seen = cluster(running("s1", voters=THREE, alive=("s2", "s3")), unreachable("s2"), unreachable("s3"))
        assert isinstance(diagnose(seen, LOST), OutOfSight)

    def test_a_damaged_log_is_neither_stopped_nor_gone(self) -> None:
        """A log that cannot be read is not started blindly and not given up without a claim."""
        seen = cluster(stopped("s1", voters=THREE), damaged("s2"), damaged("s3"))
        assert isinstance(diagnose(seen), OutOfSight)
        assert isinstance(diagnose(seen, LOST), MajorityGone)

    def test_nobody_reached_cannot_be_told(self) -> None:
        """When no host answers, nothing is known, and nothing is claimed to be down."""
        seen = cluster(unreachable("s1"), unreachable("s2"), unreachable("s3"))
        assert isinstance(diagnose(seen), OutOfSight)

    def test_the_freshest_configuration_decides_who_votes(self) -> None:
        """A staler server's older, larger peer set does not count."""
        seen = cluster(
            running("s1", voters=peers("s1", "s2", "s3", "s4", "s5"), last=(1, 10)),
            running("s2", voters=THREE, last=(2, 20)),
            unreachable("s3"),
        )
        assert isinstance(diagnose(seen), ElectionInProgress)

    def test_a_leader_that_cannot_be_reached_is_still_a_leader(self) -> None:
        """Servers that follow a leader elsewhere are not leaderless: only the bot's way to it is broken."""
        follower = running("s1", voters=THREE)
        assert follower.agent is not None
        agent = msgspec.structs.replace(follower.agent, leader_address="198.51.100.12:8300")
        seen = cluster(msgspec.structs.replace(follower, agent=agent), unreachable("s2"), unreachable("s3"))
        found = diagnose(seen, LOST)
        assert isinstance(found, OutOfSight)
        assert "198.51.100.12:8300" in found.headline

    def test_a_log_that_was_not_read_is_not_called_blank(self) -> None:
        """Stopped servers whose logs could not be read are out of sight, never "not bootstrapped"."""
        unread = [
            ServerObservation(
                name=ServerName(name),
                address=f"198.51.100.1{name[1]}",
                host=host(running=False, raft_db_bytes=-1, wal=True),
                stored_problem="raft/wal cannot be read: it is unsound",
            )
            for name in ("s1", "s2", "s3")
        ]
        found = diagnose(cluster(*unread))
        assert isinstance(found, OutOfSight)
        # They answered: nobody has to bring them back.
        assert "nreachable" not in found.advice
        assert "s1, s2 and s3 answered, but what they hold could not be read" in found.advice

    def test_a_voter_whose_log_cannot_be_read_is_not_called_unreachable(self) -> None:
        """Its host answered; what bars the way is its log, and that is said."""
        found = diagnose(cluster(running("s1", voters=THREE), damaged("s2"), unreachable("s3")))
        assert isinstance(found, OutOfSight)
        assert "s3 cannot be seen, and what s2 holds cannot be read" in found.headline
        assert "Unreachable is not dead: bring these hosts back" in found.advice
        found = diagnose(cluster(running("s1", voters=THREE), damaged("s2"), damaged("s3")))
        assert isinstance(found, OutOfSight)
        assert "nreachable" not in found.advice
        assert "s2, s3 answered, but what they hold could not be read" in found.advice
