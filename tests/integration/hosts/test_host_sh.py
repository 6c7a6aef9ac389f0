"""host.sh on real hosts: what each verb does, refuses, and leaves behind."""

import asyncio
import base64
import itertools
import time
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from lab.datacentre import Lab
from lab.host import CONSUL_CONFIG
from lab.host import Host as LabHost
from recovery.adapters.collect import Probe
from recovery.adapters.consul_api import AgentAccess
from recovery.adapters.host_commands import Host, HostAccess, script
from recovery.adapters.ssh import SshPool
from recovery.errors import HostRefused, InDoubt
from recovery.model import ClusterSpec, ServerName
from recovery.ports import ActKey
from tests.integration.counted import CountedPool
from tests.integration.fitting import told

pytestmark = pytest.mark.lab

KeyMaker = Callable[..., ActKey]
S1, S2, S3 = (ServerName(name) for name in ("s1", "s2", "s3"))


async def until(condition: Callable[[], Awaitable[bool]], *, what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        await asyncio.sleep(0.1)


async def main_pid(host: LabHost) -> int:
    return int(await host.run("systemctl show consul -p MainPID --value"))


async def status_of(member: str, *, seen_by: LabHost) -> int:
    answer = await seen_by.api("/v1/agent/members")
    return next(int(each["Status"]) for each in answer.json() if each["Name"] == member)


async def keep_dead_servers(lab: Lab) -> None:
    """Stop autopilot from force-leaving a failed server: at its next look, up to 10 s later, it would be `left` too.

    Source: Consul's documentation of autopilot, cleanup_dead_servers (on by default).
    """
    await lab.host("s1").run("consul operator autopilot set-config -cleanup-dead-servers=false")


async def test_a_look_at_a_running_server_sees_what_the_host_itself_says(lab: Lab, probe: Probe) -> None:
    """Process, node id, data directory, version and user are those of the unit that is really there."""
    host = lab.host("s1")
    view = await probe.hosts[S1].look()
    assert view.main_pid == await main_pid(host)
    assert view.node_id == (await host.run("cat /var/lib/consul/node-id")).strip()
    assert (view.active_state, view.enabled, view.unit_user) == ("active", True, "consul")
    assert (view.data_dir, view.version) == ("/var/lib/consul", told(lab.cluster.settings.program.version))
    assert view.raft_db_bytes == int(await host.run("stat -c %s /var/lib/consul/raft/raft.db"))
    assert view.peers_info
    assert (view.held_by, view.fenced_by, view.epoch) == ("", "", 0)


async def test_a_look_changes_nothing_on_the_host(lab: Lab, probe: Probe) -> None:
    """Before a plan is approved not even a folder of ours is made."""
    await probe.hosts[S1].look()
    assert await lab.host("s1").run("test -e /var/lib/consul-recovery || echo nothing") == "nothing\n"


@pytest.mark.parametrize("held", [False, True], ids=["not held", "held"])
async def test_a_stop_is_no_leave(lab: Lab, probe: Probe, key: KeyMaker, *, held: bool) -> None:
    """The others see a failed member, not one that left, and the peer set stays as it was."""
    await keep_dead_servers(lab)
    voters = await lab.cluster.voters(lab.host("s1"))
    if held:
        await probe.hosts[S3].act("hold", key("hold"), timeout_s=30)
    evidence = await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    assert "signal 9" in evidence
    view = await probe.hosts[S3].look()
    assert (view.running, view.active_state) == (False, "inactive")

    async def seen_failed() -> bool:
        status = await status_of("s3", seen_by=lab.host("s1"))
        assert status != 3, "s3 has left"
        return status == 4

    await until(seen_failed, what="s1 sees s3 failed")
    assert await lab.cluster.voters(lab.host("s1")) == voters


@pytest.mark.parametrize("held", [False, True], ids=["not held", "held"])
@pytest.mark.parametrize(
    "trap",
    [
        """echo '{"leave_on_terminate": true}' >/etc/consul.d/zz-leave.json; chmod 644 /etc/consul.d/zz-leave.json""",
        """mkdir -p /etc/systemd/system/consul.service.d
           printf '[Service]\\nExecStop=/usr/bin/consul leave\\nKillSignal=SIGINT\\nKillMode=process\\n' \
               >/etc/systemd/system/consul.service.d/site.conf""",
    ],
    ids=["leave_on_terminate", "ExecStop=consul leave"],
)
async def test_a_unit_that_leaves_at_each_stop_is_stopped_without(
    lab: Lab, probe: Probe, key: KeyMaker, trap: str, *, held: bool
) -> None:
    """Whatever the operator's own stop does, ours does not shrink the peer set."""
    host = lab.host("s3")
    await host.run(f"{trap}; systemctl daemon-reload; systemctl kill -s KILL consul")
    await lab.cluster.wait_until_formed()
    await keep_dead_servers(lab)
    if held:
        await probe.hosts[S3].act("hold", key("hold"), timeout_s=30)
    evidence = await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)

    async def seen_failed() -> bool:
        status = await status_of("s3", seen_by=lab.host("s1"))
        assert status != 3, f"s3 has left: {evidence}"
        return status == 4

    await until(seen_failed, what="s1 sees s3 failed")
    assert len(await lab.cluster.voters(lab.host("s1"))) == 3
    if held:
        await probe.hosts[S3].act("release", key("release"), timeout_s=30)
    left = await host.run("systemctl show consul -p DropInPaths --value")
    assert "consul-recovery" not in left


