"""A Consul server: Raft and its data, the first bootstrap, and the leader's care for who is a peer.

Source: consul/server.go, serf.go and leader.go at v0.6.4.
"""

import asyncio
import base64
import contextlib
import time
from pathlib import Path

from lab.oldconsul import fsm
from lab.oldconsul.config import Config
from lab.oldconsul.gossip import Gossip, Member, Status
from lab.oldconsul.journal import duration, log
from lab.oldconsul.leadership import NotLeader
from lab.oldconsul.logstore import LogStore, PeersFile
from lab.oldconsul.raft import LEADER, Raft
from lab.oldconsul.rules import ADD_PEER, COMMAND, REMOVE_PEER
from lab.oldconsul.wire import Link, Message, ask, listen

PORT = 8300
RECONCILE_EVERY_S = 60.0
REMOVE_GRACE_S = 5.0
_FORWARD_TIMEOUT_S = 10.0
NO_LEADER = "No cluster leader"


class NoLeader(Exception):
    """Nobody leads, as far as this server knows."""


class Server:
    """One server. `open` it, then `run` it until cancelled; `close` writes what a graceful leave writes."""

    def __init__(self, config: Config, *, store: LogStore, peers: PeersFile) -> None:
        self.config = config
        self.own = f"{config.advertise_addr}:{PORT}"
        self.data = fsm.Store()
        self.peers_file = peers
        self.raft = Raft(
            self.own,
            store=store,
            peers=peers,
            single=config.bootstrap,
            call=self._call,
            apply=self.data.apply,
        )
        self.gossip: Gossip | None = None
        self._expect = config.bootstrap_expect
        self._links: dict[tuple[str, str], Link] = {}
        self._changes: asyncio.Queue[Member] = asyncio.Queue()
        self._left = False

    @classmethod
    def open(cls, config: Config) -> "Server":
        """Read what is on the disk. Raises OSError, ValueError or RaftLogUnreadable if it cannot be used."""
        folder = Path(config.data_dir) / "raft"
        (folder / "snapshots").mkdir(parents=True, exist_ok=True)
        (Path(config.data_dir) / "serf").mkdir(exist_ok=True)
        peers = PeersFile(folder / "peers.json")
        return cls(config, store=LogStore.open(folder / "raft.db"), peers=peers)

    async def run(self) -> None:
        """Serve until cancelled; raises OSError if the port is taken."""
        server = await listen(self.config.bind_addr, PORT, self._answer)
        async with server, asyncio.TaskGroup() as group:
            group.create_task(self.raft.run())
            group.create_task(self._care())

    def close(self) -> None:
        """Stop for good; after a leave the peer set is emptied, so that no election comes of a restart."""
        log("INFO", "consul: shutting down server")
        if self._left:
            self.peers_file.write(None)

    # -- the wire ----------------------------------------------------------------------------------------

    async def _call(self, peer: str, message: Message, timeout_s: float) -> Message:
        key = (peer, message.get("link", "vote"))
        link = self._links.get(key)
        if link is None:
            host, _, port = peer.rpartition(":")
            link = self._links[key] = Link(host, int(port))
        return await link.call(message, timeout_s=timeout_s)

    async def _answer(self, message: Message) -> Message:
        match message["kind"]:
            case "vote":
                return self.raft.handle_vote(message)
            case "append":
                return self.raft.handle_append(message)
            case "status":
                return await self.status()
            case "stale":
                return await self.read(stale=True, consistent=False)
            case "write":
                try:
                    return {"result": await self._write(base64.b64decode(message["data"]))}
                except (NoLeader, NotLeader) as error:
                    return {"error": f"rpc error: {error}"}
            case _:
                try:
                    await self.check_leader(consistent=message["consistent"])
                except NoLeader as error:
                    return {"error": f"rpc error: {error}"}
                return {"tables": self.tables()}

    # -- reads and writes --------------------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        """Tell whether this server leads, as it believes."""
        return self.raft.state == LEADER

    def tables(self) -> Message:
        """Return the whole data, for an answer."""
        return {
            "nodes": self.data.nodes,
            "services": self.data.services,
            "keys": self.data.keys,
            "sessions": self.data.sessions,
            "index": self.data.index,
        }

    async def check_leader(self, *, consistent: bool) -> None:
        """Raise NoLeader unless this server leads; with `consistent` unless a quorum says so now."""
        leadership = self.raft.leadership
        if leadership is None or not self.is_leader or (consistent and not await leadership.verify()):
            raise NoLeader(NO_LEADER)

    async def read(self, *, stale: bool, consistent: bool) -> Message:
        """Return the data with `known` (is there a leader) and `age_ms`; raises NoLeader unless `stale`."""
        if stale:
            return self.tables() | {"known": bool(self.raft.leader), "age_ms": self._age_ms()}
        if self.is_leader:
            await self.check_leader(consistent=consistent)
            return self.tables() | {"known": True, "age_ms": 0}
        answer = await self._forward({"kind": "read", "consistent": consistent})
        return dict(answer["tables"]) | {"known": True, "age_ms": 0}

    async def status(self) -> Message:
        """Return the leader's address or "", and what peers.json holds now (None for nothing)."""
        return {"leader": self.raft.leader, "peers": list(self.peers_file.read()) or None}

    def _age_ms(self) -> int:
        if self.is_leader:
            return 0
        if self.raft.last_contact_s is None:
            # What Go makes of the time since the year 1.
            return 9223372036854
        return int((time.monotonic() - self.raft.last_contact_s) * 1000)

    async def write(self, command: bytes) -> object:
        """Have the leader commit a command; returns what it came to. Raises NoLeader."""
        try:
            if self.is_leader:
                return await self._write(command)
        except NotLeader as error:
            raise NoLeader(str(error)) from error
        return (await self._forward({"kind": "write", "data": base64.b64encode(command).decode()}))["result"]

    async def _write(self, command: bytes) -> object:
        leadership = self.raft.leadership
        if leadership is None:
            raise NoLeader(NO_LEADER)
        return await leadership.append(COMMAND, command)

    async def _forward(self, message: Message) -> Message:
        if not self.raft.leader or self.raft.leader == self.own:
            raise NoLeader(NO_LEADER)
        host, _, port = self.raft.leader.rpartition(":")
        try:
            answer = await ask(host, int(port), message, timeout_s=_FORWARD_TIMEOUT_S)
        except OSError as error:
            raise NoLeader(f"rpc error: failed to get conn: {error}") from error
        if "error" in answer:
            raise NoLeader(answer["error"])
        return answer

    # -- members -----------------------------------------------------------------------------------------

    def member_changed(self, member: Member) -> None:
        """Take a change of gossip's view: it may complete the bootstrap, or make the leader change the peers."""
        if member.is_server:
            word = "adding" if member.status is Status.ALIVE else "removing"
            log(
                "INFO",
                f"consul: {word} LAN server {member.name} (Addr: {member.address}:{PORT})"
                f" (DC: {member.tags['dc']})",
            )
            if member.status is Status.ALIVE and self._expect:
                self._maybe_bootstrap()
        self._changes.put_nowait(member)

    def _maybe_bootstrap(self) -> None:
        """Begin a cluster once the expected number of servers is there, on a server without any log only."""
        if self.raft.store.last_index:
            self._expect = 0
            return
        servers = [each for each in self._members() if each.is_server]
        for each in servers:
            if each.tags.get("expect", str(self._expect)) != str(self._expect):
                log(
                    "ERR",
                    f"consul: Member {each.name} has a conflicting expect value."
                    " All nodes should expect the same number.",
                )
                return
            if "bootstrap" in each.tags:
                log("ERR", f"consul: Member {each.name} has bootstrap mode. Expect disabled.")
                return
        if len(servers) >= self._expect:
            addresses = [f"{each.address}:{PORT}" for each in servers]
            log("INFO", f"consul: Attempting bootstrap with nodes: [{' '.join(addresses)}]")
            self.raft.set_peers(addresses)
            self._expect = 0

    def _members(self) -> list[Member]:
        return list(self.gossip.members.values()) if self.gossip is not None else []

    async def _care(self) -> None:
        """While this server leads, keep peers and catalogue as the members are."""
        while True:
            await self.raft.leading.wait()
            log("INFO", "consul: cluster leadership acquired")
            if self.gossip is not None:
                log("INFO", f"consul: New leader elected: {self.config.node_name}")
                self.gossip.broadcast({"kind": "leader", "name": self.config.node_name})
            if await self._settled():
                try:
                    await self._lead()
                except NotLeader:
                    log("INFO", "consul: cluster leadership lost")
            await asyncio.sleep(0.01)

    async def _settled(self) -> bool:
        leadership = self.raft.leadership
        if leadership is None:
            log("ERR", "consul: failed to wait for barrier: node is not the leader")
            return False
        try:
            await leadership.barrier()
        except NotLeader as error:
            log("ERR", f"consul: failed to wait for barrier: {error}")
            return False
        return True

    async def _lead(self) -> None:
        while True:
            while not self._changes.empty():
                self._changes.get_nowait()
            for member in self._members():
                await self._reconcile(member)
            for name in set(self.data.nodes) - {member.name for member in self._members()}:
                log("INFO", f"consul: member '{name}' reaped, deregistering")
                await self._deregister(name, self.data.nodes[name]["Address"], server=True)
            again = time.monotonic() + RECONCILE_EVERY_S
            while (left_s := again - time.monotonic()) > 0:
                with contextlib.suppress(TimeoutError):
                    await self._reconcile(await asyncio.wait_for(self._changes.get(), min(left_s, 0.1)))
                if not self.raft.leading.is_set():
                    raise NotLeader

    async def _reconcile(self, member: Member) -> None:
        leadership = self.raft.leadership
        if leadership is None:
            raise NotLeader
        if member.status is Status.LEFT:
            await self._left_member(member)
        elif member.status is Status.ALIVE:
            if member.is_server:
                await self._join_peer(member)
            node = self.data.nodes.get(member.name)
            if node is None or node["Address"] != member.address:
                log("INFO", f"consul: member '{member.name}' joined, marking health alive")
                await leadership.append(
                    COMMAND,
                    fsm.register(
                        member.name,
                        member.address,
                        datacenter=self.config.datacenter,
                        service=member.is_server,
                        check=True,
                    ),
                )
        elif member.name in self.data.nodes:
            log("INFO", f"consul: member '{member.name}' failed, marking health critical")

    async def _left_member(self, member: Member) -> None:
        if member.name == self.config.node_name:
            return
        if member.is_server and f"{member.address}:{PORT}" in self.raft.others:
            await self._remove_peer(member.name, f"{member.address}:{PORT}")
        if member.name in self.data.nodes:
            log("INFO", f"consul: member '{member.name}' left, deregistering")
            await self._deregister(member.name, member.address, server=False)

    async def _deregister(self, name: str, address: str, *, server: bool) -> None:
        leadership = self.raft.leadership
        if leadership is None:
            raise NotLeader
        if server and f"{address}:{PORT}" in self.raft.others:
            await self._remove_peer(name, f"{address}:{PORT}")
        await leadership.append(COMMAND, fsm.deregister(name, datacenter=self.config.datacenter))

    async def _remove_peer(self, name: str, address: str) -> None:
        if self.raft.leadership is None:
            raise NotLeader
        await self.raft.leadership.change_peers(REMOVE_PEER, address)
        log("INFO", f"consul: removed server '{name}' as peer")

    async def _join_peer(self, member: Member) -> None:
        if member.name == self.config.node_name or self.raft.leadership is None:
            return
        if "bootstrap" in member.tags:
            for other in self._members():
                if other.is_server and other.name != member.name and "bootstrap" in other.tags:
                    log(
                        "ERR",
                        f"consul: '{member.name}' and '{other.name}' are both in bootstrap mode. Only one node"
                        " should be in bootstrap mode, not adding Raft peer.",
                    )
                    return
        await self.raft.leadership.change_peers(ADD_PEER, f"{member.address}:{PORT}")

    # -- leaving -----------------------------------------------------------------------------------------

    def _other_peers(self) -> int:
        return sum(peer != self.own for peer in self.peers_file.read())

    async def leave(self, gossip: Gossip) -> None:
        """Leave the cluster: a leader removes itself, another server waits 5 s at most to be removed."""
        log("INFO", "consul: server starting leave")
        self._left = True
        led = self.is_leader
        if led and self._other_peers() and self.raft.leadership is not None:
            try:
                await self.raft.leadership.change_peers(REMOVE_PEER, self.own)
            except NotLeader as error:
                log("ERR", f"consul: failed to remove ourself as raft peer: {error}")
        await gossip.leave()
        if led:
            return
        deadline = time.monotonic() + REMOVE_GRACE_S
        while self._other_peers():
            if time.monotonic() > deadline:
                log("WARN", "consul: failed to leave raft peer set gracefully, timeout")
                return
            await asyncio.sleep(0.05)

    # -- what it says of itself ----------------------------------------------------------------------------

    def raft_stats(self) -> dict[str, str]:
        """Return the `raft` section of `consul info`."""
        raft = self.raft
        if raft.last_contact_s is None:
            contact = "never"
        else:
            contact = "0" if self.is_leader else duration(time.monotonic() - raft.last_contact_s)
        numbers = {
            "applied_index": raft.applied_index,
            "commit_index": raft.commit_index,
            "fsm_pending": 0,
            "last_contact": contact,
            "last_log_index": raft.store.last_index,
            "last_log_term": raft.store.last_term,
            "last_snapshot_index": 0,
            "last_snapshot_term": 0,
            "num_peers": len(raft.others),
            "state": raft.state,
            "term": raft.store.term,
        }
        return {name: str(value) for name, value in numbers.items()}
