"""Checks the claims of a token: issuer, audience, subject, purpose and times."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NewType

from chat_broker.auth.errors import BadToken
from chat_broker.auth.jwt.jws import bare_type
from chat_broker.auth.subject import check_subject
from chat_broker_kit.strict_json import NotStrictJson, parse_object

VerifiedClaims = NewType("VerifiedClaims", Mapping[str, Any])
"""Claims whose signature, issuer, audience and times have been checked."""

MAX_NUMERIC_DATE = 2**53
# RFC 8725 section 3.11: a token of another kind must not pass for one of these.
ACCESS_TOKEN_TYPES = frozenset({"jwt", "at+jwt"})
# Issuers that sign all tokens with one key name the purpose of a token here: Keycloak; Cognito and Hydra; two
# libraries with which apps issue tokens of their own.
_PURPOSE_CLAIMS = ("typ", "token_use", "token_type", "type")
_OTHER_PURPOSES = frozenset({"refresh", "refresh_token", "offline", "logout"})


@dataclass(frozen=True, slots=True)
class Expected:
    """The claims that tokens of one issuer must have. Times in seconds."""

    issuer: str
    audience: frozenset[str]
    leeway: int = 30
    typ: str | None = None
    max_age: int | None = None


def check_type(typ: str | None, expected: Expected) -> None:
    """Raise BadToken unless the header `typ` is the configured one; without one, absent or of an access token."""
    actual = None if typ is None else bare_type(typ)
    if expected.typ is not None:
        if actual != bare_type(expected.typ):
            raise BadToken("the token has the wrong typ")
    elif actual is not None and actual not in ACCESS_TOKEN_TYPES:
        raise BadToken("the token is of another kind: its typ is neither JWT nor at+jwt")


def check_purpose(claims: Mapping[str, Any]) -> None:
    """Raise BadToken for a token whose claims name another purpose: a security event, or a refresh token.

    A logout token may have the `typ` and the audience of an access token (OpenID Connect Back-Channel Logout 1.0
    section 2.4); its claim `events` tells them apart (RFC 8417 section 2.2).
    """
    if "events" in claims:
        raise BadToken("the token tells of events: it is a logout token or the like")
    for name in _PURPOSE_CLAIMS:
        value = claims.get(name)
        if isinstance(value, str) and value.lower() in _OTHER_PURPOSES:
            raise BadToken(f"the token is for another purpose, as its claim {name} says")


def issuer_of(payload: bytes) -> tuple[str, dict[str, Any]]:
    """The claim `iss` and all claims of the payload, unverified. Raises BadToken without an `iss`."""
    try:
        claims = parse_object(payload, unstored=True)
    except NotStrictJson:
        raise BadToken("the payload of the token is not a plain JSON object") from None
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or not issuer:
        raise BadToken("the claim iss is missing")
    return issuer, claims


def check_claims(claims: Mapping[str, Any], expected: Expected, *, now: float) -> VerifiedClaims:
    """The claims as verified, once the signature is. Raises BadToken for the first that is wrong.

    *now* is in epoch seconds. A token is valid before, but not at, `exp` plus leeway.
    """
    if claims.get("iss") != expected.issuer:
        raise BadToken("the token is from another issuer")
    check_audience(claims.get("aud"), expected.audience)
    check_subject(claims.get("sub"), name="sub")
    check_purpose(claims)
    expires_at = expiry_of(claims)
    if expires_at is None:
        raise BadToken("the claim exp is missing")
    check_expiry(expires_at + expected.leeway, now=now)
    issued_at = numeric_date(claims, "iat")
    if issued_at is not None and issued_at > now + expected.leeway:
        raise BadToken("the token was issued in the future")
    check_not_before(claims, now=now, leeway=expected.leeway)
    if expected.max_age is not None:
        if issued_at is None:
            raise BadToken("the claim iat is missing, and a longest lifetime is configured")
        if expires_at - math.floor(issued_at) > expected.max_age:
            raise BadToken("the token lives longer than is allowed here")
    return VerifiedClaims(claims)


def check_audience(audience: object, expected: frozenset[str]) -> None:
    """Raise BadToken unless *audience*, a string or a list of strings, holds one of *expected*."""
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not audiences:
        raise BadToken("the claim aud is missing")
    if not all(isinstance(name, str) for name in audiences):
        raise BadToken("the claim aud is neither a string nor a list of strings")
    if expected.isdisjoint(audiences):
        raise BadToken("the token is meant for another audience")


def numeric_date(claims: Mapping[str, Any], name: str) -> float | None:
    """The claim in epoch seconds; None if absent. Raises BadToken if it is not a NumericDate.

    A NumericDate may have a fraction (RFC 7519 section 2).
    """
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadToken(f"the claim {name} is not a number of seconds")
    if not 0 <= value <= MAX_NUMERIC_DATE:  # NaN is not, either
        raise BadToken(f"the claim {name} is not a number of seconds")
    return value


def expiry_of(claims: Mapping[str, Any], leeway: int = 0) -> int | None:
    """The epoch second at which a credential with these claims expires, leeway included; None without `exp`.

    It also bounds the lifetime of chat tokens issued for the credential. A fraction is cut off.
    """
    expires_at = numeric_date(claims, "exp")
    return None if expires_at is None else math.floor(expires_at) + leeway


def check_expiry(expires_at: int | None, *, now: float) -> None:
    """Raise BadToken at and after *expires_at*."""
    if expires_at is not None and now >= expires_at:
        raise BadToken("the token has expired")


def check_not_before(claims: Mapping[str, Any], *, now: float, leeway: int) -> None:
    """Raise BadToken before `nbf`, allowing for *leeway*."""
    valid_from = numeric_date(claims, "nbf")
    if valid_from is not None and valid_from > now + leeway:
        raise BadToken("the token is not valid yet")
