"""A peers.json recovery that was cut short: two servers have the new peer set, one still goes by the old."""

import asyncio

from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from recovery.journal import Outcome
from recovery.plan import StartAgent
from recovery.service import ProposeResult, Refused
from tests.integration.rig import open_rig
from tests.integration.scenarios.newest_on_one import last_key, leave_newest_on_one
from tests.integration.scenarios.old_cluster import done, given_up

GONE = ("s4", "s5")


def refused(answer: ProposeResult) -> str:
    assert isinstance(answer, Refused), answer
    return " ".join((*answer.refusal.reasons, answer.refusal.next_step))


async def test_nobody_is_started_with_the_set_from_before(lab: Lab) -> None:
    """Aborted once s3 leads: the third server, with its set of five, is started neither beside the leader nor without.

    With s4 and s5 it could elect a second leader. Emptied by hand, as the answer says, it comes back as a new
    server, and nothing that was acknowledged is lost.
    """
    await leave_newest_on_one(lab)
    async with open_rig(lab) as rig:
        run = await rig.proposed(lost=GONE, method="peers-json")
        aborted = await given_up(rig, run, when=done("leader"))
        assert aborted.state.outcome is Outcome.ABORTED
    running = {s.action.server for s in aborted.state.plan.steps if s.together == "start-quorum"}  # type: ignore[union-attr]
    [old] = {"s1", "s2", "s3"} - running
    await asyncio.gather(*(stop_without_leave(lab.host(name)) for name in running))
    # Nobody needs s4 and s5 any more: the new set does not name them.
    async with open_rig(lab, without=GONE) as rig:
        ended = await rig.recover()
        assert ended.outcome is Outcome.RECOVERED
        started = {s.action.server for s in ended.plan.steps if isinstance(s.action, StartAgent)}
        assert started == running
        led = refused(await rig.propose())
        assert f"{old} still goes by the peer set from before a recovery (5 voters" in led
        assert "remove-peer" in led
        host = lab.host(old)
        leader = await lab.cluster.wait_for_leader()
        identity = (await host.run("cat /var/lib/consul/node-id")).strip()
        await leader.run(f"consul operator raft remove-peer -id={identity}")
        await host.run("find /var/lib/consul/raft -mindepth 1 -delete")
        back = await rig.recover()
        assert back.outcome is Outcome.RECOVERED, [s.detail for s in back.steps if s.status == "failed"]
    assert len(await lab.cluster.voters(leader)) == 3
    assert await last_key(lab) == ["newest"] * 3
