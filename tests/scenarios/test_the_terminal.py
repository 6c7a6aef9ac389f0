"""The terminal's commands over a cluster and a store in memory; no Slack, no network."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from bot.authz import Grant, Nobody, Rules
from bot.follow import RunLost
from bot.terminal import FAILED, OK, UNSEEN, NoActiveRun, NotAllowed, Terminal, WrongUsage
from bot.wiring import Core, MachineClock
from config.values import ApprovalSettings, ClusterSettings, HttpSettings, Secret, Settings, SlackSettings
from recovery.errors import HostRefused, StoreUnavailable
from recovery.journal import AssumptionsFailed, Event, Outcome, RetryChosen
from recovery.model import ClusterSpec, Person, RunId, ServerName, ServerSpec
from recovery.plan import Action, StartAgent, StopAgent
from recovery.policy import ApprovalPolicy
from recovery.ports import ActKey, Lease
from recovery.procedures.slips import UnknownMethod, UnknownServer
from recovery.service import RecoveryService, RunProposed
from tests.fakes.fake_world import FakeServer, FakeWorld, majority_replaced, one_fenced, three_servers
from tests.fakes.memory_store import MemoryStore
from tests.fakes.slack_bot import DC1, rules


class Screen(io.StringIO):
    """What a person sits before."""

    def isatty(self) -> bool:
        return True


class Desk:
    """One machine with several people at terminals."""

    def __init__(
        self,
        servers: tuple[FakeServer, ...],
        *,
        slack: SlackSettings | None = None,
        approval: ApprovalPolicy | None = None,
        screen: bool = False,
    ) -> None:
        self.world = FakeWorld(DC1, servers)
        self.store = MemoryStore()
        self.out = Screen() if screen else io.StringIO()
        self.answers: list[str] = []
        specs = tuple(ServerSpec(s.name, s.address) for s in servers)
        clock = MachineClock()
        numbers = itertools.count(1)
        self.service = RecoveryService(
            clusters={DC1: ClusterSpec(DC1, specs)},
            worlds={DC1: self.world},
            store=self.store,
            approval=approval or ApprovalPolicy(),
            clock=clock,
            new_id=lambda: RunId(f"r{next(numbers)}"),
        )
        settings = Settings(
            source=Path("settings.yaml"),
            slack=slack,
            redis=cast("Any", None),
            ssh=cast("Any", None),
            people=(),
            approvals=ApprovalSettings(
                approvers=(Person("alice"),), approver_groups=(), requesters=(), policy=ApprovalPolicy()
            ),
            clusters=(
                ClusterSettings(
                    name=DC1,
                    datacenter=None,
                    channel=None,
                    unit="consul",
                    http=HttpSettings(port=8500, scheme="http", ca_file=None),
                    agent_recovery_token=None,
                    management_token=None,
                    servers=specs,
                ),
            ),
            secret_files=(),
        )
        self._core = Core(
            settings=settings,
            service=self.service,
            worlds={DC1: self.world},
            store=cast("Any", self.store),
            clock=clock,
            owner="terminal-1",
        )

    def at(self, user: str | Nobody, *, as_json: bool = False, who: Rules | None = None) -> Terminal:
        """A terminal of this user of the machine."""
        return Terminal(
            self._core,
            rules=who or rules(),
            user=user,
            as_json=as_json,
            out=self.out,
            ask=lambda _question: self.answers.pop(0),
        )

    async def until(self, look: Callable[[], object]) -> None:
        """Wait for something."""
        async with asyncio.timeout(10):
            while not look():
                await asyncio.sleep(0.02)


@pytest.fixture
def desk() -> Desk:
    """s2 and s3 are stopped."""
    servers = three_servers()
    for server in servers[1:]:
        server.running = False
    return Desk(servers)


async def test_everybody_may_look(desk: Desk) -> None:
    """Status, plan and runs need no name in the settings, and leave no trace."""
    mallory = desk.at("mallory")
    assert await mallory.status(None) == OK
    assert await mallory.plan(None, method=None, lost=()) == OK
    assert await mallory.runs(None) == OK
    shown = desk.out.getvalue()
    assert "NO LEADER" in shown
    assert "Digest:" in shown
    assert await desk.store.active(DC1) is None


@pytest.mark.parametrize("what", ["recover", "approve", "abort", "retry"])
async def test_an_unknown_user_of_the_machine_changes_nothing(desk: Desk, what: str) -> None:
    """The answer says under which key a person is named."""
    await desk.service.propose(DC1, by=Person("alice"), origin="terminal")
    mallory = desk.at("mallory")
    attempts: dict[str, Callable[[], Any]] = {
        "recover": lambda: mallory.recover(None, method=None, lost=()),
        "approve": lambda: mallory.approve("r1", yes=True, digest="a" * 6, typed=[]),
        "abort": lambda: mallory.abort(None),
        "retry": lambda: mallory.retry(None),
    }
    with pytest.raises(NotAllowed, match="terminal: mallory"):
        await attempts[what]()
    assert len(await desk.store.events(DC1, RunId("r1"))) == 1


@pytest.mark.parametrize("what", ["recover", "approve", "abort", "retry", "unlock", "resume", "readmit"])
async def test_a_terminal_that_is_nobodys_changes_nothing(desk: Desk, what: str) -> None:
    """Where the login uid is unset the process may be anybody's: it looks, and is told how people are known here."""
    view = await desk.service.propose(DC1, by=Person("alice"), origin="terminal")
    assert isinstance(view, RunProposed)
    digest = view.view.state.digest
    nobody = desk.at(Nobody("nobody has logged in for it", "Let the settings say how people are known here."))
    attempts: dict[str, Callable[[], Any]] = {
        "recover": lambda: nobody.recover(None, method=None, lost=()),
        "readmit": lambda: nobody.readmit(None, server="s2"),
        "approve": lambda: nobody.approve("r1", yes=True, digest=digest, typed=[], alone="at night"),
        "abort": lambda: nobody.abort(None),
        "retry": lambda: nobody.retry(None),
        "resume": lambda: nobody.resume(None),
        "unlock": lambda: nobody.unlock(None, holder="r1", reason="why not"),
    }
    assert await nobody.status(None) == OK
    with pytest.raises(
        NotAllowed, match=r"Who sits at this terminal is not known.*how people are known here"
    ):
        await attempts[what]()
    assert len(await desk.store.events(DC1, RunId("r1"))) == 1
    assert not desk.world.performed


