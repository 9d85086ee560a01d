"""One REST request (credential, query, JSON body) and its response."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from chat_broker_kit import strict_json
from chat_broker_kit.http.headers import LARGEST_BODY
from chat_broker_kit.http.media_types import is_json
from chat_broker_kit.http.problems import FieldError
from chat_broker_server.chat.events import CloseResult
from chat_broker_server.chat.models import IdempotencyKey, Presence
from chat_broker_server.chat.service import Chat
from chat_broker_server.chat.sizes import LARGEST_PAGE
from chat_broker_server.credentials.api_keys import ApiKeys
from chat_broker_server.credentials.tokens import Claims, Tokens
from chat_broker_server.errors import (
    BadInput,
    NotAuthenticated,
    SlowBody,
    TooLarge,
    UnsupportedMediaType,
)

Receive = Callable[[], Awaitable[Any]]
CloseUser = Callable[..., Awaitable[CloseResult]]
ReadPresence = Callable[[str, Sequence[str], str | None], Awaitable[list[Presence]]]
"""(project, users, reader) → whether those of them are online whom the reader may see; None is the API key."""

BODY_LIMIT = LARGEST_BODY
BODY_SECONDS = 30.0
LAST_PAGE = 1_000_000
# The database reads and skips all items before the page (OFFSET).
LAST_ITEM = 1_000_000

_NUMBER = re.compile(r"[0-9]{1,16}")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_BAD_TEXT = re.compile("[\x00-\x1f\x7f]")


class ClientGone(Exception):  # noqa: N818 – not an error of this server
    """The client closed the connection before the whole body had arrived. No response is sent."""


@dataclass(frozen=True, slots=True)
class Services:
    chat: Chat
    tokens: Tokens
    keys: ApiKeys
    close_user: CloseUser
    presence: ReadPresence


def known_headers(sent: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The headers that the routes read, by lower-case name; all others are dropped.

    *sent* has names in any case. Raises BadInput if one of them occurs twice.
    """
    known: dict[str, str] = {}
    for sent_as, value in sent:
        name = _SPELLINGS.get(sent_as)
        if name is None:
            name = _SPELLINGS.get(sent_as.lower(), "")
        if name in known:
            if name != "x-request-id":
                raise BadInput("invalid_request", f"The header {name} is there twice.")
        elif name:
            known[name] = value
    return known


# The usual spellings, so that most names need no lower(); "" for a header that no route reads.
_SPELLINGS = {
    spelling: name.lower() if is_read else ""
    for is_read, names in (
        (True, ("Authorization", "Content-Encoding", "Content-Length", "Content-Type")),
        (True, ("Idempotency-Key",)),
        (True, ("X-Request-ID", "X-API-Key")),
        (False, ("Accept", "Accept-Encoding", "User-Agent")),
    )
    for name in names
    for spelling in (name, name.lower())
}


