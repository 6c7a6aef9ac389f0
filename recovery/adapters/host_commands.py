"""The verbs of host.sh as Python calls, for one host: how a call is written, what its answer means.

Nothing else is ever run on a host. See host.sh for what each verb does and refuses.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
import time
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Final, NamedTuple, Protocol

import msgspec

from recovery.adapters.journal_lines import without_secrets
from recovery.adapters.shared_question import SharedQuestion
from recovery.boltfile import PageRequest
from recovery.errors import HostBusy, HostHindered, HostRefused, InDoubt
from recovery.model import DirectoryView, HostRun, HostView, Unmounted
from recovery.ports import ActKey
from recovery.walsegment import WalkRequest
from recovery.walsegments import WalFile

INSTALLED_AT: Final = "/usr/local/sbin/consul-recovery-host"
_BUSY: Final = 68
_BEGUN: Final = 70
_REFUSED: Final = range(64, _BEGUN)
_CAME_TO_NOTHING: Final = 71
_READ_TIMEOUT_S: Final = 20.0
_WALK_TIMEOUT_S: Final = 60.0
_CLAIM_TIMEOUT_S: Final = 30.0
"""An older driver's act may be under way there; its lock is waited for."""
_KEPT_S: Final = 0.5
"""How long what an act's answer told is given to whoever asks for it: its proof, and what the next step asks first.

What must not be so late is asked by host.sh itself, under its lock, before it changes anything.
"""


class Answer(Protocol):
    """What a remote command ended with."""

    @property
    def status(self) -> int:
        """Its exit status."""
        ...

    @property
    def stdout(self) -> bytes:
        """What it wrote."""
        ...

    @property
    def stderr(self) -> str:
        """What it complained about."""
        ...


class Runner(Protocol):
    """Runs one command on a host with these bytes on its stdin (see SshPool.run for the errors)."""

    async def run(self, host: str, command: str, *, stdin: bytes, timeout_s: float, patient: bool) -> Answer:
        """Run it to its end; not patient: a failure to connect some seconds ago is an answer."""
        ...


class HostAccess(msgspec.Struct, frozen=True, kw_only=True):
    """How host.sh is called on the hosts."""

    user: str
    """The SSH user; root needs no sudo."""
    unit: str = "consul.service"
    installed: bool = False
    """Whether host.sh lies on the hosts (INSTALLED_AT); else it is streamed with every call."""


class Lines(msgspec.Struct, frozen=True):
    """The `name value` lines of an answer."""

    pairs: tuple[tuple[str, str], ...]

    def text(self, name: str) -> str:
        """Give the value of a name, "" when it is missing."""
        return next((value for found, value in self.pairs if found == name), "")

    def number(self, name: str, default: int = 0) -> int:
        """Give a whole number; the default when it is missing or no number."""
        value = self.text(name)
        return int(value) if value.isascii() and value.lstrip("-").isdecimal() else default

    def has(self, name: str) -> bool:
        """Tell whether the name is there."""
        return any(found == name for found, _ in self.pairs)

    def blobs(self, name: str) -> tuple[bytes, ...]:
        """Give all values of a name out of base64."""
        return tuple(base64.b64decode(value) for found, value in self.pairs if found == name)


class Chunk(msgspec.Struct, frozen=True):
    """Ranges of raft.db, with the file's size and the unit's process at that moment (0: none).

    Where the log is in raft/wal, they are of wal-meta.db, and `wal` is what lies in that folder.
    """

    size: int
    main_pid: int
    ranges: tuple[bytes, ...]
    metas: tuple[bytes, ...] = ()
    """The meta.json of every finished snapshot, where they were asked for."""
    steady: bool = False
    """Whether the file and the process were the same before and after; told where the metas were asked for."""
    wal: dict[str, WalFile] | None = None
    stamp: str = ""
    """What the process and all files in raft/wal were at that moment; "" for a raft.db."""


class Archive(msgspec.Struct, frozen=True):
    """A run's archive on a host: `good`, `damaged` or `none`."""

    state: str
    path: str
    size: int
    sha256: str


class _Told(NamedTuple):
    """What the answer of an act told beside its evidence."""

    at_s: float
    view: HostView
    archive: Archive | None


class PeersFile(msgspec.Struct, frozen=True):
    """raft/peers.json as it lies on a host; content is None when it is missing."""

    content: bytes | None
    owned: bool
    """Whether it (and peers.info, if there) belongs to the owner of raft/."""
    info: bool