async def test_one_proposes_and_drives_another_approves(desk: Desk) -> None:
    """Alice stays with the run, bob types the digest at his terminal, both see it done."""
    driving = asyncio.create_task(desk.at("alice").recover(None, method=None, lost=()))
    await desk.until(
        lambda: "to approve: consul-recovery approve r1" in desk.out.getvalue() or driving.done()
    )
    view = await desk.service.find(RunId("r1"))
    await desk.until(lambda: "asked for approval" in desk.out.getvalue())
    desk.answers = [view.state.digest[:6]]
    assert await desk.at("bob").approve("r1", yes=False, digest="", typed=[]) == OK
    assert await driving == OK
    assert all(server.running for server in desk.world.servers.values())
    assert "done in" in desk.out.getvalue()


async def test_the_requester_cannot_approve_here_either(desk: Desk) -> None:
    """People are counted, not accounts."""
    driving = asyncio.create_task(desk.at("alice").recover(None, method=None, lost=()))
    await desk.until(lambda: "asked for approval" in desk.out.getvalue())
    view = await desk.service.find(RunId("r1"))
    alice = desk.at("alice")
    assert await alice.approve("r1", yes=True, digest=view.state.digest[:12], typed=[]) == FAILED
    assert "somebody else must approve" in desk.out.getvalue()
    assert await alice.abort("r1") == OK
    assert await driving == FAILED
    assert not desk.world.performed


