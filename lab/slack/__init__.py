"""A local Slack for tests and the demo.

slack-bolt and slack-sdk run against it unpatched: only `base_url` differs.
"""

from lab.slack.cast import (
    DEFAULT_SCOPES,
    ONCALL_GROUP,
    Channel,
    Group,
    Person,
    default_channels,
    default_groups,
    default_people,
)
from lab.slack.interactions import Element, NotOnScreenError
from lab.slack.records import Call, Delivery, Violation
from lab.slack.render import plain_text
from lab.slack.server import LocalSlack
from lab.slack.workspace import Message, Modal, Notice, Version

__all__ = [
    "DEFAULT_SCOPES",
    "ONCALL_GROUP",
    "Call",
    "Channel",
    "Delivery",
    "Element",
    "Group",
    "LocalSlack",
    "Message",
    "Modal",
    "NotOnScreenError",
    "Notice",
    "Person",
    "Version",
    "Violation",
    "default_channels",
    "default_groups",
    "default_people",
    "plain_text",
]
