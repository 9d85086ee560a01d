"""One request on its way to a rule: who asks, for what, with which body; and its reply."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from chat_broker_kit import strict_json
from chat_broker_kit.http.headers import LARGEST_BODY
from chat_broker_kit.http.media_types import is_json
from chat_broker_server.chat.events import Receipt
from chat_broker_server.chat.models import Idempotency
from chat_broker_server.chat.service import Chat
from chat_broker_server.chat.sizes import LARGEST_PAGE
from chat_broker_server.credentials.api_keys import Keys
from chat_broker_server.credentials.tokens import Claims, Tokens
from chat_broker_server.errors import (
    BadInput,
    FieldError,
    NotAuthenticated,
    SlowBody,
    TooLarge,
    UnsupportedMediaType,
)

Receive = Callable[[], Awaitable[Any]]
CloseUser = Callable[..., Awaitable[Receipt]]

BODY_LIMIT = LARGEST_BODY
BODY_SECONDS = 30.0
LAST_PAGE = 1_000_000
# A page of users or rooms is reached by walking past those before it.
FURTHEST = 1_000_000

_NUMBER = re.compile(r"[0-9]{1,16}")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_BAD_TEXT = re.compile("[\x00-\x1f\x7f]")


class ClientGone(Exception):  # noqa: N818 – nothing failed here
    """The caller hung up before the whole request was here: there is nothing to answer."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with."""

    chat: Chat
    tokens: Tokens
    keys: Keys
    close_user: CloseUser


def headers_of(sent: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The request headers that mean something here, names in small letters; one of each.

    *sent*: names in any case. Raises BadInput for one that is there twice.
    """
    found: dict[str, str] = {}
    for sent_as, value in sent:
        name = _SPELLINGS.get(sent_as)
        if name is None:
            name = _SPELLINGS.get(sent_as.lower(), "")
        if name in found:
            if name != "x-request-id":
                raise BadInput("invalid_request", f"The header {name} is there twice.")
        elif name:
            found[name] = value
    return found


# As names are usually written, so that few must be made small first; "" for what means nothing here.
_SPELLINGS = {
    spelling: name.lower() if known else ""
    for known, names in (
        (True, ("Authorization", "Content-Encoding", "Content-Length", "Content-Type")),
        (True, ("Idempotency-Key",)),
        (True, ("X-Request-ID", "X-API-Key")),
        (False, ("Accept", "Accept-Encoding", "User-Agent")),
    )
    for name in names
    for spelling in (name, name.lower())
}


class Call:
    """One request. Its headers, route and credential are filled in as they become known."""

    __slots__ = (
        "_body",
        "_claims",
        "_query",
        "code",
        "headers",
        "ids",
        "method",
        "parts",
        "path",
        "pid",
        "request_id",
        "route",
    )

    def __init__(
        self, parts: Parts, method: str, path: str, query: bytes, body: bytes | Receive
    ) -> None:
        """*path* and *query* as they were sent. *body*: all of it, or where an ASGI server hands it out."""
        self.parts = parts
        self.method = method
        self.path = path
        self._query = query
        self._body = body
        self.headers: dict[str, str] = {}
        self.request_id = ""
        self.route = ""
        """The template of its path, once there is one."""
        self.code = ""
        """Of the error that is answered, if one is."""
        self.ids: dict[str, str] = {}
        self.pid = ""
        self._claims: Claims | None = None

    def admit(self, pid: str, claims: Claims | None) -> None:
        """Its credential is good: for project *pid*, as the user of *claims* or as the key."""
        self.pid = pid
        self._claims = claims

    @property
    def chat(self) -> Chat:
        return self.parts.chat

    @property
    def asker(self) -> str | None:
        """The user whose token this is; None for the key, which may speak for anybody."""
        return None if self._claims is None else self._claims.sub

    @property
    def claims(self) -> Claims:
        """The token's claims, on routes that only a token opens."""
        if self._claims is None:
            raise NotAuthenticated("authentication_required", "A chat token is needed here.")
        return self._claims

    # the body

    async def body(self, *, optional: bool = False) -> Any:
        """The JSON value that was sent; {} for no body where it is *optional*."""
        declared = self.headers.get("content-length")
        if declared is not None and declared.isdecimal() and int(declared[:20]) > BODY_LIMIT:
            raise TooLarge
        raw = self._body
        if not isinstance(raw, bytes):
            raw = await _received(raw)
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

    def idempotency(self, body: Any) -> Idempotency | None:
        """The Idempotency-Key, if one was sent: it counts for this caller on this resource."""
        key = self.headers.get("idempotency-key")
        if key is None:
            return None
        if not _IDEMPOTENCY_KEY.fullmatch(key):
            raise BadInput(
                "invalid_idempotency_key",
                "An Idempotency-Key is 1 to 255 visible ASCII characters.",
            )
        who = "key" if self._claims is None else f"user {self._claims.sub}"
        fingerprint = hashlib.sha256(_sorted(body)).hexdigest()
        return Idempotency(f"{who} {self.method} {self.path}", key, fingerprint)

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


async def _received(receive: Receive) -> bytes:
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


def page_of(query: dict[str, str], *, walked: bool = True) -> tuple[int, int]:
    """`page` and `limit` of a list, in range. *walked*: pages before it cost time."""
    page = number(query, "page", 1, LAST_PAGE, 1)
    limit = limit_of(query)
    if walked and (page - 1) * limit > FURTHEST:
        raise BadInput.field("page", f"lists are shown up to item {FURTHEST}")
    return page, limit


def limit_of(query: dict[str, str]) -> int:
    """How many items at most; 50 unless asked otherwise."""
    return number(query, "limit", 1, LARGEST_PAGE, 50)


def number(query: dict[str, str], name: str, least: int, most: int, default: int) -> int:
    """A whole number from the query, in a range."""
    text = query.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise BadInput.field(name, f"must be an integer from {least} to {most}")
    return int(text)


def checked(query: dict[str, str], name: str, check: Callable[[Any], Any]) -> Any:
    """One query parameter that passes *check*, or None if it is not there."""
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


class Reply:
    """What is answered: a status, JSON bytes, and headers beyond the usual ones."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, status: int, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.status = status
        self.body = body
        self.headers = headers


_encode = msgspec.json.Encoder().encode
_sorted = msgspec.json.Encoder(order="sorted").encode
NO_CONTENT = Reply(204)


def ok(value: Any) -> Reply:
    """200 with a value."""
    return Reply(200, _encode(value))


def created(value: Any) -> Reply:
    """201 with what was made."""
    return Reply(201, _encode(value))
