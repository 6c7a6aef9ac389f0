from collections.abc import Mapping
from typing import NamedTuple

class Response(NamedTuple):
    code: int
    headers: Mapping[str, str]
    body: str

class HTTPClient:
    host: str
    port: int
    scheme: str
    def __init__(
        self,
        host: str = ...,
        port: int = ...,
        scheme: str = ...,
        verify: bool | str = ...,
        cert: str | tuple[str, str] | None = ...,
    ) -> None: ...
