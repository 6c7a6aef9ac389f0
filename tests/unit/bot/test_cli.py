"""The command line itself: usage, versions, and errors as text or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bot import __main__ as bot_main
from bot import cli


def status_of(*words: str) -> int:
    """Run a command; the status it leaves with."""
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("status",), 1, "There are no settings at"),
        (("recover", "--method", "magic"), 2, "choose from"),
        (("recover", "--lots", "s2"), 2, "--lots"),
        ((), 2, "COMMAND"),
    ],
)
def test_an_error_is_text_or_one_json_object(
    words: tuple[str, ...], status: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr for people, on stdout for programs, never on both, and the status is the same."""
    words = ("--settings", str(tmp_path / "none.yaml"), *words)
    assert status_of(*words) == status
    shown = capsys.readouterr()
    assert said in shown.err
    assert not shown.out

    assert status_of("--json", *words) == status
    shown = capsys.readouterr()
    assert said in json.loads(shown.out)["error"]
    assert not shown.err


def test_both_programs_tell_their_version(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version is the installed distribution's."""
    assert status_of("--version") == 0
    told = capsys.readouterr().out
    assert told.startswith("consul-recovery ")
    monkeypatch.setattr("sys.argv", ["consul-recovery-bot", "--version"])
    with pytest.raises(SystemExit):
        bot_main.main()
    assert capsys.readouterr().out == told
