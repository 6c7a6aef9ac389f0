"""Who sits at the terminal, and what a caller who has only borrowed the bot's rights may say."""

import pwd
from pathlib import Path

import pytest

from bot.authz import Nobody
from bot.terminal_user import Traces, chosen_settings, forget_the_callers_words, sitter, traces
from config.settings import DEFAULT_PATH
from config.values import TerminalIdentity
from recovery.errors import SettingsProblem

ALICE, BOB, BOT = 1000, 1001, 998
UNSET = str(2**32 - 1)
SESSION = "0::/user.slice/user-1000.slice/session-3.scope\n"
SYSTEMD = "0::/init.scope\n"


def seen(
    *,
    login: str = UNSET,
    group: str = "0::/system.slice/job.service\n",
    first: str = SYSTEMD,
    sudo: str | None = None,
    uid: int = BOT,
) -> Traces:
    """What a process of the bot's user finds, where these are its files."""
    files = {"/proc/self/loginuid": login, "/proc/self/cgroup": group, "/proc/1/cgroup": first}
    environ = {"SUDO_UID": sudo} if sudo is not None else {}
    found = traces(environ, read=lambda path: files.get(path, ""))
    return Traces(uid=uid, login_uid=found.login_uid, slice_uid=found.slice_uid, sudo_uid=found.sudo_uid)


def who(found: Traces, identity: TerminalIdentity = TerminalIdentity.LOGIN) -> str | Nobody:
    return sitter(found, identity, name_of=lambda uid: f"user-{uid}")


# --- By default: who logged in, as the kernel and systemd-logind agree ------------------------------------


@pytest.mark.parametrize(
    "group",
    [
        SESSION,
        "0::/user.slice/user-1000.slice/user@1000.service/tmux-spawn-1.scope\n",
        "9:name=systemd:/user.slice/user-1000.slice/session-2.scope\n4:memory:/user.slice\n0::/\n",
    ],
)
@pytest.mark.parametrize("uid", [0, ALICE, BOB, BOT])
def test_whoever_somebody_has_become_it_is_the_one_who_logged_in(group: str, uid: int) -> None:
    """alice who has become bob, root or the bot by sudo or su is still alice; SUDO_UID says nothing."""
    assert who(seen(login=str(ALICE), group=group, uid=uid, sudo=str(BOB))) == "user-1000"


@pytest.mark.parametrize("login", [UNSET, "", "no number", "-1"])
@pytest.mark.parametrize("uid", [0, ALICE, BOT])
def test_where_nobody_has_logged_in_the_terminal_is_nobody(login: str, uid: int) -> None:
    """Not the process's user: in a container that is the same one for all; the answer says what to set."""
    verdict = who(seen(login=login, uid=uid, sudo=str(ALICE)))
    assert isinstance(verdict, Nobody)
    assert "nobody has logged in" in verdict.why
    assert "terminal: {identity: sudo}" in verdict.mend


@pytest.mark.parametrize(
    "group",
    [
        "0::/system.slice/jenkins.service\n",
        "0::/\n",
        "",
        SESSION,
        # Names that a user can make below what systemd has given over to that user.
        "0::/user.slice/user-1000.slice/user@1000.service/user.slice/user-1001.slice/x\n",
        "0::/system.slice/jenkins.service/user.slice/user-1001.slice/session-1.scope\n",
        "0::/user.slice/user-1001.slice.d/x\n",
        "0::/user.slice/user-10011.slice/session-1.scope\n",
    ],
)
def test_a_login_uid_that_any_process_could_have_written_is_nobodys(group: str) -> None:
    """A process of alice's without a login, which writes bob's uid to its own loginuid, is not bob."""
    verdict = who(seen(login=str(BOB), group=group, sudo=str(ALICE)))
    assert isinstance(verdict, Nobody)
    assert "user-1001" in verdict.why
    assert "any process could have written that" in verdict.why


def test_a_machine_in_a_control_group_of_another_is_a_machine_like_any_other() -> None:
    """Its systemd says in which group it is itself; what is below that is its own."""
    machine = "/machine.slice/prod.scope"
    inside = f"0::{machine}/user.slice/user-1000.slice/session-1.scope\n"
    assert who(seen(login=str(ALICE), group=inside, first=f"0::{machine}/init.scope\n")) == "user-1000"
    assert isinstance(who(seen(login=str(ALICE), group=inside, first="0::/\n")), Nobody)


