"""The ways to a Redis, on real processes: TLS with and without our certificate, and Sentinel with a failover."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from bot.wiring import open_store, secrets_of
from config.settings import parse_settings
from config.values import Settings
from lab.datacentre import Lab
from recovery.adapters.redis_store import RedisStore
from recovery.errors import LeaseLost, SettingsProblem, StoreUnavailable
from recovery.model import ClusterName, RunId
from recovery.ports import Lease
from tests.contract.runs import OPENED, lease_taken, proposed
from tests.integration.redis_processes import LOCALHOST, Authority, answers, processes, sentinel, server

TLS_PORT = 6401
PORTS = (6411, 6412)
SENTINELS = (26411, 26412, 26413)
DC1 = ClusterName("dc1")
R1 = RunId("r1")


def settings(redis: str) -> Settings:
    """Settings with this section redis, written as JSON."""
    text = f"""
redis: {{signing_key: {"0123456789abcdef" * 2}, {redis.removeprefix("{")}
ssh: {{user: bot, key_file: /keys/id, known_hosts_file: /keys/known_hosts}}
clusters: {{dc1: {{servers: [{{name: s1, address: 198.51.100.9}}]}}}}
"""
    return parse_settings(text, source=Path("/settings.yaml"), environ={}, slack=False)


@asynccontextmanager
async def opened(redis: str) -> AsyncIterator[RedisStore]:
    """The store that the bot opens with this section redis."""
    async with open_store(settings(redis)) as store:
        yield store


async def test_redis_over_tls(session_lab: Lab, tmp_path: Path) -> None:
    """With its authority and our certificate it serves; each of them wrong or missing is one clear message."""
    assert session_lab.control.exists()
    data = tmp_path / "data"
    redis = server(
        data,
        *("--port", "0", "--tls-port", str(TLS_PORT), "--tls-auth-clients", "yes"),
        *("--tls-ca-cert-file", "/mnt/ca.pem"),
        *("--tls-cert-file", "/mnt/redis.crt", "--tls-key-file", "/mnt/redis.key"),
    )
    ca = Authority.make(data, "ca")
    ca.issue(data, "redis")
    cert, key = ca.issue(data, "bot")
    stranger = Authority.make(data, "stranger")
    url = f"url: 'rediss://{LOCALHOST}:{TLS_PORT}'"
    ours = f"tls_cert_file: {cert}, tls_key_file: {key}"
    with processes(redis):
        await answers(TLS_PORT)
        async with opened(f"{{{url}, tls_ca_file: {ca.path}, {ours}}}") as store:
            assert await store.propose(DC1, R1, proposed(DC1)) == R1
            assert await store.check_persistence() == []
        async with opened(f"{{{url}, tls_ca_file: {stranger.path}, {ours}}}") as store:
            with pytest.raises(StoreUnavailable, match=r"certificate that is not good.*redis\.tls_ca_file"):
                await store.active(DC1)
        async with opened(f"{{{url}, tls_ca_file: {ca.path}}}") as store:
            with pytest.raises(StoreUnavailable, match=r"redis\.tls_cert_file"):
                await store.active(DC1)
        with pytest.raises(SettingsProblem, match=r"redis\.tls_ca_file: /none cannot be used"):
            async with opened(f"{{{url}, tls_ca_file: /none}}"):
                pass
        with pytest.raises(SettingsProblem, match=r"redis\.tls_key_file: .* cannot be used"):
            async with opened(
                f"{{{url}, tls_ca_file: {ca.path}, tls_cert_file: {cert}, tls_key_file: {ca.path}}}"
            ):
                pass


async def test_sentinel_names_the_master_also_after_a_failover(session_lab: Lab, tmp_path: Path) -> None:
    """A run goes on at the new master; a write that was in flight counts once; passwords show nowhere."""
    assert session_lab.control.exists()
    login = ("--requirepass", "redis-s3cret", "--masterauth", "redis-s3cret")
    first = server(tmp_path / "first", "--port", str(PORTS[0]), *login)
    second = server(
        tmp_path / "second", "--port", str(PORTS[1]), *login, "--replicaof", LOCALHOST, str(PORTS[0])
    )
    watch = (
        "requirepass sentinel-s3cret",
        f"sentinel monitor main {LOCALHOST} {PORTS[0]} 2",
        "sentinel auth-pass main redis-s3cret",
        "sentinel down-after-milliseconds main 500",
        "sentinel failover-timeout main 5000",
    )
    watchers = [
        sentinel(
            tmp_path / f"sentinel-{port}", port=port, lines=("sentinel sentinel-pass sentinel-s3cret", *watch)
        )
        for port in SENTINELS
    ]
    addresses = ", ".join(f"'{LOCALHOST}:{port}'" for port in SENTINELS)
    known = f"addresses: [{addresses}], master: main"
    good = f"{{sentinel: {{{known}, password: sentinel-s3cret}}, password: redis-s3cret}}"
    assert {"sentinel-s3cret", "redis-s3cret"} <= set(secrets_of(settings(good)))
    with processes(first, second, *watchers):
        for port in (*PORTS, *SENTINELS):
            await answers(port)
        async with opened(good) as store:
            await _replicated(store)
            for redis, said in (
                (f"{{sentinel: {{{known}}}, password: redis-s3cret}}", "redis.sentinel.password_file"),
                (
                    f"{{sentinel: {{{known}, password: sentinel-s3cret}}, password: wrong}}",
                    "redis.password_file",
                ),
                (
                    f"{{sentinel: {{{known}x, password: sentinel-s3cret}}, password: redis-s3cret}}",
                    "redis.sentinel.master",
                ),
            ):
                async with opened(redis) as wrong:
                    with pytest.raises(StoreUnavailable) as caught:
                        await wrong.active(DC1)
                assert said in str(caught.value)
                assert "s3cret" not in str(caught.value)
            assert await store.propose(DC1, R1, proposed(DC1)) == R1
            lease = await store.take_lease(DC1, R1, owner="bot-1", ttl_s=60, above_epoch=0)
            assert isinstance(lease, Lease)
            await store.append(lease, lease_taken("bot-1", lease.epoch), expected_length=1)
            await _replicated(store)
            await _known_to_all_watchers()
            first.kill()
            await _until_recorded(store, lease)
            assert len(await store.events(DC1, R1)) == 3
            first.start()
            await answers(PORTS[0])
            assert await store.active(DC1) == R1
            # The same write once more, as after an answer that was lost in the failover.
            await store.append(lease, OPENED, expected_length=2)
            assert len(await store.events(DC1, R1)) == 3
    assert "s3cret" not in repr(store._way.name)


async def _replicated(store: RedisStore) -> None:
    """Wait until the replica has everything: a failover forgets what no replica has."""
    async with asyncio.timeout(30):
        while True:
            try:
                await store.remember(DC1, "probe", "1")
                if await store._client.wait(1, 1000) == 1:
                    return
            except StoreUnavailable:
                await asyncio.sleep(0.05)


async def _known_to_all_watchers() -> None:
    """Wait until every Sentinel knows the replica and the others.

    They ask the master for its replicas every 10 s only; one that dies before is replaced by nobody, ever.
    """
    for port in SENTINELS:
        watcher = Redis(port=port, password="sentinel-s3cret", decode_responses=True)
        async with watcher, asyncio.timeout(30):
            while True:
                main = (await watcher.info("sentinel"))["master0"]
                if main["slaves"] == 1 and main["sentinels"] == 3:
                    break
                await asyncio.sleep(0.1)


async def _until_recorded(store: RedisStore, lease: Lease) -> None:
    """Record as a driver does that is taken up again whenever the store does not answer."""
    async with asyncio.timeout(60):
        while True:
            try:
                await store.append(lease, OPENED, expected_length=2)
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            except LeaseLost as lost:
                raise AssertionError("the replica had the lease") from lost
            else:
                return
