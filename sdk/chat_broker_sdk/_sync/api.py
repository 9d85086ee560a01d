"""The one place that sends: build → send → retry → parse or raise."""

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Literal, TypeVar, cast, overload

import msgspec

from chat_broker_sdk import _retry
from chat_broker_sdk._credentials import ApiKey, UserToken
from chat_broker_sdk._dialect import Dialect
from chat_broker_sdk._errors import (
    AuthenticationError,
    ChatError,
    CircuitOpenError,
    ConfigurationError,
    FieldError,
    NetworkError,
    bad_response,
    from_problem,
)
from chat_broker_sdk._log import log
from chat_broker_sdk._models import AuthInfo, Project, RevokeReceipt, parse
from chat_broker_sdk._options import Timeouts
from chat_broker_sdk._retry import Outcome
from chat_broker_sdk._transports.base import (
    CONNECTIONS_IN_USE,
    Header,
    Request,
    Response,
    SyncTransport,
)
from chat_broker_sdk._urls import BaseUrl, Query, checked_id, url
from chat_broker_sdk._version import __version__
from chat_broker_sdk._waiting import Lock, sleep

T = TypeVar("T")
Who = Literal["key", "user", "either"]

_COMMON: tuple[Header, ...] = (
    ("Accept", "application/json"),
    ("Accept-Encoding", "gzip"),
    ("User-Agent", f"chat-broker-sdk-python/{__version__}"),
)
_JSON_BODY: tuple[Header, ...] = (("Content-Type", "application/json"),)
_ENCODER = msgspec.json.Encoder()
_MOST_ADDRESSES = 4096

last_response: ContextVar[list[Response] | None] = ContextVar(
    "chat_broker_sdk_last_response", default=None
)


class Server:
    """What all copies of a client share: the connections, and what was learnt about the server."""

    def __init__(self, base: BaseUrl, transport: SyncTransport) -> None:
        self.base = base
        self.transport = transport
        self.breaker = _retry.CLOSED
        self.budget = _retry.Budget()
        self.project: Project | None = None
        self.project_lock = Lock()


