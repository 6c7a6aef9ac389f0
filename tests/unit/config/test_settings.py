"""The settings file: what it gives, and how each mistake in it is told."""

import re
from pathlib import Path

import pytest
import yaml

from config.settings import DEFAULT_PATH, load_settings, parse_settings, settings_path
from config.values import (
    HostMode,
    InventorySettings,
    PrivateRedis,
    RedisServer,
    Secret,
    SentinelRedis,
    Settings,
    TlsFiles,
)
from recovery.adapters.redis_client import RIGHTS
from recovery.errors import SettingsProblem
from recovery.model import ClientAgent, ClusterName, ClusterSpec, ServerName, ServerSpec
from recovery.policy import ApprovalPolicy, GateMode

GOOD = """
slack: {bot_token: xoxb-bot-secret, app_token_env: APP, channel: C0OPS}
redis: {url: "redis://10.0.0.9:6379/0"}
ssh: {user: consul-recovery, key_file: /keys/id, known_hosts_file: /keys/known_hosts}
people:
  - {name: alice, slack: U0ALICE, terminal: alice}
  - {name: bob, slack: [U0BOB, W0BOB], terminal: [bob, bobby]}
approvals: {approvers: [bob]}
clusters:
  prod:
    servers:
      - {name: s1, address: 10.0.0.1}
      - {name: s2, address: s2.example.com}
"""
ENVIRON = {"APP": "xapp-app-secret"}
HERE = Path("/etc/settings.yaml")


def parse(text: str, *, slack: bool = True) -> Settings:
    return parse_settings(text, source=HERE, environ=ENVIRON, slack=slack)


def changed(path: str, value: object) -> str:
    """GOOD with one place changed, or taken out where the value is None."""
    tree = yaml.safe_load(GOOD)
    here = tree
    *way, last = path.split(".")
    for part in way:
        here = here[int(part)] if isinstance(here, list) else here.setdefault(part, {})
    if value is None:
        del here[last]
    else:
        here[int(last) if isinstance(here, list) else last] = value
    return yaml.safe_dump(tree)


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsProblem) as caught:
        parse(text)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


# --- What it gives ----------------------------------------------------------------------------------------


def test_good_settings_become_values() -> None:
    """A complete file gives every value, with the defaults that the example names."""
    settings = parse(GOOD)
    assert settings.slack is not None
    assert settings.slack.bot_token.reveal() == "xoxb-bot-secret"
    assert settings.slack.app_token.reveal() == "xapp-app-secret"
    assert settings.slack.api_url == "https://slack.com/api/"
    assert isinstance(settings.redis, RedisServer)
    assert settings.redis.url.reveal() == "redis://10.0.0.9:6379/0"
    assert (settings.ssh.port, settings.ssh.mode, settings.ssh.connect_timeout_s) == (
        22,
        HostMode.STREAMED,
        5.0,
    )
    assert settings.approvals.policy == ApprovalPolicy(
        reversible_people=1,
        irreversible_people=1,
        requester_counts=False,
        gates=GateMode.TWO,
        expires_after_s=1800,
    )
    prod = settings.cluster("prod")
    assert (prod.unit, prod.http.port, prod.http.scheme) == ("consul", 8500, "http")


def test_a_cluster_gives_its_spec() -> None:
    """The servers come in the order of the file, with their SSH addresses."""
    assert parse(GOOD).cluster_spec("prod") == ClusterSpec(
        name=ClusterName("prod"),
        servers=(
            ServerSpec(name=ServerName("s1"), address="10.0.0.1"),
            ServerSpec(name=ServerName("s2"), address="s2.example.com"),
        ),
    )


def test_an_unknown_cluster_is_answered_with_the_known_ones() -> None:
    """Whoever asks for a cluster that is not there learns which are."""
    with pytest.raises(SettingsProblem, match=r"no cluster prd\. The settings name: prod\."):
        parse(GOOD).cluster_spec("prd")


