"""Settings -> everything that works: worlds, store, use cases, rights. Shared by both composition roots."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never
from urllib.parse import unquote, urlsplit

from bot import outgoing
from bot.authz import Grant, Rules
from bot.thread import Mentions
from config.ownership import NotOurs, refuse_foreign
from config.values import (
    ClusterSettings,
    HostMode,
    PrivateRedis,
    RedisServer,
    Secret,
    SentinelRedis,
    Settings,
    TlsFiles,
)
from recovery import membership
from recovery.adapters import consul_api
from recovery.adapters.ansible_inventory import AnsibleInventory
from recovery.adapters.client_agents import ClientAgents
from recovery.adapters.consul_api import AgentAccess
from recovery.adapters.host_commands import HostAccess
from recovery.adapters.private_redis import private_redis
from recovery.adapters.redis_client import RedisClient, Tls, client_at, client_through_sentinel
from recovery.adapters.redis_store import RedisStore
from recovery.adapters.ssh import SshAccess, SshPool
from recovery.adapters.world import ClusterWorld
from recovery.errors import InventoryProblem, SettingsProblem, Unverified
from recovery.membership import NOBODY, Membership
from recovery.model import ClusterName, RunId
from recovery.ports import World
from recovery.service import RecoveryService
from recovery.signing import SigningKey

# Letters and digits that nobody mistakes for each other when a run's name is read over the telephone.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


class MachineClock:
    """The machine's own time."""

    def now_s(self) -> float:
        """Unix time."""
        return time.time()

    def monotonic_s(self) -> float:
        """For deadlines."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What both front ends stand on."""

    settings: Settings
    service: RecoveryService
    worlds: Mapping[ClusterName, World]
    store: RedisStore
    clock: MachineClock
    owner: str
    """This process, as leases name it."""
    driving: RedisStore | None = None
    """The same store over connections of its own, for whoever drives runs; None: there is but one."""

    @property
    def driving_store(self) -> RedisStore:
        """Where runs are driven over: no crowd of people stands between a driver and its lease."""
        return self.driving or self.store

    @property
    def units(self) -> Mapping[ClusterName, str]:
        """The systemd unit of each cluster's agents."""
        return {cluster.name: cluster.unit for cluster in self.settings.clusters}


def new_run_id() -> RunId:
    """A short name for a run, like ``r7f3kq``."""
    return RunId("r" + "".join(secrets.choice(_ALPHABET) for _ in range(6)))


def new_owner(kind: str) -> str:
    """A name for this process that no other one has: ``bot@host-3f2a9c``."""
    host = "".join(c if c.isalnum() or c in "._-" else "-" for c in socket.gethostname())
    return f"{kind}@{host}-{secrets.token_hex(3)}"


@asynccontextmanager
async def open_core(settings: Settings, *, kind: str) -> AsyncIterator[Core]:
    """Open the store and the SSH pool; nothing is asked of a cluster yet.

    Raises SettingsProblem or StoreUnavailable where the store cannot be had.
    """
    async with (
        _open_stores(settings) as (store, driving),
        open_hosts(settings, store=store) as (_, worlds),
    ):
        clock = MachineClock()
        yield Core(
            settings=settings,
            service=RecoveryService(
                clusters={cluster.name: cluster.spec for cluster in settings.clusters},
                worlds=worlds,
                store=store,
                approval=settings.approvals.policy,
                clock=clock,
                new_id=new_run_id,
            ),
            worlds=worlds,
            store=store,
            clock=clock,
            owner=new_owner(kind),
            driving=driving,
        )


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[RedisStore]:
    """The store of the settings; raises SettingsProblem or StoreUnavailable."""
    async with _open_stores(settings) as (store, _):
        yield store


@asynccontextmanager
async def _open_stores(settings: Settings) -> AsyncIterator[tuple[RedisStore, RedisStore]]:
    """The store twice, each over connections of its own: for what people ask, and for whoever drives."""
    redis = settings.redis
    key = signing_key(settings)
    async with AsyncExitStack() as stack:
        url = ""
        if isinstance(redis, PrivateRedis):
            url = await stack.enter_async_context(private_redis(redis.state_folder))
        stores = []
        for _ in range(2):
            client = client_at(url) if isinstance(redis, PrivateRedis) else _redis_client(redis)
            store = RedisStore(client, key=key)
            stack.push_async_callback(store.aclose)
            stores.append(store)
        yield stores[0], stores[1]


def signing_key(settings: Settings) -> SigningKey:
    """What signs journals and memos; raises SettingsProblem where it would come from a key that cannot be read."""
    if settings.signing_key is not None:
        return SigningKey(settings.signing_key.reveal().encode())
    path = settings.ssh.key_file
    try:
        # Its text as it is: every process of the bot has the same file.
        secret = path.read_bytes().strip()
    except OSError as error:
        raise _no_key(settings, f"cannot be read ({error.strerror})") from None
    if not secret:
        raise _no_key(settings, "is empty")
    return SigningKey(secret)


def _no_key(settings: Settings, why: str) -> SettingsProblem:
    return SettingsProblem(
        f"ssh.key_file {settings.ssh.key_file} {why}: it is the way to the servers, and signs what is kept in Redis."
        " Nothing was started. Put the file there for the bot's user, mode 0600, or correct its path in the settings."
    )


