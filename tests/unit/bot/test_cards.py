"""Each card as a person reads it, against a stored text; and every card passes Slack's rules.

After a wanted change: CARDS_UPDATE=1 pytest tests/unit/bot/test_cards.py, then read the difference.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bot import notes, outgoing, text
from bot.answers import later_answers
from bot.blocks import Message
from bot.buttons import Press
from bot.run_card import Look, run_card
from bot.status_card import status_card
from bot.thread import (
    Mentions,
    answered_post,
    ask_post,
    end_post,
    note_post,
    question,
    remind_alone,
    remind_post,
    thread_lines,
)
from lab.slack import blockkit, plain_text
from lab.slack.workspace import Message as Shown
from lab.slack.workspace import Version
from recovery.diagnosis import Holder, diagnose
from recovery.forgotten import leftovers
from recovery.journal import (
    AbortChosen,
    Approved,
    AssumptionsFailed,
    AssumptionsHeld,
    AssumptionsUnknown,
    CatalogueNoted,
    Ended,
    Event,
    GateExpired,
    GateOpened,
    LeadersSeen,
    LeaseTaken,
    LeftDown,
    Outcome,
    Proposed,
    Reminded,
    RunState,
    StepBlocked,
    StepFailed,
    StepInDoubt,
    StepNotNeeded,
    StepStarted,
    StepVerified,
    UndoFailed,
    UndoStarted,
    UndoVerified,
    Unlocked,
    fold,
)
from recovery.membership import NOBODY, KnownLog
from recovery.model import Catalogue, ClientAgent, ClusterName, NodeId, Person, RunId, ServerName
from recovery.past import Past
from recovery.plan import PlanReport, Proposal, Refusal
from recovery.policy import ApprovalPolicy, gates_of
from recovery.procedures import propose
from recovery.raftentry import LogPosition
from recovery.runs import RunView
from recovery.service import Refused, StatusReport
from recovery.supervisor import lost_text
from tests.builders.observations import NOTHING_KNOWN
from tests.fakes.fake_world import (
    FakeServer,
    FakeWorld,
    majority_replaced,
    never_bootstrapped,
    peers_emptied,
    three_servers,
)

DC1 = ClusterName("dc1")
ALICE, BOB = Person("alice"), Person("bob")
START_S = 1_790_000_000.0
FOLDER = Path(__file__).parents[2] / "data" / "cards"
MENTIONS = Mentions(
    (outgoing.group("S0ONCALL"),), {ALICE: outgoing.user("U0ALICE"), BOB: outgoing.user("U0BOB")}
)


KNOWN = Past(
    membership=msgspec.structs.replace(
        NOBODY,
        led_at_s=START_S - 3600.0,
        held=Catalogue(nodes=214, services=80, sessions=12),
        logs=tuple(
            KnownLog(
                server=ServerName(f"s{n}"),
                node_id=f"s{n}-old-id",
                last=LogPosition(4, 4711),
                at_s=START_S - 3600.0,
            )
            for n in (1, 2, 3)
        ),
    )
)
"""An hour ago all was well."""


def shown(message: Message) -> str:
    """The message as plain text, after Slack's rules were checked."""
    sent = outgoing.finished({"text": message.text, "blocks": message.blocks})
    assert blockkit.message_problems(sent["blocks"]) == []
    version = Version(at=0.0, text=sent["text"], blocks=tuple(sent["blocks"]))
    body = plain_text(Shown(channel="C0OPS", ts="1.0", user="U0BOT", versions=[version]))
    return f"push: {sent['text']}\n\n{body}\n"


def stopped(*names: str) -> tuple[FakeServer, ...]:
    """Three servers, some of them stopped."""
    servers = three_servers()
    for server in servers:
        server.running = server.name not in names
    return servers


def report(
    servers: tuple[FakeServer, ...],
    *,
    active: RunView | None = None,
    problem: str = "",
    past: Past = NOTHING_KNOWN,
) -> StatusReport:
    """What status would say of them."""
    observation = asyncio.run(FakeWorld(DC1, servers).observe())
    observation = msgspec.structs.replace(observation, taken_at_s=START_S)
    return StatusReport(
        cluster=DC1,
        diagnosis=diagnose(observation, past=past),
        observation=observation,
        took_s=0.4,
        active=active,
        store_problem=problem,
    )


