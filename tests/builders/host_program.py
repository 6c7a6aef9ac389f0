"""The functions of host.sh that read an agent's configuration, run under sh with a systemd that answers from a file."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from recovery.adapters.host_commands import script

_DRIVER = """
PATH={programs}:$PATH
STATE={state}
UNIT=consul.service
verb=look
find_pids() {{ pids=; }}
exec_start=$(cat {programs}/shown)
read_agent
say config_problem "$config_problem"
say data_dir "$data_dir"
[ -z "$config_problem" ] || exit 0
say node_name "$node_name"
say node_id "$configured_id"
say server "$server"
say leave_on_terminate "$leave_on_terminate"
say bootstrap "$bootstrap"
say bootstrap_expect "$bootstrap_expect"
say expect_set_by "$expect_set_by"
say last_dir "$last_dir"
printf '%s' "$settings"
"""


def bus_string(text: str) -> str:
    """Write a string as busctl prints it."""
    named = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "\\": r"\\", '"': r"\"", "'": r"\'"}
    return (
        '"'
        + "".join(
            named.get(chr(byte)) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}")
            for byte in text.encode()
        )
        + '"'
    )


class HostProgram:
    """host.sh's reader, in a folder of its own."""

    def __init__(self, folder: Path, *, version: str = "", shell: str = "dash") -> None:
        self._folder = folder
        self._shell = shell
        self.consul = folder / "consul"
        self._write("consul", f"#!/bin/sh\necho 'Consul v{version}'\n" if version else "#!/bin/sh\nexit 1\n")
        self._write("busctl", f"#!/bin/sh\ncat {folder}/bus\n")
        self._write("systemctl", "#!/bin/sh\nexit 0\n")
        self._write("shown", "{ path=x ; argv[]=x ; ignore_errors=no ; start_time=[n/a] ; pid=0 }\n")
        functions = script().decode().split("# --- the call")[0]
        driver = _DRIVER.format(programs=folder, state=folder / "state")
        self._write("host.sh", functions + driver)

    def _write(self, name: str, text: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / name
        path.write_text(text)
        path.chmod(0o755)

    def read(
        self,
        argv: Sequence[str],
        *,
        environment: Sequence[str] = (),
        environment_files: Sequence[tuple[Path, bool]] = (),
        directory: str = "",
        mounts: str = "",
        bus: bool = True,
    ) -> dict[str, str]:
        """Read a stopped unit whose ExecStart systemd has taken apart into these words."""
        words = " ".join(bus_string(word) for word in argv)
        variables = "".join(f" {bus_string(each)}" for each in environment)
        files = "".join(
            f" {bus_string(str(path))} {str(optional).lower()}" for path, optional in environment_files
        )
        lines = (
            f"a(sasbttttuii) 1 {bus_string(argv[0])} {len(argv)} {words} false 0 0 0 0 0 0 0",
            f"as {len(environment)}{variables}",
            f"a(sb) {len(environment_files)}{files}",
            f"s {bus_string(directory)}",
            's ""',
            "as 0",
            "b false",
            mounts or "a(ssbt) 0",
            "a(ssbt) 0",
            "a(ss) 0",
            f"a(sasasttttuii) 1 {bus_string(argv[0])} {len(argv)} {words} 0 0 0 0 0 0 0 0",
        )
        self._write("bus", "\n".join(lines) + "\n" if bus else "")
        done = subprocess.run(
            [self._shell, self._folder / "host.sh"], capture_output=True, check=False, timeout=30
        )
        assert not done.stderr, done.stderr.decode(errors="replace")
        pairs = (line.partition(" ") for line in done.stdout.decode(errors="replace").splitlines())
        return {name: value for name, _, value in pairs}
