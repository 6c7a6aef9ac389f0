"""Plans do the smallest thing that heals, in the order that loses nothing; the rest is refused with reasons."""

import json

import msgspec

from recovery.adapters.peers_file import peers_json
from recovery.diagnosis import Healthy, OutOfSight, diagnose
from recovery.model import ClusterObservation, KnownNode, ServerName, ServerObservation, StoredLog
from recovery.plan import Plan, Proposal, Refusal, Risk, Silent, StartAgent, Step, WritePeers
from recovery.procedures import propose
from recovery.raftentry import Peer
from tests.builders.observations import (
    address,
    blank,
    cluster,
    damaged,
    node_id,
    peers,
    running,
    stopped,
    unreachable,
)

THREE = peers("s1", "s2", "s3")
FIVE = peers("s1", "s2", "s3", "s4", "s5")


def answer(
    seen: ClusterObservation, *, lost: tuple[str, ...] = (), method: str | None = None
) -> Proposal | Refusal:
    names = tuple(ServerName(name) for name in lost)
    return propose(seen, diagnose(seen, names), lost=names, method=method)


def plan(seen: ClusterObservation, *, lost: tuple[str, ...] = (), method: str | None = None) -> Plan:
    given = answer(seen, lost=lost, method=method)
    assert isinstance(given, Proposal), given
    return given.plan


def refused(seen: ClusterObservation, *, lost: tuple[str, ...] = (), method: str | None = None) -> str:
    given = answer(seen, lost=lost, method=method)
    assert isinstance(given, Refusal), given.plan.summary
    return " ".join((*given.reasons, given.next_step))


def starts(steps: tuple[Step, ...]) -> list[str]:
    return [step.action.server for step in steps if isinstance(step.action, StartAgent)]


def index(made: Plan, step: str) -> int:
    return [entry.id for entry in made.steps].index(step)  # type: ignore[arg-type]


class TestStart:
    def test_starts_what_is_stopped_and_has_no_irreversible_step(self) -> None:
        """Two stopped voters are started, and nothing is done that cannot be undone."""
        made = plan(
            cluster(running("s1", voters=THREE), stopped("s2", voters=THREE), stopped("s3", voters=THREE))
        )
        assert starts(made.steps) == ["s2", "s3"]
        assert all(step.risk is not Risk.IRREVERSIBLE for step in made.steps)

    def test_a_running_blank_server_is_stopped_first_and_started_last(self) -> None:
        """A blank server votes for anybody, so it is down until there is a leader."""
        made = plan(
            cluster(stopped("s1", voters=THREE), stopped("s2", voters=THREE), blank("s3", at="198.51.100.13"))
        )
        assert index(made, "stop-s3") < index(made, "start-s1")
        assert index(made, "leader") < index(made, "start-s3")

    def test_an_unread_peers_file_is_refused(self) -> None:
        """Starting a server with an unread peers.json would be a recovery nobody approved."""
        text = refused(
            cluster(
                running("s1", voters=THREE),
                stopped("s2", voters=THREE, peers_json="[]"),
                stopped("s3", voters=THREE),
            )
        )
        assert "unread peers.json" in text

    def test_peers_json_is_refused_where_a_leader_comes_by_itself(self) -> None:
        """A running majority is never given a new peer set, not even when asked for."""
        seen = cluster(running("s1", voters=THREE), running("s2", voters=THREE), unreachable("s3"))
        assert "refused" in refused(seen, method="peers-json")

    def test_peers_json_where_starting_heals_only_when_asked_and_with_a_warning(self) -> None:
        """The bigger act is planned only on request, and says that a smaller one heals."""
        seen = cluster(
            stopped("s1", voters=FIVE, last=(2, 20)),
            stopped("s2", voters=FIVE, last=(2, 20)),
            running("s3", voters=FIVE, last=(2, 40)),
            unreachable("s4"),
            unreachable("s5"),
        )
        assert plan(seen).procedure == "start"
        made = plan(seen, lost=("s4", "s5"), method="peers-json")
        assert "asked for by --method" in made.warnings[0]
        assert starts(made.steps[: index(made, "leader")]) == ["s3"]

    def test_with_the_old_majority_there_the_rest_starts_one_by_one(self) -> None:
        """Three of five stale ones started together could elect one of them by their old set: each joins first."""
        seen = cluster(
            *(stopped(name, voters=FIVE, last=(2, 20)) for name in ("s1", "s2", "s4")),
            running("s3", voters=FIVE, last=(2, 40)),
            unreachable("s5"),
        )
        made = plan(seen, lost=("s5",), method="peers-json")
        assert starts(made.steps) == ["s3", "s4", "s2", "s1"]
        assert index(made, "join-s4") < index(made, "led-before-s2") < index(made, "start-s2")
        assert index(made, "join-s2") < index(made, "start-s1")


