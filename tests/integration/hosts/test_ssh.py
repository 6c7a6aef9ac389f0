"""Every way in which a host cannot be reached is one clear message with the next thing to do."""

import asyncio
import time
from pathlib import Path

import asyncssh
import msgspec
import pytest

from lab.datacentre import Lab
from recovery.adapters.host_commands import Host, HostAccess
from recovery.adapters.ssh import SshAccess, SshPool
from recovery.errors import HostRefused, HostUnreachable, InDoubt

pytestmark = pytest.mark.lab


async def complaint(access: SshAccess, address: str) -> str:
    pool = SshPool(access)
    try:
        with pytest.raises(HostUnreachable) as caught:
            await pool.run(address, "true", stdin=b"", timeout_s=10)
    finally:
        await pool.aclose()
    text = str(caught.value)
    assert "\n" not in text
    assert "Nothing was done." in text
    return text


def make_key(path: Path, *, passphrase: str | None = None) -> Path:
    key = asyncssh.generate_private_key("ssh-ed25519")
    path.write_bytes(key.export_private_key("pkcs8-pem", passphrase=passphrase))
    path.chmod(0o600)
    return path


async def test_a_key_that_the_host_does_not_know(lab: Lab, ssh_access: SshAccess, tmp_path: Path) -> None:
    """The message names the key and the user, and where the public half belongs."""
    access = msgspec.structs.replace(ssh_access, key_path=str(make_key(tmp_path / "key")))
    text = await complaint(access, lab.host("s1").address)
    assert "does not accept the key" in text
    assert "authorized_keys" in text


async def test_a_key_with_a_passphrase(lab: Lab, ssh_access: SshAccess, tmp_path: Path) -> None:
    """Nobody is there to type it: the message asks for another key."""
    path = make_key(tmp_path / "key", passphrase="hush")
    text = await complaint(msgspec.structs.replace(ssh_access, key_path=str(path)), lab.host("s1").address)
    assert "without a passphrase" in text
    assert "hush" not in text


async def test_a_host_key_that_has_changed(lab: Lab, ssh_access: SshAccess, tmp_path: Path) -> None:
    """A rebuilt host or somebody in between: the person has to look at the host itself."""
    public = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    known = tmp_path / "known_hosts"
    known.write_text(f"{lab.host('s1').address} {public}")
    access = msgspec.structs.replace(ssh_access, known_hosts_path=str(known))
    assert "is not the one in" in await complaint(access, lab.host("s1").address)


async def test_a_host_key_that_is_unknown(lab: Lab, ssh_access: SshAccess, tmp_path: Path) -> None:
    """First contact is never trusted blindly."""
    known = tmp_path / "known_hosts"
    known.touch()
    access = msgspec.structs.replace(ssh_access, known_hosts_path=str(known))
    assert "host key is unknown" in await complaint(access, lab.host("s1").address)


async def test_a_known_hosts_file_that_is_not_there(lab: Lab, ssh_access: SshAccess, tmp_path: Path) -> None:
    """It is named, so that a typing error in the settings is found at once."""
    access = msgspec.structs.replace(ssh_access, known_hosts_path=str(tmp_path / "none"))
    assert str(tmp_path / "none") in await complaint(access, lab.host("s1").address)


async def test_a_port_on_which_nobody_listens(lab: Lab, ssh_access: SshAccess) -> None:
    """Refused is not the same as no answer."""
    access = msgspec.structs.replace(ssh_access, port=2)
    assert "refuses SSH connections" in await complaint(access, lab.host("s1").address)


async def test_a_host_that_is_off(lab: Lab, ssh_access: SshAccess) -> None:
    """An address where nothing is: no answer, or no way there, within the limit."""
    text = await complaint(ssh_access, "198.51.100.99")
    assert "no SSH answer" in text or "no way to the host" in text


async def test_a_look_at_a_gone_host_is_answered_at_once_and_an_act_waits(
    lab: Lab, ssh_access: SshAccess
) -> None:
    """While the next attempt is under way, the last one's failure answers looks; acts get the attempt's own end."""
    host = lab.host("s3")
    pool = SshPool(msgspec.structs.replace(ssh_access, connect_timeout_s=3.0))
    try:
        await host.kill()
        with pytest.raises(HostUnreachable):
            await pool.run(host.address, "echo here", stdin=b"", timeout_s=10, patient=False)
        act = asyncio.create_task(pool.run(host.address, "echo here", stdin=b"", timeout_s=10))
        await asyncio.sleep(0)
        with pytest.raises(HostUnreachable):
            await pool.run(host.address, "echo here", stdin=b"", timeout_s=10, patient=False)
        assert not act.done()
        with pytest.raises(HostUnreachable):
            await act
        await host.start()
        assert (await pool.run(host.address, "echo here", stdin=b"", timeout_s=10)).stdout == b"here\n"
        look = await pool.run(host.address, "echo here", stdin=b"", timeout_s=10, patient=False)
        assert look.stdout == b"here\n"
    finally:
        await pool.aclose()


async def test_a_user_without_sudo(lab: Lab, pool: SshPool) -> None:
    """The message has the line to add; nothing was tried."""
    host = lab.host("s2")
    await host.run("mv /etc/sudoers.d/recovery /root/sudoers")
    try:
        with pytest.raises(HostRefused, match=r"NOPASSWD: /bin/sh -s"):
            await Host(pool, host.address, HostAccess(user=lab.ssh_user)).look()
    finally:
        await host.run("mv /root/sudoers /etc/sudoers.d/recovery")


async def test_a_command_that_does_not_end_is_in_doubt(lab: Lab, pool: SshPool) -> None:
    """It was sent: whether it was done is not known."""
    with pytest.raises(InDoubt, match="may still be at work"):
        await pool.run(lab.host("s1").address, "sleep 30", stdin=b"", timeout_s=0.5)


async def test_a_host_that_dies_in_the_middle_is_in_doubt(lab: Lab, ssh_access: SshAccess) -> None:
    """The power goes while a command runs; the keepalives notice."""
    host = lab.host("s3")
    pool = SshPool(msgspec.structs.replace(ssh_access, keepalive_s=0.3))
    try:
        at_work = asyncio.create_task(pool.run(host.address, "sleep 60", stdin=b"", timeout_s=60))
        deadline = time.monotonic() + 10
        while "sleep 60" not in await host.run("ps -eo args"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        await host.kill()
        with pytest.raises(InDoubt, match="cut off"):
            await at_work
    finally:
        await pool.aclose()


async def test_a_rebooted_host_is_reached_again(lab: Lab, pool: SshPool) -> None:
    """A kept connection that is dead is made anew, unseen by the caller."""
    host = lab.host("s3")
    assert (await pool.run(host.address, "echo one", stdin=b"", timeout_s=10)).stdout == b"one\n"
    await host.reboot()
    assert (await pool.run(host.address, "echo two", stdin=b"", timeout_s=10)).stdout == b"two\n"


async def test_many_callers_share_one_connection(lab: Lab, pool: SshPool) -> None:
    """Ten commands at once open one session to sshd, not ten."""
    host = lab.host("s1")
    await asyncio.gather(*(pool.run(host.address, "true", stdin=b"", timeout_s=10) for _ in range(10)))
    connections = await host.run("ss -Hnt state established sport = :22")
    assert len(connections.splitlines()) == 1, connections
