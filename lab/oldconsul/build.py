"""Builds the stand-in: one file named `consul`, a zip of these modules that python3 runs."""

import hashlib
import os
import py_compile
import tempfile
import zipapp
from pathlib import Path
from py_compile import PycInvalidationMode

from lab.root import cache_dir

_HERE = Path(__file__).parent
_PROJECT = _HERE.parent.parent
# Read by the hosts' own Python, without the project's dependencies: the standard library must do.
_OURS = (
    *("lab/__init__.py", "recovery/__init__.py", "recovery/errors.py"),
    *("recovery/boltfile.py", "recovery/boltdb.py"),
)
_NOT_IN_IT = "build.py"
_MAIN = "import sys\n\nfrom lab.oldconsul.cli import main\n\nsys.exit(main(sys.argv[1:]))\n"


def program() -> Path:
    """Return the path of the built program, building it first if these sources were never built.

    Give it to `Lab.up(consul=...)`, or in LAB_CONSUL, as one would give a real Consul.
    """
    sources = sorted(
        [
            *(_PROJECT / name for name in _OURS),
            *(file for file in _HERE.glob("*.py") if file.name != _NOT_IN_IT),
            _HERE / "agent_self.json",
        ]
    )
    digest = hashlib.sha256(_MAIN.encode())
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    folder = cache_dir(os.environ) / f"old-consul-{digest.hexdigest()[:16]}"
    target = folder / "consul"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        tree = Path(temporary) / "tree"
        for source in sources:
            copy = tree / source.relative_to(_PROJECT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
            # Every command of the hosts is a new process: without these it would compile all modules each time.
            py_compile.compile(
                str(copy),
                cfile=str(copy.with_suffix(".pyc")),
                invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
            )
        (tree / "__main__.py").write_text(_MAIN, encoding="utf-8")
        draft = Path(temporary) / "consul"
        # -I: nothing of the host's environment or site packages.
        zipapp.create_archive(tree, draft, interpreter="/usr/bin/python3 -I")
        draft.chmod(0o755)
        draft.rename(target)
    return target