class Api:
    """Sends calls to one server with one set of credentials. Copied, never changed."""

    def __init__(
        self,
        server: Server,
        *,
        dialect: Dialect,
        key: ApiKey | None,
        token: UserToken | None,
        timeouts: Timeouts,
        max_attempts: int,
    ) -> None:
        self.server = server
        self.dialect = dialect
        self.key = key
        self.token = token
        self.timeouts = timeouts
        self.max_attempts = max_attempts
        self._with_key = None if key is None else _headers_with(key, dialect)
        self._addresses: dict[tuple[str, ...], str] = {}

    def copy(self, **changes: Any) -> "Api":
        """This one with some settings changed, over the same connections."""
        settings: dict[str, Any] = {
            "server": self.server,
            "dialect": self.dialect,
            "key": self.key,
            "token": self.token,
            "timeouts": self.timeouts,
            "max_attempts": self.max_attempts,
        }
        return Api(**{**settings, **changes})

    # -- the project ----------------------------------------------------------------------------

    def project(self) -> Project:
        """The project of this client's key; asked for once, by one of however many calls want it."""
        server = self.server
        if server.project is not None:
            return server.project
        with server.project_lock:
            if server.project is None:
                server.project = self._find_project()
            return server.project

    def _find_project(self) -> Project:
        dialect = self.dialect
        if dialect.project_id is not None:
            found = Project(id=dialect.project_id)
        elif self.key is not None:
            path = dialect.prefix + dialect.project_path
            found = self.request("GET", path, Project, who="key")
        else:
            info = self.request("GET", dialect.prefix + dialect.verify_path, AuthInfo, who="user")
            if info.user.project_id is None:
                raise bad_response("it names no project for this token", status=200)
            found = Project(id=info.user.project_id)
        try:
            checked_id(found.id, "project id")
        except ChatError:
            pass
        else:
            return found
        raise bad_response("the project's id is no id", status=200)

    # -- calls ----------------------------------------------------------------------------------

    @overload
    def request(
        self,
        method: str,
        where: str | tuple[str, ...],
        into: type[T],
        *,
        who: Who = ...,
        query: Query | None = ...,
        body: Mapping[str, Any] | None = ...,
        creates: bool = ...,
        idempotency_key: str | None = ...,
    ) -> T: ...

    @overload
    def request(
        self,
        method: str,
        where: str | tuple[str, ...],
        into: None = None,
        *,
        who: Who = ...,
        query: Query | None = ...,
        body: Mapping[str, Any] | None = ...,
        creates: bool = ...,
        idempotency_key: str | None = ...,
    ) -> None: ...

    def request(
        self,
        method: str,
        where: str | tuple[str, ...],
        into: type[T] | None = None,
        *,
        who: Who = "key",
        query: Query | None = None,
        body: Mapping[str, Any] | None = None,
        creates: bool = False,
        idempotency_key: str | None = None,
    ) -> T | None:
        """Call a route, repeat what may be repeated, and answer with the parsed reply (its bytes for `bytes`).

        *where*: checked ids and the dialect's words below the project, or a whole path of the server. *creates*: a
        POST whose repetition would make a second thing. It gets an Idempotency-Key, and is repeated only because of it.
        """
        credential = self._credential(who)  # a call that cannot be made asks for no project either
        server, timeouts = self.server, self.timeouts
        if isinstance(where, str):
            address = url(server.base, where, query)
        else:
            if self.dialect.project_scope and server.project is None:
                self.project()
            address = self._address(where, query)
        key = None
        if creates and self.dialect.idempotency_header is not None:
            key = _new_key() if idempotency_key is None else _checked_key(idempotency_key)
        request = self._request(method, address, body, key, credential)
        if server.budget.tokens < _retry.BUDGET_RESERVE:
            server.budget = server.budget.after_call()
        ends = time.monotonic() + timeouts.total
        response: Response | None = None
        failure: ChatError | None = None
        if server.breaker is _retry.CLOSED:
            # As in `_attempt`, without a coroutine more: nearly every call goes this way.
            judged = False
            try:
                response = server.transport.send(
                    request, timeout=min(timeouts.read, timeouts.total)
                )
                judged = True
            except ChatError as error:
                judged = True
                failure = self._failed(error)
            finally:
                if not judged:
                    server.breaker = server.breaker.after_cancel()
            if response is not None:
                self._answered(response)
        else:
            response, failure = self._attempt(request, min(timeouts.read, timeouts.total))
        if response is None or response.status >= 300:
            response = self._more_attempts(
                request,
                response,
                failure,
                ends,
                repeatable=not creates or key is not None,
                credential=credential,
            )
        return None if into is None or response is None else _parsed(response, into)

    def _address(self, where: tuple[str, ...], query: Query | None) -> str:
        """The address of *where* below the project, which is known; remembered if it has no query."""
        known = self._addresses.get(where) if query is None else None
        if known is not None:
            return known
        project = self.server.project
        within = f"/projects/{project.id}" if self.dialect.project_scope and project else ""
        made = url(self.server.base, f"{self.dialect.prefix}{within}/{'/'.join(where)}", query)
        if query is None:
            if len(self._addresses) >= _MOST_ADDRESSES:
                self._addresses.clear()
            self._addresses[where] = made
        return made

    def _request(
        self,
        method: str,
        address: str,
        body: Mapping[str, Any] | None,
        key: str | None,
        credential: ApiKey | UserToken,
    ) -> Request:
        content = None if body is None else _encoded(body)
        # Last, and in a function that has returned when something can fail: no frame keeps the headers.
        headers: tuple[Header, ...] = ()
        if key is not None and self.dialect.idempotency_header is not None:
            headers = ((self.dialect.idempotency_header, key),)
        if self._with_key is not None and credential is self.key:
            shared = self._with_key(content is not None)
            return Request(method, address, headers, content, shared=shared)
        # Users come and go: their tokens are for no transport to keep.
        about_body = () if content is None else _JSON_BODY
        own = (*_COMMON, credential.header(self.dialect), *about_body)
        return Request(method, address, own + headers, content)

    def _credential(self, who: Who) -> ApiKey | UserToken:
        credential = self.token if who == "user" else self.key
        if credential is None and who == "either":
            credential = self.token
        if credential is not None:
            return credential
        if who == "user":
            raise AuthenticationError(
                "This call needs a chat token: jwt_token=…", code="jwt_required"
            )
        raise AuthenticationError("This call needs the project's API key", code="api_key_required")

    def _more_attempts(
        self,
        request: Request,
        response: Response | None,
        failure: ChatError | None,
        ends: float,
        *,
        repeatable: bool,
        credential: ApiKey | UserToken,
    ) -> Response | None:
        """What comes of a call whose first attempt failed, by *failure* or with the status of *response*."""
        server, timeouts = self.server, self.timeouts
        attempt = 1
        last: ChatError | None = None
        unsure = False  # an earlier attempt may have reached the server
        while True:
            if response is not None:
                if response.status < 300:
                    return response
                if response.status in {404, 410} and unsure and request.method == "DELETE":
                    return None  # gone, as was asked; by an attempt whose answer was lost
                failure = _error(response, self.dialect, credential)
            assert failure is not None  # noqa: S101 - one of the two is always there
            if isinstance(failure, CircuitOpenError):
                raise last or failure  # opened by this very call: its own failure says more
            last = failure
            unsure = unsure or (
                failure.code != CONNECTIONS_IN_USE if response is None else response.status >= 500
            )
            pause = _retry.pause_before_retry(
                Outcome(
                    None if isinstance(failure, NetworkError) else failure.status,
                    failure.code,
                    repeatable,
                    failure.retry_after,
                ),
                attempt,
                max_attempts=self.max_attempts,
                spread=random.random(),  # noqa: S311 - spreads load, guards nothing
                remaining=min(ends - time.monotonic(), timeouts.patience),
                budget=server.budget,
            )
            if pause is None or failure.code == "bad_response":
                raise failure
            server.budget = server.budget.after_retry()
            sleep(pause)
            remaining = ends - time.monotonic()
            if remaining <= 0:  # slept a little too long: what went wrong before says more
                raise last
            attempt += 1
            response, failure = self._attempt(request, min(timeouts.read, remaining))

    def _attempt(
        self, request: Request, seconds: float
    ) -> tuple[Response | None, ChatError | None]:
        """Send once and tell the breaker how it went. Errors are returned, so that no frame keeps them."""
        server = self.server
        if server.breaker is not _retry.CLOSED:
            wait = server.breaker.wait(time.monotonic())
            if wait > 0:
                return None, CircuitOpenError(
                    "The Chat API failed several times in a row; nothing is sent for now",
                    code="circuit_open",
                    retry_after=wait,
                )
            server.breaker = server.breaker.before_attempt()
        judged = False
        try:
            response = server.transport.send(request, timeout=seconds)
            judged = True
        except ChatError as error:
            judged = True
            return None, self._failed(error)
        finally:
            if not judged:
                server.breaker = server.breaker.after_cancel()
        self._answered(response)
        return response, None

    def _failed(self, error: ChatError) -> ChatError:
        """Tell the breaker of *error*, and answer it without its frames."""
        server = self.server
        no_answer = isinstance(error, NetworkError) or (
            error.code == "bad_response" and error.status is None
        )
        if no_answer and server.base.address not in error.message:
            error.args = (f"{error.message} ({server.base.address})",)
            log.debug("chat_broker_sdk: no answer: %s", error.message)
        # Neither says anything of the server: nothing has left this process.
        if error.code == CONNECTIONS_IN_USE or isinstance(error, ConfigurationError):
            server.breaker = server.breaker.after_cancel()
            return error.with_traceback(None)
        # An answer that was too large or broken is still an answer.
        status = error.status if error.code == "bad_response" else None
        server.breaker = server.breaker.after_attempt(status, time.monotonic())
        return error.with_traceback(None)

    def _answered(self, response: Response) -> None:
        """Tell the breaker, and whoever wants to see it, of *response*."""
        server = self.server
        if server.breaker is not _retry.CLOSED or response.status >= 500:
            code = _code(response) if response.status == 503 else None
            server.breaker = server.breaker.after_attempt(response.status, time.monotonic(), code)
        if (kept := last_response.get()) is not None:
            kept.append(response)