@pytest.mark.parametrize("digest", ["", "abc", "zzzzzz"])
async def test_without_the_right_digest_nothing_is_approved(desk: Desk, digest: str) -> None:
    """Too short is refused, and so is another plan's."""
    driving = asyncio.create_task(desk.at("alice").recover(None, method=None, lost=()))
    await desk.until(lambda: "asked for approval" in desk.out.getvalue())
    desk.answers = [digest]
    assert await desk.at("bob").approve("r1", yes=False, digest="", typed=[]) == FAILED
    if len(digest) < 6:
        with pytest.raises(WrongUsage, match="needs --digest"):
            await desk.at("bob").approve("r1", yes=True, digest=digest, typed=[])
    else:
        assert await desk.at("bob").approve("r1", yes=True, digest=digest, typed=[]) == FAILED
        assert "another plan" in desk.out.getvalue()
    assert not desk.world.performed
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)
    assert "You left run r1; it is not aborted" in desk.out.getvalue()


async def test_an_abandoned_run_is_driven_on_by_whoever_approves() -> None:
    """Alice's terminal is gone: bob's approval takes the run up, up to the names he must type."""
    desk = Desk(majority_replaced())
    lost = (ServerName("s2"), ServerName("s3"))
    driving = asyncio.create_task(desk.at("alice").recover(None, method=None, lost=lost))
    await desk.until(lambda: "asked for approval" in desk.out.getvalue())
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)
    digest = (await desk.service.find(RunId("r1"))).state.digest
    bob = desk.at("bob")
    assert await bob.approve("r1", yes=True, digest=digest[:6], typed=[]) == OK
    assert "The next step is ⚠️ IRREVERSIBLE" in desk.out.getvalue()
    assert await bob.approve("r1", yes=True, digest=digest[:6], typed=["s2"]) == FAILED
    assert desk.world.servers[ServerName("s1")].peers_json is None
    desk.answers = [digest[:6], "s2", "s3"]
    assert await bob.approve("r1", yes=False, digest="", typed=[]) == OK
    assert desk.world.leader() is not None


async def test_a_second_recovery_is_refused_while_one_is_open(desk: Desk) -> None:
    """The lock is the cluster's, whoever asks."""
    await desk.service.propose(DC1, by=Person("alice"), origin="C0OPS")
    assert await desk.at("bob").recover(None, method=None, lost=()) == FAILED
    assert "nothing was started" in desk.out.getvalue()


async def test_json_is_one_document_a_line(desk: Desk) -> None:
    """For programs: kind and value, and nothing else on the output."""
    alice = desk.at("alice", as_json=True)
    await alice.status(None)
    await alice.plan(None, method=None, lost=())
    await alice.runs(None)
    kinds = [json.loads(line)["kind"] for line in desk.out.getvalue().splitlines()]
    assert kinds == ["status", "planned", "runs"]


async def test_with_json_nobody_is_asked_anything(desk: Desk) -> None:
    """A question on the output would be read as a document; the missing words are named instead."""
    await desk.service.propose(DC1, by=Person("alice"), origin="C0OPS")
    with pytest.raises(WrongUsage, match="--yes and --digest"):
        await desk.at("bob", as_json=True).approve("r1", yes=False, digest="", typed=[])
    assert not desk.out.getvalue()


async def test_a_status_that_saw_nothing_has_a_status_of_its_own(desk: Desk) -> None:
    """A script must tell "looked" from "saw nothing"; one reached server is enough to have looked."""
    for server in desk.world.servers.values():
        server.reachable = False
    assert await desk.at("alice").status(None) == UNSEEN
    desk.world.servers[ServerName("s2")].reachable = True
    assert await desk.at("alice").status(None) == OK


@pytest.mark.parametrize("what", ["plan", "recover"])
async def test_a_slip_of_the_finger_touches_nothing(desk: Desk, what: str) -> None:
    """A method or a server that nobody knows is refused before the store or a host is asked."""
    desk.store.down = True
    alice = desk.at("alice")
    act = alice.plan if what == "plan" else alice.recover
    with pytest.raises(UnknownMethod, match=r"start, peers-json.*Nothing was done"):
        await act(None, method="magic", lost=())
    with pytest.raises(UnknownServer, match=r"“s9”.*s1, s2, s3.*Nothing was done"):
        await act(None, method=None, lost=("s2", "s9"))
    assert not desk.out.getvalue()


