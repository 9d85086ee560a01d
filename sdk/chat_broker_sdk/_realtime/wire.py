"""The interface of one live connection: over Socket.IO, or to a fake in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from chat_broker_sdk._credentials import UserToken
from chat_broker_sdk._dialect import Dialect
from chat_broker_sdk._errors import WebSocketError
from chat_broker_sdk._urls import BaseUrl


@dataclass(frozen=True, slots=True)
class ConnectFailure:
    """Why a connection was not opened. *permanent*: trying again cannot succeed."""

    error: WebSocketError
    permanent: bool


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """The server and the client's own token. *open_wire* None: connect over Socket.IO."""

    base: BaseUrl
    dialect: Dialect
    token: UserToken | None
    open_wire: "WireFactory | None" = None


class Wire(Protocol):
    """One connection: opened once, ends once."""

    async def open(
        self, options: ConnectOptions, token: UserToken, seconds: float, /
    ) -> ConnectFailure | None: ...
    async def wait(self) -> None: ...
    async def call(self, event: str, args: tuple[Any, ...]) -> object: ...
    async def close(self) -> None: ...
    def abandon(self) -> None: ...


WireFactory = Callable[[Callable[[str, Any], None], Callable[[], None]], Wire]
"""(on_event, on_end) → a connection that is not opened yet."""
