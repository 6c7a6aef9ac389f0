"""File upload in three calls, as files_upload_v2 of slack-sdk makes them."""

from __future__ import annotations

from typing import Any

from lab.slack.api_base import ApiError, Context, Method, required, writable_channel
from lab.slack.cast import BOT_USER
from lab.slack.workspace import Json


def _get_upload_url(context: Context, args: Json) -> Json:
    file_id = context.workspace.next_id("F")
    context.file_names[file_id] = required(args, "filename")
    return {"file_id": file_id, "upload_url": f"http://{context.host}/upload/{file_id}"}


def _complete_upload(context: Context, args: Json) -> Json:
    files: Any = args.get("files")
    if not isinstance(files, list) or not files:
        raise ApiError("invalid_arguments", violation=True)
    if any(file.get("id") not in context.files for file in files):
        raise ApiError("file_not_found")
    if "channel_id" in args:
        channel = writable_channel(context, {"channel": args["channel_id"]})
        names = ", ".join(context.file_names[file["id"]] for file in files)
        comment = args.get("initial_comment")
        context.workspace.post(
            channel=channel.id,
            user=BOT_USER,
            text=f"{comment}\n📎 {names}" if comment else f"📎 {names}",
            thread_ts=args.get("thread_ts"),
        )
    return {"files": [{"id": file["id"], "title": file.get("title", "")} for file in files]}


METHODS = {
    "files.getUploadURLExternal": Method(run=_get_upload_url, scope="files:write"),
    "files.completeUploadExternal": Method(run=_complete_upload, scope="files:write"),
}
