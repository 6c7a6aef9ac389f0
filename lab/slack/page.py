"""The page for people, and its JSON API under /ui/: what one person sees, and what that person does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from lab.slack.cast import BOT_USER, Channel, Person
from lab.slack.desk import Desk
from lab.slack.interactions import NotOnScreenError
from lab.slack.render import view_json
from lab.slack.workspace import Json, Message, Modal

_HTML = Path(__file__).with_name("page.html")
# No script, style or picture from anywhere else: the page works without a network.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:"
_SHOWN_NOTICES = 20


class Page:
    """Serves the page; one shared view of the workspace, seen by whom the page acts as."""

    def __init__(self, *, desk: Desk, connected: Callable[[], int]) -> None:
        self._desk = desk
        self._connected = connected
        self._streams: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        """The routes of the page."""
        return [
            web.get("/", self._index),
            web.get("/ui/state", self._told(self._state)),
            web.get("/ui/events", self._events),
            web.post("/ui/say", self._told(self._say)),
            web.post("/ui/click", self._told(self._click)),
            web.post("/ui/submit", self._told(self._submit)),
            web.post("/ui/close", self._told(self._close)),
        ]

    async def close(self) -> None:
        """End the event streams, which would otherwise never end."""
        for stream in self._streams:
            stream.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)

    async def _index(self, _request: web.Request) -> web.Response:
        return web.Response(
            text=_HTML.read_text(encoding="utf-8"),
            content_type="text/html",
            headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"},
        )

    def _told(
        self, work: Callable[[web.Request], Awaitable[Json]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Answer what the person cannot do with 409 and the reason, which the page shows."""

        async def handle(request: web.Request) -> web.Response:
            try:
                return web.json_response(await work(request))
            except (NotOnScreenError, KeyError, TypeError, ValueError) as refusal:
                return web.json_response({"error": str(refusal.args[0])}, status=409)

        return handle

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        stream = asyncio.create_task(self._stream(response))
        self._streams.add(stream)
        try:
            await stream
        except asyncio.CancelledError:
            stream.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await stream
        except ConnectionError:
            # The browser went away; there is nobody to tell.
            return response
        finally:
            self._streams.discard(stream)
        return response

    async def _stream(self, response: web.StreamResponse) -> None:
        seen = -1
        while True:
            seen = await self._desk.workspace.changes.after(seen)
            await response.write(f"data: {seen}\n\n".encode())

    async def _state(self, request: web.Request) -> Json:
        workspace = self._desk.workspace
        me = workspace.person(request.query.get("as") or "alice")
        mine = [channel for channel in workspace.channels.values() if me.id in channel.members]
        channel = workspace.channel(request.query.get("channel") or mine[0].id)
        names = {person.id: person.name for person in workspace.people.values()}
        names |= {group.id: group.handle for group in workspace.groups.values()}
        names |= {known.id: known.name for known in workspace.channels.values()}
        return {
            "me": me.id,
            "channel": channel.id,
            "channels": [_channel(known) for known in mine],
            "people": [_person(person) for person in workspace.people.values() if not person.is_bot],
            "names": names,
            "connected": self._connected(),
            "messages": [
                _message(message)
                for message in workspace.messages
                if message.channel == channel.id
                and not message.deleted
                and message.ephemeral_to in (None, me.id)
            ],
            "modals": [view_json(modal) | {"errors": modal.errors} for modal in self._desk.modals(me.id)],
            "notices": [
                {"at": notice.at, "error": notice.error, "text": notice.text}
                for notice in self._desk.notices(me.id)[-_SHOWN_NOTICES:]
            ],
        }

    async def _say(self, request: web.Request) -> Json:
        body = await request.json()
        text = str(body["text"]).strip()
        if not text.startswith("/"):
            message = await self._desk.say(
                text, user=body["as"], channel=body["channel"], thread_ts=body.get("thread_ts")
            )
            return {"ts": message.ts}
        if body.get("thread_ts"):
            raise ValueError("Slash commands do not work in threads. Type it in the channel.")
        delivery = await self._desk.slash(text, user=body["as"], channel=body["channel"])
        return {"acked": delivery.acked, "error": delivery.error}

    async def _click(self, request: web.Request) -> Json:
        body = await request.json()
        delivery = await self._desk.click(
            self._modal(body["view_id"]) if body.get("view_id") else self._message(body),
            body["action_id"],
            user=body["as"],
            block_id=body["block_id"],
            value=body.get("value"),
        )
        return {"acked": delivery.acked, "error": delivery.error}

    async def _submit(self, request: web.Request) -> Json:
        body = await request.json()
        delivery = await self._desk.submit(self._modal(body["view_id"]), body["values"], user=body["as"])
        return {"acked": delivery.acked, "error": delivery.error}

    async def _close(self, request: web.Request) -> Json:
        body = await request.json()
        await self._desk.close_modal(self._modal(body["view_id"]), user=body["as"])
        return {}

    def _message(self, body: Json) -> Message:
        message = self._desk.workspace.find(body["channel"], body["ts"])
        if message is None:
            raise NotOnScreenError("This message is not there any more.")
        return message

    def _modal(self, view_id: str) -> Modal:
        for modal in self._desk.workspace.modals:
            if modal.id == view_id:
                return modal
        raise NotOnScreenError("This dialog is not open any more.")


def _channel(channel: Channel) -> Json:
    return {"id": channel.id, "name": channel.name, "direct": channel.is_im, "private": channel.is_private}


def _person(person: Person) -> Json:
    return {"id": person.id, "name": person.name, "team": person.team_id, "guest": person.is_restricted}


def _message(message: Message) -> Json:
    return {
        "ts": message.ts,
        "user": message.user,
        "app": message.user == BOT_USER,
        "thread_ts": message.thread_ts,
        "broadcast": message.broadcast,
        "ephemeral": message.ephemeral_to is not None,
        "versions": [
            {"at": version.at, "text": version.text, "blocks": list(version.blocks)}
            for version in message.versions
        ],
    }
