"""The operator's claims, checked both ways.

A claim ("s2 is gone for good") is about a node id. It is refused if that
server answers anybody, and there is no plan while a silent one is neither
reachable nor claimed (as CockroachDB's loss-of-quorum recovery does it).
"""

from __future__ import annotations

from recovery.diagnosis import Sight, Survey, VoterSight, survey
from recovery.diagnosis.survey import alive_in_gossip, bare, blank, sign_of_life
from recovery.model import ServerName, host_of
from recovery.plan import Claim, Silent


def contradictions(seen: Survey, lost: tuple[ServerName, ...]) -> tuple[str, ...]:
    """Say which claims do not fit what was seen."""
    problems: list[str] = []
    for name in lost:
        everybody = (*seen.voters, *seen.former)
        voters = [voter for voter in everybody if survey(seen.observation, (name,)).claimed(voter)]
        if not voters:
            known = ", ".join(voter.name for voter in seen.voters)
            problems.append(
                f"“{name}” is none of the voters that the freshest server knows: {known}."
                if known
                else f"No server's Raft configuration could be seen, so that {name} is gone could not be checked."
            )
        for voter in voters:
            alive = sign_of_life(voter, seen.observation)
            if alive:
                problems.append(f"You say {name} is gone for good, but {alive}.")
            elif voter.sight is Sight.HINDERED:
                problems.append(
                    f"You say {name} is gone for good, but its host answers; it only could not be looked at "
                    f"({seen.server(voter.name).host_problem}). Its agent may run, and its log may be the newest."
                )
            elif voter.sight is Sight.EMPTIED:
                problems.append(f"{name} is reached and blank: it joins at the end, do not claim it as lost.")
            elif voter.sight is Sight.UNREAD:
                problems.append(
                    f"You say {name} is gone for good, but its host answers; only where its data is could not be told. "
                    "Mend that first; its line in the status says what is in the way."
                )
            elif voter.sight is Sight.STOPPED and voter in seen.former:
                problems.append(
                    f"{name} is reached, and no voter of the newest peer set: the plan fences it, do not claim it."
                )
            elif voter.sight is Sight.STOPPED:
                problems.append(
                    f"You say {name} is gone for good, but its host is reached and its data is there: "
                    "starting it is the smaller act."
                )
    return tuple(problems)


def contradicted_by_gossip_alone(seen: Survey) -> bool:
    """Whether a claimed server is only *said* to be alive: gossip may not have noticed yet."""
    claimed = [voter for voter in seen.voters if seen.claimed(voter) and voter.sight is not Sight.RUNNING]
    return any(alive_in_gossip(voter, seen.observation) for voter in claimed)


def unaccounted(seen: Survey) -> tuple[VoterSight, ...]:
    """The voters that are neither there nor claimed."""
    there = seen.seen(Sight.RUNNING, Sight.STOPPED, Sight.EMPTIED)
    return tuple(voter for voter in seen.voters if voter not in there and not seen.claimed(voter))


def claimable(seen: Survey) -> tuple[VoterSight, ...]:
    """Of those the ones of which somebody may say that they are gone: never one whose host answers."""
    return tuple(voter for voter in unaccounted(seen) if voter.sight not in {Sight.HINDERED, Sight.UNREAD})


def claims(seen: Survey) -> tuple[Claim, ...]:
    """Turn the operator's words into claims about ids."""
    return tuple(
        Claim(ServerName(voter.claim_as), voter.node_id, voter.address, _fenced(voter, seen))
        for voter in (*seen.voters, *seen.former)
        if seen.claimed(voter)
    )


def left_out_are_silent(name: ServerName, seen: Survey) -> tuple[Silent, ...]:
    """Whom only this server's own set still names must not be there when it starts: it would vote with them."""
    own = {peer.id for peer in seen.server(name).configuration if peer.voter}
    return tuple(
        Silent(ServerName(voter.name), voter.node_id, voter.address)
        for voter in seen.former
        if voter.node_id in own and voter.sight not in {Sight.STOPPED, Sight.FENCED, Sight.RUNNING}
    )


def _fenced(voter: VoterSight, seen: Survey) -> bool:
    """Whether this plan holds what could come back: the host itself, or a blank one that has its address."""
    if voter.sight in {Sight.DAMAGED, Sight.FENCED}:
        return True
    host = host_of(voter.address)
    # On a bare host the old disk may only be unmounted: it would come back at the next boot, whatever is held now.
    return any(s.reached and s.address == host and blank(s) and not bare(s) for s in seen.observation.servers)
