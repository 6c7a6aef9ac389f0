"""A log in raft/wal as it is read over SSH: few calls, few bytes, and nothing that changed meanwhile."""

import base64
import shlex
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from recovery.adapters.collect import Probe
from recovery.adapters.consul_api import AgentAccess
from recovery.adapters.host_commands import HostAccess
from recovery.adapters.ssh import SshPool
from recovery.model import ClusterName, ClusterSpec, HostView, ServerName, ServerSpec, StoredLog
from recovery.raftentry import LogPosition
from recovery.walsegment import walked

DATA = Path(__file__).parents[3] / "data" / "wal"
S1 = ServerName("s1")


@dataclass(frozen=True)
class Ended:
    stdout: bytes
    status: int = 0
    stderr: str = ""


@dataclass
class WalHost:
    """A host whose stopped server is a captured one; it answers the verbs that read a log as host.sh does."""

    name: str
    verbs: list[str] = field(default_factory=list)
    wanted: list[str] = field(default_factory=list)
    told_bytes: int = 0
    main_pid: int = 0
    stamp: str = "stamp-1"
    steady: bool = True
    meanwhile: Callable[["WalHost"], object] = lambda _host: None
    """Called before the second call is answered."""

    def __post_init__(self) -> None:
        self.files: dict[str, tuple[bytes, int]] = {}
        self.metas: list[bytes] = []
        with tarfile.open(DATA / f"{self.name}.tar.gz") as archive:
            for member in archive:
                path = Path(member.name)
                if (file := archive.extractfile(member)) and path.parent.name == "wal":
                    self.files[path.name] = (file.read(), int(member.mtime))
                elif file and path.name == "meta.json":
                    self.metas.append(file.read())

    async def run(self, host: str, command: str, *, stdin: bytes, timeout_s: float, patient: bool) -> Ended:
        del host, command, timeout_s, patient
        _, _, verb, _, wanted, *_ = shlex.split(stdin.decode().splitlines()[0])
        self.verbs.append(verb)
        self.wanted.append(wanted)
        if len(self.verbs) == 2:
            self.meanwhile(self)
        lines = [f"main_pid {self.main_pid}"]
        parts = [part.split(":") for part in wanted.split(",")]
        if verb == "raft-read":
            lines += ["wal yes", f"stamp {self.stamp}", *(["steady yes"] if self.steady else [])]
            lines += [f"file {name} {len(data)} {at}" for name, (data, at) in self.files.items()]
            lines += [f"meta {base64.b64encode(meta).decode()}" for meta in self.metas]
            parts = [["wal-meta.db", *part] for part in parts] if "wal-meta.db" in self.files else []
        lines += [f"range {base64.b64encode(self._part(*part)).decode()}" for part in parts]
        if verb == "wal-read":
            lines.append(f"stamp {self.stamp}")
        told = "\n".join(lines).encode()
        self.told_bytes += len(told)
        return Ended(told)

    def _part(self, name: str, offset: str, length: str) -> bytes:
        data = self.files[name][0]
        if offset == "walk":
            return walked(lambda at, count: data[at : at + count], len(data), checked=length == "1")
        return data[int(offset) : int(offset) + int(length)]


def probe_of(host: WalHost, now_s: Sequence[float] = (0.0,)) -> Probe:
    spec = ClusterSpec(ClusterName("dc1"), (ServerSpec(S1, "198.51.100.11"),))
    pool = cast("SshPool", host)
    return Probe(
        spec, pool=pool, host=HostAccess(user="root"), agent=AgentAccess(), monotonic_s=lambda: now_s[0]
    )


def view() -> HostView:
    return HostView(
        active_state="inactive",
        enabled=True,
        main_pid=0,
        unit_user="consul",
        data_dir="/var/lib/consul",
        wal=True,
    )


async def test_a_stopped_servers_log_costs_few_calls_and_some_kib() -> None:
    """Where it ends, its term, and its peers, which are the newest snapshot's."""
    host = WalHost("5-tail-cut")

    stored = await probe_of(host).stored(S1, view())

    assert isinstance(stored, StoredLog), stored
    assert (stored.last, stored.term, len(stored.configuration)) == (LogPosition(4, 946), 4, 3)
    assert host.verbs == ["raft-read", "wal-read", "wal-read", "wal-read"]
    assert host.told_bytes < 140_000


async def test_a_walk_is_made_once_while_nothing_changes() -> None:
    """A run reads a stopped log many times; after ten minutes, or once a file is another one, it is walked anew."""
    host, now_s = WalHost("1-one-segment-killed"), [0.0]
    probe = probe_of(host, now_s)

    def walks() -> int:
        return sum("walk" in wanted for wanted in host.wanted)

    for _ in range(3):
        assert isinstance(await probe.stored(S1, view()), StoredLog)
    assert walks() == 1
    host.stamp = "stamp-2"
    await probe.stored(S1, view())
    assert walks() == 2
    now_s[0] = 601.0
    await probe.stored(S1, view())
    assert walks() == 3


async def test_an_unsound_log_is_said_with_its_reason_and_is_not_blank() -> None:
    """What bars the way stands in one sentence."""
    stored = await probe_of(WalHost("made-segment-missing")).stored(S1, view())

    assert isinstance(stored, str)
    assert stored.startswith("raft/wal cannot be read: it is unsound: its database knows the segment")


async def test_an_empty_folder_beside_nothing_is_a_blank_server() -> None:
    """An agent was stopped right after it had made the folder."""
    host = WalHost("made-segment-missing")
    host.files = {}

    stored = await probe_of(host).stored(S1, view())

    assert stored == StoredLog(last=None, term=0, configuration=())


@pytest.mark.parametrize(
    ("meanwhile", "reason"),
    [
        (lambda host: setattr(host, "main_pid", 77), "was started while its log was read"),
        (lambda host: setattr(host, "stamp", "stamp-2"), "was written to while it was read"),
    ],
)
async def test_what_changes_while_it_is_read_is_not_believed(
    meanwhile: Callable[[WalHost], object], reason: str
) -> None:
    """An agent that starts, or a file that is another one than at first."""
    host = WalHost("1-one-segment-killed", meanwhile=meanwhile)

    stored = await probe_of(host).stored(S1, view())

    assert isinstance(stored, str)
    assert reason in stored


async def test_a_running_agents_log_is_not_read() -> None:
    """It writes to it."""
    stored = await probe_of(WalHost("1-one-segment-killed", main_pid=77)).stored(S1, view())

    assert isinstance(stored, str)
    assert "the agent runs (process 77)" in stored