class TestPeersJson:
    def test_a_single_survivor_is_the_new_set_and_blanks_come_last(self) -> None:
        """The survivor alone is listed; the replaced machines are held from the start and join at the end."""
        made = plan(cluster(running("s1", voters=THREE), blank("s2"), blank("s3")), lost=("s2", "s3"))
        writes = [step.action for step in made.steps if isinstance(step.action, WritePeers)]
        assert [(w.server, [p.id for p in w.peers]) for w in writes] == [("s1", [node_id("s1")])]
        assert starts(made.steps) == ["s1", "s2", "s3"]
        assert index(made, "stop-s2") < index(made, "write-peers-s1")
        assert index(made, "leader") < index(made, "start-s2")

    def test_only_the_freshest_gets_a_file_and_starts_before_there_is_a_leader(self) -> None:
        """With the newest entries on s3 alone, s3 leads alone; the others join it with the data they have."""
        seven = peers("s1", "s2", "s3", "s4", "s5", "s6", "s7")
        made = plan(
            cluster(
                running("s1", voters=seven, last=(2, 20)),
                running("s2", voters=seven, last=(2, 20)),
                running("s3", voters=seven, last=(2, 40)),
                *(unreachable(name) for name in ("s4", "s5", "s6", "s7")),
            ),
            lost=("s4", "s5", "s6", "s7"),
        )
        leader = index(made, "leader")
        assert starts(made.steps[:leader]) == ["s3"]
        assert starts(made.steps[leader:]) == ["s2", "s1"]
        assert index(made, "start-s1") < index(made, "join-s2")
        writes = [step.action for step in made.steps if isinstance(step.action, WritePeers)]
        assert [(write.server, [peer.id for peer in write.peers]) for write in writes] == [
            ("s3", [node_id("s3")])
        ]
        assert any("s3 is the only voter until another one has joined it" in line for line in made.warnings)

    def test_a_survivor_without_a_vote_leads_alone(self) -> None:
        """The only one left is a non-voter with the full log: it gets the file, with a word about it."""
        s1 = Peer(node_id("s1"), "198.51.100.11:8300", voter=False)
        voters = (s1, *peers("s2", "s3", "s4"))
        seen = cluster(running("s1", voters=voters), *(unreachable(name) for name in ("s2", "s3", "s4")))
        assert "--lost s2,s3,s4" in refused(seen)
        made = plan(seen, lost=("s2", "s3", "s4"))
        [write] = [step.action for step in made.steps if isinstance(step.action, WritePeers)]
        assert write.peers == (Peer(s1.id, s1.address, voter=True),)
        assert any("s1 has had no vote so far" in line for line in made.warnings)

    def test_a_non_voter_that_is_fresher_than_every_voter_leads_alone(self) -> None:
        """What it holds may be acknowledged: a stale voter beside it would lose it, so that one joins."""
        s1 = Peer(node_id("s1"), "198.51.100.11:8300", voter=False)
        voters = (s1, *peers("s2", "s3", "s4"))
        seen = cluster(
            running("s1", voters=voters, last=(2, 40)),
            running("s2", voters=voters, last=(2, 20)),
            *(unreachable(name) for name in ("s3", "s4")),
        )
        made = plan(seen, lost=("s3", "s4"))
        assert starts(made.steps) == ["s1", "s2"]

    def test_everything_is_stopped_held_and_archived_before_the_first_write(self) -> None:
        """No file is written while any touched agent could still write its log, or without an archive."""
        made = plan(cluster(running("s1", voters=THREE), blank("s2"), blank("s3")), lost=("s2", "s3"))
        first = next(i for i, step in enumerate(made.steps) if step.risk is Risk.IRREVERSIBLE)
        before = {step.id for step in made.steps[:first]}
        assert {
            f"{verb}-{name}" for verb in ("hold", "stop", "archive") for name in ("s1", "s2", "s3")
        } <= before

    def test_without_claims_it_is_refused_with_the_command_to_type(self) -> None:
        """Replaced machines alone are not proof that the old disks never come back."""
        text = refused(cluster(running("s1", voters=THREE), blank("s2"), blank("s3")))
        assert "--lost s2,s3" in text

    def test_where_the_old_name_is_not_known_the_address_names_the_lost_server(self) -> None:
        """A survivor that was restarted cannot tell the old names: the plan is claimed by address."""
        seen = cluster(running("s1", voters=THREE, stale_reads=False), blank("s2"), blank("s3"))
        assert "--lost 198.51.100.12:8300,198.51.100.13:8300" in refused(seen)
        made = plan(seen, lost=("198.51.100.12", "198.51.100.13:8300"))
        assert made.typed_names == ("198.51.100.12:8300", "198.51.100.13:8300")

    def test_a_claim_about_an_answering_server_is_refused(self) -> None:
        """A server that answers is not gone for good, whatever the operator types."""
        text = refused(
            cluster(
                running("s1", voters=THREE), running("s2", voters=THREE, last=(2, 14)), unreachable("s3")
            ),
            lost=("s2", "s3"),
        )
        assert "s2 is gone for good, but s2 runs" in text

    def test_a_claim_about_a_stopped_server_with_data_is_refused(self) -> None:
        """A stopped server with its data is started, not given up."""
        text = refused(
            cluster(running("s1", voters=THREE), stopped("s2", voters=THREE), unreachable("s3")),
            lost=("s2", "s3"),
        )
        assert "starting it is the smaller act" in text

    def test_an_unclaimed_silent_server_is_refused(self) -> None:
        """Every voter is seen or claimed; one that is neither stops the plan."""
        text = refused(
            cluster(running("s1", voters=FIVE), *(unreachable(name) for name in ("s2", "s3", "s4", "s5"))),
            lost=("s2", "s3", "s4"),
        )
        assert "s5" in text
        assert "not claimed" in text

    def test_a_lost_server_that_cannot_be_fenced_must_be_typed(self) -> None:
        """Nothing but the claim stands against an unreachable server: its name is typed at approval."""
        made = plan(
            cluster(running("s1", voters=THREE), unreachable("s2"), unreachable("s3")), lost=("s2", "s3")
        )
        assert made.typed_names == ("s2", "s3")
        assert sum(isinstance(check, Silent) for check in made.assumptions) == 2

    def test_a_replacement_at_the_old_address_is_held_so_nothing_is_typed(self) -> None:
        """Whoever has the dead server's address is held by the plan itself."""
        made = plan(
            cluster(
                running("s1", voters=THREE), blank("s2", at="198.51.100.12"), blank("s3", at="198.51.100.13")
            ),
            lost=("s2", "s3"),
        )
        assert made.typed_names == ()

    def test_a_damaged_survivor_is_fenced(self) -> None:
        """A reached server whose log cannot be read is left out, and made unable to come up."""
        made = plan(cluster(running("s1", voters=THREE), damaged("s2"), unreachable("s3")), lost=("s2", "s3"))
        assert index(made, "fence-s2") < index(made, "write-peers-s1")
        # Until then nothing keeps it from starting, so nobody may ask for its silence before.
        early = made.steps[: index(made, "fence-s2")]
        assert not any(
            isinstance(check, Silent) and check.name == "s2" for step in early for check in step.before
        )
        assert "s2" not in starts(made.steps)

    def test_the_digest_survives_a_growing_term(self) -> None:
        """Without a leader only the term grows; an approval must outlive that."""
        first = cluster(running("s1", voters=THREE), blank("s2"), blank("s3"))
        grown = running("s1", voters=THREE)
        assert grown.agent is not None
        later = cluster(
            msgspec.structs.replace(grown, agent=msgspec.structs.replace(grown.agent, term=99)),
            blank("s2"),
            blank("s3"),
        )
        assert plan(first, lost=("s2", "s3")).digest() == plan(later, lost=("s2", "s3")).digest()

    def test_the_digest_changes_with_the_log(self) -> None:
        """Another last entry is another plan."""
        one = cluster(running("s1", voters=THREE, last=(2, 15)), blank("s2"), blank("s3"))
        other = cluster(running("s1", voters=THREE, last=(2, 16)), blank("s2"), blank("s3"))
        assert plan(one, lost=("s2", "s3")).digest() != plan(other, lost=("s2", "s3")).digest()


