"""An operator's inventory on the disk: files of both forms, and programs, with all that can go wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from recovery.adapters.ansible_inventory import AnsibleInventory
from recovery.adapters.client_agents import ClientAgents
from recovery.errors import InventoryProblem, StoreUnavailable
from recovery.inventory.groups import InventoryHost
from recovery.membership import Membership
from recovery.model import ClientAgent, ServerName, ServerSpec

C1 = InventoryHost("c1", "192.0.2.1")


def inventory(path: Path, *, timeout_s: float = 10.0) -> AnsibleInventory:
    """The group consul of it."""
    return AnsibleInventory(
        path,
        group="consul",
        timeout_s=timeout_s,
        environ={"PATH": os.environ["PATH"]},
        refuse_foreign=lambda _path: None,
    )


def program(path: Path, body: str) -> Path:
    """A dynamic-inventory program."""
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hosts", "[consul]\nc1 ansible_host=192.0.2.1\n"),
        ("hosts.ini", "[consul]\nc1 ansible_host=192.0.2.1\n"),
        ("hosts.yml", "consul: {hosts: {c1: {ansible_host: 192.0.2.1}}}"),
        ("hosts", "---\nconsul: {hosts: {c1: {ansible_host: 192.0.2.1}}}"),
        ("hosts", "# note\nconsul:\n  hosts: {c1: {ansible_host: 192.0.2.1}}"),
        ("hosts.json", '{"consul": {"hosts": {"c1": {"ansible_host": "192.0.2.1"}}}}'),
    ],
)
async def test_files_of_both_forms(tmp_path: Path, name: str, text: str) -> None:
    """INI and YAML are told apart by the ending, and without one by their first line."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert (await inventory(path).read()).hosts == (C1,)


async def test_an_ini_file_that_may_be_run_by_mistake_is_read(tmp_path: Path) -> None:
    """The mode bit alone makes no program, as in Ansible."""
    path = tmp_path / "hosts"
    path.write_text("[consul]\nc1 ansible_host=192.0.2.1\n", encoding="utf-8")
    path.chmod(0o755)
    assert (await inventory(path).read()).hosts == (C1,)


async def test_a_program_is_asked(tmp_path: Path) -> None:
    """With _meta one question is enough; without it every host is asked for."""
    whole = {"consul": ["c1"], "_meta": {"hostvars": {"c1": {"ansible_host": "192.0.2.1"}}}}
    path = program(tmp_path / "whole", f"""[ "$*" = --list ] && echo '{json.dumps(whole)}'""")
    assert (await inventory(path).read()).hosts == (C1,)
    path = program(
        tmp_path / "bare",
        'case $1 in --list) echo \'{"consul": ["c1"]}\' ;;\n'
        """--host) echo '{"ansible_host": "192.0.2.'"${2#c}"'"}' ;; esac""",
    )
    assert (await inventory(path).read()).hosts == (C1,)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo 'no credentials' >&2; exit 3", r"failed on --list \(status 3: no credentials\)"),
        ("echo '<html>'", "is no JSON"),
        ("echo '[]'", "is no mapping"),
        ("echo '{}'", "has no group consul"),
    ],
)
async def test_a_program_that_fails_is_one_message(tmp_path: Path, body: str, said: str) -> None:
    """It says what failed, and what to do instead."""
    with pytest.raises(InventoryProblem, match=said) as caught:
        await inventory(program(tmp_path / "it", body)).read()
    assert "\n" not in str(caught.value)
    assert "under clients in the settings" in str(caught.value)


async def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """Time is up for it and for its children: none is left behind."""
    path = program(tmp_path / "it", f"sleep 600 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(InventoryProblem, match=r"no answer within 0\.5 s"):
        await inventory(path, timeout_s=0.5).read()
    child = int((tmp_path / "child").read_text(encoding="ascii"))
    # A killed one may still be there as a zombie that nobody has waited for yet.
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text(encoding="ascii").rpartition(")")[2].split()[0] in {"Z", "X"}


async def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder, and bytes that are no text: one message each."""
    with pytest.raises(InventoryProblem, match="No such file"):
        await inventory(tmp_path / "missing").read()
    with pytest.raises(InventoryProblem, match="is a folder"):
        await inventory(tmp_path).read()
    (tmp_path / "bytes").write_bytes(os.urandom(8) + b"\xff\xfe")
    with pytest.raises(InventoryProblem, match="is no text"):
        await inventory(tmp_path / "bytes").read()


async def test_a_source_that_fails_does_not_hide_the_others(tmp_path: Path) -> None:
    """The settings' client agents are known although neither the inventory nor the store answers."""

    async def no_store() -> Membership:
        raise StoreUnavailable("Redis at x cannot be reached.")

    agents = ClientAgents(
        (ServerSpec(ServerName("s1"), "192.0.2.11"),),
        settings=(ClientAgent(ServerName("c1"), "192.0.2.1", "settings"),),
        inventory=inventory(tmp_path / "missing"),
        recall=no_store,
    )
    clients, problem = await agents.find((), at_s=0.0)
    assert [client.name for client in clients] == ["c1"]
    assert "No such file" in problem
    assert "Redis at x" in problem


async def test_a_program_of_somebody_else_is_never_started(tmp_path: Path) -> None:
    """Whoever may change it would run with the bot's rights: it is asked about before each look, and refused."""
    path = program(tmp_path / "program", f"touch {tmp_path}/ran")
    asked: list[Path] = []

    def refuse(asked_about: Path) -> None:
        asked.append(asked_about)
        raise InventoryProblem("is neither read nor run: it belongs to mallory")

    foreign = AnsibleInventory(path, group="consul", timeout_s=5, environ={}, refuse_foreign=refuse)
    with pytest.raises(InventoryProblem, match=r"belongs to mallory\. Its client agents are not known"):
        await foreign.read()
    with pytest.raises(InventoryProblem, match="belongs to mallory"):
        await foreign.read()
    assert asked == [path, path]
    assert not (tmp_path / "ran").exists()


async def test_a_program_does_not_run_where_the_caller_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ansible-inventory reads an ansible.cfg in its folder, and that names programs to run."""
    monkeypatch.chdir(tmp_path)
    path = program(tmp_path / "program", f"pwd >{tmp_path}/stood; echo '{{}}'")
    with pytest.raises(InventoryProblem):
        await inventory(path).read()
    assert (tmp_path / "stood").read_text(encoding="utf-8") == "/\n"
