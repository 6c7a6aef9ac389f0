"""A small run for the contract tests: one plan of one step, and the events around it."""

from recovery.journal import AbortChosen, Ended, Gate, GateOpened, LeaseTaken, Outcome, Proposed, Unlocked
from recovery.model import ClusterName, Person, ServerName
from recovery.plan import (
    SCHEMA,
    AgentRunning,
    NothingToUndo,
    Observe,
    Plan,
    PlanReport,
    Risk,
    Step,
    StepId,
)

WAIT = Step(
    id=StepId("wait-s1"),
    title="Wait for s1",
    risk=Risk.READ_ONLY,
    targets=(ServerName("s1"),),
    before=(),
    action=Observe(),
    after=(AgentRunning(ServerName("s1")),),
    rollback=NothingToUndo("nothing was changed"),
    timeout_s=10,
)


def proposed(cluster: ClusterName, *, at_s: float = 1.0) -> Proposed:
    """A proposal by alice."""
    plan = Plan(
        schema=SCHEMA,
        procedure="wait",
        cluster=cluster,
        summary="Wait for s1.",
        claims=(),
        assumptions=(),
        warnings=(),
        steps=(WAIT,),
    )
    gate = Gate(
        id="plan",
        before=WAIT.id,
        worst_risk=Risk.READ_ONLY,
        people=1,
        requester_counts=False,
        expires_after_s=60,
    )
    return Proposed(at_s=at_s, by=Person("alice"), plan=plan, report=PlanReport(), gates=(gate,))


def lease_taken(owner: str, epoch: int) -> LeaseTaken:
    """The driver's first event."""
    return LeaseTaken(at_s=2.0, owner=owner, epoch=epoch)


OPENED = GateOpened(at_s=3.0, gate="plan")
ABORTED = AbortChosen(at_s=4.0, by=Person("bob"))
ENDED = Ended(at_s=5.0, outcome=Outcome.ABORTED)
UNLOCKED = Unlocked(at_s=6.0, by=Person("bob"), holder="r1", alive=False, reason="the bot is gone")