def test_all_accounts_of_a_person_lead_to_them() -> None:
    """Each Slack id and each terminal user is one person; others are nobody."""
    settings = parse(GOOD)
    assert {settings.person_of_slack(account) for account in ("U0BOB", "W0BOB")} == {"bob"}
    assert {settings.person_of_terminal(user) for user in ("bob", "bobby")} == {"bob"}
    assert settings.person_of_slack("U0MALLORY") is None
    assert settings.person_of_slack("bob") is None
    assert settings.person_of_terminal("root") is None


def test_everybody_named_may_propose_unless_the_settings_say_who() -> None:
    """Without requesters all people may propose; an empty list means nobody."""
    assert parse(GOOD).approvals.requesters == ("alice", "bob")
    assert parse(changed("approvals.requesters", ["alice"])).approvals.requesters == ("alice",)
    assert parse(changed("approvals.requesters", [])).approvals.requesters == ()


def test_nobody_named_means_nobody_may() -> None:
    """Without people and approvals the settings are good, and nobody is anybody."""
    settings = parse(changed("approvals", None))
    assert settings.approvals.approvers == ()
    tree = yaml.safe_load(changed("approvals", None))
    del tree["people"]
    settings = parse(yaml.safe_dump(tree))
    assert (settings.people, settings.approvals.requesters) == ((), ())


def test_a_cluster_has_its_own_channel_or_the_default_one() -> None:
    """A cluster's channel wins over the workspace's."""
    assert parse(GOOD).channel_of("prod") == "C0OPS"
    assert parse(changed("clusters.prod.channel", "C0PROD")).channel_of("prod") == "C0PROD"


def test_the_private_redis_is_a_choice() -> None:
    """`private: true` is enough, and its folder has a default."""
    assert parse(changed("redis", {"private": True})).redis == PrivateRedis(
        state_folder=Path("/var/lib/consul-recovery/redis")
    )


def test_a_terminal_works_without_slack() -> None:
    """Where Slack is not asked for, neither a missing section nor an unreadable token is a problem."""
    broken = changed("slack", {"bot_token_file": "/nonexistent", "app_token": 7})
    assert parse(broken, slack=False).slack is None
    assert parse(changed("slack", None), slack=False).slack is None


def test_the_example_is_good_once_its_files_are_there(tmp_path: Path) -> None:
    """What we tell operators to copy parses, with nothing but the secret files added."""
    example = Path("config/settings.example.yaml").read_text()
    secrets = {"slack-bot-token": "xoxb-1", "slack-app-token": "xapp-1", "redis-password": "p"}
    for name, secret in secrets.items():
        (tmp_path / name).write_text(secret + "\n")
    settings = parse(example.replace("/etc/consul-recovery/", f"{tmp_path}/"))
    assert settings.secret_files == (*(tmp_path / name for name in secrets), tmp_path / "id_ed25519")
    assert [server.name for server in settings.cluster("prod").servers] == [
        "consul-1",
        "consul-2",
        "consul-3",
    ]


def example_without_sentinel(example: str) -> str:
    return re.sub(r"^  # sentinel:\n(  #   .*\n)+", "", example, flags=re.MULTILINE)


def test_the_example_shows_sentinel_as_it_is_written(tmp_path: Path) -> None:
    """The commented lines about Sentinel, written instead of the url, are good settings."""
    (tmp_path / "sentinel-password").write_text("p")
    example = Path("config/settings.example.yaml").read_text()
    block = re.search(r"^  # sentinel:\n(  #   .*\n)+", example, flags=re.MULTILINE)
    assert block is not None
    section = yaml.safe_load(re.sub(r"^  # ?", "", block[0], flags=re.MULTILINE))
    shown = yaml.safe_dump(section).replace("/etc/consul-recovery/", f"{tmp_path}/")
    redis = parse(changed("redis", yaml.safe_load(shown))).redis
    assert isinstance(redis, SentinelRedis)
    assert redis.addresses == (("10.20.0.5", 26379), ("10.20.0.6", 26379), ("10.20.0.7", 26379))
    assert (redis.master, redis.sentinel_password, redis.tls) == ("mymaster", Secret("p"), None)


