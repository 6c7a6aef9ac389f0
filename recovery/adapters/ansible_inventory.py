"""An operator's own Ansible inventory: a file that is read, or a program that is asked.

Read anew at every look: machines come and go, and nobody tells the bot.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from recovery.errors import InventoryProblem
from recovery.inventory.groups import Inventory, Selection, hosts_of, select
from recovery.inventory.ini import parse_ini
from recovery.inventory.trees import parse_listing, parse_yaml, with_variables

_YAML_ENDINGS: Final = frozenset({".yaml", ".yml", ".json"})


class AnsibleInventory:
    """One group of one inventory."""

    def __init__(
        self,
        path: Path,
        *,
        group: str,
        timeout_s: float,
        environ: Mapping[str, str],
        refuse_foreign: Callable[[Path], None],
    ) -> None:
        """Make it; ``environ`` is what the program gets: a failing one may print all of it.

        ``refuse_foreign`` raises InventoryProblem where somebody else may change the file: it runs with our rights.
        """
        self._path = path
        self._environ = environ
        self._group = group
        self._timeout_s = timeout_s
        self._refuse_foreign = refuse_foreign

    @property
    def name(self) -> str:
        """What it is called in sentences for people."""
        return f"inventory {self._path}"

    async def read(self) -> Selection:
        """Give the group's hosts; InventoryProblem, in one sentence, when it cannot be had."""
        try:
            # Asked at each look: the bot runs for months, and who may write a file changes.
            await asyncio.to_thread(self._refuse_foreign, self._path)
            inventory = await self._inventory()
            return select(inventory, self._group)
        except InventoryProblem as problem:
            raise InventoryProblem(
                f"The inventory {self._path}: {problem}. Its client agents are not known from there; correct it, "
                "or list them under clients in the settings."
            ) from None

    async def _inventory(self) -> Inventory:
        try:
            head = await asyncio.to_thread(_head, self._path)
            if os.access(self._path, os.X_OK) and head.startswith((b"#!", b"\x7fELF")):
                return await self._asked()
            text = await asyncio.to_thread(self._path.read_text, encoding="utf-8")
        except IsADirectoryError:
            raise InventoryProblem("is a folder; name one file or program in it") from None
        except UnicodeDecodeError:
            raise InventoryProblem("is no text, and no program that may be run") from None
        except OSError as error:
            raise InventoryProblem(f"cannot be read ({error.strerror})") from None
        return parse_yaml(text) if _is_yaml(self._path, text) else parse_ini(text)

    async def _asked(self) -> Inventory:
        """Ask the program, as Ansible does: --list, and --host for each host where --list had no ``_meta``."""
        try:
            async with asyncio.timeout(self._timeout_s):
                inventory, complete = parse_listing(await self._answer("--list"))
                if complete:
                    return inventory
                hosts = hosts_of(inventory, self._group)
                return with_variables(inventory, {host: await self._answer("--host", host) for host in hosts})
        except TimeoutError:
            raise InventoryProblem(f"the program gave no answer within {self._timeout_s:g} s") from None

    async def _answer(self, *arguments: str) -> Any:
        process = await asyncio.create_subprocess_exec(
            self._path,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environ,
            # Not where the caller stands: ansible-inventory reads an ansible.cfg there, which names programs.
            cwd="/",
            # A group of its own: what it has started is ended with it.
            start_new_session=True,
        )
        try:
            out, complaint = await process.communicate()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode != 0:
            last = complaint.decode(errors="replace").strip().rpartition("\n")[2][:200]
            raise InventoryProblem(
                f"the program failed on {arguments[0]} (status {process.returncode}{f': {last}' if last else ''})"
            )
        try:
            return json.loads(out)
        except ValueError:
            raise InventoryProblem(f"what the program answers to {arguments[0]} is no JSON") from None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _is_yaml(path: Path, text: str) -> bool:
    """Tell YAML from INI: by the ending; without one, by a first line that YAML alone can have."""
    if path.suffix in _YAML_ENDINGS:
        return True
    first = next((line for line in text.splitlines() if line.strip() and line.strip()[0] not in "#;"), "")
    return not path.suffix and (first.strip() == "---" or (first.rstrip().endswith(":") and "[" not in first))
