"""What carries a connection: over the network, or to a fake in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from chat_broker_sdk._credentials import UserToken
from chat_broker_sdk._dialect import Dialect
from chat_broker_sdk._errors import WebSocketError
from chat_broker_sdk._urls import BaseUrl


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no connection, and whether trying again is useless."""

    error: WebSocketError
    for_good: bool


@dataclass(frozen=True, slots=True)
class Where:
    """What a connection is made from."""

    base: BaseUrl
    dialect: Dialect
    token: UserToken | None
    open_wire: "OpenWire | None" = None
    """None: over the network."""


class LiveWire(Protocol):
    """One connection: opened once, ends once."""

    async def open(self, where: Where, token: UserToken, seconds: float, /) -> Refusal | None: ...
    async def wait(self) -> None: ...
    async def call(self, event: str, args: tuple[Any, ...]) -> object: ...
    async def close(self) -> None: ...
    def abandon(self) -> None: ...


OpenWire = Callable[[Callable[[str, Any], None], Callable[[], None]], LiveWire]
"""(received, ended) → a connection that is not opened yet."""