def test_the_example_names_the_rights_that_the_bot_needs() -> None:
    """An operator who copies the rights from the example gives exactly those that the messages name."""
    example = Path("config/settings.example.yaml").read_text()
    assert RIGHTS in re.sub(r"\n#\s+", " ", example)


def test_what_redis_keeps_is_signed_with_a_secret_of_its_own_where_there_is_one(tmp_path: Path) -> None:
    """It is a secret like the others, in its own file, and a short one is refused without being repeated."""
    key = tmp_path / "signing-key"
    key.write_text("0123456789abcdef" * 2 + "\n")
    settings = parse(changed("redis.signing_key_file", str(key)))
    assert settings.signing_key == Secret("0123456789abcdef" * 2)
    assert key in settings.secret_files
    assert "0123456789abcdef" not in repr(settings)
    assert parse(GOOD).signing_key is None
    (problem,) = problems(changed("redis.signing_key", "hunter2"))
    assert problem.startswith("redis.signing_key: has fewer than 32 characters; make one with `openssl rand")
    assert "hunter2" not in problem
    assert parse(changed("redis", {"private": True, "signing_key": "k" * 32})).signing_key == Secret("k" * 32)


def test_sentinel_has_its_own_password_and_shares_the_tls_files(tmp_path: Path) -> None:
    """The password of Redis and that of the Sentinels are two; the key of our certificate is a secret file."""
    key = tmp_path / "key"
    redis = {
        "sentinel": {"addresses": ["[::1]:26379"], "master": "m", "password_env": "APP", "tls": True},
        "password": "redis-hunter2",
        "tls_cert_file": "/c",
        "tls_key_file": str(key),
    }
    settings = parse(changed("redis", redis))
    assert isinstance(settings.redis, SentinelRedis)
    assert settings.redis.addresses == (("::1", 26379),)
    assert settings.redis.password == Secret("redis-hunter2")
    assert settings.redis.sentinel_password == Secret("xapp-app-secret")
    assert settings.redis.tls == TlsFiles(cert=Path("/c"), key=key)
    assert key in settings.secret_files
    assert "hunter2" not in repr(settings)


def test_every_setting_that_the_example_shows_as_a_choice_is_one(tmp_path: Path) -> None:
    """The commented lines of the example parse too, with the two ways of Redis apart."""
    example = Path("config/settings.example.yaml").read_text()
    for name, secret in {
        "slack-bot-token": "xoxb-1",
        "slack-app-token": "xapp-1",
        "redis-password": "p",
        "prod-agent-recovery": "t1",
        "prod-management": "t2",
    }.items():
        (tmp_path / name).write_text(secret)
    example = example.replace("/etc/consul-recovery/", f"{tmp_path}/").replace("redis://", "rediss://")
    shown = re.sub(
        r"^(\s*)# (?=(  )?\w+(_file)?: )(?!private|state_folder)",
        r"\1",
        example_without_sentinel(example),
        flags=re.MULTILINE,
    )
    shown = shown.replace("scheme: http ", "scheme: https ").replace("scheme: http\n", "scheme: https\n")
    settings = parse(shown)
    assert settings.slack is not None
    assert settings.slack.team_id == "T0EXAMPLE"
    assert settings.approvals.approver_groups == ("S0ONCALL",)
    prod = settings.cluster("prod")
    assert (prod.datacenter, prod.channel) == ("dc1", "C0PROD")
    assert prod.agent_recovery_token == Secret("t1")
    assert prod.management_token == Secret("t2")
    assert [client.name for client in prod.clients] == ["web-1"]
    assert prod.client_inventory is not None
    assert prod.client_inventory.group == "consul_clients"
    assert settings.lookout_every_s == 300


