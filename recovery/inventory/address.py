"""What may stand as an SSH address."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

_NAME: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def address_problem(address: str) -> str:
    """Say why SSH cannot be given this as a host, or why it hangs on the cluster that we repair; "" if it may."""
    if address.rstrip(".").lower().endswith(".consul"):
        return "is found through Consul DNS, which is down when it is needed"
    try:
        ipaddress.ip_address(address)
    except ValueError:
        if not _NAME.fullmatch(address):
            return "is neither a host name nor an IP address"
    return ""
