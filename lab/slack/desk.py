"""What a test, or the page, does and sees in the name of a person."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lab.slack import api_views
from lab.slack.cast import Person
from lab.slack.interactions import Element, Interactions, NotOnScreenError, escaped, find_elements
from lab.slack.records import Delivery
from lab.slack.render import plain_text
from lab.slack.workspace import Message, Modal, Notice, Version, Workspace

T = TypeVar("T")


class Desk:
    """People at their screens: they do only what they could do in Slack's own client.

    People and channels are named by name or id.
    """

    def __init__(self, *, workspace: Workspace, interactions: Interactions) -> None:
        self.workspace = workspace
        self._interactions = interactions

    # What people do

    async def slash(self, text: str, *, user: str = "alice", channel: str = "consul-ops") -> Delivery:
        """Type a slash command; returns once it was acked, or Slack gave up."""
        return await self._interactions.slash(
            text, user=self.workspace.person(user), channel=self.workspace.channel(channel)
        )

    async def say(
        self, text: str, *, user: str = "alice", channel: str = "consul-ops", thread_ts: str | None = None
    ) -> Message:
        """Write a message as a person; the app is not told (it subscribes to no events)."""
        return self.workspace.post(
            channel=self.workspace.channel(channel).id,
            user=self.workspace.person(user).id,
            text=escaped(self.workspace, text),
            thread_ts=thread_ts,
        )

    def element(
        self,
        source: Message | Modal,
        action_id: str,
        *,
        stale: bool = False,
        block_id: str | None = None,
        value: str | None = None,
    ) -> Element:
        """The button or menu as it is on the screen; its `confirm` is what the dialog says."""
        return find_elements(source, action_id, stale=stale, block_id=block_id, value=value)

    async def click(
        self,
        source: Message | Modal,
        action_id: str,
        *,
        user: str = "alice",
        stale: bool = False,
        block_id: str | None = None,
        value: str | None = None,
    ) -> Delivery:
        """Press a button (and confirm its dialog), or choose `value` in a menu.

        NotOnScreenError when it is not on that person's screen; with `stale` the press comes from the newest
        older version that has it, as from a screen that was not refreshed yet.
        """
        person = self.workspace.person(user)
        self._sees(source, person)
        found = find_elements(source, action_id, stale=stale, block_id=block_id, value=value)
        return await self._interactions.press(source, found, user=person, value=value)

    async def submit(self, modal: Modal, values: Mapping[str, Any], *, user: str) -> Delivery:
        """Fill in a modal (keys: action_id or block_id) and submit; ValueError where a client refuses."""
        person = self.workspace.person(user)
        self._sees(modal, person)
        return await self._interactions.submit(modal, values, user=person)

    async def close_modal(self, modal: Modal, *, user: str) -> Delivery | None:
        """Cancel a modal; None when the app did not ask to be told."""
        person = self.workspace.person(user)
        self._sees(modal, person)
        return await self._interactions.close(modal, user=person)

    # What there is to see

    def channel_messages(self, channel: str = "consul-ops") -> list[Message]:
        """The messages of the channel outside threads, oldest first, without ephemeral ones."""
        wanted = self.workspace.channel(channel).id
        return [
            message
            for message in self._public()
            if message.channel == wanted and (message.thread_ts is None or message.broadcast)
        ]

    def thread(self, ts: str) -> list[Message]:
        """The replies under that message, oldest first, without the message itself and ephemeral ones."""
        return [message for message in self._public() if message.thread_ts == ts]

    def ephemeral(self, user: str) -> list[Message]:
        """What only that person sees, oldest first."""
        wanted = self.workspace.person(user).id
        return [m for m in self.workspace.messages if m.ephemeral_to == wanted and not m.deleted]

    def modals(self, user: str) -> list[Modal]:
        """The open modals of that person, the topmost last."""
        return api_views.stack_of(self.workspace, self.workspace.person(user).id)

    def notices(self, user: str) -> list[Notice]:
        """What Slack itself told that person, such as operation_timeout."""
        wanted = self.workspace.person(user).id
        return [notice for notice in self.workspace.notices if notice.user == wanted]

    def mentions(self, user: str) -> list[Message]:
        """The messages that notified that person; updates never do."""
        wanted = self.workspace.person(user).id
        return [message for person, message in self.workspace.mentioned if person == wanted]

    def history(self, ts: str) -> list[Version]:
        """Every version of a message, oldest first, also when it was deleted; KeyError for an unknown one."""
        for message in self.workspace.messages:
            if message.ts == ts:
                return list(message.versions)
        raise KeyError(f"no message has ts {ts}")

    def plain_text(self, message: Message) -> str:
        """The message as a person reads it, with names instead of ids."""
        workspace = self.workspace
        names = {person.id: person.name for person in workspace.people.values()}
        names |= {channel.id: channel.name for channel in workspace.channels.values()}
        names |= {group.id: group.handle for group in workspace.groups.values()}
        return plain_text(message, names)

    async def wait(self, look: Callable[[], T], *, timeout_s: float = 5.0) -> T:
        """Return what `look` returns as soon as that is truthy; TimeoutError otherwise."""
        async with asyncio.timeout(timeout_s):
            while True:
                seen = self.workspace.changes.count
                if found := look():
                    return found
                await self.workspace.changes.after(seen)

    async def wait_message(self, wanted: Callable[[Message], bool], *, timeout_s: float = 5.0) -> Message:
        """The newest message, ephemeral or not, that satisfies `wanted`.

        AssertionError with all that there is when none does in time.
        """

        def newest() -> Message | None:
            there = (m for m in reversed(self.workspace.messages) if not m.deleted)
            return next((message for message in there if wanted(message)), None)

        try:
            found = await self.wait(newest, timeout_s=timeout_s)
        except TimeoutError:
            texts = "\n---\n".join(self.plain_text(message) for message in self.workspace.messages)
            raise AssertionError(f"no such message within {timeout_s} s; there are:\n{texts}") from None
        assert found is not None
        return found

    def _public(self) -> list[Message]:
        return [m for m in self.workspace.messages if m.ephemeral_to is None and not m.deleted]

    def _sees(self, source: Message | Modal, person: Person) -> None:
        if isinstance(source, Modal):
            if source.user != person.id or source not in self.workspace.modals:
                raise NotOnScreenError(f"{person.name} has no such modal open")
        elif source.ephemeral_to not in (None, person.id):
            raise NotOnScreenError(
                f"{person.name} does not see this message: it is for one other person only"
            )
        elif person.id not in self.workspace.channels[source.channel].members:
            raise NotOnScreenError(f"{person.name} is not in the channel")
