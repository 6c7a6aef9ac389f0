"""SSH sessions to the servers' hosts, one kept open for each; the only importer of asyncssh.

Nothing of the person's own SSH counts here: no ~/.ssh/config, no agent, no forwarding, no passwords. What
goes wrong is told in one sentence with the next thing to do. Commands and payloads are never logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import Final, NoReturn, TypeGuard

import asyncssh
import msgspec

from recovery.adapters.in_flight import InFlight
from recovery.errors import HostHindered, HostUnreachable, InDoubt

_STILL_GONE_S: Final = 10.0
"""How long a failure to connect answers those who only look, while the next attempt is under way.

A look at a host that is gone would cost the whole connect timeout each time, and a run looks many times. It is
twice the attempt's own length, so while somebody keeps asking the answer is never older than two attempts.
"""


class SshAccess(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the hosts; one key and one known_hosts file for all of them."""

    user: str
    key_path: str
    known_hosts_path: str
    port: int = 22
    connect_timeout_s: float = 5.0
    keepalive_s: float = 5.0
    """A host that answers none of three keepalives is given up."""


class Completed(msgspec.Struct, frozen=True):
    """What a remote command ended with."""

    status: int
    stdout: bytes
    stderr: str


class SshPool:
    """One SSH connection a host, made when first needed, shared by commands and forwards.

    All methods raise HostUnreachable when there is no session, with what to do about it.
    """

    def __init__(self, access: SshAccess) -> None:
        self._access = access
        self._calls = InFlight()
        self._connecting: dict[str, asyncio.Task[asyncssh.SSHClientConnection]] = {}
        self._failed: dict[str, tuple[float, HostUnreachable]] = {}
        self._sockets: dict[
            tuple[str, int], tuple[asyncssh.SSHClientConnection, asyncssh.SSHListener, str]
        ] = {}
        self._forwarding: dict[str, asyncio.Lock] = {}
        self._folder = ""
        self._count = 0
        # asyncssh logs every command line at INFO.
        asyncssh.set_log_level(logging.WARNING)

    async def run(
        self, host: str, command: str, *, stdin: bytes, timeout_s: float, patient: bool = True
    ) -> Completed:
        """Run one command to its end.

        Who is not patient takes a failure of the last seconds for an answer; for looks, never for acts.
        Raises HostUnreachable while nothing was sent, InDoubt when the connection or the time ended after it was.
        """
        with self._calls.call(lambda: _closed(host)):
            return await self._run(host, command, stdin=stdin, timeout_s=timeout_s, patient=patient)

    async def _run(
        self, host: str, command: str, *, stdin: bytes, timeout_s: float, patient: bool
    ) -> Completed:
        process = await self._start(host, command, patient=patient)
        # A command that has ended already (sudo refused it) takes no input; its own words are worth more.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(stdin)
            process.stdin.write_eof()
        try:
            done = await asyncio.wait_for(process.communicate(), timeout_s)
        except TimeoutError:
            process.close()
            raise InDoubt(
                f"{host}: no end of the command was seen within {timeout_s:g} s; it may still be at work. "
                "Look at the host before it is tried again."
            ) from None
        except (OSError, asyncssh.Error) as error:
            raise InDoubt(_cut_off(host, error)) from None
        if process.exit_status is None or process.exit_status < 0:
            raise InDoubt(_cut_off(host, "no exit status came back"))
        return Completed(
            process.exit_status, done[0] or b"", (done[1] or b"").decode(errors="replace").strip()
        )

    async def _start(self, host: str, command: str, *, patient: bool) -> asyncssh.SSHClientProcess[bytes]:
        """Open a session; a connection that turns out to be dead is made anew once."""
        for last_try in (False, True):
            connection = await self._connection(host, patient=patient)
            try:
                return await asyncio.wait_for(
                    connection.create_process(command, encoding=None), self._access.connect_timeout_s
                )
            except asyncssh.ChannelOpenError as error:
                if not connection.is_closed() or last_try:
                    raise HostHindered(
                        f"{host}: sshd refuses a session ({error.reason}). Nothing was done. "
                        "Look at sshd's log on that host (MaxSessions, ForceCommand)."
                    ) from None
                self._forget(host, connection)
            except (TimeoutError, OSError, asyncssh.Error) as error:
                self._forget(host, connection)
                if last_try:
                    raise HostUnreachable(
                        f"{host}: the SSH connection broke before anything was sent ({str(error) or 'timeout'}). "
                        "Nothing was done. Check the network to that host."
                    ) from None
        raise AssertionError("unreachable")

    def _forget(self, host: str, connection: asyncssh.SSHClientConnection) -> None:
        task = self._connecting.get(host)
        if _usable(task) and task.result() is connection:
            del self._connecting[host]
        connection.abort()

    async def _connection(self, host: str, *, patient: bool) -> asyncssh.SSHClientConnection:
        task = self._connecting.get(host)
        if (
            task is not None
            and task.done()
            and (task.cancelled() or task.exception() or task.result().is_closed())
        ):
            task = None
        if task is None:
            task = asyncio.create_task(self._connect(host))
            # Should all who asked be gone before it ends, nobody is left to hear of its fault.
            task.add_done_callback(lambda attempt: attempt.cancelled() or attempt.exception())
            self._connecting[host] = task
        failed_at_s, fault = self._failed.get(host, (0.0, None))
        gone = fault is not None and time.monotonic() - failed_at_s < _STILL_GONE_S
        if fault is not None and gone and not patient and not task.done():
            raise type(fault)(str(fault))
        # Shielded: one caller that gives up must not take the connection from the others.
        return await asyncio.shield(task)

    async def _connect(self, host: str) -> asyncssh.SSHClientConnection:
        try:
            connection = await self._attempt(host)
        except HostUnreachable as fault:
            self._failed[host] = (time.monotonic(), fault)
            raise
        self._failed.pop(host, None)
        return connection

    async def _attempt(self, host: str) -> asyncssh.SSHClientConnection:
        access = self._access
        try:
            known_hosts = asyncssh.read_known_hosts(access.known_hosts_path)
        except (OSError, ValueError) as error:
            raise HostUnreachable(
                f"{host}: the known_hosts file {access.known_hosts_path} cannot be read ({error}). Nothing was done. "
                "Name a readable one in the settings."
            ) from None
        try:
            key = asyncssh.read_private_key(access.key_path)
        except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise HostUnreachable(
                f"{host}: the SSH key {access.key_path} cannot be read ({error}). Nothing was done. "
                "Name a readable key without a passphrase in the settings."
            ) from None
        try:
            return await asyncio.wait_for(
                asyncssh.connect(
                    host,
                    access.port,
                    username=access.user,
                    client_keys=[key],
                    known_hosts=known_hosts,
                    config=None,
                    agent_path=None,
                    agent_forwarding=False,
                    password_auth=False,
                    kbdint_auth=False,
                    gss_auth=False,
                    gss_kex=False,
                    host_based_auth=False,
                    keepalive_interval=access.keepalive_s,
                    keepalive_count_max=3,
                ),
                access.connect_timeout_s,
            )
        except (TimeoutError, OSError, asyncssh.Error) as error:
            _explain(host, access, known_hosts, error)

    async def socket_to(self, host: str, port: int) -> str:
        """Give the path of a local Unix socket that leads to 127.0.0.1:port of the host.

        A Unix socket in a private folder, not a local port: other users of this machine must not get in by it.
        Nothing is known of the far end until somebody connects: one that refuses shows as a closed connection.
        """
        with self._calls.call(lambda: _closed(host)):
            return await self._socket_to(host, port)

    async def _socket_to(self, host: str, port: int) -> str:
        # One lock a host: a dead host, which takes seconds to give up, must not hold up the others.
        async with self._forwarding.setdefault(host, asyncio.Lock()):
            connection = await self._connection(host, patient=False)
            known = self._sockets.get((host, port))
            if known is not None:
                if known[0] is connection:
                    return known[2]
                known[1].close()
                Path(known[2]).unlink(missing_ok=True)
            if not self._folder:
                self._folder = tempfile.mkdtemp(prefix="consul-recovery-")
            self._count += 1
            path = str(Path(self._folder) / f"{self._count}.sock")
            opening = asyncio.ensure_future(connection.forward_local_path_to_port(path, "127.0.0.1", port))
            try:
                listener = await asyncio.shield(opening)
            except asyncio.CancelledError:
                # It takes a moment. Cut off in the middle, asyncio would leave the socket open.
                (await opening).close()
                raise
            except (OSError, asyncssh.Error) as error:
                raise HostUnreachable(
                    f"{host}: no forward to port {port} could be opened ({error}). Nothing was done. "
                    "Check the room in the temporary folder and AllowTcpForwarding in sshd's configuration."
                ) from None
            self._sockets[host, port] = (connection, listener, path)
            return path

    def connected(self, host: str) -> bool:
        """Whether a session to the host is open now."""
        task = self._connecting.get(host)
        return _usable(task) and not task.result().is_closed()

    async def aclose(self) -> None:
        """Cut off who is still at work here, close all connections and remove the sockets; none is made after it."""
        await self._calls.end()
        for _, listener, _ in self._sockets.values():
            listener.close()
            await listener.wait_closed()
        self._sockets.clear()
        tasks, self._connecting = list(self._connecting.values()), {}
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, asyncssh.SSHClientConnection):
                outcome.close()
                await outcome.wait_closed()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""