# --- Where it is ------------------------------------------------------------------------------------------


def test_the_file_is_chosen_by_argument_then_environment_then_default() -> None:
    """--settings wins over CONSUL_RECOVERY_SETTINGS, which wins over /etc."""
    environ = {"CONSUL_RECOVERY_SETTINGS": "/b"}
    assert settings_path("/a", environ) == Path("/a")
    assert settings_path(None, environ) == Path("/b")
    assert settings_path(None, {}) == DEFAULT_PATH


def test_a_file_that_is_not_there_is_told_with_the_next_step(tmp_path: Path) -> None:
    """A missing file is named, with what to copy and how to name another one."""
    with pytest.raises(
        SettingsProblem, match=r"no settings at .*/none\.yaml; nothing was started.*--settings"
    ):
        load_settings(tmp_path / "none.yaml", environ={})


def test_a_file_is_loaded(tmp_path: Path) -> None:
    """The file on the disk gives the same as its text, and knows where it came from."""
    path = tmp_path / "settings.yaml"
    path.write_text(GOOD)
    settings = load_settings(path, environ=ENVIRON)
    assert settings.source == path
    assert settings.clusters == parse(GOOD).clusters


# --- Secrets ----------------------------------------------------------------------------------------------


def test_no_secret_shows_in_a_repr() -> None:
    """Printing the whole settings shows no token, no password and no URL that may hold one."""
    text = changed("redis.url", "redis://:hunter2@10.0.0.9")
    text = repr(parse(text)) + str(parse(text).slack)
    for secret in ("hunter2", "bot-secret", "app-secret"):
        assert secret not in text


def test_a_secret_in_the_wrong_place_is_not_repeated() -> None:
    """A message about a secret, or about a key beside it, never holds what stood there."""
    for path in (
        "slack.bot_token",
        "slack.channel",
        "slack.team_id",
        "slack.bot_tokn",
        "redis.url",
        "ssh.user",
        "ssh.port",
        "ssh.key_file",
        "clusters.prod.unit",
        "clusters.prod.tokens",
        "approvals.gates",
    ):
        text = "\n".join(problems(changed(path, "xapp-hunter2 !")))
        assert path in text
        assert "hunter2" not in text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"bot_token_file": "/nonexistent/t"},
            "the file /nonexistent/t cannot be read (No such file or directory)",
        ),
        ({"bot_token_file": "relative"}, "is not an absolute path"),
        ({"bot_token_env": "UNSET"}, "the environment variable UNSET is not set or empty"),
        (
            {"bot_token": "xoxb-1", "bot_token_env": "APP"},
            "is given more than once (bot_token, bot_token_env); keep one of them",
        ),
        ({"bot_token_env": "APP"}, "does not begin with xoxb-"),
        ({"bot_token": ""}, "is no text"),
        ({"bot_token": 5}, "is no text"),
        ({}, "missing"),
    ],
)
def test_a_secret_that_cannot_be_had_is_told(given: dict[str, object], told: str) -> None:
    """Each way of giving a secret has its own message, and each ends with what to write."""
    (problem,) = problems(changed("slack", {"app_token_env": "APP", **given}))
    assert (
        problem
        == f"slack.bot_token: {told}; write the bot token, xoxb-... (or bot_token_file, bot_token_env)"
    )


def test_an_empty_secret_file_is_told(tmp_path: Path) -> None:
    """A file without a secret in it is not an empty password."""
    (tmp_path / "empty").write_text("\n")
    (problem,) = problems(changed("redis.password_file", str(tmp_path / "empty")))
    assert (
        problem
        == f"redis.password: the file {tmp_path / 'empty'} is empty; write password_file or password_env"
    )


