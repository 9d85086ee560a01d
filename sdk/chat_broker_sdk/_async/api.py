"""Sends all requests: build → send → retry → parse or raise."""

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Literal, TypeVar, cast, overload

import msgspec

from chat_broker_sdk import _retry
from chat_broker_sdk._cache import put_bounded
from chat_broker_sdk._credentials import ApiKey, UserToken
from chat_broker_sdk._dialect import Dialect
from chat_broker_sdk._errors import (
    AuthenticationError,
    ChatError,
    CircuitOpenError,
    ConfigurationError,
    FieldError,
    NetworkError,
    NotFoundError,
    bad_response,
    from_problem,
    unsupported,
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
    Transport,
)
from chat_broker_sdk._urls import BaseUrl, Query, checked_id, url
from chat_broker_sdk._version import __version__
from chat_broker_sdk._waiting import AsyncLock, async_sleep

T = TypeVar("T")
Auth = Literal["key", "user", "either"] | UserToken
"""The credential of a call. `either`: the API key, or the token where there is no key. A token: that one."""

_COMMON: tuple[Header, ...] = (
    ("Accept", "application/json"),
    ("Accept-Encoding", "gzip"),
    ("User-Agent", f"chat-broker-sdk-python/{__version__}"),
)
_JSON_BODY: tuple[Header, ...] = (("Content-Type", "application/json"),)
_COMMON_WITH_BODY = _COMMON + _JSON_BODY
_ENCODER = msgspec.json.Encoder()
_MAX_CACHED_URLS = 4096

recorded_responses: ContextVar[list[Response] | None] = ContextVar(
    "chat_broker_sdk_recorded_responses", default=None
)
"""Collects the responses of `with_raw_response`; None outside of it."""


class AsyncServerState:
    """What all copies of a client share about one server: connections, breaker, retry budget, project.

    *project* has at least the id. *description* is the project as the server describes it, with its features.
    """

    def __init__(self, base: BaseUrl, transport: Transport) -> None:
        self.base = base
        self.transport = transport
        self.breaker = _retry.CLOSED
        self.budget = _retry.Budget()
        self.project: Project | None = None
        self.description: Project | None = None
        self.project_lock = AsyncLock()


