"""ChatClient: credentials, settings and resources; copies for one user; closing."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Generic, ParamSpec, Self, TypeVar

from chat_broker_sdk._credentials import api_key as _api_key
from chat_broker_sdk._credentials import seal
from chat_broker_sdk._credentials import user_token as _user_token
from chat_broker_sdk._dialect import Dialect
from chat_broker_sdk._emulation import Have
from chat_broker_sdk._errors import ConfigurationError
from chat_broker_sdk._fields import without_none
from chat_broker_sdk._models import Project, SyncResult
from chat_broker_sdk._options import Timeouts, timeouts
from chat_broker_sdk._realtime.wire import ConnectOptions
from chat_broker_sdk._retry import MAX_ATTEMPTS
from chat_broker_sdk._transports.base import Header, Response
from chat_broker_sdk._transports.choose import TransportArgument, resolve_transport
from chat_broker_sdk._urls import base_url as _base_url

from .api import Api, ServerState, recorded_responses
from .auth import Auth
from .messages import Messages
from .rooms import Rooms
from .sync import sync_rooms
from .transport import SyncHttpxTransport
from .users import Users

if TYPE_CHECKING:
    from chat_broker_sdk._sync_socket import ChatSocket  # most clients open no socket

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class RawResponse(Generic[T]):
    """A call's parsed *value* and the last HTTP response it received."""

    value: T
    status: int
    headers: tuple[Header, ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of that name, case-insensitive; None if there is none."""
        return Response(self.status, list(self.headers)).header(name)


class ChatClient:
    """A client of one Chat API: `users`, `rooms`, `messages`, `auth` over REST, `socket` for live events.

    *api_key* is for the whole project (a secret: backend only), *jwt_token* for one user. With both, REST uses
    the key, `auth` and `socket` the token. Without either, CHAT_API_KEY is read; without *base_url*,
    CHAT_BASE_URL. There is no default server. Raises ConfigurationError, which is also a ValueError.

    *transport* carries the requests and is closed with the client. *timeout*: Timeouts, or seconds for a whole
    call. *retries*: how often a call is retried where that is safe, 0 to 2.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        jwt_token: str | None = None,
        transport: TransportArgument | None = None,
        timeout: float | Timeouts = Timeouts(),  # noqa: B008 - frozen
        retries: int = MAX_ATTEMPTS - 1,
        dialect: Dialect = Dialect(),  # noqa: B008 - frozen
        allow_http: bool = False,
    ) -> None:
        if api_key is None and jwt_token is None:
            api_key = os.environ.get("CHAT_API_KEY") or None
        # From here on no local variable holds the bare values, and so no traceback does.
        sealed_key = None if api_key is None else seal(api_key)
        sealed_token = None if jwt_token is None else seal(jwt_token)
        del api_key, jwt_token
        if sealed_key is None and sealed_token is None:
            raise ConfigurationError(
                "Pass api_key, jwt_token or both, or set CHAT_API_KEY", code="no_credentials"
            )
        limits = timeouts(timeout)
        self._allow_http = allow_http
        address = base_url or os.environ.get("CHAT_BASE_URL")
        if not address:
            raise ConfigurationError(
                "Pass base_url or set CHAT_BASE_URL: the credential goes to that server alone"
                " (base_url=chat_broker_sdk.HOSTED_URL is the public one)",
                code="no_base_url",
            )
        base = _base_url(address, allow_http=allow_http)
        carrier = (
            SyncHttpxTransport(connect_timeout=limits.connect)
            if transport is None
            else resolve_transport(transport)
        )
        self._owns_transport = True
        self._socket: ChatSocket | None = None
        self._set_api(
            Api(
                ServerState(base, carrier),
                dialect=dialect,
                key=None if sealed_key is None else _api_key(sealed_key),
                token=None if sealed_token is None else _user_token(sealed_token),
                timeouts=limits,
                max_attempts=_attempts(retries),
            )
        )

    def _set_api(self, api: Api) -> None:
        self._api = api
        self.users = Users(api)
        self.rooms = Rooms(api)
        self.messages = Messages(api)
        self.auth = Auth(api)

    def _copy_with(self, api: Api) -> Self:
        copy = object.__new__(type(self))
        copy._allow_http = self._allow_http
        copy._owns_transport = False
        copy._socket = None
        copy._set_api(api)
        return copy

    @property
    def socket(self) -> "ChatSocket":
        """The live connection of this client's user. Created once, opened by its `connect`."""
        if self._socket is None:
            from chat_broker_sdk._sync_socket import ChatSocket

            self._socket = ChatSocket(self._connect_options)
        return self._socket

    def _connect_options(self) -> ConnectOptions:
        api = self._api
        open_wire = getattr(api.server.transport, "open_wire", None)
        return ConnectOptions(api.server.base, api.dialect, api.token, open_wire)

    def as_user(self, token: str) -> Self:
        """A copy that acts as one user, with the token only. It shares the connections; this client stays as it is."""
        sealed = seal(token)
        del token
        return self._copy_with(self._api.copy(key=None, token=_user_token(sealed)))

    def with_options(
        self, *, timeout: float | Timeouts | None = None, retries: int | None = None
    ) -> Self:
        """A copy with other limits. It shares the connections; this client stays as it is."""
        api = self._api
        return self._copy_with(
            api.copy(
                timeouts=api.timeouts if timeout is None else timeouts(timeout),
                max_attempts=api.max_attempts if retries is None else _attempts(retries),
            )
        )

    def with_raw_response(
        self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> RawResponse[T]:
        """Make *call* with these arguments, and return its value with the HTTP response.

        `raw = client.with_raw_response(client.rooms.get, "r1")` has `raw.value`, `raw.status`,
        `raw.headers` and `raw.body`. Raises ConfigurationError if the call sends no request.
        """
        responses: list[Response] = []
        reset_token = recorded_responses.set(responses)
        try:
            value = call(*args, **kwargs)
        finally:
            recorded_responses.reset(reset_token)
        if not responses:
            raise ConfigurationError("That call sends no request", code="no_request")
        last = responses[-1]
        return RawResponse(value, last.status, tuple(last.headers), last.body)

    def project(self, *, refresh: bool = False) -> Project:
        """The project these credentials belong to, and what its server offers. Fetched once, and again with *refresh*."""
        return self._api.description(refresh=refresh)

    def supports(self, feature: str) -> bool:
        """Whether the server offers an optional *feature* (`changes`, `mine`, `sync`, …). Asked once."""
        return self._api.supports(feature)

    def sync(
        self,
        *,
        user_id: str | None = None,
        have: Have | None = None,
        have_version: int | None = None,
        epoch: str | None = None,
        messages: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        token: str | None = None,
    ) -> SyncResult:
        """What a client lacks of all rooms of a user, newest activity first; safe to repeat.

        With the API key of *user_id*, with a token of its user. *have* is what the client knows, under *epoch*: room id
        → (last_seq, rev, mine.version), of at most 500 rooms. *messages*: how many of the newest missed ones, 0 to 20
        (1). *limit*: rooms, 1 to 200 (50). *cursor*, *token*, *have_version*: of the last answer.

        On a server without the feature `sync` it reads the rooms, and the new messages of each: deltas are `partial`.
        """
        body = without_none(
            have_version=have_version,
            epoch=epoch,
            messages=messages,
            limit=limit,
            cursor=cursor,
            token=token,
        )
        body["have"] = {room_id: [*entry] for room_id, entry in (have or {}).items()}
        return sync_rooms(self._api, user_id, body)

    def set_base_url(self, url: str) -> None:
        """Send calls, and the credentials, to another server from now on. Earlier copies keep the old one."""
        base = _base_url(url, allow_http=self._allow_http)
        self._set_api(self._api.copy(server=ServerState(base, self._api.server.transport)))

    def set_jwt_token(self, token: str) -> None:
        """Use this token from now on. For a client of one user; with a shared client use `as_user`."""
        sealed = seal(token)
        del token
        self._set_api(self._api.copy(token=_user_token(sealed)))

    def close(self) -> None:
        """Close the socket, and the transport's connections unless this is a copy."""
        if self._socket is not None:
            self._socket.close()
        if self._owns_transport:
            self._api.server.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        api = getattr(self, "_api", None)  # absent while a constructor fails
        return f"<{type(self).__name__} {api.server.base if api else 'unfinished'}>"


def _attempts(retries: int) -> int:
    if not 0 <= retries < MAX_ATTEMPTS:
        raise ConfigurationError(f"retries is 0 to {MAX_ATTEMPTS - 1}", code="bad_retries")
    return retries + 1
