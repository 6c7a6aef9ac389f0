"""`python -m lab`: a name that is no lab's is told, and nothing is taken away or shown for it."""

import sys
from pathlib import Path

import pytest

from lab import __main__ as command
from lab import teardown


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two labs of which only the folders are there."""
    monkeypatch.setattr(teardown, "STATE", tmp_path)
    for name in ("unit-a", "unit-b"):
        (tmp_path / name).mkdir()
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """Run it; what it ended with."""
    monkeypatch.setattr(sys, "argv", ["lab", *words])
    try:
        command.main()
    except SystemExit as end:
        return str(end.code or "")
    return ""


@pytest.mark.parametrize(
    "words", [("down", "unit-a"), ("--name", "unit-a", "down"), ("--name", "unit-a", "down", "unit-a")]
)
def test_a_lab_is_named_as_the_program_itself_writes_it(
    labs: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """`down NAME` and `--name NAME down` take away that one."""
    assert run(monkeypatch, *words) == ""
    assert [path.name for path in labs.iterdir()] == ["unit-b"]


@pytest.mark.parametrize(
    "words",
    [("down", "unit-x"), ("down",), ("--name", "unit-x", "down"), ("--name", "unit-x", "down", "unit-a")],
)
def test_a_mistyped_name_takes_nothing_away(
    labs: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """What is there is named instead."""
    told = run(monkeypatch, *words)
    assert "unit-a" in told
    assert "othing was taken away" in told
    assert len(list(labs.iterdir())) == 2


def test_a_mistyped_name_shows_no_other_lab(labs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status of a lab that is not there is not the status of the others."""
    assert "There is no lab named unit-x" in run(monkeypatch, "--name", "unit-x", "status")
