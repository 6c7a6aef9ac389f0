"""Whose files count, on real files and folders; as root they are given to other users for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from config.ownership import NotOurs, read_ours, refuse_foreign
from config.settings import load_settings, parse_settings
from recovery.errors import SettingsProblem
from tests.unit.config.test_settings import ENVIRON, GOOD

AS_ROOT = os.geteuid() == 0
BOT = 4712 if AS_ROOT else os.geteuid()
"""Whose files count beside root's; a user that only these tests know, where they may have one."""
MALLORY = 4711


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A settings file of the bot's own, in a folder of its own."""
    tmp_path.chmod(0o755)
    path = tmp_path / "etc" / "settings.yaml"
    path.parent.mkdir(mode=0o755)
    path.write_text(GOOD, encoding="utf-8")
    path.chmod(0o600)
    if AS_ROOT:
        os.chown(path, BOT, -1)
    return path


def asker(given: Path) -> int:
    """Give a file to somebody else, and say for whom it is somebody else's.

    Only root can give a file away; anybody else asks for a user whose file it is not.
    """
    if AS_ROOT:
        os.chown(given, MALLORY, -1, follow_symlinks=False)
        return BOT
    return BOT + 1


def test_a_file_of_root_or_of_the_bots_user_counts(settings: Path) -> None:
    """Both are read, and so is one that a link of theirs leads to, by an absolute or a relative way."""
    assert read_ours(settings, uid=BOT) == GOOD
    if AS_ROOT:
        os.chown(settings, 0, -1)
        assert read_ours(settings, uid=BOT) == GOOD
    for number, target in enumerate((str(settings), "../etc/./settings.yaml")):
        link = settings.parent / f"link-{number}"
        link.symlink_to(target)
        assert read_ours(link, uid=BOT) == GOOD
    refuse_foreign(settings, uid=BOT)


def test_a_file_of_somebody_else_is_refused_with_the_command_that_mends_it(settings: Path) -> None:
    """Whose it is, and `chown`; nothing of it is read."""
    with pytest.raises(NotOurs, match=r"belongs to .*only what root or .* owns counts.*: chown root /"):
        read_ours(settings, uid=asker(settings))


@pytest.mark.parametrize(
    ("mode", "who"), [(0o620, "its group"), (0o602, "everybody"), (0o666, "everybody"), (0o660, "its group")]
)
def test_a_file_that_others_may_write_is_refused(settings: Path, mode: int, who: str) -> None:
    """Also by the group alone: an ACL that lets one more user write shows as that."""
    settings.chmod(mode)
    with pytest.raises(NotOurs, match=rf"may be written by {who}.*chmod go-w {settings}"):
        read_ours(settings, uid=BOT)
    with pytest.raises(NotOurs, match="chmod go-w"):
        refuse_foreign(settings, uid=BOT)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_folder_on_the_way_that_others_may_write_is_refused(settings: Path, mode: int) -> None:
    """Another file could be put in its place; the folder is what has to be mended."""
    settings.parent.chmod(mode)
    wanted = rf"^{settings.parent} \(on the way to {settings}\) may be written.*chmod go-w {settings.parent}$"
    with pytest.raises(NotOurs, match=wanted):
        read_ours(settings, uid=BOT)


def test_a_folder_on_the_way_of_somebody_else_is_refused(settings: Path) -> None:
    """Its owner can do there what they like, whatever the mode says."""
    settings.parent.chmod(0o555)
    with pytest.raises(NotOurs, match="belongs to"):
        read_ours(settings, uid=asker(settings.parent))


def test_a_grandparent_counts_as_well(settings: Path) -> None:
    """All the way up: whoever may rename the folder's folder puts another one there."""
    settings.parent.parent.chmod(0o777)
    with pytest.raises(NotOurs, match=rf"^{settings.parent.parent} \(on the way"):
        read_ours(settings, uid=BOT)


def test_in_a_folder_with_the_sticky_bit_the_files_own_owner_is_what_counts(settings: Path) -> None:
    """Nobody else can put another file in its place there (/tmp); somebody else's file is refused there too."""
    settings.parent.chmod(0o1777)
    assert read_ours(settings, uid=BOT) == GOOD
    with pytest.raises(NotOurs, match="belongs to"):
        read_ours(settings, uid=asker(settings))


def test_what_is_missing_where_anybody_could_make_it_is_refused(settings: Path) -> None:
    """A key that is read at each connection could come from anybody; in our own folder it is only missing."""
    missing = settings.parent / "id_ed25519"
    refuse_foreign(missing, uid=BOT)
    settings.parent.chmod(0o1777)
    with pytest.raises(NotOurs, match=r"is not there, and in .* others than root could make it"):
        refuse_foreign(missing, uid=BOT)
    with pytest.raises(FileNotFoundError):
        read_ours(missing, uid=BOT)


def test_a_link_of_somebody_else_is_refused_wherever_it_leads(settings: Path) -> None:
    """Its owner can turn it round at any time."""
    settings.parent.chmod(0o1777)
    link = settings.parent / "link"
    link.symlink_to(settings)
    with pytest.raises(NotOurs, match=r"link.* belongs to"):
        read_ours(link, uid=asker(link))