class TestRaftProtocol2:
    """Below protocol 3 a voter's id is its address, and no node carries it as an id of its own."""

    VOTERS = tuple(Peer(peer.address, peer.address, voter=True) for peer in THREE)

    def seen(self, name: str, *, alive: tuple[str, ...] = (), leader: bool = False) -> ServerObservation:
        """A server that runs with protocol 2, with the catalogue of before."""
        server = running(name, voters=self.VOTERS, alive=alive, leader=leader)
        assert server.agent is not None
        known = tuple(KnownNode(each, node_id(each), address(each)) for each in ("s1", "s2", "s3"))
        agent = msgspec.structs.replace(server.agent, raft_protocol=2, known_nodes=known)
        return msgspec.structs.replace(server, agent=agent)

    def test_a_voter_is_known_by_its_address(self) -> None:
        """Three that run under one leader are healthy: each is a voter."""
        seen = cluster(self.seen("s1", leader=True), self.seen("s2"), self.seen("s3"))
        assert isinstance(diagnose(seen), Healthy)

    def test_the_new_peer_set_is_one_of_addresses(self) -> None:
        """The lost ones are claimed by the names that the catalogue gives their addresses."""
        made = plan(cluster(self.seen("s1"), blank("s2"), blank("s3")), lost=("s2", "s3"))
        writes = [step.action for step in made.steps if isinstance(step.action, WritePeers)]
        [(protocol, written)] = [(write.raft_protocol, write.peers) for write in writes]
        assert protocol == 2
        assert written == self.VOTERS[:1]
        assert json.loads(peers_json(written, raft_protocol=protocol)) == ["198.51.100.11:8300"]
        assert {claim.node_id for claim in made.claims} == {"198.51.100.12:8300", "198.51.100.13:8300"}

    def test_a_claim_about_a_server_that_gossip_sees_alive_is_refused(self) -> None:
        """Its id tells nothing there: it is seen alive by its address."""
        seen = cluster(self.seen("s1", alive=("s2",)), unreachable("s2"), unreachable("s3"))
        assert "You say s2 is gone for good, but s1 sees it alive in gossip" in refused(
            seen, lost=("s2", "s3")
        )