class AsyncApi:
    """Sends calls to one server with one set of credentials. Immutable: `copy` makes another one."""

    def __init__(
        self,
        server: AsyncServerState,
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
        self._attempt_timeout = min(timeouts.read, timeouts.total)
        self._key_headers = None if key is None else _headers_with(key, dialect)
        self._urls: dict[tuple[str, ...], str] = {}

    def copy(self, **changes: Any) -> "AsyncApi":
        """An AsyncApi with *changes*, over the same connections."""
        settings: dict[str, Any] = {
            "server": self.server,
            "dialect": self.dialect,
            "key": self.key,
            "token": self.token,
            "timeouts": self.timeouts,
            "max_attempts": self.max_attempts,
        }
        return AsyncApi(**{**settings, **changes})

    # -- the project ----------------------------------------------------------------------------

    async def project(self) -> Project:
        """The project of this client's credentials. Fetched once, also by concurrent calls."""
        server = self.server
        if server.project is not None:
            return server.project
        async with server.project_lock:
            if server.project is None:
                server.project = await self._fetch_project()
            return server.project

    async def _fetch_project(self) -> Project:
        dialect = self.dialect
        if dialect.project_id is not None:
            return _checked_project(Project(id=dialect.project_id))
        if self.key is None:
            return await self._project_of_token()
        self.server.description = await self._fetch_description()
        return self.server.description

    async def _project_of_token(self) -> Project:
        info = await self.request(
            "GET", self.dialect.prefix + self.dialect.verify_path, AuthInfo, auth="user"
        )
        if info.user.project_id is None:
            raise bad_response("it names no project for this token", status=200)
        return _checked_project(Project(id=info.user.project_id))

    async def description(self, *, refresh: bool = False) -> Project:
        """The project as the server describes it. Fetched once, also by concurrent calls, and again with *refresh*."""
        server = self.server
        if server.description is not None and not refresh:
            return server.description
        async with server.project_lock:
            if server.description is None or refresh:
                server.description = await self._fetch_description()
            return server.description

    async def _fetch_description(self) -> Project:
        dialect = self.dialect
        path = dialect.prefix + dialect.project_path
        try:
            described = _checked_project(await self.request("GET", path, Project, auth="either"))
            if self.server.project is None and dialect.project_id is None:
                self.server.project = described
            return described
        except NotFoundError:
            if self.key is not None and dialect.project_id is None:
                raise
        except AuthenticationError:
            if self.key is not None:
                raise
        # A server without features may refuse tokens here. `verify` raises if it is the token that is refused.
        if self.key is None:
            return await self._project_of_token()
        return await self._fetch_project()

    async def supports(self, feature: str) -> bool:
        """Whether the server offers the optional *feature*."""
        if self.dialect.features is not None:
            return feature in self.dialect.features
        return feature in (await self.description()).features

    async def require(self, feature: str) -> None:
        """Raise UnsupportedOperationError (`unsupported`) if the server does not offer the optional *feature*."""
        if not await self.supports(feature):
            raise unsupported(feature)

    # -- calls ----------------------------------------------------------------------------------

    @overload
    async def request(
        self,
        method: str,
        path: str | tuple[str, ...],
        into: type[T],
        *,
        auth: Auth = ...,
        query: Query | None = ...,
        body: Mapping[str, Any] | None = ...,
        creates: bool = ...,
        idempotency_key: str | None = ...,
    ) -> T: ...

    @overload
    async def request(
        self,
        method: str,
        path: str | tuple[str, ...],
        into: None = None,
        *,
        auth: Auth = ...,
        query: Query | None = ...,
        body: Mapping[str, Any] | None = ...,
        creates: bool = ...,
        idempotency_key: str | None = ...,
    ) -> None: ...

    async def request(
        self,
        method: str,
        path: str | tuple[str, ...],
        into: type[T] | None = None,
        *,
        auth: Auth = "key",
        query: Query | None = None,
        body: Mapping[str, Any] | None = None,
        creates: bool = False,
        idempotency_key: str | None = None,
    ) -> T | None:
        """Call a route, retry where that is safe, and return the parsed response (`bytes`: its body as it is).

        *path*: checked ids and the dialect's words below the project, or a whole path as one string. *creates*: a
        POST that creates something. It carries an Idempotency-Key, and is retried only with one.
        Raises ChatError.
        """
        credential = self._credential(
            auth
        )  # before the project is fetched for a call without credential
        server = self.server
        if isinstance(path, str):
            address = url(server.base, path, query)
        else:
            if self.dialect.project_scope and server.project is None:
                await self.project()
            address = self._project_url(path, query)
        key = None
        if creates and self.dialect.idempotency_header is not None:
            key = _new_key() if idempotency_key is None else _checked_key(idempotency_key)
        request = self._request(method, address, body, key, credential)
        if server.budget.tokens < _retry.BUDGET_RESERVE:
            server.budget = server.budget.after_call()
        deadline = time.monotonic() + self.timeouts.total
        result = await self._attempt(request, self._attempt_timeout)
        response: Response | None
        if isinstance(result, Response) and result.status < 300:
            response = result
        else:
            repeatable = not creates or key is not None
            response = await self._retry(
                request, result, deadline, credential, repeatable=repeatable
            )
        return None if into is None or response is None else _parsed(response, into)

    def _project_url(self, path: tuple[str, ...], query: Query | None) -> str:
        """The URL of *path* below the project, which has been fetched. Cached if it has no query."""
        cached = self._urls.get(path) if query is None else None
        if cached is not None:
            return cached
        project = self.server.project
        scope = f"/projects/{project.id}" if self.dialect.project_scope and project else ""
        built = url(self.server.base, f"{self.dialect.prefix}{scope}/{'/'.join(path)}", query)
        if query is None:
            put_bounded(self._urls, path, built, _MAX_CACHED_URLS)
        return built

    def _request(
        self,
        method: str,
        address: str,
        body: Mapping[str, Any] | None,
        key: str | None,
        credential: ApiKey | UserToken,
    ) -> Request:
        content = None if body is None else _encoded(body)
        # Built last, in a function that has returned before a request can fail: no traceback holds the headers.
        headers: tuple[Header, ...] = ()
        if key is not None and self.dialect.idempotency_header is not None:
            headers = ((self.dialect.idempotency_header, key),)
        if self._key_headers is not None and credential is self.key:
            shared = self._key_headers(content is not None)
            return Request(method, address, headers, content, shared=shared)
        # The token is not shared: transports cache shared headers, and there are many tokens.
        common = _COMMON if content is None else _COMMON_WITH_BODY
        own = (credential.header(self.dialect), *headers)
        return Request(method, address, own, content, shared=common)

    def _credential(self, auth: Auth) -> ApiKey | UserToken:
        if auth == "key":
            credential: ApiKey | UserToken | None = self.key
        elif isinstance(auth, UserToken):
            return auth
        elif auth == "user":
            credential = self.token
        else:
            credential = self.key or self.token
        if credential is not None:
            return credential
        if auth == "user":
            raise AuthenticationError(
                "This call needs a chat token: jwt_token=…", code="jwt_required"
            )
        raise AuthenticationError("This call needs the project's API key", code="api_key_required")

    async def _retry(
        self,
        request: Request,
        result: Response | ChatError,
        deadline: float,
        credential: ApiKey | UserToken,
        *,
        repeatable: bool,
    ) -> Response | None:
        """The response of a call whose first attempt ended with *result*, a failure. Raises the last ChatError."""
        server = self.server
        attempt = 1
        failure: ChatError | None = None
        may_have_arrived = False  # an earlier attempt may have taken effect
        while True:
            previous = failure
            if isinstance(result, Response):
                if result.status < 300:
                    return result
                if result.status in {404, 410} and may_have_arrived and request.method == "DELETE":
                    return None  # deleted by an earlier attempt, whose response was lost
                failure = _error(result, self.dialect, credential)
                may_have_arrived = may_have_arrived or result.status >= 500
            else:
                failure = result
                if isinstance(failure, CircuitOpenError):
                    raise previous or failure  # the cause that opened the breaker says more
                may_have_arrived = may_have_arrived or failure.code != CONNECTIONS_IN_USE
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
                remaining=min(deadline - time.monotonic(), self.timeouts.patience),
                budget=server.budget,
            )
            if pause is None or failure.code == "bad_response":
                raise failure
            server.budget = server.budget.after_retry()
            await async_sleep(pause)
            remaining = deadline - time.monotonic()
            if (
                remaining <= 0
            ):  # the sleep took too long: the earlier failure says more than a timeout
                raise failure
            attempt += 1
            result = await self._attempt(request, min(self._attempt_timeout, remaining))

    async def _attempt(self, request: Request, seconds: float) -> Response | ChatError:
        """Send once and record the outcome. Errors are returned, so that no traceback holds the request."""
        server = self.server
        if server.breaker is not _retry.CLOSED:
            wait = server.breaker.wait(time.monotonic())
            if wait > 0:
                return CircuitOpenError(
                    "The Chat API failed several times in a row; nothing is sent for now",
                    code="circuit_open",
                    retry_after=wait,
                )
            server.breaker = server.breaker.before_attempt()
        try:
            response = await server.transport.send(request, timeout=seconds)
        except ChatError as error:
            return self._record_failure(error)
        except BaseException:
            server.breaker = server.breaker.after_cancel()
            raise
        if server.breaker is not _retry.CLOSED or response.status >= 500:
            code = _code(response) if response.status == 503 else None
            server.breaker = server.breaker.after_attempt(response.status, time.monotonic(), code)
        if (recorded := recorded_responses.get()) is not None:
            recorded.append(response)
        return response

    def _record_failure(self, error: ChatError) -> ChatError:
        """Tell the breaker of *error*, and return it with the server's address and without its frames."""
        server = self.server
        no_response = isinstance(error, NetworkError) or (
            error.code == "bad_response" and error.status is None
        )
        if no_response and server.base.address not in error.message:
            error.args = (f"{error.message} ({server.base.address})",)
            log.debug("chat_broker_sdk: no answer: %s", error.message)
        if error.code == CONNECTIONS_IN_USE or isinstance(error, ConfigurationError):
            server.breaker = server.breaker.after_cancel()  # nothing was sent
        else:
            # A response that is too large or malformed still shows a working server.
            status = error.status if error.code == "bad_response" else None
            server.breaker = server.breaker.after_attempt(status, time.monotonic())
        return error.with_traceback(None)


