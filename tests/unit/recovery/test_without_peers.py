"""Servers that know no peer: emptied by a graceful stop below 0.7, or never bootstrapped. With real captures."""

import json
from pathlib import Path

import msgspec
import pytest

from recovery.adapters import answers
from recovery.adapters.journal_lines import telling
from recovery.boltfile import drive
from recovery.diagnosis import (
    ElectionInProgress,
    Healthy,
    NeverBootstrapped,
    PeersEmptied,
    ServersStopped,
    diagnose,
)
from recovery.model import (
    AgentView,
    ClusterObservation,
    DirectoryView,
    ServerName,
    ServerObservation,
    StoredLog,
)
from recovery.raftentry import LogPosition
from recovery.raftlog import load_server, reader
from tests.builders.observations import NOTHING_KNOWN, blank, cluster, host, unreachable

DATA = Path(__file__).parents[2] / "data"


def section(state: str, server: str, name: str) -> str:
    text = (DATA / "captures" / state / f"{server}.txt").read_text(encoding="utf-8")
    if f"### {name}\n" not in text:
        return ""  # Not every capture has every answer.
    body = text.split(f"### {name}\n", 1)[1].split("\n### ", 1)[0]
    return "\n".join(line for line in body.splitlines() if not line.startswith(("# HTTP", "X-Consul-")))


def log_of(server: str) -> StoredLog:
    """What the captured raft.db of a stopped 0.6.4 server says."""
    raw = (DATA / "raftdb" / f"0.6.4-{server}.raft.db").read_bytes()
    log = drive(load_server("", len(raw), ()), reader(lambda offset, length: raw[offset : offset + length]))
    assert log.configuration is not None
    return StoredLog(last=log.last, term=log.log.current_term, configuration=log.configuration.servers)


def captured(state: str, server: str) -> ServerObservation:
    """A running server, as `look`, its agent and its journal showed it."""
    view = AgentView(
        leader_address=answers.parse_leader(section(state, server, "GET /v1/status/leader")),
        peers=answers.parse_addresses(section(state, server, "GET /v1/status/peers")),
        members=answers.parse_members(section(state, server, "GET /v1/agent/members")),
    )
    view = answers.with_self(view, section(state, server, "GET /v1/agent/self"))
    view = answers.with_stats(view, answers.parse_info(section(state, server, "consul info")))
    is_blank = view.last is not None and view.last.index == 0
    old = view.version.startswith("0.6")
    return ServerObservation(
        name=ServerName(server),
        address=f"198.51.100.1{server[1]}",
        host=host(
            running=True,
            version=view.version,
            peers_json=section(state, server, "peers.json") if old else None,
        ),
        agent=view,
        stored=log_of(server) if old and not view.peers else None,
        directory=DirectoryView() if is_blank else None,
        journal=telling(section(state, server, "journal").splitlines()),
    )


def stopped_old(server: str, *, peers_json: str | None = "null") -> ServerObservation:
    """A stopped 0.6.4 server: only its program, its files and its raft.db tell anything."""
    return ServerObservation(
        name=ServerName(server),
        address=f"198.51.100.1{server[1]}",
        host=host(running=False, version="0.6.4", peers_json=peers_json, peers_info=False),
        stored=log_of(server),
    )


def stuck(*servers: ServerObservation) -> ClusterObservation:
    """The captured stuck cluster, some of it replaced."""
    others = {server.name: server for server in servers}
    return cluster(*(others.get(ServerName(n)) or captured("0.6.4-stuck", n) for n in ("s1", "s2", "s3")))


