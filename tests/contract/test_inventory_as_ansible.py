"""Our reading of inventories against that of the real ansible-core: the same hosts in the same groups."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from recovery.inventory.groups import hosts_of, select
from recovery.inventory.ini import parse_ini
from recovery.inventory.trees import parse_listing, parse_yaml

INI = """\
# comment
; another
jump ansible_host=192.0.2.1
lone[1:2]

[web]
web[01:03].example.com ansible_user=x # behind
web9   ansible_host=192.0.2.9   note="two words" other='a # b'
192.0.2.[9:11]:2222
[2001:db8::1]:22

[db]	# tab and comment
db-[a:c]:22
n[0:10:5]-[x:z:2]

[cloud:children]
consul   # told later

[cloud:vars]
ansible_port = 22
note=[x]

[consul:children]
web
db

[empty]
"""

YAML = """\
all:
  hosts:
    jump: {ansible_host: 192.0.2.1}
  vars: {a: 1}
  children:
    consul:
      children:
        web:
          hosts:
            web[01:03].example.com:
            web9: {ansible_host: 192.0.2.9, secret: !unsafe "{{x}}"}
        db:
          hosts:
            db-[a:c]:22:
other:
  hosts:
    web9:
    o1:
  children:
    db:
"""


async def listing(path: Path, folder: Path) -> object:
    """What the real ansible-inventory makes of a file."""
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "ansible-inventory",
        *("-i", path, "--list"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(folder),
            "ANSIBLE_LOCAL_TEMP": str(folder),
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
        },
    )
    out, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    return json.loads(out)


@pytest.mark.parametrize(
    ("name", "text", "parse"), [("hosts", INI, parse_ini), ("hosts.yml", YAML, parse_yaml)]
)
async def test_the_same_hosts_as_ansible(tmp_path: Path, name: str, text: str, parse: object) -> None:
    """Every group has the hosts that Ansible gives it, and every ansible_host is the same."""
    assert callable(parse)
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    theirs, complete = parse_listing(await listing(path, tmp_path))
    ours = parse(text)
    assert complete
    for group in ("all", *theirs.groups):
        assert set(hosts_of(ours, group)) == set(hosts_of(theirs, group)), group
        assert set(select(ours, group).hosts) == set(select(theirs, group).hosts), group
    assert set(hosts_of(theirs, "consul")) >= {"web01.example.com", "db-c", "web9"}
