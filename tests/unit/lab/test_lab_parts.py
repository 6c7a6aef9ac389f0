"""The parts of the lab that only decide: mirror, control groups, configuration, two leaders."""

from typing import Any

import pytest

from lab.agent import AclTokens, ClusterSettings, ConsulProgram, agent_config
from lab.cgroup import cgroup_mount
from lab.errors import LabError
from lab.root import PUBLIC_MIRROR, mirrors, pick_mirror
from lab.sampler import Sample, overlaps

DEBIAN = 'ID=debian\nVERSION_CODENAME=bookworm\nNAME="Debian GNU/Linux"\n'


@pytest.mark.parametrize(
    ("os_release", "targets", "mirror"),
    [
        (
            DEBIAN,
            "http://sec.example/s bookworm-security main\nhttp://a.example/d bookworm main\n",
            "http://a.example/d",
        ),
        (DEBIAN, "http://vendor.example/apt nodistro main\n", PUBLIC_MIRROR),
        (DEBIAN, "", PUBLIC_MIRROR),
        (
            'ID="debian"\nVERSION_CODENAME="trixie"\n',
            "http://a.example/d trixie main\n",
            "http://a.example/d",
        ),
        ("ID=ubuntu\nVERSION_CODENAME=noble\n", "http://ubuntu.example/u noble main\n", PUBLIC_MIRROR),
    ],
)
def test_mirror_is_what_the_machine_is_set_to(os_release: str, targets: str, mirror: str) -> None:
    """The machine's own Debian mirror is taken, never a security site, a vendor's, or another system's."""
    assert pick_mirror(os_release, targets) == mirror


def test_mirrors_can_be_set() -> None:
    """LAB_MIRROR replaces both mirrors, LAB_MIRROR_OLD the old release's alone."""
    assert mirrors({"LAB_MIRROR": "http://m.example"}) == ("http://m.example", "http://m.example")
    both = mirrors({"LAB_MIRROR": "http://m.example", "LAB_MIRROR_OLD": "http://old.example"})
    assert both == ("http://m.example", "http://old.example")


def test_cgroup_v2_is_found_where_it_is_mounted() -> None:
    """v2 is found beside v1 or alone, and a machine without is told so."""
    mixed = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    assert str(cgroup_mount(mixed)) == "/sys/fs/cgroup/unified"
    assert str(cgroup_mount("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")) == "/sys/fs/cgroup"
    with pytest.raises(LabError, match="cgroup v2"):
        cgroup_mount("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n")


def settings(version: tuple[int, int, int], **changes: Any) -> ClusterSettings:
    """Settings of a three-server cluster of that version."""
    values: dict[str, Any] = {
        "program": ConsulProgram(path=None, version=version),
        "bootstrap_expect": 3,
        "raft_multiplier": 1,
        "server_stabilization_time_s": 1.0,
        "sudoers": "",
        "tokens": None,
        "config": {},
    }
    return ClusterSettings(**values | changes)


def test_old_agents_get_no_key_they_do_not_know() -> None:
    """0.6 knows neither performance nor autopilot and refuses keys that it does not know."""
    old = agent_config(settings((0, 6, 4)), name="s1", address="198.51.100.11", server=True, join=[])
    new = agent_config(settings((1, 8, 7)), name="s1", address="198.51.100.11", server=True, join=[])
    assert set(new) - set(old) == {"performance", "autopilot"}


def test_token_names_follow_the_version() -> None:
    """The recovery token's key was renamed in 1.11, and ACL blocks came with 1.4."""
    tokens = AclTokens(management="m", agent_recovery="r", agent="a")
    names = {
        version: agent_config(
            settings(version, tokens=tokens), name="s1", address="198.51.100.11", server=True, join=[]
        )["acl"]["tokens"]
        for version in ((1, 8, 7), (1, 11, 0))
    }
    assert names[1, 8, 7] == {"master": "m", "agent_master": "r", "agent": "a"}
    assert names[1, 11, 0] == {"initial_management": "m", "agent_recovery": "r", "agent": "a"}
    with pytest.raises(LabError, match=r"1\.4"):
        agent_config(settings((1, 3, 0), tokens=tokens), name="s1", address="a", server=True, join=[])


def reign(server: str, since: float, until: float, *, address: str = "a") -> list[Sample]:
    """Samples every 0.2 s, from 0 to 10 s, of a server that leads from one time to another."""
    times = [n / 5 for n in range(51)]
    return [Sample(server, address, at, at + 0.01, since <= at <= until) for at in times]


def test_overlap_within_the_lease_is_no_second_leader() -> None:
    """A deposed leader that has not noticed yet is no second leader; one that goes on is."""
    assert overlaps([*reign("s1", 0, 5), *reign("s2", 4.8, 10)], longer_than_s=0.5) == []
    (seen,) = overlaps([*reign("s1", 0, 6), *reign("s2", 4.8, 10)], longer_than_s=0.5)
    assert seen.servers == ("s1 (a)", "s2 (a)")
    assert (seen.since_s, seen.until_s) == pytest.approx((4.81, 6.0))


def test_sample_without_leadership_parts_two_reigns() -> None:
    """A server that was seen as follower in between did not lead all the time."""
    broken = [s for s in reign("s1", 0, 3) if s.asked_s <= 3] + [
        s for s in reign("s1", 7, 10) if s.asked_s > 3
    ]
    assert overlaps([*broken, *reign("s2", 3.2, 6.8)], longer_than_s=0.5) == []


def test_replaced_machine_can_be_the_second_leader_of_its_own_name() -> None:
    """Two machines of one name are told apart by their addresses."""
    (seen,) = overlaps([*reign("s1", 0, 9, address="a"), *reign("s1", 2, 9, address="b")], longer_than_s=0.5)
    assert seen.servers == ("s1 (a)", "s1 (b)")
