"""The doctor: what it says for each step of the set-up, well or not."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from bot.authz import Nobody
from bot.doctor import Probes, run_doctor, settings_refused
from bot.doctor_slack import NEEDED_SCOPES
from bot.finding import Finding, Verdict, exit_code, render_json, render_text
from bot.presence import Mark
from bot.secret_files import check_secret_files, refuse_open_secrets
from config.settings import parse_settings
from config.values import Settings
from recovery.adapters.redis_access import Access
from recovery.errors import HostUnreachable, SettingsProblem, StoreUnavailable
from recovery.model import (
    AgentView,
    ClientAgent,
    ClusterName,
    ClusterObservation,
    Fact,
    Fails,
    Holds,
    HostView,
    ServerName,
    ServerObservation,
    ServerSpec,
    Unknown,
)

SETTINGS = """
slack: {bot_token_env: BOT, app_token_env: APP, channel: C0OPS}
redis: {url: "redis://10.0.0.9"}
ssh: {user: bot, key_file: /keys/id, known_hosts_file: /keys/known_hosts}
people:
  - {name: alice, slack: U0ALICE}
  - {name: bob, slack: U0BOB}
approvals: {approvers: [alice, bob]}
clusters:
  prod: {servers: [{name: s1, address: 10.0.0.1}]}
