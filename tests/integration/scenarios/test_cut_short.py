"""A peers.json recovery that was cut short: two servers have the new peer set, one still goes by the old."""

import asyncio

from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from recovery.journal import Outcome
from recovery.plan import StartAgent
from recovery.service import ProposeResult, Refused
from tests.integration.rig import open_rig
from tests.integration.scenarios.old_cluster import done, given_up

GONE = ("s4", "s5", "s6")
LEFT = ("s1", "s2", "s3")


def refused(answer: ProposeResult) -> str:
    assert isinstance(answer, Refused), answer
    return " ".join((*answer.refusal.reasons, answer.refusal.next_step))


async def test_nobody_is_started_with_the_set_from_before(lab: Lab) -> None:
    """Aborted once there is a leader: the third server, with its set of six, is not started beside it.

    Its log ends where the others' did, so nothing would ever tell it of the new set, and with s4 to s6 it could
    elect a second leader. Emptied by hand, as the answer says, it comes back as a new server.
    """
    await lab.up(servers=6)
    await lab.host("s1").run("consul kv put key kept")
    await asyncio.sleep(1.0)  # Until the key is on every server: equal logs are what this is about.
    await asyncio.gather(*(stop_without_leave(host) for host in lab.servers))
    await asyncio.gather(*(lab.host(name).kill() for name in GONE))
    async with open_rig(lab) as rig:
        run = await rig.proposed(lost=GONE, method="peers-json")
        aborted = await given_up(rig, run, when=done("leader"))
        assert aborted.state.outcome is Outcome.ABORTED
        running = {
            step.action.server
            for step in aborted.state.plan.steps
            if step.together == "start-quorum" and isinstance(step.action, StartAgent)
        }
        [old] = set(LEFT) - running
    # Nobody needs them any more: the new set does not name them.
    async with open_rig(lab, without=GONE) as rig:
        led = refused(await rig.propose())
        assert f"{old} still goes by the peer set from before a recovery (6 voters" in led
        assert "remove-peer" in led
        host = lab.host(old)
        leader = await lab.cluster.wait_for_leader()
        identity = (await host.run("cat /var/lib/consul/node-id")).strip()
        await leader.run(f"consul operator raft remove-peer -id={identity}")
        await host.run("find /var/lib/consul/raft -mindepth 1 -delete")
        back = await rig.recover()
        assert back.outcome is Outcome.RECOVERED, [s.detail for s in back.steps if s.status == "failed"]
    assert len(await lab.cluster.voters(leader)) == 3
    for name in LEFT:
        assert await lab.host(name).run("consul kv get -stale key") == "kept\n"
