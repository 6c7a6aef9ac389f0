"""Lock, lease and journal in Redis: an implementation of :class:`recovery.ports.RunStore`.

Keys, for a cluster ``prod`` (the braces are a hash tag: all of a cluster's keys
lie on one node, so that one script may touch them together):

    consul-recovery:{prod}:active     string, the run that holds the cluster's lock
    consul-recovery:{prod}:lease      hash owner, epoch, ttl_ms, nonce; expires
    consul-recovery:{prod}:epoch      string, the highest epoch ever given; never expires
    consul-recovery:{prod}:run:ID     list, the journal, one signed JSON event a line; never expires
    consul-recovery:{prod}:runs       sorted set of run ids by the time of their proposal
    consul-recovery:{prod}:memo:NAME  string, signed
    consul-recovery:once:KEY          string; expires

Whatever redis raises leaves this module as
:class:`recovery.errors.StoreUnavailable`, in one sentence without the password.
A write whose answer was lost is in doubt; it is sent again, and the script
knows by the journal's length and last line whether it was written.

Redis is not trusted with what counts: journals and memos are signed with a key
that is not in it (:mod:`recovery.signing`). Lock, lease and epoch are not; who
forges those can hinder a run, and no more.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from redis import exceptions

from recovery.adapters import durability, redis_access, redis_scripts
from recovery.adapters.in_flight import InFlight
from recovery.adapters.redis_client import RedisClient, explain
from recovery.codec import Fault, Journal, read_lines, unreadable, write_line
from recovery.errors import IllegalEvent, LeaseLost, OutOfDate, StoreForgot, StoreUnavailable, Unverified
from recovery.journal import Ended, Event, Unlocked
from recovery.model import ClusterName, RunId
from recovery.ports import Lease, LeaseHeld
from recovery.signing import SigningKey, mac_of

POLL_S = 0.1
"""How often :meth:`RedisStore.wait` looks. A person's click is noticed this late at most.

Looking instead of subscribing: a message lost with its connection would be an
approval that nobody sees, and one LLEN every 0.1 s costs Redis nothing.
"""

_DEADLINE_S = 6.0
"""For one call with all its tries. The driver renews after a third of a lease's life (recovery.engine,
LEASE_TTL_S / 3), and has to learn that it cannot before somebody else may take over: 3.3 s + 6 s < 10 s.
"""
CONNECTIONS = 16
"""At once, for one store; whoever comes then waits in line for one, within the deadline of its call.

