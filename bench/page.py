"""docs/benchmarks.md: one section a benchmark, each with its own date and machine, replaced when run again."""

import os
import platform
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_HEAD = """# Benchmarks

Written by `make bench` (root; the lab's hosts on this one machine). Times are in seconds. What is compared was
measured in turns in one run on the same hosts; numbers of different sections or machines are not comparable.
"""


@dataclass(frozen=True, slots=True)
class Section:
    """One benchmark's part of the page, without its heading and its machine."""

    title: str
    text: str


def machine() -> str:
    """Say when and on what kind of machine: cores, memory, kind of kernel."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}; {len(os.sched_getaffinity(0))} cores, {memory_gib:.0f} GiB, "
        f"{platform.system()} {platform.machine()}."
    )


def put(page: Path, section: Section) -> None:
    """Put a section into the page, in the place of the one with the same title or at the end."""
    old = page.read_text(encoding="utf-8") if page.exists() else _HEAD
    sections = {part.splitlines()[0]: part.strip() for part in re.split(r"(?m)^## ", old)[1:]}
    sections[section.title] = f"{section.title}\n\n{section.text}\n\n{machine()}"
    page.write_text(
        _HEAD + "".join(f"\n## {text}\n" for text in sections.values()),
        encoding="utf-8",
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table that can be read as it is."""
    lines = [tuple(heads), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    written = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([written[0], rule, *written[1:]])


def spread(times_s: Sequence[float]) -> tuple[str, str, str]:
    """Give median, least and greatest of some times, as cells."""
    return (f"{statistics.median(times_s):.2f}", f"{min(times_s):.2f}", f"{max(times_s):.2f}")
