"""What people do: slash commands, presses, submissions. Builds the payloads and acts on the acks.

Shapes: https://docs.slack.dev/interactivity and the sample payloads of bolt-python's tests.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lab.slack import api_views
from lab.slack.api_base import ApiError
from lab.slack.cast import APP_ID, HOME_TEAM, Channel, Person
from lab.slack.hooks import Hooks, Triggers
from lab.slack.inputs import read_inputs
from lab.slack.records import Delivery, DeliveryKind, Records
from lab.slack.render import message_json, plain_mrkdwn, view_json
from lab.slack.sockets import SocketHub
from lab.slack.workspace import Json, Message, Modal, Version, Workspace, interactive_elements

# The verification token of the old days; payloads still carry one and nothing may rely on it.
_OLD_TOKEN = "local-slack-verification"


class NotOnScreenError(LookupError):
    """The person cannot do that: the button, modal or input is not on the screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One thing to press, with the version of the message that shows it."""

    block: Json
    element: Json
    version: Version | None

    @property
    def confirm(self) -> str | None:
        """What the confirmation dialog says, all of it, if there is one."""
        dialog = self.element.get("confirm")
        if dialog is None:
            return None
        parts = [dialog[key]["text"] for key in ("title", "text", "confirm", "deny")]
        return plain_mrkdwn("{}\n{}\n[{}] [{}]".format(*parts), {})


class Interactions:
    """Turns what a person does into a payload, and the ack into what the person sees."""

    def __init__(
        self,
        *,
        workspace: Workspace,
        hub: SocketHub,
        triggers: Triggers,
        hooks: Hooks,
        records: Records,
        base: str,
    ) -> None:
        self._workspace = workspace
        self._hub = hub
        self._triggers = triggers
        self._hooks = hooks
        self._records = records
        self._duplicates = 0
        self._base = base

    def duplicate(self, *, times: int) -> None:
        """Deliver each of the next payloads twice, as Slack does when it is not sure of the first."""
        self._duplicates += times

    async def slash(self, text: str, *, user: Person, channel: Channel) -> Delivery:
        """Send a slash command and show what came back."""
        command, _, rest = text.strip().partition(" ")
        hook = self._hooks.new(user=user.id, channel=channel.id, original=None)
        payload = {
            "token": _OLD_TOKEN,
            "team_id": user.team_id,
            "team_domain": "local-slack" if user.team_id == HOME_TEAM else "partner",
            "channel_id": channel.id,
            "channel_name": "directmessage" if channel.is_im else channel.name,
            "user_id": user.id,
            "user_name": user.name,
            "command": command,
            "text": escaped(self._workspace, rest.strip()),
            "api_app_id": APP_ID,
            "is_enterprise_install": "false",
            "response_url": self._base + hook,
            "trigger_id": self._triggers.new(user.id),
        }
        delivery = await self._deliver(
            "slash_commands", payload, what=f"{command}", user=user, channel=channel.id
        )
        if delivery.response is not None:
            self._hooks.respond(hook.removeprefix("/hook/"), delivery.response)
        return delivery

    async def press(
        self, source: Message | Modal, found: Element, *, user: Person, value: str | None
    ) -> Delivery:
        """Press a button, or choose `value` in a menu."""
        action = _action(found, value, ts=self._workspace.next_ts())
        payload: Json = {
            "type": "block_actions",
            "user": _user(user),
            "api_app_id": APP_ID,
            "token": _OLD_TOKEN,
            "trigger_id": self._triggers.new(user.id),
            "team": {"id": HOME_TEAM, "domain": "local-slack"},
            "enterprise": None,
            "is_enterprise_install": False,
            "state": {"values": {}},
            "actions": [action],
        }
        if isinstance(source, Modal):
            payload |= {
                "container": {"type": "view", "view_id": source.id},
                "view": view_json(source) | {"state": {"values": {}}},
            }
            where = ""
        else:
            where = source.channel
            payload |= self._message_part(source, found.version or source.now, user)
        what = str(found.element.get("text", {}).get("text", found.element["action_id"]))
        delivery = await self._deliver("interactive", payload, what=what, user=user, channel=where)
        return replace(delivery, confirm=found.confirm)

    async def submit(self, modal: Modal, values: Mapping[str, Any], *, user: Person) -> Delivery:
        """Fill the inputs (keys: action_id or block_id) and submit; ValueError where a client refuses."""
        state = read_inputs(modal.view, values)
        delivery = await self._deliver(
            "interactive",
            self._view_payload("view_submission", modal, user, state=state),
            what=modal.view["title"]["text"],
            user=user,
            channel="",
        )
        if delivery.acked:
            self._after_submission(modal, delivery.response or {})
        return delivery

    async def close(self, modal: Modal, *, user: Person) -> Delivery | None:
        """Close a modal without submitting; a payload is sent only with notify_on_close."""
        self._workspace.modals.remove(modal)
        self._workspace.changes.bump()
        if not modal.view.get("notify_on_close"):
            return None
        payload = self._view_payload("view_closed", modal, user, state={}) | {"is_cleared": False}
        return await self._deliver("interactive", payload, what="close", user=user, channel="")

    def _message_part(self, message: Message, version: Version, user: Person) -> Json:
        ephemeral = message.ephemeral_to is not None
        container: Json = {
            "type": "message",
            "message_ts": message.ts,
            "channel_id": message.channel,
            "is_ephemeral": ephemeral,
        }
        if message.thread_ts is not None:
            container["thread_ts"] = message.thread_ts
        hook = self._hooks.new(user=user.id, channel=message.channel, original=message)
        part: Json = {
            "container": container,
            "channel": {"id": message.channel, "name": self._workspace.channels[message.channel].name},
            "response_url": self._base + hook,
        }
        if not ephemeral:
            part["message"] = message_json(message) | {"text": version.text, "blocks": list(version.blocks)}
        return part

    def _view_payload(self, kind: str, modal: Modal, user: Person, *, state: Json) -> Json:
        return {
            "type": kind,
            "team": {"id": HOME_TEAM, "domain": "local-slack"},
            "user": _user(user),
            "api_app_id": APP_ID,
            "token": _OLD_TOKEN,
            "trigger_id": self._triggers.new(user.id),
            "view": view_json(modal) | {"state": {"values": state}},
            "response_urls": [],
            "is_enterprise_install": False,
            "enterprise": None,
        }

    def _after_submission(self, modal: Modal, response: Json) -> None:
        workspace = self._workspace
        try:
            match response.get("response_action"):
                case "errors":
                    modal.errors = dict(response["errors"])
                    workspace.changes.bump()
                case "update":
                    api_views.replace(workspace, modal, api_views.checked_view(response.get("view")))
                case "push":
                    view = api_views.checked_view(response.get("view"))
                    api_views.show(workspace, user=modal.user, view=view, on=modal)
                case "clear":
                    workspace.modals[:] = [open_ for open_ in workspace.modals if open_.user != modal.user]
                    workspace.changes.bump()
                case _:
                    workspace.modals.remove(modal)
                    workspace.changes.bump()
        except ApiError as refusal:
            self._records.violation(where="view_submission", error=refusal.error, reasons=refusal.reasons)

    async def _deliver(
        self, kind: DeliveryKind, payload: Json, *, what: str, user: Person, channel: str
    ) -> Delivery:
        copies = 1
        if self._duplicates:
            self._duplicates -= 1
            copies = 2
        accepts = kind == "slash_commands" or payload.get("type") == "view_submission"
        receipts = await asyncio.gather(
            *(
                self._hub.deliver(kind, payload, accepts_response=accepts, retry=copy)
                for copy in range(copies)
            )
        )
        deliveries = [
            Delivery(
                kind=kind,
                acked=receipt.acked,
                ms=receipt.ms,
                payload=payload,
                socket=receipt.socket,
                response=receipt.response,
                error=_error(acked=receipt.acked, socket=receipt.socket),
                retry=number,
            )
            for number, receipt in enumerate(receipts)
        ]
        self._records.deliveries.extend(deliveries)
        if (error := deliveries[0].error) is not None:
            self._workspace.notify(
                user=user.id,
                channel=channel,
                error=error,
                text=f"{what} failed with the error “{error}”",
            )
        return deliveries[0]


def escaped(workspace: Workspace, text: str) -> str:
    """What a person typed, as it is sent: names become ids (should_escape), the rest is HTML-escaped."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    people = {person.name: person.id for person in workspace.people.values()}
    channels = {channel.name: channel.id for channel in workspace.channels.values()}

    def named(match: re.Match[str]) -> str:
        known = people if match[1] == "@" else channels
        return f"<{match[1]}{known[match[2]]}|{match[2]}>" if match[2] in known else match[0]

    return re.sub(r"(?<!\S)([@#])([\w.-]+)", named, text)