class TestOtherHistories:
    def test_a_stopped_server_of_another_history_is_not_started_beside_a_leader(self) -> None:
        """A leader that founded its own cluster does not get the old cluster started beside it."""
        old = peers("s1", "s2", "s3")
        founder = running(
            "s3", voters=(Peer("s3-new", "198.51.100.13:8300", voter=True),), identity="s3-new", leader=True
        )
        seen = cluster(
            stopped("s1", voters=old, last=(5, 900)), running("s2", voters=old, last=(5, 900)), founder
        )
        assert "lead a cluster of its own" in refused(seen)

    def test_a_server_that_was_removed_from_the_cluster_is_started_again(self) -> None:
        """A stopped server that autopilot has removed comes back as a member of the same cluster."""
        two = peers("s1", "s2")
        seen = cluster(
            running("s1", voters=two, leader=True), running("s2", voters=two), stopped("s3", voters=THREE)
        )
        assert starts(plan(seen).steps) == ["s3"]

    def test_without_a_leader_only_voters_and_blank_servers_are_started(self) -> None:
        """A stopped server with data that is no voter stays stopped, and the plan says so."""
        seen = cluster(
            running("s1", voters=THREE),
            stopped("s2", voters=THREE),
            stopped("s3", voters=THREE),
            stopped("s4", voters=peers("s4"), last=(2, 3)),
        )
        made = plan(seen)
        assert "s4" not in starts(made.steps)
        assert any("s4 is stopped and holds data" in warning for warning in made.warnings)

    def test_a_fresher_server_is_never_left_out(self) -> None:
        """A reached server that is no voter but ends after every survivor stops the plan."""
        six = running("s6", voters=peers("s1", "s2", "s3", "s4", "s5"), last=(5, 1000))
        seen = cluster(
            running("s1", voters=FIVE, last=(5, 900)),
            running("s2", voters=FIVE, last=(5, 900)),
            *(unreachable(name) for name in ("s3", "s4", "s5")),
            six,
        )
        # The freshest decides who votes, and it does not count itself: its word is not believed either way.
        assert "s6" in refused(seen, lost=("s3", "s4", "s5"))

    def test_lost_hosts_may_be_claimed_by_id(self) -> None:
        """A new plan after a void one claims by id, also for hosts that the settings name."""
        seen = cluster(stopped("s1", voters=THREE), unreachable("s2"), unreachable("s3"))
        made = plan(seen, lost=(node_id("s2"), node_id("s3")))
        assert made.procedure == "peers-json"

    def test_a_survivor_that_hides_its_members_is_not_believed(self) -> None:
        """An empty member list is a weak token, not proof that nobody is alive."""
        s1 = running("s1", voters=THREE)
        assert s1.agent is not None
        hidden = msgspec.structs.replace(s1, agent=msgspec.structs.replace(s1.agent, members=()))
        text = refused(cluster(hidden, unreachable("s2"), unreachable("s3")), lost=("s2", "s3"))
        assert "shows no members" in text

    def test_below_0_7_peers_json_is_no_loaded_gun(self) -> None:
        """Old Consul's live peer set does not stand against starting."""
        seen = cluster(
            *(stopped(name, voters=THREE, version="0.6.4", peers_json="[]") for name in ("s1", "s2", "s3"))
        )
        assert {"s1", "s2", "s3"} == set(starts(plan(seen).steps))

    def test_an_emptied_server_with_its_old_id_is_no_voter_to_start(self) -> None:
        """Two of three emptied under their old ids are a gone majority: the survivor is the new peer set."""
        emptied = [
            msgspec.structs.replace(
                stopped(name, voters=()), stored=StoredLog(last=None, term=0, configuration=())
            )
            for name in ("s2", "s3")
        ]
        made = plan(cluster(stopped("s1", voters=THREE), *emptied))
        assert made.procedure == "peers-json"
        assert starts(made.steps) == ["s1", "s2", "s3"]
        assert made.typed_names == ()


