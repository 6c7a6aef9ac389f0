"""Watches a lab for two leaders: asks every server, five times a second, whether it names itself leader.

One server may name itself leader while another already leads, for as long as its lease lasts: that is Raft and
no harm. Longer than that, seen in successive samples, is two leaders.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from lab.agent import ask_agent
from lab.cluster import LEADER_LEASE_S, Cluster, leadership_path, names_itself_leader
from lab.datacentre import Lab
from lab.errors import LabError

SAMPLE_EVERY_S = 0.2
# Longer than an agent that is well ever takes; shorter than what would hide a change of leader.
ANSWER_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One question to one server: when it was asked and answered (monotonic seconds), and whether it leads.

    A server that did not answer does not lead. `address` tells a replaced machine from its predecessor.
    """

    server: str
    address: str
    asked_s: float
    answered_s: float
    leads: bool


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two servers that named themselves leader at the same time, from and to (monotonic seconds)."""

    servers: tuple[str, str]
    since_s: float
    until_s: float

    def __str__(self) -> str:
        first, second = self.servers
        return f"{first} and {second} both named themselves leader for {self.until_s - self.since_s:.2f} s"


@dataclass(frozen=True, slots=True)
class _Reign:
    server: str
    since_s: float
    until_s: float


def _reigns(samples: Sequence[Sample]) -> list[_Reign]:
    """Return the times in which one server named itself leader in successive samples.

    From the first answer to the last question: what it certainly was, not what it may have been.
    """
    found: list[_Reign] = []
    for leads, group in itertools.groupby(samples, key=lambda sample: sample.leads):
        if leads:
            run = list(group)
            found.append(_Reign(f"{run[0].server} ({run[0].address})", run[0].answered_s, run[-1].asked_s))
    return found


def overlaps(samples: Sequence[Sample], *, longer_than_s: float) -> list[Overlap]:
    """Return every moment longer than a leader's lease in which two servers named themselves leader."""
    by_machine: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        by_machine.setdefault((sample.server, sample.address), []).append(sample)
    found: list[Overlap] = []
    for one, other in itertools.combinations([_reigns(taken) for taken in by_machine.values()], 2):
        for first, second in itertools.product(one, other):
            since_s, until_s = max(first.since_s, second.since_s), min(first.until_s, second.until_s)
            if until_s - since_s > longer_than_s:
                found.append(Overlap((first.server, second.server), since_s, until_s))
    return found


class LeaderSampler:
    """Samples a lab's servers while its block runs; survives reboots, replacements and an empty lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._task: asyncio.Task[None] | None = None
        self._busy: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._lease_s = LEADER_LEASE_S
        self.samples: list[Sample] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="leader sampler")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            ended = await asyncio.gather(self._task, return_exceptions=True)
            # A sampler that died has seen nothing, which must not look like "no second leader".
            for result in ended:
                if isinstance(result, Exception):
                    raise result

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as asking:
            while True:
                if self._lab.has_hosts:
                    cluster = self._lab.cluster
                    self._lease_s = max(self._lease_s, cluster.leader_lease_s)
                    for host in cluster.servers:
                        key = (host.name, host.address)
                        # One question at a time: answers of one server then come in the order of asking.
                        if key not in self._busy or self._busy[key].done():
                            self._busy[key] = asking.create_task(self._sample(key, cluster))
                await asyncio.sleep(SAMPLE_EVERY_S)

    async def _sample(self, key: tuple[str, str], cluster: Cluster) -> None:
        name, address = key
        asked_s = time.monotonic()
        try:
            network = self._lab.host(name).network
            version = cluster.settings.program.version
            answer = await ask_agent(
                network, leadership_path(version), token=cluster.token, timeout_s=ANSWER_WITHIN_S
            )
            leads = names_itself_leader(answer, address=address, version=version)
        except (OSError, ValueError, LabError):
            # Powered off, being replaced, silent, or killed in the middle of its answer: nobody there leads.
            leads = False
        self.samples.append(Sample(name, address, asked_s, time.monotonic(), leads))

    def two_leaders(self) -> list[Overlap]:
        """Return the moments seen so far in which two servers led for longer than a leader's lease."""
        return overlaps(self.samples, longer_than_s=self._lease_s)

    def assert_one_leader(self) -> None:
        """Raise AssertionError if two servers named themselves leader for longer than a lease."""
        seen = self.two_leaders()
        if seen:
            raise AssertionError("; ".join(str(overlap) for overlap in seen))
