"""What `/consul status` shows: StatusReport -> Message. Pure."""

from __future__ import annotations

from bot.blocks import Block, Message, actions, button, code_block, context, date, esc, finalize, section
from bot.buttons import AGAIN, RECOVER, REFRESH
from bot.commands import NAME
from bot.wording import (
    clients_line,
    count,
    duration,
    phase,
    progress,
    server_rows,
    situation_mark,
    table,
    utc_time,
)
from recovery.diagnosis import Degraded, Healthy, MajorityGone, OutOfSight, ServersStopped, TwoLeaders
from recovery.diagnosis.evidence import server_line
from recovery.forgotten import told
from recovery.runs import UnreadableRun
from recovery.service import StatusReport

MOST_EVIDENCE = 12


def status_card(report: StatusReport, *, note: str = "") -> Message:
    """The verdict, the servers, what was seen, and one recommended act."""
    diagnosis = report.diagnosis
    headline = f"{situation_mark(diagnosis)} {diagnosis.headline}"
    blocks: list[Block] = [section(f"*{esc(headline)}*")]
    if not isinstance(diagnosis, Healthy | Degraded | TwoLeaders | OutOfSight):
        blocks.append(section(_effect(report)))
    blocks.append(section(code_block(table(server_rows(report.observation.servers)))))
    if not isinstance(diagnosis, Healthy):
        seen = telling(report)
        if seen:
            blocks.append(section("*What was seen:*\n" + "\n".join(f"• {esc(line)}" for line in seen)))
        blocks.append(section(f"*Next:* {esc(diagnosis.advice)}"))
    blocks.append(context(_source(report)))
    if clients := clients_line(report.observation):
        blocks.append(context(esc(clients)))
    if note:
        blocks.append(context(note))
    blocks += [section(f"⚠️ {esc(line)}") for line in told(report.left)]
    if report.left:
        blocks.append(
            section(
                f"A new plan goes on from here, and takes over what it holds: `/consul recover {report.cluster}`"
            )
        )
    if report.memory_problem:
        blocks.append(context(f"⚠️ {esc(report.memory_problem)}"))
    if report.store_problem:
        blocks.append(context(f"⚠️ Runs cannot be shown: {esc(report.store_problem)}"))
    if report.unreadable is not None:
        blocks.append(
            section(
                f"🔒 *The lock is held:* {esc(report.unreadable.told)}.\n{only_unlock(report.unreadable)}"
            )
        )
    if report.active is not None:
        active = report.active
        blocks.append(
            context(
                f"🔒 Run {esc(active.run)} by {esc(active.state.requested_by)}: "
                f"{phase(active.state)}, {progress(active.state)}"
            )
        )
    blocks.append(_buttons(report))
    return finalize(headline, blocks)


def only_unlock(run: UnreadableRun) -> str:
    """What is left to do with it (mrkdwn)."""
    return (
        f"Nobody drives it, and nobody can approve, abort or retry it. `{NAME} unlock {esc(run.run)}` takes its lock "
        f"away; the lines of its journal stay as they are. `{NAME} status {esc(run.cluster)}` shows what it holds on "
        "the servers."
    )


def _buttons(report: StatusReport) -> Block:
    locked = report.active is not None or report.unreadable is not None
    shown = [button("Refresh", action=REFRESH, value=report.cluster)]
    curable = isinstance(report.diagnosis, ServersStopped | MajorityGone) or (
        isinstance(report.diagnosis, Degraded) and report.diagnosis.stopped
    )
    if (over := next((holder for holder in report.held if holder.over), None)) and not locked:
        shown.insert(0, button(f"Plan run {over.run} again…", action=AGAIN, value=over.run, style="primary"))
    elif curable and not locked and not report.store_problem:
        # It changes nothing: what it proposes waits for approval.
        shown.insert(0, button("Plan recovery…", action=RECOVER, value=report.cluster, style="primary"))
    return actions(f"status:{report.cluster}:{int(report.observation.taken_at_s * 1000)}", *shown)


def _effect(report: StatusReport) -> str:
    stale = any(
        server.agent is not None and server.agent.stale_reads for server in report.observation.servers
    )
    works = (
        "*Still works:* DNS and `?stale` reads, with what was known before."
        if stale
        else "*Still works:* no server was seen to answer stale reads."
    )
    return f"*Fails now:* KV writes, locks, registrations, ACL changes, consistent reads. {works}"


def telling(report: StatusReport) -> tuple[str, ...]:
    """The evidence without what the table says already."""
    plain = {
        server_line(server)
        for server in report.observation.servers
        if server.host is not None
        and server.agent is not None
        and server.host.running
        and server.host.peers_json is None
        and not server.host.held_by
    }
    lines = [line for line in report.diagnosis.evidence if line not in plain]
    if len(lines) > MOST_EVIDENCE:
        more = count(len(lines) - MOST_EVIDENCE, "line")
        return (*lines[:MOST_EVIDENCE], f"{more} more: consul-recovery status {report.cluster}")
    return tuple(lines)


def _source(report: StatusReport) -> str:
    servers = report.observation.servers
    reached = sum(server.reached for server in servers)
    at_s = report.observation.taken_at_s
    return (
        f"{reached} of {count(len(servers), 'host')} answered · looked at {date(at_s)} ({utc_time(at_s)}), "
        f"took {duration(report.took_s) if report.took_s >= 1 else f'{report.took_s:.1f} s'}"
    )