"""
ENVIRON = {"BOT": "xoxb-bot-hunter2", "APP": "xapp-app-hunter2"}
ALL_SCOPES = ",".join(NEEDED_SCOPES)
HOST = HostView(
    active_state="active",
    enabled=True,
    main_pid=7,
    unit_user="consul",
    data_dir="/var/lib/consul",
    free_bytes=1 << 30,
)
AGENT = AgentView(leader_address="10.0.0.1:8300", peers=(), node_name="s1", version="1.8.7", datacenter="dc1")
SERVER = ServerObservation(name=ServerName("s1"), address="10.0.0.1", host=HOST, agent=AGENT)


def settings(**changes: Any) -> Settings:
    tree = yaml.safe_load(SETTINGS)
    for key, value in changes.items():
        tree[key] = {**tree[key], **value} if isinstance(value, dict) else value
    return parse_settings(yaml.safe_dump(tree), source=Path("/etc/settings.yaml"), environ=ENVIRON)


HERE = Mark("bot@machine", 995.0)
"""A bot that runs, and was there five seconds before the doctor asked."""


class FakeSlack:
    """Answers the doctor's four calls; a string instead of an answer is Slack's error code."""

    def __init__(
        self,
        *,
        auth: Mapping[str, Any] | str | Exception | None = None,
        scopes: str = ALL_SCOPES,
        app: str | Exception | None = None,
        channel: Mapping[str, Any] | str | None = None,
        groups: Mapping[str, Sequence[str] | str] | None = None,
    ) -> None:
        self._auth = (
            auth if auth is not None else {"team_id": "T0LAB", "team": "Lab", "user": "consul-recovery"}
        )
        self._scopes = scopes
        self._app = app
        self._channel = channel if channel is not None else {"name": "ops", "is_member": True}
        self._groups = groups or {}
        self.app_tokens: list[str] = []

    async def auth_test(self) -> AsyncSlackResponse:
        return _answer(self._auth, headers={"x-oauth-scopes": self._scopes})

    async def apps_connections_open(self, *, app_token: str) -> AsyncSlackResponse:
        self.app_tokens.append(app_token)
        return _answer(self._app or {"url": "wss://example"})

    async def conversations_info(self, *, channel: str) -> AsyncSlackResponse:
        assert channel.startswith("C")
        return _answer({"channel": self._channel} if isinstance(self._channel, Mapping) else self._channel)

    async def usergroups_users_list(self, *, usergroup: str) -> AsyncSlackResponse:
        found = self._groups.get(usergroup, "no_such_subteam")
        return _answer(found if isinstance(found, str) else {"users": list(found)})


def _answer(
    content: Mapping[str, Any] | str | Exception, *, headers: Mapping[str, str] | None = None
) -> AsyncSlackResponse:
    if isinstance(content, Exception):
        raise content
    data: dict[str, Any] = (
        {"ok": False, "error": content, "needed": "groups:read"}
        if isinstance(content, str)
        else {"ok": True, **content}
    )
    response = AsyncSlackResponse(
        client=None,
        http_verb="POST",
        api_url="https://slack.example/",
        req_args={},
        data=data,
        headers=dict(headers or {}),
        status_code=200,
    )
    if not data["ok"]:
        raise SlackApiError("hunter2 is in the request", response)  # type: ignore[no-untyped-call]
    return response


async def examine(
    found_settings: Settings | None = None,
    *,
    slack: FakeSlack | None = None,
    persistence: Sequence[str] | Exception = (),
    server: ServerObservation = SERVER,
    host_time_s: float | Exception = 1000.0,
    now_s: Sequence[float] = (999.9, 1000.1),
    clients: Mapping[str, Fact] | None = None,
    clients_problem: str = "",
    mark: Mark | Exception | None = HERE,
    sitter: str | Nobody = "alice",
    access: Access | Exception | None = None,
) -> list[Finding]:
    """Run the doctor with everything in order but what the test changes."""
    times = itertools.chain(now_s, itertools.repeat(now_s[-1]))

    async def warnings() -> Sequence[str]:
        if isinstance(persistence, Exception):
            raise persistence
        return persistence

    async def seen() -> Access:
        if isinstance(access, Exception):
            raise access
        return access or Access()

    async def marked(_cluster: ClusterName) -> Mark | None:
        if isinstance(mark, Exception):
            raise mark
        return mark

    async def observe(cluster: ClusterName) -> ClusterObservation:
        known = (ClientAgent(ServerName(name), "10.0.1.1", "settings") for name in clients or ())
        return ClusterObservation(
            cluster=cluster,
            taken_at_s=1.0,
            servers=(server,),
            clients=tuple(known),
            clients_problem=clients_problem,
        )

    async def client_runs(_cluster: ClusterName, name: ServerName) -> Fact:
        return (clients or {})[name]

    async def clock(_cluster: ClusterName, spec: ServerSpec) -> float:
        assert spec.address == "10.0.0.1"
        if isinstance(host_time_s, Exception):
            raise host_time_s
        return host_time_s

    probes = Probes(
        sitter=sitter,
        slack=slack or FakeSlack(),
        persistence=warnings,
        access=seen,
        mark=marked,
        observe=observe,
        client_runs=client_runs,
        host_time_s=clock,
        now_s=lambda: next(times),
    )
    findings = await run_doctor(found_settings or settings(), probes)
    assert "hunter2" not in render_text(findings) + render_json(findings)
    # The fake key is not on this machine; its own tests look at files.
    return [finding for finding in findings if finding.check != "secrets"]


def bad(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.verdict is not Verdict.OK]


def only(findings: Sequence[Finding]) -> Finding:
    """The one finding that is not well; each such one says what to do."""
    (finding,) = bad(findings)
    assert finding.message
    assert finding.next_step
    return finding


async def test_all_is_well() -> None:
    """With everything in order every step is looked at, and each is ok."""
    findings = await examine()
    assert bad(findings) == []
    assert {finding.check for finding in findings} == {
        "settings",
        "slack",
        "approvals",
        "redis",
        "host",
        "agent",
        "bot",
        "clock",
        "clients",
    }
    assert exit_code(findings) == 0


def test_settings_that_cannot_be_read_are_the_only_finding() -> None:
    """Without settings the doctor says what is wrong with them, and fails."""
    findings = settings_refused(SettingsProblem("3 problems:\n  ssh: missing"), path=Path("/etc/s.yaml"))
    assert "ssh: missing" in only(findings).message
    assert exit_code(findings) == 1


# --- Client agents ---------------------------------------------------------------------------------------


async def test_client_agents_that_answer_are_counted() -> None:
    """All reached is one finding, not one for each."""
    findings = await examine(clients={"c1": Holds(), "c2": Holds()})
    assert bad(findings) == []
    assert [f.message for f in findings if f.check == "clients"] == ["2 of 2 client agents answered"]


@pytest.mark.parametrize("fact", [Unknown("10.0.1.1: host key is not known"), Fails("the agent is stopped")])
async def test_a_client_agent_out_of_reach_is_a_warning(fact: Fails | Unknown) -> None:
    """The servers can be recovered without it; it says which one, why, and from where it is known."""
    findings = await examine(clients={"c1": Holds(), "c2": fact})
    found = only(findings)
    assert (found.verdict, found.subject) == (Verdict.WARNING, "prod/c2")
    assert (fact.observed if isinstance(fact, Fails) else fact.reason) in found.message
    assert "known from settings" in found.message
    assert exit_code(findings) == 0


async def test_an_inventory_that_cannot_be_read_is_a_warning() -> None:
    """Its own sentence is passed on."""
    found = only(await examine(clients_problem="The inventory /x: cannot be read (No such file)."))
    assert (found.check, found.verdict) == ("clients", Verdict.WARNING)
    assert "/x" in found.message


# --- Secrets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "verdict"), [(0o600, Verdict.OK), (0o400, Verdict.OK)])
def test_a_closed_file_is_well(tmp_path: Path, mode: int, verdict: Verdict) -> None:
    """A secret that only its owner can read is in order."""
    path = tmp_path / "token"
    path.write_text("x")
    path.chmod(mode)
    assert check_secret_files([path])[0].verdict is verdict


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_open_to_others_fails(tmp_path: Path, mode: int) -> None:
    """A secret that group or others can read fails, with the command that closes it."""
    path = tmp_path / "token"
    path.write_text("x")
    path.chmod(mode)
    finding = only(check_secret_files([path]))
    assert finding.verdict is Verdict.FAILED
    assert finding.next_step == f"Run: chmod 600 {path}"


@pytest.mark.parametrize(("mode", "taken"), [(0o440, True), (0o400, True), (0o460, False), (0o444, False)])
def test_root_may_let_the_bot_read_its_file_by_a_group(tmp_path: Path, mode: int, taken: bool) -> None:
    """So containers mount secrets, as root:group 0440; nobody else may read, and not even that group write."""
    path = tmp_path / "token"
    path.write_text("x")
    path.chmod(mode)
    bot = path.stat().st_uid + 4712
    (finding,) = check_secret_files([path], uid=bot)
    is_roots = path.stat().st_uid == 0
    assert (finding.verdict is Verdict.OK) is (taken and is_roots)


def test_the_bot_does_not_start_on_open_secrets(tmp_path: Path) -> None:
    """Every open or missing file is named at the start, with its cure; closed ones are not."""
    shut, wide = tmp_path / "shut", tmp_path / "wide"
    for path, mode in ((shut, 0o600), (wide, 0o644)):
        path.write_text("hunter2")
        path.chmod(mode)
    refuse_open_secrets([shut])
    with pytest.raises(SettingsProblem) as caught:
        refuse_open_secrets([shut, wide, tmp_path / "none"])
    assert f"Run: chmod 600 {wide}" in str(caught.value)
    assert "No such file" in str(caught.value)
    assert str(shut) not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_fails(tmp_path: Path) -> None:
    """A secret that is not there fails."""
    finding = only(check_secret_files([tmp_path / "none"]))
    assert finding.verdict is Verdict.FAILED
    assert "No such file" in finding.message


# --- People at a terminal ---------------------------------------------------------------------------------


async def test_who_sits_here_and_whom_it_counts_as_is_said() -> None:
    """By the settings; where they know nobody at a terminal there is nothing to say."""
    people = [{"name": "alice", "slack": "U0ALICE", "terminal": "al"}, {"name": "bob", "slack": "U0BOB"}]
    known = settings(people=people)
    said = [f.message for f in await examine(found_settings=known, sitter="al") if f.check == "people"]
    assert said == ["al, who sits here, counts as alice"]
    (stranger,) = [f for f in await examine(found_settings=known, sitter="mallory") if f.check == "people"]
    assert (stranger.verdict, "may only look" in stranger.message) == (Verdict.OK, True)
    assert not [f for f in await examine(sitter=Nobody("x", "y")) if f.check == "people"]


async def test_a_terminal_where_nobody_is_known_is_a_warning() -> None:
    """It is found before the night in which somebody has to approve there."""
    known = settings(people=[{"name": n, "slack": f"U0{n.upper()}", "terminal": n} for n in ("alice", "bob")])
    found = only(await examine(found_settings=known, sitter=Nobody("nobody has logged in", "Set it.")))
    assert (found.check, found.verdict, found.next_step) == ("people", Verdict.WARNING, "Set it.")
    assert "nobody can propose or approve at a terminal like this one: nobody has logged in" in found.message


# --- Slack ------------------------------------------------------------------------------------------------


async def test_a_refused_bot_token_leaves_the_rest_unlooked_at() -> None:
    """A wrong bot token fails once; what hangs on it is skipped, the app token is still tried."""
    slack = FakeSlack(auth="invalid_auth")
    findings = await examine(slack=slack)
    wrong = [finding for finding in findings if finding.verdict is Verdict.FAILED]
    assert [finding.subject for finding in wrong] == ["bot token"]
    assert "invalid_auth" in wrong[0].message
    assert [finding.subject for finding in findings if finding.verdict is Verdict.SKIPPED] == [
        "channels and groups"
    ]
    assert slack.app_tokens == ["xapp-app-hunter2"]


async def test_slack_out_of_reach_is_told_without_what_was_sent() -> None:
    """A network fault is named by its kind only: the client's text may hold the token."""
    findings = await examine(slack=FakeSlack(auth=OSError("xoxb-bot-hunter2"), app=TimeoutError("hunter2")))
    failures = [finding for finding in findings if finding.verdict is Verdict.FAILED]
    assert [finding.message for finding in failures] == [
        "Slack cannot be reached (OSError)",
        "Slack cannot be reached (TimeoutError)",
    ]
    assert all("https://slack.com/api/" in finding.next_step for finding in failures)