def with_clients(shown: StatusReport) -> StatusReport:
    """The same, with client agents from several sources, and an inventory that cannot be read."""
    sources = ("settings", "gossip (alive now)", "gossip (alive now)")
    agents = tuple(
        ClientAgent(ServerName(f"c{number}"), f"198.51.100.{50 + number}", source)
        for number, source in enumerate(sources, start=1)
    )
    problem = "The inventory /etc/ansible/hosts: cannot be read (Permission denied)."
    observation = msgspec.structs.replace(shown.observation, clients=agents, clients_problem=problem)
    return msgspec.structs.replace(shown, observation=observation)


def proposal(servers: tuple[FakeServer, ...], *lost: str) -> Proposal:
    """What would be proposed for them."""
    names = tuple(ServerName(name) for name in lost)
    observation = asyncio.run(FakeWorld(DC1, servers).observe())
    answer = propose(observation, diagnose(observation, names), lost=names)
    assert isinstance(answer, Proposal)
    return answer


class Story:
    """A run, told event by event, a second apart."""

    def __init__(self, made: Proposal, *, replaces: str = "") -> None:
        gates = gates_of(made.plan, ApprovalPolicy())
        self.plan = made.plan
        self.events: list[Event] = [
            Proposed(
                at_s=START_S,
                by=ALICE,
                plan=made.plan,
                report=PlanReport(ranking=made.report.ranking, findings=made.report.findings),
                gates=gates,
                origin="C0OPS",
                replaces=replaces,
            )
        ]
        self.add(LeaseTaken, owner="bot-1", epoch=1)

    @property
    def state(self) -> RunState:
        return fold(self.events)

    @property
    def view(self) -> RunView:
        return RunView(DC1, RunId("r7f3"), self.state, tuple(self.events))

    def add(self, kind: Callable[..., Event], **values: object) -> Story:
        """One more event."""
        self.events.append(kind(at_s=START_S + len(self.events), **values))
        return self

    def approved(self, gate: str = "plan") -> Story:
        """Asked, and approved by bob."""
        known = self.state.gate(gate)
        assert known is not None
        findings = self.state.confirmed
        self.add(GateOpened, gate=gate, findings=findings)
        return self.add(Approved, by=BOB, gate=gate, digest=self.state.digest, typed=known.typed)

    def done(self, count: int) -> Story:
        """The first steps, up to this many, are verified."""
        for step in self.plan.steps[:count]:
            if self.state.step_state(step.id).status == "todo":
                self.started(step.id)
                self.add(StepVerified, step=step.id, evidence=f"seen: {step.title}")
        return self

    def started(self, step: str) -> Story:
        """A step is under way."""
        return self.add(StepStarted, step=step, attempt=1, epoch=1)


def start_story() -> Story:
    """s2 and s3 only need to be started."""
    return Story(proposal(stopped("s2", "s3")))


def peers_story() -> Story:
    """s1 survives, s2 and s3 are empty machines."""
    return Story(proposal(majority_replaced(), "s2", "s3"))


def before_the_line() -> Story:
    """Everything reversible is done, the assumptions hold, the second question is open."""
    story = peers_story().approved()
    risky = next(i for i, step in enumerate(story.plan.steps) if step.risk == "irreversible")
    story.add(
        CatalogueNoted, when="before", catalogue=Catalogue(nodes=214, services=80, sessions=12), source="s1"
    )
    story.done(risky)
    return story.add(AssumptionsHeld, findings=("s1 ends at term 2, index 15", "s2 is silent"))


def recovered() -> Story:
    """The whole peers.json recovery."""
    story = before_the_line().approved("irreversible")
    story.add(AssumptionsHeld, findings=("s1 ends at term 2, index 15",)).done(len(story.plan.steps))
    story.add(
        CatalogueNoted, when="after", catalogue=Catalogue(nodes=200, services=80, sessions=0), source="s1"
    )
    return story.add(Ended, outcome=Outcome.RECOVERED)


def failing(kind: str) -> Story:
    """The first step goes wrong in one way."""
    story = start_story().approved()
    step = story.plan.steps[0].id
    match kind:
        case "blocked":
            return story.add(StepBlocked, step=step, why="s2: the disk is full")
        case "failed":
            story.started(step)
            return story.add(
                StepFailed, step=step, why="s2 did not come up", lines=("==> Error: `<!channel>`", "exit 1")
            )
        case _:
            return story.started(step).add(StepInDoubt, step=step, why="the connection to s2 was cut off")


def forgotten_story() -> Story:
    """A dump from before the stop was restored; the new driver finds out from the hosts."""
    found = (
        "s1 has worked for a later driver (epoch 2, the journal knows 1)",
        "s1 has done stop-s1, which is not in the journal",
    )
    return peers_story().approved().add(LeaseTaken, owner="bot-2", epoch=3, forgotten=found)


