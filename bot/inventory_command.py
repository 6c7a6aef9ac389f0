"""`consul-recovery inventory`: today's members as an Ansible dynamic inventory.

Ansible calls an inventory program with --list and nothing else, so there is a
second name, `consul-recovery-inventory`, that takes the settings and the
cluster from the environment:

    CONSUL_RECOVERY_CLUSTER=prod ansible-inventory -i /usr/local/bin/consul-recovery-inventory --graph

stdout is JSON and nothing else; whose list it is stands on stderr.
"""

from __future__ import annotations

import json
from typing import TextIO

from bot import screen
from bot.wording import duration, utc
from recovery.inventory.printed import printed_host, printed_list
from recovery.model import ClusterName
from recovery.service import MembersReport, RecoveryService

OK, FAILED = 0, 1
CLUSTER_VARIABLE = "CONSUL_RECOVERY_CLUSTER"


async def run(
    service: RecoveryService,
    cluster: ClusterName,
    *,
    host: str | None,
    plain: bool,
    now_s: float,
    out: TextIO,
    notes: TextIO,
) -> int:
    """Print all members, or with ``host`` the variables of one; raises StoreUnavailable."""
    report = await service.members(cluster)
    if not report.members:
        screen.tell(
            notes,
            f"No server of {cluster} lists its members, and none were remembered before; nothing was printed. "
            f"`consul-recovery status {cluster}` says what can be seen.",
        )
        return FAILED
    screen.tell(notes, _source(cluster, report, now_s=now_s))
    if host is None:
        printed: object = printed_list(report.members, plain=plain)
    else:
        printed = printed_host(report.members, host)
        if printed is None:
            screen.tell(
                notes, f"{host} is no member of {cluster}; nothing was printed. --list names them all."
            )
            return FAILED
    screen.tell_json(out, json.dumps(printed, indent=2, ensure_ascii=False))
    return OK


def _source(cluster: ClusterName, report: MembersReport, *, now_s: float) -> str:
    if report.by is not None:
        return f"The members of {cluster}, as {report.by} lists them now."
    return (
        f"No server of {cluster} lists its members now: these are the last known ones, seen {utc(report.at_s)} "
        f"({duration(now_s - report.at_s)} ago)."
    )
