"""The staged bootstrap and what stands in for it: one server alone, never two, and refused where it is wrong."""

import msgspec

from recovery.diagnosis import diagnose
from recovery.model import ClientAgent, ClusterObservation, ServerName
from recovery.plan import (
    LogEndsAlone,
    OverrideExpect,
    Plan,
    Proposal,
    Refusal,
    RemoveOverride,
    Risk,
    Silent,
    StartAgent,
    StopAgent,
    Undo,
    WritePeers,
)
from recovery.procedures import propose
from tests.builders.observations import NOTHING_KNOWN, cluster, peers, running, stopped
from tests.builders.runs import CLUSTER
from tests.fakes.fake_world import FakeServer, FakeWorld, never_bootstrapped, one_fenced, peers_emptied


async def seen(servers: tuple[FakeServer, ...]) -> ClusterObservation:
    """What a bot sees of these."""
    return await FakeWorld(CLUSTER, servers).observe()


def answer(
    found: ClusterObservation, *, lost: tuple[str, ...] = (), method: str | None = None
) -> Proposal | Refusal:
    names = tuple(ServerName(name) for name in lost)
    return propose(found, diagnose(found, names, past=NOTHING_KNOWN), lost=names, method=method)


def plan(found: ClusterObservation, *, lost: tuple[str, ...] = (), method: str | None = None) -> Plan:
    given = answer(found, lost=lost, method=method)
    assert isinstance(given, Proposal), given
    return given.plan


def refused(found: ClusterObservation, *, lost: tuple[str, ...] = (), method: str | None = None) -> str:
    given = answer(found, lost=lost, method=method)
    assert isinstance(given, Refusal), given.plan.summary
    return " ".join((*given.reasons, given.next_step))


def overridden(made: Plan) -> list[str]:
    return [step.action.server for step in made.steps if isinstance(step.action, OverrideExpect)]


def order(made: Plan, *ids: str) -> bool:
    known = [str(step.id) for step in made.steps]
    return [known.index(wanted) for wanted in ids] == sorted(known.index(wanted) for wanted in ids)


class TestStaged:
    async def test_the_last_to_leave_leads_alone(self) -> None:
        """s2 goes as far as s3, but only s3's own log ends with itself as the only peer."""
        made = plan(await seen(peers_emptied()))
        assert made.procedure == "staged"
        assert overridden(made) == ["s3"]
        assert LogEndsAlone(ServerName("s3"), "198.51.100.13:8300") in made.assumptions

    async def test_the_stages_come_in_their_order(self) -> None:
        """Stop, archive, one alone, a leader that stays, the rest, sorted, restarted, the override off, the leader."""
        made = plan(await seen(peers_emptied()))
        assert order(
            made, "hold-s1", "stop-s1", "archive-s1", "override-s3", "start-s3", "leader", "start-s1", "sort-s1",
            "stop-error-s1", "start-error-s1", "stop-follower-s1", "start-follower-s1", "override-off-s3",
            "stop-leader-s3", "new-leader", "start-again-s3", "verify",
        )  # fmt: skip

    async def test_it_is_the_same_plan_with_every_agent_down(self) -> None:
        """Whether the stuck servers run or not, the logs say the same."""
        assert overridden(plan(await seen(peers_emptied(running=False)))) == ["s3"]

    async def test_the_override_is_behind_the_line_and_taken_back_at_every_abort(self) -> None:
        """It is a loaded gun: approved with the irreversible, and undone also after its server was started."""
        made = plan(await seen(peers_emptied()))
        step = next(step for step in made.steps if isinstance(step.action, OverrideExpect))
        assert step.risk is Risk.IRREVERSIBLE
        assert isinstance(step.rollback, Undo)
        assert step.rollback.on_abort
        assert step.rollback.outlasts_start

    async def test_servers_that_cannot_be_restarted_with_two_have_no_wait_for_a_leader_between(self) -> None:
        """Of two servers one alone elects nobody: the leader comes with the start of the other."""
        _, s2, s3 = peers_emptied()
        made = plan(await seen((s2, s3)))
        assert "new-leader" not in [step.id for step in made.steps]

    async def test_a_blank_server_comes_last_and_beside_a_leader(self) -> None:
        """Two blank ones of 0.6 could found a cluster of their own; each starts only when there is a leader."""
        s1, s2, s3 = peers_emptied()
        s1.last, s1.log_voters, s1.keys = None, (), frozenset()
        made = plan(await seen((s1, s2, s3)))
        assert order(made, "leader", "start-follower-s2", "start-s1", "join-s1", "override-off-s3")
        assert "archive-s1" not in [step.id for step in made.steps]

    async def test_it_is_refused_from_0_7_on_with_the_reason(self) -> None:
        """There bootstrap_expect is ignored beside data, and founds a new cluster without."""
        three = peers("s1", "s2", "s3")
        text = refused(
            cluster(running("s1", voters=three), stopped("s2", voters=three), stopped("s3", voters=three)),
            method="staged",
        )
        assert "from Consul 0.7 on" in text
        assert "Raft data found, disabling bootstrap mode" in text

    async def test_a_server_that_only_gossip_knows_stops_it(self) -> None:
        """It may hold the newest log, or be in bootstrap mode itself."""
        three = peers_emptied()
        world = FakeWorld(CLUSTER, (*three, msgspec_copy(three[2], name="s4", address="198.51.100.14")))
        found = await world.observe()
        found = msgspec.structs.replace(found, servers=found.servers[:3])
        assert "s4" in refused(found)


