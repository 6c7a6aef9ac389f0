"""The two short-lived capabilities of an interaction: its trigger_id and its response_url."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from lab.slack import blockkit
from lab.slack.cast import BOT_USER
from lab.slack.records import Records
from lab.slack.workspace import Clock, Json, Message, Workspace

TRIGGER_TTL_S = 3.0
HOOK_TTL_S = 30 * 60.0
HOOK_USES = 5


class Triggers:
    """Trigger ids: each opens one modal of one person, within three seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._issued: dict[str, tuple[str, float]] = {}
        self._used: set[str] = set()

    def new(self, user: str) -> str:
        """A trigger id for that person."""
        trigger_id = f"{secrets.randbelow(10**12)}.{secrets.randbelow(10**8)}.{secrets.token_hex(16)}"
        self._issued[trigger_id] = (user, self._clock() + TRIGGER_TTL_S)
        return trigger_id

    def spend(self, trigger_id: object) -> tuple[str | None, str]:
        """The person whose modal may be opened, else None and Slack's error."""
        if not isinstance(trigger_id, str) or trigger_id not in self._issued:
            return None, "invalid_trigger_id"
        if trigger_id in self._used:
            return None, "exchanged_trigger_id"
        user, expires = self._issued[trigger_id]
        if self._clock() > expires:
            return None, "expired_trigger_id"
        self._used.add(trigger_id)
        return user, ""


@dataclass(slots=True, kw_only=True, eq=False)
class _Hook:
    user: str
    channel: str
    original: Message | None
    expires: float
    uses: int = 0


class Hooks:
    """Response URLs: five uses in thirty minutes, even in channels that the app is not in."""

    def __init__(self, *, workspace: Workspace, records: Records) -> None:
        self._workspace = workspace
        self._records = records
        self._hooks: dict[str, _Hook] = {}

    def new(self, *, user: str, channel: str, original: Message | None) -> str:
        """The path of a new response URL, `/hook/...`."""
        hook_id = secrets.token_urlsafe(18)
        self._hooks[hook_id] = _Hook(
            user=user, channel=channel, original=original, expires=self._workspace.clock() + HOOK_TTL_S
        )
        return f"/hook/{hook_id}"

    def use(self, hook_id: str, body: Json) -> tuple[int, str]:
        """Carry out one POST to a response URL; HTTP status and body of the answer."""
        hook = self._hooks.get(hook_id)
        if hook is None:
            return 404, "no_such_url"
        if self._workspace.clock() > hook.expires:
            return 404, "expired_url"
        if hook.uses >= HOOK_USES:
            self._records.violation(where="response_url", error="used_url", reasons=["more than 5 uses"])
            return 404, "used_url"
        hook.uses += 1
        return self.respond(hook_id, body)

    def respond(self, hook_id: str, body: Json) -> tuple[int, str]:
        """Show a response without counting it: the text of an ack comes this way too."""
        hook = self._hooks[hook_id]
        blocks: Any = body.get("blocks") or []
        text = body.get("text", "")
        if body.get("delete_original"):
            if hook.original is not None:
                self._workspace.delete(hook.original)
            return 200, "ok"
        if problems := blockkit.message_problems(blocks):
            self._records.violation(where="response_url", error="invalid_blocks", reasons=problems)
            return 400, "invalid_blocks"
        if not isinstance(text, str) or not text:
            self._records.violation(where="response_url", error="no_text", reasons=["text is required"])
            return 400, "no_text"
        content: Json = {"text": text, "blocks": blockkit.as_blocks(blocks), "metadata": body.get("metadata")}
        if body.get("replace_original") and hook.original is not None and not hook.original.deleted:
            self._workspace.update(hook.original, **content)
            return 200, "ok"
        public = body.get("response_type") == "in_channel"
        original_thread = hook.original.thread_ts if hook.original is not None else None
        message = self._workspace.post(
            channel=hook.channel,
            user=BOT_USER,
            **content,
            thread_ts=body.get("thread_ts") or original_thread,
            ephemeral_to=None if public else hook.user,
        )
        if hook.original is None:
            # After a slash command the first answer is what replace_original means.
            hook.original = message
        return 200, "ok"
