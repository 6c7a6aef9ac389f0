"""What a client agent knows of the cluster: nothing itself, it asks the servers that gossip shows."""

import base64
import random

from lab.oldconsul.gossip import Gossip, Status
from lab.oldconsul.server import NO_LEADER, PORT, NoLeader
from lab.oldconsul.wire import Message, ask

_TIMEOUT_S = 10.0


class Client:
    """Reads and writes through whichever server answers."""

    def __init__(self, gossip: Gossip) -> None:
        self._gossip = gossip

    async def _ask_any(self, message: Message) -> Message:
        servers = [
            member
            for member in self._gossip.members.values()
            if member.is_server and member.status is Status.ALIVE
        ]
        for member in random.sample(servers, len(servers)):
            try:
                return await ask(member.address, PORT, message, timeout_s=_TIMEOUT_S)
            except OSError:
                continue
        raise NoLeader("No known Consul servers")

    async def _ask_leader(self, message: Message) -> Message:
        leader = (await self.status())["leader"]
        if not leader:
            raise NoLeader(f"rpc error: {NO_LEADER}")
        host, _, port = leader.rpartition(":")
        try:
            answer = await ask(host, int(port), message, timeout_s=_TIMEOUT_S)
        except OSError as error:
            raise NoLeader(f"rpc error: failed to get conn: {error}") from error
        if "error" in answer:
            raise NoLeader(answer["error"])
        return answer

    async def status(self) -> Message:
        """Return leader and peers as some server has them."""
        return await self._ask_any({"kind": "status"})

    async def read(self, *, stale: bool, consistent: bool) -> Message:
        """Return the data with `known` and `age_ms`; raises NoLeader."""
        if stale:
            return await self._ask_any({"kind": "stale"})
        answer = await self._ask_leader({"kind": "read", "consistent": consistent})
        return dict(answer["tables"]) | {"known": True, "age_ms": 0}

    async def write(self, command: bytes) -> object:
        """Have the leader commit a command; returns what it came to. Raises NoLeader."""
        data = base64.b64encode(command).decode()
        return (await self._ask_leader({"kind": "write", "data": data}))["result"]
