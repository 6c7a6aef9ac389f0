"""Which of the lab's tests fit the program that LAB_CONSUL names, and what a run is told of the others.

Without LAB_CONSUL each has the lab's own Consul, and those about Consul below 0.7 have the stand-in. A test about
versions that are not at hand is left out, and the run says so: nothing was tested of it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.agent import consul_program
from lab.errors import LabError

Version = tuple[int, int, int]

OLD: Version = (0, 7, 0)
"""Below it peers.json is Raft's own, and the staged bootstrap is for those."""
PACKAGED: Version = (1, 8, 7)
"""What the lab has by itself, beside the stand-in of 0.6.4."""


@dataclass(frozen=True, slots=True)
class Given:
    """The program that LAB_CONSUL names."""

    path: str
    version: Version

    def __str__(self) -> str:
        return f"LAB_CONSUL is Consul {told(self.version)} ({self.path})"


@dataclass(frozen=True, slots=True)
class Fit:
    """The versions that a test is about."""

    since: Version = OLD
    below: Version | None = None

    def takes(self, version: Version) -> bool:
        """Whether it is about this version."""
        return self.since <= version and (self.below is None or version < self.below)

    def __str__(self) -> str:
        if self.below is None:
            return f"Consul since {told(self.since)}"
        first = f" since {told(self.since)} and" if self.since > (0, 0, 0) else ""
        return f"Consul{first} below {told(self.below)}"


def told(version: Version) -> str:
    """A version as people write it."""
    return ".".join(str(part) for part in version)


def given_program() -> Given | None:
    """Ask the program of LAB_CONSUL for its version; None where it is not set."""
    path = os.environ.get("LAB_CONSUL")
    if not path:
        return None
    try:
        return Given(path, consul_program(Path("/"), Path(path)).version)
    except LabError as error:
        raise pytest.UsageError(str(error)) from None


def fit_of(item: pytest.Item) -> Fit | None:
    """What a test is about; None where no agent's version matters to it."""
    if item.get_closest_marker("lab") is None:
        return None
    if item.get_closest_marker("old_consul") is not None:
        return Fit(since=(0, 0, 0), below=OLD)
    marker = item.get_closest_marker("consul")
    return Fit() if marker is None else Fit(**marker.kwargs)


def left_out(items: list[pytest.Item], given: Given | None) -> dict[pytest.Item, Fit]:
    """The tests that are about versions other than those at hand, each with what it is about."""
    at_hand = (PACKAGED, (0, 6, 4)) if given is None else (given.version,)
    fits = {item: fit for item in items if (fit := fit_of(item)) is not None}
    return {item: fit for item, fit in fits.items() if not any(fit.takes(version) for version in at_hand)}


def summary(given: Given | None, *, ran: int, unfit: Mapping[pytest.Item, Fit]) -> list[str]:
    """What was run with the program, and what was not."""
    lines = [] if given is None else [f"{given}: {ran} tests ran that fit it."]
    about = Counter(str(fit) for item, fit in unfit.items() if item.get_closest_marker("soak") is None)
    return lines + [
        f"Not run: {number} about {fit}; give one: make test-consul CONSUL=/path/to/consul"
        for fit, number in sorted(about.items())
    ]
