"""The wire format's choices that the public README leaves open, as one replaceable value."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """Path segments below the project."""

    users: str = "users"
    rooms: str = "rooms"
    messages: str = "messages"
    members: str = "members"
    direct: str = "direct"
    token: str = "token"  # noqa: S105 - a path segment
    revoke: str = "revoke"
    join: str = "join"
    leave: str = "leave"
    read: str = "read"
    delivered: str = "delivered"
    mine: str = "mine"
    changes: str = "changes"
    reactions: str = "reactions"
    pin: str = "pin"
    pins: str = "pins"
    unread: str = "unread"
    sync: str = "sync"
    settings: str = "settings"
    mentions: str = "mentions"
    blocks: str = "blocks"
    directory: str = "directory"
    receipts: str = "receipts"
    presence: str = "presence"
    signals: str = "signals"


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Socket.IO event names: first those the client sends, then those the server sends."""

    join_room: str = "joinRoom"
    leave_room: str = "leaveRoom"
    send_message: str = "sendMessage"
    start_typing: str = "startTyping"
    stop_typing: str = "stopTyping"
    mark_read: str = "markRead"
    mark_delivered: str = "markDelivered"
    watch_rooms: str = "watchRooms"
    unwatch_rooms: str = "unwatchRooms"
    watch_presence: str = "watchPresence"
    send_signal: str = "sendSignal"
    refresh_token: str = "refreshToken"  # noqa: S105 - an event name

    message: str = "message"
    message_updated: str = "messageUpdated"
    message_deleted: str = "messageDeleted"
    user_joined: str = "userJoined"
    user_left: str = "userLeft"
    member_updated: str = "memberUpdated"
    user_typing: str = "userTyping"
    user_stopped_typing: str = "userStoppedTyping"
    room_updated: str = "roomUpdated"
    room_deleted: str = "roomDeleted"
    room_added: str = "roomAdded"
    room_removed: str = "roomRemoved"
    room_activity: str = "roomActivity"
    mine: str = "mine"
    user_updated: str = "userUpdated"
    receipt: str = "receipt"
    presence: str = "presence"
    room_online: str = "roomOnline"
    signal: str = "signal"
    token_expiring: str = "tokenExpiring"  # noqa: S105 - an event name
    error: str = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one Chat API spells its paths, headers and events.

    The defaults are this project's contract. For a server that differs, pass
    `dialect=Dialect(api_key_header="Authorization", api_key_prefix="Bearer ", prefix="/v2")`.

    *project_id*: set it to save the call that fetches it. *project_scope*: False where routes start right
    after the prefix, without `/projects/{id}`. *idempotency_header*: None where the server ignores it; POSTs
    that create something are then never retried. *features*: the optional features of the server, in place of what
    it says of itself.
    """

    prefix: str = "/api/v1"
    api_key_header: str = "X-API-Key"
    api_key_prefix: str = ""
    token_header: str = "Authorization"  # noqa: S105 - a header name
    token_prefix: str = "Bearer "  # noqa: S105 - a scheme
    idempotency_header: str | None = "Idempotency-Key"
    request_id_header: str = "X-Request-Id"
    project_path: str = "/project"
    project_id: str | None = None
    project_scope: bool = True
    verify_path: str = "/auth/verify"
    socket_path: str = "/socket.io"
    features: frozenset[str] | None = None
    routes: Routes = field(default_factory=Routes)
    events: Events = field(default_factory=Events)
