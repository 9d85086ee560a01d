"""The `on_…` methods of both clients' `socket`."""

from collections.abc import Callable
from typing import Any, TypeVar

from chat_broker_sdk._models import (
    MemberEvent,
    Message,
    Room,
    RoomDeleted,
    SocketErrorEvent,
    TokenExpiring,
)

from .handlers import Handlers

MessageHandler = TypeVar("MessageHandler", bound=Callable[[Message], Any])
MemberHandler = TypeVar("MemberHandler", bound=Callable[[MemberEvent], Any])
RoomHandler = TypeVar("RoomHandler", bound=Callable[[Room], Any])
RoomDeletedHandler = TypeVar("RoomDeletedHandler", bound=Callable[[RoomDeleted], Any])
ErrorHandler = TypeVar("ErrorHandler", bound=Callable[[SocketErrorEvent], Any])
ExpiringHandler = TypeVar("ExpiringHandler", bound=Callable[[TokenExpiring], Any])
ConnectHandler = TypeVar("ConnectHandler", bound=Callable[[], Any])
DisconnectHandler = TypeVar("DisconnectHandler", bound=Callable[[str], Any])
AnyHandler = TypeVar("AnyHandler", bound=Callable[..., Any])


class EventMethods:
    """Registers handlers. Each `on_…` takes a function or coroutine function and returns it: usable as a decorator."""

    _handlers: Handlers

    def _on(self, event: str, handler: AnyHandler) -> AnyHandler:
        self._handlers.add(event, handler)
        return handler

    def on_message(self, handler: MessageHandler) -> MessageHandler:
        """A message was posted. Called once for each, in order of `seq`, also for those missed while disconnected."""
        return self._on("message", handler)

    def on_message_updated(self, handler: MessageHandler) -> MessageHandler:
        """A message was edited."""
        return self._on("message_updated", handler)

    def on_message_deleted(self, handler: MessageHandler) -> MessageHandler:
        """A message was deleted. Its content is empty."""
        return self._on("message_deleted", handler)

    def on_user_joined(self, handler: MemberHandler) -> MemberHandler:
        """A user became a member of the room."""
        return self._on("user_joined", handler)

    def on_user_left(self, handler: MemberHandler) -> MemberHandler:
        """A user is no longer a member of the room."""
        return self._on("user_left", handler)

    def on_user_typing(self, handler: MemberHandler) -> MemberHandler:
        """A user has started typing."""
        return self._on("user_typing", handler)

    def on_user_stopped_typing(self, handler: MemberHandler) -> MemberHandler:
        """A user has stopped typing."""
        return self._on("user_stopped_typing", handler)

    def on_room_updated(self, handler: RoomHandler) -> RoomHandler:
        """A room's name or description changed."""
        return self._on("room_updated", handler)

    def on_room_deleted(self, handler: RoomDeletedHandler) -> RoomDeletedHandler:
        """A room was deleted."""
        return self._on("room_deleted", handler)

    def on_token_expiring(self, handler: ExpiringHandler) -> ExpiringHandler:
        """The token expires soon. A token function is then called automatically, and its token sent."""
        return self._on("token_expiring", handler)

    def on_error(self, handler: ErrorHandler) -> ErrorHandler:
        """The server reported a problem, or the connection has ended and will not reconnect (`reconnect` False)."""
        return self._on("error", handler)

    def on_connect(self, handler: ConnectHandler) -> ConnectHandler:
        """The connection was opened, for the first time or again."""
        return self._on("connect", handler)

    def on_disconnect(self, handler: DisconnectHandler) -> DisconnectHandler:
        """The connection ended. The argument is the server's code, `connection_lost`, or `client_disconnect`."""
        return self._on("disconnect", handler)

    def off(self, handler: Callable[..., Any]) -> None:
        """Stop calling *handler*, for all events."""
        self._handlers.remove(handler)