def _headers_with(key: ApiKey, dialect: Dialect) -> Callable[[bool], tuple[Header, ...]]:
    """What every request with *key* begins with, behind a function, as the key itself is: has it a body of JSON?"""
    headers = (*_COMMON, key.header(dialect))
    with_body = (*headers, *_JSON_BODY)
    return lambda has_body: with_body if has_body else headers


def _encoded(body: Mapping[str, Any]) -> bytes:
    """JSON of *body*; what cannot be JSON is the caller's mistake, and is said as such."""
    try:
        return _ENCODER.encode(body)
    except (TypeError, ValueError, RecursionError, OverflowError):
        pass
    raise from_problem(
        400,
        {"code": "bad_request", "detail": "The call's arguments cannot be written as JSON"},
        request_id=None,
        retry_after=None,
    )


def _new_key() -> str:
    """A key nobody else has. It begins with the time, so that a server's index of keys grows at one end."""
    # Unique, not secret: a system call for each would cost as much as the request's head.
    return f"{time.time_ns():x}{random.getrandbits(64):016x}"


def _checked_key(key: str) -> str:
    if 0 < len(key) <= 255 and all("!" <= character <= "~" for character in key):
        return key
    raise from_problem(
        400,
        {
            "code": "bad_idempotency_key",
            "detail": "An idempotency key is 1 to 255 visible ASCII characters",
        },
        request_id=None,
        retry_after=None,
    )


