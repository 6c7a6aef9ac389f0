"""The one loader of the settings: YAML in, frozen values out, every problem in one answer.

A section that does not parse leaves the others to be checked, so that a person
corrects the file once. Each problem names the place and says what to write.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from config.cross_checks import cross_check
from config.ownership import NotOurs, read_ours
from config.problems import did_you_mean, sentence
from config.schema import (
    SECTIONS,
    ApprovalSection,
    ClusterSection,
    InventorySection,
    LookoutSection,
    PersonSection,
    RedisSection,
    SlackSection,
    Sources,
    SshSection,
    TerminalSection,
)
from config.values import (
    ApprovalSettings,
    ClusterSettings,
    HttpSettings,
    InventorySettings,
    PersonSettings,
    PrivateRedis,
    RedisServer,
    SentinelRedis,
    Settings,
    SlackSettings,
    SshSettings,
    TlsFiles,
)
from recovery.errors import SettingsProblem
from recovery.model import ClientAgent, ClusterName, Person, ServerName, ServerSpec
from recovery.policy import ApprovalPolicy

DEFAULT_PATH = Path("/etc/consul-recovery/settings.yaml")
VARIABLE = "CONSUL_RECOVERY_SETTINGS"
EXAMPLE = "config/settings.example.yaml"

_REQUIRED = {
    "slack": "missing; write bot_token_file and app_token_file of the Slack app under it",
    "redis": (
        "missing; the bot keeps its lock and journal in Redis: write either `url: redis://HOST:6379/0` under"
        " it, or `sentinel`, or `private: true` for one that the bot starts itself (only for a bot on one"
        " machine)"
    ),
    "ssh": "missing; write user, key_file and known_hosts_file under it",
    "clusters": "missing; write each cluster's name under it, with its servers",
}


def settings_path(argument: str | None, environ: Mapping[str, str]) -> Path:
    """Choose the settings file: ``--settings``, else CONSUL_RECOVERY_SETTINGS, else the default."""
    return Path(argument or environ.get(VARIABLE) or DEFAULT_PATH)


def load_settings(
    path: Path, *, environ: Mapping[str, str], slack: bool = True, uid: int | None = None
) -> Settings:
    """Read the settings; SettingsProblem with a line for each problem.

    ``slack=False`` leaves the Slack section unread: a terminal has to work at
    night although a token of Slack is missing or not readable. ``uid`` is whose
    files count beside root's (config.ownership); None: this process's user.
    """
    uid = os.geteuid() if uid is None else uid
    try:
        text = read_ours(path, uid=uid)
    except NotOurs as problem:
        raise SettingsProblem(
            f"The settings in {path} are not taken; nothing was started. {problem}"
        ) from None
    except FileNotFoundError:
        raise SettingsProblem(
            f"There are no settings at {path}; nothing was started. Copy {EXAMPLE} there and fill it in, or"
            f" name another file with --settings or {VARIABLE}."
        ) from None
    except IsADirectoryError:
        raise SettingsProblem(
            f"{path} is a folder, not a settings file; nothing was started. Name the file in it with --settings or"
            f" {VARIABLE}."
        ) from None
    except UnicodeDecodeError:
        raise SettingsProblem(
            f"The settings in {path} are no text; nothing was started. A settings file is YAML in UTF-8, like"
            f" {EXAMPLE}: is that the right file?"
        ) from None
    except PermissionError:
        raise SettingsProblem(
            f"The settings in {path} are not for this user to read; nothing was started. Run this as the bot's user"
            " (sudo -u USER ...), or let that file and the folders above it be read by this one."
        ) from None
    except OSError as error:
        raise SettingsProblem(
            f"The settings in {path} cannot be read ({error.strerror}); nothing was started. Correct that, or name"
            f" another file with --settings or {VARIABLE}."
        ) from None
    return parse_settings(text, source=path, environ=environ, slack=slack, uid=uid)


def parse_settings(
    text: str,
    *,
    source: Path,
    environ: Mapping[str, str],
    slack: bool = True,
    uid: int | None = None,
) -> Settings:
    """Turn the text of a settings file into values; SettingsProblem with a line for each problem."""
    try:
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader that refuses a key written twice
    except yaml.YAMLError as error:
        raise _refusal(source, [_yaml_problem(error)]) from None
    if not isinstance(tree, dict):
        raise _refusal(source, [f"the file has no sections; copy {EXAMPLE} and fill it in"])
    sources = Sources(environ, uid=os.geteuid() if uid is None else uid)
    if not slack:
        tree = {key: value for key, value in tree.items() if key != "slack"}
    problems = [
        f"{key}: no such section{did_you_mean(str(key), list(SECTIONS))}"
        for key in tree
        if key not in SECTIONS
    ]
    parsed: dict[str, Any] = {}
    for name, shape in SECTIONS.items():
        if tree.get(name) is None:
            if name in _REQUIRED and (slack or name != "slack"):
                problems.append(f"{name}: {_REQUIRED[name]}")
            continue
        try:
            parsed[name] = TypeAdapter(shape).validate_python(tree[name], context=sources)
        except ValidationError as error:
            problems += [sentence(name, shape, detail) for detail in error.errors(include_url=False)]
    problems += cross_check(parsed, people_given="people" in parsed or tree.get("people") is None)
    if problems:
        raise _refusal(source, problems)
    return _values(parsed, source=source, sources=sources)


# --- Problems -------------------------------------------------------------------------------------------


def _refusal(source: Path, problems: list[str]) -> SettingsProblem:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "".join(f"\n  {problem}" for problem in problems)
    return SettingsProblem(f"The settings in {source} have {count}; nothing was started.{lines}")


def _yaml_problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}; correct the YAML there"
    return "the file is no YAML; correct it"


class _Loader(yaml.SafeLoader):
    """YAML lets the second of two equal keys win in silence; two clusters of one name must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key} is written twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# --- Values ---------------------------------------------------------------------------------------------


