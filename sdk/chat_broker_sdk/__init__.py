"""A client of the Chat API: users, rooms, messages and tokens over REST, live events over Socket.IO."""

from ._async.client import AsyncChatClient, AsyncRawResponse
from ._async.transport import HttpxTransport
from ._dialect import Dialect, Events, Routes
from ._errors import (
    AuthenticationError,
    ChatError,
    CircuitOpenError,
    ConfigurationError,
    ConflictError,
    FieldError,
    NetworkError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TimeoutError,  # noqa: A004 - the name the README promises
    UnsupportedOperationError,
    ValidationError,
    WebSocketError,
)
from ._models import (
    AuthInfo,
    AuthUser,
    ChatUser,
    JoinedRoom,
    Member,
    MemberEvent,
    Message,
    Model,
    Page,
    Project,
    ReadMark,
    RevokeReceipt,
    Room,
    RoomDeleted,
    SocketErrorEvent,
    Token,
    TokenExpiring,
)
from ._options import Timeouts
from ._sync.client import ChatClient, RawResponse
from ._sync.transport import SyncHttpxTransport
from ._transports.aiohttp import AiohttpTransport
from ._transports.asgi import AsgiTransport
from ._transports.base import Request, Response, SyncTransport, Transport
from ._transports.httptools import HttptoolsTransport
from ._transports.in_process import DirectTransport
from ._urls import HOSTED_URL
from ._version import __version__ as __version__

__all__ = [
    "HOSTED_URL",
    "AiohttpTransport",
    "AsgiTransport",
    "AsyncChatClient",
    "AsyncRawResponse",
    "AuthInfo",
    "AuthUser",
    "AuthenticationError",
    "ChatClient",
    "ChatError",
    "ChatUser",
    "CircuitOpenError",
    "ConfigurationError",
    "ConflictError",
    "Dialect",
    "DirectTransport",
    "Events",
    "FieldError",
    "HttptoolsTransport",
    "HttpxTransport",
    "JoinedRoom",
    "Member",
    "MemberEvent",
    "Message",
    "Model",
    "NetworkError",
    "NotFoundError",
    "Page",
    "Project",
    "RateLimitError",
    "RawResponse",
    "ReadMark",
    "Request",
    "Response",
    "RevokeReceipt",
    "Room",
    "RoomDeleted",
    "Routes",
    "ServerError",
    "SocketErrorEvent",
    "SyncHttpxTransport",
    "SyncTransport",
    "TimeoutError",
    "Timeouts",
    "Token",
    "TokenExpiring",
    "Transport",
    "UnsupportedOperationError",
    "ValidationError",
    "WebSocketError",
]