async def test_a_held_agent_that_does_not_heed_the_signal_is_killed(
    lab: Lab, probe: Probe, key: KeyMaker
) -> None:
    """A server without a leader can hang at its end; what it acknowledged is on its disk."""
    host = lab.host("s3")
    await probe.hosts[S3].act("hold", key("hold"), timeout_s=30)
    # A stopped process heeds no signal but one.
    await host.run("systemctl kill -s STOP --kill-who=main consul")
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    assert not (await probe.hosts[S3].look()).running
    assert await host.run("pgrep -x consul || echo none") == "none\n"


@pytest.mark.parametrize(
    ("kill_mode", "start"),
    [
        ("control-group", "/bin/sh -c '/usr/bin/consul agent $DAEMON_ARGS; true'"),
        ("process", "/usr/bin/consul agent $DAEMON_ARGS"),
    ],
    ids=["a wrapper is the main process", "a child outlives the agent"],
)
async def test_a_held_agent_that_is_not_alone_in_its_unit_is_stopped_whole_and_does_not_leave(
    lab: Lab, probe: Probe, key: KeyMaker, kill_mode: str, start: str
) -> None:
    """systemd itself signals what is left of a unit whose main process has ended: with the unit's own signal."""
    host = lab.host("s3")
    await host.run(
        "mkdir -p /etc/systemd/system/consul.service.d; cat >/etc/systemd/system/consul.service.d/site.conf;"
        " systemctl daemon-reload; systemctl kill -s KILL consul",
        stdin=f"[Service]\nKillMode={kill_mode}\nExecStart=\nExecStart={start}\n",
    )
    await lab.cluster.wait_until_formed()
    await keep_dead_servers(lab)
    if kill_mode == "process":
        await host.run(
            "sleep 300 </dev/null >/dev/null 2>&1 & for group in /sys/fs/cgroup /sys/fs/cgroup/systemd; do"
            " group=$group/system.slice/consul.service; [ ! -d $group ] || echo $! >$group/cgroup.procs; done"
        )
    await probe.hosts[S3].act("hold", key("hold"), timeout_s=30)
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    assert not (await probe.hosts[S3].look()).running
    assert await host.run("pgrep -x sleep || echo none") == "none\n"

    async def seen_failed() -> bool:
        status = await status_of("s3", seen_by=lab.host("s1"))
        assert status != 3, "s3 has left"
        return status == 4

    await until(seen_failed, what="s1 sees s3 failed")


async def test_the_look_in_an_acts_answer_is_what_a_look_sees(
    lab: Lab, counted: CountedPool, key: KeyMaker
) -> None:
    """What ends an act is the same look, only without a call of its own."""
    address, access = lab.host("s3").address, HostAccess(user=lab.ssh_user)
    mine = Host(counted, address, access, monotonic_s=lambda: 0.0)
    await mine.look()
    for verb in ("hold", "stop", "archive"):
        await mine.act(verb, key(verb), timeout_s=60)
        before = counted.count
        kept = await mine.look()
        assert counted.count == before
        asked = await Host(counted, address, access).look()
        assert msgspec.structs.replace(kept, free_bytes=asked.free_bytes) == asked


