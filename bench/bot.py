"""The bot's own composition over a lab, as `consul-recovery` has it, without a front end."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bot.wiring import Core, open_core
from config.settings import load_settings
from lab.bot_settings import write_settings
from lab.datacentre import Lab
from recovery.model import ClusterName


@asynccontextmanager
async def open_bot(lab: Lab) -> AsyncIterator[tuple[Core, ClusterName]]:
    """Open a bot over the lab's servers as they are now, under a name of its own: nothing of an older run."""
    cluster = ClusterName(f"bench-{os.urandom(4).hex()}")
    path = write_settings(
        lab.folder / "settings" / cluster,
        slack_api_url="http://127.0.0.1:1/api/",
        bot_token="xoxb-not-used",
        app_token="xapp-not-used",
        redis_url=await lab.redis(),
        ssh_user=lab.ssh_user,
        ssh_key=lab.ssh_key,
        known_hosts=lab.known_hosts,
        servers={host.name: host.address for host in lab.servers},
        cluster=cluster,
        approvals={"gates": "one"},
    )
    async with open_core(load_settings(path, environ={}), kind="bench") as core:
        yield core, cluster
