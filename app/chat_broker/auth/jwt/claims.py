"""What a signed payload claims, and whether we believe it here and now."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NewType

from chat_broker.auth.contract import BadToken
from chat_broker.auth.jwt.jws import bare_type
from chat_broker.auth.subject import check_subject
from chat_broker_kit.strict_json import NotStrictJson, parse_object

VerifiedClaims = NewType("VerifiedClaims", Mapping[str, Any])
"""Claims whose signature, issuer, audience and times have been checked."""

MAX_INSTANT = 2**53
# RFC 8725 section 3.11: a token of another kind must not pass for one of these.
ACCESS_TOKEN_TYPES = frozenset({"jwt", "at+jwt"})
# Where issuers of one key for all their tokens say what a token is for: Keycloak; Cognito and Hydra; two libraries
# that apps make their own tokens with.
_PURPOSE_CLAIMS = ("typ", "token_use", "token_type", "type")
_OTHER_PURPOSES = frozenset({"refresh", "refresh_token", "offline", "logout"})


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token of one issuer must say. Times in seconds."""

    issuer: str
    audience: frozenset[str]
    leeway: int = 30
    typ: str | None = None
    max_age: int | None = None


def check_type(typ: str | None, expected: Expected) -> None:
    """BadToken unless the header `typ` is the configured one, or, unconfigured, is harmless."""
    given = None if typ is None else bare_type(typ)
    if expected.typ is not None:
        if given != bare_type(expected.typ):
            raise BadToken("the token has the wrong typ")
    elif given is not None and given not in ACCESS_TOKEN_TYPES:
        raise BadToken("the token is of another kind: its typ is neither JWT nor at+jwt")


def check_purpose(claims: Mapping[str, Any]) -> None:
    """BadToken for what its own claims say is no access token: an event about a session, or a refresh token.

    A logout token may have the `typ` and the audience of an access token (OpenID Connect Back-Channel Logout 1.0
    section 2.4); `events` is what makes it one (RFC 8417 section 2.2).
    """
    if "events" in claims:
        raise BadToken("the token tells of events: it is a logout token or the like")
    for name in _PURPOSE_CLAIMS:
        value = claims.get(name)
        if isinstance(value, str) and value.lower() in _OTHER_PURPOSES:
            raise BadToken(f"the token is for another purpose, as its claim {name} says")


def issuer_of(payload: bytes) -> tuple[str, dict[str, Any]]:
    """The issuer a payload names, unbelieved, and the object it is in; BadToken if there is none."""
    try:
        claims = parse_object(payload, unstored=True)
    except NotStrictJson:
        raise BadToken("the payload of the token is not a plain JSON object") from None
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or not issuer:
        raise BadToken("the claim iss is missing")
    return issuer, claims


def check_claims(claims: Mapping[str, Any], expected: Expected, *, now: float) -> VerifiedClaims:
    """Vouch for the claims of a payload whose signature is right; BadToken if one of them is not.

    *now* is the epoch in seconds. A token is good until, but not at, `exp` plus leeway.
    """
    if claims.get("iss") != expected.issuer:
        raise BadToken("the token is from another issuer")
    check_audience(claims.get("aud"), expected.audience)
    check_subject(claims.get("sub"), name="sub")
    check_purpose(claims)
    end = end_of(claims)
    if end is None:
        raise BadToken("the claim exp is missing")
    check_end(end + expected.leeway, now=now)
    issued = instant(claims, "iat")
    if issued is not None and issued > now + expected.leeway:
        raise BadToken("the token was issued in the future")
    valid_from = instant(claims, "nbf")
    if valid_from is not None and valid_from > now + expected.leeway:
        raise BadToken("the token is not valid yet")
    if expected.max_age is not None:
        if issued is None:
            raise BadToken("the claim iat is missing, and a longest lifetime is configured")
        if end - math.floor(issued) > expected.max_age:
            raise BadToken("the token lives longer than is allowed here")
    return VerifiedClaims(claims)


def check_audience(audience: object, expected: frozenset[str]) -> None:
    """BadToken unless *audience*, a string or a list of strings, names one that is expected."""
    given = [audience] if isinstance(audience, str) else audience
    if not isinstance(given, list) or not given:
        raise BadToken("the claim aud is missing")
    if not all(isinstance(name, str) for name in given):
        raise BadToken("the claim aud is neither a string nor a list of strings")
    if expected.isdisjoint(given):
        raise BadToken("the token is meant for another audience")


def instant(claims: Mapping[str, Any], name: str) -> float | None:
    """The claim in seconds since the epoch; None if absent, BadToken if anything else.

    A NumericDate may have a fraction (RFC 7519 section 2).
    """
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadToken(f"the claim {name} is not a number of seconds")
    if not 0 <= value <= MAX_INSTANT:  # NaN is not, either
        raise BadToken(f"the claim {name} is not a number of seconds")
    return value


def end_of(claims: Mapping[str, Any], leeway: int = 0) -> int | None:
    """The second from which a credential of these claims is no good any more: `exp` and *leeway*; None without `exp`.

    This is both what lets a credential in and what bounds the life of what is made with it. A fraction is cut off.
    """
    expires = instant(claims, "exp")
    return None if expires is None else math.floor(expires) + leeway


def check_end(end: int | None, *, now: float) -> None:
    """BadToken from *end* on."""
    if end is not None and now >= end:
        raise BadToken("the token has expired")