def held_report(*, over: bool) -> StatusReport:
    """s1 survives alone, and is held by a run: s2 and s3 are empty machines."""
    servers = majority_replaced()
    servers[0].running, servers[0].held_by = False, "r7f3"
    made = report(servers)
    holder = Holder(
        run=RunId("r7f3"),
        stands="expired" if over else "waits for approval",
        over=over,
        lost=(NodeId("s2-id"), NodeId("s3-id")),
    )
    diagnosis = diagnose(made.observation, holders=(holder,))
    return msgspec.structs.replace(made, diagnosis=diagnosis, held=(holder,))


def left_behind_report() -> StatusReport:
    """s1 and s2 are stopped and held by a run that Redis does not know."""
    servers = stopped("s1", "s2")
    for server in servers[:2]:
        server.held_by, server.last_run, server.epoch = "r7f3", "r7f3", 4
        server.receipts = {("r7f3", f"{act}-{server.name}", 1, "do") for act in ("hold", "stop")}
    made = report(servers)
    left = leftovers(made.observation, unknown=[RunId("r7f3")], store_epoch=0)
    return msgspec.structs.replace(made, left=left)


def aborted_late() -> Story:
    """Aborted at the second question: servers are stopped and held."""
    story = before_the_line()
    story.add(GateOpened, gate="irreversible").add(AbortChosen, by=BOB)
    return story.add(Ended, outcome=Outcome.ABORTED)


def expired_late(*, harmless: bool) -> Story:
    """Nobody answered the second question: s1 is started again, or left down, because a lost server is back."""
    story = (
        before_the_line()
        .add(GateOpened, gate="irreversible")
        .add(Reminded, gate="irreversible", left_s=900.0)
    )
    story.add(GateExpired, gate="irreversible")
    if harmless:
        story.add(UndoStarted, step="stop-s1", attempt=1, epoch=1).add(UndoVerified, step="stop-s1")
    else:
        story.add(LeftDown, step="stop-s1", why="lost s2 answers: s2 runs with this id")
    return story.add(Ended, outcome=Outcome.EXPIRED)


def expired_down() -> Story:
    """Nobody answered, and s1 stays down."""
    return expired_late(harmless=False)


def expired_put_back() -> Story:
    """Nobody answered, and s1 runs again."""
    return expired_late(harmless=True)


def staged_proposal() -> Proposal:
    """Three servers of 0.6.4 left one after the other; five client agents are known."""
    observation = asyncio.run(FakeWorld(DC1, peers_emptied()).observe())
    agents = tuple(ClientAgent(ServerName(f"c{n}"), f"203.0.113.{n}", "settings") for n in range(1, 6))
    observation = msgspec.structs.replace(observation, clients=agents)
    answer = propose(observation, diagnose(observation))
    assert isinstance(answer, Proposal)
    return answer


def staged_story() -> Story:
    """s3 leads alone and the rest is being sorted; s1 knows no leader."""
    story = Story(staged_proposal()).approved()
    story.add(CatalogueNoted, when="before", catalogue=None, source="")
    story.done(9).add(AssumptionsHeld, findings=("s3: its own log ends with 198.51.100.13:8300 alone",))
    story.approved("irreversible").add(AssumptionsHeld, findings=()).done(14)
    story.started("sort-s2").started("sort-s1").add(StepVerified, step="sort-s2", evidence="a peer of s3")
    return story.add(StepFailed, step="sort-s1", why="error: it knows no leader")


def staged_aborted() -> Story:
    """Aborted in the middle of the sorting: the override is off again."""
    story = staged_story().add(AbortChosen, by=BOB).add(UndoStarted, step="override-s3", attempt=1, epoch=1)
    return story.add(UndoVerified, step="override-s3").add(Ended, outcome=Outcome.ABORTED)


def stuck() -> Story:
    """An unread peers.json could not be taken back."""
    story = before_the_line().approved("irreversible")
    story.add(AssumptionsHeld, findings=())
    write = next(step for step in story.plan.steps if step.id.startswith("write-peers"))
    story.started(write.id).add(StepVerified, step=write.id, evidence="written")
    story.add(AbortChosen, by=BOB).add(UndoStarted, step=write.id, attempt=1, epoch=1)
    return story.add(UndoFailed, step=write.id, why="s1 is not reachable")


