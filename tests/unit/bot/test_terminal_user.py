"""Who sits at the terminal."""

import pytest

from bot.terminal_user import user_behind

NOBODY_LOGGED_IN = 2**32 - 1


@pytest.mark.parametrize(
    ("uid", "login_uid", "who"),
    [
        (1000, 1000, "user-1000"),
        (0, 1000, "user-1000"),
        (1001, 1000, "user-1000"),
        (0, 0, "user-0"),
        (1001, NOBODY_LOGGED_IN, "user-1001"),
        (0, NOBODY_LOGGED_IN, "user-0"),
    ],
)
def test_whoever_somebody_has_become_it_is_the_one_who_logged_in(uid: int, login_uid: int, who: str) -> None:
    """alice who has become bob (or root) by sudo or su is still alice; without a login it is the process's user."""
    assert user_behind(uid, login_uid=login_uid, name_of=lambda number: f"user-{number}") == who
