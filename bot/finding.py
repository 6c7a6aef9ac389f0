"""What the doctor found: values, and how they read in a terminal and as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    """How one check ended."""

    OK = "ok"
    WARNING = "warning"
    """The bot works, with a risk that somebody should know of."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """Could not be looked at, because of an earlier one that failed."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check of the set-up."""

    check: str
    """The step of the set-up: settings, secrets, slack, redis, ..."""
    subject: str
    """What was looked at: a file, a channel, a server."""
    verdict: Verdict
    message: str
    next_step: str = ""
    """What to do; empty where all is well."""


def ok(check: str, subject: str, message: str) -> Finding:
    """All is well here."""
    return Finding(check=check, subject=subject, verdict=Verdict.OK, message=message)


def warning(check: str, subject: str, message: str, *, next_step: str) -> Finding:
    """It works, with a risk."""
    return Finding(
        check=check, subject=subject, verdict=Verdict.WARNING, message=message, next_step=next_step
    )


def failed(check: str, subject: str, message: str, *, next_step: str) -> Finding:
    """It does not work."""
    return Finding(check=check, subject=subject, verdict=Verdict.FAILED, message=message, next_step=next_step)


def skipped(check: str, subject: str, message: str) -> Finding:
    """It could not be looked at."""
    return Finding(check=check, subject=subject, verdict=Verdict.SKIPPED, message=message)


def exit_code(findings: Sequence[Finding]) -> int:
    """1 if anything failed, else 0."""
    return 1 if any(finding.verdict is Verdict.FAILED for finding in findings) else 0


_WORDS = {
    Verdict.OK: "ok",
    Verdict.WARNING: "WARNING",
    Verdict.FAILED: "FAILED",
    Verdict.SKIPPED: "skipped",
}


def render_text(findings: Sequence[Finding]) -> str:
    """One line a finding with the next step below it, and the sum at the end; words, not colours alone."""
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{_WORDS[finding.verdict]:8} {finding.check}: {finding.subject}: {finding.message}")
        if finding.next_step:
            lines.append(f"{'':8} -> {finding.next_step}")
    counts = {verdict: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}
    lines.append("")
    lines.append(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))
    return "\n".join(lines)


def render_json(findings: Sequence[Finding]) -> str:
    """The same for programs: ``{"ok": ..., "findings": [...]}``."""
    return json.dumps(
        {"ok": exit_code(findings) == 0, "findings": [msgspec.to_builtins(finding) for finding in findings]},
        indent=2,
    )
