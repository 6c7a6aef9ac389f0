"""Short answers to one person: locked, refused, denied, stale, lists of runs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from bot import by_hand
from bot.blocks import Block, Message, code_block, context, esc, finalize, modal, section, typed_input
from bot.buttons import HOLDER_BLOCK, REASON_BLOCK, TYPED_BLOCK, TYPED_MODAL, UNLOCK_MODAL, Press
from bot.commands import NAME, usage
from bot.run_card import Look, run_card, unlocked_line
from bot.status_card import only_unlock, telling
from bot.thread import event_line
from bot.wording import Phase, duration, phase, progress, situation_mark, utc, utc_time
from recovery.diagnosis import OutOfSight
from recovery.forgotten import told as left_over
from recovery.model import ClusterName, RunId, ServerName
from recovery.plan import Plan, Refusal
from recovery.ports import LeaseHeld
from recovery.runs import RunView, UnreadableRun
from recovery.service import LockTaken, Refused, StatusReport

SHOWN_EVENTS = 15

OLD_BUTTON = (
    "This button is from an old message, or one that this version of the bot does not know. Nothing was done. "
    f"Type `{NAME} status` for how things are now."
)


def said(text: str) -> Message:
    """Our own words (mrkdwn) as a message."""
    return finalize(text, [section(text)])


def told(text: str) -> Message:
    """A message for people that may carry foreign names: shown as plain words."""
    return finalize(text, [section(esc(text))])


def helped() -> str:
    """The answer to help."""
    return (
        "I look after Consul clusters that lost their leader. I change nothing that was not approved.\n"
        f"```\n{usage()}\n```"
    )


def locked(holder: RunView, link: str, *, now_s: float) -> Message:
    """Another run has the cluster's lock."""
    state = holder.state
    text = (
        f"🔒 *{esc(holder.cluster)} is already being recovered:* run {link} by {esc(state.requested_by)}, "
        f"{phase(state)}, {progress(state)}, since {duration(now_s - state.proposed_s)}. Nothing was started."
    )
    return finalize(f"{holder.cluster} is already being recovered (run {holder.run})", [section(text)])


def held_by_unreadable(holder: UnreadableRun) -> Message:
    """A run that cannot be read has the cluster's lock."""
    text = (
        f"🔒 *{esc(holder.cluster)} is held by a run that cannot be read.* {esc(holder.told)}. Nothing was started.\n"
        f"{only_unlock(holder)}"
    )
    return finalize(f"{holder.cluster} is held by run {holder.run}, which cannot be read", [section(text)])


def refused(answer: Refused) -> Message:
    """No plan is safe: why, and what to do instead."""
    refusal: Refusal = answer.refusal
    headline = f"{situation_mark(answer.report.diagnosis)} No plan for {answer.report.cluster}"
    return finalize(
        headline,
        [
            section(f"*{esc(headline)}:* nothing was done."),
            section("\n".join(f"• {esc(reason)}" for reason in refusal.reasons)),
            *_what_bars_the_way(answer.report),
            section(f"*Next:* {esc(refusal.next_step)}"),
            *(section(f"⚠️ {esc(line)}") for line in left_over(answer.report.left)),
        ],
    )


def _what_bars_the_way(report: StatusReport) -> tuple[Block, ...]:
    """Why hosts are not seen (key, host key, sudo, network): that is what has to be mended first."""
    if not isinstance(report.diagnosis, OutOfSight):
        return ()
    return (section("*What was seen:*\n" + "\n".join(f"• {esc(line)}" for line in telling(report))),)


def nothing_to_do(report: StatusReport) -> Message:
    """The cluster is healthy."""
    headline = report.diagnosis.headline
    return finalize(
        headline,
        [
            section(f"🟢 *{esc(headline)}.* There is nothing to recover. Nothing was done."),
            *(section(f"⚠️ {esc(line)}") for line in left_over(report.left)),
        ],
    )


def proposed(view: RunView, link: str) -> Message:
    """Tells the requester where the plan is."""
    text = f"⏳ The plan is {link}. Nothing is changed before it is approved."
    return finalize(f"Recovery {view.run} of {view.cluster} waits for approval", [section(text)])


def runs(cluster: ClusterName, known: Iterable[tuple[RunView | UnreadableRun, str]]) -> Message:
    """The newest runs, a line each."""
    lines = [f"• {link}: {_run_line(run)}" for run, link in known]
    text = f"Runs of {cluster}" if lines else f"There was no run of {cluster} yet."
    return finalize(text, [section(f"*{esc(text)}*"), *([section("\n".join(lines))] if lines else [])])


