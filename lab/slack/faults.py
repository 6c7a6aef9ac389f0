"""Faults that a test asks for, and Slack's rate limits."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from dataclasses import dataclass

from lab.slack.workspace import Clock, Json


@dataclass(slots=True, kw_only=True)
class Fault:
    """How the next `times` calls of one method go wrong.

    `status` answers with that HTTP status (429 with Retry-After: `retry_after` seconds), `error` with
    ok=false; `delay_s` waits before the call is carried out; `drop_after_store` carries it out and then cuts
    the connection without an answer.
    """

    method: str
    times: int
    status: int | None = None
    error: str | None = None
    retry_after: int | None = None
    delay_s: float = 0.0
    drop_after_store: bool = False


class Faults:
    """The faults that are still to come."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let it happen from the next call on; ValueError when it would change nothing."""
        if fault.times < 1:
            raise ValueError("times must be at least 1")
        if fault.status == 429 and fault.retry_after is None:
            raise ValueError("a 429 of Slack always has retry_after")
        if not (fault.status or fault.error or fault.delay_s or fault.drop_after_store):
            raise ValueError("say what fails: status, error, delay_s or drop_after_store")
        self._waiting.append(fault)

    def take(self, method: str) -> Fault | None:
        """The fault of this call, used up by it."""
        for fault in self._waiting:
            if fault.method == method:
                fault.times -= 1
                if fault.times == 0:
                    self._waiting.remove(fault)
                return fault
        return None

    def clear(self) -> None:
        """Forget all faults that have not happened yet."""
        self._waiting.clear()


# Calls within a window: https://docs.slack.dev/apis/web-api/rate-limits
# (Tier 2: 20 and more a minute, Tier 3: 50, Tier 4: 100).
_WINDOWS_S: dict[str, tuple[int, float]] = {
    "chat.update": (50, 60.0),
    "chat.delete": (50, 60.0),
    "chat.postEphemeral": (100, 60.0),
    "chat.getPermalink": (1000, 60.0),
    "conversations.info": (50, 60.0),
    "conversations.history": (50, 60.0),
    "conversations.replies": (50, 60.0),
    "users.info": (100, 60.0),
    "usergroups.list": (20, 60.0),
    "usergroups.users.list": (20, 60.0),
    "views.open": (100, 60.0),
}
# One a second in a channel, a short burst allowed.
_POST_BURST = 5
_POST_WINDOW_S = 5.0


class RateLimits:
    """Slack's real limits, a sliding window for each method (posts: for each channel)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, deque[float]] = defaultdict(deque)

    def retry_after(self, method: str, args: Json) -> int | None:
        """Whole seconds to wait when this call is one too many, else None (and the call counts)."""
        if method == "chat.postMessage":
            key, most, window_s = f"{method} {args.get('channel')}", _POST_BURST, _POST_WINDOW_S
        elif method in _WINDOWS_S:
            key, (most, window_s) = method, _WINDOWS_S[method]
        else:
            return None
        now, seen = self._clock(), self._seen[key]
        while seen and seen[0] <= now - window_s:
            seen.popleft()
        if len(seen) >= most:
            return max(1, math.ceil(seen[0] + window_s - now))
        seen.append(now)
        return None
