"""Several servers asked at once: who is waited for, and who is not."""

import asyncio
from typing import cast

from recovery.adapters.asking import leaders_of, pulses_until_led
from recovery.adapters.collect import Probe
from recovery.adapters.consul_api import AgentSilent
from recovery.model import AgentView, ServerName
from tests.builders.observations import agent

S1, S2, S3 = NAMES = tuple(ServerName(name) for name in ("s1", "s2", "s3"))


class Agents:
    """Each server answers once its event is set, or never where it has none; None is a silent agent."""

    def __init__(self, views: dict[ServerName, AgentView | None]) -> None:
        self._views = views
        self.may_answer = {name: asyncio.Event() for name in views}

    async def pulse(self, name: ServerName) -> AgentView:
        if name not in self._views:
            await asyncio.Event().wait()
        await self.may_answer[name].wait()
        view = self._views[name]
        if view is None:
            raise AgentSilent("connection refused")
        return view