async def test_a_voter_that_the_settings_do_not_have_is_claimed_by_address_or_id(desk: Desk) -> None:
    """Its name is only known to the servers, so these are no slips."""
    lost = ("198.51.100.99:8300", "[2001:db8::1]:8300", "0d0c1b2a-0000-4000-8000-000000000009")
    assert await desk.at("alice").plan(None, method=None, lost=lost) == FAILED
    assert "none of the voters" in desk.out.getvalue()


async def test_where_nobody_can_approve_it_is_said_at_once(desk: Desk) -> None:
    """Status and recover name the key; without Slack's marks."""
    nobody = rules(approve=Grant(settings_key="approvals.approvers"))
    await desk.at("alice", who=nobody).status(None)
    said = [line for line in desk.out.getvalue().splitlines() if "approvals.approvers" in line]
    assert len(said) == 1
    assert said[0].startswith("Nobody can approve: ")
    with pytest.raises(NotAllowed, match=r"^Nobody can approve: "):
        await desk.at("alice", who=nobody).approve("r1", yes=True, digest="a" * 6, typed=[])
    await desk.at("alice").status(None)
    assert desk.out.getvalue().count("Nobody can approve") == 1


async def test_the_terminal_names_its_own_commands(desk: Desk) -> None:
    """What to type next is what can be typed here, not a command of Slack."""
    await desk.at("alice").status(None)
    assert "`consul-recovery recover dc1`" in desk.out.getvalue()
    assert "/consul " not in desk.out.getvalue()


async def test_there_is_nothing_to_abort_where_nothing_runs(desk: Desk) -> None:
    """The answer says so."""
    with pytest.raises(NoActiveRun, match="no active run"):
        await desk.at("alice").abort(None)


async def test_a_run_is_shown_with_its_journal(desk: Desk) -> None:
    """`show` is the whole story."""
    await desk.service.propose(DC1, by=Person("alice"), origin="C0OPS")
    assert await desk.at("mallory").show("r1") == OK
    assert "proposed by alice" in desk.out.getvalue()


async def test_a_lock_is_taken_away_by_the_holders_name_and_a_reason(desk: Desk) -> None:
    """What is asked is shown first; a wrong name changes nothing; the card tells who did it and why."""
    await desk.service.propose(DC1, by=Person("alice"), origin="terminal")
    desk.answers = ["r2", "left over"]
    assert await desk.at("bob").unlock(None, holder="", reason="") == FAILED
    assert "No process drives it" in desk.out.getvalue()
    assert await desk.store.active(DC1) == "r1"
    desk.answers = ["r1", "left over"]
    assert await desk.at("bob").unlock(None, holder="", reason="") == OK
    assert "bob took the lock away" in desk.out.getvalue()
    assert await desk.store.active(DC1) is None


async def test_resume_drives_a_run_that_nobody_drives(desk: Desk) -> None:
    """Up to the next question, which is shown."""
    await desk.service.propose(DC1, by=Person("alice"), origin="terminal")
    assert await desk.at("alice").resume(None) == OK
    shown = desk.out.getvalue()
    assert "nobody drove it" in shown
    assert "waiting for approval" in shown


NOBODY_LISTENS = "http://127.0.0.1:1/api/"


