"""The shape of the settings file, for pydantic. Each description ends the sentence "write ..."."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from config.ownership import NotOurs, read_ours, refuse_foreign
from config.values import HostMode, Secret, TerminalIdentity
from recovery.inventory.address import address_problem
from recovery.policy import GateMode

LEAST_KEY_CHARACTERS = 32
NOT_OURS = "not_ours"
"""The kind of problem of a file that somebody else may change: its message ends with the command that mends it."""


@dataclass
class Sources:
    """Where secrets are read from, and which ones were: the context of one validation."""

    environ: Mapping[str, str]
    uid: int
    """Whose files count beside root's."""
    files: list[Path] = field(default_factory=list)
    inline: bool = False


# --- Values -----------------------------------------------------------------------------------------------


def _matching(pattern: str, wrong: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(wrong)
        return value

    return AfterValidator(check)


def _host(address: str) -> str:
    if problem := address_problem(address):
        raise ValueError(problem)
    return address


def _host_and_port(address: str) -> str:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError("has no port; Sentinel's own is 26379")
    _host(host.removeprefix("[").removesuffix("]"))
    return address


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("is not an absolute path")
    return path


def _ours(path: Path, info: ValidationInfo) -> Path:
    _absolute(path)
    try:
        refuse_foreign(path, uid=_sources(info).uid)
    except NotOurs as problem:
        raise PydanticCustomError(NOT_OURS, "{why}", {"why": str(problem)}) from None
    return path


def _sources(info: ValidationInfo) -> Sources:
    if not isinstance(info.context, Sources):
        raise TypeError("settings are read with a Sources context")
    return info.context


def _some(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("is empty")
    return values


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _beginning(prefix: str) -> AfterValidator:
    def check(secret: Secret) -> Secret:
        if not secret.reveal().startswith(prefix):
            raise ValueError(f"does not begin with {prefix}")
        return secret

    return AfterValidator(check)


def _long_enough(secret: Secret) -> Secret:
    if len(secret.reveal()) < LEAST_KEY_CHARACTERS:
        raise ValueError(
            f"has fewer than {LEAST_KEY_CHARACTERS} characters; make one with `openssl rand -hex 32`"
        )
    return secret


def _redis_url(secret: Secret) -> Secret:
    try:
        parts = urlsplit(secret.reveal())
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        # The text of that error may hold a part of the password.
        raise ValueError("cannot be read (in a password / @ : are written %2F %40 %3A)") from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("does not begin with redis://, rediss:// or unix://")
    if host.rstrip(".").endswith(".consul"):
        raise ValueError("is found through Consul DNS, which is down when it is needed")
    return secret


def _read_secret(value: Any, info: ValidationInfo) -> Any:
    """Read a secret from where the settings say: itself, a file, or a variable of the environment."""
    sources = _sources(info)
    match value:
        case Secret():
            return value
        case {"file": str(name)}:
            return _read_file(Path(name), sources)
        case {"env": str(name)}:
            found = sources.environ.get(name, "").strip()
            if not found:
                raise ValueError(f"the environment variable {name} is not set or empty")
            return Secret(found)
        case {"several": str(keys)}:
            raise ValueError(f"is given more than once ({keys}); keep one of them")
        case str(text) if text.strip():
            # A Redis URL without a password in it is no secret.
            sources.inline |= "://" not in text or "@" in text
            return Secret(text.strip())
        case _:
            raise ValueError("is no text")


def _read_file(path: Path, sources: Sources) -> Secret:
    _absolute(path)
    try:
        text = read_ours(path, uid=sources.uid).strip()
    except NotOurs as problem:
        raise PydanticCustomError(NOT_OURS, "{why}", {"why": str(problem)}) from None
    except OSError as error:
        raise ValueError(f"the file {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError(f"the file {path} is no text") from None
    if not text:
        raise ValueError(f"the file {path} is empty")
    sources.files.append(path)
    return Secret(text)


_IsSecret = BeforeValidator(_read_secret)
Token = Annotated[Secret, _IsSecret]
BotToken = Annotated[Secret, _IsSecret, _beginning("xoxb-")]
AppToken = Annotated[Secret, _IsSecret, _beginning("xapp-")]
SigningSecret = Annotated[Secret, _IsSecret, AfterValidator(_long_enough)]
RedisUrl = Annotated[Secret, _IsSecret, AfterValidator(_redis_url)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
OurPath = Annotated[Path, AfterValidator(_ours)]
"""A file, or a folder, that nobody else may change."""
Name = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9][A-Za-z0-9._-]*", "has other characters than letters, digits, dot, dash, underscore"
    ),
]
Address = Annotated[str, AfterValidator(_host)]
AddressWithPort = Annotated[str, AfterValidator(_host_and_port)]
SlackUser = Annotated[str, _matching(r"[UW][A-Z0-9]+", "is not the id of a Slack user")]
SlackGroup = Annotated[str, _matching(r"S[A-Z0-9]+", "is not the id of a Slack user group (not its handle)")]
SlackTeam = Annotated[str, _matching(r"[TE][A-Z0-9]+", "is not the id of a Slack workspace")]
Channel = Annotated[str, _matching(r"[CG][A-Z0-9]+", "is not the id of a channel (not its name)")]
# The same characters as host.sh takes.
Unit = Annotated[str, _matching(r"[A-Za-z0-9:_@][A-Za-z0-9:_.@-]*", "is not the name of a systemd unit")]
Port = Annotated[int, Field(ge=1, le=65535)]
People = Annotated[int, Field(ge=1, le=10)]

# --- Sections -------------------------------------------------------------------------------------------


class Section(BaseModel):
    """A mapping of the file; a key that is not known is a problem, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @classmethod
    def secrets(cls) -> frozenset[str]:
        """The keys that hold a secret and so may end in ``_file`` and ``_env``."""
        return frozenset(
            name
            for name, info in cls.model_fields.items()
            if _IsSecret in info.metadata
            or any(_IsSecret in getattr(part, "__metadata__", ()) for part in get_args(info.annotation))
        )

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """Every key that may be written."""
        ways = (f"{name}_{way}" for name in cls.secrets() for way in ("file", "env"))
        return (*cls.model_fields, *sorted(ways))

    @model_validator(mode="before")
    @classmethod
    def _gather_secrets(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        gathered = dict(data)
        for name in cls.secrets():
            given = [key for key in (name, f"{name}_file", f"{name}_env") if gathered.get(key) is not None]
            ways = {key: gathered.pop(key) for key in given}
            match given:
                case []:
                    pass
                case [key] if key == name:
                    gathered[name] = ways[key]
                case [key]:
                    gathered[name] = {key.removeprefix(f"{name}_"): str(ways[key])}
                case _:
                    gathered[name] = {"several": ", ".join(given)}
        return gathered


class SlackSection(Section):
    """The Slack app."""

    bot_token: BotToken = Field(description="the bot token, xoxb-... (or bot_token_file, bot_token_env)")
    app_token: AppToken = Field(
        description="the app-level token, xapp-... (or app_token_file, app_token_env)"
    )
    api_url: Annotated[str, _matching(r"https?://.+", "is not an http or https address")] = Field(
        default="https://slack.com/api/", description="the address of Slack's Web API, or leave it out"
    )
    team_id: SlackTeam | None = Field(
        default=None, description="the id of the workspace, T..., or leave it out"
    )
    channel: Channel | None = Field(default=None, description="the id of the default channel, C...")


class SentinelSection(Section):
    """The Sentinels that know which Redis is the master."""

    addresses: Annotated[tuple[AddressWithPort, ...], AfterValidator(_some), BeforeValidator(_several)] = (
        Field(description="a list of the Sentinels, each as HOST:26379")
    )
    master: Annotated[str, Field(min_length=1)] = Field(
        description="the name that the Sentinels give the master, like mymaster"
    )
    username: str | None = Field(default=None, description="the user of the Sentinels, or leave it out")
    password: Token | None = Field(default=None, description="password_file or password_env")
    database: Annotated[int, Field(ge=0)] = Field(default=0, description="the number of the database")
    tls: bool = Field(default=False, description="true where Sentinels and Redis speak TLS")


class RedisSection(Section):
    """Where lock and journal are kept."""

    url: RedisUrl | None = Field(default=None, description="redis://HOST:6379/0 (or url_file, url_env)")
    username: str | None = Field(default=None, description="the name of the Redis user, or leave it out")
    password: Token | None = Field(default=None, description="password_file or password_env")
    sentinel: SentinelSection | None = Field(
        default=None, description="addresses and master of the Sentinels, instead of url"
    )
    signing_key: SigningSecret | None = Field(
        default=None,
        description="signing_key_file or signing_key_env, or leave it out: then the SSH key signs",
    )
    tls_ca_file: OurPath | None = Field(
        default=None, description="the path of the CA certificate, for rediss://"
    )
    tls_cert_file: OurPath | None = Field(
        default=None, description="the path of our own certificate, where Redis asks for one"
    )
    tls_key_file: OurPath | None = Field(default=None, description="the path of the key of tls_cert_file")
    private: bool = Field(
        default=False, description="true for a Redis that the bot starts itself, else leave it out"
    )
    state_folder: OurPath = Field(
        default=Path("/var/lib/consul-recovery/redis"), description="the folder of the private Redis"
    )


class SshSection(Section):
    """The way to the servers."""

    user: Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_.-]*", "is not a user name")] = Field(
        description="the user that the bot logs in as on the servers"
    )
    key_file: OurPath = Field(description="the path of the private SSH key")
    known_hosts_file: OurPath = Field(description="the path of the file with the servers' host keys")
    port: Port = Field(default=22, description="the port of sshd, 1 to 65535")
    mode: HostMode = Field(default=HostMode.STREAMED, description="streamed or installed")
    connect_timeout_s: Annotated[float, Field(gt=0, le=60)] = Field(
        default=5.0, description="the seconds to wait for a login, at most 60"
    )


class PersonSection(Section):
    """A person with all accounts."""

    name: Name = Field(description="the person's name")
    slack: Annotated[tuple[SlackUser, ...], BeforeValidator(_several)] = Field(
        default=(), description="the person's Slack user id, U..., or a list of them"
    )
    terminal: Annotated[tuple[str, ...], BeforeValidator(_several)] = Field(
        default=(), description="the person's user name on the bot's machine, or a list of them"
    )


class NeededSection(Section):
    """How many people by the worst risk."""

    reversible: People = Field(
        default=1, description="how many people approve a plan with a way back, 1 to 10"
    )
    irreversible: People = Field(
        default=1, description="how many people approve steps without a way back, 1 to 10"
    )


class ApprovalSection(Section):
    """Who may propose and approve."""

    approvers: tuple[str, ...] = Field(default=(), description="a list of names from people")
    approver_groups: tuple[SlackGroup, ...] = Field(
        default=(), description="a list of Slack user group ids, S..."
    )
    requesters: tuple[str, ...] | None = Field(
        default=None, description="a list of names from people, or leave it out"
    )
    requester_may_approve: bool = Field(default=False, description="true or false")
    break_glass: bool = Field(default=False, description="true or false")
    people_needed: NeededSection = Field(
        default=NeededSection(), description="reversible and irreversible, each a number"
    )
    gates: GateMode = Field(default=GateMode.TWO, description="one, two or each-risky")
    expiry_s: Annotated[int, Field(ge=60, le=86400)] = Field(
        default=1800, description="the seconds that people have to approve, 60 to 86400"
    )


class HttpSection(Section):
    """The agent's HTTP API on its own loopback."""

    port: Port = Field(default=8500, description="the port of the agent's HTTP API on its loopback")
    scheme: Literal["http", "https"] = Field(default="http", description="http or https")
    ca_file: OurPath | None = Field(default=None, description="the path of the CA certificate, for https")


class TokenSection(Section):
    """ACL tokens; without ACLs there are none."""

    agent_recovery: Token | None = Field(
        default=None,
        description="acl.tokens.agent_recovery of the servers (or agent_recovery_file, agent_recovery_env)",
    )
    management: Token | None = Field(
        default=None, description="a token with operator:write (or management_file, management_env)"
    )


class ServerSection(Section):
    """One server."""

    name: Name = Field(description="the server's Consul node name")
    address: Address = Field(description="the SSH address of the server")


class ClientSection(Section):
    """One client agent."""

    name: Name = Field(description="the client agent's Consul node name")
    address: Address = Field(description="the SSH address of the client agent's host")


class InventorySection(Section):
    """An Ansible inventory that names the client agents."""

    path: AbsolutePath = Field(
        description="the path of an INI or YAML file, or of a program that takes --list"
    )
    group: str = Field(min_length=1, description="the group with the client agents")
    timeout_s: Annotated[float, Field(gt=0, le=300)] = Field(
        default=20.0, description="the seconds that the program may take, at most 300"
    )


class ClusterSection(Section):
    """One cluster."""

    datacenter: Name | None = Field(default=None, description="the Consul datacenter, or leave it out")
    channel: Channel | None = Field(default=None, description="the id of the channel for this cluster, C...")
    unit: Unit = Field(default="consul", description="the systemd unit of the Consul agent")
    http: HttpSection = Field(default=HttpSection(), description="port, scheme and ca_file")
    tokens: TokenSection = Field(default=TokenSection(), description="agent_recovery and management")
    servers: Annotated[tuple[ServerSection, ...], Field(min_length=1)] = Field(
        description="a list of the cluster's servers, each with name and address"
    )
    clients: tuple[ClientSection, ...] = Field(
        default=(), description="a list of client agents, each with name and address, or leave it out"
    )
    client_inventory: InventorySection | None = Field(
        default=None, description="path and group of an Ansible inventory, or leave it out"
    )


class TerminalSection(Section):
    """People at a terminal of the bot's machine."""

    identity: TerminalIdentity = Field(
        default=TerminalIdentity.LOGIN, description="login, login-uid, sudo or account"
    )


class LookoutSection(Section):
    """The bot's own quiet looks."""

    every_s: Annotated[int, Field(ge=30, le=86400)] = Field(
        default=300, description="the seconds between two looks at each cluster, 30 to 86400"
    )


SECTIONS: Mapping[str, Any] = {
    "slack": SlackSection,
    "redis": RedisSection,
    "ssh": SshSection,
    "people": tuple[PersonSection, ...],
    "approvals": ApprovalSection,
    "clusters": dict[Name, ClusterSection],
    "terminal": TerminalSection,
    "lookout": LookoutSection,
}