def script() -> bytes:
    """Give the text of host.sh as it is shipped in this package."""
    return resources.files("recovery.adapters").joinpath("host.sh").read_bytes()


def parse_lines(stdout: bytes) -> Lines:
    """Split an answer into its names and values."""
    text = stdout.decode(errors="replace")
    pairs = (line.partition(" ") for line in text.splitlines() if line)
    return Lines(tuple((name, value.strip()) for name, _, value in pairs))


def parse_look(lines: Lines) -> HostView:
    """Read the answer of the verb `look`."""
    peers = lines.blobs("peers_json")
    return HostView(
        active_state=lines.text("active_state"),
        enabled=lines.text("enabled") == "yes",
        main_pid=lines.number("main_pid"),
        unit_user=lines.text("unit_user"),
        unit=lines.text("unit"),
        data_dir=lines.text("data_dir"),
        config_problem=lines.text("config_problem"),
        node_name=lines.text("node_name"),
        server=_told(lines.text("server")),
        client_addr=lines.text("client_addr"),
        http_addresses=lines.text("addresses_http"),
        https_addresses=lines.text("addresses_https"),
        http_port=lines.number("port_http"),
        https_port=lines.number("port_https"),
        data_dir_missing=lines.has("data_dir_missing"),
        node_id=lines.text("node_id"),
        version=lines.text("version"),
        raft_db_bytes=lines.number("raft_db_bytes", -1),
        wal=lines.has("wal"),
        lmdb=lines.has("lmdb"),
        snapshots=lines.number("snapshots"),
        peers_info=lines.has("peers_info"),
        peers_json=peers[0].decode(errors="replace") if peers else None,
        held_by=lines.text("held_by"),
        hold_left=lines.text("hold_left"),
        hold_void=lines.text("hold_void"),
        fenced_by=lines.text("fenced_by"),
        fence_void=lines.text("fence_void"),
        running_s=lines.number("running_s", -1),
        run_by=lines.text("run_by"),
        free_bytes=lines.number("free_bytes"),
        state_bytes=lines.number("state_bytes"),
        epoch=lines.number("epoch"),
        epoch_damaged=lines.has("epoch_damaged"),
        last_run=lines.text("last_run"),
        receipts=tuple(value for name, value in lines.pairs if name == "receipt"),
        archived=lines.has("archived"),
        override_by=lines.text("override_by"),
        override=lines.number("override"),
        leave_on_terminate=_told(lines.text("leave_on_terminate")),
    )


def _wal_files(lines: Lines) -> dict[str, WalFile]:
    told = (value.rsplit(" ", 2) for name, value in lines.pairs if name == "file")
    return {name: WalFile(int(size), float(modified_s)) for name, size, modified_s in told}


def _told(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text)


def parse_origin(lines: Lines) -> DirectoryView:
    """Read the answer of the verb `origin`."""
    runs: dict[str, HostRun] = {}
    for name, value in lines.pairs:
        match name, value.split():
            case "run", [run, at_s, archived] if at_s.isdecimal():
                runs[run] = HostRun(run=run, at_s=float(at_s), archived=archived == "archived")
            case "receipt_of", [run, receipt] if run in runs:
                runs[run] = msgspec.structs.replace(runs[run], receipts=(*runs[run].receipts, receipt))
            case _:
                pass
    unmounted = (value.split("\t") for name, value in lines.pairs if name == "unmounted")
    return DirectoryView(
        since_s=float(lines.number("since")),
        unmounted=tuple(
            Unmounted(point=point, named_by=named_by, what=what)
            for point, named_by, what in (each for each in unmounted if len(each) == 3)
        ),
        beneath=lines.text("beneath"),
        hindered=lines.text("hindered"),
        elsewhere=lines.text("elsewhere"),
        not_ours=lines.text("not_ours"),
        volatile=lines.text("volatile"),
        raft_gone=lines.text("raft_gone"),
        led=" ".join(without_secrets(b"".join(lines.blobs("led")).decode(errors="replace")).split())[:200],
        led_at_s=float(lines.number("led_at")),
        runs=tuple(runs.values()),
    )


def _parse_archive(lines: Lines) -> Archive:
    return Archive(lines.text("archive"), lines.text("path"), lines.number("bytes"), lines.text("sha256"))