def _parsed(response: Response, into: type[T]) -> T:
    if not response.body and into is RevokeReceipt:
        return into()  # a server that revokes without a receipt answers 204
    kind = response.header("content-type") or "application/json"
    if kind == "application/json" or _is_json(kind):
        if into is bytes:
            return cast("T", response.body)
        try:
            return parse(response.body, into)
        except (
            ValueError,
            RecursionError,
        ):  # msgspec's errors and UnicodeDecodeError are ValueErrors
            pass
        what = "the body does not have the expected shape"
    else:
        what = "the body is not JSON"
    # Raised out here: the parser's exception quotes the body.
    raise bad_response(what, status=response.status, request_id=response.header("x-request-id"))


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _problem(response: Response) -> object:
    """The body of an error, or None if it is no JSON."""
    with suppress(ValueError, RecursionError):
        return msgspec.json.decode(response.body) if response.body else None
    return None


def _code(response: Response) -> str | None:
    problem = _problem(response)
    code = problem.get("code") if isinstance(problem, dict) else None
    return code if isinstance(code, str) else None


def _error(response: Response, dialect: Dialect, credential: ApiKey | UserToken) -> ChatError:
    error = from_problem(
        response.status,
        _problem(response),
        request_id=response.header(dialect.request_id_header),
        retry_after=_retry.retry_after(response.header("retry-after"), now=time.time()),
    )
    error.args = (credential.scrub(error.message),)
    if error.code is not None:
        error.code = credential.scrub(error.code)
    if error.request_id is not None:
        error.request_id = credential.scrub(error.request_id)
    error.errors = tuple(
        FieldError(credential.scrub(each.field), credential.scrub(each.message))
        for each in error.errors
    )
    return error