def _checked_project(project: Project) -> Project:
    """*project*, if its id may stand in a URL. Raises ServerError (`bad_response`)."""
    try:
        checked_id(project.id, "project id")
    except ChatError:
        pass
    else:
        return project
    raise bad_response("the project's id is no id", status=200)


def _headers_with(key: ApiKey, dialect: Dialect) -> Callable[[bool], tuple[Header, ...]]:
    """A function from "has a JSON body" to the headers of each request with *key*. A closure hides them, as it hides the key."""
    headers = (*_COMMON, key.header(dialect))
    with_body = (*headers, *_JSON_BODY)
    return lambda has_body: with_body if has_body else headers


def _encoded(body: Mapping[str, Any]) -> bytes:
    """JSON of *body*. Raises ValidationError if it cannot be JSON."""
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
    """A unique idempotency key. It begins with the time, so that a server's index of keys grows at one end."""
    # Not secret, so no system call for randomness: that costs as much as encoding the request's head.
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
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            pass
        what = "the body does not have the expected shape"
    else:
        what = "the body is not JSON"
    # Raised outside of the except clause: the parser's exception quotes the body.
    raise bad_response(what, status=response.status, request_id=response.header("x-request-id"))


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _problem(response: Response) -> object:
    """The parsed body of an error, or None if it is not JSON."""
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
