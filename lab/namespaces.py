"""Network namespaces that live in files of the lab, and what a process does with them.

A namespace is kept alive by a bind mount on a file in the lab's own tmpfs, not in /run/netns: so all that a
lab is made of lies below one mount, and taking that away takes everything. Python 3.11 has no os.setns
(it came with 3.12), hence ctypes.
"""

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.errors import LabError

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def run(argv: Sequence[str], *, stdin: str | None = None) -> str:
    """Run one of the machine's own programs and return what it printed; raises LabError if it fails."""
    done = subprocess.run(
        argv,
        check=False,
        capture_output=True,
        text=True,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
    )
    if done.returncode != 0:
        raise LabError(f"`{' '.join(argv)}` failed with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def make_network(file: Path) -> None:
    """Make a new network namespace, kept by `file`, with its loopback up."""
    file.touch()
    run(["unshare", f"--net={file}", "ip", "link", "set", "lo", "up"])


def ip_batch(network: Path, commands: Sequence[str]) -> None:
    """Run several `ip` commands inside a network namespace, in one process; the first failure raises."""
    run(["nsenter", f"--net={network}", "ip", "-batch", "-"], stdin="\n".join(commands) + "\n")


def enter_network(network: Path) -> None:
    """Move the calling thread, and all threads it starts from now on, into a network namespace."""
    descriptor = os.open(network, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            raise LabError(f"Cannot enter the lab's network {network}: {os.strerror(ctypes.get_errno())}.")
    finally:
        os.close(descriptor)


@contextmanager
def _inside(network: Path) -> Iterator[None]:
    # Nothing may await between the two changes: another task of this thread would run in the wrong network.
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_network(network)
        try:
            yield
        finally:
            if _libc.setns(before, _CLONE_NEWNET) != 0:
                raise LabError("Cannot go back to the network that this program was started in.")
    finally:
        os.close(before)


def tcp_socket_in(network: Path) -> socket.socket:
    """Return a new non-blocking TCP socket that belongs to another network namespace.

    A socket stays in the namespace it was made in, so the calling thread is only there for the one call.
    """
    with _inside(network):
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


def listening_socket_in(network: Path, *, address: str, port: int) -> socket.socket:
    """Return a TCP socket that listens at `address`:`port` of another network namespace (port 0: any free).

    Raises OSError if the port is taken.
    """
    made = tcp_socket_in(network)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen(128)
    except BaseException:
        made.close()
        raise
    return made
