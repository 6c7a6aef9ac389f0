"""The planted bugs can be planted in today's source."""

from pathlib import Path

import pytest

from tests.planted.bugs import BUGS, Edit

ROOT = Path(__file__).resolve().parents[2]
EDITS = [pytest.param(edit, id=f"{bug.name}-{at}") for bug in BUGS for at, edit in enumerate(bug.edits)]


@pytest.mark.parametrize("edit", EDITS)
def test_what_is_replaced_is_there_exactly_once(edit: Edit) -> None:
    """A bug that no longer applies would be one that no test has to catch."""
    assert (ROOT / edit.path).read_text().count(edit.old) == 1


def test_each_has_a_name_of_its_own_and_tests_that_exist() -> None:
    """A bug is chosen by its name, and its tests have to see it."""
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    assert all((ROOT / test).exists() for bug in BUGS for test in bug.tests)