async def test_a_token_of_another_workspace_fails() -> None:
    """A token that works in the wrong workspace is not accepted."""
    findings = await examine(settings(slack={"team_id": "T0OTHER"}))
    assert [finding.subject for finding in findings if finding.verdict is Verdict.FAILED] == ["bot token"]


@pytest.mark.parametrize("scope", list(NEEDED_SCOPES))
async def test_each_missing_scope_fails_with_its_reason(scope: str) -> None:
    """A scope that the token lacks is named, with what it is for."""
    scopes = ", ".join(name for name in NEEDED_SCOPES if name != scope)
    finding = only(await examine(slack=FakeSlack(scopes=scopes)))
    assert (finding.verdict, finding.subject) == (Verdict.FAILED, f"scope {scope}")
    assert NEEDED_SCOPES[scope] in finding.message


async def test_scopes_that_slack_does_not_tell_are_a_warning() -> None:
    """Without the header nothing is claimed about scopes."""
    assert only(await examine(slack=FakeSlack(scopes=""))).verdict is Verdict.WARNING


def test_the_manifest_asks_for_every_needed_scope() -> None:
    """Whoever installs the app from our manifest has all scopes that the doctor wants."""
    manifest = yaml.safe_load(Path("config/slack-manifest.yaml").read_text())
    assert set(NEEDED_SCOPES) <= set(manifest["oauth_config"]["scopes"]["bot"])


