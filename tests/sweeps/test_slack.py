"""Slack fails at each point: for a while, for good, or without an answer for minutes."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

import pytest

from bot.blocks import esc
from bot.notifier import PATIENCE_S, SlackNotifier
from bot.outgoing import user
from bot.run_card import run_card
from bot.talk import Talk
from bot.thread import Mentions, event_line
from bot.wording import utc_time
from recovery.journal import Event, RunState, StepStarted
from recovery.model import RunId
from recovery.runs import RunView
from tests.builders.runs import CLUSTER
from tests.fakes.fake_slack import HANGS_S, FakeSlack, Posted, Way
from tests.sweeps.points import Killed, Point
from tests.sweeps.process import Process
from tests.sweeps.stage import Fault, Stage, nothing_happens
from tests.sweeps.stories import STORIES, Story
from tests.sweeps.sweep import Judge, Played, at, play, recovers, sweep
from tests.sweeps.virtual_time import VirtualClock

ACT_S = 1.0
"""Hosts take their time, so that cards are updated while the run goes on."""
AWAY_S = 20.0
BACK_S = AWAY_S + HANGS_S + 2 * PATIENCE_S
"""By then whatever failed was tried again."""
EVERY_WAY = (STORIES[3], STORIES[-1])
"""The stories whose every call fails in every way: one with two gates and a warning, and the shortest."""
MENTIONS = Mentions((user("U0BOB"),), {})


@dataclass
class Shown:
    """A channel, and the notifier of each process that shows the run in it."""

    slack: FakeSlack = field(default_factory=FakeSlack)
    notifiers: list[SlackNotifier] = field(default_factory=list)

    def notifier(self, process: Process) -> SlackNotifier:
        """The real notifier and the real Talk."""
        client = self.slack.client(word=process.word, dead=lambda: process.dead)
        made = SlackNotifier(
            Talk(client),
            store=process.store,
            clock=VirtualClock(),
            mentions=MENTIONS,
            channel_of=lambda _cluster: "C0OPS",
            units={},
            owner=process.owner,
        )
        self.notifiers.append(made)
        return made

    def away(self, way: Way, *, for_s: float | None) -> Fault:
        """From here on every call fails like this."""

        def fault(point: Point, stage: Stage, process: Process) -> None:
            self.slack.way = way
            if for_s is not None:
                asyncio.get_running_loop().call_later(for_s, setattr, self.slack, "way", None)

        return fault

    def play(self, story: Story, fault: Fault, judged_by: Judge, *, epilogue_s: float) -> Played:
        """One play that is shown here."""
        return play(
            story,
            fault=fault,
            judged_by=judged_by,
            epilogue=lambda _stage: None,
            epilogue_s=epilogue_s,
            notifier=self.notifier,
            act_takes_s=ACT_S,
        )

    # --- what people see in the end

    def judge(self, stage: Stage, state: RunState) -> list[str]:
        """The card shows the end, the thread holds every line, and nothing is left to press."""
        events = tuple(stage.store.read(CLUSTER, RunId("r1")))
        view = RunView(CLUSTER, RunId("r1"), state, events)
        slack = self.slack
        problems = list(dict.fromkeys(slack.problems))
        known = [card for card in slack.cards() if card.ts not in slack.orphans]
        if len(known) != 1:
            return [*problems, f"{len(known)} cards in the channel"]
        card = known[0]
        shown = run_card(view, self.notifiers[-1].look(view))
        if (card.text, card.blocks) != (shown.text, list(shown.blocks)):
            problems.append(f"the card does not show the end but: {card.text}")
        thread = [message for message in slack.messages if message.thread_ts == card.ts]
        if stray := [m.text for m in slack.messages if m.thread_ts not in {None, card.ts}]:
            problems.append(f"told elsewhere than below the card: {stray}")
        problems += [
            f"it can still be pressed: {message.text}"
            for message in (card, *thread)
            if message.pressable and message.ts not in slack.orphans
        ]
        ends = [message for message in thread if message.broadcast]
        if len(ends) + any(message.broadcast for message in slack.unanswered) != 1:
            problems.append(f"the end was told {len(ends)} times")
        return problems + _thread_problems(thread, slack.unanswered, state, events)


def _thread_problems(
    thread: list[Posted], unanswered: list[Posted], state: RunState, events: tuple[Event, ...]
) -> list[str]:
    """No line is there twice, and none is missing but those whose post had no answer."""
    told = Counter(line for message in thread for line in message.lines)
    lost = Counter(line for message in unanswered for line in message.lines)
    problems: list[str] = []
    wanted = [(event, esc(_line(event, state))) for event in events]
    times = Counter(line for _, line in wanted)
    cut = next((m.lines[1] for m in thread if m.lines and m.lines[0].startswith("… earlier lines")), None)
    reached = [line for _, line in wanted].index(cut) if cut is not None else 0
    for place, (event, line) in enumerate(wanted):
        if told[line] > times[line]:
            problems.append(f"{told[line]} times in the thread: {line}")
        quiet = isinstance(event, StepStarted) or place < reached
        if told[line] + lost[line] < times[line] and not quiet:
            problems.append(f"not in the thread: {line}")
    return list(dict.fromkeys(problems))


def _line(event: Event, state: RunState) -> str:
    time = utc_time(event.at_s).removesuffix(" UTC")
    return f"{time} {event_line(event, state)}".split("\n", maxsplit=1)[0]


@cache
def undisturbed(story: Story) -> tuple[Played, int]:
    """The play as it is shown when nothing goes wrong, and how many calls to Slack it takes."""
    shown = Shown()
    played = shown.play(story, nothing_happens, shown.judge, epilogue_s=60.0)
    assert not played.problems, (story, played.problems)
    assert not shown.slack.orphans
    assert not shown.slack.unanswered
    return played, shown.slack.calls


def unmoved(calm: Played) -> Judge:
    """The run must end as if nobody had shown it: the same acts, at the same time, and nobody is asked."""
    recovered = recovers(calm)

    def judged(stage: Stage, state: RunState) -> list[str]:
        problems = recovered(stage, state)
        late_s = state.ended_s - state.proposed_s - (calm.state.ended_s - calm.state.proposed_s)
        return problems + ([f"Slack cost the run {late_s:.0f} s"] if late_s else [])

    return judged


def both(*judges: Judge) -> Judge:
    """All of them."""
    return lambda stage, state: [problem for judge in judges for problem in judge(stage, state)]


def records(calm: Played) -> list[Point]:
    """Each time that the journal has grown: in between there is nothing new to show."""
    return [point for point in calm.points if point.when == "after append"]


def way_at(story: Story, number: int) -> Way:
    """One way to fail for each point; over the stories every kind of point meets every way."""
    ways = list(Way)
    return ways[(number + STORIES.index(story)) % len(ways)]


def test_a_run_is_shown_to_its_end(story: Story) -> None:
    """When nothing fails: one card that shows the end, every line in its thread, the end told once."""
    undisturbed(story)


def test_a_run_goes_on_while_slack_is_away_and_is_told_when_it_is_back(story: Story) -> None:
    """Away from each record on: the run is not even late; when Slack is back the card and the thread are whole."""
    calm, _ = undisturbed(story)

    def one(point: Point) -> Played:
        shown = Shown()
        fault = at(point, shown.away(way_at(story, point.number), for_s=AWAY_S))
        return shown.play(story, fault, both(unmoved(calm), shown.judge), epilogue_s=BACK_S)

    sweep(records(calm), one)


def test_a_call_that_failed_once_costs_no_line_and_makes_no_second_card(story: Story) -> None:
    """Each call to Slack fails in turn, all the others succeed: what is seen in the end is the same."""
    calm, calls = undisturbed(story)
    wrong: list[str] = []
    for number in range(1, calls + 1):
        for way in Way if story in EVERY_WAY else (way_at(story, number),):
            shown = Shown(FakeSlack(fails={number: way}))
            judged = both(unmoved(calm), shown.judge)
            played = shown.play(story, nothing_happens, judged, epilogue_s=BACK_S)
            wrong += [f"call {number} {way}: {problem}" for problem in played.problems]
    assert not wrong, f"{len(wrong)} problems:\n" + "\n".join(wrong)


def test_a_run_that_nobody_can_be_shown_ends_all_the_same(story: Story) -> None:
    """Slack is away for good: the run ends as if nothing were, at the same time, and the card is tried on."""
    calm, _ = undisturbed(story)

    def still_tried(stage: Stage, state: RunState) -> list[str]:
        tried = any(task.get_name() == "card of r1" for task in asyncio.all_tasks())
        return [] if tried else ["nobody tries to show the run any more"]

    def one(point: Point) -> Played:
        shown = Shown()
        fault = at(point, shown.away(way_at(story, point.number), for_s=None))
        return shown.play(story, fault, both(unmoved(calm), still_tried), epilogue_s=PATIENCE_S)

    # How Slack is met at each record is swept above; here it only does not come back. After the end it was told all.
    sweep([point for point in records(calm) if not point.what.startswith("Ended")][::3], one)


@pytest.mark.parametrize("killed", [STORIES[0], STORIES[-1]], ids=str)
def test_the_next_driver_tells_what_the_killed_one_could_not(killed: Story) -> None:
    """Killed at each point while Slack goes away: the next driver goes on, and tells it all when Slack is back."""
    calm, _ = undisturbed(killed)

    def one(point: Point) -> Played:
        shown = Shown()
        away = shown.away(way_at(killed, point.number), for_s=AWAY_S)

        def strike(reached: Point, stage: Stage, process: Process) -> None:
            away(reached, stage, process)
            raise Killed

        return shown.play(killed, at(point, strike), both(recovers(calm), shown.judge), epilogue_s=BACK_S)

    sweep(calm.points, one)