def unlocked() -> Story:
    """Nobody could reach s1 any more: the lock was taken away while an unread peers.json lies there."""
    return stuck().add(
        Unlocked,
        by=BOB,
        holder="r7f3",
        alive=False,
        reason="s1 burnt down, its disk is at the bottom of a lake",
    )


def founding_story() -> Story:
    """A new cluster, which nobody ever knew."""
    observation = asyncio.run(FakeWorld(DC1, never_bootstrapped()).observe())
    answer = propose(observation, diagnose(observation, past=NOTHING_KNOWN))
    assert isinstance(answer, Proposal)
    return Story(answer)


def founding_before_the_line() -> Story:
    """All is held and stopped; the names have to be typed now."""
    story = founding_story().approved()
    story.add(CatalogueNoted, when="before", catalogue=None, source="")
    risky = next(i for i, step in enumerate(story.plan.steps) if step.risk == "irreversible")
    story.done(risky).add(AssumptionsHeld, findings=("s1: its log ends at nothing, it is blank",))
    return story.add(GateOpened, gate="irreversible", findings=story.state.confirmed)


def refused_where_data_was() -> Refused:
    """Asked for a recovery, with a memory of a leader."""
    made = report(never_bootstrapped(), past=KNOWN)
    answer = propose(made.observation, made.diagnosis)
    assert isinstance(answer, Refusal)
    return Refused(made, answer)


def run_message(story: Story, **look: str) -> Message:
    """The card of a story."""
    return run_card(story.view, Look(now_s=START_S + len(story.events) + 5, unit="consul", **look))


def unseen() -> tuple[FakeServer, ...]:
    """Nobody can be reached."""
    servers = three_servers()
    for server in servers:
        server.reachable = False
    return servers