async def test_a_hold_does_not_touch_the_running_agent(lab: Lab, probe: Probe, key: KeyMaker) -> None:
    """Holding is no stop: the process stays the same one."""
    before = await main_pid(lab.host("s1"))
    await probe.hosts[S1].act("hold", key("hold"), timeout_s=30)
    view = await probe.hosts[S1].look()
    assert (view.main_pid, view.held_by) == (before, "r1")


async def test_a_held_server_comes_up_neither_by_systemctl_nor_by_a_reboot(
    lab: Lab, probe: Probe, key: KeyMaker
) -> None:
    """Only a release or our own start brings it back."""
    host = lab.host("s3")
    await probe.hosts[S3].act("hold", key("hold"), timeout_s=30)
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    await host.run("systemctl start consul; systemctl restart consul", check=False)
    assert not (await probe.hosts[S3].look()).running
    await host.reboot()
    await host.run("systemctl start consul", check=False)
    view = await probe.hosts[S3].look()
    assert (view.running, view.held_by) == (False, "r1")
    await probe.hosts[S3].act("start", key("start"), timeout_s=30)
    await lab.cluster.wait_until_formed()
    assert (await probe.hosts[S3].look()).held_by == ""


async def test_a_released_server_can_be_started_by_hand(lab: Lab, probe: Probe, key: KeyMaker) -> None:
    """Release takes the hold off and starts nothing."""
    await probe.hosts[S3].act("hold", key("hold"), timeout_s=30)
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    await probe.hosts[S3].act("release", key("release"), timeout_s=30)
    view = await probe.hosts[S3].look()
    assert (view.running, view.held_by) == (False, "")
    await lab.host("s3").run("systemctl start --no-block consul")
    await lab.cluster.wait_until_formed()


async def test_a_hold_file_without_its_condition_is_no_hold(lab: Lab, probe: Probe) -> None:
    """What is not in force in systemd holds nothing, whatever lies on the disk."""
    await lab.host("s1").run("mkdir -p /var/lib/consul-recovery; echo r1 >/var/lib/consul-recovery/hold")
    assert (await probe.hosts[S1].look()).held_by == ""


async def test_a_condition_without_its_hold_file_is_no_hold(
    lab: Lab, probe: Probe, pool: SshPool, key: KeyMaker
) -> None:
    """A start that is cut off leaves the drop-in at most: it bars nobody, and the next start takes it away."""
    host = lab.host("s3")
    await probe.hosts[S3].act("hold", key("hold"), timeout_s=30)
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    await host.run("rm /var/lib/consul-recovery/hold")
    assert (await Host(pool, host.address, HostAccess(user=lab.ssh_user)).look()).held_by == ""
    await host.run("systemctl start --no-block consul")
    await lab.cluster.wait_until_formed()
    await probe.hosts[S3].act("start", key("start"), timeout_s=30)
    assert await host.run("ls /etc/systemd/system/consul.service.d 2>/dev/null; true") == ""


async def test_an_edited_unit_is_started_as_it_is_on_the_disk(lab: Lab, probe: Probe, key: KeyMaker) -> None:
    """Nobody has told systemd of the edit; and where it has commands before its start, the hold is off by then."""
    host = lab.host("s3")
    drop_ins = "/etc/systemd/system/consul.service.d"
    await probe.hosts[S3].act("hold", key("hold"), timeout_s=30)
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    await host.run(
        "printf '[Service]\\nEnvironment=EDITED=yes\\nExecStartPre=+/bin/sh -c"
        ' "ls /var/lib/consul-recovery >/root/at-start"\\n\''
        f" >{drop_ins}/site.conf"
    )
    await probe.hosts[S3].act("start", key("start"), timeout_s=30)
    await lab.cluster.wait_until_formed()
    environment = await host.run(f"tr '\\0' '\\n' </proc/{await main_pid(host)}/environ")
    assert "EDITED=yes" in environment.splitlines()
    assert "hold" not in (await host.run("cat /root/at-start")).split()
    assert await host.run(f"ls {drop_ins}") == "site.conf\n"


