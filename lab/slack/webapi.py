"""The door of the Web API: arguments, tokens, scopes, faults and limits, then the method itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from aiohttp import web

from lab.slack import api_chat, api_files, api_reads, api_views
from lab.slack.api_base import ApiError, Context, Method
from lab.slack.faults import Faults, RateLimits
from lab.slack.records import Call, Records
from lab.slack.workspace import Clock, Json

METHODS: dict[str, Method] = {
    **api_reads.METHODS,
    **api_chat.METHODS,
    **api_views.METHODS,
    **api_files.METHODS,
}
APP_SCOPES = ("connections:write",)
# Forms and query strings carry these as JSON text.
_STRUCTURED = ("blocks", "metadata", "view", "files")


def _unknown(_context: Context, _args: Json) -> Json:
    raise ApiError("unknown_method", reasons=["this method is not known here"], violation=True)


_UNKNOWN = Method(run=_unknown)


class WebApi:
    """Answers `/api/METHOD` as Slack does."""

    def __init__(
        self,
        *,
        records: Records,
        faults: Faults,
        limits: RateLimits | None,
        tokens: dict[str, str],
        context_for: Callable[[str], Context],
        clock: Clock,
    ) -> None:
        self._records = records
        self._faults = faults
        self._limits = limits
        self._tokens = tokens
        self._context_for = context_for
        self._clock = clock

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one call."""
        name = request.match_info["method"]
        args = await _arguments(request)
        token = _token(request, args)
        context = self._context_for(request.host)
        fault = self._faults.take(name)
        if fault is not None and fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault is not None and fault.status is not None:
            return self._failed(name, args, status=fault.status, retry_after=fault.retry_after)
        if fault is not None and fault.error is not None:
            return self._answer(name, args, {"ok": False, "error": fault.error}, context)
        method = METHODS.get(name, _UNKNOWN)
        try:
            self._authorize(method, token, context)
            if self._limits is not None and (wait_s := self._limits.retry_after(name, args)) is not None:
                return self._failed(name, args, status=429, retry_after=wait_s)
            body: Json = {"ok": True, **method.run(context, args)}
        except _MissingScopeError as missing:
            body = {
                "ok": False,
                "error": "missing_scope",
                "needed": missing.needed,
                "provided": missing.provided,
            }
        except ApiError as refusal:
            body = {"ok": False, "error": refusal.error}
            if refusal.reasons:
                body |= {"errors": refusal.reasons, "response_metadata": {"messages": refusal.reasons}}
            if refusal.violation:
                self._records.violation(where=name, error=refusal.error, reasons=refusal.reasons)
        if fault is not None and fault.drop_after_store and request.transport is not None:
            self._remember(name, args, status=0, error="dropped")
            request.transport.abort()
        return self._answer(name, args, body, context, recorded=fault is not None and fault.drop_after_store)

    def _authorize(self, method: Method, token: str | None, context: Context) -> None:
        if token is None:
            raise ApiError("not_authed")
        kind = self._tokens.get(token)
        if kind is None:
            raise ApiError("invalid_auth")
        if kind != method.token:
            raise ApiError("not_allowed_token_type")
        provided = context.scopes if kind == "bot" else frozenset(APP_SCOPES)
        if method.scope is not None and method.scope not in provided:
            raise _MissingScopeError(needed=method.scope, provided=",".join(sorted(provided)))

    def _failed(self, name: str, args: Json, *, status: int, retry_after: int | None) -> web.Response:
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        error = "ratelimited" if status == 429 else "internal_error"
        self._remember(name, args, status=status, error=error)
        return web.json_response({"ok": False, "error": error}, status=status, headers=headers)

    def _answer(
        self, name: str, args: Json, body: Json, context: Context, *, recorded: bool = False
    ) -> web.Response:
        if not recorded:
            self._remember(name, args, status=200, error=body.get("error"))
        return web.json_response(body, headers={"x-oauth-scopes": ",".join(sorted(context.scopes))})

    def _remember(self, name: str, args: Json, *, status: int, error: str | None) -> None:
        self._records.calls.append(Call(method=name, args=args, at=self._clock(), status=status, error=error))


class _MissingScopeError(Exception):
    def __init__(self, *, needed: str, provided: str) -> None:
        super().__init__(needed)
        self.needed = needed
        self.provided = provided


async def _arguments(request: web.Request) -> Json:
    """Query, form and JSON body as one: slack-sdk sends some of each."""
    args: Json = dict(request.query)
    if request.content_type == "application/json":
        body = await request.text()
        args |= json.loads(body) if body else {}
    elif request.can_read_body:
        args |= {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
    for key in _STRUCTURED:
        if isinstance(args.get(key), str):
            try:
                args[key] = json.loads(args[key])
            except ValueError:
                continue
    return args


def _token(request: web.Request, args: Json) -> str | None:
    """The caller's token, taken out of the arguments so that no record ever holds it."""
    given = args.pop("token", None)
    header = request.headers.get("Authorization", "")
    if header.startswith("Bearer "):
        return header.removeprefix("Bearer ")
    return given if isinstance(given, str) else None
