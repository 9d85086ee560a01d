"""The `on_…` methods of a live connection, the same for both twins."""

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


class Listening:
    """Each `on_…` takes a function or coroutine function, returns it, and so serves as a decorator."""

    _handlers: Handlers

    def _on(self, event: str, handler: AnyHandler) -> AnyHandler:
        self._handlers.add(event, handler)
        return handler

    def on_message(self, handler: MessageHandler) -> MessageHandler:
        """A message, each once, in the room's order; also one that was missed while away."""
        return self._on("message", handler)

    def on_message_updated(self, handler: MessageHandler) -> MessageHandler:
        """A message was edited."""
        return self._on("message_updated", handler)

    def on_message_deleted(self, handler: MessageHandler) -> MessageHandler:
        """A message was deleted; its content is empty."""
        return self._on("message_deleted", handler)

    def on_user_joined(self, handler: MemberHandler) -> MemberHandler:
        """Somebody became a member of the room."""
        return self._on("user_joined", handler)

    def on_user_left(self, handler: MemberHandler) -> MemberHandler:
        """Somebody is no longer a member of the room."""
        return self._on("user_left", handler)

    def on_user_typing(self, handler: MemberHandler) -> MemberHandler:
        """Somebody types."""
        return self._on("user_typing", handler)

    def on_user_stopped_typing(self, handler: MemberHandler) -> MemberHandler:
        """Somebody types no more."""
        return self._on("user_stopped_typing", handler)

    def on_room_updated(self, handler: RoomHandler) -> RoomHandler:
        """A room's name or description changed."""
        return self._on("room_updated", handler)

    def on_room_deleted(self, handler: RoomDeletedHandler) -> RoomDeletedHandler:
        """A room is gone."""
        return self._on("room_deleted", handler)

    def on_token_expiring(self, handler: ExpiringHandler) -> ExpiringHandler:
        """The token runs out soon; a token function is asked for the next one by itself."""
        return self._on("token_expiring", handler)

    def on_error(self, handler: ErrorHandler) -> ErrorHandler:
        """The server reported a problem; or the connection ended for good (`closing`, and `reconnect` False)."""
        return self._on("error", handler)

    def on_connect(self, handler: ConnectHandler) -> ConnectHandler:
        """The connection is open, the first time or again."""
        return self._on("connect", handler)

    def on_disconnect(self, handler: DisconnectHandler) -> DisconnectHandler:
        """The connection ended; told why, by code: the server's, `connection_lost`, `client_disconnect`."""
        return self._on("disconnect", handler)

    def off(self, handler: Callable[..., Any]) -> None:
        """Tell *handler* of nothing any more."""
        self._handlers.remove(handler)
