"""What it costs to see how far a stopped server is: seconds and bytes over SSH, for logs as large as they become."""

import base64
import gzip
import struct
import tarfile
import time
from pathlib import Path

from bench.page import Section, spread, table
from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from lab.errors import LabError
from lab.host import CONSUL_DATA, Host
from recovery.adapters.collect import Probe
from recovery.adapters.consul_api import AgentAccess
from recovery.adapters.host_commands import HostAccess
from recovery.adapters.ssh import Completed, SshAccess, SshPool
from recovery.model import ClusterName, ClusterSpec, ServerName, ServerSpec, StoredLog
from recovery.walsegment import crc32c, header_of

TIMES = 5
SEGMENT_BYTES = 64 << 20
RAFT = f"/{CONSUL_DATA}/raft"
CAPTURED = Path(__file__).parents[1] / "tests/data/wal/1-one-segment-killed.tar.gz"


class Metered(SshPool):
    """Counts the calls and the bytes of both directions."""

    calls = 0
    moved_bytes = 0

    async def run(
        self, host: str, command: str, *, stdin: bytes, timeout_s: float, patient: bool = True
    ) -> Completed:
        """Run it, and count it."""
        done = await super().run(host, command, stdin=stdin, timeout_s=timeout_s, patient=patient)
        self.calls += 1
        self.moved_bytes += len(stdin) + len(done.stdout)
        return done


async def measure(lab: Lab) -> Section:
    """Read stopped servers' logs: a small raft.db, one of 8 GiB, and full segments of a WAL."""
    await lab.up(servers=3)
    s1, s2, s3 = lab.servers
    for host in lab.servers:
        await stop_without_leave(host)
    rows = [await _row(lab, s1, "raft.db, small")]
    await s1.run(f"truncate --size=8G {RAFT}/raft.db")
    rows.append(await _row(lab, s1, "raft.db, 8 GiB (sparse)"))
    for host, data_bytes, what in ((s2, 100, "small entries"), (s3, 64 << 10, "entries of 64 KiB")):
        count = await _full_segment(host, data_bytes)
        rows.append(await _row(lab, host, f"WAL, a full tail of 64 MiB, {count} {what}"))
    text = (
        "Where a stopped server's log ends, with its term, vote and peers, over an SSH connection that is open; "
        f"{TIMES} times each. A WAL's tail is walked through on the host, with every checksum; *again* is the median "
        "of a second look within ten minutes, for which an unchanged one is not walked through anew. *Moved* is both "
        "directions at the first look, host.sh itself (it is streamed with each call) among it. Run it with "
        "`python -m bench ranking`.\n\n"
        + table(("log", "median", "min", "max", "again", "calls", "KiB moved"), rows)
    )
    return Section("ranking", text)


async def _row(lab: Lab, host: Host, what: str) -> tuple[str, ...]:
    pool = Metered(
        SshAccess(user=lab.ssh_user, key_path=str(lab.ssh_key), known_hosts_path=str(lab.known_hosts))
    )
    name = ServerName(host.name)
    spec = ClusterSpec(ClusterName("bench"), (ServerSpec(name, host.address),))
    first_s: list[float] = []
    again_s: list[float] = []
    told: StoredLog | str = ""
    calls = moved_bytes = 0
    try:
        for _ in range(TIMES):
            probe = Probe(spec, pool=pool, host=HostAccess(user=lab.ssh_user), agent=AgentAccess())
            view = await probe.hosts[name].look()
            for times_s in (first_s, again_s):
                pool.calls = pool.moved_bytes = 0
                began_s = time.monotonic()
                told = await probe.stored(name, view)
                times_s.append(time.monotonic() - began_s)
                if times_s is first_s:
                    calls, moved_bytes = pool.calls, pool.moved_bytes
    finally:
        await pool.aclose()
    if isinstance(told, str):
        raise LabError(f"{what}: {told}")
    print(
        f"ranking: {what}: {told.last}; {' '.join(f'{each:.2f}' for each in first_s + again_s)}", flush=True
    )
    return (what, *spread(first_s), spread(again_s)[0], str(calls), str(moved_bytes // 1024))


async def _full_segment(host: Host, data_bytes: int) -> int:
    """Put a WAL with one full tail in the place of a host's log; gives the number of its entries."""
    content, index = bytearray(header_of(1, 0, 1)), 0
    while len(content) + data_bytes + 64 < SEGMENT_BYTES:
        index += 1
        payload = (
            _varint(index) + b"\x02\x00" + _varint(data_bytes) + bytes([index % 256]) * data_bytes
            + b"\x00\x01" + struct.pack(">qIh", 63_900_000_000, 0, -1)
        )  # fmt: skip
        begun = len(content) if index > 1 else 0
        content += struct.pack("<BxxxI", 1, len(payload)) + payload + bytes(-len(payload) % 8)
        content += struct.pack("<BxxxI", 3, crc32c(bytes(content[begun:])))
    with tarfile.open(CAPTURED) as archive:
        database = archive.extractfile("raft/wal/wal-meta.db")
        if database is None:
            raise AssertionError(CAPTURED)
        meta = database.read()
    await host.run(f"rm -rf {RAFT}/raft.db {RAFT}/snapshots && mkdir {RAFT}/wal")
    name = "00000000000000000001-0000000000000000.wal"
    for file, data in (("wal-meta.db", meta), (name, bytes(content).ljust(SEGMENT_BYTES, b"\0"))):
        packed = base64.b64encode(gzip.compress(data, 1)).decode()
        await host.run(f"base64 -d | gunzip >{RAFT}/wal/{file}", stdin=packed)
    return index


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