async def test_the_whole_recovery_works_while_slack_is_gone() -> None:
    """Slack is set up and does not answer: proposing, approving and driving in the terminal do not need it."""
    servers = three_servers()
    for server in servers[1:]:
        server.running = False
    unreachable = SlackSettings(
        bot_token=Secret("xoxb-1"),
        app_token=Secret("xapp-1"),
        api_url=NOBODY_LISTENS,
        team_id=None,
        channel="C0OPS",
    )
    desk = Desk(servers, slack=unreachable)
    driving = asyncio.create_task(desk.at("alice").recover(None, method=None, lost=()))
    await desk.until(lambda: "asked for approval" in desk.out.getvalue())
    digest = (await desk.service.find(RunId("r1"))).state.digest
    assert await desk.at("bob").approve("r1", yes=True, digest=digest[:6], typed=[]) == OK
    assert await driving == OK
    assert "done in" in desk.out.getvalue()


async def test_without_redis_looking_works_and_everything_else_says_so(desk: Desk) -> None:
    """Status is true without Redis; the other commands end with one message, and an approval is not lost half."""
    await desk.service.propose(DC1, by=Person("alice"), origin="terminal")
    digest = (await desk.service.find(RunId("r1"))).state.digest
    desk.store.down = True
    bob = desk.at("bob")
    assert await bob.status(None) == OK
    assert "Runs cannot be shown: Redis at memory cannot be reached" in desk.out.getvalue()
    attempts: list[Callable[[], Any]] = [
        lambda: bob.recover(None, method=None, lost=()),
        lambda: bob.approve("r1", yes=True, digest=digest[:6], typed=[]),
        lambda: bob.abort(None),
        lambda: bob.retry(None),
    ]
    for attempt in attempts:
        with pytest.raises(StoreUnavailable, match="nothing was done"):
            await attempt()
    desk.store.down = False
    assert len(await desk.store.events(DC1, RunId("r1"))) == 1


async def test_whoever_follows_a_run_that_redis_lost_is_told(desk: Desk) -> None:
    """The store is emptied while alice's terminal drives: it ends with what happened and what to do."""
    driving = asyncio.create_task(desk.at("alice").recover(None, method=None, lost=()))
    await desk.until(lambda: "asked for approval" in desk.out.getvalue())
    desk.store.restore(None)
    with pytest.raises(RunLost, match=r"no longer knows this run.*recover dc1"):
        await driving


@pytest.mark.parametrize("safe", [True, False])
async def test_after_a_void_run_the_terminal_says_what_comes_next(safe: bool) -> None:
    """The log was not what was approved: the new plan's name is said, or why there is none."""
    desk = Desk(majority_replaced())
    s1 = desk.world.servers[ServerName("s1")]

    def grow(action: Action, key: ActKey) -> None:
        del key
        if isinstance(action, StopAgent) and action.server == "s1" and s1.last is not None:
            s1.last = type(s1.last)(term=s1.last.term, index=s1.last.index + 1)

    append = desk.store.append

    async def cut_off(lease: Lease, event: Event, *, expected_length: int) -> None:
        await append(lease, event, expected_length=expected_length)
        if isinstance(event, AssumptionsFailed):
            for name in ("s2", "s3"):
                desk.world.servers[ServerName(name)].reachable = safe

    desk.world.after_act = grow
    desk.store.append = cut_off  # type: ignore[method-assign]
    lost = (ServerName("s2"), ServerName("s3"))
    driving = asyncio.create_task(desk.at("alice").recover(None, method=None, lost=lost))
    await desk.until(lambda: "asked for approval" in desk.out.getvalue())
    digest = (await desk.service.find(RunId("r1"))).state.digest
    await desk.service.approve(DC1, RunId("r1"), by=Person("bob"), gate="plan", digest_prefix=digest)
    assert await driving == FAILED
    said = (
        "A new plan waits for approval: consul-recovery show r2"
        if safe
        else "No new plan is safe as things are"
    )
    assert said in desk.out.getvalue()


async def approved(desk: Desk) -> None:
    """Bob approves what is asked next, at a terminal of his own."""
    async with asyncio.timeout(10):
        while (view := await desk.service.active(DC1)) is None or (gate := view.state.waiting_gate) is None:
            await asyncio.sleep(0.02)
    names = [str(name) for name in gate.typed]
    await desk.at("bob").approve(view.run, yes=True, digest=view.state.digest[:6], typed=names)


