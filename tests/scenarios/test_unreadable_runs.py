"""One journal line that cannot be read costs its own run, and nothing else: at a terminal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from bot.terminal import FAILED, OK
from recovery.codec import encode_event
from recovery.errors import JournalUnreadable
from recovery.journal import Approved, Outcome
from recovery.model import Person, RunId, ServerName
from recovery.service import HeldByUnreadable, Planned, RunProposed
from tests.fakes.fake_world import FakeServer, three_servers
from tests.fakes.memory_store import KEY, MemoryStore
from tests.fakes.slack_bot import DC1
from tests.scenarios.test_the_terminal import Desk

R1 = RunId("r1")
Lines = list[bytes]


def signed(store: MemoryStore, event: bytes) -> Lines:
    """The journal of r1 with one more line, which carries the bot's own signature."""
    lines = store.lines(DC1, R1)
    before = lines[-1][3:67].decode()
    return [*lines, KEY.sign_line(DC1, R1, event, position=len(lines), before=before)]


DAMAGE: dict[str, tuple[Callable[[MemoryStore], Lines], str]] = {
    "a newer format": (
        lambda store: signed(store, b'{"v":99,"event":{"type":"Flown"}}'),
        "line 2 of its journal was written by another version of the bot (format 99",
    ),
    "an event that is not known": (
        lambda store: signed(store, b'{"v":1,"event":{"type":"Flown"}}'),
        "line 2 of its journal",
    ),
    "garbage": (lambda store: [*store.lines(DC1, R1), b"\xff\x00{"], "line 2 of its journal is not signed"),
    "no signature": (
        lambda store: [line[68:] for line in store.lines(DC1, R1)],
        "line 1 of its journal is not signed: an older version",
    ),
    "an edited plan": (
        lambda store: [line.replace(b'"procedure":"', b'"procedure":"x') for line in store.lines(DC1, R1)],
        "line 1 of its journal is not what the bot wrote there",
    ),
    "what cannot have happened": (
        lambda store: signed(
            store,
            encode_event(
                Approved(at_s=1.0, by=Person("bob"), gate="plan", digest=store.folded(DC1, R1).plan.digest())
            ),
        ),
        "line 2 of its journal tells what cannot have happened",
    ),
}


@pytest.fixture
def desk() -> Desk:
    """s2 and s3 are stopped."""
    return Desk(two_stopped())


def two_stopped() -> tuple[FakeServer, ...]:
    """Three servers, of which two do not run."""
    servers = three_servers()
    for server in servers[1:]:
        server.running = False
    return servers


@pytest.fixture(params=DAMAGE)
async def damaged(request: pytest.FixtureRequest, desk: Desk) -> tuple[Desk, str, Lines]:
    """Run r1 holds the lock and cannot be read; what is said of it, and its lines."""
    assert isinstance(await desk.service.propose(DC1, by=Person("alice"), origin="terminal"), RunProposed)
    damage, told = DAMAGE[request.param]
    lines = damage(desk.store)
    desk.store.rewrite(DC1, R1, lines)
    return desk, told, lines


def new_output(desk: Desk) -> str:
    """What was printed since the last call."""
    shown = desk.out.getvalue()
    desk.out.seek(0)
    desk.out.truncate()
    return shown


async def test_it_is_shown_with_the_line_and_the_reason(damaged: tuple[Desk, str, Lines]) -> None:
    """In status, runs and show; the servers are still looked at."""
    desk, told, _ = damaged
    alice = desk.at("alice")
    assert await alice.status(None) == OK
    shown = new_output(desk)
    assert "NO LEADER" in shown
    assert f"Run r1 cannot be read: {told}" in shown
    assert "consul-recovery unlock r1" in shown
    assert await alice.runs(None) == OK
    assert told in new_output(desk)
    assert await alice.show("r1") == FAILED
    assert f"Run r1 cannot be read: {told}" in new_output(desk)


async def test_json_tells_it_too(damaged: tuple[Desk, str, Lines]) -> None:
    """A program gets the line and the reason as values."""
    desk, told, lines = damaged
    alice = desk.at("alice", as_json=True)
    assert await alice.show("r1") == FAILED
    found = json.loads(new_output(desk))
    assert found["kind"] == "unreadable"
    assert found["value"]["length"] == len(lines)
    fault = found["value"]["fault"]
    assert told in f"line {fault['line']} of its journal {fault['why']}"
    assert await alice.runs(None) == OK
    assert json.loads(new_output(desk))["value"][0]["run"] == "r1"


async def test_nothing_new_is_proposed_and_it_is_said_how_to_unlock(damaged: tuple[Desk, str, Lines]) -> None:
    """The lock is held by what nobody can drive; that is said, with the way out."""
    desk, told, _ = damaged
    assert await desk.at("alice").recover(None, method=None, lost=()) == FAILED
    shown = new_output(desk)
    assert "nothing was started" in shown
    assert told in shown
    assert "consul-recovery unlock r1" in shown


async def test_nobody_decides_on_it(damaged: tuple[Desk, str, Lines]) -> None:
    """Abort, retry, approve and resume each say why they cannot, and what can be done."""
    desk, told, lines = damaged
    alice = desk.at("alice")
    for attempt in (
        alice.abort(None),
        alice.abort("r1"),
        alice.retry("r1"),
        alice.resume(None),
        alice.approve("r1", yes=True, digest="a" * 6, typed=[]),
    ):
        with pytest.raises(JournalUnreadable) as caught:
            await attempt
        assert told in str(caught.value)
        assert "`unlock r1` takes it away" in str(caught.value)
    assert desk.store.lines(DC1, R1) == lines


