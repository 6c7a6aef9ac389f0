"""The set-up on real parts: the doctor finds all of it good; then one thing is wrong, one message says it."""

from __future__ import annotations

import asyncio
import json
import socket

import asyncssh

from lab.bot_settings import write_settings
from lab.breakage import stop_without_leave
from lab.datacentre import Lab
from lab.slack import LocalSlack
from tests.integration.terminal_process import alice_is_us, consul_recovery

# An act needs sudo, and a look writes nothing: both would show here.
STATE = """
ls -Ad /var/lib/consul-recovery 2>&1
find /var/lib/consul/raft -name 'peers*'
systemctl show --property=ExecMainPID,ExecMainStartTimestampMonotonic,ActiveState,DropInPaths consul
"""
NO_SUDO = "mv /etc/sudoers.d/recovery /root/sudoers"
SUDO_AGAIN = "mv /root/sudoers /etc/sudoers.d/recovery"
NEW_HOST_KEY = """
rm /etc/ssh/ssh_host_ed25519_key*
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
systemctl restart ssh
"""


async def test_what_bars_the_way_is_said_in_one_message_and_nothing_is_touched(lab: Lab) -> None:
    """The doctor passes, then names the one host without sudo; a recovery without a way in refuses with why."""
    await lab.up(servers=3)
    stranger = lab.folder / "stranger"
    stranger.touch(mode=0o600)
    stranger.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    redis = await lab.redis()
    async with LocalSlack(sockets=[socket.create_server(("127.0.0.1", 0))]) as slack:
        good, strange = (
            write_settings(
                lab.folder / f"barred-{key.name}",
                slack_api_url=slack.api_url,
                bot_token=slack.bot_token,
                app_token=slack.app_token,
                redis_url=redis,
                ssh_user=lab.ssh_user,
                ssh_key=key,
                known_hosts=lab.known_hosts,
                servers={host.name: host.address for host in lab.servers},
                cluster="barred",
            )
            for key in (lab.ssh_key, stranger)
        )
        for settings in (good, strange):
            alice_is_us(settings)
        well = await consul_recovery(good, "doctor")
        assert (well.status, well.err) == (0, "")
        # No bot runs here, and Redis is as it comes: to start the one and close the other is what is left.
        everybodys, left = [line for line in well.out.splitlines() if line.startswith("WARNING")]
        assert "asks for no password of our user default" in everybodys
        assert "no bot runs with these settings" in left
        words = {line.split()[0] for line in well.out.splitlines()[:-2] if not line.startswith(" ")}
        assert words == {"ok", "WARNING"}, well.out

        await lab.host("s2").run(NO_SUDO)
        ill = await consul_recovery(good, "doctor", "--json")
        found = json.loads(ill.out)
        assert (ill.status, found["ok"]) == (1, False)
        [step] = [each for each in found["findings"] if each["verdict"] == "failed"]
        assert (step["check"], step["subject"]) == ("host", "barred/s2")
        assert "sudo does not let recovery do this (sudo: a password is required)" in step["message"]
        assert "/etc/sudoers.d" in step["message"]
        await lab.host("s2").run(SUDO_AGAIN)

        # From here on there would be something to do: two servers to start.
        await asyncio.gather(*(stop_without_leave(lab.host(name)) for name in ("s2", "s3")))
        before = [await host.run(STATE) for host in lab.servers]
        assert "No such file" in before[0]
        for settings, broken, mended, said in (
            (strange, "true", "true", f"sshd does not accept the key {stranger}"),
            (good, NO_SUDO, SUDO_AGAIN, "sudo does not let recovery do this"),
            (good, NEW_HOST_KEY, "true", f"its SSH host key is not the one in {lab.known_hosts}"),
        ):
            await asyncio.gather(*(host.run(broken) for host in lab.servers))
            refused = await consul_recovery(settings, "recover")
            assert (refused.status, refused.err) == (1, "")
            for host in lab.servers:
                assert (
                    f"{host.name}: its host answers, but it could not be looked at ({host.address}: {said}"
                    in refused.out
                )
            assert "No plan; nothing was done" in refused.out
            assert "Next: " in refused.out
            await asyncio.gather(*(host.run(mended) for host in lab.servers))
        assert [await host.run(STATE) for host in lab.servers] == before
        slack.assert_clean()