# --- What the settings may say instead --------------------------------------------------------------------


def test_the_settings_may_take_the_kernels_word_alone() -> None:
    """Where there is no systemd-logind; without a login it is nobody all the same."""
    identity = TerminalIdentity.LOGIN_UID
    assert who(seen(login=str(ALICE), sudo=str(BOB)), identity) == "user-1000"
    assert isinstance(who(seen(sudo=str(ALICE)), identity), Nobody)


def test_the_settings_may_take_the_word_of_sudo() -> None:
    """Only of sudo itself: a shell that was opened in a container as the bot's user is nobody."""
    assert who(seen(sudo=str(ALICE)), TerminalIdentity.SUDO) == "user-1000"
    verdict = who(seen(), TerminalIdentity.SUDO)
    assert isinstance(verdict, Nobody)
    assert "not started by sudo" in verdict.why


def test_the_settings_may_take_the_process_user() -> None:
    """Whatever anybody else says."""
    assert who(seen(login=str(BOB), sudo=str(BOB), uid=ALICE), TerminalIdentity.ACCOUNT) == "user-1000"


# --- What a caller with borrowed rights may say -----------------------------------------------------------


@pytest.mark.parametrize(
    "found",
    [
        seen(login=str(ALICE), group=SESSION),
        seen(sudo=str(ALICE)),
        # Whoever writes the bot's uid there to look like the bot is still known to sudo.
        seen(login=str(BOT), sudo=str(ALICE)),
    ],
)
def test_who_borrows_the_bots_rights_does_not_choose_the_settings(found: Traces) -> None:
    """Neither by argument nor by variable, whoever owns the file; the default one may be named."""
    with pytest.raises(SettingsProblem, match=r"takes no settings but /etc/.*; nothing was done"):
        chosen_settings(found, "/etc/consul-recovery/settings.yaml.old", {})
    with pytest.raises(SettingsProblem, match="CONSUL_RECOVERY_SETTINGS out"):
        chosen_settings(found, None, {"CONSUL_RECOVERY_SETTINGS": "/tmp/own.yaml"})
    assert chosen_settings(found, None, {}) == DEFAULT_PATH
    assert chosen_settings(found, str(DEFAULT_PATH), {}) == DEFAULT_PATH


@pytest.mark.parametrize(
    "found",
    [
        seen(),
        seen(uid=ALICE, login=str(ALICE), group=SESSION),
        seen(uid=0, login=str(ALICE), sudo=str(ALICE), group=SESSION),
        seen(login="0", sudo="0"),
    ],
)
def test_the_bot_itself_its_own_user_and_root_choose(found: Traces) -> None:
    """A service, a person with the own account, and whoever is root by now: nobody's rights are borrowed."""
    assert not found.lent
    assert chosen_settings(found, "/srv/other.yaml", {}) == Path("/srv/other.yaml")


def test_a_caller_with_borrowed_rights_brings_no_environment() -> None:
    """No search path, proxy, certificates, temporary folder, secrets or paths in a language; the screen's size may."""
    account = pwd.getpwall()[0]
    environ = {
        "PATH": "/home/mallory/bin",
        "HOME": "/home/mallory",
        "TMPDIR": "/home/mallory",
        "SSL_CERT_FILE": "/home/mallory/ca.pem",
        "SSLKEYLOGFILE": "/home/mallory/keys",
        "HTTPS_PROXY": "http://mallory:3128",
        "REDIS_URL": "redis://mallory:6379",
        "CONSUL_HTTP_ADDR": "mallory:8500",
        "LC_ALL": "../../home/mallory",
        "LANG": "C.UTF-8",
        "COLUMNS": "132",
        "CONSUL_RECOVERY_CLUSTER": "prod",
    }
    forget_the_callers_words(environ, uid=account.pw_uid)
    assert environ.pop("PATH").split(":")[0] == "/usr/local/sbin"
    assert environ == {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "LANG": "C.UTF-8",
        "COLUMNS": "132",
        "CONSUL_RECOVERY_CLUSTER": "prod",
    }
