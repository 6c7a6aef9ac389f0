"""The version of this installation, for --version."""

from __future__ import annotations

from importlib import metadata

DISTRIBUTION = "consul-recovery"


def version() -> str:
    """Name and version; a checkout that was never installed has none."""
    try:
        return f"{DISTRIBUTION} {metadata.version(DISTRIBUTION)}"
    except metadata.PackageNotFoundError:
        return f"{DISTRIBUTION}, not installed (run from a checkout)"