def _run_line(run: RunView | UnreadableRun) -> str:
    match run:
        case RunView(state=state):
            return (
                f"{phase(state)}, {esc(state.plan.procedure)}, asked for by {esc(state.requested_by)} at "
                f"{utc(state.proposed_s)}"
            )
        case UnreadableRun():
            ended = f"; {esc(unlocked_line(run.unlocked))}" if run.unlocked is not None else ""
            return f"⚠️ cannot be read: {esc(str(run.fault))}{ended}"
        case _:
            assert_never(run)


def not_invited(message: Message) -> Message:
    """What should have been posted, to one person, with how to invite the bot."""
    hint = context("Only you see this: I am not in this channel. Invite me: `/invite` and my name.")
    return finalize(message.text, [*(block for block in message.blocks if block["type"] != "actions"), hint])


def broken(error_id: str) -> Message:
    """A fault of ours."""
    return said(
        f"⚠️ Something went wrong in the bot itself (error `{error_id}`). Nothing was done that is not on the "
        "card. The bot's log has the details under this id."
    )


UNFENCED = (
    "These servers cannot be reached, so nothing keeps them from coming back but your word. If one of them does come "
    "back with the old data, there are *two clusters*. Type each name to say that it is gone for good."
)
FOUNDED = (
    "This founds a *new, empty cluster* on servers that hold nothing. Had one of them data that is only not there now "
    "(a disk that is not mounted, a machine set up anew), that data would stay hidden behind the new cluster. Type "
    "each name to say that it holds nothing and never did."
)


def typed_modal(press: Press, plan: Plan, *, private: str, alone: bool = False, later: str = "") -> Block:
    """The modal in which the names that an approver vouches for are typed, or why somebody approves alone.

    ``later`` says which answers will be needed after this one.
    """
    blocks: list[Block] = [section(f"⏳ {esc(later)}")] if later else []
    if press.typed:
        vouched = FOUNDED if plan.held_nothing else UNFENCED
        blocks.append(section(f"Run *{esc(press.run)}*. {vouched}"))
        blocks += (
            typed_input(block_id=f"{TYPED_BLOCK}{name}", label=f"Type {name}", hint=f"exactly: {name}")
            for name in press.typed
        )
    if alone:
        blocks += (
            section(
                f"🚨 *You asked for run {esc(press.run)} yourself.* Approved alone it is a break-glass: the channel "
                "and every approver are told at once, with your reason, and the journal keeps it. Can nobody be "
                "woken who could look at the plan with you?"
            ),
            typed_input(
                block_id=REASON_BLOCK, label="Why alone?", hint="kept in the journal and told to everybody"
            ),
        )
    return modal(
        title="Approve recovery", submit="Approve", callback_id=TYPED_MODAL, private=private, blocks=blocks
    )


def unlock_modal(run: RunView | UnreadableRun, driver: LeaseHeld | None, *, private: str) -> Block:
    """The form of an unlock: whose lock, whether it lives, what stays behind, and why."""
    where = _where(run)
    if driver is not None and isinstance(run, RunView):
        alive = (
            f"⚠️ *{esc(driver.owner)} is ALIVE and drives it* ({where}). `{NAME} abort "
            f"{esc(run.run)}` is the safe way: it stops before the next step and takes back what would be a trap. "
            "Taken away now, an act that is under way on a host still ends there."
        )
    elif driver is not None:
        alive = (
            f"⚠️ *{esc(driver.owner)} is ALIVE and has the lease* ({where}). Taken away now, an act that is under way "
            "on a host still ends there."
        )
    elif isinstance(run, RunView):
        alive = f"*No process drives it* ({where}); a running bot would take it up by itself."
    else:
        alive = f"*No process drives it, and none will* ({where})."
    left = by_hand.left_lines(run.state) if run.state is not None else ()
    stays = "\n".join(f"• {esc(line)}" for line in left) or f"• {esc(nothing_known(run))}"
    whose = f", asked for by {esc(run.state.requested_by)}," if run.state is not None else ""
    holder = holder_of(run.run, driver)
    return modal(
        title="Take the lock away",
        submit="Unlock",
        callback_id=UNLOCK_MODAL,
        private=private,
        blocks=[
            section(f"Run *{esc(run.run)}* of {esc(run.cluster)}{whose} holds the cluster's lock.\n{alive}"),
            section(f"*It ends as it stands, nothing is taken back:*\n{stays}"),
            typed_input(block_id=HOLDER_BLOCK, label="From whom?", hint=f"type exactly: {holder}"),
            typed_input(
                block_id=REASON_BLOCK, label="Why?", hint="kept in the journal and shown in the thread"
            ),
        ],
    )


