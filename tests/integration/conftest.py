"""The lab for tests: one for the whole session, empty and watched for two leaders in every test.

A test that asks for `lab` gets the mark of the same name, and the lab of the session without any host:
`await lab.up(...)` is its first line. The test process lives in the lab's control network from then on.
"""

import os
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

from lab.agent import HAS_WAL, consul_program
from lab.datacentre import Lab
from lab.errors import LabError
from lab.oldconsul.build import program as stand_in
from lab.root import ensure_root
from lab.sampler import LeaderSampler
from tests.integration.fitting import OLD, Fit, given_program, left_out, summary, told
from tests.integration.watching import journal, watched

_HERE = Path(__file__).parent
UNFIT = pytest.StashKey[dict[pytest.Item, Fit]]()


def pytest_report_header() -> list[str]:
    """Say which Consul is given, before anything is run with it."""
    given = given_program()
    return [] if given is None else [str(given)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark every test that stands on the lab, and those about one kind of Consul; leave out what no program is for."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        if _HERE in item.path.parents:
            # The tests of a module share a lab; all other tests go to whichever process is free.
            item.add_marker(pytest.mark.xdist_group(str(item.path.relative_to(_HERE))))
        if {"session_lab", "data_centre"} & set(item.fixturenames):
            item.add_marker(pytest.mark.lab)
        if "old_consul" in item.fixturenames:
            item.add_marker(pytest.mark.old_consul)
        if "wal_consul" in item.fixturenames:
            item.add_marker(pytest.mark.consul(since=HAS_WAL))
    unfit = left_out(items, given_program())
    if unfit:
        config.hook.pytest_deselected(items=list(unfit))
        items[:] = [item for item in items if item not in unfit]
    config.stash[UNFIT] = unfit


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was run with the Consul that is given, and what was not: nothing is known of that."""
    unfit: dict[pytest.Item, Fit] = config.stash.get(UNFIT, {})
    ended = (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed"))
    ran = sum(report.when == "call" for report in ended)
    for line in summary(given_program(), ran=ran, unfit=unfit):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def wal_consul() -> Path:
    """A Consul that has the WAL log store: the program that LAB_CONSUL names."""
    return Path(os.environ["LAB_CONSUL"])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach what every host's Consul and every bot logged last to the report of a test that failed."""
    report = yield
    given = item.funcargs if isinstance(item, pytest.Function) else {}
    # The tests of the adapters share a lab a module; the others have the session's.
    lab = given.get("data_centre", given.get("session_lab"))
    if report.failed and report.when == "call" and isinstance(lab, Lab):
        report.sections.extend((f"consul's journal on {host.name}", journal(host)) for host in lab.hosts)
        report.sections.extend(
            (
                f"log of the bot {path.parent.name}",
                "\n".join(path.read_text(errors="replace").splitlines()[-60:]),
            )
            for path in sorted(lab.folder.glob("**/bot*.log"))
        )
    return report


@pytest.fixture(scope="session")
def old_consul() -> Path:
    """A Consul below 0.7: the program that LAB_CONSUL names if it is set, else the lab's stand-in."""
    given = os.environ.get("LAB_CONSUL")
    path = Path(given) if given else stand_in()
    version = consul_program(ensure_root(), path).version
    if version >= OLD:
        pytest.fail(
            f"{path} is Consul {told(version)}, and these tests are about Consul below 0.7 (0.6.4 was measured)."
            " Nothing was tested with it. Give an older one: make test-consul CONSUL=/path/to/consul",
            pytrace=False,
        )
    return path


@pytest.fixture(scope="session")
def session_lab() -> Iterator[Lab]:
    """The lab of this session, entered, with its Redis running."""
    try:
        lab = Lab.make()
    except LabError as error:
        # Not a skip: a run that left the lab out would look like one that passed.
        pytest.exit(f"The lab cannot be made, so nothing was tested: {error}", returncode=4)
    try:
        lab.enter()
        lab.redis_server.start()
        yield lab
    finally:
        lab.destroy()


@pytest.fixture
async def bare_lab(session_lab: Lab) -> AsyncIterator[Lab]:
    """The lab without any host, cleared afterwards, and not watched: for tests of the watching itself."""
    try:
        yield session_lab
    finally:
        await session_lab.clear()


@pytest.fixture
async def leaders(bare_lab: Lab) -> AsyncIterator[LeaderSampler]:
    """The sampler that watches the test's servers; fails the test if two of them led at once."""
    async with watched(bare_lab) as sampler:
        yield sampler


@pytest.fixture
def lab(bare_lab: Lab, leaders: LeaderSampler) -> Lab:
    """The lab without any host, watched for two leaders."""
    assert leaders is not None
    return bare_lab
