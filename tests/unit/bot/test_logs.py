"""No secret in any log line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from bot import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A configured log; the settings before it come back afterwards."""
    root = logging.getLogger()
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()
    out = io.StringIO()
    logs.configure(['pass"word\\x', "0a1b2c3d-token"], stream=out)
    yield out
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


@pytest.mark.parametrize(
    "secret",
    ['pass"word\\x', "0a1b2c3d-token", "xoxb-12-34-abCD", "xapp-1-A0-77-ff", "redis://u:s3cr3t@h:1/0"],
)
def test_a_secret_is_masked_wherever_it_stands(stream: io.StringIO, secret: str) -> None:
    """In the event, in a value, in an exception, and in a line of another library."""
    log = structlog.get_logger()
    log.info(secret, value=[secret])
    logging.getLogger("slack_sdk.x").warning("a line with %s", secret)
    log.error("failed", exc_info=RuntimeError(secret))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    core = "s3cr3t" if "s3cr3t" in secret else json.dumps(secret)[1:-1]
    assert core not in stream.getvalue()
    assert all(json.loads(line)["event"] for line in lines)