class Request:
    """One request. The router sets its headers, route and credential while it judges it."""

    __slots__ = (
        "_body",
        "_claims",
        "_query",
        "code",
        "headers",
        "ids",
        "method",
        "path",
        "pid",
        "request_id",
        "route",
        "services",
    )

    def __init__(
        self, services: Services, method: str, path: str, query: bytes, body: bytes | Receive
    ) -> None:
        """*path* and *query* are still escaped. *body* is the whole body, or the ASGI `receive` to read it from."""
        self.services = services
        self.method = method
        self.path = path
        self._query = query
        self._body = body
        self.headers: dict[str, str] = {}
        self.request_id = ""
        self.route = ""
        """The template of the path; "" until the route is found."""
        self.code = ""
        """The code of the error response; "" if there was none."""
        self.ids: dict[str, str] = {}
        self.pid = ""
        self._claims: Claims | None = None

    def admit(self, pid: str, claims: Claims | None) -> None:
        """Note a checked credential for project *pid*: the token with *claims*, or the API key if they are None."""
        self.pid = pid
        self._claims = claims

    @property
    def chat(self) -> Chat:
        return self.services.chat

    @property
    def token_user_id(self) -> str | None:
        """The user of the chat token; None for the API key, which may act as any user."""
        return None if self._claims is None else self._claims.sub

    @property
    def claims(self) -> Claims:
        """The token's claims. Raises NotAuthenticated if the request has none."""
        if self._claims is None:
            raise NotAuthenticated("authentication_required", "A chat token is needed here.")
        return self._claims

    # the body

    async def body(self, *, optional: bool = False) -> Any:
        """The JSON value of the body; {} if it is *optional* and empty. Raises the ChatError of a bad body."""
        declared = self.headers.get("content-length")
        if declared is not None and declared.isdecimal() and int(declared[:20]) > BODY_LIMIT:
            raise TooLarge
        raw = self._body
        if not isinstance(raw, bytes):
            raw = await _read_in_time(raw)
        elif len(raw) > BODY_LIMIT:
            raise TooLarge
        if not raw:
            if optional:
                return {}
            raise BadInput("invalid_json", "A JSON body is needed here.")
        if not is_json(self.headers.get("content-type", "")):
            raise UnsupportedMediaType
        if "content-encoding" in self.headers and self.headers["content-encoding"] != "identity":
            raise UnsupportedMediaType(message="The request body must not be compressed.")
        if raw == b"{}":
            return {}
        try:
            return strict_json.parse(raw)
        except strict_json.NotStrictJson as error:
            raise BadInput("invalid_json", f"The JSON {error}.") from None

    def idempotency(self, body: Any) -> IdempotencyKey | None:
        """The Idempotency-Key header, which is bound to this caller, method and path; None if there is none."""
        key = self.headers.get("idempotency-key")
        if key is None:
            return None
        if not _IDEMPOTENCY_KEY.fullmatch(key):
            raise BadInput(
                "invalid_idempotency_key",
                "An Idempotency-Key is 1 to 255 visible ASCII characters.",
            )
        caller = "key" if self._claims is None else f"user {self._claims.sub}"
        fingerprint = hashlib.sha256(_sorted(body)).hexdigest()
        # The template with ids: a room has one path, however it is named in it.
        path = self.route.format_map(self.ids)
        return IdempotencyKey(f"{caller} {self.method} {path}", key, fingerprint)

    # the query

    def query(self, *known: str) -> dict[str, str]:
        """The query parameters. Raises BadInput for an unknown, repeated or damaged one."""
        values: dict[str, str] = {}
        if not self._query:
            return values
        errors = []
        for pair in self._query.split(b"&"):
            if not pair:
                continue
            raw_name, _, raw_value = pair.partition(b"=")
            try:
                name, value = _text(raw_name), _text(raw_value)
            except ValueError:
                raise BadInput("invalid_query", "The query is not clean UTF-8 text.") from None
            if name not in known:
                errors.append(FieldError(name[:64], "is not a known parameter"))
            elif name in values:
                errors.append(FieldError(name, "is there twice"))
            else:
                values[name] = value
        if errors:
            raise BadInput.fields(errors)
        return values


async def _read_in_time(receive: Receive) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_all(receive)
    except TimeoutError:
        raise SlowBody from None


async def _read_all(receive: Receive) -> bytes:
    first = await receive()
    if first["type"] == "http.disconnect":
        raise ClientGone
    raw: bytes = first.get("body", b"")
    more = first.get("more_body", False)
    size = len(raw)
    if more:
        chunks = [raw]
        while more and size <= BODY_LIMIT:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise ClientGone
            chunks.append(event.get("body", b""))
            size += len(chunks[-1])
            more = event.get("more_body", False)
        raw = b"".join(chunks)
    if size > BODY_LIMIT:
        raise TooLarge
    return raw


def page_and_limit(query: dict[str, str], *, bounded: bool = True) -> tuple[int, int]:
    """`page` and `limit` of a list, in range; with *bounded* up to LAST_ITEM only."""
    page = number(query, "page", 1, LAST_PAGE, 1)
    limit = page_limit(query)
    if bounded and (page - 1) * limit > LAST_ITEM:
        raise BadInput.field("page", f"lists are shown up to item {LAST_ITEM}")
    return page, limit


def page_limit(query: dict[str, str]) -> int:
    return number(query, "limit", 1, LARGEST_PAGE, 50)


def number(query: dict[str, str], name: str, least: int, most: int, default: int) -> int:
    """An integer of the query from *least* to *most*. Raises BadInput for anything else."""
    text = query.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise BadInput.field(name, f"must be an integer from {least} to {most}")
    return int(text)


def checked(query: dict[str, str], name: str, check: Callable[[Any], Any]) -> Any:
    """One query parameter that passes *check*; None if it is absent."""
    if name not in query:
        return None
    try:
        return check(query[name])
    except ValueError as error:
        raise BadInput.field(name, str(error)) from None


def _text(raw: bytes) -> str:
    text = (
        unquote_to_bytes(raw.replace(b"+", b" ")).decode()
        if b"%" in raw or b"+" in raw
        else raw.decode()
    )
    if _BAD_TEXT.search(text):
        raise ValueError("control character")
    return text


class Response:
    """A status, a JSON body, and headers beyond those that every response has."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, status: int, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.status = status
        self.body = body
        self.headers = headers


_encode = msgspec.json.Encoder().encode
_sorted = msgspec.json.Encoder(order="sorted").encode
NO_CONTENT = Response(204)


def ok(value: Any) -> Response:
    return Response(200, _encode(value))


def created(value: Any) -> Response:
    return Response(201, _encode(value))
