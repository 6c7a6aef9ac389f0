"""The hermetic root: one Debian tree, made once, that every host of every lab uses as its lower layer.

Nothing is installed on the machine for it. mmdebstrap unpacks Debian 12 into a cache folder, with systemd,
sshd, sudo, Redis, and Consul 1.8.7 from Debian 11 (the last Debian that has a `consul` package).
The folder's name is a hash of the recipe, so that a changed recipe makes a new tree and never half an old one.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lab.errors import LabError

DEFAULT_CACHE = Path("/var/cache/consul-recovery-lab")
PUBLIC_MIRROR = "http://deb.debian.org/debian"
NEW_SUITE = "bookworm"
OLD_SUITE = "bullseye"

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "iproute2",
    "procps",
    "curl",
    "ca-certificates",
    "sudo",
    "python3",
    "consul",
    "redis-server",
)
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")

# Units that would reach past the namespaces into the machine's kernel, or that a host without a console,
# a disk and a clock of its own only waits for.
MASKED = (
    "systemd-sysctl.service",
    "systemd-modules-load.service",
    "systemd-binfmt.service",
    "systemd-random-seed.service",
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-logind.service",
    "systemd-firstboot.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-ask-password-wall.path",
    "systemd-ask-password-console.path",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "console-getty.service",
    "getty.target",
    "remote-fs.target",
)

# Runs inside the new tree. Host keys and machine-id are removed: each host gets its own when it is made.
CUSTOMIZE = f"""set -eu
root=$1
rm -f "$root"/etc/systemd/system/*.wants/* "$root"/etc/ssh/ssh_host_* "$root"/etc/apt/sources.list
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"
chroot "$root" systemctl --quiet mask {" ".join(MASKED)}
chroot "$root" systemctl --quiet enable ssh.service
chroot "$root" systemctl --quiet set-default multi-user.target
chroot "$root" useradd --create-home --shell /bin/bash recovery
install -d -m 0700 -o 1000 -g 1000 "$root/home/recovery/.ssh"
printf 'HostKey /etc/ssh/ssh_host_ed25519_key\\nPasswordAuthentication no\\n' \\
    >"$root/etc/ssh/sshd_config.d/lab.conf"
"""


def cache_dir(environment: Mapping[str, str]) -> Path:
    """Return the folder that keeps the finished trees: LAB_CACHE, or the default."""
    return Path(environment.get("LAB_CACHE") or DEFAULT_CACHE)


def recipe_key() -> str:
    """Return the hash of everything that decides what is in the tree; the mirror is not part of it."""
    recipe = "\n".join((NEW_SUITE, OLD_SUITE, *PACKAGES, *LEFT_OUT, CUSTOMIZE))
    return hashlib.sha256(recipe.encode()).hexdigest()[:16]


def pick_mirror(os_release: str, index_targets: str) -> str:
    """Return the Debian mirror that this machine's own apt uses, or Debian's public one.

    `os_release` is the text of /etc/os-release, `index_targets` one `SITE RELEASE COMPONENT` per line as
    `apt-get indextargets` prints it. Only the machine's own release names a mirror of all of Debian: a site
    of security updates, or another vendor's repository, has no such release.
    """
    fields = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    release = fields.get("VERSION_CODENAME", "").strip('"')
    if fields.get("ID", "").strip('"') != "debian" or not release:
        return PUBLIC_MIRROR
    for line in index_targets.splitlines():
        match line.split():
            case [site, found, "main"] if found == release and site.startswith(
                ("http://", "https://", "file:")
            ):
                return site
            case _:
                continue
    return PUBLIC_MIRROR


def mirrors(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the mirrors of the new and of the old suite; LAB_MIRROR and LAB_MIRROR_OLD win."""
    new = environment.get("LAB_MIRROR")
    if not new:
        targets = subprocess.run(
            [
                "apt-get",
                "indextargets",
                "--format",
                "$(SITE) $(RELEASE) $(COMPONENT)",
                "Created-By: Packages",
            ],
            check=False,
            capture_output=True,
            text=True,
        )
        new = pick_mirror(Path("/etc/os-release").read_text(encoding="utf-8"), targets.stdout)
    return new, environment.get("LAB_MIRROR_OLD") or new


@contextmanager
def _only_one_builder(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure_root(environment: Mapping[str, str] | None = None) -> Path:
    """Return the path of the hermetic root, building it first if this recipe was never built.

    Takes about a minute the first time and nothing after. Parallel callers wait for the first one.
    Raises LabError if it cannot be built; the tree is renamed into place only when it is complete.
    """
    environment = os.environ if environment is None else environment
    cache = cache_dir(environment)
    root = cache / f"root-{recipe_key()}"
    if root.is_dir():
        return root
    if os.geteuid() != 0:
        raise LabError(
            f"The lab's Debian tree {root} is not built yet, and that needs root. Run `make lab-root`."
        )
    if shutil.which("mmdebstrap") is None:
        raise LabError("mmdebstrap is not installed, so the lab's hosts cannot be made. Run `make setup`.")
    with _only_one_builder(cache):
        if root.is_dir():
            return root
        for leftover in cache.glob("building-*"):
            shutil.rmtree(leftover)
        building = Path(tempfile.mkdtemp(prefix="building-", dir=cache))
        try:
            _build(building, *mirrors(environment))
            (building / "tree").rename(root)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return root


def _build(building: Path, new_mirror: str, old_mirror: str) -> None:
    hook = building / "customize.sh"
    hook.write_text(f"#!/bin/sh\n{CUSTOMIZE}", encoding="utf-8")
    hook.chmod(0o755)
    # A mount namespace of its own: mmdebstrap mounts /proc and /sys in the tree, and if it is killed those
    # mounts must go with it and not stay on the machine.
    built = subprocess.run(
        [
            *("unshare", "--mount", "mmdebstrap", "--mode=root", "--variant=minbase"),
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
            f"--include={','.join(PACKAGES)}",
            f"--customize-hook={hook}",
            NEW_SUITE,
            str(building / "tree"),
            f"deb {new_mirror} {NEW_SUITE} main",
            f"deb {old_mirror} {OLD_SUITE} main",
        ],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if built.returncode != 0:
        last = "\n".join(built.stderr.splitlines()[-15:])
        raise LabError(
            "The lab's Debian tree could not be built; nothing was kept. If the old release has left the"
            f" mirror, set LAB_MIRROR_OLD to one that has {OLD_SUITE}. mmdebstrap's last lines:\n{last}"
        )
