"""The words that host.sh reads of a stopped unit are those with which the real systemd starts it."""

import base64
import shlex

import pytest

from lab.datacentre import Lab
from recovery.adapters.host_commands import script
from tests.builders.units import Unit, make_unit

pytestmark = pytest.mark.lab
PROGRAM = "/opt/units/consul"
UNIT = "/etc/systemd/system/consul-units@.service"
RECORDER = """#!/bin/sh
case ${1-} in version) echo 'Consul v1.8.7'; exit ;; esac
for word in "$@"; do printf '%s' "$word" | base64 -w 0; echo; done >/opt/units/started.new
mv /opt/units/started.new /opt/units/started
"""
READ = """
UNIT=consul-units@one.service
verb=look
STATE=/nowhere
read_facts
find_agent
command=
read_with "$(unit_facts)$NEWLINE"
printf '%s\\n' "$answers" | sed -n 's/^start_problem/problem/p; s/^word //p' | while IFS= read -r word; do
    case $word in problem*) echo "$word" ;; *) printf '%s' "$word" | base64 -w 0; echo ;; esac
done
"""


def on_host(unit: Unit) -> str:
    """A script that writes the unit, reads it, starts it, and prints both."""
    service = f"[Service]\nType=oneshot\n{unit.service}\n"
    drop_in = f"[Service]\n{unit.drop_in}\n"
    return f"""
rm -rf {UNIT}.d /opt/units/started
printf %s {shlex.quote(service)} >{UNIT}
printf %s {shlex.quote(unit.environment_file)} >/opt/units/env
mkdir {UNIT}.d
printf %s {shlex.quote(drop_in)} >{UNIT}.d/10.conf
systemctl daemon-reload
echo read
sh /opt/units/read.sh
echo started
systemctl start consul-units@one 2>&1 | sed 's/^/failed /' | head -n 1
cat /opt/units/started 2>/dev/null
echo end
systemctl reset-failed consul-units@one 2>/dev/null || true
"""


def words(lines: list[str]) -> list[str]:
    return [base64.b64decode(line).decode() for line in lines]


async def test_units_are_read_as_systemd_starts_them(lab: Lab) -> None:
    """Quotes, specifiers, variables with and without braces, environment files, drop-ins, prefixes, env and nice."""
    host = lab.host("s1")
    functions = script().decode().split("# --- the call")[0] + READ
    await host.run("mkdir -p /opt/units; cat >/opt/units/read.sh", stdin=functions)
    await host.run(f"cat >{PROGRAM}; chmod 755 {PROGRAM}", stdin=RECORDER)
    units = [make_unit(seed, program=PROGRAM, environment_file="/opt/units/env") for seed in range(60)]
    told = await host.run("sh -s", stdin="".join(on_host(unit) for unit in units))
    unknown = 0
    for unit, part in zip(units, told.split("read\n")[1:], strict=True):
        read, _, rest = part.partition("started\n")
        started = rest.partition("end\n")[0].splitlines()
        seen = read.splitlines()
        if any(line.startswith("problem") for line in seen):
            unknown += 1
            assert "not there" in read or "backslash" in read, (unit, read)
            continue
        assert not any(line.startswith("failed") for line in started), (unit, started)
        assert words(seen)[1:] == words(started), unit
    assert unknown <= len(units) * 0.1