class TestPeersEmptied:
    def test_the_captured_cluster_is_called_by_its_name(self) -> None:
        """Three followers of 0.6.4 with `null` in peers.json are emptied, with what proves it as evidence."""
        found = diagnose(stuck())
        assert isinstance(found, PeersEmptied)
        assert found.servers == ("s1", "s2", "s3")
        assert "0.6.4" in found.headline
        told = " ".join(found.evidence)
        assert "s2: raft/peers.json holds null" in told
        assert "EnableSingleNode disabled, and no known peers. Aborting election." in told

    @pytest.mark.parametrize("text", ["null", "[]", None])
    def test_it_is_known_with_every_agent_down(self, text: str | None) -> None:
        """The version comes from the program then; `null`, `[]` and no file are all no peers."""
        found = diagnose(stuck(*(stopped_old(name, peers_json=text) for name in ("s1", "s2", "s3"))))
        assert isinstance(found, PeersEmptied)

    def test_only_itself_as_peer_is_no_peer(self) -> None:
        """One that replayed its own removal is left with itself, and can begin no election."""
        own = json.dumps(["198.51.100.12:8300"])
        seen = stuck(
            *(stopped_old(name, peers_json=own if name == "s2" else "null") for name in ("s1", "s2"))
        )
        assert isinstance(diagnose(seen), PeersEmptied)

    def test_stopped_servers_that_have_peers_are_only_started(self) -> None:
        """A peers.json with all three is a cluster that starts by itself."""
        all_three = json.dumps([f"198.51.100.1{n}:8300" for n in (1, 2, 3)])
        seen = stuck(*(stopped_old(name, peers_json=all_three) for name in ("s1", "s2", "s3")))
        assert isinstance(diagnose(seen), ServersStopped)

    def test_one_with_peers_is_enough_to_wait_for_it(self) -> None:
        """While one server still knows the others it is not this situation."""
        all_three = json.dumps([f"198.51.100.1{n}:8300" for n in (1, 2, 3)])
        found = diagnose(stuck(stopped_old("s3", peers_json=all_three)))
        assert not isinstance(found, PeersEmptied | NeverBootstrapped)

    def test_a_server_that_is_not_reached_is_named_and_not_called_dead(self) -> None:
        """It is the same situation without it; whether it is gone, only the operator says."""
        found = diagnose(stuck(unreachable("s3")))
        assert isinstance(found, PeersEmptied)
        assert found.unseen == ("s3",)
        assert "--lost s3" in found.advice

    def test_a_peers_file_that_cannot_be_read_is_not_an_empty_one(self) -> None:
        """Half a file on a stopped server says nothing; no cure is guessed from it."""
        assert not isinstance(diagnose(stuck(stopped_old("s3", peers_json='["198.'))), PeersEmptied)

    def test_from_0_7_on_it_does_not_exist(self) -> None:
        """There the peers are in the log, and a file that says `null` is nothing that was emptied."""
        newer = [
            msgspec.structs.replace(
                stopped_old(name), host=host(running=False, version="0.7.0", peers_json="null")
            )
            for name in ("s1", "s2", "s3")
        ]
        assert not isinstance(diagnose(cluster(*newer)), PeersEmptied)


class TestNeverBootstrapped:
    def test_the_captured_cluster_is_called_by_its_name(self) -> None:
        """Three servers of 1.8.7 that expect five, without any log."""
        seen = cluster(*(captured("1.8.7-never-bootstrapped", name) for name in ("s1", "s2", "s3")))
        found = diagnose(seen, past=NOTHING_KNOWN)
        assert isinstance(found, NeverBootstrapped)
        assert "no known peers, aborting election" in " ".join(found.evidence)

    def test_one_server_with_a_log_is_enough_not_to_found_a_new_cluster(self) -> None:
        """Blank servers beside data are no new cluster."""
        assert not isinstance(
            diagnose(cluster(blank("s1"), blank("s2"), stopped_old("s3")), past=NOTHING_KNOWN),
            NeverBootstrapped,
        )

    def test_a_server_out_of_sight_may_hold_the_data(self) -> None:
        """Every server of the settings must be seen to be blank."""
        assert not isinstance(
            diagnose(cluster(blank("s1"), blank("s2"), unreachable("s3")), past=NOTHING_KNOWN),
            NeverBootstrapped,
        )

    def test_blank_servers_below_0_7_were_never_bootstrapped_either(self) -> None:
        """Without any log `null` in peers.json is how 0.6 begins, not what a stop left."""
        none = [
            ServerObservation(
                name=ServerName(name),
                address=f"198.51.100.1{name[1]}",
                host=host(running=False, version="0.6.4", peers_json="null", raft_db_bytes=-1),
                stored=StoredLog(last=None, term=0, configuration=()),
                directory=DirectoryView(),
            )
            for name in ("s1", "s2", "s3")
        ]
        assert isinstance(diagnose(cluster(*none), past=NOTHING_KNOWN), NeverBootstrapped)


def test_the_captured_logs_say_who_left_last() -> None:
    """s1 was told first and is stalest; s3 alone ends with itself as only peer."""
    assert log_of("s1").last == LogPosition(1, 45)
    assert {peer.address for peer in log_of("s2").configuration} == {"198.51.100.13:8300"}
    assert {peer.address for peer in log_of("s3").configuration} == {"198.51.100.13:8300"}


def test_a_healthy_cluster_below_0_7_is_healthy() -> None:
    """There are no node ids: its voters are known by their addresses."""
    seen = diagnose(cluster(*(captured("0.6.4-healthy", name) for name in ("s1", "s2", "s3"))))
    assert isinstance(seen, Healthy), seen


def test_a_mixed_cluster_that_elects_is_left_alone() -> None:
    """The healthy capture of 0.6.4 is healthy: a live peers.json is nobody's leftover."""
    seen = cluster(*(captured("0.6.4-healthy", name) for name in ("s1", "s2", "s3")))
    assert not isinstance(diagnose(seen), PeersEmptied | ElectionInProgress)
