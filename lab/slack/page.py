"""The page for people, and its JSON API under /ui/."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from lab.slack.desk import Desk

_HTML = Path(__file__).with_name("page.html")


class Page:
    """Serves the page."""

    def __init__(self, *, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[web.RouteDef]:
        """The routes of the page."""
        return [web.get("/", self._index)]

    async def close(self) -> None:
        """End the event streams."""

    async def _index(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(_HTML)
