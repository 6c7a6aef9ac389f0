"""SSH connections that count what is run over them."""

from recovery.adapters.ssh import Completed, SshPool


class CountedPool(SshPool):
    """The pool, with a count of the commands."""

    count = 0

    async def run(
        self, host: str, command: str, *, stdin: bytes, timeout_s: float, patient: bool = True
    ) -> Completed:
        """Run it, and count it."""
        self.count += 1
        return await super().run(host, command, stdin=stdin, timeout_s=timeout_s, patient=patient)
