"""Ways to a Redis: one address, or whichever server Sentinel calls the master; with TLS, users, passwords.

Nothing is sent here: a client connects with its first command. The Sentinel
client asks for the master again whenever it has to connect, also after
"READONLY" from a demoted one, so that a failover needs nothing from us
(https://redis.io/docs/latest/develop/reference/sentinel-clients/).

Errors name files and settings, never what stood in them.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import ExponentialBackoff, NoBackoff

from recovery.errors import SettingsProblem

SOCKET_TIMEOUT_S = 2.0
_AGAIN = 2
"""How often a call is sent again; the scripts know their own earlier success."""

RIGHTS = (
    "~consul-recovery:* +get +set +del +exists +rpush +lrange +llen +lindex +zadd +zrevrange +hset +hmget"
    " +pexpire +eval +evalsha +script|load +ping +select +info +config|get"
)
"""What an ACL user needs, and no more (https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How Redis proves who it is, and how we do where it asks for a certificate; paths of PEM files."""

    ca_file: str | None = None
    """None: the machine's own certificate authorities."""
    cert_file: str | None = None
    key_file: str | None = None


@dataclass(frozen=True, slots=True)
class RedisClient:
    """A client, what to close beside it, and how messages name it."""

    redis: Redis
    name: str
    """Addresses, a path or a master's name; never a password."""
    sentinel: Sentinel | None = None
    certificate_missing: bool = False
    """Whether we speak TLS without a certificate of our own: a Redis that wants one just hangs up (TLS 1.3)."""

    async def aclose(self) -> None:
        """Close the connections."""
        await self.redis.aclose()
        if self.sentinel is not None:
            await self.sentinel.aclose()


def client_at(
    url: str, *, username: str | None = None, password: str | None = None, tls: Tls | None = None
) -> RedisClient:
    """Make a client for ``redis://``, ``rediss://`` (TLS) or ``unix://``.

    A user and a password may stand in the URL or beside it. SettingsProblem if
    the URL is none, or a file of ``tls`` cannot be used.
    """
    options = _login(username, password)
    if tls is not None:
        options |= _tls_options(tls)
    try:
        client = Redis.from_url(url, **_patience(), **options)
        name = _address(url)
    except ValueError:
        # The text of the error may hold a part of the password.
        raise SettingsProblem(
            "The Redis URL cannot be read. Write redis://HOST:6379/0, rediss:// for TLS, or"
            " unix:///PATH, with the characters /, @ and : of a password as %2F, %40 and %3A."
        ) from None
    without = url.startswith("rediss:") and (tls is None or tls.cert_file is None)
    return RedisClient(client, f"Redis at {name}", certificate_missing=without)


def client_through_sentinel(
    addresses: Sequence[tuple[str, int]],
    master: str,
    *,
    database: int = 0,
    username: str | None = None,
    password: str | None = None,
    sentinel_username: str | None = None,
    sentinel_password: str | None = None,
    tls: Tls | None = None,
) -> RedisClient:
    """Make a client for the master that Sentinel names; with ``tls`` Sentinel is spoken to the same way.

    SettingsProblem if a file of ``tls`` cannot be used.
    """
    secured = {} if tls is None else {"ssl": True, **_tls_options(tls)}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        list(addresses),
        sentinel_kwargs={
            "socket_timeout": SOCKET_TIMEOUT_S / 2,
            "socket_connect_timeout": SOCKET_TIMEOUT_S / 2,
            # The next Sentinel is asked instead.
            "retry": Retry(NoBackoff(), 0),
            **_login(sentinel_username, sentinel_password),
            **secured,
        },
    )
    client = sentinel.master_for(master, db=database, **_patience(), **_login(username, password), **secured)
    known = ", ".join(f"{host}:{port}" for host, port in addresses)
    return RedisClient(
        client,
        f"Redis (the master “{master}” of Sentinel at {known})",
        sentinel,
        certificate_missing=tls is not None and tls.cert_file is None,
    )


