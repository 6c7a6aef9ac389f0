"""Which of the lab's tests are run with which Consul, and what is said of the others."""

import pytest

from tests.integration.fitting import OLD, Fit, Given, left_out, summary

GIVEN_NEW = Given("/opt/consul", (1, 18, 1))
GIVEN_OLD = Given("/opt/consul", (0, 6, 4))


class OneTest(pytest.Item):
    """A test with marks."""

    def runtest(self) -> None:
        """Nothing."""


@pytest.fixture
def items(request: pytest.FixtureRequest) -> dict[str, pytest.Item]:
    """One of each kind."""
    kinds = {
        "any": [],
        "lab": [pytest.mark.lab],
        "old": [pytest.mark.lab, pytest.mark.old_consul],
        "wal": [pytest.mark.lab, pytest.mark.consul(since=(1, 15, 0))],
        "protocol 2": [pytest.mark.lab, pytest.mark.consul(since=(0, 8, 0), below=(1, 9, 0))],
    }
    made: dict[str, pytest.Item] = {}
    for name, marks in kinds.items():
        made[name] = OneTest.from_parent(request.node.parent, name=name)
        for mark in marks:
            made[name].add_marker(mark)
    return made


@pytest.mark.parametrize(
    ("given", "unfit"),
    [
        (None, {"wal"}),
        (GIVEN_OLD, {"lab", "wal", "protocol 2"}),
        (GIVEN_NEW, {"old", "protocol 2"}),
        (Given("/opt/consul", (1, 8, 9)), {"old", "wal"}),
        (Given("/opt/consul", (0, 7, 0)), {"old", "wal", "protocol 2"}),
    ],
)
def test_a_test_runs_with_the_versions_that_it_is_about(
    given: Given | None, unfit: set[str], items: dict[str, pytest.Item]
) -> None:
    """Without a program the lab's own and its stand-in are at hand; with one, that alone."""
    assert {item.name for item in left_out(list(items.values()), given)} == unfit


def test_what_was_not_run_is_said(items: dict[str, pytest.Item]) -> None:
    """Nobody takes a run with one version for a run with all."""
    assert summary(GIVEN_NEW, ran=2, unfit=left_out(list(items.values()), GIVEN_NEW)) == [
        "LAB_CONSUL is Consul 1.18.1 (/opt/consul): 2 tests ran that fit it.",
        "Not run: 1 about Consul below 0.7.0; give one: make test-consul CONSUL=/path/to/consul",
        "Not run: 1 about Consul since 0.8.0 and below 1.9.0; give one: make test-consul CONSUL=/path/to/consul",
    ]


def test_the_border_belongs_to_the_newer_ones() -> None:
    """0.7.0 is no old Consul."""
    assert Fit().takes(OLD)
    assert not Fit(since=(0, 0, 0), below=OLD).takes(OLD)
