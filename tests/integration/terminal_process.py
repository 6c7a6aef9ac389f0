"""The terminal's program as a process of its own, as a person starts it."""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended."""

    status: int
    out: str
    err: str


async def consul_recovery(settings: Path, *arguments: str) -> Ended:
    """Run `consul-recovery` to its end, in the network of whoever calls; TimeoutError after two minutes."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CONSUL_", "SLACK_")) and not name.lower().endswith("_proxy")
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot.cli", *arguments, "--settings", str(settings)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        async with asyncio.timeout(120):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


def alice_is_us(settings: Path) -> None:
    """Let the settings know the user of this process as alice, though nobody has logged in for it perhaps."""
    content = yaml.safe_load(settings.read_text(encoding="utf-8"))
    content["people"][0]["terminal"] = pwd.getpwuid(os.getuid()).pw_name
    content["terminal"] = {"identity": "account"}
    settings.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
