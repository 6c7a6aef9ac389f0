"""The Consul cluster that runs on a lab's hosts, and the questions a test asks about it."""

import asyncio
import json
import time
from dataclasses import dataclass

from lab.agent import AclTokens, Answer, ClusterSettings
from lab.errors import LabError
from lab.host import Host

# Consul's raft defaults before the multiplier: LeaderLeaseTimeout 500 ms (agent/consul/config.go),
# raft_multiplier 5 where the configuration names none (agent/config/default.go).
LEADER_LEASE_S = 0.5
DEFAULT_RAFT_MULTIPLIER = 5


@dataclass(frozen=True, slots=True)
class Cluster:
    """Server and client hosts of one Consul cluster, as they were made."""

    servers: tuple[Host, ...]
    clients: tuple[Host, ...]
    settings: ClusterSettings

    @property
    def tokens(self) -> AclTokens | None:
        """The ACL secrets, or None where ACLs are off."""
        return self.settings.tokens

    @property
    def leader_lease_s(self) -> float:
        """How long a leader that lost its followers may still call itself leader."""
        return LEADER_LEASE_S * (self.settings.raft_multiplier or DEFAULT_RAFT_MULTIPLIER)

    @property
    def token(self) -> str | None:
        """The management token to ask with, or None where ACLs are off."""
        return None if self.settings.tokens is None else self.settings.tokens.management

    async def ask(self, host: Host, path: str) -> Answer | None:
        """Ask one agent with the management token; None if it does not answer."""
        try:
            return await host.api(path, token=self.token)
        except OSError:
            return None

    async def names_itself_leader(self, host: Host) -> bool:
        """Tell whether that server's agent says of itself that it leads; False if it does not answer."""
        version = self.settings.program.version
        answer = await self.ask(host, leadership_path(version))
        return names_itself_leader(answer, address=host.address, version=version)

    async def leader(self) -> Host | None:
        """Return the server that names itself leader, or None; the first one if there are two."""
        said = await asyncio.gather(*(self.names_itself_leader(host) for host in self.servers))
        return next((host for host, leads in zip(self.servers, said, strict=True) if leads), None)

    async def wait_for_leader(self, *, timeout_s: float = 30.0) -> Host:
        """Return the leader as soon as there is one; raises LabError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while (leader := await self.leader()) is None:
            if time.monotonic() > deadline:
                raise LabError(f"No server named itself leader within {timeout_s:.0f} s.")
            await asyncio.sleep(0.1)
        return leader

    async def wait_until_formed(self, *, timeout_s: float = 60.0) -> Host:
        """Wait until there is a leader, all servers vote, and each sees every host alive; return the leader."""
        deadline = time.monotonic() + timeout_s
        while True:
            leader = await self.leader()
            if leader is not None and await self._is_formed(leader):
                return leader
            if time.monotonic() > deadline:
                raise LabError(f"The lab's cluster did not form within {timeout_s:.0f} s.")
            await asyncio.sleep(0.1)

    async def _is_formed(self, leader: Host) -> bool:
        everybody = {host.name for host in (*self.servers, *self.clients)}
        seen_alive = await asyncio.gather(*(self._alive_members(host) for host in self.servers))
        return all(alive >= everybody for alive in seen_alive) and (
            await self.voters(leader) == {f"{host.address}:8300" for host in self.servers}
        )

    async def _alive_members(self, host: Host) -> frozenset[str]:
        """Return the names that this server's gossip sees alive: a follower may lag behind the leader."""
        told = await self.ask(host, "/v1/agent/members")
        if told is None or told.status != 200:
            return frozenset()
        return frozenset(str(member["Name"]) for member in told.json() if member["Status"] == 1)

    async def voters(self, host: Host) -> frozenset[str]:
        """Return the addresses of the voters as that server's agent tells them; empty if it cannot tell."""
        if self.settings.program.version < (0, 8, 0):
            # /v1/operator/raft/configuration came with 0.7.0 and its Voter field is all there is to add:
            # before autopilot every peer votes, and status/peers lists the peers.
            peers = await self.ask(host, "/v1/status/peers")
            return frozenset(peers.json() or ()) if peers is not None and peers.status == 200 else frozenset()
        told = await self.ask(host, "/v1/operator/raft/configuration?stale")
        if told is None or told.status != 200:
            return frozenset()
        return frozenset(str(server["Address"]) for server in told.json()["Servers"] if server["Voter"])

    async def create_agent_token(self, leader: Host, tokens: AclTokens) -> None:
        """Create the agents' own token, which their configuration names already.

        Rights as Consul's documentation asks for: node:write for registration and anti-entropy, service:read.
        """
        rules = 'node_prefix "" { policy = "write" } service_prefix "" { policy = "read" }'
        policy = {"Name": "agents", "Rules": rules}
        token = {"SecretID": tokens.agent, "Policies": [{"Name": "agents"}]}
        for path, body in (("/v1/acl/policy", policy), ("/v1/acl/token", token)):
            answer = await leader.api(
                path, method="PUT", body=json.dumps(body).encode(), token=tokens.management
            )
            if answer.status != 200:
                raise LabError(f"The lab's agents got no token: {path} answered {answer.status}.")


def leadership_path(version: tuple[int, int, int]) -> str:
    """Return what to ask a server's agent for, to learn whether it leads: agent/self has no Stats below 0.7."""
    return "/v1/agent/self" if version >= (0, 7, 0) else "/v1/status/leader"


def names_itself_leader(answer: Answer | None, *, address: str, version: tuple[int, int, int]) -> bool:
    """Tell whether an answer to `leadership_path` is a leader's own; others may name a dead leader for seconds."""
    if answer is None or answer.status != 200:
        return False
    if version < (0, 7, 0):
        return bool(json.loads(answer.body) == f"{address}:8300")
    return bool(json.loads(answer.body).get("Stats", {}).get("consul", {}).get("leader") == "true")