async def test_a_refused_app_token_fails() -> None:
    """Without a working app token there is no Socket Mode."""
    finding = only(await examine(slack=FakeSlack(app="not_allowed_token_type")))
    assert (finding.verdict, finding.subject) == (Verdict.FAILED, "app token")
    assert "connections:write" in finding.next_step


@pytest.mark.parametrize(
    ("channel", "said", "next_step"),
    [
        ({"name": "ops", "is_member": False}, "the bot is not in #ops", "/invite"),
        ({"name": "ops", "is_member": True, "is_archived": True}, "#ops is archived", "another channel"),
        ("channel_not_found", "channel_not_found", "invite the bot"),
        ("missing_scope", "missing_scope", "groups:read"),
        ("ratelimited", "ratelimited", "documentation"),
    ],
)
async def test_a_channel_without_the_bot_fails(
    channel: Mapping[str, Any] | str, said: str, next_step: str
) -> None:
    """Each way in which the bot cannot show runs has its own message."""
    finding = only(await examine(slack=FakeSlack(channel=channel)))
    assert (finding.verdict, finding.subject) == (Verdict.FAILED, "channel C0OPS")
    assert said in finding.message
    assert next_step in finding.next_step


async def test_a_cluster_without_channel_is_a_warning() -> None:
    """A run that nobody sees is worth a warning, not a failure."""
    finding = only(await examine(settings(slack={"channel": None})))
    assert (finding.verdict, finding.subject) == (Verdict.WARNING, "cluster prod")


