"""What the settings say, as frozen values: no file is open, nothing is left to check.

:mod:`config.settings` makes them. Names of clusters, servers and people are
the ones of the settings file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from recovery.errors import SettingsProblem
from recovery.model import ClientAgent, ClusterName, ClusterSpec, Person, ServerName, ServerSpec
from recovery.policy import ApprovalPolicy


class Secret:
    """A token or password that shows in no repr, log or error."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the secret itself, to whoever sends it."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackSettings:
    """The Slack app that the bot is."""

    bot_token: Secret
    app_token: Secret
    api_url: str
    """Ends with a slash, as slack-sdk wants it."""
    team_id: str | None
    """The only workspace that is listened to; None: the one that auth.test names."""
    channel: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files for TLS; None each where the machine's authorities do, or no certificate is asked for."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisServer:
    """A Redis that somebody else runs."""

    url: Secret
    """With a password in it, perhaps."""
    username: str | None
    password: Secret | None
    tls: TlsFiles | None
    """None where the URL says everything about TLS, or there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelRedis:
    """The Redis that Sentinels call the master."""

    addresses: tuple[tuple[str, int], ...]
    master: str
    database: int
    username: str | None
    password: Secret | None
    sentinel_username: str | None
    sentinel_password: Secret | None
    tls: TlsFiles | None
    """None: no TLS, neither with the Sentinels nor with Redis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateRedis:
    """A Redis of our own, for a bot on one machine (recovery.adapters.private_redis)."""

    state_folder: Path


class HostMode(StrEnum):
    """How host.sh comes to the hosts."""

    STREAMED = "streamed"
    """Sent with every call to ``sudo sh``: nothing to install."""
    INSTALLED = "installed"
    """Installed root-owned; sudo allows nothing but it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSettings:
    """How the servers are reached."""

    user: str
    key_file: Path
    known_hosts_file: Path
    port: int
    mode: HostMode
    connect_timeout_s: float


class TerminalIdentity(StrEnum):
    """By what a person at a terminal is known (bot.terminal_user)."""

    LOGIN = "login"
    """The user who logged in, as the kernel and systemd-logind agree."""
    LOGIN_UID = "login-uid"
    """The same by the kernel's word alone: where there is no systemd-logind."""
    SUDO = "sudo"
    """The user who called sudo: where nobody logs in, as in a container."""
    ACCOUNT = "account"
    """The user of the process itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonSettings:
    """One person with all accounts; no account belongs to two people."""

    name: Person
    slack_ids: tuple[str, ...]
    terminal_users: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalSettings:
    """Who may propose and approve, and by which rules. Nobody named means nobody may."""

    approvers: tuple[Person, ...]
    approver_groups: tuple[str, ...]
    """Ids of Slack user groups."""
    requesters: tuple[Person, ...]
    policy: ApprovalPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """The agent's HTTP API, as it listens on its own host's loopback."""

    port: int
    scheme: str
    ca_file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InventorySettings:
    """An Ansible inventory that names a cluster's client agents."""

    path: Path
    group: str
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """One cluster: its servers and how their agents are asked."""

    name: ClusterName
    datacenter: str | None
    channel: str | None
    unit: str
    http: HttpSettings
    agent_recovery_token: Secret | None
    management_token: Secret | None
    servers: tuple[ServerSpec, ...]
    clients: tuple[ClientAgent, ...] = ()
    """Those that are listed here; more may come from the inventory and from gossip."""
    client_inventory: InventorySettings | None = None

    @property
    def spec(self) -> ClusterSpec:
        """The servers that ought to be there."""
        return ClusterSpec(name=self.name, servers=self.servers)

    def server(self, name: ServerName) -> ServerSpec:
        """Give one server; KeyError if the cluster has no such server."""
        return {server.name: server for server in self.servers}[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything an operator can say."""

    source: Path
    slack: SlackSettings | None
    """None where the caller did not ask for it: a terminal has to work while Slack's tokens do not."""
    redis: RedisServer | SentinelRedis | PrivateRedis
    ssh: SshSettings
    signing_key: Secret | None = None
    """Signs what is kept in Redis; None: a key made from the SSH key does."""
    people: tuple[PersonSettings, ...]
    approvals: ApprovalSettings
    clusters: tuple[ClusterSettings, ...]
    terminal_identity: TerminalIdentity = TerminalIdentity.LOGIN
    lookout_every_s: int = 300
    """How often the bot looks at each cluster on its own, to remember its members."""
    secret_files: tuple[Path, ...]
    """Every file that holds a secret of ours, the settings themselves where a secret stands in them."""

    def cluster(self, name: str) -> ClusterSettings:
        """Give one cluster; SettingsProblem that lists the known ones."""
        for cluster in self.clusters:
            if cluster.name == name:
                return cluster
        known = ", ".join(sorted(cluster.name for cluster in self.clusters))
        raise SettingsProblem(f"There is no cluster {name}. The settings name: {known}.")

    def cluster_spec(self, name: str) -> ClusterSpec:
        """Give the servers of one cluster; SettingsProblem that lists the known clusters."""
        return self.cluster(name).spec

    def channel_of(self, name: str) -> str | None:
        """Where a cluster's runs are shown: its own channel, else the workspace's default one."""
        return self.cluster(name).channel or (self.slack.channel if self.slack else None)

    def person_of_slack(self, user_id: str) -> Person | None:
        """Who a Slack user is; None if the settings do not say."""
        return next((person.name for person in self.people if user_id in person.slack_ids), None)

    def person_of_terminal(self, user: str) -> Person | None:
        """Who a user of this machine's operating system is; None if the settings do not say."""
        return next((person.name for person in self.people if user in person.terminal_users), None)
