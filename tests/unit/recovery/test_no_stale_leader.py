"""No server is started that could be elected over the history that counts, or whose data is then on no other disk."""

from recovery.diagnosis import diagnose
from recovery.model import ServerName, ServerObservation
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