async def test_a_run_is_aborted_before_the_irreversible_part() -> None:
    """Bob aborts what alice's terminal drives: nothing more is done, both are told what was and how to go on."""
    desk = Desk(majority_replaced())
    lost = ("s2", "s3")
    driving = asyncio.create_task(desk.at("alice").recover(None, method=None, lost=lost))
    await approved(desk)
    await desk.until(lambda: "The next step is ⚠️ IRREVERSIBLE" in desk.out.getvalue())
    done = len(desk.world.performed)
    before = len(desk.out.getvalue())
    await desk.at("bob").abort(None)
    told = desk.out.getvalue()[before:]
    assert "aborted by bob" in told
    assert "systemctl start" in told, "how to go on by hand"
    assert await driving == FAILED
    state = (await desk.service.find(RunId("r1"))).state
    assert (state.outcome, state.aborted_by) == (Outcome.ABORTED, "bob")
    assert len(desk.world.performed) == done
    assert desk.world.servers[ServerName("s1")].peers_json is None
    assert await desk.store.active(DC1) is None


async def test_a_failed_step_is_tried_again(desk: Desk) -> None:
    """The start of s2 was refused once; bob's retry is all that is needed, and each server is started once."""
    refusals = [HostRefused("198.51.100.12: no room. Nothing was changed by this step (start).")]

    def refuse(action: Action, key: ActKey) -> None:
        del key
        if refusals and isinstance(action, StartAgent) and action.server == "s2":
            raise refusals.pop()

    desk.world.before_act = refuse
    driving = asyncio.create_task(desk.at("alice").recover(None, method=None, lost=()))
    await approved(desk)
    await desk.until(lambda: "no room" in desk.out.getvalue())
    assert not driving.done()
    assert await desk.at("bob").retry(None) == OK
    assert await driving == OK
    assert [a.server for a, _ in desk.world.performed if isinstance(a, StartAgent)].count(
        ServerName("s2")
    ) == 1
    assert [e.by for e in await desk.store.events(DC1, RunId("r1")) if isinstance(e, RetryChosen)] == ["bob"]


async def test_a_fenced_server_is_taken_back() -> None:
    """Alice readmits s3 at her terminal, bob approves at his: it comes back without its old log, as a voter."""
    desk = Desk(one_fenced())
    s3 = desk.world.servers[ServerName("s3")]
    driving = asyncio.create_task(desk.at("alice").readmit(None, server="s3"))
    while not driving.done():
        if (await desk.service.active(DC1)) is not None:
            await approved(desk)
        await asyncio.sleep(0.02)
    assert await driving == OK
    assert (s3.fenced_by, s3.running) == ("", True)
    assert s3.node_id in {peer.id for peer in desk.world.servers[ServerName("s1")].voters}
    assert s3.keys == desk.world.servers[ServerName("s1")].keys


@pytest.mark.parametrize("screen", [False, True], ids=["lines", "screen"])
async def test_whoever_follows_is_reminded_and_told_what_came_of_no_answer(*, screen: bool) -> None:
    """Told before, reminded while it waits, and in the end who runs again, who is down, and how to go on."""
    desk = Desk(majority_replaced(), approval=ApprovalPolicy(expires_after_s=3), screen=screen)
    driving = asyncio.create_task(desk.at("alice").recover(None, method=None, lost=("s2", "s3")))
    await desk.until(lambda: "asked for approval" in desk.out.getvalue() or screen)
    await approved(desk)
    assert await driving == FAILED
    said = desk.out.getvalue()
    assert "A second answer will be needed, before step 11" in said
    assert ("dc1 waits for an answer" if screen else "REMINDER: nobody has answered") in said
    ended = said[said.rindex("expired, nobody approved in time") :]
    assert "s2 and s3 are DOWN and held" in ended
    assert "s1 runs again as before" in ended
    assert "To go on, a new plan: `consul-recovery recover dc1 --lost" in ended
    assert desk.world.servers[ServerName("s1")].running
