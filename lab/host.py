"""One lab host: namespaces, a disk that survives a power cut, and a real Debian under a real systemd."""

import asyncio
import json
import os
import shutil
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from lab.agent import Answer, ClusterSettings, agent_config, ask_agent
from lab.cgroup import Cgroup
from lab.errors import LabError
from lab.namespaces import ip_batch, make_network, run, tcp_socket_in

SSH_USER = "recovery"
CONSUL_DATA = "var/lib/consul"
CONSUL_CONFIG = "/etc/consul.d/consul.json"
BRIDGE = "lab0"
PREFIX_LENGTH = 24

_INIT = Path(__file__).with_name("host_init.sh")
_ENVIRONMENT = (
    "HOME=/root",
    "LANG=C.UTF-8",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)


@dataclass(frozen=True, slots=True)
class Host:
    """A machine of the lab. A value: another process that knows name, address and folders has the same host."""

    name: str
    address: str
    server: bool
    root: Path
    folder: Path
    control: Path
    cgroup: Cgroup

    @property
    def network(self) -> Path:
        """The file of the host's own network namespace."""
        return self.folder / "net"

    @property
    def disk(self) -> Path:
        """What the host has written over the hermetic root: its disk."""
        return self.folder / "disk" / "upper"

    @property
    def _cable(self) -> str:
        return f"v-{self.name}"

    # -- life -----------------------------------------------------------------------------------------

    def make(self, settings: ClusterSettings, *, ssh_public_key: str, join: tuple[str, ...]) -> str:
        """Make the machine, powered off: network, and a disk with an identity. Returns its public SSH host key."""
        for part in ("upper", "work", "merged"):
            (self.folder / "disk" / part).mkdir(parents=True)
        self._plug_in()
        host_key = asyncssh.generate_private_key("ssh-ed25519", comment=self.name)
        self._write("etc/hostname", f"{self.name}\n")
        self._write("etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        self._write("etc/machine-id", f"{uuid.uuid4().hex}\n", mode=0o444)
        self._write("etc/ssh/ssh_host_ed25519_key", host_key.export_private_key().decode(), mode=0o600)
        self._write("etc/ssh/ssh_host_ed25519_key.pub", host_key.export_public_key().decode())
        self._write(
            f"home/{SSH_USER}/.ssh/authorized_keys", ssh_public_key, mode=0o600, like=f"home/{SSH_USER}"
        )
        self._write(f"etc/sudoers.d/{SSH_USER}", settings.sudoers, mode=0o440)
        self.configure(settings, join=join)
        wants = self._folder_on_disk("etc/systemd/system/multi-user.target.wants")
        (wants / "consul.service").symlink_to("/lib/systemd/system/consul.service")
        if settings.program.path is not None:
            target = self._folder_on_disk("usr/bin") / "consul"
            shutil.copyfile(settings.program.path, target)
            target.chmod(0o755)
        return host_key.export_public_key().decode()

    def configure(self, settings: ClusterSettings, *, join: tuple[str, ...]) -> None:
        """Write the agent's configuration on the disk of a host that is powered off."""
        config = agent_config(settings, name=self.name, address=self.address, server=self.server, join=join)
        # The packaged service runs as `consul`, which must read it; tokens are in it, so nobody else may.
        text = json.dumps(config, indent=2) + "\n"
        self._write(CONSUL_CONFIG.lstrip("/"), text, mode=0o640, like=CONSUL_DATA)

    def _plug_in(self) -> None:
        make_network(self.network)
        last = int(self.address.rsplit(".", 1)[1])
        # The hardware address follows from the IP address: a neighbour's cache is then never wrong about a
        # machine that was replaced.
        add = f"link add {self._cable} type veth peer name eth0 address 02:00:c6:33:64:{last:02x}"
        with (self.network).open("rb") as file:
            ip_batch(
                self.control,
                [
                    f"{add} netns /proc/{os.getpid()}/fd/{file.fileno()}",
                    f"link set {self._cable} master {BRIDGE} up",
                ],
            )
        ip_batch(self.network, [f"address add {self.address}/{PREFIX_LENGTH} dev eth0", "link set eth0 up"])

    def readdress(self) -> None:
        """Give the network card of a host that is powered off this value's address instead of its old one."""
        ip_batch(
            self.network,
            ["address flush dev eth0 scope global", f"address add {self.address}/{PREFIX_LENGTH} dev eth0"],
        )

    def _folder_on_disk(self, path: str) -> Path:
        # A folder on the upper layer hides the lower one's owner and mode, so it takes them over.
        here, below = self.disk, self.root
        for part in Path(path).parts:
            here, below = here / part, below / part
            if not here.is_dir():
                here.mkdir()
                if below.is_dir():
                    seen = below.stat()
                    os.chown(here, seen.st_uid, seen.st_gid)
                    here.chmod(seen.st_mode & 0o7777)
        return here

    def _write(self, path: str, text: str, *, mode: int = 0o644, like: str | None = None) -> None:
        target = self._folder_on_disk(str(Path(path).parent)) / Path(path).name
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)
        if like is not None:
            owner = (self.root / like).stat()
            os.chown(target, owner.st_uid, owner.st_gid)

    def power_on(self, *, timeout_s: float = 30.0) -> None:
        """Boot the host and wait until its sshd answers; raises LabError if it does not."""
        if self.is_on():
            raise LabError(f"{self.name} is already running.")
        self._cable_set("up")
        self.cgroup.spawn(
            [
                *("nsenter", f"--net={self.network}"),
                *("unshare", "--cgroup", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"),
                *("sh", str(_INIT), str(self.root), str(self.folder / "disk")),
            ],
            log=self.folder / "console.log",
        )
        deadline = time.monotonic() + timeout_s
        while not self._sshd_answers():
            # Started in the background: it may not be in its group yet when this first looks.
            dead = time.monotonic() > deadline - timeout_s + 2.0 and not self.is_on()
            if dead or time.monotonic() > deadline:
                console = (self.folder / "console.log").read_text(encoding="utf-8", errors="replace")
                raise LabError(
                    f"{self.name} did not boot within {timeout_s:.0f} s. Its console:\n{console[-2000:]}"
                )
            time.sleep(0.05)

    def _sshd_answers(self) -> bool:
        with tcp_socket_in(self.network) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect((self.address, 22))
                return probe.recv(4) == b"SSH-"
            except OSError:
                return False

    def power_off(self) -> None:
        """Cut the power: the cable goes silent first, so that peers see no closed connections, as with real ones."""
        self._cable_set("down")
        self.cgroup.kill()

    def destroy(self) -> None:
        """Take the machine away for good: processes, network and disk."""
        self.cgroup.kill()
        # Deleted by name and not only with its namespace, which the kernel takes apart later.
        ip_batch(self.control, [f"link delete {self._cable}"])
        run(["umount", str(self.network)])
        shutil.rmtree(self.folder)

    def init_pid(self) -> int:
        """Return the machine's process id of the host's systemd; raises LabError if the host is off."""
        for pid in sorted(self.cgroup.processes()):
            try:
                status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            except OSError:
                continue
            for line in status.splitlines():
                match line.split():
                    case ["NSpid:", *_, "1"]:
                        return pid
                    case _:
                        continue
        raise LabError(f"{self.name} is powered off.")

    def is_on(self) -> bool:
        """Tell whether the host has any process."""
        return bool(self.cgroup.processes())

    def _cable_set(self, state: str) -> None:
        ip_batch(self.control, [f"link set {self._cable} {state}"])

    # -- for tests, and for breaking things -------------------------------------------------------------

    async def kill(self) -> None:
        """Cut the power; the disk stays."""
        await asyncio.to_thread(self.power_off)

    async def start(self) -> None:
        """Switch the host on again; returns when its sshd answers."""
        await asyncio.to_thread(self.power_on)

    async def reboot(self) -> None:
        """Cut the power and switch on again."""
        await self.kill()
        await self.start()

    async def link(self, *, up: bool) -> None:
        """Plug the network cable in or out."""
        await asyncio.to_thread(self._cable_set, "up" if up else "down")

    async def wipe_disk(self) -> None:
        """Kill the agent without a leave and empty its data folder; the agent is not started again.

        Works on a host that is powered off too.
        """
        if self.is_on():
            # A drop-in would leave a trace; a stop job that is queued first keeps systemd from restarting it.
            await self.run(
                "systemctl --no-block stop consul; systemctl kill --signal=KILL consul; systemctl stop consul"
            )
            await self.run(
                f"find /{CONSUL_DATA} -mindepth 1 -delete; systemctl reset-failed consul", check=False
            )
            return
        # All of it is on the upper layer: the hermetic root's own folder is empty.
        for entry in (self.disk / CONSUL_DATA).iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def enter_command(self, *command: str) -> list[str]:
        """Return the argv that runs a program inside the host, from the machine."""
        return ["nsenter", "--target", str(self.init_pid()), "--all", "env", "-i", *_ENVIRONMENT, *command]

    async def run(self, script: str, *, check: bool = True, stdin: str = "", timeout_s: float = 60.0) -> str:
        """Run a shell script as root inside the host, past SSH, and return what it printed.

        Raises LabError if it fails (unless `check` is False) or takes longer than `timeout_s`.
        """

        def call() -> str:
            try:
                done = subprocess.run(
                    self.enter_command("sh", "-c", script),
                    check=False,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    input=stdin,
                    timeout=timeout_s,
                )
            except subprocess.TimeoutExpired as error:
                raise LabError(f"`{script}` on {self.name} did not end within {timeout_s:.0f} s.") from error
            if check and done.returncode != 0:
                raise LabError(
                    f"`{script}` on {self.name} failed with {done.returncode}: {done.stderr.strip()}"
                )
            return done.stdout

        return await asyncio.to_thread(call)

    async def api(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes = b"",
        token: str | None = None,
        timeout_s: float = 5.0,
    ) -> Answer:
        """Ask the host's own agent over its loopback; raises OSError if it does not answer."""
        return await ask_agent(self.network, path, method=method, body=body, token=token, timeout_s=timeout_s)
