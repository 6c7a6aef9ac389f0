"""Logs as JSON lines on stderr, without secrets: ours, slack-bolt's and everybody's."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

MASK = "***"
SILENT = logging.CRITICAL + 1
_SHORTEST = 6
"""Shorter values would blank out ordinary words."""

_LOOKS_SECRET = re.compile(
    r"xox[a-z]-[A-Za-z0-9-]+|xapp-[A-Za-z0-9-]+|xwfp-[A-Za-z0-9-]+"
    r"|(?<=://)[^/@\s\"]+(?=@)"
    r"|(?i:(?<=bearer )|(?<=ticket=)|(?<=token=)|(?<=x-consul-token: ))[A-Za-z0-9._~+/=-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
)


class Masker:
    """Takes secrets out of a line: known values, and what looks like a token."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        values = {value for value in known if len(value) >= _SHORTEST}
        # A secret with a quote or a backslash looks different inside JSON.
        values |= {json.dumps(value)[1:-1] for value in values}
        self._known = sorted(values, key=len, reverse=True)

    def __call__(self, line: str) -> str:
        """The line without secrets."""
        for value in self._known:
            line = line.replace(value, MASK)
        return _LOOKS_SECRET.sub(MASK, line)


def configure(
    known_secrets: Iterable[str], *, stream: TextIO | None = None, level: int = logging.INFO
) -> None:
    """Send every log of this process through one masked JSON renderer."""
    masker = Masker(known_secrets)
    render = structlog.processors.JSONRenderer(default=str)

    def masked(logger: WrappedLogger, name: str, event: EventDict) -> str:
        line: Any = render(logger, name, event)
        return masker(line if isinstance(line, str) else line.decode())

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, masked],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("slack_sdk", "slack_bolt", "asyncssh", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
