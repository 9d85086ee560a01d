"""Parses one compact JWS strictly, and verifies its signature.

`parse` returns an `Unverified` token. Only `verify` returns a payload whose signature is checked.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from chat_broker.auth.errors import BadToken
from chat_broker.auth.jwt.keys import MAX_KID_LENGTH, Key
from chat_broker_kit import base64url
from chat_broker_kit.strict_json import NotStrictJson, parse_object

MAX_TOKEN_LENGTH = 8192
LONGEST_HEADER = 1024
"""Characters of a chat token's header. Longer ones are not parsed, so they do not fill the cache."""
CHAT_TOKEN_TYPE = "chat+jwt"  # noqa: S105 -- the name of a type

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", re.ASCII)
# Refused with any value: extensions that we do not implement, and forms other than a plain JWS.
_REFUSED_HEADERS = ("crit", "b64", "zip", "enc")


@dataclass(frozen=True, slots=True)
class Unverified:
    """The parts of a token whose signature has not been checked."""

    algorithm: str
    kid: str | None
    typ: str | None
    payload: bytes
    signing_input: bytes
    signature: bytes


def looks_like_jws(text: str) -> bool:
    """Whether *text* has the form of a JWT: three base64url parts separated by dots."""
    return _COMPACT.fullmatch(text) is not None


def parse(token: str) -> Unverified:
    """The parts of a compact JWS. Raises BadToken for any deviation from its form."""
    if len(token) > MAX_TOKEN_LENGTH:
        raise BadToken(f"the token is longer than {MAX_TOKEN_LENGTH} characters")
    parts = token.split(".")
    if len(parts) != 3 or not parts[0]:
        raise BadToken("the token does not consist of three base64url parts")
    protected, payload, signature = parts
    try:
        header = parse_object(base64url.decode(protected), unstored=True)
        unverified_payload = base64url.decode(payload)
        unverified_signature = base64url.decode(signature)
    except base64url.NotBase64Url:
        raise BadToken("a part of the token is not canonical base64url") from None
    except NotStrictJson:
        raise BadToken("the header of the token is not a plain JSON object") from None
    for name in _REFUSED_HEADERS:
        if name in header:
            raise BadToken(f"the header {name} is not accepted")
    return Unverified(
        algorithm=_text(header, "alg", required=True),
        kid=_text(header, "kid") if "kid" in header else None,
        typ=_text(header, "typ") if "typ" in header else None,
        payload=unverified_payload,
        signing_input=f"{protected}.{payload}".encode("ascii"),
        signature=unverified_signature,
    )


def is_chat_token(token: str) -> bool:
    """Whether the unverified header of *token* names the type of a chat token."""
    protected, dot, _ = token.partition(".")
    return bool(dot) and len(protected) <= LONGEST_HEADER and _names_chat_token(protected)


@lru_cache(maxsize=256)  # all tokens of one signing key have the same header
def _names_chat_token(protected: str) -> bool:
    try:
        typ = parse_object(base64url.decode(protected), unstored=True).get("typ")
    except (base64url.NotBase64Url, NotStrictJson):
        return False
    return isinstance(typ, str) and bare_type(typ) == CHAT_TOKEN_TYPE


def bare_type(typ: str) -> str:
    """The media type in `typ`, without the optional `application/`, in lower case (RFC 7515 section 4.1.9)."""
    return typ.lower().removeprefix("application/")


def _text(header: dict[str, Any], name: str, *, required: bool = False) -> str:
    value = header.get(name)
    if not isinstance(value, str) or len(value) > MAX_KID_LENGTH or (required and not value):
        raise BadToken(f"the header {name} is not a short string")
    return value


def verify(token: Unverified, key: Key) -> bytes:
    """The payload, if *key* has signed it with one of its algorithms. Raises BadToken otherwise."""
    if token.algorithm not in key.algorithms:
        raise BadToken("the token is not signed with the algorithm of its key")
    if not key.verifies(token.algorithm, token.signing_input, token.signature):
        raise BadToken("the signature is wrong")
    return token.payload