redis-py does not wait: its pool of 100 refused whoever came when all were in use, the driver's renewal too.
"""
_RUNS_KNOWN = 64
"""Of how many runs the signatures are kept; what was forgotten is read again."""
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9@._-]{0,127}")


class RedisStore:
    """The run store. Safe to use from many tasks.

    Whoever drives runs has one of their own, so that no crowd stands between a driver and its lease.
    """

    def __init__(self, way: RedisClient, *, key: SigningKey) -> None:
        self._way = way
        self._key = key
        self._calls = InFlight()
        self._line = asyncio.Semaphore(CONNECTIONS)
        self._macs: OrderedDict[tuple[ClusterName, RunId], tuple[str, ...]] = OrderedDict()
        """The signatures of the events of each run as they were last read or written here."""
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
        """Cut off who still waits for an answer, and close the connections; none is opened after it."""
        await self._calls.end()
        await self._way.aclose()

    def _closed(self, undone: str) -> StoreUnavailable:
        return StoreUnavailable(f"{self._way.name} is not asked any more, this program ends; {undone}.")

    async def propose(self, cluster: ClusterName, run: RunId, event: Event) -> RunId:
        """Take the lock and write the first event, or give the run that has the lock."""
        line = write_line(self._key, cluster, run, event, position=0, before="")
        answer = await self._run(
            self._propose,
            keys=[_key(cluster, "active"), _key(cluster, f"run:{run}"), _key(cluster, "runs")],
            args=[run, line, event.at_s],
            undone="the plan was not proposed",
        )
        if answer[0] == "used":
            raise IllegalEvent(f"There was a run {run} before; the plan was not proposed. Propose it again.")
        return RunId(answer[1])

    async def active(self, cluster: ClusterName) -> RunId | None:
        """Give the run that holds the cluster's lock; what is no run's name is given as ``unknown-…``."""
        held = await self._lock(cluster)
        return None if held is None else RunId(_name_of(held))

    async def _lock(self, cluster: ClusterName) -> bytes | None:
        """What the lock holds; NO_TEXT where it is no string."""

        async def get() -> Any:
            return await self._client.get(_key(cluster, "active"))

        held: bytes | None = await self._ask(
            lambda: _unless_wrong_type(get, redis_scripts.NO_TEXT.encode()),
            undone="the run was not looked up",
        )
        return held

    async def events(self, cluster: ClusterName, run: RunId, *, after: int = 0) -> tuple[Event, ...]:
        """Give the journal behind its first ``after`` events, which are those that were read here before."""
        known = self._macs.get((cluster, run), ())
        if not 0 < after <= len(known):
            journal = await self.journal(cluster, run)
            if journal.fault is not None:
                raise unreadable(cluster, run, journal.fault)
            if journal.length < after:
                raise StoreForgot.shorter(run, knows=journal.length, read=after)
            return journal.events[after:]
        lines = await self._lines(cluster, run, first=after - 1)
        if not lines:
            length = (await self.journal(cluster, run)).length
            raise StoreForgot.shorter(run, knows=min(length, after - 1), read=after)
        before = known[after - 1]
        if mac_of(lines[0]) != before:
            raise StoreForgot.other(run, line=after)
        journal = read_lines(self._key, cluster, run, lines[1:], position=after, before=before)
        if journal.fault is not None:
            raise unreadable(cluster, run, journal.fault)
        self._keep(cluster, run, (*known[:after], *journal.macs))
        return journal.events

    async def journal(self, cluster: ClusterName, run: RunId) -> Journal:
        """Give the whole journal as far as it can be read."""
        return self._read(cluster, run, await self._lines(cluster, run))

    def _read(self, cluster: ClusterName, run: RunId, lines: list[bytes] | None) -> Journal:
        """Read a whole journal, and keep its signatures where all verify."""
        if lines is None:
            return Journal(length=0, fault=Fault(0, "what Redis keeps under its name is no journal"))
        journal = read_lines(self._key, cluster, run, lines)
        if journal.fault is None:
            self._keep(cluster, run, journal.macs)
        else:
            # Nothing is written behind it any more, whatever was read before.
            self._macs.pop((cluster, run), None)
        return journal

    async def _lines(
        self,
        cluster: ClusterName,
        run: RunId,
        *,
        first: int = 0,
        undone: str = "the journal was not read",
    ) -> list[bytes] | None:
        """The raw lines; None where what is there is no list."""

        async def read() -> list[bytes] | None:
            return cast("list[bytes]", await self._client.lrange(_key(cluster, f"run:{run}"), first, -1))

        lines: list[bytes] | None = await self._ask(lambda: _unless_wrong_type(read, None), undone=undone)
        return lines

    def _keep(self, cluster: ClusterName, run: RunId, macs: tuple[str, ...]) -> None:
        self._macs[cluster, run] = macs
        self._macs.move_to_end((cluster, run))
        while len(self._macs) > _RUNS_KNOWN:
            self._macs.popitem(last=False)

    async def _signed(
        self, cluster: ClusterName, run: RunId, event: Event, *, expected_length: int, undone: str
    ) -> tuple[bytes, str]:
        """The line for an event behind those that were read, and the MAC that the last of them has."""
        known = self._macs.get((cluster, run), ())
        if len(known) < expected_length:
            journal = self._read(cluster, run, await self._lines(cluster, run, undone=undone))
            if journal.fault is not None:
                raise unreadable(cluster, run, journal.fault)
            known = self._macs.get((cluster, run), ())
        # Where there are fewer the script refuses it by the length.
        before = known[expected_length - 1] if 0 < expected_length <= len(known) else ""
        line = write_line(self._key, cluster, run, event, position=expected_length, before=before)
        return line, before

    def _written(self, cluster: ClusterName, run: RunId, line: bytes, *, expected_length: int) -> None:
        """Remember the signature of what was just written."""
        known = self._macs.get((cluster, run), ())
        if len(known) == expected_length:
            self._keep(cluster, run, (*known, mac_of(line)))

    async def runs(self, cluster: ClusterName, *, limit: int = 20) -> tuple[RunId, ...]:
        """Give the newest runs, newest first."""
        runs = await self._ask(
            lambda: self._client.zrevrange(_key(cluster, "runs"), 0, limit - 1),
            undone="the history was not read",
        )
        return tuple(RunId(_name_of(run)) for run in runs)

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
        undone = "what the run did next was not recorded"
        line, before = await self._signed(
            lease.cluster, lease.run, event, expected_length=expected_length, undone=undone
        )
        answer = await self._run(
            self._append,
            keys=[
                _key(lease.cluster, f"run:{lease.run}"),
                _key(lease.cluster, "active"),
                _key(lease.cluster, "lease"),
            ],
            args=[
                lease.run,
                line,
                expected_length,
                "1" if isinstance(event, Ended) else "0",
                lease.owner,
                lease.epoch,
                before,
            ],
            undone=undone,
        )
        if answer[0] == "lost":
            raise _lease_lost(lease, answer)
        _check_written(answer, lease.run, expected_length=expected_length)
        self._written(lease.cluster, lease.run, line, expected_length=expected_length)

    async def decide(self, cluster: ClusterName, run: RunId, event: Event, *, expected_length: int) -> None:
        """Record what a person decided; OutOfDate if the journal has grown or the run has ended."""
        if isinstance(event, Ended | Unlocked):
            raise IllegalEvent("The end of a run is recorded by the one who drives it, under its lease.")
        undone = "the decision was not recorded"
        line, before = await self._signed(cluster, run, event, expected_length=expected_length, undone=undone)
        answer = await self._run(
            self._decide,
            keys=[_key(cluster, f"run:{run}"), _key(cluster, "active")],
            args=[run, line, expected_length, before],
            undone=undone,
        )
        _check_written(answer, run, expected_length=expected_length)
        self._written(cluster, run, line, expected_length=expected_length)

    async def driver(self, cluster: ClusterName) -> LeaseHeld | None:
        """Say who has the lease."""

        async def get() -> list[bytes | None]:
            return cast(
                "list[bytes | None]", await self._client.hmget(_key(cluster, "lease"), ["owner", "epoch"])
            )

        # What is no lease at all is held by nobody; an unlock takes it away.
        owner, epoch = await self._ask(
            lambda: _unless_wrong_type(get, [None, None]), undone="the driver was not looked up"
        )
        if owner is None or epoch is None:
            return None
        return LeaseHeld(owner=_name_of(owner), epoch=int(epoch) if epoch.isdigit() else 0)

    async def unlock(
        self, cluster: ClusterName, run: RunId, event: Unlocked, *, expected_length: int
    ) -> None:
        """End the run as it stands; OutOfDate if the journal has grown or the run has ended."""
        undone = "the lock was not taken away"
        held = await self._lock(cluster)
        lines = await self._lines(cluster, run, undone=undone) or []
        # Behind whatever the last line holds: it ends a run that cannot be read, too.
        before = mac_of(lines[expected_length - 1]) if 0 < expected_length <= len(lines) else ""
        line = write_line(self._key, cluster, run, event, position=expected_length, before=before)
        answer = await self._run(
            self._unlock,
            keys=[_key(cluster, f"run:{run}"), _key(cluster, "active"), _key(cluster, "lease")],
            args=[
                held if held is not None and _name_of(held) == run else run,
                line,
                expected_length,
                redis_scripts.NO_TEXT,
            ],
            undone=undone,
        )
        _check_written(answer, run, expected_length=expected_length)
        self._written(cluster, run, line, expected_length=expected_length)

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
        signed = self._key.sign_value(cluster, name, value)
        await self._ask(
            lambda: self._client.set(_key(cluster, f"memo:{name}"), signed), undone=f"{name} was not kept"
        )

    async def epoch(self, cluster: ClusterName) -> int:
        """Give the highest epoch that was ever given for a cluster; 0 if none."""
        value = await self._ask(
            lambda: self._client.get(_key(cluster, "epoch")), undone="the epoch was not read"
        )
        if value is not None and not value.isdigit():
            raise StoreUnavailable(
                f"{self._way.name} holds an epoch for {cluster} that is no number; the epoch was not read. Somebody"
                f" else writes there. Delete {_key(cluster, 'epoch')}: the hosts know the highest one, too."
            )
        return 0 if value is None else int(value)

    async def recall(self, cluster: ClusterName, name: str) -> str | None:
        """Give a kept value back."""

        async def get() -> bytes | None:
            return cast("bytes | None", await self._client.get(_key(cluster, f"memo:{name}")))

        value = await self._ask(lambda: _unless_wrong_type(get, b""), undone=f"{name} was not read")
        try:
            return None if value is None else self._key.verify_value(cluster, name, value)
        except Unverified as problem:
            raise Unverified(f"What Redis keeps as {name} of {cluster} {problem}. It was not used.") from None

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

    async def check_access(self) -> redis_access.Access:
        """Say who but us may write our keys, as far as our user may ask."""
        try:
            with self._calls.call(lambda: self._closed("who may write was not seen")):
                async with asyncio.timeout(_DEADLINE_S):
                    ours = _word(await self._client.acl_whoami())
                    lines = [_word(line) for line in await self._client.acl_list()]
                    categories = {
                        name: frozenset(_word(word) for word in await self._client.acl_cat(name))
                        for name in sorted(redis_access.categories_in(lines))
                    }
        except exceptions.NoPermissionError:
            return redis_access.Access(
                unseen="our user may not ask, which is as it should be. An administrator sees it with "
                f"`{redis_access.LOOK}`: nobody else should be on with ~* or ~{redis_access.PREFIX}*"
            )
        except exceptions.ResponseError:
            return redis_access.Access(
                unseen=f"{self._way.name} has no ACL (it came with Redis 6), or hides it: who has its password "
                "may write all of it"
            )
        except (exceptions.RedisError, OSError) as error:
            happened, next_step = explain(error, certificate_missing=self._way.certificate_missing)
            raise StoreUnavailable(
                f"{self._way.name} {happened}; who may write was not seen. {next_step}"
            ) from None
        return redis_access.judge(self._way.name, ours, lines, categories)

    async def _settings(self) -> dict[str, str] | None:
        """What CONFIG GET says; None where it is not allowed, as a hosted Redis often has it."""
        found: dict[str, str] = {}
        try:
            with self._calls.call(lambda: self._closed("its settings were not read")):
                async with asyncio.timeout(_DEADLINE_S), self._line:
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
        return [part.decode(errors="replace") for part in cast("list[bytes]", answer)]

    async def _ask(self, call: Callable[[], Awaitable[Any] | Any], *, undone: str) -> Any:
        try:
            with self._calls.call(lambda: self._closed(undone)):
                async with asyncio.timeout(_DEADLINE_S), self._line:
                    return await call()
        except (exceptions.RedisError, OSError) as error:
            happened, next_step = explain(error, certificate_missing=self._way.certificate_missing)
            raise StoreUnavailable(f"{self._way.name} {happened}; {undone}. {next_step}") from None


def _word(answer: bytes | str) -> str:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else answer


def _key(cluster: ClusterName, rest: str) -> str:
    return f"consul-recovery:{{{cluster}}}:{rest}"


async def _unless_wrong_type(call: Callable[[], Awaitable[Any]], instead: Any) -> Any:
    """What a key holds, or ``instead`` where somebody made it hold another kind of value."""
    try:
        return await call()
    except exceptions.ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            return instead
        raise


def _name_of(raw: bytes) -> str:
    """A run's or a process's name; what can be none (somebody else wrote it) gets one that a person can type."""
    if _NAME.fullmatch(raw):
        return raw.decode()
    return f"unknown-{hashlib.sha256(raw).hexdigest()[:8]}"


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
    if answer[0] == "other":
        raise OutOfDate(
            f"The journal of run {run} is no longer the one that was read. Nothing was recorded; look at it again."
        )
    if answer[0] == "length":
        raise OutOfDate(
            f"Run {run} has gone on since it was read ({answer[1]} events, not {expected_length})."
            " Nothing was recorded; look at it again."
        )
