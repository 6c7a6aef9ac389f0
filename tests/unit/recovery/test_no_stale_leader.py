"""No server is started that could be elected over the history that counts, or whose data is then on no other disk."""

import msgspec

from recovery.diagnosis import diagnose
from recovery.model import KnownNode, ServerName, ServerObservation
from recovery.plan import ArchiveState, Proposal, Refusal, Risk, Silent, StartAgent
from recovery.procedures import propose
from tests.builders.observations import cluster, node_id, peers, running, stopped, unreachable

THREE = peers("s1", "s2", "s3")
FIVE = peers("s1", "s2", "s3", "s4", "s5")


def recovered_without_s4(returned: ServerObservation) -> Proposal | Refusal:
    """Three that a recovery has left as voters, and one that was called lost and is back, stopped."""
    seen = cluster(
        running("s1", voters=THREE, last=(52, 1500), leader=True),
        running("s2", voters=THREE, last=(52, 1500)),
        running("s3", voters=THREE, last=(52, 1500)),
        returned,
    )
    return propose(seen, diagnose(seen))


def test_a_former_voter_whose_log_ends_after_the_leaders_is_not_started() -> None:
    """With a later term it makes the leader step down, and the voters of now give it their votes: it would win."""
    given = recovered_without_s4(stopped("s4", voters=FIVE, last=(60, 1200)))
    assert isinstance(given, Refusal)
    said = " ".join((*given.reasons, given.next_step))
    assert "s4 ends at term 60, index 1200" in said
    assert "acknowledged" in said


def test_a_former_voter_is_archived_before_the_leaders_log_becomes_its_own() -> None:
    """What it holds beside the leader's history may have been acknowledged: it stays somewhere."""
    given = recovered_without_s4(stopped("s4", voters=FIVE, last=(50, 1490)))
    assert isinstance(given, Proposal)
    steps = given.plan.steps
    start = next(step for step in steps if step.action == StartAgent(ServerName("s4")))
    archive = next(step for step in steps if step.action == ArchiveState(ServerName("s4")))
    assert steps.index(archive) < steps.index(start)
    assert start.risk is Risk.IRREVERSIBLE


def test_a_survivor_that_would_lead_alone_is_not_started_beside_the_leader() -> None:
    """An old disk from the first day: its own set is itself, so it elects itself and takes the leader in."""
    lost = (ServerName("s3"),)
    seen = cluster(
        stopped("s1", voters=THREE, last=(9, 900)),
        stopped("s2", voters=peers("s2"), last=(9, 3)),
        unreachable("s3"),
    )
    given = propose(seen, diagnose(seen, lost), lost=lost, method="peers-json")
    assert isinstance(given, Refusal)
    assert "s2 would elect itself" in " ".join(given.reasons)


def test_a_voter_that_would_elect_itself_is_not_started_with_the_others() -> None:
    """The same old disk, where the others are enough: they come back without it."""
    seen = cluster(
        stopped("s1", voters=THREE, last=(9, 900)),
        stopped("s2", voters=peers("s2"), last=(9, 3)),
        stopped("s3", voters=THREE, last=(9, 900)),
    )
    given = propose(seen, diagnose(seen))
    assert isinstance(given, Proposal)
    assert {s.action.server for s in given.plan.steps if isinstance(s.action, StartAgent)} == {"s1", "s3"}
    assert any("s2 is stopped and holds data" in warning for warning in given.plan.warnings)


def test_who_an_old_set_still_names_has_to_be_silent_before_the_rest_is_started() -> None:
    """One that the freshest server does not know any more could still vote with the rest by the old set."""
    lost = (ServerName("s3"),)
    seen = cluster(
        stopped("s1", voters=THREE, last=(9, 900)),
        stopped("s2", voters=(*peers("s1", "s2"), *peers("s8", "s9")), last=(9, 3)),
        unreachable("s3"),
    )
    given = propose(seen, diagnose(seen, lost), lost=lost, method="peers-json")
    assert isinstance(given, Proposal)
    start = next(step for step in given.plan.steps if step.action == StartAgent(ServerName("s2")))
    asked = {check.node_id for check in start.before if isinstance(check, Silent)}
    assert {node_id("s8"), node_id("s9")} <= asked


def test_a_hindered_host_under_another_name_than_its_nodes_is_not_claimed() -> None:
    """The settings call it s2, Consul calls it db-2: the address tells that it is the same."""
    s1 = running("s1", voters=THREE)
    assert s1.agent is not None
    nodes = tuple(
        msgspec.structs.replace(node, name="db-2") if node.node_id == node_id("s2") else node
        for node in (*s1.agent.known_nodes, KnownNode("db-2", node_id("s2"), "198.51.100.12"))
    )
    s1 = msgspec.structs.replace(s1, agent=msgspec.structs.replace(s1.agent, known_nodes=nodes))
    blind = msgspec.structs.replace(unreachable("s2"), answers=True, host_problem="sudo asks for a password")
    seen = cluster(s1, blind, unreachable("s3"))
    for word in ("198.51.100.12", "198.51.100.12:8300", node_id("s2")):
        lost = (ServerName(word), ServerName("s3"))
        given = propose(seen, diagnose(seen, lost), lost=lost, method="peers-json")
        assert isinstance(given, Refusal), word
        assert "its host answers" in " ".join(given.reasons), given.reasons