class TestHindered:
    """A host that answers SSH and could not be looked at: its agent may lead, or hold the newest entry."""

    def found(self) -> ClusterObservation:
        blind = msgspec.structs.replace(
            unreachable("s2"), answers=True, host_problem="there is no unit consul.service on this host"
        )
        return cluster(running("s1", voters=THREE), blind, unreachable("s3"))

    def test_it_is_never_called_not_reachable_nor_bidden_to_be_claimed(self) -> None:
        """The word is what hinders the look, and nobody is told to write --lost for it."""
        said = diagnose(self.found())
        assert isinstance(said, OutOfSight)
        assert "s2 answers but could not be looked at" in said.headline
        assert "--lost" not in said.advice
        assert not any("s2" in line and "not reachable" in line for line in said.evidence)
        assert any("there is no unit consul.service" in line for line in said.evidence)

    def test_a_claim_about_it_is_refused(self) -> None:
        """Whoever types that it is gone hears that its host answers."""
        text = refused(self.found(), lost=("s2", "s3"), method="peers-json")
        assert "You say s2 is gone for good, but its host answers" in text
        assert "there is no unit consul.service" in text

    def test_a_claim_by_its_address_is_refused_too(self) -> None:
        """It is the same server under another word."""
        text = refused(self.found(), lost=("198.51.100.12:8300", "s3"), method="peers-json")
        assert "but its host answers" in text

    def test_below_0_7_a_claim_about_it_is_refused(self) -> None:
        """There nobody names voters; the server of the settings is meant."""
        observation = cluster(
            stopped("s1", voters=(), version="0.6.4", peers_json="null"),
            stopped("s2", voters=(), version="0.6.4", peers_json="null"),
            msgspec.structs.replace(unreachable("s3"), answers=True, host_problem="sudo asks for a password"),
        )
        assert "its host answers" in refused(observation, lost=("s3",))