def msgspec_copy(server: FakeServer, *, name: str, address: str) -> FakeServer:
    return FakeServer(
        name=ServerName(name),
        address=address,
        node_id="",
        version=server.version,
        voters=(),
        last=server.last,
        keys=server.keys,
        log_voters=server.log_voters,
    )


class TestPeersJsonAsBefore07:
    async def test_it_is_offered_beside_the_staged_one(self) -> None:
        """`--method peers-json`: the freshest and one more get the file and lead as a pair, the third joins them."""
        made = plan(await seen(peers_emptied()), method="peers-json")
        writes = [step.action for step in made.steps if isinstance(step.action, WritePeers)]
        assert [write.server for write in writes] == ["s2", "s3"]
        assert {write.raft_protocol for write in writes} == {0}
        assert [peer.address for peer in writes[0].peers] == [f"198.51.100.1{n}:8300" for n in (2, 3)]
        starts = [step.action.server for step in made.steps if isinstance(step.action, StartAgent)]
        assert list(dict.fromkeys(starts)) == ["s3", "s2", "s1"]
        assert order(made, "start-s2", "leader", "start-s1", "sort-s1", "peers-s1", "verify")

    async def test_a_silent_server_must_be_claimed(self) -> None:
        """Unreachable is not dead: its log may be the newest."""
        s1, s2, s3 = peers_emptied()
        s1.reachable = s1.running = False
        assert "--lost s1" in refused(await seen((s1, s2, s3)))

    async def test_with_the_last_to_leave_dead_it_is_proposed_with_the_reason(self) -> None:
        """Nobody that is left can lead alone; this one needs the claim, typed at approval."""
        s1, s2, s3 = peers_emptied()
        s3.reachable = s3.running = False
        given = answer(await seen((s1, s2, s3)), lost=("s3",))
        assert isinstance(given, Proposal)
        assert given.plan.procedure == "peers-json"
        assert given.plan.typed_names == ("s3",)
        assert any("No staged bootstrap" in line for line in given.report.findings)

    async def test_with_another_one_dead_the_last_to_leave_leads_alone(self) -> None:
        """A claimed server does not stand against the staged bootstrap; it has to stay silent."""
        s1, s2, s3 = peers_emptied()
        s1.reachable = s1.running = False
        made = plan(await seen((s1, s2, s3)), lost=("s1",))
        assert made.procedure == "staged"
        assert overridden(made) == ["s3"]
        assert made.typed_names == ("s1",)
        assert [check.name for check in made.assumptions if isinstance(check, Silent)] == ["s1"]

    async def test_a_claim_about_a_reached_server_is_refused(self) -> None:
        """Its data is there, whatever the operator types."""
        assert "its host is reached" in refused(await seen(peers_emptied()), lost=("s1",))

    async def test_where_no_log_ends_with_its_own_server_alone_it_is_proposed(self) -> None:
        """All left while nobody led: each log still has all three, so a file heals and nobody leads alone."""
        three = peers_emptied()
        everyone = tuple(server.me for server in three)
        for server in three:
            server.log_voters = everyone
        made = plan(await seen(three))
        assert made.procedure == "peers-json"


