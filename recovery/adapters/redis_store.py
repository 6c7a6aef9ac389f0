"""Lock, lease and journal in Redis: an implementation of :class:`recovery.ports.RunStore`.

Keys, for a cluster ``prod`` (the braces are a hash tag: all of a cluster's keys
lie on one node, so that one script may touch them together):

    consul-recovery:{prod}:active     string, the run that holds the cluster's lock
    consul-recovery:{prod}:lease      hash owner, epoch, ttl_ms, nonce; expires
    consul-recovery:{prod}:epoch      string, the highest epoch ever given; never expires
    consul-recovery:{prod}:run:ID     list, the journal, one JSON event a line; never expires
    consul-recovery:{prod}:runs       sorted set of run ids by the time of their proposal
    consul-recovery:{prod}:memo:NAME  string
    consul-recovery:once:KEY          string; expires

This module is the only importer of redis. Whatever redis raises leaves it as
:class:`recovery.errors.StoreUnavailable`, in one sentence without the password.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from recovery.adapters import redis_scripts
from recovery.codec import decode_event, encode_event
from recovery.errors import IllegalEvent, LeaseLost, OutOfDate, SettingsProblem, StoreUnavailable
from recovery.journal import Ended, Event
from recovery.model import ClusterName, RunId
from recovery.ports import Lease, LeaseHeld

POLL_S = 0.2
"""How often :meth:`RedisStore.wait` looks. A person's click is noticed this late at most.

Looking instead of subscribing: a message lost with its connection would be an
approval that nobody sees, and one LLEN every 0.2 s costs Redis nothing.
"""

_SOCKET_TIMEOUT_S = 2.0
_AGAIN = 2
"""How often a call is sent again; the scripts know their own earlier success.