async def test_a_fence_that_systemd_has_not_loaded_bars_a_start(
    lab: Lab, probe: Probe, key: KeyMaker
) -> None:
    """A fence that was cut off between its file and the reload: nobody starts that server by accident."""
    host = lab.host("s3")
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    await host.run(
        "mkdir -p /etc/systemd/system/consul.service.d; echo 'r1 yes' >/var/lib/consul-recovery/fenced;"
        " printf '[Unit]\\nConditionPathExists=!/var/lib/consul-recovery/fenced\\n'"
        " >/etc/systemd/system/consul.service.d/zz-consul-recovery-fence.conf"
    )
    with pytest.raises(HostRefused, match="fenced by r1"):
        await probe.hosts[S3].act("start", key("start"), timeout_s=30)
    assert not (await probe.hosts[S3].look()).running


async def test_an_older_driver_changes_nothing_any_more(lab: Lab, probe: Probe, key: KeyMaker) -> None:
    """A driver that was paused and overtaken is refused by the host itself."""
    before = await main_pid(lab.host("s1"))
    await probe.hosts[S1].act("hold", key("hold", epoch=8), timeout_s=30)
    with pytest.raises(HostRefused, match="a newer driver"):
        await probe.hosts[S1].act("stop", key("stop", epoch=7), timeout_s=60)
    assert await main_pid(lab.host("s1")) == before
    assert (await probe.hosts[S1].look()).epoch == 8


async def test_an_epoch_belongs_to_one_owner(lab: Lab, probe: Probe, key: KeyMaker) -> None:
    """Two bots that were given the same epoch by two stores cannot both act."""
    before = await main_pid(lab.host("s1"))
    await probe.hosts[S1].act("hold", key("hold", owner="bot-1"), timeout_s=30)
    with pytest.raises(HostRefused, match="belongs to bot-1, not to bot-2"):
        await probe.hosts[S1].act("stop", key("stop", owner="bot-2"), timeout_s=60)
    assert await main_pid(lab.host("s1")) == before


async def test_what_has_a_receipt_is_not_done_again(lab: Lab, probe: Probe, key: KeyMaker) -> None:
    """A stop that is sent twice must not stop the agent that was started in between."""
    first = await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    await probe.hosts[S3].act("start", key("start"), timeout_s=30)
    await lab.cluster.wait_until_formed()
    before = await main_pid(lab.host("s3"))
    again = await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    assert again == f"done before: {first}"
    assert await main_pid(lab.host("s3")) == before
    assert await probe.hosts[S3].receipt(key("stop"))
    assert not await probe.hosts[S3].receipt(key("stop", attempt=2))


async def test_the_same_call_twice_at_once_is_done_once(lab: Lab, probe: Probe, key: KeyMaker) -> None:
    """The lock puts them in a row, and the second one finds the receipt."""
    told = await asyncio.gather(*(probe.hosts[S3].act("stop", key("stop"), timeout_s=60) for _ in range(2)))
    assert sorted(each.startswith("done before: ") for each in told) == [False, True]
    assert not (await probe.hosts[S3].look()).running


async def test_a_started_agent_does_not_keep_the_lock(lab: Lab, probe: Probe, key: KeyMaker) -> None:
    """The lock ends with the call, not with what the call has started."""
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    await probe.hosts[S3].act("start", key("start"), timeout_s=30)
    await lab.cluster.wait_until_formed()
    assert await lab.host("s3").run("flock -n /var/lib/consul-recovery/lock echo free") == "free\n"


PEERS = base64.b64encode(b'["198.51.100.11:8300"]\n').decode()


async def test_peers_are_not_written_under_a_running_agent(lab: Lab, probe: Probe, key: KeyMaker) -> None:
    """Below 0.7 it is the live file; from 0.7 on a restart would read it before its time."""
    await probe.hosts[S3].act("hold", key("hold"), timeout_s=30)
    with pytest.raises(HostRefused, match="the agent runs"):
        await probe.hosts[S3].act("write-peers", key("write"), "info", payload=PEERS, timeout_s=30)
    assert (await probe.hosts[S3].look()).peers_json is None