class TestFound:
    async def test_exactly_one_server_gets_the_override(self) -> None:
        """The others follow one by one, each a voter before the next starts."""
        made = plan(await seen(never_bootstrapped()))
        assert made.procedure == "bootstrap"
        assert overridden(made) == ["s1"]
        assert order(made, "leader", "start-s2", "join-s2", "start-s3", "join-s3", "override-off-s1")

    async def test_no_server_runs_while_the_first_one_is_started(self) -> None:
        """Everything is stopped and held before, so that nobody else founds a cluster at the same moment."""
        made = plan(await seen(never_bootstrapped()))
        assert order(made, "stop-s1", "stop-s2", "stop-s3", "override-s1", "start-s1")


class TestLeftovers:
    async def test_every_plan_takes_a_left_override_off_first(self) -> None:
        """The next start would take it; whoever left it, it goes before anything else."""
        three = peers_emptied()
        three[0].override_by, three[0].override = "r0", 1
        made = plan(await seen(three))
        assert made.steps[0].action == RemoveOverride(ServerName("s1"))
        assert "run r0" in made.steps[0].title

    async def test_a_led_cluster_with_a_left_override_is_not_healthy(self) -> None:
        """It is a trap that nobody sees until a server starts: taking it off is a plan of its own."""
        three = peers("s1", "s2", "s3")
        led = [
            running("s1", voters=three, leader=True),
            running("s2", voters=three),
            running("s3", voters=three),
        ]
        assert led[2].host is not None
        led[2] = msgspec.structs.replace(
            led[2], host=msgspec.structs.replace(led[2].host, override_by="r0", override=1)
        )
        found = cluster(*led)
        assert "run r0 left bootstrap_expect overridden" in diagnose(found).headline
        made = plan(found)
        assert [step.action for step in made.steps] == [RemoveOverride(ServerName("s3"))]

    async def test_a_readmission_takes_it_off_too(self) -> None:
        """A wiped server that expects itself alone would found a cluster of its own."""
        three = one_fenced()
        three[2].override_by, three[2].override = "r0", 1
        found = await seen(three)
        made = propose(found, diagnose(found), method="readmit", server=ServerName("s3"))
        assert isinstance(made, Proposal), made
        assert made.plan.steps[0].action == RemoveOverride(ServerName("s3"))


class TestClients:
    async def test_clients_come_last_in_batches_with_a_budget(self) -> None:
        """Of forty in batches of ten, four may be missing; each batch is stopped, started and counted."""
        clients = tuple(
            ClientAgent(ServerName(f"c{n}"), f"203.0.113.{n}", "the settings") for n in range(1, 41)
        )
        found = msgspec.structs.replace(await seen(peers_emptied()), clients=clients)
        made = plan(found)
        ids = [str(step.id) for step in made.steps]
        assert ids.index("verify") < ids.index("stop-client-c1")
        assert order(made, "stop-client-c10", "start-client-c1", "clients-1", "stop-client-c11", "clients-4")
        assert all(
            step.optional for step in made.steps if isinstance(step.action, StopAgent) and "client" in step.id
        )
        last = next(step for step in made.steps if step.id == "clients-4")
        assert "at most 4 of the 40" in last.title