def _values(parsed: Mapping[str, Any], *, source: Path, sources: Sources) -> Settings:
    people: tuple[PersonSection, ...] = parsed.get("people", ())
    clusters: dict[str, ClusterSection] = parsed["clusters"]
    ssh: SshSection = parsed["ssh"]
    inline = (source,) if sources.inline else ()
    return Settings(
        source=source,
        slack=_slack(parsed.get("slack")),
        redis=_redis(parsed["redis"]),
        signing_key=parsed["redis"].signing_key,
        ssh=SshSettings(
            user=ssh.user,
            key_file=ssh.key_file,
            known_hosts_file=ssh.known_hosts_file,
            port=ssh.port,
            mode=ssh.mode,
            connect_timeout_s=ssh.connect_timeout_s,
        ),
        people=tuple(
            PersonSettings(name=Person(one.name), slack_ids=one.slack, terminal_users=one.terminal)
            for one in people
        ),
        approvals=_approvals(parsed.get("approvals", ApprovalSection()), people),
        clusters=tuple(_cluster(name, section) for name, section in clusters.items()),
        terminal_identity=parsed.get("terminal", TerminalSection()).identity,
        lookout_every_s=parsed.get("lookout", LookoutSection()).every_s,
        secret_files=tuple(
            dict.fromkeys((*inline, *sources.files, *_redis_keys(parsed["redis"]), ssh.key_file))
        ),
    )


def _slack(section: SlackSection | None) -> SlackSettings | None:
    if section is None:
        return None
    return SlackSettings(
        bot_token=section.bot_token,
        app_token=section.app_token,
        api_url=section.api_url.rstrip("/") + "/",
        team_id=section.team_id,
        channel=section.channel,
    )


def _redis(section: RedisSection) -> RedisServer | SentinelRedis | PrivateRedis:
    files = TlsFiles(ca=section.tls_ca_file, cert=section.tls_cert_file, key=section.tls_key_file)
    if section.url is not None:
        return RedisServer(
            url=section.url,
            username=section.username,
            password=section.password,
            tls=files if files != TlsFiles() else None,
        )
    if section.sentinel is not None:
        sentinel = section.sentinel
        return SentinelRedis(
            addresses=tuple(_host_and_port(address) for address in sentinel.addresses),
            master=sentinel.master,
            database=sentinel.database,
            username=section.username,
            password=section.password,
            sentinel_username=sentinel.username,
            sentinel_password=sentinel.password,
            tls=files if sentinel.tls else None,
        )
    return PrivateRedis(state_folder=section.state_folder)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _redis_keys(section: RedisSection) -> tuple[Path, ...]:
    return (section.tls_key_file,) if section.tls_key_file is not None else ()


def _approvals(section: ApprovalSection, people: tuple[PersonSection, ...]) -> ApprovalSettings:
    everybody = tuple(one.name for one in people)
    requesters = everybody if section.requesters is None else section.requesters
    return ApprovalSettings(
        approvers=tuple(Person(name) for name in dict.fromkeys(section.approvers)),
        approver_groups=section.approver_groups,
        requesters=tuple(Person(name) for name in dict.fromkeys(requesters)),
        policy=ApprovalPolicy(
            reversible_people=section.people_needed.reversible,
            irreversible_people=section.people_needed.irreversible,
            requester_counts=section.requester_may_approve,
            break_glass=section.break_glass,
            gates=section.gates,
            expires_after_s=section.expiry_s,
        ),
    )


def _cluster(name: str, section: ClusterSection) -> ClusterSettings:
    return ClusterSettings(
        name=ClusterName(name),
        datacenter=section.datacenter,
        channel=section.channel,
        unit=section.unit,
        http=HttpSettings(port=section.http.port, scheme=section.http.scheme, ca_file=section.http.ca_file),
        agent_recovery_token=section.tokens.agent_recovery,
        management_token=section.tokens.management,
        servers=tuple(ServerSpec(name=ServerName(one.name), address=one.address) for one in section.servers),
        clients=tuple(ClientAgent(ServerName(one.name), one.address, "settings") for one in section.clients),
        client_inventory=_inventory(section.client_inventory),
    )


def _inventory(section: InventorySection | None) -> InventorySettings | None:
    if section is None:
        return None
    return InventorySettings(path=section.path, group=section.group, timeout_s=section.timeout_s)
