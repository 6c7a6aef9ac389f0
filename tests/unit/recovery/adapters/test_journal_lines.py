"""What is shown of an agent's journal, and what is not."""

from pathlib import Path

from recovery.adapters.journal_lines import ignored_peers_file, refused_peers_file, telling, without_secrets

CAPTURES = Path(__file__).parents[3] / "data" / "captures"


def journal(state: str, server: str) -> list[str]:
    text = (CAPTURES / state / f"{server}.txt").read_text(encoding="utf-8")
    return text.split("### journal\n", 1)[1].splitlines()


def test_a_survivors_journal_tells_of_the_dead_ones() -> None:
    """The lines that are shown for a lost majority say that the others refuse connections."""
    lines = telling(journal("1.8.7-majority-gone", "s1"))
    assert 0 < len(lines) <= 8
    assert any("connection refused" in line for line in lines)


def test_a_line_that_only_repeats_is_shown_once() -> None:
    """A retry every second must not push the first cause out."""
    lines = [f"2026-11-23T18:17:{second}.1Z [ERROR] agent: no route" for second in range(10, 60)]
    assert telling(["[ERROR] agent: the cause", *lines]) == ("[ERROR] agent: the cause", lines[-1])


def test_plain_information_is_left_out() -> None:
    """A line without a warning, an error or a turn of Raft is not telling."""
    assert telling(["[INFO] agent: Synced node info"]) == ()


def test_secrets_are_cut_out() -> None:
    """Tokens by name, and gossip keys by their shape, never reach a card."""
    key = "cg8StVXbQJ0gPvMd9o7yrg=="
    long_key = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="
    text = without_secrets(f'[WARN] token=abc-123 encrypt: {key} with {long_key} acl_token="x y" node=s1')
    assert "abc-123" not in text
    assert key not in text
    assert long_key not in text
    assert "node=s1" in text


IGNORED = "[INFO]  agent.server: deleted peers.json file (see peers.info for details)"
TAKEN = "[INFO]  agent.server: deleted peers.json file after successful recovery"
REFUSED = (
    '[ERROR] agent: Error starting agent: error="Failed to start Consul server: Failed to start Raft: '
    'recovery failed to parse peers.json: unexpected EOF"'
)
START = "==> Starting Consul agent..."


def test_a_peers_file_that_was_deleted_unread_is_told_from_one_that_was_taken() -> None:
    """Both end with the file gone; only the last start counts, and what an earlier one did is over."""
    assert ignored_peers_file([START, TAKEN, START, IGNORED])
    assert not ignored_peers_file([START, IGNORED, START, TAKEN])
    assert ignored_peers_file(["the start was longer ago", IGNORED])


def test_why_a_peers_file_was_refused_is_consuls_own_word() -> None:
    """As 1.8.7 and as 1.6 write it; a start that failed for another reason is no refusal of the file."""
    why = "recovery failed to parse peers.json: unexpected EOF"
    assert refused_peers_file([START, REFUSED, "consul.service: Failed with result 'exit-code'."]) == why
    assert refused_peers_file([START, REFUSED.replace('error="', "").rstrip('"')]) == why
    assert not refused_peers_file([START, REFUSED, START, TAKEN])
    assert not refused_peers_file([START, "Failed to start Raft: invalid database"])