def test_the_files_with_secrets_are_known(tmp_path: Path) -> None:
    """Every file that a secret came from is listed, and the settings themselves where one stands in them."""
    (tmp_path / "bot").write_text("xoxb-1\n")
    from_files = changed("slack", {"bot_token_file": str(tmp_path / "bot"), "app_token_env": "APP"})
    from_files = from_files.replace("url: redis://10.0.0.9:6379/0", "private: true")
    assert parse(from_files).secret_files == (tmp_path / "bot", Path("/keys/id"))
    assert parse(GOOD).secret_files == (HERE, Path("/keys/id"))


# --- Problems ---------------------------------------------------------------------------------------------


def test_all_problems_come_at_once() -> None:
    """One answer holds a line for every mistake, in every section."""
    tree = yaml.safe_load(GOOD)
    tree["slack"]["channel"] = "#ops"
    tree["redis"]["url"] = "http://x"
    tree["ssh"]["port"] = 0
    tree["people"][0]["slack"] = "alice"
    tree["approvals"]["gates"] = "three"
    del tree["clusters"]["prod"]["servers"][1]["address"]
    tree["clusers"] = {}
    places = [line.partition(":")[0] for line in problems(yaml.safe_dump(tree))]
    assert places == [
        "clusers",
        "slack.channel",
        "redis.url",
        "ssh.port",
        "people.0.slack.0",
        "approvals.gates",
        "clusters.prod.servers.1.address",
    ]


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("clusters.prod.servers.1.address", None, "missing; write the SSH address of the server"),
        ("clusters.prod.servers.1.name", None, "missing; write the server's Consul node name"),
        (
            "clusters.prod.servers",
            [],
            "is empty; write a list of the cluster's servers, each with name and address",
        ),
        (
            "clusters.prod.unit",
            "a b",
            "is not the name of a systemd unit; write the systemd unit of the Consul agent",
        ),
        (
            "clusters.prod.http",
            {"port": "http"},
            "is no number; write the port of the agent's HTTP API on its loopback",
        ),
        ("clusters.prod.http", {"scheme": "ftp"}, "is none of the choices; write http or https"),
        ("ssh.mode", "sftp", "is none of the choices; write streamed or installed"),
        ("ssh.connect_timeout_s", 600, "is too large; write the seconds to wait for a login, at most 60"),
        ("approvals.expiry_s", 1, "is too small; write the seconds that people have to approve, 60 to 86400"),
        ("approvals.approver_groups", "S1", "is no list; write a list of Slack user group ids, S..."),
        ("approvals.requester_may_approve", "perhaps", "is neither true nor false; write true or false"),
        ("ssh", "root", "is no mapping of settings; correct it"),
        ("ssh", None, "missing; write user, key_file and known_hosts_file under it"),
        ("slack", None, "missing; write bot_token_file and app_token_file of the Slack app under it"),
        ("clusters", None, "missing; write each cluster's name under it, with its servers"),
    ],
)
def test_a_wrong_value_is_told_with_what_to_write(path: str, value: object, told: str) -> None:
    """The place is named as it stands in the file, and the sentence ends with what belongs there."""
    (problem,) = problems(changed(path, value))
    place, _, sentence = problem.partition(": ")
    assert place.startswith(path)
    assert sentence == told


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("slak", "slack"),
        ("ssh.known_host_file", "known_hosts_file"),
        ("slack.bot_token_fil", "bot_token_file"),
        ("clusters.prod.http.prot", "port"),
        ("approvals.people_needed.ireversible", "irreversible"),
        ("people.0.slak", "slack"),
    ],
)
def test_an_unknown_key_is_refused_with_what_was_meant(path: str, meant: str) -> None:
    """A mistyped key is never ignored: it could be the one that keeps somebody from approving alone."""
    (problem,) = problems(changed(path, "x"))
    assert problem.startswith(f"{path}: no such ")
    assert problem.endswith(f"; did you mean {meant}?")