async def test_peers_are_not_written_where_a_reboot_would_start_the_agent(
    lab: Lab, probe: Probe, key: KeyMaker
) -> None:
    """A stopped server that is not held could read the file before the others have it."""
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    with pytest.raises(HostRefused, match="not held by this run"):
        await probe.hosts[S3].act("write-peers", key("write"), "info", payload=PEERS, timeout_s=30)
    assert (await probe.hosts[S3].look()).peers_json is None


async def test_written_peers_can_be_read_and_deleted_by_the_agent(
    lab: Lab, probe: Probe, key: KeyMaker
) -> None:
    """Owner and mode are the agent's; a missing peers.info is made, else Consul deletes the file unread."""
    host = lab.host("s3")
    await probe.hosts[S3].act("hold", key("hold"), timeout_s=30)
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    await host.run("rm /var/lib/consul/raft/peers.info")
    await probe.hosts[S3].act("write-peers", key("write"), "info", payload=PEERS, timeout_s=30)
    assert await host.run("stat -c '%U %a' /var/lib/consul/raft/peers.json") == "consul 600\n"
    assert await host.run("stat -c '%U' /var/lib/consul/raft/peers.info") == "consul\n"
    file = await probe.hosts[S3].peers_file()
    assert (file.content, file.owned, file.info) == (base64.b64decode(PEERS), True, True)
    assert await host.run("ls /var/lib/consul/raft") == "peers.info\npeers.json\nraft.db\nsnapshots\n"
    await probe.hosts[S3].act("remove-peers", key("remove"), timeout_s=30)
    assert (await probe.hosts[S3].peers_file()).content is None
    removed = await host.run("cat /var/lib/consul-recovery/archive/r1/peers.json.removed")
    assert removed.encode() == base64.b64decode(PEERS), "whatever is removed, a copy stays"


async def test_an_archive_holds_the_state_and_only_root_reads_it(
    lab: Lab, counted: CountedPool, key: KeyMaker
) -> None:
    """It has the log, the gossip keys' folder, the node id and the configuration; a changed one is not good."""
    host = lab.host("s3")
    address, access = host.address, HostAccess(user=lab.ssh_user)
    mine = Host(counted, address, access, monotonic_s=lambda: 0.0)
    await mine.look()
    await mine.act("stop", key("stop"), timeout_s=60)
    await mine.act("archive", key("archive"), timeout_s=60)
    before = counted.count
    told = await mine.archive("r1")
    assert counted.count == before
    archive = await Host(counted, address, access).archive("r1")
    assert told == archive, "what the act told is what is there"
    assert archive.state == "good"
    names = (await host.run(f"tar -tf {archive.path}")).split()
    assert {
        "var/lib/consul/raft/raft.db",
        "var/lib/consul/serf/",
        "var/lib/consul/node-id",
        CONSUL_CONFIG.lstrip("/"),
    } <= set(names)
    assert (
        await host.run(f"stat -c '%U %a' {archive.path} /var/lib/consul-recovery") == "root 600\nroot 700\n"
    )
    await host.run(f"printf x >>{archive.path}")
    assert (await Host(counted, address, access).archive("r1")).state == "damaged"
    assert (await Host(counted, address, access).archive("r2")).state == "none"


async def test_a_log_is_steady_only_while_nobody_touches_it(
    lab: Lab, counted: CountedPool, spec: ClusterSpec, key: KeyMaker
) -> None:
    """A small one is then read in one call; one that is touched meanwhile is asked for again, and read all the same."""
    host = lab.host("s3")
    probe = Probe(spec, pool=counted, host=HostAccess(user=lab.ssh_user), agent=AgentAccess())
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    counted.count = 0
    log = await probe.server_log(S3)
    assert counted.count == 1
    await host.run(
        "systemd-run --quiet --unit=toucher sh -c 'while :; do touch /var/lib/consul/raft/raft.db; done'"
    )
    try:
        touched = await probe.hosts[S3].raft_read(((0, 65536),), snapshots=True)
        counted.count = 0
        again = await probe.server_log(S3)
    finally:
        await host.run("systemctl stop toucher")
    assert not touched.steady
    assert counted.count == 2
    assert again.last == log.last


