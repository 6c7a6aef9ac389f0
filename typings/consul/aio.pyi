from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import aiohttp
from consul import base

_T = TypeVar("_T")

class HTTPClient(base.HTTPClient):
    _session: aiohttp.ClientSession
    def get(
        self,
        callback: Callable[[base.Response], _T],
        path: str,
        params: Sequence[tuple[str, str]] | None = ...,
        headers: dict[str, str] | None = ...,
        raw: bool = ...,
        connections_timeout: float | None = ...,
    ) -> Awaitable[_T]: ...
    def put(
        self,
        callback: Callable[[base.Response], _T],
        path: str,
        params: Sequence[tuple[str, str]] | None = ...,
        data: str | bytes = ...,
        headers: dict[str, str] | None = ...,
        connections_timeout: float | None = ...,
    ) -> Awaitable[_T]: ...
    async def _request(
        self,
        callback: Callable[[base.Response], _T],
        method: str,
        uri: str,
        headers: dict[str, str] | None,
        data: str | bytes | None = ...,
        connections_timeout: float | None = ...,
        raw: bool = ...,
    ) -> _T: ...
    def close(self) -> Awaitable[None]: ...

class Consul:
    http: HTTPClient
    token: str | None
    def __init__(
        self,
        host: str | None = ...,
        port: int | None = ...,
        token: str | None = ...,
        scheme: str | None = ...,
    ) -> None: ...
    def http_connect(
        self,
        host: str,
        port: int,
        scheme: str,
        verify: bool | str = ...,
        cert: str | tuple[str, str] | None = ...,
    ) -> HTTPClient: ...
    def prepare_headers(self, token: str | None = ...) -> dict[str, str]: ...
