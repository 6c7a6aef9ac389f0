"""The case in which starting all at once loses acknowledged writes: the vote protects only those who vote."""

import asyncio

from lab.breakage import stop_without_leave
from lab.datacentre import Lab


async def leave_newest_on_one(lab: Lab) -> None:
    """Five servers; s1 and s2 stop; a key is acknowledged by s3 to s5; s4 and s5 are gone for good."""
    await lab.up(servers=5)
    await lab.host("s1").run("consul kv put key oldest")
    await asyncio.gather(stop_without_leave(lab.host("s1")), stop_without_leave(lab.host("s2")))
    # Without s1 and s2 the three others are just a quorum, so all of them hold what is acknowledged now.
    await lab.host("s3").run(
        "for try in $(seq 200); do consul kv put key newest && exit; sleep 0.1; done; exit 1"
    )
    await asyncio.gather(lab.host("s4").kill(), lab.host("s5").kill())
    # A lone agent needs more than a minute to notice that all others are dead; a restarted one knows nobody.
    await lab.host("s3").run("systemctl kill -s KILL consul; systemctl restart consul")


async def last_key(lab: Lab) -> list[str]:
    """The key as each surviving server has it, read from its own store."""
    left = [lab.host(name) for name in ("s1", "s2", "s3")]
    return [(await host.run("consul kv get -stale key")).strip() for host in left]
