"""host.sh has the program on the host save a stale snapshot; each version is told the address as it understands it."""

import subprocess
from pathlib import Path

import pytest

from recovery.adapters.host_commands import script

# As measured of 0.7.5: a scheme in the address becomes a part of the host's name, and TLS is a variable of its own.
# 1.1.0, 1.7.0 and 1.18.1 take it that way too, over http and https.
PROGRAM_0_7 = """#!/bin/sh
[ "$*" = "snapshot save -stale $4" ] || exit 9
case $CONSUL_HTTP_ADDR in
    *://*) echo "Error saving snapshot: Get http://http:%2F%2F127.0.0.1: no such host"; exit 1 ;;
    127.0.0.1:8500) [ "$CONSUL_HTTP_SSL" = false ] || exit 8 ;;
    127.0.0.1:8501) [ "$CONSUL_HTTP_SSL:$CONSUL_HTTP_SSL_VERIFY" = true:false ] || exit 7 ;;
esac
[ "$CONSUL_HTTP_TOKEN" = "to'ken" ] || exit 6
echo data >"$4"
"""

DRIVER = """
STATE={folder}/state
UNIT=consul.service
RUN=r1
PAYLOAD="to'ken"
consul_program() {{ program={folder}/consul; }}
finish() {{ say evidence "$1"; }}
verb_snapshot "$1"
"""


def save(folder: Path, address: str) -> subprocess.CompletedProcess[str]:
    """Call the verb under dash, as root's environment might be."""
    (folder / "consul").write_text(PROGRAM_0_7)
    (folder / "consul").chmod(0o755)
    functions = script().decode().split("# --- the call")[0]
    (folder / "host.sh").write_text(functions + DRIVER.format(folder=folder))
    return subprocess.run(
        ["dash", folder / "host.sh", address],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={"PATH": "/usr/bin:/bin", "CONSUL_HTTP_SSL": "1", "CONSUL_HTTP_ADDR": "elsewhere:1"},
    )


@pytest.mark.parametrize("address", ["http://127.0.0.1:8500", "https://127.0.0.1:8501"])
def test_a_program_of_0_7_saves_it_over_http_and_https(tmp_path: Path, address: str) -> None:
    """It knows no scheme in an address."""
    done = save(tmp_path, address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"evidence {tmp_path}/state/archive/r1/stale.snap, 5 bytes\n"
    assert (tmp_path / "state/archive/r1/stale.snap").read_text() == "data\n"


@pytest.mark.parametrize("address", ["http://192.0.2.1:8500", "127.0.0.1:8500", "ftp://127.0.0.1:8500", ""])
def test_only_an_agent_on_the_loopback_is_asked(tmp_path: Path, address: str) -> None:
    """The token goes nowhere else."""
    done = save(tmp_path, address)
    assert done.returncode == 64
    assert not (tmp_path / "state").exists()