def test_an_unknown_key_that_is_like_none_is_answered_with_all() -> None:
    """Where nothing is close the known keys are listed."""
    (problem,) = problems(changed("approvals.night_shift", True))
    assert "take it out (known are approver_groups, approvers, break_glass, " in problem


@pytest.mark.parametrize(
    "address",
    ["consul.service.consul", "s1.node.dc1.consul.", "10.0.0.1:22", "root@s1", "-oProxyCommand=x", "a b"],
)
def test_an_address_that_cannot_serve_is_refused(address: str) -> None:
    """SSH addresses never hang on Consul's DNS, and carry neither user nor port nor an option."""
    (problem,) = problems(changed("clusters.prod.servers.1.address", address))
    assert problem.endswith("; write the SSH address of the server")


def test_an_ip6_address_is_an_address() -> None:
    """Servers may be named by IPv6 addresses."""
    settings = parse(changed("clusters.prod.servers.1.address", "2001:db8::1"))
    assert settings.cluster_spec("prod").address_of(settings.cluster("prod").servers[1].name) == "2001:db8::1"


def test_redis_through_consul_dns_is_refused() -> None:
    """Our own store must not hang on what we repair."""
    (problem,) = problems(changed("redis.url", "redis://redis.service.consul:6379"))
    assert "Consul DNS" in problem


@pytest.mark.parametrize("section", [None, {}, {"username": "bot"}])
def test_without_redis_both_choices_are_told(section: object) -> None:
    """A file that does not say where Redis is learns the two ways."""
    (problem,) = problems(changed("redis", section))
    assert "`url: redis://HOST:6379/0`" in problem
    assert "`private: true`" in problem


@pytest.mark.parametrize(
    ("section", "place"),
    [
        ({"url": "redis://h", "private": True}, "redis"),
        ({"url": "redis://h", "state_folder": "/x"}, "redis.state_folder"),
        ({"private": True, "username": "bot"}, "redis.username"),
        ({"url": "redis://h", "tls_ca_file": "/ca"}, "redis.tls_ca_file"),
        ({"url": "rediss://h", "tls_cert_file": "/c"}, "redis.tls_key_file"),
        ({"url": "redis://h", "sentinel": {"addresses": ["h:1"], "master": "m"}}, "redis"),
        ({"sentinel": {"addresses": ["h:1"], "master": "m"}, "tls_ca_file": "/ca"}, "redis.tls_ca_file"),
        ({"sentinel": {"addresses": ["h"], "master": "m"}}, "redis.sentinel.addresses.0"),
        (
            {"sentinel": {"addresses": ["redis.service.consul:26379"], "master": "m"}},
            "redis.sentinel.addresses.0",
        ),
        ({"sentinel": {"addresses": [], "master": "m"}}, "redis.sentinel.addresses"),
    ],
)
def test_settings_of_redis_that_contradict_each_other_are_refused(section: object, place: str) -> None:
    """What would have no effect is refused, so that nobody believes in it."""
    (problem,) = problems(changed("redis", section))
    assert problem.startswith(f"{place}: ")


# --- People and hosts are one each ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("people.1.slack", "U0ALICE", "people.1.slack: U0ALICE belongs to alice already"),
        ("people.1.terminal", ["bob", "alice"], "people.1.terminal: alice belongs to alice already"),
        ("people.1.name", "Alice", "people.1.name: Alice is people.0 already"),
    ],
)
def test_nobody_can_be_two_people(path: str, value: object, told: str) -> None:
    """An account in two entries, or one name twice, is refused: it could approve what it asked for."""
    text = changed(path, value).replace("approvers:\n  - bob", "approvers: []")
    (problem,) = problems(text)
    assert problem.startswith(told)


@pytest.mark.parametrize("key", ["approvers", "requesters"])
def test_a_name_that_nobody_has_is_refused(key: str) -> None:
    """A mistyped approver is not silently nobody."""
    (problem,) = problems(changed(f"approvals.{key}", ["bob", "alise"]))
    assert problem == f"approvals.{key}.1: nobody in people is named alise; did you mean alice?"