async def test_no_archive_is_begun_where_it_does_not_fit(lab: Lab, probe: Probe, key: KeyMaker) -> None:
    """The message says how much is needed and how much there is; nothing half-written is left."""
    host = lab.host("s3")
    await host.run(
        "mkdir -p /var/lib/consul-recovery; mount -t tmpfs -o size=100k tmpfs /var/lib/consul-recovery"
    )
    await probe.hosts[S3].act("stop", key("stop"), timeout_s=60)
    with pytest.raises(HostRefused, match=r"needs \d+ KiB.*only \d+ KiB are free"):
        await probe.hosts[S3].act("archive", key("archive"), timeout_s=60)
    assert await host.run("find /var/lib/consul-recovery/archive -type f") == ""


async def test_no_archive_of_a_running_agent(lab: Lab, probe: Probe, key: KeyMaker) -> None:
    """A copy of files that are being written is none."""
    with pytest.raises(HostRefused, match="the agent runs"):
        await probe.hosts[S1].act("archive", key("archive"), timeout_s=60)


async def test_a_stale_snapshot_is_saved_and_its_token_shows_in_no_command_line(
    lab: Lab, probe: Probe, key: KeyMaker
) -> None:
    """Every command line on the host is watched while the snapshot is made; the token is in none."""
    host = lab.host("s1")
    watch = asyncio.create_task(
        host.run(
            "end=$(($(date +%s) + 4)); while [ $(date +%s) -lt $end ]; do"
            " for each in /proc/[0-9]*; do tr '\\0' ' ' <$each/cmdline; echo; done; done 2>/dev/null | sort -u"
        )
    )
    attempts = itertools.count(1)
    while not watch.done():
        await probe.hosts[S1].act(
            "snapshot",
            key("snapshot", attempt=next(attempts)),
            "http://127.0.0.1:8500",
            payload="token-that-must-not-show",
            timeout_s=60,
        )
    seen = await watch
    assert "snapshot save -stale" in seen
    assert "token-that-must-not-show" not in seen
    path = await probe.hosts[S1].snapshot("r1")
    assert "Index" in await host.run(f"consul snapshot inspect {path}")


async def test_only_the_unit_of_a_consul_agent_can_be_named(lab: Lab, pool: SshPool) -> None:
    """Whoever may call the installed script cannot stop other services with it."""
    host = Host(pool, lab.host("s1").address, HostAccess(user=lab.ssh_user, unit="ssh.service"))
    with pytest.raises(HostRefused, match="does not run a Consul agent"):
        await host.look()


async def test_the_data_directory_is_found_through_variables_of_the_unit(lab: Lab, probe: Probe) -> None:
    """Flags in an environment file count for a stopped unit as they would for a started one."""
    await lab.host("s3").run(
        """
        mkdir -p /etc/systemd/system/consul.service.d /var/lib/other/raft
        printf 'OPTIONS="-data-dir=/var/lib/other -bootstrap-expect 3"\\nWHERE=/etc/consul.d\\n' >/etc/test.env
        printf '[Service]\\nKillSignal=KILL\\nEnvironmentFile=/etc/test.env\\nExecStart=\\nExecStart=%s\\n' \
            '/usr/bin/consul agent $OPTIONS -config-dir ${WHERE}' >/etc/systemd/system/consul.service.d/site.conf
        echo '{"leave_on_terminate" : true}' >/etc/consul.d/zz-leave.json
        systemctl daemon-reload; systemctl stop consul; rm -rf /var/lib/other/*
        """,
        check=False,
    )
    view = await probe.hosts[S3].look()
    assert (view.running, view.data_dir, view.leave_on_terminate) == (False, "/var/lib/other", True)


async def test_installed_on_the_host_it_needs_no_shell_as_root(lab: Lab, pool: SshPool) -> None:
    """With one sudoers line for one program the verbs work, and a streamed shell is refused."""
    host = lab.host("s2")
    await host.run(
        "cat >/usr/local/sbin/consul-recovery-host; chmod 755 /usr/local/sbin/consul-recovery-host;"
        " cp -p /etc/sudoers.d/recovery /root/sudoers;"
        f" echo '{lab.ssh_user} ALL=(root) NOPASSWD: /usr/local/sbin/consul-recovery-host' >/etc/sudoers.d/recovery",
        stdin=script().decode(),
    )
    try:
        installed = Host(pool, host.address, HostAccess(user=lab.ssh_user, installed=True))
        assert (await installed.look()).running
        streamed = Host(pool, host.address, HostAccess(user=lab.ssh_user))
        with pytest.raises(HostRefused, match=r"NOPASSWD: /bin/sh -s"):
            await streamed.look()
        await host.run("echo '# an older one' >>/usr/local/sbin/consul-recovery-host")
        with pytest.raises(HostRefused, match=r"is not the host.sh of this bot's version; copy that one"):
            await installed.look()
    finally:
        await host.run("mv /root/sudoers /etc/sudoers.d/recovery")


