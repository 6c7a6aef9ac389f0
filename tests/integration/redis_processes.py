"""Real redis-server and Sentinel processes on the loopback of the lab's control network, and certificates."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab.root import ensure_root

LOCALHOST = "127.0.0.1"
# The folder is mounted in a mount namespace of its own; the network is the one of whoever starts it.
_INSIDE = """set -eu
root=$1 folder=$2
shift 2
mount --bind "$folder" "$root/mnt"
exec chroot "$root" redis-server "$@"
"""


@dataclass
class RedisProcess:
    """One process; its data stays in the folder over kill and start."""

    folder: Path
    options: tuple[str, ...]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it; whoever needs it waits until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
                    *("sh", "-c", _INSIDE, "redis", str(ensure_root()), str(self.folder), *self.options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        """What it printed."""
        return (self.folder / "log").read_text(errors="replace")


@contextmanager
def processes(*members: RedisProcess) -> Iterator[None]:
    """Start all, and kill what still runs at the end."""
    try:
        for member in members:
            member.start()
        yield
    finally:
        for member in members:
            member.kill()


def server(folder: Path, *options: str) -> RedisProcess:
    """A redis-server that writes before it answers."""
    folder.mkdir()
    durable = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    return RedisProcess(folder, ("--bind", LOCALHOST, "--dir", "/mnt", *durable, *options))


def sentinel(folder: Path, *, port: int, lines: tuple[str, ...]) -> RedisProcess:
    """A Sentinel; it rewrites its own configuration."""
    folder.mkdir()
    text = "\n".join((f"bind {LOCALHOST}", f"port {port}", "dir /mnt", *lines, ""))
    (folder / "sentinel.conf").write_text(text)
    return RedisProcess(folder, ("/mnt/sentinel.conf", "--sentinel"))


async def answers(port: int) -> None:
    """Wait until somebody listens; TimeoutError after 20 s."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection(LOCALHOST, port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return


# --- Certificates -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Authority:
    """A certificate authority for one test."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    path: Path

    @classmethod
    def make(cls, folder: Path, name: str) -> Authority:
        """A new one, with its certificate in the folder."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named(name)
        certificate = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        path = folder / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(key, certificate, path)

    def issue(self, folder: Path, name: str) -> tuple[Path, Path]:
        """A certificate for the loopback address and its key, as two files."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_named(name), self.certificate.subject, key.public_key())
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOCALHOST))]), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )
        cert_path, key_path = folder / f"{name}.crt", folder / f"{name}.key"
        cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return cert_path, key_path


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
    )