def test_a_link_is_followed_part_by_part(settings: Path) -> None:
    """One that leads through a folder of somebody else is refused though it is ours, and so is its end."""
    theirs = settings.parent / "theirs"
    theirs.mkdir(mode=0o755)
    (theirs / "settings.yaml").symlink_to(settings)
    link = settings.parent / "link"
    link.symlink_to("theirs")
    with pytest.raises(NotOurs, match="belongs to"):
        read_ours(link / "settings.yaml", uid=asker(theirs))


def test_two_dots_go_back_the_way_that_was_come(settings: Path) -> None:
    """They are not taken out of the text: behind a link they lead elsewhere, through what has to be judged too."""
    elsewhere = settings.parent.parent / "open"
    elsewhere.mkdir()
    (elsewhere / "deep").mkdir()
    elsewhere.chmod(0o777)
    (settings.parent / "link").symlink_to(elsewhere / "deep")
    with pytest.raises(NotOurs, match=rf"^{elsewhere} \(on the way"):
        read_ours(settings.parent / "link" / ".." / "settings.yaml", uid=BOT)


def test_two_slashes_at_the_beginning_are_one(settings: Path) -> None:
    """Also in what a link leads to; and the way is judged all the same."""
    link = settings.parent / "link"
    link.symlink_to(f"/{settings}")
    assert read_ours(Path(f"/{settings}"), uid=BOT) == GOOD
    assert read_ours(link, uid=BOT) == GOOD
    settings.chmod(0o606)
    with pytest.raises(NotOurs, match="chmod go-w"):
        read_ours(Path(f"/{settings}"), uid=BOT)


def test_a_circle_of_links_ends(settings: Path) -> None:
    """As the kernel ends it."""
    (settings.parent / "a").symlink_to("b")
    (settings.parent / "b").symlink_to("a")
    with pytest.raises(NotOurs, match="too many links"):
        read_ours(settings.parent / "a", uid=BOT)


def _pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("make", [_pipe, _socket])
def test_what_is_no_file_is_refused_and_not_waited_for(settings: Path, make: Callable[[Path], None]) -> None:
    """A pipe gives what its writer likes, and would hold the program up until somebody writes."""
    other = settings.parent / "other"
    make(other)
    other.chmod(0o600)
    with pytest.raises(NotOurs, match="is no file, but a pipe, a socket or a device"):
        read_ours(other, uid=BOT)


@pytest.mark.parametrize("path", ["/dev/stdin", "/dev/fd/0", "/proc/self/cmdline", "/proc/self/fd/0"])
def test_what_a_process_says_of_itself_is_no_file(path: str) -> None:
    """The caller's arguments and open files are the caller's word, though the process is the bot's user's."""
    with pytest.raises(NotOurs, match="leads into /proc"):
        read_ours(Path(path), uid=os.geteuid())


def test_for_root_nobody_elses_file_counts(settings: Path) -> None:
    """What the bot's user can write must not tell a process of root what to run; who should run it is told."""
    with pytest.raises(NotOurs, match=r"only what root owns counts here; run this as that user \(sudo -u "):
        read_ours(settings, uid=0 if AS_ROOT else asker(settings) and 0)


# --- The settings, and what they name ---------------------------------------------------------------------


def test_settings_of_ones_own_are_not_taken(settings: Path) -> None:
    """Whoever could make oneself approver by a file of one's own is told whose file it is; nothing is started."""
    assert load_settings(settings, environ=ENVIRON, uid=BOT).source == settings
    with pytest.raises(
        SettingsProblem, match=r"are not taken; nothing was started\. .* belongs to .*chown root"
    ):
        load_settings(settings, environ=ENVIRON, uid=asker(settings))


NAMED = {
    "slack.bot_token_file": "slack.bot_token",
    "redis.url_file": "redis.url",
    "redis.tls_ca_file": "redis.tls_ca_file",
    "redis.tls_cert_file": "redis.tls_cert_file",
    "redis.tls_key_file": "redis.tls_key_file",
    "redis.state_folder": "redis.state_folder",
    "ssh.key_file": "ssh.key_file",
    "ssh.known_hosts_file": "ssh.known_hosts_file",
    "clusters.prod.http.ca_file": "clusters.prod.http.ca_file",
    "clusters.prod.tokens.management_file": "clusters.prod.tokens.management",
}


@pytest.mark.parametrize(("setting", "place"), NAMED.items())
def test_what_the_settings_name_is_under_the_same_rule(settings: Path, setting: str, place: str) -> None:
    """A secret, a key, host keys, certificates: each is refused where its group may write it, with what to run."""
    named = settings.parent / "named"
    named.write_text("xoxb-1", encoding="utf-8")
    named.chmod(0o660)
    tree = yaml.safe_load(GOOD)
    here = tree
    *way, last = setting.split(".")
    for part in way:
        here = here.setdefault(part, {})
    here.pop(last.removesuffix("_file"), None)
    here[last] = str(named)
    with pytest.raises(SettingsProblem) as refused:
        parse_settings(yaml.safe_dump(tree), source=settings, environ=ENVIRON, uid=BOT)
    assert f"\n  {place}: not taken: {named} may be written by its group" in str(refused.value)
    assert f"chmod go-w {named}\n" in f"{refused.value}\n"
