"""Questions and answers between servers and to an agent's command line: one JSON object a line, over TCP."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from lab.oldconsul.rules import Entry

Message = dict[str, Any]
Handler = Callable[[Message], Awaitable[Message]]

_LONGEST_LINE = 64 << 20


def wire_entries(entries: Sequence[Entry]) -> list[list[Any]]:
    """Write entries for the wire."""
    return [
        [
            each.index,
            each.term,
            each.type,
            None if each.data is None else base64.b64encode(each.data).decode(),
        ]
        for each in entries
    ]


def entries_from_wire(rows: Sequence[Sequence[Any]]) -> list[Entry]:
    """Read entries from the wire."""
    return [
        Entry(index, term, kind, None if data is None else base64.b64decode(data))
        for index, term, kind, data in rows
    ]


class Link:
    """A connection that is opened when it is needed, for one question at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._at = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._busy = asyncio.Lock()

    async def call(self, message: Message, *, timeout_s: float) -> Message:
        """Ask; raises OSError (TimeoutError too) if there is no answer in time."""
        async with self._busy:
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._call(message)
            except BaseException:
                # An answer that comes late must not be taken for the next question's.
                self.close()
                raise

    async def _call(self, message: Message) -> Message:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._at, limit=_LONGEST_LINE)
        reader, writer = self._streams
        writer.write(json.dumps(message).encode() + b"\n")
        await writer.drain()
        line = await reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("EOF")
        answer: Message = json.loads(line)
        return answer

    def close(self) -> None:
        """Close the connection; the next question opens another one."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def ask(host: str, port: int, message: Message, *, timeout_s: float) -> Message:
    """Ask one question on a connection of its own; raises OSError if there is no answer in time."""
    link = Link(host, port)
    try:
        return await link.call(message, timeout_s=timeout_s)
    finally:
        link.close()


async def listen(host: str, port: int, handler: Handler) -> asyncio.Server:
    """Answer questions; raises OSError if the port is taken."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await handler(json.loads(line))).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass
        finally:
            writer.transport.abort()

    return await asyncio.start_server(serve, host, port, limit=_LONGEST_LINE)