class Host:
    """One host's verbs.

    Reading raises HostUnreachable or HostRefused. Acting raises also InDoubt: it was sent, its end was not seen.
    """

    def __init__(
        self,
        runner: Runner,
        address: str,
        access: HostAccess,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner = runner
        self.address = address
        self._access = access
        self._script = script()
        self._shared_look = SharedQuestion(self._look)
        self._version = ("none", "")
        self._monotonic_s = monotonic_s
        self._acts_begun = 0
        self._acts_under_way = 0
        self._kept: _Told | None = None

    async def look(self) -> HostView:
        """See all that can be seen without an agent.

        Whoever asks before it has begun shares one look, and right after an act the look that ended it is given.
        """
        told = self._just_told()
        return told.view if told is not None else await self._shared_look()

    def _just_told(self) -> _Told | None:
        kept = self._kept
        return kept if kept is not None and self._monotonic_s() < kept.at_s + _KEPT_S else None

    async def _look(self) -> HostView:
        lines = await self._read("look", self._version[0])
        if lines.text("version"):
            self._version = (lines.text("program"), lines.text("version"))
        return self._seen(lines)

    def _seen(self, lines: Lines) -> HostView:
        view = parse_look(lines)
        if lines.has("version") or lines.text("program") != self._version[0]:
            return view
        # The program is the one that was asked before; asking it again would be half of a look's time.
        return msgspec.structs.replace(view, version=self._version[1])

    async def origin(self) -> DirectoryView:
        """See what tells whether a data directory without Raft data is a new one, or one where data was."""
        return parse_origin(await self._read("origin"))

    async def raft_read(self, ranges: tuple[tuple[int, int], ...], *, snapshots: bool = False) -> Chunk:
        """Read byte ranges (offset, length) of raft.db, fewer bytes at the file's end; `snapshots`: and the metas."""
        wanted = ",".join(f"{offset}:{length}" for offset, length in ranges)
        lines = await self._read("raft-read", wanted, *(("snapshots",) if snapshots else ()))
        return Chunk(
            lines.number("size"),
            lines.number("main_pid"),
            lines.blobs("range"),
            lines.blobs("meta"),
            lines.has("steady"),
            _wal_files(lines) if lines.has("wal") else None,
            lines.text("stamp"),
        )

    async def wal_read(self, parts: Sequence[PageRequest]) -> Chunk:
        """Read parts of the files in raft/wal (a request's `file` is the name there), or walk through segments."""
        wanted = ",".join(
            f"{part.file}:walk:{part.checked:d}"
            if isinstance(part, WalkRequest)
            else f"{part.file}:{part.offset}:{part.length}"
            for part in parts
        )
        lines = await self._read("wal-read", wanted, timeout_s=_WALK_TIMEOUT_S)
        return Chunk(0, lines.number("main_pid"), lines.blobs("range"), stamp=lines.text("stamp"))

    async def snapshot_metas(self) -> tuple[bytes, ...]:
        """Give the meta.json of every finished snapshot."""
        return (await self._read("raft-snapshots")).blobs("meta")

    async def peers_file(self) -> PeersFile:
        """See raft/peers.json and whose it is."""
        lines = await self._read("peers")
        content = lines.blobs("content")
        return PeersFile(
            content[0] if content else None,
            "foreign" not in (lines.text("peers.json"), lines.text("peers.info")),
            lines.has("peers.info"),
        )

    async def info(self, token: str) -> str:
        """Give the text of `consul info`."""
        lines = await self._read("info", payload=token)
        return b"".join(lines.blobs("info")).decode(errors="replace")

    async def journal(self, count: int) -> tuple[str, ...]:
        """Give the unit's last journal lines since the host's boot, as they are: they may hold secrets."""
        lines = await self._read("journal", str(count))
        return tuple(b"".join(lines.blobs("lines")).decode(errors="replace").splitlines())

    async def receipt(self, key: ActKey) -> bool:
        """Tell whether the host has a receipt for this try."""
        lines = await self._read("receipt", key.run, key.step, str(key.attempt), key.direction, patient=True)
        return lines.text("receipt") == "done"

    async def archive(self, run: str) -> Archive:
        """Check a run's archive: it is there, its checksum is right, and it holds raft/.

        Right after an act, what its answer told is given.
        """
        told = self._just_told()
        if told is not None and told.view.last_run == run:
            if told.archive is not None:
                return told.archive
            if not told.view.archived:
                return Archive("none", "", 0, "")
        return _parse_archive(await self._read("archive-check", run, timeout_s=120.0))

    async def snapshot(self, run: str) -> str:
        """Give the path of a run's stale snapshot, "" when there is none."""
        return (await self._read("snapshot-check", run)).text("path")

    async def claim(self, key: ActKey) -> None:
        """Have the host refuse every driver with a lower epoch than this one's; nothing else is changed."""
        words = (key.run, key.step, str(key.attempt), key.direction, key.owner, str(key.epoch))
        await self._call("claim", words, payload="", timeout_s=_CLAIM_TIMEOUT_S, patient=False)

    async def close(self, run: str) -> None:
        """Have the host refuse whatever is still on its way for a run that is over."""
        await self._call("close", (run,), payload="", timeout_s=_CLAIM_TIMEOUT_S, patient=False)

    async def act(self, verb: str, key: ActKey, *extra: str, payload: str = "", timeout_s: float) -> str:
        """Call a verb that changes the host; gives its one line of evidence."""
        self._kept = None
        self._acts_begun += 1
        this, alone = self._acts_begun, self._acts_under_way == 0
        self._acts_under_way += 1
        try:
            lines = await self._call(
                verb,
                (key.run, key.step, str(key.attempt), key.direction, key.owner, str(key.epoch), *extra),
                payload=payload,
                timeout_s=timeout_s,
                patient=True,
            )
        finally:
            self._acts_under_way -= 1
        # Two acts at once: nobody knows which look is the later one. And of a program that was put there since
        # nobody knows the version yet.
        alone = alone and this == self._acts_begun
        if alone and lines.has("looked") and lines.text("program") == self._version[0]:
            archive = _parse_archive(lines) if lines.has("archive") else None
            self._kept = _Told(self._monotonic_s(), self._seen(lines), archive)
        evidence = lines.text("evidence")
        return f"done before: {evidence}" if lines.has("skipped") else evidence

    async def _read(
        self,
        verb: str,
        *arguments: str,
        payload: str = "",
        timeout_s: float = _READ_TIMEOUT_S,
        patient: bool = False,
    ) -> Lines:
        try:
            return await self._call(verb, arguments, payload=payload, timeout_s=timeout_s, patient=patient)
        except InDoubt as doubt:
            raise HostHindered(f"It was only a look ({verb}), nothing was changed. {doubt}") from None

    async def _call(
        self, verb: str, arguments: tuple[str, ...], *, payload: str, timeout_s: float, patient: bool
    ) -> Lines:
        words = (verb, self._access.unit, *arguments)
        sudo = "" if self._access.user == "root" else "sudo -n "
        if self._access.installed:
            sha256 = hashlib.sha256(self._script).hexdigest()
            command = f"{sudo}{INSTALLED_AT} {sha256} {shlex.join(words)}"
            stdin = payload.encode()
        else:
            command = f"{sudo}/bin/sh -s"
            stdin = f"set -- {shlex.join(words)}\nPAYLOAD={shlex.quote(payload)}\n".encode() + self._script
        answer = await self._runner.run(
            self.address, command, stdin=stdin, timeout_s=timeout_s, patient=patient
        )
        if answer.status != 0:
            raise self._fault(verb, answer)
        return parse_lines(answer.stdout)

    def _fault(self, verb: str, answer: Answer) -> HostRefused | InDoubt:
        reason = answer.stderr.splitlines()[-1] if answer.stderr else f"exit status {answer.status}"
        if answer.status == _BUSY:
            return HostBusy(f"{self.address}: {reason}. Nothing was changed by this step ({verb}).")
        if answer.status in _REFUSED:
            return HostRefused(f"{self.address}: {reason}. Nothing was changed by this step ({verb}).")
        if answer.status == _CAME_TO_NOTHING:
            return HostRefused(f"{self.address}: {reason}. This step ({verb}) left the server as it was.")
        if answer.status == _BEGUN:
            return InDoubt(
                f"{self.address}: {reason}. It was begun ({verb}); look at the host before going on."
            )
        if "sudo:" in answer.stderr or "sudoers" in answer.stderr or "sudo" in reason:
            return HostRefused(
                f"{self.address}: sudo does not let {self._access.user} do this ({reason}). Nothing was done. "
                f"Put this line into a file in /etc/sudoers.d (see config/sudoers): {self._sudoers()}"
            )
        return InDoubt(
            f"{self.address}: {verb} ended unexpectedly ({reason}). Look at the host before going on."
        )

    def _sudoers(self) -> str:
        allowed = f"{INSTALLED_AT}" if self._access.installed else "/bin/sh -s"
        return f"{self._access.user} ALL=(root) NOPASSWD: {allowed}"