def _where(run: RunView | UnreadableRun) -> str:
    if isinstance(run, RunView):
        return f"{phase(run.state)}, {progress(run.state)}"
    return f"it cannot be read: {esc(str(run.fault))}"


def nothing_known(run: RunView | UnreadableRun) -> str:
    """What is said where no journal tells of a change."""
    if isinstance(run, RunView):
        return "nothing was changed on any server so far"
    return f"what it did is not known here; `{NAME} status {run.cluster}` shows what it holds on the servers"


def holder_of(run: RunId, driver: LeaseHeld | None) -> str:
    """What must be typed to take the lock away: the living driver's name, else the run's."""
    return driver.owner if driver is not None else run


def lock_taken(taken: LockTaken) -> Message:
    """The lock of a run that cannot be read is gone."""
    run = taken.run
    text = (
        f"🔓 {esc(taken.message)} Run {esc(run.run)} no longer holds the lock of {esc(run.cluster)}; the lines of its "
        f"journal are as they were. `{NAME} recover {esc(run.cluster)}` plans from the servers as they are."
    )
    return finalize(f"Run {run.run} of {run.cluster} was unlocked", [section(text)])


def shown_unreadable(run: UnreadableRun) -> Message:
    """A run that cannot be read, to one person: why, and what it tells up to there."""
    lines = (
        [
            f"{utc_time(event.at_s)} {line.splitlines()[0]}"
            for event in run.events
            if (line := event_line(event, run.state))
        ]
        if run.state is not None
        else []
    )
    over = unlocked_line(run.unlocked) if run.unlocked is not None else ""
    return finalize(
        f"Run {run.run} of {run.cluster} cannot be read",
        [
            section(f"⚠️ *{esc(run.told)}.*\n{esc(over) or only_unlock(run)}"),
            *(
                [section("*Its journal up to there:*\n" + code_block(tuple(lines[-SHOWN_EVENTS:])))]
                if lines
                else []
            ),
            context(
                f"its lines: `redis-cli lrange 'consul-recovery:{{{esc(run.cluster)}}}:run:{esc(run.run)}' 0 -1`"
            ),
        ],
    )


def unlock_errors(holder: str, typed: dict[str, str]) -> dict[str, str]:
    """What was typed wrong, by block id."""
    errors = {}
    if typed.get(HOLDER_BLOCK, "").strip() != holder:
        errors[HOLDER_BLOCK] = f"Type exactly {holder}, or cancel. Nothing was unlocked."
    if not typed.get(REASON_BLOCK, "").strip():
        errors[REASON_BLOCK] = "A reason is needed. Nothing was unlocked."
    return errors


def resumed(view: RunView, driver: LeaseHeld | None, link: str) -> Message:
    """Who drives a run, or that it is taken up now."""
    state = view.state
    where = f"{phase(state)}, {progress(state)}"
    if driver is None:
        text = f"▶️ *Nobody drove run {link}* ({where}); this bot takes it up now. Its thread tells how it goes on."
    else:
        text = f"Run {link} is driven by {esc(driver.owner)}: {where}. Nothing had to be done."
    if phase(state) in {Phase.ASKING, Phase.ASKING_AGAIN, Phase.DECISION}:
        text += " *It waits for people, not for a process:* its card has the buttons."
    return finalize(f"Run {view.run}: {where}", [section(text)])


def shown(view: RunView, link: str, look: Look) -> Message:
    """A run as it stands, to one person: the card without its buttons, and the last events."""
    card = run_card(view, look)
    lines = [
        f"{utc_time(event.at_s)} {line.splitlines()[0]}"
        for event in view.events
        if (line := event_line(event, view.state))
    ]
    return finalize(
        card.text,
        [
            *(block for block in card.blocks if block["type"] != "actions"),
            section("*Last events:*\n" + code_block(tuple(lines[-SHOWN_EVENTS:]))),
            context(f"{link} · the whole journal: `consul-recovery show {esc(view.run)}`"),
        ],
    )


def typing_errors(wanted: Iterable[ServerName], typed: dict[str, str], *, alone: bool) -> dict[str, str]:
    """What was typed wrong, by block id."""
    errors = {
        f"{TYPED_BLOCK}{name}": f"Type exactly {name}, or cancel. Nothing was approved."
        for name in wanted
        if typed.get(f"{TYPED_BLOCK}{name}", "").strip() != name
    }
    if alone and not typed.get(REASON_BLOCK, "").strip():
        errors[REASON_BLOCK] = "A reason is needed. Nothing was approved."
    return errors
