"""What config/sudoers-people lets people do, decided by the real sudo of the lab's Debian."""

import os
import subprocess
from pathlib import Path

import pytest

from lab.root import ensure_root

# A tree of its own for the time of the test: alice is on call, and the program says what it was given.
_NIGHT = r"""set -eu
root=$1 sudoers=$2 folder=$3 user=$4 group=$5
shift 5
for file in passwd group shadow; do cp "$root/etc/$file" "$folder/$file"; done
cat >>"$folder/passwd" <<END
consul-recovery:x:4700:4700::/var/lib/consul-recovery:/usr/sbin/nologin
alice:x:4701:4701::/:/bin/sh
mallory:x:4702:4702::/:/bin/sh
END
cat >>"$folder/group" <<END
consul-recovery:x:4700:
alice:x:4701:
mallory:x:4702:
oncall:x:4703:alice
END
for name in consul-recovery alice mallory; do echo "$name:*:19000:0:99999:7:::" >>"$folder/shadow"; done
for file in passwd group shadow; do mount --bind "$folder/$file" "$root/etc/$file"; done
mount -t tmpfs -o mode=755 tmpfs "$root/etc/sudoers.d"
mount -t tmpfs -o mode=755 tmpfs "$root/opt"
mount -t proc proc "$root/proc"
mkdir -p "$root/opt/consul-recovery/bin"
cat >"$root/opt/consul-recovery/bin/consul-recovery" <<'END'
#!/bin/sh
echo "$(id -un) ran it: $*"
env
END
chmod 755 "$root/opt/consul-recovery/bin/consul-recovery"
install -m 0440 "$sudoers" "$root/etc/sudoers.d/people"
exec chroot "$root" setpriv --reuid "$user" --regid "$user" --groups "$group" sudo -n -u consul-recovery "$@"
"""
PROGRAM = "/opt/consul-recovery/bin/consul-recovery"


def at_night(folder: Path, *command: str, user: int = 4701, group: int = 4703) -> tuple[bool, str]:
    """Run a command through the real sudo as somebody of this machine; whether it ran, and what was said."""
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", _NIGHT, "night", str(ensure_root()), "config/sudoers-people"),
            *(str(folder), str(user), str(group), *command),
        ],
        text=True,
        capture_output=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "/tmp", "SSL_CERT_FILE": "/tmp/ca", "COLUMNS": "99"},
    )
    return done.returncode == 0, done.stdout + done.stderr


def test_people_run_the_terminal_as_the_bots_user_and_bring_no_environment(tmp_path: Path) -> None:
    """The line of sudoers-people is enough, without a password; python would run what PYTHONPATH says."""
    ran, said = at_night(tmp_path, PROGRAM, "approve", "r1", "--type", "s2")
    assert ran, said
    assert "consul-recovery ran it: approve r1 --type s2" in said
    assert "COLUMNS=99" in said
    assert "HOME=/var/lib/consul-recovery" in said
    assert "PYTHONPATH" not in said
    assert "SSL_CERT_FILE" not in said


@pytest.mark.parametrize(
    "command",
    [
        (PROGRAM, "--settings", "/home/alice/own.yaml", "approve", "r1"),
        (PROGRAM, "approve", "r1", "--settings=/home/alice/own.yaml"),
        (PROGRAM, "approve", "r1", "--alone", "it is\nnight", "--settings", "/home/alice/own.yaml"),
        ("PYTHONPATH=/home/alice", PROGRAM, "status"),
        ("--preserve-env=PYTHONPATH", PROGRAM, "status"),
        ("-E", PROGRAM, "status"),
        ("/bin/sh", "-c", "id"),
        ("/opt/consul-recovery/bin/../bin/python3", "-c", "1"),
    ],
)
def test_people_name_no_settings_and_run_nothing_else(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Settings of one's own, an environment of one's own, a shell: sudo refuses each."""
    ran, said = at_night(tmp_path, *command)
    assert not ran
    assert "ran it" not in said


def test_who_is_not_on_call_runs_nothing(tmp_path: Path) -> None:
    """The line names a group."""
    ran, said = at_night(tmp_path, PROGRAM, "status", user=4702, group=4702)
    assert not ran
    assert "ran it" not in said
