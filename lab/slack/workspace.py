"""The state of the local Slack: messages with every version, modals, and what Slack told each person.

Nothing here talks to a network. Times are Unix seconds of the clock that is passed in.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lab.slack.cast import BOT_USER, Channel, Group, Person

Json = dict[str, Any]
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What one message showed from `at` on."""

    at: float
    text: str
    blocks: tuple[Json, ...]
    metadata: Json | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Message:
    """A live message: attributes are of the newest version, `versions` holds all of them, oldest first."""

    channel: str
    ts: str
    user: str
    versions: list[Version]
    thread_ts: str | None = None
    broadcast: bool = False
    ephemeral_to: str | None = None
    deleted: bool = False

    @property
    def now(self) -> Version:
        """The newest version."""
        return self.versions[-1]

    @property
    def text(self) -> str:
        """The fallback text: what a push notification shows."""
        return self.now.text

    @property
    def blocks(self) -> tuple[Json, ...]:
        """The blocks of the newest version, empty when it is text only."""
        return self.now.blocks

    @property
    def metadata(self) -> Json | None:
        """The `metadata` that the app attached, if any."""
        return self.now.metadata


@dataclass(slots=True, kw_only=True, eq=False)
class Modal:
    """An open modal of one person; `errors` are those of its last submission, by block id."""

    id: str
    user: str
    view: Json
    root_id: str
    previous_id: str | None = None
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A line that Slack itself, not the app, shows to one person, such as operation_timeout."""

    at: float
    user: str
    channel: str
    error: str
    text: str


class Changes:
    """Lets any number of waiters sleep until the state has changed once more."""

    def __init__(self) -> None:
        self.count = 0
        self._waiters: set[asyncio.Future[None]] = set()

    def bump(self) -> None:
        """Wake everybody who waits."""
        self.count += 1
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def after(self, count: int) -> int:
        """Return the number of changes as soon as it is above `count`."""
        if self.count <= count:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
        return self.count


class Workspace:
    """Everything that exists in the local Slack; every write goes through here and wakes the waiters."""

    def __init__(
        self,
        *,
        people: tuple[Person, ...],
        channels: tuple[Channel, ...],
        groups: tuple[Group, ...],
        clock: Clock,
    ) -> None:
        bot = Person(id=BOT_USER, name="consulbot", real_name="Consul Recovery", is_bot=True)
        self.clock = clock
        self.people = {person.id: person for person in (*people, bot)}
        self.channels = {channel.id: channel for channel in channels}
        self.groups = {group.id: group for group in groups}
        self.messages: list[Message] = []
        self.modals: list[Modal] = []
        self.notices: list[Notice] = []
        self.mentioned: list[tuple[str, Message]] = []
        self.changes = Changes()
        self._last_ts = 0.0

    def next_id(self, prefix: str) -> str:
        """A new id, such as `V7C01A2B3D4E`: as in Slack no other workspace has it, not even the next one here."""
        return f"{prefix}{secrets.token_hex(5).upper()}"

    def next_ts(self) -> str:
        """A message timestamp: Slack's id of a message, unique and growing in the whole workspace."""
        self._last_ts = max(self.clock(), self._last_ts + 0.000_1)
        return f"{self._last_ts:.6f}"

    def person(self, name_or_id: str) -> Person:
        """The person of that name or id; KeyError with the known names otherwise."""
        for person in self.people.values():
            if name_or_id in (person.id, person.name):
                return person
        known = ", ".join(sorted(person.name for person in self.people.values()))
        raise KeyError(f"nobody is called {name_or_id!r} here; there are {known}")

    def channel(self, name_or_id: str) -> Channel:
        """The channel of that name or id; KeyError with the known names otherwise."""
        found = self.find_channel(name_or_id)
        if found is None:
            known = ", ".join(sorted(channel.name for channel in self.channels.values()))
            raise KeyError(f"no channel is called {name_or_id!r}; there are {known}")
        return found

    def find_channel(self, name_or_id: str) -> Channel | None:
        """The channel of that name or id, if there is one."""
        wanted = name_or_id.removeprefix("#")
        for channel in self.channels.values():
            if wanted in (channel.id, channel.name):
                return channel
        return None

    def direct(self, user: str) -> Channel:
        """The direct-message channel between that user and the bot, made on first use."""
        channel_id = f"D{user[1:]}"
        if channel_id not in self.channels:
            self.channels[channel_id] = Channel(
                id=channel_id,
                name=self.people[user].name,
                members={user, BOT_USER},
                is_private=True,
                is_im=True,
            )
        return self.channels[channel_id]

    def find(self, channel: str, ts: str) -> Message | None:
        """The message that is still there, ephemeral ones included."""
        for message in self.messages:
            if message.ts == ts and message.channel == channel and not message.deleted:
                return message
        return None

    def post(
        self,
        *,
        channel: str,
        user: str,
        text: str,
        blocks: tuple[Json, ...] = (),
        metadata: Json | None = None,
        thread_ts: str | None = None,
        broadcast: bool = False,
        ephemeral_to: str | None = None,
    ) -> Message:
        """Store a new message and note whom it mentions; an update never notifies anybody."""
        ts = self.next_ts()
        version = Version(at=float(ts), text=text, blocks=self.with_ids(blocks), metadata=metadata)
        message = Message(
            channel=channel,
            ts=ts,
            user=user,
            versions=[version],
            thread_ts=thread_ts,
            broadcast=broadcast,
            ephemeral_to=ephemeral_to,
        )
        self.messages.append(message)
        self.mentioned.extend((person, message) for person in sorted(self._mentions(version, channel)))
        self.changes.bump()
        return message

    def update(self, message: Message, *, text: str, blocks: tuple[Json, ...], metadata: Json | None) -> None:
        """Give the message a new version."""
        message.versions.append(
            Version(at=self.clock(), text=text, blocks=self.with_ids(blocks), metadata=metadata)
        )
        self.changes.bump()

    def delete(self, message: Message) -> None:
        """Take the message away; its versions stay for the test to read."""
        message.deleted = True
        self.changes.bump()

    def notify(self, *, user: str, channel: str, error: str, text: str) -> None:
        """Show one line of Slack's own to one person."""
        self.notices.append(Notice(at=self.clock(), user=user, channel=channel, error=error, text=text))
        self.changes.bump()

    def with_ids(self, blocks: tuple[Json, ...]) -> tuple[Json, ...]:
        """The blocks with the block_id and action_id that Slack makes up where the app gave none."""
        return tuple(_with_ids(block) for block in blocks)

    def _mentions(self, version: Version, channel: str) -> set[str]:
        texts = [version.text, *texts_of(version.blocks)]
        found: set[str] = set()
        for text in texts:
            found.update(
                user for user in re.findall(r"<@([UW]\w+)(?:\|[^>]*)?>", text) if user in self.people
            )
            for group in re.findall(r"<!subteam\^(\w+)(?:\|[^>]*)?>", text):
                found.update(self.groups[group].members if group in self.groups else ())
            if re.search(r"<!(?:channel|here|everyone)(?:\|[^>]*)?>", text):
                found.update(self.channels[channel].members)
        return found - {BOT_USER}