CARDS: dict[str, Callable[[], Message]] = {
    "status-healthy": lambda: status_card(report(stopped())),
    "status-with-clients": lambda: status_card(with_clients(report(stopped()))),
    "status-degraded": lambda: status_card(report(stopped("s3"))),
    "status-no-leader": lambda: status_card(report(stopped("s2", "s3"))),
    "status-majority-gone": lambda: status_card(report(majority_replaced())),
    "status-out-of-sight": lambda: status_card(report(unseen())),
    "status-during-a-run": lambda: status_card(
        report(stopped("s2", "s3"), active=start_story().approved().view)
    ),
    "status-held-by-an-ended-run": lambda: status_card(held_report(over=True)),
    "status-held-by-an-open-run": lambda: status_card(held_report(over=False)),
    "status-after-an-emptied-store": lambda: status_card(left_behind_report()),
    "status-without-store": lambda: status_card(report(stopped("s2"), problem="Redis does not answer.")),
    "status-peers-emptied": lambda: status_card(report(peers_emptied())),
    "status-never-bootstrapped": lambda: status_card(report(never_bootstrapped())),
    "status-empty-where-data-was": lambda: status_card(report(never_bootstrapped(), past=KNOWN)),
    "refused-empty-where-data-was": lambda: notes.refused(refused_where_data_was()),
    "founding-plan": lambda: run_message(founding_story().add(GateOpened, gate="plan")),
    "founding-second-gate": lambda: run_message(founding_before_the_line()),
    "run-plan-staged": lambda: run_message(Story(staged_proposal()).add(GateOpened, gate="plan")),
    "run-staged": lambda: run_message(staged_story()),
    "run-staged-aborted": lambda: run_message(staged_aborted()),
    "run-just-proposed": lambda: run_message(start_story()),
    "run-plan": lambda: run_message(start_story().add(GateOpened, gate="plan")),
    "run-plan-peers-json": lambda: run_message(peers_story().add(GateOpened, gate="plan")),
    "run-second-gate": lambda: run_message(
        before_the_line().add(GateOpened, gate="irreversible", findings=("s1 ends at term 2, index 15",))
    ),
    "run-running": lambda: run_message(start_story().approved().started("start-s2")),
    "run-blocked": lambda: run_message(failing("blocked")),
    "run-failed": lambda: run_message(failing("failed")),
    "run-in-doubt": lambda: run_message(failing("in doubt")),
    "run-doubts": lambda: run_message(
        before_the_line().add(AssumptionsUnknown, findings=("s1 could not be reached",))
    ),
    "run-two-leaders": lambda: run_message(
        start_story().approved().add(LeadersSeen, servers=(ServerName("s1"), ServerName("s3")))
    ),
    "run-forgotten": lambda: run_message(forgotten_story()),
    "run-lost": lambda: run_message(before_the_line(), note=lost_text(DC1)),
    "run-void-without-plan": lambda: run_message(
        before_the_line()
        .approved("irreversible")
        .add(AssumptionsFailed, findings=("s1 ends at term 2, index 16",))
        .add(Ended, outcome=Outcome.VOID),
        note="No new plan is safe as things are: s2 is not reachable. Next: Bring it back.",
    ),
    "run-done": lambda: run_message(recovered()),
    "run-done-not-needed": lambda: run_message(
        start_story()
        .approved()
        .add(StepNotNeeded, step="start-s2", why="already so: s2 runs")
        .done(99)
        .add(Ended, outcome=Outcome.RECOVERED)
    ),
    "run-aborting": lambda: run_message(
        start_story().approved().started("start-s2").add(AbortChosen, by=BOB)
    ),
    "run-stuck": lambda: run_message(stuck()),
    "run-unlocked": lambda: run_message(unlocked()),
    "run-unlocked-shown": lambda: notes.shown(
        unlocked().view, "*r7f3*", Look(now_s=START_S + 100, unit="consul")
    ),
    "resumed": lambda: notes.resumed(stuck().view, None, "*r7f3*"),
    "run-aborted-early": lambda: run_message(
        start_story()
        .add(GateOpened, gate="plan")
        .add(AbortChosen, by=ALICE)
        .add(Ended, outcome=Outcome.ABORTED)
    ),
    "run-aborted-late": lambda: run_message(aborted_late()),
    "run-expired": lambda: run_message(
        start_story().add(GateOpened, gate="plan").add(Ended, outcome=Outcome.EXPIRED)
    ),
    "run-expired-put-back": lambda: run_message(expired_late(harmless=True)),
    "run-expired-down": lambda: run_message(expired_late(harmless=False)),
    "run-expired-with-new-plan": lambda: run_message(
        expired_late(harmless=False), next_run=outgoing.link("https://slack.invalid/x", "r8g4")
    ),
    "run-putting-back": lambda: run_message(
        before_the_line()
        .add(GateOpened, gate="irreversible")
        .add(GateExpired, gate="irreversible")
        .add(UndoStarted, step="stop-s1", attempt=1, epoch=1)
    ),
    "run-putting-back-stuck": lambda: run_message(
        before_the_line()
        .add(GateOpened, gate="irreversible")
        .add(GateExpired, gate="irreversible")
        .add(UndoStarted, step="stop-s1", attempt=1, epoch=1)
        .add(UndoFailed, step="stop-s1", why="s1: systemctl start consul.service failed")
    ),
    "end-expired-put-back": lambda: end_post(expired_late(harmless=True).view, MENTIONS),
    "end-expired-down": lambda: end_post(expired_late(harmless=False).view, MENTIONS),
    "remind": lambda: remind_post(
        before_the_line().add(GateOpened, gate="irreversible").view,
        Reminded(at_s=START_S, gate="irreversible", left_s=900.0),
        MENTIONS,
        outgoing.link("https://slack.invalid/x", "r7f3"),
    ),
    "remind-alone": lambda: remind_alone(
        before_the_line().add(GateOpened, gate="irreversible").view,
        Reminded(at_s=START_S, gate="irreversible", left_s=300.0),
        outgoing.link("https://slack.invalid/x", "r7f3"),
    ),
    "modal-with-later-answers": lambda: Message(
        "the form",
        tuple(
            notes.typed_modal(
                Press(RunId("r7f3"), "plan", "0" * 12),
                peers_story().plan,
                private="",
                alone=True,
                later=later_answers(peers_story().state, peers_story().state.gates[0]),
            )["blocks"][:2]
        ),
    ),
    "run-void": lambda: run_message(
        before_the_line()
        .approved("irreversible")
        .add(AssumptionsFailed, findings=("s1 ends at term 2, index 16",))
        .add(Ended, outcome=Outcome.VOID)
    ),
    "run-void-with-new-plan": lambda: run_message(
        before_the_line()
        .approved("irreversible")
        .add(AssumptionsFailed, findings=("s1 ends at term 2, index 16",))
        .add(Ended, outcome=Outcome.VOID),
        next_run=outgoing.link("https://slack.invalid/x", "r8g4"),
    ),
    "ask-plan": lambda: ask_post(start_story().add(GateOpened, gate="plan").view, MENTIONS),
    "ask-second": lambda: ask_post(before_the_line().add(GateOpened, gate="irreversible").view, MENTIONS),
    "ask-forgotten": lambda: ask_post(forgotten_story().view, MENTIONS),
    "note-lost": lambda: note_post(before_the_line().view, lost_text(DC1), MENTIONS),
    "ask-decision": lambda: ask_post(failing("failed").view, MENTIONS),
    "answered": lambda: answered_post(start_story().approved().view, "gate:plan"),
    "end": lambda: end_post(recovered().view, MENTIONS),
    "thread": lambda: thread_lines(tuple(recovered().events), recovered().state) or notes.said("none"),
    "locked": lambda: notes.locked(
        start_story().approved().view, outgoing.link("https://slack.invalid/x", "r7f3"), now_s=START_S + 60
    ),
    "refused": lambda: notes.refused(
        Refused(
            report(majority_replaced()),
            Refusal(procedure="peers-json", reasons=("s2 is not claimed <!here>.",), next_step="Say --lost."),
        )
    ),
    "refused-out-of-sight": lambda: notes.refused(
        Refused(
            report(unseen()),
            Refusal(procedure="recover", reasons=("Too little can be seen.",), next_step="Look again."),
        )
    ),
    "nothing-to-do": lambda: notes.nothing_to_do(report(stopped())),
    "runs": lambda: notes.runs(DC1, [(recovered().view, "*r7f3*")]),
    "not-invited": lambda: notes.not_invited(status_card(report(stopped()))),
    "broken": lambda: notes.broken("0badc0de"),
}


