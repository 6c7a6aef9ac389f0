"""What can go wrong, as one small tree.

RecoveryError                    every fault of ours that a person may read
├── SettingsProblem              the settings do not describe something we can work with
├── StoreUnavailable             Redis does not answer, or refuses us
├── LeaseLost                    somebody else drives this run now; stop at once
├── OutOfDate                    the journal grew since it was read; read it again
├── StoreForgot                  the journal is not the one that was read: Redis lost what it had acknowledged
├── IllegalEvent                 an event that the run's history does not allow
├── UnknownKind                  stored data of a kind this version does not know
├── Unverified                   stored data that was not signed with our key, or not for where it stands
├── JournalUnreadable            a run whose journal holds something that cannot be read; only unlock is left
├── HostUnreachable              no SSH session to a host (network, key, host key, name)
│   └── HostHindered             the host answers, but what is there could not be seen: it is not gone
├── HostRefused                  host.sh said no: precondition, epoch, lock, space, sudo
│   └── HostBusy                 another call is at work on that host; it can be asked again
├── InventoryProblem             an Ansible inventory, or the program that prints it, cannot be used
├── RaftLogUnreadable            raft.db or a snapshot cannot be read safely (recovery.boltfile)
└── InDoubt                      a remote act was cut off: it may or may not have happened

Outcomes are values, faults are exceptions: "needs one more approval" or a
:class:`recovery.plan.Refusal` is returned, never raised. Every message says
what happened and what to do next, and may be shown to a person as it is;
none may carry a secret.
"""

from __future__ import annotations


class RecoveryError(Exception):
    """A fault that is told to a person in one message."""


class SettingsProblem(RecoveryError):
    """The settings cannot be worked with."""


class StoreUnavailable(RecoveryError):
    """Redis does not answer, or does not let us in."""


class LeaseLost(RecoveryError):
    """Another driver has taken this run over; whoever gets this stops at once."""


class OutOfDate(RecoveryError):
    """The journal is longer than the caller believed."""


class StoreForgot(RecoveryError):
    """The store lost what it had acknowledged (a failover, an old dump, an emptied store); stop at once."""

    @classmethod
    def shorter(cls, run: str, *, knows: int, read: int) -> StoreForgot:
        """Events that were read are gone."""
        return cls(
            f"Redis knows {knows} of the {read} events of run {run}: it has lost"
            " what it had acknowledged (a failover, a restored dump, an emptied store). This driver has"
            " stopped; the next one compares the journal with the hosts. Ask for the status."
        )

    @classmethod
    def other(cls, run: str, *, line: int) -> StoreForgot:
        """An event that was read is another one now."""
        return cls(
            f"Event {line} of run {run} is not the one that was read: Redis has lost what it had acknowledged"
            " (a failover, a restored dump), or somebody wrote to it. This driver has stopped; the next one"
            " compares the journal with the hosts. Ask for the status."
        )


class IllegalEvent(RecoveryError):
    """An event that the history of a run does not allow; it was not recorded."""


class UnknownKind(RecoveryError):
    """Stored data was written by another version; refusing beats guessing."""


class Unverified(RecoveryError):
    """Stored data does not carry our signature for the place where it stands; the text says why."""


class JournalUnreadable(RecoveryError):
    """A run whose journal cannot be read whole: it is neither driven nor decided on."""


class HostUnreachable(RecoveryError):
    """A host gave no SSH session: unreachable is *unknown*, never *dead*."""


class HostHindered(HostUnreachable):
    """The host answers SSH and lets nobody look: a key, a host key, a session that breaks off. It is not gone."""


class HostRefused(RecoveryError):
    """host.sh refused before it changed anything."""


class InventoryProblem(RecoveryError):
    """An Ansible inventory cannot be read, or the program that prints it failed."""


class HostBusy(HostRefused):
    """Another call holds the host's lock: an older driver's act may still be under way there."""


class InDoubt(RecoveryError):
    """A remote act was cut off before its outcome was seen."""
