"""Who is there: a table of members that every agent sends to every other one a few times a second.

Far simpler than Serf, and to the same end in a lab: an agent that is not heard of is failed, one that says
goodbye has left, one that comes back (with a later incarnation) is alive again.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

from lab.oldconsul.journal import log
from lab.oldconsul.wire import Message, ask, listen

PORT = 8301
SEND_EVERY_S = 0.25
# The real one took 4 to 6 s: a probe a second, then a suspicion that nobody denied.
FAILED_AFTER_S = 3.0
LEAVE_PROPAGATES_S = 0.7
_ASK_TIMEOUT_S = 5.0


class Status(Enum):
    """What is known of a member, with the number that the HTTP API has for it."""

    ALIVE = 1
    LEFT = 3
    FAILED = 4


@dataclass(frozen=True, slots=True)
class Member:
    """One agent: a server's tags say role=consul. The later incarnation of two is the true one."""

    name: str
    address: str
    tags: Mapping[str, str]
    incarnation: int
    status: Status = Status.ALIVE

    @property
    def is_server(self) -> bool:
        """Tell whether it is a Consul server."""
        return self.tags.get("role") == "consul"


def merged(known: Member | None, told: Member, *, first_hand: bool) -> Member | None:
    """Return what to believe of a member now, or None if nothing changes.

    Only the member itself (`first_hand`) can say that it is alive again within one incarnation.
    """
    if known is None or told.incarnation > known.incarnation:
        return told
    if told.incarnation < known.incarnation or known.status is told.status:
        return None
    if told.status is Status.LEFT or (first_hand and known.status is Status.FAILED):
        return told
    return None


def _from_wire(row: Mapping[str, Any]) -> Member:
    return Member(row["name"], row["address"], row["tags"], row["incarnation"], Status(row["status"]))


class Gossip(asyncio.DatagramProtocol):
    """This agent's view of the members. `changed` is called with each member whose status became another."""

    def __init__(
        self,
        own: Member,
        *,
        changed: Callable[[Member], None],
        told: Callable[[Message], None],
        asked: Callable[[Message], Awaitable[Message]],
    ) -> None:
        self.own = own
        self.members: dict[str, Member] = {}
        self._heard_s: dict[str, float] = {}
        self._changed = changed
        self._told = told
        self._asked = asked
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Open the ports; raises OSError if one is taken."""
        self._take(self.own, first_hand=True)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(self.own.address, PORT)
        )
        await listen(self.own.address, PORT, self._answer)

    async def run(self) -> None:
        """Keep in touch until cancelled."""
        while True:
            self._send_table()
            now = time.monotonic()
            for member in list(self.members.values()):
                quiet_s = now - self._heard_s.get(member.name, now)
                if (
                    member.status is Status.ALIVE
                    and member.name != self.own.name
                    and quiet_s > FAILED_AFTER_S
                ):
                    log("INFO", f"memberlist: Marking {member.name} as failed, suspect timeout reached")
                    self._become(replace(member, status=Status.FAILED))
            await asyncio.sleep(SEND_EVERY_S)

    def _rows(self) -> list[Message]:
        # Whom this agent holds for failed is its own opinion.
        return [
            asdict(member) | {"status": member.status.value}
            for member in self.members.values()
            if member.status is not Status.FAILED
        ]

    def _table(self) -> Message:
        return {"kind": "table", "from": self.own.name, "members": self._rows()}

    def _send_table(self) -> None:
        self.broadcast(self._table())

    def broadcast(self, message: Message) -> None:
        """Send to every other member that has not left; nobody acknowledges."""
        for member in self.members.values():
            if member.name != self.own.name and member.status is not Status.LEFT:
                self._send(message, member.address)

    def _send(self, message: Message, address: str) -> None:
        if self._transport is not None:
            with contextlib.suppress(OSError):
                self._transport.sendto(json.dumps(message).encode(), (address, PORT))

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take a table or an event."""
        del addr
        message = json.loads(data)
        if message["kind"] == "table":
            self._take_table(message)
        else:
            self._told(message)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there: silence says the same."""

    def _take_table(self, message: Message) -> None:
        for row in message["members"]:
            member = _from_wire(row)
            first_hand = member.name == message["from"]
            if first_hand:
                self._heard_s[member.name] = time.monotonic()
            if member.name == self.own.name:
                self._defend(member)
            else:
                self._take(member, first_hand=first_hand)

    def _defend(self, told: Member) -> None:
        """Say louder that this agent is here, when others believe that it has left."""
        newer = told.incarnation > self.own.incarnation
        gone = told.status is Status.LEFT and told.incarnation >= self.own.incarnation
        if self.own.status is Status.ALIVE and (newer or gone) and told.address == self.own.address:
            self.own = replace(self.own, incarnation=told.incarnation + 1)
            self.members[self.own.name] = self.own

    def _take(self, told: Member, *, first_hand: bool) -> None:
        known = self.members.get(told.name)
        now = merged(known, told, first_hand=first_hand)
        if now is None:
            return
        self._heard_s.setdefault(now.name, time.monotonic())
        if known is not None and known.status is now.status:
            if now.status is Status.ALIVE:
                self._heard_s[now.name] = time.monotonic()
            self.members[now.name] = now
            if (known.address, known.tags) != (now.address, now.tags):
                self._changed(now)
            return
        if now.status is Status.ALIVE:
            self._heard_s[now.name] = time.monotonic()
        self._become(now)

    def _become(self, member: Member) -> None:
        self.members[member.name] = member
        event = {Status.ALIVE: "Join", Status.LEFT: "Leave", Status.FAILED: "Failed"}[member.status]
        log("INFO", f"serf: EventMember{event}: {member.name} {member.address}")
        self._changed(member)

    async def _answer(self, message: Message) -> Message:
        if message["kind"] != "table":
            return await self._asked(message)
        self._take_table(message)
        return self._table()

    async def join(self, addresses: list[str]) -> int:
        """Exchange tables with agents at these addresses; returns how many answered."""

        async def one(address: str) -> bool:
            try:
                answer = await ask(address.partition(":")[0], PORT, self._table(), timeout_s=_ASK_TIMEOUT_S)
            except OSError:
                return False
            self._take_table(answer)
            return True

        return sum(await asyncio.gather(*(one(address) for address in addresses)))

    async def leave(self) -> None:
        """Say goodbye, and give the word time to reach everybody."""
        self.own = replace(self.own, status=Status.LEFT)
        self._take(self.own, first_hand=True)
        for _ in range(3):
            self._send_table()
            await asyncio.sleep(LEAVE_PROPAGATES_S / 3)

    def force_leave(self, name: str) -> None:
        """Hold a failed member for one that left."""
        member = self.members.get(name)
        if member is not None and member.status is Status.FAILED:
            self._become(replace(member, status=Status.LEFT))