def compare(name: str, now: str) -> None:
    """The text is the stored one."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("CARDS_UPDATE"):
        path.write_text(now, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == now


@pytest.mark.parametrize("name", list(CARDS))
def test_a_card_reads_as_it_did(name: str) -> None:
    """The stored text is what people were shown when somebody last read it; Slack takes the blocks."""
    compare(name, shown(CARDS[name]()))


@pytest.mark.parametrize(
    "story",
    [
        start_story,
        before_the_line,
        recovered,
        aborted_late,
        expired_down,
        expired_put_back,
        stuck,
        staged_story,
    ],
    ids=lambda story: story.__name__,
)
def test_the_terminal_says_the_same_of_a_run(story: Callable[[], Story]) -> None:
    """The terminal's text of a run is stored too, and has no control characters."""
    view = story().view
    now = text.run(view, now_s=START_S + 90, unit="consul") + "\n\n" + text.events(view.events, view.state)
    assert all(character.isprintable() or character == "\n" for character in now)
    compare(f"terminal-{story.__name__}", now + "\n")


def test_the_terminal_says_the_same_of_a_cluster() -> None:
    """Status and plan in the terminal."""
    compare("terminal-status", text.status(with_clients(report(majority_replaced()))) + "\n")
    made = proposal(majority_replaced(), "s2", "s3")
    compare("terminal-plan", text.plan(made.plan, made.report) + "\n")


def test_every_stored_card_is_still_made() -> None:
    """No text of a card that nobody shows any more."""
    made = {*CARDS, "terminal-status", "terminal-plan"}
    made |= {
        f"terminal-{s.__name__}"
        for s in (
            start_story,
            before_the_line,
            recovered,
            aborted_late,
            expired_down,
            expired_put_back,
            stuck,
            staged_story,
        )
    }
    assert {path.stem for path in FOLDER.glob("*.txt")} == made


def test_nothing_is_asked_of_people_when_nothing_is_open() -> None:
    """A question has a name while it is open, and another one when it is asked again."""
    story = start_story().add(GateOpened, gate="plan")
    assert question(story.state) == "gate:plan"
    failed = failing("failed")
    first = question(failed.state)
    assert first.startswith("step:start-s2:1")
    assert question(recovered().state) == ""
    assert question(start_story().approved().state) == ""


def test_buttons_are_only_there_while_they_are_valid() -> None:
    """A card that has ended, or is being aborted, has nothing to press."""
    for name in (
        "run-done",
        "run-aborted-early",
        "run-void",
        "run-aborting",
        "answered",
        "end",
    ):
        assert not [block for block in CARDS[name]().blocks if block["type"] == "actions"]
    # Where servers are down, or nobody answered, the one button goes on.
    for name in (
        "run-aborted-late",
        "run-expired",
        "run-expired-put-back",
        "run-expired-down",
        "end-expired-down",
    ):
        pressed = [
            element["action_id"]
            for block in CARDS[name]().blocks
            if block["type"] == "actions"
            for element in block["elements"]
        ]
        assert pressed == ["run_again"], name