async def test_raft_is_emptied_only_where_it_is_stopped_held_and_archived(
    lab: Lab, probe: Probe, key: KeyMaker
) -> None:
    """Each precondition is named; then raft/ is empty, node-id and serf/ stay, and it joins again as itself."""
    host, s3 = lab.host("s3"), probe.hosts[S3]
    node_id = await host.run("cat /var/lib/consul/node-id")
    with pytest.raises(HostRefused, match="the agent runs"):
        await s3.act("wipe-raft", key("wipe"), timeout_s=30)
    await s3.act("stop", key("stop"), timeout_s=60)
    with pytest.raises(HostRefused, match="not held by this run"):
        await s3.act("wipe-raft", key("wipe"), timeout_s=30)
    await s3.act("hold", key("hold"), timeout_s=30)
    with pytest.raises(HostRefused, match="archive of run r1 is none"):
        await s3.act("wipe-raft", key("wipe"), timeout_s=30)
    await s3.act("archive", key("archive"), timeout_s=60)
    await s3.act("wipe-raft", key("wipe"), timeout_s=30)
    assert await host.run("ls -A /var/lib/consul/raft") == ""
    assert await host.run("ls -A /var/lib/consul/serf") != ""
    assert (await s3.archive("r1")).state == "good"
    await s3.act("start", key("start"), timeout_s=30)
    await lab.cluster.wait_until_formed()
    assert await host.run("cat /var/lib/consul/node-id") == node_id


BY_HAND = """
runuser -u consul -- setsid /usr/bin/consul agent -data-dir=/var/lib/consul -config-dir=/etc/consul.d \
    >/dev/null 2>&1 </dev/null &
"""


async def test_an_agent_that_somebody_started_by_hand_is_no_stopped_one(
    lab: Lab, probe: Probe, key: KeyMaker
) -> None:
    """The unit has no process and the data has a master: it counts as running, and nothing is done to it."""
    host = lab.host("s3")
    s3 = probe.hosts[S3]
    await s3.act("hold", key("hold"), timeout_s=60)
    await s3.act("stop", key("stop"), timeout_s=60)
    await host.run(BY_HAND)

    async def seen_running() -> bool:
        return (await s3.look()).running

    try:
        await until(seen_running, what="the agent by hand is seen")
        assert (await s3.look()).active_state == "inactive"
        for verb in ("stop", "start", "fence", "archive"):
            with pytest.raises(HostRefused, match=r"started by hand|the agent runs"):
                await s3.act(verb, key(f"again-{verb}"), timeout_s=60)
        assert (await s3.look()).fenced_by == ""
    finally:
        await host.run("pkill --signal=KILL --exact consul; true")


async def test_a_fence_that_cannot_stop_the_agent_does_not_say_that_nothing_was_changed(
    lab: Lab, probe: Probe, key: KeyMaker
) -> None:
    """It is barred and disabled by then: in doubt, and the look tells what is there."""
    await lab.host("s3").run(
        "mkdir -p /etc/systemd/system/consul.service.d; printf '[Service]\\nExecStop=/usr/bin/consul leave\\n' "
        ">/etc/systemd/system/consul.service.d/zzz-site.conf; systemctl daemon-reload"
    )
    with pytest.raises(InDoubt, match="a stop could be a leave"):
        await probe.hosts[S3].act("fence", key("fence"), timeout_s=60)
    view = await probe.hosts[S3].look()
    assert (view.running, view.enabled, view.fenced_by) == (True, False, "r1")
    assert "consul-recovery-stop" not in await lab.host("s3").run("find /run/systemd/system -name '*.conf'")