async def test_unlock_always_works_and_keeps_the_lines(damaged: tuple[Desk, str, Lines]) -> None:
    """By its name and with a reason; the record comes behind the raw lines, and a new plan can be made."""
    desk, told, lines = damaged
    alice = desk.at("alice")
    assert await alice.unlock(None, holder="r2", reason="mistyped") == FAILED
    assert await alice.unlock("r1", holder="r1", reason=" ") == FAILED
    assert await desk.store.active(DC1) == "r1"
    desk.answers = ["r1", "restored by hand"]
    assert await alice.unlock(None, holder="", reason="") == OK
    assert "consul-recovery recover" in new_output(desk)
    assert await desk.store.active(DC1) is None
    assert desk.store.lines(DC1, R1)[:-1] == lines
    assert await alice.show("r1") == FAILED
    shown = new_output(desk)
    assert told in shown
    assert "alice took the lock away when no process drove it. Reason: restored by hand" in shown
    assert await alice.unlock("r1", holder="r1", reason="again") == FAILED
    assert "does not hold the lock" in new_output(desk)
    answer = await desk.service.propose(DC1, by=Person("alice"), origin="terminal")
    assert isinstance(answer, RunProposed)
    assert await alice.runs(None) == OK
    listed = new_output(desk)
    assert told in listed
    assert "r2" in listed


@pytest.mark.parametrize("names", ["a run that never was", "a run that has ended"])
async def test_a_lock_that_somebody_else_left_is_said_and_taken_away(desk: Desk, names: str) -> None:
    """The bot never leaves one behind: it is neither driven nor taken for a recovery under way."""
    run = RunId("r9")
    if names == "a run that has ended":
        view = await desk.service.propose(DC1, by=Person("alice"), origin="terminal")
        assert isinstance(view, RunProposed)
        run = view.view.run
        await desk.service.unlock(DC1, run, by=Person("alice"), holder=run, reason="first")
    desk.store.forge_active(DC1, run)
    answer = await desk.service.propose(DC1, by=Person("alice"), origin="terminal")
    assert isinstance(answer, HeldByUnreadable)
    assert "the lock" in str(answer.holder.fault)
    alice = desk.at("alice")
    assert await alice.status(None) == OK
    assert f"consul-recovery unlock {run}" in new_output(desk)
    assert await alice.unlock(None, holder=run, reason="forged") == OK
    assert await desk.store.active(DC1) is None
    if names == "a run that has ended":
        view_again = await desk.service.find(run)
        assert view_again.state.outcome is Outcome.UNLOCKED
    assert isinstance(await desk.service.propose(DC1, by=Person("alice"), origin="terminal"), RunProposed)


async def test_whoever_watches_a_run_that_becomes_unreadable_is_told(desk: Desk) -> None:
    """The terminal that drives it stops with the reason; nothing was done on a host."""
    alice = desk.at("alice")
    watching = asyncio.create_task(alice.recover(None, method=None, lost=()))
    await desk.until(lambda: desk.store.knows(DC1, R1) and desk.store.folded(DC1, R1).waiting_gate)
    lines = desk.store.lines(DC1, R1)
    desk.store.rewrite(DC1, R1, [*lines, b"garbage"])
    with pytest.raises(JournalUnreadable, match="is not signed"):
        await asyncio.wait_for(watching, 20)
    assert [desk.world.servers[ServerName(name)].starts for name in ("s2", "s3")] == [0, 0]


async def test_what_it_holds_on_the_servers_is_still_seen(desk: Desk) -> None:
    """The hosts tell what its journal cannot, before and after its lock was taken away."""
    await desk.service.propose(DC1, by=Person("alice"), origin="terminal")
    for name in ("s2", "s3"):
        desk.world.servers[ServerName(name)].held_by = "r1"
    desk.store.rewrite(DC1, R1, [b"garbage"])
    alice = desk.at("alice")
    await alice.status(None)
    shown = new_output(desk)
    assert "held by run r1 (its journal cannot be read)" in shown
    assert "Run r1 was under way on these servers, and its journal cannot be read" in shown
    assert "unlock" in shown
    await alice.unlock(None, holder="r1", reason="garbage")
    new_output(desk)
    await alice.status(None)
    shown = new_output(desk)
    assert "held by run r1 (its journal cannot be read)" in shown
    assert "recover" in shown
    answer = await desk.service.propose(DC1, by=Person("alice"), origin="terminal")
    assert isinstance(answer, RunProposed)
    assert any("its journal cannot be read" in warning for warning in answer.view.state.plan.warnings)


async def test_members_that_somebody_else_wrote_are_not_used_and_that_is_said(desk: Desk) -> None:
    """Status says it, the plan warns of it; what may once have been known stands until the cluster works again."""
    desk.store.forge_memo(DC1, "members", b'{"seen_at_s":1,"known":[]}')
    alice = desk.at("alice")
    await alice.status(None)
    assert "What Redis keeps as members of dc1 is not signed" in new_output(desk)
    answer = await desk.service.plan(DC1)
    assert isinstance(answer, Planned)
    assert "members of dc1 is not signed" in answer.report.memory_problem
    proposed = await desk.service.propose(DC1, by=Person("alice"), origin="terminal")
    assert isinstance(proposed, RunProposed)
    assert any("members of dc1 is not signed" in line for line in proposed.view.state.plan.warnings)
