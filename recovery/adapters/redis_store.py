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

Whatever redis raises leaves this module as
:class:`recovery.errors.StoreUnavailable`, in one sentence without the password.
A write whose answer was lost is in doubt; it is sent again, and the script
knows by the journal's length and last line whether it was written.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from redis import exceptions

from recovery.adapters import durability, redis_scripts
from recovery.adapters.redis_client import RedisClient, Tls, client_at, explain
from recovery.codec import decode_event, encode_event
from recovery.errors import IllegalEvent, LeaseLost, OutOfDate, StoreUnavailable
from recovery.journal import Ended, Event, Unlocked
from recovery.model import ClusterName, RunId
from recovery.ports import Lease, LeaseHeld

POLL_S = 0.1
"""How often :meth:`RedisStore.wait` looks. A person's click is noticed this late at most.

Looking instead of subscribing: a message lost with its connection would be an
approval that nobody sees, and one LLEN every 0.1 s costs Redis nothing.
"""

_DEADLINE_S = 6.0
"""For one call with all its tries. The driver renews after a third of a lease's life (recovery.engine,
LEASE_TTL_S / 3), and has to learn that it cannot before somebody else may take over: 3.3 s + 6 s < 10 s.
"""


def connect(
    url: str, *, username: str | None = None, password: str | None = None, tls: Tls | None = None
) -> RedisStore:
    """Make a store for one address; nothing is sent yet. SettingsProblem as of `redis_client.client_at`."""
    return RedisStore(client_at(url, username=username, password=password, tls=tls))


class RedisStore:
    """The run store. One for a process; safe to use from many tasks."""

    def __init__(self, way: RedisClient) -> None:
        self._way = way
        client = self._client = way.redis
        self._propose = client.register_script(redis_scripts.PROPOSE)
        self._take_lease = client.register_script(redis_scripts.TAKE_LEASE)
        self._renew_lease = client.register_script(redis_scripts.RENEW_LEASE)
        self._release_lease = client.register_script(redis_scripts.RELEASE_LEASE)
        self._append = client.register_script(redis_scripts.APPEND)
        self._decide = client.register_script(redis_scripts.DECIDE)
        self._unlock = client.register_script(redis_scripts.UNLOCK)
        self._once = client.register_script(redis_scripts.ONCE)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._way.aclose()

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
        if isinstance(event, Ended | Unlocked):
            raise IllegalEvent("The end of a run is recorded by the one who drives it, under its lease.")
        answer = await self._run(
            self._decide,
            keys=[_key(cluster, f"run:{run}"), _key(cluster, "active")],
            args=[run, encode_event(event), expected_length],
            undone="the decision was not recorded",
        )
        _check_written(answer, run, expected_length=expected_length)

    async def driver(self, cluster: ClusterName) -> LeaseHeld | None:
        """Say who has the lease."""
        held = await self._ask(
            lambda: self._client.hmget(_key(cluster, "lease"), ["owner", "epoch"]),
            undone="the driver was not looked up",
        )
        if held[0] is None or held[1] is None:
            return None
        return LeaseHeld(owner=held[0].decode(), epoch=int(held[1]))

    async def unlock(
        self, cluster: ClusterName, run: RunId, event: Unlocked, *, expected_length: int
    ) -> None:
        """End the run as it stands; OutOfDate if the journal has grown or the run has ended."""
        answer = await self._run(
            self._unlock,
            keys=[_key(cluster, f"run:{run}"), _key(cluster, "active"), _key(cluster, "lease")],
            args=[run, encode_event(event), expected_length],
            undone="the lock was not taken away",
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
        return durability.warnings(self._way.name, info, await self._settings())

    async def _settings(self) -> dict[str, str] | None:
        """What CONFIG GET says; None where it is not allowed, as a hosted Redis often has it."""
        found: dict[str, str] = {}
        try:
            async with asyncio.timeout(_DEADLINE_S):
                # One by one: Redis before 7 takes one name a call.
                for name in durability.SETTINGS:
                    answer = await self._client.config_get(name)
                    found[name] = str(answer.get(name, ""))
        except (exceptions.RedisError, OSError):
            return None
        return found

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
            async with asyncio.timeout(_DEADLINE_S):
                return await call()
        except (exceptions.RedisError, OSError) as error:
            happened, next_step = explain(error, certificate_missing=self._way.certificate_missing)
            raise StoreUnavailable(f"{self._way.name} {happened}; {undone}. {next_step}") from None


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
