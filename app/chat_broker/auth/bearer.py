"""Where a request carries credentials, read without believing any of them."""

import re
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

from starlette.requests import HTTPConnection

from chat_broker.auth.contract import AmbiguousCredentials, InvalidCredentials
from chat_broker.chat.principal import Carrier

# RFC 6750 section 2.1 (b64token)
_BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
DEV_PREFIX = "dev_"


class Offer(NamedTuple):
    """A credential that a request offers to one of the modes."""

    value: str
    carrier: Carrier


def digest_of(carrier: Carrier, credential: bytes) -> bytes:
    """What a credential is remembered by: SHA-256, since who reads the memory need not be handed the credential."""
    return sha256(b"%b\0%b" % (carrier.encode(), credential)).digest()


def header_values(request: HTTPConnection, name: bytes) -> list[bytes]:
    """Every value of the header *name* (lower case), in order."""
    return [value for key, value in request.scope["headers"] if key == name]


def bearer_token(request: HTTPConnection) -> str | None:
    """The bearer token of the request, or None if it carries none.

    Raises AmbiguousCredentials for a second Authorization header, InvalidCredentials for a token of
    impossible form.
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
    """Whether the header *name* (lower case) of that *value* is a bearer token."""
    return name == "authorization" and value.strip(" ").partition(" ")[0].lower() == "bearer"


def cookie_value(request: HTTPConnection, name: str) -> str | None:
    """The cookie *name*, or None; AmbiguousCredentials if it is there with two values.

    A sibling host can set a second cookie of the same name, and then the order decides whose session
    it is: nobody's, here.
    """
    found: str | None = None
    for key, value in cookie_pairs(request):
        if key != name:
            continue
        if found is not None and found != value:
            raise AmbiguousCredentials("a session cookie is there twice, with different values")
        found = value
    return found or None


def cookie_pairs(request: HTTPConnection) -> Iterator[tuple[str, str]]:
    """Every cookie of the request, as sent: nothing is unquoted or decoded."""
    for line in header_values(request, b"cookie"):
        for part in line.decode("latin-1").split(";"):
            name, separator, value = part.strip(" \t").partition("=")
            if separator:
                yield name, value
