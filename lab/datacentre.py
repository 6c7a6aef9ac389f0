"""The lab: a control network with a bridge, hosts on it, and everything below one folder and one control group.

    async with Lab.create(name="mine") as lab:
        lab.enter()
        cluster = await lab.up(servers=3)
        await lab.host("s1").kill()

A lab holds nothing of an event loop and can be used by several, one after the other. All that it consists of
is below /run/consul-recovery-lab/NAME (one tmpfs: disks, namespaces, keys, state) and in the control group
consul-recovery-lab-NAME, so any other process finds it by its name (Lab.attach) and can take it away.
"""

import asyncio
import os
import secrets
import socket
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncssh
import msgspec

from lab.agent import AclTokens, ClusterSettings, consul_program
from lab.cgroup import Cgroup
from lab.cluster import Cluster
from lab.errors import LabError
from lab.host import BRIDGE, PREFIX_LENGTH, SSH_USER, Host
from lab.namespaces import enter_network, ip_batch, listening_socket_in, make_network, run
from lab.redis_server import RedisServer
from lab.root import ensure_root
from lab.teardown import STATE, group_of, reap_orphans, start_time_of, take_away

# RFC 5737, for documentation: no machine that is reachable can have such an address.
NETWORK_PREFIX = "198.51.100"
CONTROL_ADDRESS = f"{NETWORK_PREFIX}.254"
SUDOERS_STREAMED = f"{SSH_USER} ALL=(root) NOPASSWD: ALL\n"


@dataclass(frozen=True, slots=True)
class HostRecord:
    """What is kept of a host in the lab's state file."""

    name: str
    address: str
    server: bool
    host_key: str


@dataclass(frozen=True, slots=True)
class LabState:
    """The content of lab.json: enough for another process to take the lab over."""

    owner_pid: int | None
    owner_started: str | None
    settings: ClusterSettings | None
    hosts: tuple[HostRecord, ...]
    addresses_used: tuple[str, ...]


