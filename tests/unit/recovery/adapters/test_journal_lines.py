"""What is shown of an agent's journal, and what is not."""

from pathlib import Path

from recovery.adapters.journal_lines import telling, without_secrets

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
