"""The lab's own Redis: the hermetic root's server, on the loopback of the control network only."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from lab.cgroup import Cgroup
from lab.errors import LabError
from lab.namespaces import tcp_socket_in

# Not Redis' own port: a mistaken client of this machine never meets the lab's store, nor ours the machine's.
PORT = 6390

_INIT = Path(__file__).with_name("redis_init.sh")


@dataclass(frozen=True, slots=True)
class RedisServer:
    """Redis in the control network; its data lives on the lab's tmpfs and survives stop and kill."""

    root: Path
    folder: Path
    control: Path
    cgroup: Cgroup

    @property
    def url(self) -> str:
        """The address for clients inside the control network (after Lab.enter)."""
        return f"redis://127.0.0.1:{PORT}/0"

    def start(self, *, timeout_s: float = 10.0) -> None:
        """Start the server if it does not run, and wait until it answers."""
        if self.cgroup.processes():
            return
        for part in ("upper", "work", "merged", "data"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        owner = (self.root / "var/lib/redis").stat()
        os.chown(self.folder / "data", owner.st_uid, owner.st_gid)
        log = self.folder / "redis.log"
        self.cgroup.spawn(
            [
                *("nsenter", f"--net={self.control}", "unshare", "--mount"),
                *("sh", str(_INIT), str(self.root), str(self.folder), str(PORT)),
            ],
            log=log,
        )
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if time.monotonic() > deadline:
                told = log.read_text(encoding="utf-8", errors="replace")[-1000:]
                raise LabError(f"The lab's Redis did not start within {timeout_s:.0f} s. It said:\n{told}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with tcp_socket_in(self.control) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(("127.0.0.1", PORT))
                probe.sendall(b"PING\r\n")
                return probe.recv(7) == b"+PONG\r\n"
            except OSError:
                return False

    def require_password(self, password: str, *, now: str = "") -> None:
        """Let the running server ask every new connection for a password, `now` being the present one; "" ends it."""
        with tcp_socket_in(self.control) as client:
            client.settimeout(5.0)
            client.connect(("127.0.0.1", PORT))
            login = f'AUTH "{now}"\r\n' if now else ""
            client.sendall(f'{login}CONFIG SET requirepass "{password}"\r\nQUIT\r\n'.encode())
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        if answer.splitlines() != [b"+OK"] * (3 if now else 2):
            told = answer.decode(errors="replace").strip()
            raise LabError(f"The lab's Redis did not take its password: {told}")

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Stop the server in the ordinary way, with SIGTERM, and wait until it is gone."""
        for pid in self.cgroup.processes():
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while self.cgroup.processes():
            if time.monotonic() > deadline:
                raise LabError(f"The lab's Redis did not stop within {timeout_s:.0f} s.")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill -9 the server."""
        self.cgroup.kill()
