"""Configurations and units as people have them (tests/data/cases), each with what the real Consul makes of it.

In the files `@` stands for the folder that they lie in.
"""

import shutil
from pathlib import Path

import pytest

from tests.builders.host_program import HostProgram

CASES = Path(__file__).parents[3] / "data" / "cases"


@pytest.mark.parametrize(
    ("case", "right"),
    [
        ("02-data-dir-in-trailing-comment", {"data_dir": "@/new"}),
        ("04-service-meta-data-dir", {"data_dir": "@/new"}),
        ("05a-leave-in-hcl-flag", {"data_dir": "@/new", "leave_on_terminate": "true", "server": "true"}),
        ("05c-leave-before-trailing-comment", {"data_dir": "@/new", "leave_on_terminate": "true"}),
        (
            "05d-config-file-is-a-folder",
            {"data_dir": "@/new", "leave_on_terminate": "true", "server": "true"},
        ),
        ("06a-config-dir-is-a-file", {"data_dir": "@/new"}),
        ("06b-config-file-is-a-folder", {"data_dir": "@/new"}),
        ("06c-config-format", {"data_dir": "@/new"}),
    ],
)
def test_a_stopped_agent_is_read_as_consul_reads_it(case: str, right: dict[str, str], tmp_path: Path) -> None:
    """The right values are those of agent/self of a real agent that was started with the same."""
    folder = tmp_path / "case"
    shutil.copytree(CASES / case, folder)
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_text(file.read_text().replace("@", str(folder)))
    program = HostProgram(tmp_path / "program", version="1.8.7")
    words = (folder / "argv").read_text().split()
    read = program.read([str(program.consul), *words[1:]])
    assert read["config_problem"] == ""
    assert {name: read[name].replace(str(folder), "@") for name in right} == right


def test_flags_in_a_quoted_variable_of_the_unit_are_its_words(tmp_path: Path) -> None:
    """Case 07: Environment="CONSUL_OPTS=-data-dir=... -config-dir=..." and $CONSUL_OPTS in ExecStart."""
    unit = (CASES / "07-flags-in-Environment" / "consul.service.d-10.conf").read_text()
    assert 'Environment="CONSUL_OPTS=-data-dir=/var/lib/consul -config-dir=/etc/consul.d"' in unit
    (tmp_path / "etc").mkdir()
    program = HostProgram(tmp_path / "program")
    variable = f"CONSUL_OPTS=-data-dir=/var/lib/consul -config-dir={tmp_path}/etc"
    read = program.read([str(program.consul), "agent", "$CONSUL_OPTS"], environment=[variable])
    assert (read["config_problem"], read["data_dir"]) == ("", "/var/lib/consul")


def test_a_unit_that_runs_a_container_is_refused_as_that_and_names_no_path_of_this_host(
    tmp_path: Path,
) -> None:
    """Case 08: the words after the image look like an agent's, and /consul/data is a path in the container."""
    unit = (CASES / "08-unit-runs-a-container" / "consul.service").read_text()
    start = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    read = HostProgram(tmp_path / "program").read(start.removeprefix("ExecStart=").split())
    assert read["data_dir"] == ""
    assert "runs a container or what starts one (docker)" in read["config_problem"]
