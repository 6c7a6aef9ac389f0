"""The views.* methods and the state of open modals: https://docs.slack.dev/surfaces/modals."""

from __future__ import annotations

import secrets

from lab.slack import blockkit
from lab.slack.api_base import ApiError, Context, Method, required
from lab.slack.render import view_json
from lab.slack.workspace import Json, Modal, Workspace

MOST_STACKED = 3


def checked_view(view: object) -> Json:
    """The view with ids filled in; ApiError invalid_arguments with every problem otherwise."""
    problems = blockkit.view_problems(view)
    if isinstance(view, dict) and view.get("type") != "modal":
        problems.append("[ERROR] unsupported view type, only modal [json-pointer:/view/type]")
    if problems or not isinstance(view, dict):
        raise ApiError("invalid_arguments", reasons=problems, violation=True)
    return {"private_metadata": "", "callback_id": "", **view}


def show(workspace: Workspace, *, user: str, view: Json, on: Modal | None) -> Modal:
    """Open the view as a new modal of that person, on top of `on` where given."""
    modal_id = workspace.next_id("V")
    modal = Modal(
        id=modal_id,
        user=user,
        view=_finished(workspace, view),
        root_id=on.root_id if on else modal_id,
        previous_id=on.id if on else None,
    )
    workspace.modals.append(modal)
    workspace.changes.bump()
    return modal


def replace(workspace: Workspace, modal: Modal, view: Json) -> None:
    """Show another view in an open modal."""
    modal.view = _finished(workspace, view)
    modal.errors = {}
    workspace.changes.bump()


def stack_of(workspace: Workspace, user: str) -> list[Modal]:
    """The open modals of that person, the topmost last."""
    return [modal for modal in workspace.modals if modal.user == user]


def _finished(workspace: Workspace, view: Json) -> Json:
    blocks = list(workspace.with_ids(tuple(view["blocks"])))
    return {**view, "blocks": blocks, "hash": secrets.token_hex(5)}


def _by_trigger(context: Context, args: Json) -> str:
    user, error = context.triggers.spend(args.get("trigger_id"))
    if user is None:
        raise ApiError(error)
    return user


def _open(context: Context, args: Json) -> Json:
    view = checked_view(args.get("view"))
    user = _by_trigger(context, args)
    return {"view": view_json(show(context.workspace, user=user, view=view, on=None))}


def _push(context: Context, args: Json) -> Json:
    view = checked_view(args.get("view"))
    user = _by_trigger(context, args)
    stack = stack_of(context.workspace, user)
    if not stack:
        raise ApiError("not_found")
    if len(stack) >= MOST_STACKED:
        raise ApiError("push_limit_reached", violation=True)
    return {"view": view_json(show(context.workspace, user=user, view=view, on=stack[-1]))}


def _update(context: Context, args: Json) -> Json:
    view = checked_view(args.get("view"))
    view_id = required(args, "view_id")
    for modal in context.workspace.modals:
        if modal.id == view_id:
            if args.get("hash") and args["hash"] != modal.view["hash"]:
                raise ApiError("hash_conflict")
            replace(context.workspace, modal, view)
            return {"view": view_json(modal)}
    raise ApiError("not_found")


METHODS = {
    "views.open": Method(run=_open),
    "views.push": Method(run=_push),
    "views.update": Method(run=_update),
}