def test_people_that_cannot_be_read_are_not_called_unknown() -> None:
    """A mistake in people is told once, not again as an unknown approver."""
    (problem,) = problems(changed("people.1.slack", "@bob"))
    assert problem.startswith("people.1.slack.0: is not the id of a Slack user")


def test_one_host_belongs_to_one_cluster() -> None:
    """Two clusters with the same host would be two locks on one machine."""
    other = {"servers": [{"name": "t1", "address": "10.0.0.1"}]}
    (problem,) = problems(changed("clusters.test", other))
    assert problem.startswith("clusters.test.servers.0.address: this is the address of s1 of prod too")


def test_a_server_is_written_once() -> None:
    """Two servers of one name cannot be told apart."""
    (problem,) = problems(changed("clusters.prod.servers.1.name", "s1"))
    assert problem.startswith("clusters.prod.servers.1.name: s1 is there twice")


def test_client_agents_are_listed_or_come_from_an_inventory() -> None:
    """Listed ones say that the settings name them; without a word about an inventory there is none."""
    (cluster,) = parse(changed("clusters.prod.clients", [{"name": "c1", "address": "10.0.1.1"}])).clusters
    assert cluster.clients == (ClientAgent(ServerName("c1"), "10.0.1.1", "settings"),)
    assert cluster.client_inventory is None
    inventory = {"path": "/etc/ansible/hosts", "group": "consul_clients"}
    (cluster,) = parse(changed("clusters.prod.client_inventory", inventory)).clusters
    assert cluster.client_inventory == InventorySettings(
        path=Path("/etc/ansible/hosts"), group="consul_clients", timeout_s=20.0
    )


def test_a_client_agent_is_no_server_and_nobody_elses_host() -> None:
    """A name or a host of a server among the client agents would be stopped as one."""
    (problem,) = problems(changed("clusters.prod.clients", [{"name": "s1", "address": "10.0.1.1"}]))
    assert problem.startswith("clusters.prod.clients.0.name: s1 is there twice")
    (problem,) = problems(changed("clusters.prod.clients", [{"name": "c1", "address": "10.0.0.1"}]))
    assert problem.startswith("clusters.prod.clients.0.address: this is the address of s1 of prod too")


def test_a_key_written_twice_is_refused() -> None:
    """YAML would let the second of two clusters of one name win in silence."""
    (problem,) = problems(GOOD + "  prod: {servers: []}\n")
    assert re.fullmatch(r"line 14, column 3: prod is written twice; correct the YAML there", problem)


@pytest.mark.parametrize("text", ["a: [", "- a", "", "just words", "\tx: 1"])
def test_what_is_no_settings_file_is_told_as_that(text: str) -> None:
    """Broken YAML and files without sections are one problem with a place or with what to copy."""
    (problem,) = problems(text)
    assert "correct the YAML there" in problem or "settings.example.yaml" in problem


def test_a_folder_is_not_taken_for_a_file_that_is_missing(tmp_path: Path) -> None:
    """The next step names the file in it."""
    with pytest.raises(SettingsProblem, match=r"is a folder, not a settings file.*Name the file in it"):
        load_settings(tmp_path, environ={})


def test_a_file_that_is_no_text_is_told_as_such(tmp_path: Path) -> None:
    """Nobody is sent to look for permissions."""
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"\x7fELF\x80\xff")
    with pytest.raises(SettingsProblem, match=r"are no text.*is that the right file"):
        load_settings(path, environ={})


def test_a_file_of_another_user_asks_for_the_right_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only there running as the bot's user helps."""

    def refused(*_args: object, **_named: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("config.settings.read_ours", refused)
    with pytest.raises(SettingsProblem, match=r"not for this user to read.*as the bot's user"):
        load_settings(Path("/etc/consul-recovery/settings.yaml"), environ={})
