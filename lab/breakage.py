"""How to break a lab's cluster for real: each way is one function, and one word for `python -m lab break`.

What heals by itself afterwards and what stays broken differs by Consul's version; each docstring says what was
measured on 1.8.7 (and on 0.6.4 where that is another story). The first servers survive, the last are hit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from lab.datacentre import NETWORK_PREFIX, Lab
from lab.errors import LabError
from lab.host import CONSUL_DATA, Host

Breakage = Callable[[Lab], Awaitable[None]]

_KILL_DROPIN = "[Service]\\nKillSignal=SIGKILL\\nExecStop=\\n"


def majority(lab: Lab) -> tuple[Host, ...]:
    """Return the smallest set of servers without which no leader can be: the last ones."""
    servers = lab.servers
    return servers[len(servers) - (len(servers) // 2 + 1) :]


def other_address(lab: Lab, host: Host) -> str:
    """Return an address for a machine that replaces `host`: ten higher, or the next ten that is free."""
    taken = {other.address for other in lab.hosts}
    first = int(host.address.rsplit(".", 1)[1])
    for last in range(first + 10, 250, 10):
        if f"{NETWORK_PREFIX}.{last}" not in taken:
            return f"{NETWORK_PREFIX}.{last}"
    raise LabError(f"No address is left for a machine that replaces {host.name}.")


async def stop_one(lab: Lab) -> None:
    """Stop the agent of the last server with systemctl; the rest goes on with a leader."""
    await lab.servers[-1].run("systemctl stop consul")


async def stop_majority(lab: Lab) -> None:
    """Stop the agents of a majority with systemctl: no leader until they are started (then 1.8.7 heals itself)."""
    await asyncio.gather(*(host.run("systemctl stop consul") for host in majority(lab)))


async def stop_all(lab: Lab) -> None:
    """Stop all server agents at once, without a leave; 1.8.7 heals itself once they are started."""
    await asyncio.gather(*(stop_without_leave(host) for host in lab.servers))


async def leave_all(lab: Lab) -> None:
    """Restart all servers, stopped one after the other with systemctl (SIGINT: up to 0.6 a graceful leave).

    On 0.6.4 all are followers for ever then; 1.8.7 heals itself. 2 s apart, as in the trials on real 0.6.4.
    """
    await leave_stopped(lab)
    await asyncio.gather(*(host.run("systemctl --no-block start consul") for host in lab.servers))


async def leave_stopped(lab: Lab) -> None:
    """Stop all servers with systemctl, 2 s apart, and leave them so: up to 0.6 each leaves; s1 is stalest then.

    The next one is stopped under a leader of the rest: only a leader can take a server off that leaves.
    """
    for number, host in enumerate(lab.servers, start=1):
        await host.run("systemctl stop consul; systemctl reset-failed consul", check=False)
        await asyncio.sleep(2.0)
        if number < len(lab.servers) / 2:
            await lab.cluster.wait_for_leader()


async def stop_without_leave(host: Host) -> None:
    """Stop one agent by kill -9 and keep it stopped, whatever its unit says about signals and ExecStop.

    A plain kill would be answered by a new process within 100 ms (Restart=on-failure), which a late
    `systemctl stop` would then make leave (up to 0.6).
    """
    dropin = "/run/systemd/system/consul.service.d"
    await host.run(
        f"mkdir -p {dropin} && printf '{_KILL_DROPIN}' >{dropin}/lab-kill.conf && systemctl daemon-reload"
        f" && systemctl stop consul; rm {dropin}/lab-kill.conf; systemctl daemon-reload;"
        " systemctl reset-failed consul || true"
    )


async def lose_majority(lab: Lab) -> None:
    """Power a majority off: the survivors have no leader until it is back. Take it as gone for good."""
    await asyncio.gather(*(host.kill() for host in majority(lab)))


async def replace_majority(lab: Lab) -> None:
    """Put empty machines at other addresses in the place of a majority: no leader, and none comes by itself."""
    for host in majority(lab):
        await lab.replace(host.name, address=other_address(lab, host))


async def replace_one(lab: Lab) -> None:
    """Put an empty machine at another address in the place of the last server; autopilot copes."""
    host = lab.servers[-1]
    await lab.replace(host.name, address=other_address(lab, host))


async def wipe_majority(lab: Lab) -> None:
    """Empty the data of a majority and start it again at the same addresses; 1.8.7 heals itself (new node ids)."""
    lost = majority(lab)
    await asyncio.gather(*(host.wipe_disk() for host in lost))
    await asyncio.gather(*(host.run("systemctl --no-block start consul") for host in lost))


async def power_cut(lab: Lab) -> None:
    """Cut the power of all hosts at once and switch them on again; 1.8.7 heals itself."""
    await asyncio.gather(*(host.kill() for host in lab.hosts))
    await asyncio.gather(*(host.start() for host in lab.hosts))


async def move_all(lab: Lab) -> None:
    """Bring all servers back under other addresses; from raft protocol 3 on it heals itself through gossip."""
    await asyncio.gather(*(host.kill() for host in lab.servers))
    for host in lab.servers:
        await lab.move(host.name, address=other_address(lab, host))


async def cut_one(lab: Lab) -> None:
    """Pull the network cable of the last server; it goes on by itself and cannot be reached."""
    await lab.servers[-1].link(up=False)


async def cut_majority(lab: Lab) -> None:
    """Pull the network cables of a majority: no leader anywhere until they are back."""
    await asyncio.gather(*(host.link(up=False) for host in majority(lab)))


async def freeze_one(lab: Lab) -> None:
    """SIGSTOP the agent of the last server: the port is open and nobody answers."""
    await lab.servers[-1].run("systemctl kill --signal=STOP consul")


async def truncate_raft(lab: Lab) -> None:
    """Cut raft.db of the last server behind its two meta pages; its agent fails at every start.

    Of half a raft.db an agent may read what it needs, write, and so make the file whole enough to go on.
    """
    host = lab.servers[-1]
    await stop_without_leave(host)
    await host.run(f"truncate --size=8192 /{CONSUL_DATA}/raft/raft.db; systemctl --no-block start consul")


async def spoil_peers_json(lab: Lab) -> None:
    """Restart the last server with a peers.json that cannot be parsed; 1.8.7 refuses to start."""
    host = lab.servers[-1]
    await stop_without_leave(host)
    file = f"/{CONSUL_DATA}/raft/peers.json"
    await host.run(f"echo '[{{' >{file} && chown consul: {file} && systemctl --no-block start consul")


async def fill_disk(lab: Lab) -> None:
    """Leave the last server's data folder 64 KiB of free space; what it does then is Consul's own story."""
    host = lab.servers[-1]
    await stop_without_leave(host)
    data = f"/{CONSUL_DATA}"
    await host.run(
        f"cp --archive {data} {data}.kept && need=$(($(du --summarize --block-size=1024 {data} | cut -f1) + 64))"
        f" && mount -t tmpfs -o size=${{need}}k,mode=700,uid=$(id -u consul),gid=$(id -g consul) tmpfs {data}"
        f" && cp --archive {data}.kept/. {data} && systemctl --no-block start consul"
    )


BREAKAGES: Mapping[str, Breakage] = {
    "stop-one": stop_one,
    "stop-majority": stop_majority,
    "stop-all": stop_all,
    "leave-all": leave_all,
    "leave-stopped": leave_stopped,
    "lose-majority": lose_majority,
    "replace-one": replace_one,
    "replace-majority": replace_majority,
    "wipe-majority": wipe_majority,
    "power-cut": power_cut,
    "move-all": move_all,
    "cut-one": cut_one,
    "cut-majority": cut_majority,
    "freeze-one": freeze_one,
    "truncate-raft": truncate_raft,
    "spoil-peers-json": spoil_peers_json,
    "fill-disk": fill_disk,
}


async def break_cluster(lab: Lab, word: str) -> None:
    """Break a lab's cluster in the way that `word` names; raises LabError if there is no such way."""
    breakage = BREAKAGES.get(word)
    if breakage is None:
        raise LabError(f"No way to break a cluster is called {word!r}. There are: {', '.join(BREAKAGES)}.")
    await breakage(lab)
