"""Reads bearer tokens and cookies from a request. Nothing here verifies them."""

import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import NamedTuple

from starlette.requests import HTTPConnection

from chat_broker.auth.errors import AmbiguousCredentials, InvalidCredentials
from chat_broker.chat.principal import Carrier

# RFC 6750 section 2.1 (b64token)
_BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
DEV_PREFIX = "dev_"


class Credential(NamedTuple):
    """A credential that one of the modes has found in a request, not yet verified."""

    value: str
    carrier: Carrier


def digest_of(carrier: Carrier, credential: bytes) -> bytes:
    """The cache key of a credential: a SHA-256, so that no cache holds the credential itself."""
    return sha256(b"%b\0%b" % (carrier.encode(), credential)).digest()


def header_values(request: HTTPConnection, name: bytes) -> list[bytes]:
    """Every value of the header *name* (in lower case), in the order of the request."""
    return [value for key, value in request.scope["headers"] if key == name]


def bearer_token(request: HTTPConnection) -> str | None:
    """The bearer token of the request; None if there is none.

    Raises AmbiguousCredentials for a second `Authorization` header, InvalidCredentials for a token
    that breaks RFC 6750's syntax.
    """
    values = header_values(request, b"authorization")
    if not values:
        return None
    if len(values) > 1:
        raise AmbiguousCredentials("the request has more than one Authorization header")
    scheme, _, token = values[0].decode("latin-1").strip().partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = token.strip(" ")
    if not _BEARER_TOKEN.fullmatch(token):
        raise InvalidCredentials("the bearer token is malformed")
    return token


def is_bearer(name: str, value: str) -> bool:
    """Whether the header *name* (in lower case) with *value* holds a bearer token."""
    return name == "authorization" and value.strip(" ").partition(" ")[0].lower() == "bearer"


def cookie_value(request: HTTPConnection, name: str) -> str | None:
    """The cookie *name*; None if there is none. Raises AmbiguousCredentials if it has two values.

    A sibling host can set a second cookie of the same name. Choosing one by its place would let that
    host choose the session.
    """
    values = {value for key, value in cookie_pairs(request) if key == name}
    if len(values) > 1:
        raise AmbiguousCredentials("a session cookie is there twice, with different values")
    return values.pop() or None if values else None


def bearer_or_cookie(
    request: HTTPConnection, cookie_name: str | None, recognizes: Callable[[str], bool]
) -> Credential | None:
    """The bearer token, if *recognizes* accepts its form, or else the cookie; None without either.

    Raises AmbiguousCredentials if both are there and differ.
    """
    token = bearer_token(request)
    if token is not None and not recognizes(token):
        token = None
    cookie = cookie_value(request, cookie_name) if cookie_name else None
    if token is None:
        return Credential(cookie, "cookie") if cookie is not None else None
    if cookie is not None and cookie != token:
        raise AmbiguousCredentials("the bearer token and the cookie differ")
    return Credential(token, "bearer")


def cookie_pairs(request: HTTPConnection) -> Iterator[tuple[str, str]]:
    """Name and value of every cookie of the request, neither unquoted nor decoded."""
    for line in header_values(request, b"cookie"):
        for part in line.decode("latin-1").split(";"):
            name, separator, value = part.strip(" \t").partition("=")
            if separator:
                yield name, value