def _redis_client(redis: RedisServer | SentinelRedis) -> RedisClient:
    password = _revealed(redis.password)
    match redis:
        case RedisServer():
            return client_at(
                redis.url.reveal(), username=redis.username, password=password, tls=_tls(redis.tls)
            )
        case SentinelRedis():
            return client_through_sentinel(
                redis.addresses,
                redis.master,
                database=redis.database,
                username=redis.username,
                password=password,
                sentinel_username=redis.sentinel_username,
                sentinel_password=_revealed(redis.sentinel_password),
                tls=_tls(redis.tls),
            )
        case _:
            assert_never(redis)


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


def _tls(files: TlsFiles | None) -> Tls | None:
    if files is None:
        return None
    ca, cert, key = (None if path is None else str(path) for path in (files.ca, files.cert, files.key))
    return Tls(ca_file=ca, cert_file=cert, key_file=key)


@asynccontextmanager
async def open_hosts(
    settings: Settings, *, store: RedisStore | None = None
) -> AsyncIterator[tuple[SshPool, Mapping[ClusterName, World]]]:
    """The SSH pool, and the worlds over it; no session is opened yet.

    Without the store no client agent is known from the last known membership.
    """
    pool = SshPool(
        SshAccess(
            user=settings.ssh.user,
            key_path=str(settings.ssh.key_file),
            known_hosts_path=str(settings.ssh.known_hosts_file),
            port=settings.ssh.port,
            connect_timeout_s=settings.ssh.connect_timeout_s,
        )
    )
    try:
        yield pool, {cluster.name: _world(settings, cluster, pool, store) for cluster in settings.clusters}
    finally:
        await pool.aclose()


def _world(settings: Settings, cluster: ClusterSettings, pool: SshPool, store: RedisStore | None) -> World:
    management, recovery = cluster.management_token, cluster.agent_recovery_token
    return ClusterWorld(
        cluster.spec,
        pool=pool,
        host=HostAccess(
            user=settings.ssh.user,
            unit=cluster.unit,
            installed=settings.ssh.mode is HostMode.INSTALLED,
        ),
        agent=AgentAccess(
            http_port=cluster.http.port,
            scheme=cluster.http.scheme,
            ca_path=str(cluster.http.ca_file) if cluster.http.ca_file is not None else "",
            token=consul_api.Secret(management.reveal()) if management is not None else None,
            recovery_token=consul_api.Secret(recovery.reveal()) if recovery is not None else None,
        ),
        clients=_clients(settings, cluster, store),
    )


def _clients(settings: Settings, cluster: ClusterSettings, store: RedisStore | None) -> ClientAgents:
    named = cluster.client_inventory
    # The inventory program is somebody else's: what it may need from the environment is not our secrets.
    known = secrets_of(settings)
    environ = {name: value for name, value in os.environ.items() if value.strip() not in known}

    async def recall() -> Membership:
        if store is None:
            return NOBODY
        try:
            return membership.decode(await store.recall(cluster.name, membership.MEMO))
        except Unverified:
            # Said by `status`; a member that somebody else wrote there is nobody's way to a host.
            return NOBODY

    inventory = None
    if named is not None:
        inventory = AnsibleInventory(
            named.path,
            group=named.group,
            timeout_s=named.timeout_s,
            environ=environ,
            refuse_foreign=_refuse_foreign_inventory,
        )
    return ClientAgents(cluster.servers, settings=cluster.clients, inventory=inventory, recall=recall)


def _refuse_foreign_inventory(path: Path) -> None:
    try:
        refuse_foreign(path, uid=os.geteuid())
    except NotOurs as problem:
        raise InventoryProblem(f"is neither read nor run: {problem}") from None


def rules_of(settings: Settings, *, teams: frozenset[str] = frozenset()) -> Rules:
    """The rights of the settings; members of an approver group may also propose."""
    approvals = settings.approvals
    groups = frozenset(approvals.approver_groups)
    policy = approvals.policy
    return Rules(
        teams=teams,
        slack={user: person.name for person in settings.people for user in person.slack_ids},
        terminal={user: person.name for person in settings.people for user in person.terminal_users},
        recover=Grant(frozenset(approvals.requesters), groups, "approvals.requesters"),
        approve=Grant(frozenset(approvals.approvers), groups, "approvals.approvers"),
        two_people=not policy.requester_counts
        or max(policy.reversible_people, policy.irreversible_people) > 1,
    )


def mentions_of(settings: Settings) -> Mentions:
    """Whom to call when a decision is needed: the approvers."""
    of = {person.name: outgoing.user(person.slack_ids[0]) for person in settings.people if person.slack_ids}
    named = tuple(of[person] for person in settings.approvals.approvers if person in of)
    groups = tuple(outgoing.group(group) for group in settings.approvals.approver_groups)
    direct = {person.name: person.slack_ids[0] for person in settings.people if person.slack_ids}
    approvers = settings.approvals.approvers
    return Mentions((*groups, *named), of, {name: direct[name] for name in approvers if name in direct})


def _password_in(url: Secret) -> Secret | None:
    password = urlsplit(url.reveal()).password
    return Secret(unquote(password)) if password else None


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """Every secret of the settings, so that none is ever logged."""
    known = []
    if settings.slack is not None:
        known += [settings.slack.bot_token, settings.slack.app_token]
    match settings.redis:
        case RedisServer(url=url, password=password):
            known += [secret for secret in (url, _password_in(url), password) if secret is not None]
        case SentinelRedis(password=password, sentinel_password=other):
            known += [secret for secret in (password, other) if secret is not None]
        case PrivateRedis():
            pass
        case _:
            assert_never(settings.redis)
    if settings.signing_key is not None:
        known.append(settings.signing_key)
    for cluster in settings.clusters:
        known += [token for token in (cluster.management_token, cluster.agent_recovery_token) if token]
    return tuple(secret.reveal() for secret in known)
