"""Messages as a person reads them."""

from __future__ import annotations

import pytest

from lab.slack.render import plain_mrkdwn

NAMES = {"U0BOB": "bob", "S0ONCALL": "oncall", "C0OPS": "consul-ops"}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("*dc1* has _no_ ~old~ leader", "dc1 has no old leader"),
        ("`*kept*` and ```\na_b_c\n```", "*kept* and a_b_c"),
        ("<@U0BOB> and <@U0EVE>", "@bob and @U0EVE"),
        ("<!subteam^S0ONCALL> in <#C0OPS|consul-ops>, <!here>", "@oncall in #consul-ops, @here"),
        ("<https://example.com|runbook> <https://example.com>", "runbook https://example.com"),
        ("<!date^1700000000^{time}|03:12 UTC>", "03:12 UTC"),
        ("a &lt;b&gt; &amp;amp; c", "a <b> &amp; c"),
        ("snake_case_name 2*3*4", "snake_case_name 2*3*4"),
    ],
)
def test_mrkdwn_is_read_without_its_markers(written: str, read: str) -> None:
    """Formatting markers go, names and labels stand for ids and links, escapes are undone."""
    assert plain_mrkdwn(written, NAMES) == read