# --- Approvals --------------------------------------------------------------------------------------------


async def test_nobody_who_may_approve_fails() -> None:
    """Without approvers and groups the message says how to name them."""
    finding = only(await examine(settings(approvals={"approvers": []})))
    assert finding.verdict is Verdict.FAILED
    assert "approvals.approvers" in finding.next_step


@pytest.mark.parametrize(
    ("approvals", "alone"),
    [
        ({"approvers": ["bob"]}, "bob"),
        ({"people_needed": {"irreversible": 2}}, "alice, bob"),
        (
            {"approvers": ["bob"], "requester_may_approve": True, "people_needed": {"reversible": 2}},
            "alice, bob",
        ),
    ],
)
async def test_too_few_approvers_fail(approvals: dict[str, Any], alone: str) -> None:
    """Rules that nobody could meet for somebody's proposal are found in the evening, not at night."""
    finding = only(await examine(settings(approvals=approvals)))
    assert finding.verdict is Verdict.FAILED
    assert f"what is proposed by {alone}" in finding.message


async def test_one_person_is_enough_where_they_may_approve_themselves() -> None:
    """With requester_may_approve a single person can do all."""
    assert bad(await examine(settings(approvals={"approvers": ["bob"], "requester_may_approve": True}))) == []


async def test_members_of_a_group_count_as_people() -> None:
    """A person who is named and in the group counts once; one without a name only where one person is enough."""
    rules = {"approvers": ["bob"], "approver_groups": ["S0ONCALL"], "requesters": ["bob"]}
    same = await examine(settings(approvals=rules), slack=FakeSlack(groups={"S0ONCALL": ["U0BOB"]}))
    assert only(same).subject == "how many"
    carol = FakeSlack(groups={"S0ONCALL": ["U0CAROL"]})
    unnamed, too_few = bad(await examine(settings(approvals=rules), slack=carol))
    assert (unnamed.verdict, unnamed.subject) == (Verdict.WARNING, "group members")
    assert "U0CAROL" in unnamed.message
    assert (too_few.verdict, too_few.subject) == (Verdict.FAILED, "how many")
    alone = await examine(settings(approvals={**rules, "requester_may_approve": True}), slack=carol)
    assert bad(alone) == []


async def test_a_group_that_cannot_be_read_fails() -> None:
    """An unreadable group closes approving by it, so it is a failure, and nothing is counted on guesses."""
    findings = await examine(settings(approvals={"approvers": [], "approver_groups": ["S0GONE"]}))
    wrong, uncounted = bad(findings)
    assert (wrong.verdict, wrong.subject) == (Verdict.FAILED, "approver group S0GONE")
    assert "no_such_subteam" in wrong.message
    assert uncounted.verdict is Verdict.SKIPPED


async def test_an_empty_group_is_a_warning() -> None:
    """A group without members is readable, and of no use."""
    findings = await examine(
        settings(approvals={"approver_groups": ["S0ONCALL"]}), slack=FakeSlack(groups={"S0ONCALL": []})
    )
    assert only(findings).verdict is Verdict.WARNING


