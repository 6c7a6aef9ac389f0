"""raft/peers.json as text: what is written, and whether what lies there says the same.

Source: Consul's outage recovery page; hashicorp/raft peersjson.go. From Raft protocol 3 on an array of
objects, where the id decides; below it an array of addresses, which are the ids there.
"""

from __future__ import annotations

import json
from typing import Final

from recovery.raftentry import Peer

_FIRST_WITH_IDS: Final = 3


def peers_json(peers: tuple[Peer, ...], *, raft_protocol: int) -> str:
    """Write the file's content for servers of this Raft protocol."""
    if raft_protocol < _FIRST_WITH_IDS:
        return json.dumps([peer.address for peer in peers], indent=2) + "\n"
    objects = [
        {"id": peer.id.lower(), "address": peer.address, "non_voter": not peer.voter} for peer in peers
    ]
    return json.dumps(objects, indent=2) + "\n"


def peers_match(content: bytes, peers: tuple[Peer, ...]) -> bool:
    """Tell whether a file lists exactly these peers; a damaged one lists none."""
    try:
        listed = json.loads(content)
    except ValueError:
        return False
    if not isinstance(listed, list):
        return False
    if all(isinstance(each, str) for each in listed):
        return sorted(listed) == sorted(peer.address for peer in peers)
    if not all(isinstance(each, dict) for each in listed):
        return False
    found = sorted(
        (str(each.get("id", "")), str(each.get("address", "")), not each.get("non_voter", False))
        for each in listed
    )
    return found == sorted((peer.id.lower(), peer.address, peer.voter) for peer in peers)