def interactive_elements(block: Json) -> Iterator[Json]:
    """Every element of a block that a person can press or fill."""
    if block.get("type") == "actions":
        yield from block["elements"]
    accessory = block.get("accessory")
    if isinstance(accessory, dict) and accessory.get("type") != "image":
        yield accessory
    if block.get("type") == "input":
        yield block["element"]


def texts_of(value: object) -> Iterator[str]:
    """Every text in a block tree that is shown as mrkdwn or plain text, in reading order."""
    if isinstance(value, dict):
        if value.get("type") in ("mrkdwn", "plain_text") and isinstance(value.get("text"), str):
            yield value["text"]
        else:
            for inner in value.values():
                yield from texts_of(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_of(inner)


def _with_ids(block: Json) -> Json:
    named = {**block, "block_id": block.get("block_id") or secrets.token_hex(3)}

    def identified(element: Json) -> Json:
        if element.get("type") == "image":
            return element
        return {**element, "action_id": element.get("action_id") or secrets.token_hex(3)}

    if block.get("type") == "actions":
        named["elements"] = [identified(element) for element in block["elements"]]
    if isinstance(block.get("accessory"), dict):
        named["accessory"] = identified(block["accessory"])
    if block.get("type") == "input":
        named["element"] = identified(block["element"])
    return named