async def test_an_approver_without_account_is_a_warning() -> None:
    """Whoever is named and has no account cannot press a button."""
    people = [{"name": "alice"}, {"name": "bob", "slack": "U0BOB"}]
    finding = only(await examine(settings(people=people)))
    assert (finding.verdict, finding.subject) == (Verdict.WARNING, "alice")


# --- Redis ------------------------------------------------------------------------------------------------


async def test_redis_out_of_reach_fails_with_its_own_message() -> None:
    """The store's sentence is shown as it is."""
    finding = only(await examine(persistence=StoreUnavailable("Redis at h:6379 cannot be reached.")))
    assert (finding.verdict, finding.message) == (Verdict.FAILED, "Redis at h:6379 cannot be reached.")


async def test_each_risk_of_redis_is_a_warning() -> None:
    """A Redis that may forget works, and is warned of."""
    findings = bad(await examine(persistence=("appendonly is off", "keys may be thrown away")))
    assert [finding.verdict for finding in findings] == [Verdict.WARNING, Verdict.WARNING]
    assert exit_code(findings) == 0


async def test_who_else_may_write_in_redis_is_a_warning_and_what_may_not_be_asked_is_said() -> None:
    """The bot's own user may rightly not ask: that is no warning, and says who can look and how."""
    told = bad(
        await examine(access=Access(warnings=("The user eve of Redis may write the bot's keys too.",)))
    )
    assert [(f.check, f.subject, f.verdict) for f in told] == [("redis", "who may write", Verdict.WARNING)]
    (unseen,) = bad(await examine(access=Access(unseen="our user may not ask: `redis-cli ACL LIST`")))
    assert (unseen.verdict, "redis-cli ACL LIST" in unseen.message) == (Verdict.SKIPPED, True)
    failed = only(await examine(access=StoreUnavailable("Redis at h:6379 gave no answer in time.")))
    assert failed.verdict is Verdict.FAILED


# --- Hosts ------------------------------------------------------------------------------------------------


async def test_a_host_out_of_reach_fails_once() -> None:
    """The host's own reason is shown; its agent is skipped and its clock is not spoken of."""
    away = ServerObservation(
        name=ServerName("s1"), address="10.0.0.1", host_problem="10.0.0.1: unknown host key."
    )
    findings = await examine(server=away, host_time_s=HostUnreachable("away"))
    host, agent = bad(findings)
    assert (host.verdict, host.message) == (Verdict.FAILED, "10.0.0.1: unknown host key.")
    assert "ssh.known_hosts_file" in host.next_step
    ssh = settings().ssh
    tried = f"ssh -p {ssh.port} -i {ssh.key_file} -o UserKnownHostsFile={ssh.known_hosts_file} {ssh.user}@10.0.0.1 sudo"
    assert tried in host.next_step, "it cannot be copied into a shell"
    assert agent.verdict is Verdict.SKIPPED
    assert not any(finding.check == "clock" for finding in findings)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"agent": None, "agent_problem": "the agent on s1 does not answer"}, "does not answer"),
        ({"agent": msgspec.structs.replace(AGENT, node_name="consul-1")}, "calls itself consul-1"),
        (
            {"agent": msgspec.structs.replace(AGENT, withheld=("agent/self: 403 Permission denied",))},
            "wants a token, and the settings have none (agent/self)",
        ),
        ({"host": msgspec.structs.replace(HOST, free_bytes=1 << 20, state_bytes=5 << 20)}, "1 MiB are free"),
    ],
)
async def test_what_is_wrong_on_a_server_fails(change: dict[str, Any], said: str) -> None:
    """A silent agent, another name, a refused token and a full disk each fail with a message of their own."""
    finding = only(await examine(server=msgspec.structs.replace(SERVER, **change)))
    assert finding.verdict is Verdict.FAILED
    assert said in finding.message