class Lab:
    """One disposable data centre. Made by Lab.create or Lab.make, found again by Lab.attach."""

    def __init__(self, name: str, *, root: Path, state: LabState) -> None:
        self.name = name
        self.root = root
        self._state = state
        self.folder = STATE / name
        # Until enter() the caller's own network is the outside; a sandbox may refuse /proc/1/ns/net.
        self._outside = Path("/proc/thread-self/ns/net")
        self._outside_descriptor: int | None = None

    # -- making, finding, taking away --------------------------------------------------------------------

    @classmethod
    def make(cls, name: str | None = None, *, keep: bool = False) -> "Lab":
        """Make an empty lab. Raises LabError if it exists or cannot be made.

        Unless `keep`, the lab belongs to this process: once that is dead, the next lab made takes it away.
        """
        if os.geteuid() != 0:
            raise LabError("The lab makes namespaces and mounts, which only root may. Run it with sudo.")
        reap_orphans()
        root = ensure_root()
        name = name or f"{os.getpid()}-{secrets.token_hex(2)}"
        folder = STATE / name
        if folder.exists():
            raise LabError(
                f"A lab named {name} is there already. Take it away with `python -m lab down {name}`."
            )
        folder.mkdir(parents=True)
        owner = None if keep else os.getpid()
        lab = cls(
            name,
            root=root,
            state=LabState(
                owner_pid=owner,
                owner_started=None if owner is None else start_time_of(owner),
                settings=None,
                hosts=(),
                addresses_used=(),
            ),
        )
        try:
            run(["mount", "-t", "tmpfs", "-o", "mode=0755,size=75%", "consul-recovery-lab", str(folder)])
            # Private: no copy of these mounts shall reach, and outlive us in, somebody else's namespace.
            run(["mount", "--make-private", str(folder)])
            lab._save()
            make_network(lab.control)
            ip_batch(
                lab.control,
                [
                    f"link add {BRIDGE} type bridge forward_delay 0 stp_state 0",
                    f"address add {CONTROL_ADDRESS}/{PREFIX_LENGTH} dev {BRIDGE}",
                    f"link set {BRIDGE} up",
                ],
            )
            key = asyncssh.generate_private_key("ssh-ed25519", comment=f"lab {name}")
            lab.ssh_key.touch(mode=0o600)
            lab.ssh_key.write_bytes(key.export_private_key())
            lab.ssh_key.with_suffix(".pub").write_bytes(key.export_public_key())
            lab.known_hosts.touch()
        except BaseException:
            lab.destroy()
            raise
        return lab

    @classmethod
    @asynccontextmanager
    async def create(cls, name: str | None = None) -> "AsyncIterator[Lab]":
        """Make an empty lab, and take it away at the end."""
        lab = await asyncio.to_thread(cls.make, name)
        try:
            yield lab
        finally:
            await asyncio.to_thread(lab.destroy)

    @classmethod
    def attach(cls, name: str) -> "Lab":
        """Return a lab that another process made; raises LabError if there is none of that name."""
        try:
            text = (STATE / name / "lab.json").read_bytes()
        except OSError as error:
            raise LabError(f"There is no lab named {name}. `python -m lab up` makes one.") from error
        return cls(name, root=ensure_root(), state=msgspec.json.decode(text, type=LabState))

    def destroy(self) -> None:
        """Take the lab away: every process, mount, namespace and file. Safe to repeat."""
        take_away(self.name)
        if self._outside_descriptor is not None:
            os.close(self._outside_descriptor)
            self._outside_descriptor, self._outside = None, Path("/proc/thread-self/ns/net")

    def _save(self) -> None:
        draft = self.folder / "lab.json.new"
        draft.touch(mode=0o600)
        draft.write_bytes(msgspec.json.encode(self._state))
        draft.rename(self.folder / "lab.json")

    # -- the control network ------------------------------------------------------------------------------

    @property
    def control(self) -> Path:
        """The file of the control network namespace, where the bot, Redis and the runner of a test live."""
        return self.folder / "control"

    @property
    def cgroup(self) -> Cgroup:
        """The control group that all processes of the lab are in."""
        return group_of(self.name)

    def enter(self) -> None:
        """Move the calling thread, and every thread it starts later, into the control network.

        From then on only the lab is reachable. Sockets that were opened before keep working; more of them
        are had from listen_outside.
        """
        if self._outside_descriptor is None:
            # The way back out, kept until the lab is taken away.
            self._outside_descriptor = os.open(self._outside, os.O_RDONLY | os.O_CLOEXEC)
            self._outside = Path(f"/proc/self/fd/{self._outside_descriptor}")
        enter_network(self.control)

    def listen_outside(self, port: int = 0) -> socket.socket:
        """Return a socket that listens on the loopback of the machine's own network, even after enter.

        Port 0 takes any free one; raises OSError if a port is taken. For what a person's browser on this
        machine shall reach.
        """
        return listening_socket_in(self.outside, address="127.0.0.1", port=port)

    @property
    def outside(self) -> Path:
        """The network that this process is in, or was in before it entered the lab, as a file."""
        if self._outside_descriptor is None:
            return self._outside
        return Path(f"/proc/{os.getpid()}/fd/{self._outside_descriptor}")

    @property
    def ssh_user(self) -> str:
        """The login on every host."""
        return SSH_USER

    @property
    def ssh_key(self) -> Path:
        """The private key that every host accepts for `ssh_user`."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The known_hosts file with the key of every host, by its address."""
        return self.folder / "known_hosts"

    @property
    def redis_server(self) -> RedisServer:
        """The lab's Redis, with start, stop and kill; not running until started."""
        return RedisServer(
            root=self.root,
            folder=self.folder / "redis",
            control=self.control,
            cgroup=self.cgroup.child("redis"),
        )

    async def redis(self) -> str:
        """Start the lab's Redis if it does not run, and return its URL (valid after enter)."""
        await asyncio.to_thread(self.redis_server.start)
        return self.redis_server.url

    # -- hosts ----------------------------------------------------------------------------------------------

    def _host(self, record: HostRecord) -> Host:
        return Host(
            name=record.name,
            address=record.address,
            server=record.server,
            root=self.root,
            folder=self.folder / "hosts" / record.name,
            control=self.control,
            cgroup=self.cgroup.child(record.name),
        )

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts, servers first."""
        return tuple(self._host(record) for record in self._state.hosts)

    @property
    def servers(self) -> tuple[Host, ...]:
        """The hosts with a Consul server."""
        return tuple(host for host in self.hosts if host.server)

    def host(self, name: str) -> Host:
        """Return a host by its name; raises LabError if there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts) or "none"
        raise LabError(f"The lab has no host named {name}; it has: {known}.")

    @property
    def has_hosts(self) -> bool:
        """Tell whether the lab has any host now."""
        return bool(self._state.hosts)

    @property
    def cluster(self) -> Cluster:
        """The cluster on the hosts as they are now; raises LabError before `up`."""
        return Cluster(
            servers=self.servers,
            clients=tuple(host for host in self.hosts if not host.server),
            settings=self._settings(),
        )

    def _settings(self) -> ClusterSettings:
        if self._state.settings is None:
            raise LabError("The lab has no hosts yet.")
        return self._state.settings

    async def up(
        self,
        *,
        servers: int = 3,
        clients: int = 0,
        acl: bool = False,
        raft_multiplier: int | None = 1,
        bootstrap_expect: int | None = None,
        server_stabilization_time_s: float = 1.0,
        sudoers: str = SUDOERS_STREAMED,
        consul: Path | None = None,
        log_store: str | None = None,
        config: Mapping[str, Any] | None = None,
        wait: bool = True,
    ) -> Cluster:
        """Boot hosts s1.. (198.51.100.11..) and c1.. (198.51.100.51..) with a Consul cluster on them.

        raft_multiplier None leaves Consul's default. bootstrap_expect defaults to the number of servers.
        `consul` is another program for the hosts; else LAB_CONSUL's, else the packaged one. `log_store` is that
        of the servers, "wal" or "boltdb"; else LAB_LOG_STORE's, else Consul's default. `config` is merged over
        every agent's configuration. Returns once there is a leader and all servers are voters, or, with `wait`
        False, once the hosts have booted.
        """
        if self._state.hosts:
            raise LabError("The lab has hosts already. Take them away with clear() first.")
        chosen = consul or (Path(os.environ["LAB_CONSUL"]) if os.environ.get("LAB_CONSUL") else None)
        tokens = AclTokens(*(str(uuid.uuid4()) for _ in range(3))) if acl else None
        settings = ClusterSettings(
            program=await asyncio.to_thread(consul_program, self.root, chosen),
            bootstrap_expect=servers if bootstrap_expect is None else bootstrap_expect,
            raft_multiplier=raft_multiplier,
            server_stabilization_time_s=server_stabilization_time_s,
            sudoers=sudoers,
            tokens=tokens,
            config=dict(config or {}),
            log_store=os.environ.get("LAB_LOG_STORE", "") if log_store is None else log_store,
        )
        self._state = replace(self._state, settings=settings)
        new = [
            *((f"s{n}", f"{NETWORK_PREFIX}.{10 + n}", True) for n in range(1, servers + 1)),
            *((f"c{n}", f"{NETWORK_PREFIX}.{50 + n}", False) for n in range(1, clients + 1)),
        ]
        join = tuple(address for _, address, server in new if server)
        self._remember(addresses_used=join)
        self._record([await asyncio.to_thread(self._make_host, *host, join) for host in new])
        await asyncio.gather(*(host.start() for host in self.hosts))
        cluster = self.cluster
        if tokens is not None:
            await cluster.create_agent_token(await cluster.wait_for_leader(), tokens)
        if wait:
            await cluster.wait_until_formed()
        return cluster

    def _make_host(self, name: str, address: str, server: bool, join: tuple[str, ...]) -> HostRecord:
        record = HostRecord(name=name, address=address, server=server, host_key="")
        public_key = self.ssh_key.with_suffix(".pub").read_text(encoding="ascii")
        host_key = self._host(record).make(self._settings(), ssh_public_key=public_key, join=join)
        return replace(record, host_key=host_key)

    def _record(self, records: Sequence[HostRecord]) -> None:
        """Put records in place of those of the same names, and write known_hosts anew."""
        new = {record.name: record for record in records}
        kept = [new.pop(record.name, record) for record in self._state.hosts]
        self._state = replace(self._state, hosts=(*kept, *new.values()))
        lines = "".join(f"{record.address} {record.host_key.strip()}\n" for record in self._state.hosts)
        self.known_hosts.write_text(lines, encoding="ascii")
        self._save()

    def _remember(self, *, addresses_used: Sequence[str]) -> tuple[str, ...]:
        known = dict.fromkeys((*self._state.addresses_used, *addresses_used))
        self._state = replace(self._state, addresses_used=tuple(known))
        self._save()
        return self._state.addresses_used

    async def replace(self, name: str, *, address: str) -> Host:
        """Put an empty new machine of the same name in a host's place, and boot it.

        The old one's disk is lost. The new one has another machine-id, SSH host key and node id, and its
        agent joins every address a server of this lab ever had.
        """
        old = self.host(name)
        join = self._remember(addresses_used=(address,) if old.server else ())
        await asyncio.to_thread(old.destroy)
        self._record([await asyncio.to_thread(self._make_host, name, address, old.server, join)])
        new = self.host(name)
        await new.start()
        return new

    async def move(self, name: str, *, address: str) -> Host:
        """Give a host another address and boot it there: same disk, same node id."""
        join = self._remember(addresses_used=(address,))
        await self.host(name).kill()
        record = next(record for record in self._state.hosts if record.name == name)
        self._record([replace(record, address=address)])
        moved = self.host(name)
        await asyncio.to_thread(moved.readdress)
        await asyncio.to_thread(moved.configure, self._settings(), join=join)
        await moved.start()
        return moved

    async def clear(self) -> None:
        """Take all hosts away; the network, the keys and Redis stay. Safe to repeat."""
        for host in self.hosts:
            await asyncio.to_thread(host.destroy)
        self._state = replace(self._state, settings=None, hosts=(), addresses_used=())
        self._record([])