All tries together stay below the life of a lease (recovery.engine), so that a
driver that cannot renew it learns that before somebody else takes over.
"""


def connect(
    url: str, *, username: str | None = None, password: str | None = None, tls_ca_file: str | None = None
) -> RedisStore:
    """Make a store for ``redis://``, ``rediss://`` (TLS) or ``unix://``; nothing is sent yet.

    A user and a password may stand in the URL or beside it. SettingsProblem if the URL is none.
    """
    options: dict[str, Any] = {}
    if username is not None:
        options["username"] = username
    if password is not None:
        options["password"] = password
    if tls_ca_file is not None:
        options["ssl_ca_certs"] = tls_ca_file
    try:
        client = Redis.from_url(
            url,
            socket_timeout=_SOCKET_TIMEOUT_S,
            socket_connect_timeout=_SOCKET_TIMEOUT_S,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.1), _AGAIN),
            **options,
        )
        address = _address(url)
    except ValueError:
        # The text of the error may hold a part of the password.
        raise SettingsProblem(
            "The Redis URL cannot be read. Write redis://HOST:6379/0, rediss:// for TLS, or"
            " unix:///PATH, with the characters /, @ and : of a password as %2F, %40 and %3A."
        ) from None
    return RedisStore(client, address=address)


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


class RedisStore:
    """The run store. One for a process; safe to use from many tasks."""

    def __init__(self, client: Redis, *, address: str) -> None:
        self._client = client
        self._address = address
        """For messages: host and port or a path, never a password."""
        self._propose = client.register_script(redis_scripts.PROPOSE)
        self._take_lease = client.register_script(redis_scripts.TAKE_LEASE)
        self._renew_lease = client.register_script(redis_scripts.RENEW_LEASE)
        self._release_lease = client.register_script(redis_scripts.RELEASE_LEASE)
        self._append = client.register_script(redis_scripts.APPEND)
        self._decide = client.register_script(redis_scripts.DECIDE)
        self._once = client.register_script(redis_scripts.ONCE)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def propose(self, cluster: ClusterName, run: RunId, event: Event) -> RunId:
        """Take the lock and write the first event, or give the run that has the lock."""
        answer = await self._run(
            self._propose,
            keys=[_key(cluster, "active"), _key(cluster, f"run:{run}"), _key(cluster, "runs")],
            args=[run, encode_event(event), event.at_s],
            undone="the plan was not proposed",
        )
        if answer[0] == "used":
            raise IllegalEvent(f"There was a run {run} before; the plan was not proposed. Propose it again.")
        return RunId(answer[1])

    async def active(self, cluster: ClusterName) -> RunId | None:
        """Give the run that holds the cluster's lock."""
        run = await self._ask(
            lambda: self._client.get(_key(cluster, "active")), undone="the run was not looked up"
        )
        return None if run is None else RunId(run.decode())

    async def events(self, cluster: ClusterName, run: RunId) -> tuple[Event, ...]:
        """Give the journal; empty if there is no such run. UnknownKind if another version wrote it."""
        lines = await self._ask(
            lambda: self._client.lrange(_key(cluster, f"run:{run}"), 0, -1), undone="the journal was not read"
        )
        return tuple(decode_event(line) for line in lines)

    async def runs(self, cluster: ClusterName, *, limit: int = 20) -> tuple[RunId, ...]:
        """Give the newest runs, newest first."""
        runs = await self._ask(
            lambda: self._client.zrevrange(_key(cluster, "runs"), 0, limit - 1),
            undone="the history was not read",
        )
        return tuple(RunId(run.decode()) for run in runs)

    async def take_lease(
        self, cluster: ClusterName, run: RunId, *, owner: str, ttl_s: float, above_epoch: int
    ) -> Lease | LeaseHeld:
        """Become the driver, or learn who is."""
        answer = await self._run(
            self._take_lease,
            keys=[_key(cluster, "lease"), _key(cluster, "epoch")],
            args=[owner, _ms(ttl_s), above_epoch, secrets.token_hex(16)],
            undone="nobody drives the run",
        )
        if answer[0] == "held":
            return LeaseHeld(owner=answer[1], epoch=int(answer[2]))
        return Lease(cluster=cluster, run=run, owner=owner, epoch=int(answer[1]))

    async def renew_lease(self, lease: Lease, *, ttl_s: float) -> None:
        """Keep the lease; LeaseLost if it ran out, even if nobody has taken it since."""
        answer = await self._run(
            self._renew_lease,
            keys=[_key(lease.cluster, "lease")],
            args=[lease.owner, lease.epoch, _ms(ttl_s)],
            undone="the lease was not renewed",
        )
        if answer[0] == "lost":
            raise _lease_lost(lease, answer)

    async def release_lease(self, lease: Lease) -> None:
        """Give the lease back, if it is still ours."""
        await self._run(
            self._release_lease,
            keys=[_key(lease.cluster, "lease")],
            args=[lease.owner, lease.epoch],
            undone="the lease was not given back; it runs out by itself",
        )

    async def append(self, lease: Lease, event: Event, *, expected_length: int) -> None:
        """Record what the driver did and extend its lease; Ended frees the cluster's lock in the same act."""
        answer = await self._run(
            self._append,
            keys=[
                _key(lease.cluster, f"run:{lease.run}"),
                _key(lease.cluster, "active"),
                _key(lease.cluster, "lease"),
            ],
            args=[
                lease.run,
                encode_event(event),
                expected_length,
                "1" if isinstance(event, Ended) else "0",
                lease.owner,
                lease.epoch,
            ],
            undone=f"{type(event).__name__} was not recorded",
        )
        if answer[0] == "lost":
            raise _lease_lost(lease, answer)
        _check_written(answer, lease.run, expected_length=expected_length)

    async def decide(self, cluster: ClusterName, run: RunId, event: Event, *, expected_length: int) -> None:
        """Record what a person decided; OutOfDate if the journal has grown or the run has ended."""
        if isinstance(event, Ended):
            raise IllegalEvent("The end of a run is recorded by the one who drives it, under its lease.")
        answer = await self._run(
            self._decide,
            keys=[_key(cluster, f"run:{run}"), _key(cluster, "active")],
            args=[run, encode_event(event), expected_length],
            undone="the decision was not recorded",
        )
        _check_written(answer, run, expected_length=expected_length)

    async def wait(self, cluster: ClusterName, run: RunId, *, length: int, timeout_s: float) -> None:
        """Return when the journal is longer than ``length``, or after the timeout."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while True:
            now = await self._ask(
                lambda: self._client.llen(_key(cluster, f"run:{run}")), undone="the journal was not read"
            )
            left_s = deadline_s - loop.time()
            if now > length or left_s <= 0:
                return
            await asyncio.sleep(min(POLL_S, left_s))

    async def remember(self, cluster: ClusterName, name: str, value: str) -> None:
        """Keep a small value beside the cluster."""
        await self._ask(
            lambda: self._client.set(_key(cluster, f"memo:{name}"), value), undone=f"{name} was not kept"
        )

    async def epoch(self, cluster: ClusterName) -> int:
        """Give the highest epoch that was ever given for a cluster; 0 if none."""
        value = await self._ask(
            lambda: self._client.get(_key(cluster, "epoch")), undone="the epoch was not read"
        )
        return 0 if value is None else int(value)

    async def recall(self, cluster: ClusterName, name: str) -> str | None:
        """Give a kept value back."""
        value = await self._ask(
            lambda: self._client.get(_key(cluster, f"memo:{name}")), undone=f"{name} was not read"
        )
        return None if value is None else str(value, "utf-8")

    async def once(self, key: str, *, ttl_s: float) -> bool:
        """Say whether the key is new within ``ttl_s``."""
        answer = await self._run(
            self._once,
            keys=[f"consul-recovery:once:{key}"],
            args=[secrets.token_hex(16), _ms(ttl_s)],
            undone="the request was not taken",
        )
        return answer[0] == "ok"

    async def check_persistence(self) -> list[str]:
        """Give a sentence for each setting of this Redis that can lose a run; none if all is well.

        https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
        """
        info = await self._ask(self._client.info, undone="its settings were not read")
        warnings = []
        if info.get("role") == "slave":
            warnings.append(
                f"Redis at {self._address} is a replica and takes no writes: set redis.url to the primary."
            )
        if not info.get("aof_enabled"):
            warnings.append(
                f"Redis at {self._address} has appendonly off, so a restart of Redis forgets the run that"
                f" is going on{await self._snapshots()}: set `appendonly yes`."
            )
        policy = str(info.get("maxmemory_policy", "noeviction"))
        if policy != "noeviction" and info.get("maxmemory"):
            warnings.append(
                f"Redis at {self._address} may throw our keys away when its memory is full"
                f" (maxmemory-policy {policy}): set `maxmemory-policy noeviction`, or give the bot its own."
            )
        return warnings

    async def _snapshots(self) -> str:
        try:
            save = (await self._client.config_get("save")).get("save", "")
        except exceptions.RedisError:
            return ""  # A hosted Redis often forbids CONFIG; the sentence is true without this part.
        return f" since its last snapshot (save {save})" if save else ", and it saves no snapshots either"

    async def _run(
        self,
        script: Callable[..., Awaitable[Any]],
        *,
        keys: Sequence[str],
        args: Sequence[str | bytes | float],
        undone: str,
    ) -> list[str]:
        answer = await self._ask(lambda: script(keys=keys, args=args), undone=undone)
        return [part.decode() for part in cast("list[bytes]", answer)]

    async def _ask(self, call: Callable[[], Awaitable[Any] | Any], *, undone: str) -> Any:
        try:
            return await call()
        except (exceptions.RedisError, OSError) as error:
            happened, next_step = _explain(error)
            raise StoreUnavailable(f"Redis at {self._address} {happened}; {undone}. {next_step}") from None


def _key(cluster: ClusterName, rest: str) -> str:
    return f"consul-recovery:{{{cluster}}}:{rest}"


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _lease_lost(lease: Lease, answer: Sequence[str]) -> LeaseLost:
    now = f"{answer[1]} drives it now (epoch {answer[2]})" if answer[1] else "the lease ran out"
    return LeaseLost(
        f"Run {lease.run} is no longer driven by {lease.owner} (epoch {lease.epoch}): {now}."
        " Nothing was recorded; whoever holds the lease goes on."
    )


def _check_written(answer: Sequence[str], run: RunId, *, expected_length: int) -> None:
    if answer[0] == "ended":
        raise OutOfDate(
            f"Run {run} has ended, or there is no such run. Nothing was recorded; ask for the status."
        )
    if answer[0] == "length":
        raise OutOfDate(
            f"Run {run} has gone on since it was read ({answer[1]} events, not {expected_length})."
            " Nothing was recorded; look at it again."
        )


def _explain(error: Exception) -> tuple[str, str]:
    """Say what happened and what to do next. The texts of redis stay here: they may hold what was sent."""
    # A connection that failed while logging in is a ConnectionError around the true reason.
    while isinstance(error, exceptions.ConnectionError) and isinstance(
        error.__cause__, exceptions.RedisError
    ):
        error = error.__cause__
    match error:
        case exceptions.AuthenticationError() | exceptions.AuthenticationWrongNumberOfArgsError():
            return (
                "does not accept our user or password",
                "Correct redis.username and redis.password_file in the settings.",
            )
        case exceptions.NoPermissionError():
            return (
                "does not allow our user to do this",
                "Give that user `~consul-recovery:* +@read +@write +@scripting +@connection +info`.",
            )
        case exceptions.ReadOnlyError():
            return "is a replica and takes no writes", "Set redis.url in the settings to the primary."
        case exceptions.BusyLoadingError():
            return "is still loading its data", "Try again in a moment."
        case exceptions.OutOfMemoryError():
            return "has no memory left", "Give it more memory (maxmemory), then try again."
        case exceptions.TimeoutError() | TimeoutError():
            return (
                f"gave no answer within {_SOCKET_TIMEOUT_S:.0f} s",
                "If it was only slow the change may have been made after all: ask for the status first.",
            )
        case exceptions.ConnectionError() | OSError():
            return (
                "cannot be reached",
                "Check that Redis runs and that this machine reaches it, then ask for the status.",
            )
        case _ if str(error).startswith("MISCONF"):
            return "cannot write to its disk", "Free space on its disk, then try again."
        case _ if str(error).startswith("NOAUTH"):
            return "asks for a password", "Set redis.password_file in the settings."
        case _:
            return f"refused ({type(error).__name__})", "Read the log of Redis, then try again."