def explain(error: Exception, *, certificate_missing: bool = False) -> tuple[str, str]:
    """Say what happened and what to do next. The texts of redis stay here: they may hold what was sent."""
    # A connection that failed while logging in is a ConnectionError around the true reason.
    while isinstance(error, exceptions.ConnectionError) and isinstance(
        error.__cause__, exceptions.RedisError
    ):
        error = error.__cause__
    if (refused := _tls_refusal(error)) is not None:
        return refused
    match error:
        case MasterNotFoundError():
            return _no_master(str(error))
        case exceptions.AuthenticationError() | exceptions.AuthenticationWrongNumberOfArgsError():
            return (
                "does not accept our user or password",
                "Correct redis.username and redis.password_file in the settings.",
            )
        case exceptions.NoPermissionError():
            return "does not allow our user to do this", f"Give that user `{RIGHTS}`."
        case exceptions.ReadOnlyError():
            return "is a replica and takes no writes", "Set redis.url in the settings to the primary."
        case exceptions.BusyLoadingError():
            return "is still loading its data", "Try again in a moment."
        case exceptions.OutOfMemoryError():
            return "has no memory left", "Give it more memory (maxmemory), then try again."
        case exceptions.TimeoutError() | TimeoutError():
            return (
                "gave no answer in time",
                "If it was only slow the change may have been made after all: ask for the status first.",
            )
        case exceptions.ConnectionError() | OSError():
            wants = " If it asks for a certificate, set redis.tls_cert_file." if certificate_missing else ""
            return (
                "cannot be reached",
                f"Check that Redis runs and that this machine reaches it, then ask for the status.{wants}",
            )
        case _ if str(error).startswith("MISCONF"):
            return "cannot write to its disk", "Free space on its disk, then try again."
        case _ if str(error).startswith("NOREPLICAS"):
            return "has too few replicas to take a write", "Bring its replicas back, then try again."
        case _ if str(error).startswith("NOAUTH"):
            return "asks for a password", "Set redis.password_file in the settings."
        case _:
            return f"refused ({type(error).__name__})", "Read the log of Redis, then try again."


def _no_master(text: str) -> tuple[str, str]:
    if "Authentication" in text or "NOAUTH" in text:
        return (
            "cannot be found: Sentinel does not accept our password",
            "Correct redis.sentinel.password_file in the settings.",
        )
    if " : " in text:
        return (
            "cannot be found: no Sentinel that answers names a master",
            "Check that the Sentinels run, and that this machine reaches them (redis.sentinel.addresses).",
        )
    return (
        "cannot be found: Sentinel names no master of that name that is up",
        "Wait for the failover, or correct redis.sentinel.master in the settings.",
    )


def _tls_refusal(error: BaseException) -> tuple[str, str] | None:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    match cause:
        case ssl.SSLCertVerificationError():
            return (
                f"has a certificate that is not good ({cause.verify_message})",
                "Correct redis.tls_ca_file in the settings, or the names in the certificate.",
            )
        case ssl.SSLError():
            return (
                f"does not speak TLS with us ({cause.reason or 'the handshake broke off'})",
                "Check its TLS port, and redis.tls_cert_file where it asks for a certificate.",
            )
        case _:
            return None


def _patience() -> dict[str, Any]:
    return {
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": SOCKET_TIMEOUT_S,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.1), _AGAIN),
    }


def _login(username: str | None, password: str | None) -> dict[str, Any]:
    given = {"username": username, "password": password}
    return {key: value for key, value in given.items() if value is not None}


def _tls_options(tls: Tls) -> dict[str, Any]:
    """The options, after a look at the files: redis itself would report a missing one as a lost connection."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except (OSError, ssl.SSLError):
        raise _unusable("redis.tls_ca_file", tls.ca_file) from None
    if tls.cert_file is not None:
        try:
            # A key with a passphrase would ask for it on the terminal.
            context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: "")
        except (OSError, ssl.SSLError):
            raise _unusable(
                "redis.tls_cert_file and redis.tls_key_file", f"{tls.cert_file}, {tls.key_file}"
            ) from None
    options = {"ssl_ca_certs": tls.ca_file, "ssl_certfile": tls.cert_file, "ssl_keyfile": tls.key_file}
    return {key: value for key, value in options.items() if value is not None}


def _unusable(setting: str, path: str | None) -> SettingsProblem:
    return SettingsProblem(
        f"{setting}: {path} cannot be used; Redis was not asked. Write PEM files there that this user can"
        " read, a certificate with its own key, and no passphrase."
    )


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
