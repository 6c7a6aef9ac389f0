"""Where nobody can tell what an agent is configured with, it is neither gone nor blank, and no plan touches it."""

import msgspec
import pytest

from recovery.adapters.collect import api_problem, as_the_agent_says
from recovery.adapters.consul_api import AgentAccess
from recovery.diagnosis import Degraded, OutOfSight, Sight, diagnose, survey
from recovery.model import AgentView, ServerName, ServerObservation
from recovery.plan import Proposal, Refusal
from recovery.procedures import propose
from tests.builders.observations import cluster, host, peers, running, stopped, unreachable

WHY = "/etc/consul.d/a.hcl, line 7: a string does not end on its line"
THREE = peers("s1", "s2", "s3")


def unread(name: str) -> ServerObservation:
    """A stopped server whose host answered, with a configuration that cannot be read."""
    seen = stopped(name, voters=THREE)
    view = host(
        running=False, data_dir="", config_problem=WHY, node_id="", raft_db_bytes=-1, peers_info=False
    )
    return msgspec.structs.replace(seen, host=view, stored=None, stored_problem=WHY)


def test_a_host_that_answered_is_not_called_unreachable_and_nobody_is_told_to_claim_it() -> None:
    """What to do first is to mend the file that its line names."""
    found = diagnose(cluster(running("s1", voters=THREE), unread("s2"), unread("s3")))
    assert isinstance(found, OutOfSight)
    said = " ".join((found.headline, *found.evidence, found.advice))
    assert "not reachable" not in said
    assert "--lost" not in said
    assert WHY in said
    assert "s2, s3 answered, but what they hold could not be read" in found.advice


def test_a_claim_that_it_is_gone_is_refused() -> None:
    """Its data is where the file says, and only the file is not understood."""
    seen = cluster(running("s1", voters=THREE), unread("s2"), unread("s3"))
    lost = (ServerName("s2"), ServerName("s3"))
    answer = propose(seen, diagnose(seen, lost), lost=lost)
    assert isinstance(answer, Refusal)
    assert "its host answers" in answer.reasons[0]


def test_stopped_servers_that_all_cannot_be_read_are_no_new_cluster() -> None:
    """Case 08: with all data whole, `Found a NEW, EMPTY cluster` was proposed."""
    seen = cluster(unread("s1"), unread("s2"), unread("s3"))
    found = diagnose(seen)
    assert isinstance(found, OutOfSight)
    assert WHY in " ".join(found.unseen)
    assert "Bring the hosts" not in found.advice
    assert isinstance(propose(seen, found), Refusal)


def test_one_that_is_away_beside_it_still_has_to_come_back() -> None:
    """Unreachable is not dead, whatever else is in the way."""
    found = diagnose(cluster(unread("s1"), unreachable("s2"), unreachable("s3")))
    assert isinstance(found, OutOfSight)
    assert "Bring the hosts" in found.advice


def test_a_plan_that_would_touch_it_is_refused_with_the_file_and_the_line() -> None:
    """Also a start: what starts is not known to be what was stopped."""
    seen = cluster(running("s1", voters=THREE, leader=True), running("s2", voters=THREE), unread("s3"))
    found = diagnose(seen)
    assert isinstance(found, Degraded)
    answer = propose(seen, found)
    assert isinstance(answer, Refusal)
    assert answer.reasons == (f"s3: {WHY}.",)


def test_a_running_agent_that_contradicts_its_files_is_refused_too() -> None:
    """Stopped, its log would be looked for in another folder."""
    s1 = running("s1", voters=THREE)
    assert s1.host is not None
    assert s1.agent is not None
    view = as_the_agent_says(s1.host, msgspec.structs.replace(s1.agent, data_dir="/var/lib/other"))
    assert view.data_dir == ""
    assert "data_dir /var/lib/other, and its unit and files say /var/lib/consul" in view.config_problem
    seen = cluster(msgspec.structs.replace(s1, host=view), unreachable("s2"), unreachable("s3"))
    lost = (ServerName("s2"), ServerName("s3"))
    answer = propose(seen, diagnose(seen, lost), lost=lost)
    assert isinstance(answer, Refusal)
    assert "/var/lib/other" in " ".join(answer.reasons)
    assert survey(seen).voters[0].sight is Sight.RUNNING
    whole = cluster(s1, unreachable("s2"), unreachable("s3"))
    assert isinstance(propose(whole, diagnose(whole, lost), lost=lost), Proposal)