def find_elements(
    source: Message | Modal, action_id: str, *, stale: bool, block_id: str | None, value: str | None
) -> Element:
    """The one element with that action_id on the screen, or with `stale` in the newest older version.

    `block_id` and, for buttons, `value` choose among several. NotOnScreenError when there is none, or not
    just one.
    """
    versions: list[tuple[Version | None, list[Json]]]
    if isinstance(source, Modal):
        versions = [(None, source.view["blocks"])]
    elif stale:
        versions = [(version, list(version.blocks)) for version in reversed(source.versions[:-1])]
    else:
        versions = [] if source.deleted else [(source.now, list(source.blocks))]
    seen: list[str] = []
    for version, blocks in versions:
        found = [
            Element(block=block, element=element, version=version)
            for block in blocks
            for element in interactive_elements(block)
            if element["action_id"] == action_id
            and block_id in (None, block["block_id"])
            and (element["type"] != "button" or value in (None, element.get("value")))
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise NotOnScreenError(f"{len(found)} elements are called {action_id!r}; say block_id or value")
        seen = seen or [e["action_id"] for block in blocks for e in interactive_elements(block)]
    there = ", ".join(seen) or "nothing"
    age = "an older version" if stale else "the message as it is now"
    raise NotOnScreenError(f"{action_id!r} is not in {age}; there is {there} to press")


def _user(person: Person) -> Json:
    return {"id": person.id, "username": person.name, "name": person.name, "team_id": person.team_id}


def _error(*, acked: bool, socket: int | None) -> str | None:
    if acked:
        return None
    return "dispatch_failed" if socket is None else "operation_timeout"


def _action(found: Element, value: str | None, *, ts: str) -> Json:
    element = found.element
    action: Json = {
        "type": element["type"],
        "action_id": element["action_id"],
        "block_id": found.block["block_id"],
        "action_ts": ts,
    }
    match element["type"]:
        case "button":
            action |= {key: element[key] for key in ("text", "value", "style", "confirm") if key in element}
        case "users_select":
            action["selected_user"] = value
        case "checkboxes":
            action["selected_options"] = [o for o in element["options"] if o["value"] == value]
        case _:
            chosen = [o for o in element["options"] if o["value"] == value]
            if not chosen:
                raise NotOnScreenError(f"{element['action_id']!r} has no option {value!r}")
            action["selected_option"] = chosen[0]
    return action
