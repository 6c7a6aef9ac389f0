"""What people type, as Slack changes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.commands import (
    USAGE,
    Abort,
    Command,
    Help,
    Readmit,
    Recover,
    Reply,
    Resume,
    Retry,
    Runs,
    Show,
    Status,
    Unlock,
    parse,
)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("", Help()),
        ("  ", Help()),
        ("help", Help()),
        ("status", Status(None)),
        ("STATUS dc1", Status("dc1")),
        ("status <http://dc1.example|dc1.example>", Status("dc1.example")),
        ("recover", Recover(None)),
        ("recover dc1 --lost s2,s3", Recover("dc1", None, ("s2", "s3"))),
        ("recover dc1 --lost s2, s3", Recover("dc1", None, ("s2", "s3"))),
        ("recover dc1 --lost s2,s2", Recover("dc1", None, ("s2",))),
        ("recover dc1 -lost s2", Recover("dc1", None, ("s2",))),
        ("recover dc1 --lost 198.51.100.12:8300", Recover("dc1", None, ("198.51.100.12:8300",))),
        ("recover dc1 --lost [2001:db8::1]:8300", Recover("dc1", None, ("[2001:db8::1]:8300",))),
        ("recover --lost=s2 dc1", Recover("dc1", None, ("s2",))),
        (
            "recover dc1 \u2014lost s2,s3 \u2014method peers\u2011json",
            Recover("dc1", "peers-json", ("s2", "s3")),
        ),
        ("recover \u201cdc1\u201d \u2013lost \u2018s2\u2019", Recover("dc1", None, ("s2",))),
        ("recover dc1 --lost <@U0S2|s2>", Recover("dc1", None, ("s2",))),
        ("abort r7f3", Abort("r7f3")),
        ("retry", Retry(None)),
        ("runs dc1", Runs("dc1")),
        ("readmit s3", Readmit(None, "s3")),
        ("readmit dc1 s3", Readmit("dc1", "s3")),
        ("resume", Resume(None)),
        ("unlock r7f3", Unlock("r7f3")),
        ("show r7f3", Show("r7f3")),
    ],
)
def test_a_command_is_understood_as_it_was_meant(typed: str, meant: Command) -> None:
    """Typographic quotes and dashes, links, mentions and spaces behind commas do not change the meaning."""
    assert parse(typed) == meant


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("statsu", "Did you mean `/consul status`"),
        ("recover --lots s2", "Did you mean `/consul recover --lost`"),
        ("recover --force", "There is no option"),
        ("status --lost s2", "There is no option"),
        ("recover --lost", "needs a value"),
        ("recover --lost --method start", "needs a value"),
        ("recover --lost s2 --lost s3", "there twice"),
        ("recover dc1 dc2", "One name at a time"),
        ("recover dc1 --lost $(id)", "plain names"),
        ("status ../etc", "no name of a cluster"),
        ("readmit", "Which server?"),
        ("readmit dc1 s3 s4", "One name at a time"),
        ("unlok", "Did you mean `/consul unlock`"),
    ],
)
def test_what_is_no_command_is_refused_with_a_hint(typed: str, said: str) -> None:
    """Nothing is guessed: an unknown word or option does nothing."""
    answer = parse(typed)
    assert isinstance(answer, Reply)
    assert said in answer.text


@given(st.text(max_size=600))
def test_any_text_at_all_gives_a_command_or_a_reply(typed: str) -> None:
    """No text makes the parser fail, and a name it accepts has harmless characters only."""
    answer = parse(typed)
    for name in getattr(answer, "lost", ()):
        assert name.replace(".", "").replace("_", "").replace("-", "").isalnum()
        assert name.isascii()


def test_every_command_of_the_usage_is_known() -> None:
    """The help lists nothing that does not work."""
    for name in USAGE:
        assert not isinstance(parse(f"{name} x1"), Reply)