async def test_tokens_that_are_refused_are_told_apart_from_none() -> None:
    """Where tokens are given and refused the message does not ask for some."""
    denied = msgspec.structs.replace(
        AGENT, withheld=("agent/self: 403 Permission denied", "agent/members: 403 x")
    )
    servers = [{"name": "s1", "address": "10.0.0.1"}]
    with_tokens = settings(clusters={"prod": {"tokens": {"agent_recovery_env": "APP"}, "servers": servers}})
    finding = only(await examine(with_tokens, server=msgspec.structs.replace(SERVER, agent=denied)))
    assert "does not accept the tokens of the settings (agent/self, agent/members)" in finding.message


async def test_stale_reads_that_are_refused_are_no_token_problem() -> None:
    """A cluster without a leader refuses stale reads; that says nothing about tokens."""
    agent = msgspec.structs.replace(AGENT, withheld=("stale reads: 500 No cluster leader",))
    assert bad(await examine(server=msgspec.structs.replace(SERVER, agent=agent))) == []


async def test_another_datacenter_fails() -> None:
    """A server that answers for another datacenter is the wrong machine."""
    servers = [{"name": "s1", "address": "10.0.0.1"}]
    elsewhere = settings(clusters={"prod": {"datacenter": "dc2", "servers": servers}})
    assert "is of datacenter dc1, not dc2" in only(await examine(elsewhere)).message


@pytest.mark.parametrize(
    ("host_time_s", "now_s", "apart"),
    [
        (1000.0, (999.0, 1001.0), None),
        (1000.0, (990.0, 1010.0), None),
        (1004.0, (999.0, 1000.0), None),
        (1040.0, (999.0, 1000.0), "40 s"),
        (959.0, (999.0, 1000.0), "40 s"),
    ],
)
async def test_clocks_apart_are_a_warning(
    host_time_s: float, now_s: Sequence[float], apart: str | None
) -> None:
    """Only what the way to the host cannot explain counts as a difference."""
    findings = await examine(host_time_s=host_time_s, now_s=now_s)
    if apart is None:
        assert bad(findings) == []
    else:
        assert only(findings).verdict is Verdict.WARNING
        assert apart in only(findings).message


async def test_a_clock_that_cannot_be_read_is_a_warning() -> None:
    """The host was seen, only its clock was not."""
    assert only(await examine(host_time_s=HostUnreachable("cut off"))).check == "clock"


# --- How it reads -----------------------------------------------------------------------------------------


async def test_the_text_has_a_word_for_each_verdict_and_the_next_step() -> None:
    """A person reads word, place, message and what to do, and the sum at the end."""
    findings = await examine(persistence=("appendonly is off",), slack=FakeSlack(app="invalid_auth"))
    text = render_text(findings)
    assert "FAILED   slack: app token: " in text
    assert "WARNING  redis: server: appendonly is off\n         -> Change it" in text
    assert text.endswith(f"{len(findings) - 2} ok, 1 warning, 1 failed")


async def test_the_json_says_the_same() -> None:
    """A program reads whether all is well, and every finding with all of its fields."""
    findings = await examine(slack=FakeSlack(app="invalid_auth"))
    read = json.loads(render_json(findings))
    assert read["ok"] is False
    assert [entry["verdict"] for entry in read["findings"]].count("failed") == 1
    assert set(read["findings"][0]) == {"check", "subject", "verdict", "message", "next_step"}


async def test_a_running_bot_is_seen_by_its_mark() -> None:
    """The last step of the set-up: the process that was there a moment ago is named."""
    [found] = [each for each in await examine() if each.check == "bot"]
    assert (found.verdict, found.subject) == (Verdict.OK, "bot@machine")


@pytest.mark.parametrize("mark", [None, Mark("bot@machine", 800.0)], ids=["never", "long ago"])
async def test_without_a_running_bot_the_next_step_is_to_start_it(mark: Mark | None) -> None:
    """Everything else may be in order: then starting it is all that is left to do."""
    found = only(await examine(mark=mark))
    assert (found.check, found.verdict) == ("bot", Verdict.WARNING)
    assert "consul-recovery-bot" in found.next_step
