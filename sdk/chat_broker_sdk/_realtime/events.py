"""The `on_…` methods of both clients' `socket`."""

from collections.abc import Callable
from typing import Any, TypeVar

from chat_broker_sdk._models import (
    Delta,
    Member,
    MemberEvent,
    Message,
    MineEvent,
    PresenceChanges,
    PublicUser,
    ReceiptEvent,
    Room,
    RoomActivity,
    RoomDeleted,
    RoomOnline,
    RoomRemoved,
    Signal,
    SocketErrorEvent,
    TokenExpiring,
)

from .handlers import Handlers

MessageHandler = TypeVar("MessageHandler", bound=Callable[[Message], Any])
MemberHandler = TypeVar("MemberHandler", bound=Callable[[MemberEvent], Any])
MembershipHandler = TypeVar("MembershipHandler", bound=Callable[[Member], Any])
UserHandler = TypeVar("UserHandler", bound=Callable[[PublicUser], Any])
ResetHandler = TypeVar("ResetHandler", bound=Callable[[Room, tuple[Message, ...]], Any])
RoomHandler = TypeVar("RoomHandler", bound=Callable[[Room], Any])
RoomDeletedHandler = TypeVar("RoomDeletedHandler", bound=Callable[[RoomDeleted], Any])
RoomAddedHandler = TypeVar("RoomAddedHandler", bound=Callable[[Delta], Any])
RoomRemovedHandler = TypeVar("RoomRemovedHandler", bound=Callable[[RoomRemoved], Any])
RoomActivityHandler = TypeVar("RoomActivityHandler", bound=Callable[[RoomActivity], Any])
MineHandler = TypeVar("MineHandler", bound=Callable[[MineEvent], Any])
ReceiptHandler = TypeVar("ReceiptHandler", bound=Callable[[ReceiptEvent], Any])
PresenceHandler = TypeVar("PresenceHandler", bound=Callable[[PresenceChanges], Any])
RoomOnlineHandler = TypeVar("RoomOnlineHandler", bound=Callable[[RoomOnline], Any])
SignalHandler = TypeVar("SignalHandler", bound=Callable[[Signal], Any])
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
        """A message was edited, also while the connection was lost. Called once for each state, in order of `rev`."""
        return self._on("message_updated", handler)

    def on_message_deleted(self, handler: MessageHandler) -> MessageHandler:
        """A message was deleted, also while the connection was lost. Its content is empty."""
        return self._on("message_deleted", handler)

    def on_user_joined(self, handler: MemberHandler) -> MemberHandler:
        """A user became a member of the room."""
        return self._on("user_joined", handler)

    def on_user_left(self, handler: MemberHandler) -> MemberHandler:
        """A user is no longer a member of the room."""
        return self._on("user_left", handler)

    def on_member_updated(self, handler: MembershipHandler) -> MembershipHandler:
        """A member has another role. Also called for a user who became a member while the connection was lost."""
        return self._on("member_updated", handler)

    def on_user_updated(self, handler: UserHandler) -> UserHandler:
        """A user of a joined small room has another name or picture. What changed without a connection is not told."""
        return self._on("user_updated", handler)

    def on_reset(self, handler: ResetHandler) -> ResetHandler:
        """The copy of a room is worthless: throw it away. The arguments are the room and its newest messages, oldest first.

        Happens when a backup was put back, or the changes since the last connection are no longer kept.
        """
        return self._on("reset", handler)

    def on_user_typing(self, handler: MemberHandler) -> MemberHandler:
        """A user has started typing."""
        return self._on("user_typing", handler)

    def on_user_stopped_typing(self, handler: MemberHandler) -> MemberHandler:
        """A user has stopped typing."""
        return self._on("user_stopped_typing", handler)

    def on_room_updated(self, handler: RoomHandler) -> RoomHandler:
        """A room's name or description changed, also while the connection was lost."""
        return self._on("room_updated", handler)

    def on_receipt(self, handler: ReceiptHandler) -> ReceiptHandler:
        """A member of a small room has read further, or the room has reached a device of theirs."""
        return self._on("receipt", handler)

    def on_presence(self, handler: PresenceHandler) -> PresenceHandler:
        """Users of `watch_presence` came, went, or changed whether they are seen. At most once a second."""
        return self._on("presence", handler)

    def on_room_online(self, handler: RoomOnlineHandler) -> RoomOnlineHandler:
        """Another number of a room's members is online. At most once in 5 seconds a room."""
        return self._on("room_online", handler)

    def on_signal(self, handler: SignalHandler) -> SignalHandler:
        """A signal for a room that this socket has joined, or for this user."""
        return self._on("signal", handler)

    def on_room_deleted(self, handler: RoomDeletedHandler) -> RoomDeletedHandler:
        """A room was deleted."""
        return self._on("room_deleted", handler)

    def on_room_added(self, handler: RoomAddedHandler) -> RoomAddedHandler:
        """With `watch_rooms`: a room of the user's as it is now, to put in place of what is known of it.

        Called for each room that `watch_rooms` answers, for each room that comes, and after a reconnect for each that
        has changed meanwhile.
        """
        return self._on("room_added", handler)

    def on_room_removed(self, handler: RoomRemovedHandler) -> RoomRemovedHandler:
        """With `watch_rooms`: a room is not the user's any more. Nothing of it is told after this."""
        return self._on("room_removed", handler)

    def on_room_activity(self, handler: RoomActivityHandler) -> RoomActivityHandler:
        """With `watch_rooms`: something was said in a room that this socket has not joined; once a second a room."""
        return self._on("room_activity", handler)

    def on_mine(self, handler: MineHandler) -> MineHandler:
        """The user's own side of a room has changed, on whichever device: marks, pins, archive, role."""
        return self._on("mine", handler)

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
