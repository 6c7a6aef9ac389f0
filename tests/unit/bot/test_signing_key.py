"""The key that signs what Redis keeps: whose it is, and what is said where there is none."""

from pathlib import Path

import pytest

from bot.wiring import secrets_of, signing_key
from config.settings import parse_settings
from config.values import Settings
from recovery.errors import SettingsProblem, Unverified

SECRET = "0123456789abcdef" * 2


def settings(key_file: Path, redis: str = "") -> Settings:
    text = f"""
redis: {{url: "redis://10.0.0.9", {redis}}}
ssh: {{user: bot, key_file: {key_file}, known_hosts_file: /none}}
clusters: {{prod: {{servers: [{{name: s1, address: 10.0.0.1}}]}}}}
"""
    return parse_settings(text, source=Path("/settings.yaml"), environ={}, slack=False)


def test_every_process_with_the_same_file_has_the_same_key(tmp_path: Path) -> None:
    """Without a setting the SSH key signs; another file verifies nothing; a setting wins over the file."""
    for name, text in (("one", "PRIVATE\n"), ("same", "PRIVATE"), ("other", "OTHER")):
        (tmp_path / name).write_text(text)
    value = signing_key(settings(tmp_path / "one")).sign_value("prod", "members", "[]").encode()
    assert signing_key(settings(tmp_path / "same")).verify_value("prod", "members", value) == "[]"
    for stranger in (settings(tmp_path / "other"), settings(tmp_path / "one", f"signing_key: {SECRET}")):
        with pytest.raises(Unverified):
            signing_key(stranger).verify_value("prod", "members", value)


def test_without_any_key_nothing_is_started(tmp_path: Path) -> None:
    """A key that everybody knows signs nothing."""
    (tmp_path / "empty").write_text("\n")
    for path, why in ((tmp_path / "empty", "is empty"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(SettingsProblem, match=rf"ssh\.key_file .*{why}.* Nothing was started"):
            signing_key(settings(path))
        signing_key(settings(path, f"signing_key: {SECRET}"))


def test_the_key_is_kept_out_of_logs(tmp_path: Path) -> None:
    """It is among the secrets that the log cuts out."""
    assert SECRET in secrets_of(settings(tmp_path, f"signing_key: {SECRET}"))