def _usable(
    task: asyncio.Task[asyncssh.SSHClientConnection] | None,
) -> TypeGuard[asyncio.Task[asyncssh.SSHClientConnection]]:
    return task is not None and task.done() and not task.cancelled() and task.exception() is None


def _closed(host: str) -> HostUnreachable:
    return HostUnreachable(f"{host}: it is not asked any more, this program ends. Nothing was done.")


def _cut_off(host: str, error: object) -> str:
    return (
        f"{host}: the SSH connection was cut off while a command ran ({error}); "
        "it may or may not have been done. Look at the host before it is tried again."
    )


def _explain(host: str, access: SshAccess, known_hosts: asyncssh.SSHKnownHosts, error: Exception) -> NoReturn:
    """Raise HostUnreachable with one sentence about the cause and one about what to do.

    HostHindered where something answered: whoever says that this host is gone for good is wrong.
    """
    where = host if access.port == 22 else f"{host} port {access.port}"
    match error:
        case asyncssh.HostKeyNotVerifiable():
            if any(known_hosts.match(host, "", access.port)[:1]):
                text = (
                    f"{where}: its SSH host key is not the one in {access.known_hosts_path}: the host was rebuilt, "
                    "or somebody stands in between. Nothing was done. "
                    "Check the key on the host itself, then put the new one into that file."
                )
            else:
                text = (
                    f"{where}: its SSH host key is unknown. Nothing was done. "
                    f"Check the key on the host itself, then add it to {access.known_hosts_path}."
                )
        case asyncssh.PermissionDenied():
            text = (
                f"{where}: sshd does not accept the key {access.key_path} for {access.user}. Nothing was done. "
                f"Put its public half into that user's authorized_keys."
            )
        case TimeoutError():
            text = (
                f"{where}: no SSH answer within {access.connect_timeout_s:g} s. Nothing was done. "
                "Check whether the host is up and whether a firewall is in between."
            )
        case ConnectionRefusedError():
            text = f"{where}: it refuses SSH connections. Nothing was done. Check whether sshd runs on this port."
        case socket.gaierror():
            text = (
                f"{where}: this name has no address. Nothing was done. "
                "Give the server's IP address in the settings, or a name that does not hang on Consul DNS."
            )
        case OSError():
            text = f"{where}: no way to the host ({error.strerror or error}). Nothing was done. Check the network."
        case _:
            text = f"{where}: no SSH session ({error}). Nothing was done. Look at sshd's log on that host."
    if isinstance(error, asyncssh.Error) and not isinstance(error, asyncssh.ConnectionLost):
        raise HostHindered(text) from None
    raise HostUnreachable(text) from None
