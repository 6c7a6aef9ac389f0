"""Who may talk to the local Slack at all: only requests that name it by its own loopback address.

A web page elsewhere can make a browser send requests here under another name (DNS rebinding); those are
refused, and so are writes of the page's own API that come from another origin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guard(addresses: set[str]) -> Any:
    """The middleware that lets only these host:port pairs in, and localhost with the same ports."""
    allowed = addresses | {address.replace("127.0.0.1", "localhost") for address in addresses}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.host not in allowed:
            return web.Response(status=403, text="foreign Host header")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc not in allowed:
            return web.Response(status=403, text="foreign origin")
        # A form of another site cannot send this type without asking first, which nobody answers.
        is_write = request.path.startswith("/ui/") and request.method == "POST"
        if is_write and request.content_type != "application/json":
            return web.Response(status=415, text="application/json only")
        return await handler(request)

    return check