@pytest.mark.parametrize(
    "told", ["/var/lib/consul", "/var/lib/consul/", "/var//lib/consul", "consul", "./consul", ""]
)
def test_the_agents_own_word_for_the_same_folder_is_no_contradiction(told: str) -> None:
    """It tells its data_dir as it was written, relative to where it was started."""
    agent = AgentView(leader_address="", peers=(), data_dir=told, node_name="s1")
    view = host(running=True, node_name="s1")
    assert as_the_agent_says(view, agent) == view


def test_a_host_that_refuses_to_be_looked_at_is_not_called_unreachable() -> None:
    """No such unit, or sudo: somebody has to mend that, and nobody is gone."""
    refused = msgspec.structs.replace(
        unreachable("s2"), answers=True, host_problem="there is no unit consul.service on this host"
    )
    found = diagnose(cluster(running("s1", voters=THREE), refused, stopped("s3", voters=THREE)))
    assert "its host answers, but it could not be looked at (there is no unit" in " ".join(found.evidence)
    found = diagnose(cluster(running("s1", voters=THREE), refused, refused_as("s3")))
    said = " ".join((found.headline, *found.evidence, found.advice))
    assert "not reachable" not in said
    assert "--lost" not in said


def refused_as(name: str) -> ServerObservation:
    """Another one whose host refuses."""
    return msgspec.structs.replace(unreachable(name), answers=True, host_problem="sudo does not let us")


@pytest.mark.parametrize(
    ("configured", "reached"),
    [
        ({}, True),
        ({"http_port": 8500}, True),
        ({"http_port": 8500, "client_addr": "0.0.0.0"}, True),
        ({"http_port": 8500, "client_addr": "198.51.100.11"}, False),
        ({"http_port": 8500, "client_addr": "198.51.100.11 127.0.0.1"}, True),
        ({"http_port": 8500, "client_addr": "198.51.100.11", "http_addresses": "127.0.0.1"}, True),
        ({"http_port": 8500, "http_addresses": "unix:///run/consul.sock"}, False),
        ({"http_port": 8500, "client_addr": "{{ GetPrivateIP }}"}, False),
        ({"http_port": 8501}, False),
        ({"http_port": -1, "https_port": 8501}, False),
    ],
)
def test_no_server_is_started_whose_agent_would_not_answer_where_the_bot_asks(
    configured: dict[str, object], *, reached: bool
) -> None:
    """Case 13: the run waited behind its irreversible step for an API that was on another address."""
    s1 = stopped("s1", voters=THREE)
    view = host(running=False, node_id=s1.node_id, **configured)
    view = msgspec.structs.replace(view, api_problem=api_problem(view, AgentAccess()))
    assert (view.api_problem == "") == reached
    lost = (ServerName("s2"), ServerName("s3"))
    seen = cluster(msgspec.structs.replace(s1, host=view), unreachable("s2"), unreachable("s3"))
    answer = propose(seen, diagnose(seen, lost), lost=lost)
    assert isinstance(answer, Proposal if reached else Refusal)
    if isinstance(answer, Refusal):
        assert "http://127.0.0.1:8500" in answer.reasons[0]


def test_an_agent_that_answers_is_no_riddle_though_its_address_is_a_template() -> None:
    """What a template comes to only the agent knows: one that answers where the bot asks listens there."""
    seen = running("s1", voters=THREE)
    template = '{{ GetPrivateIP }} {{ GetInterfaceIP "lo" }}'
    view = host(running=True, node_id=seen.node_id, http_port=8500, client_addr=template)
    view = msgspec.structs.replace(view, api_problem=api_problem(view, AgentAccess()))
    assert view.api_problem
    assert seen.agent is not None
    assert as_the_agent_says(view, seen.agent).api_problem == ""
    elsewhere = msgspec.structs.replace(view, client_addr="198.51.100.11")
    assert as_the_agent_says(elsewhere, seen.agent).api_problem
