"""The checks of claims, with times exact to the second."""

import math
from typing import Any

import pytest

from chat_broker.auth.errors import BadToken
from chat_broker.auth.jwt.claims import (
    Expected,
    check_claims,
    check_purpose,
    check_type,
    expiry_of,
    issuer_of,
    numeric_date,
)
from chat_broker.auth.principal_from_claims import ClaimNames, principal_from
from chat_broker.auth.subject import claim_value
from tests.app.auth.signing import AUDIENCE, ISSUER, NOW, claims

EXPECTED = Expected(ISSUER, frozenset({AUDIENCE, "other"}))


def refuses(
    said: dict[str, Any], expected: Expected = EXPECTED, *, saying: str = ".", now: float = NOW
) -> None:
    with pytest.raises(BadToken, match=saying):
        check_claims(said, expected, now=now)


def test_good_claims_are_vouched_for() -> None:
    said = claims(name="Alice", extra={"a": 1})
    assert check_claims(said, EXPECTED, now=NOW) == said


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "exp"])
@pytest.mark.parametrize("value", [..., None, "", [], {}, True, 1.5])
def test_the_four_claims_are_required(name: str, value: object) -> None:
    refuses(claims(**{name: value}))


@pytest.mark.parametrize(
    "issuer",
    [
        ISSUER + "/",
        ISSUER[:-1],
        ISSUER.upper(),
        ISSUER + " ",
        "http" + ISSUER[5:],
        ISSUER + ".evil.test",
        "id.example.com",
        [ISSUER],
    ],
)
def test_the_issuer_is_exact(issuer: object) -> None:
    refuses(claims(iss=issuer), saying="another issuer")


@pytest.mark.parametrize(
    ("audience", "why"),
    [
        ("chat2", "another audience"),
        ("cha", "another audience"),
        ("Chat", "another audience"),
        ("chat ", "another audience"),
        (["x", "y"], "another audience"),
        ([AUDIENCE, 1], "neither a string"),
        ([[AUDIENCE]], "neither a string"),
        ({AUDIENCE: 1}, "missing"),
        (7, "missing"),
    ],
)
def test_the_audience_is_one_of_ours(audience: object, why: str) -> None:
    refuses(claims(aud=audience), saying=why)
    for good in (AUDIENCE, "other", [AUDIENCE], ["x", "other"]):
        check_claims(claims(aud=good), EXPECTED, now=NOW)


@pytest.mark.parametrize("leeway", [0, 30, 120])
def test_a_token_ends_to_the_second(leeway: int) -> None:
    expected = Expected(ISSUER, frozenset({AUDIENCE}), leeway=leeway)
    end = NOW + 300 + leeway
    check_claims(claims(), expected, now=end - 1)
    check_claims(claims(), expected, now=end - 0.01)
    refuses(claims(), expected, now=end, saying="expired")
    refuses(claims(), expected, now=end + 1, saying="expired")


@pytest.mark.parametrize(("name", "why"), [("iat", "in the future"), ("nbf", "not valid yet")])
def test_nothing_is_valid_before_its_time(name: str, why: str) -> None:
    for early in (NOW + 30, NOW, NOW - 1000):
        check_claims(claims(**{name: early}), EXPECTED, now=NOW)
    refuses(claims(**{name: NOW + 31}), saying=why)
    check_claims(claims(**{name: ...}), EXPECTED, now=NOW)


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value",
    [
        1e308, math.inf, math.nan, -0.5, "1900000000", True, False, None, [NOW], {}, -1, 2**53 + 1, 10**400,
        float(2**53 + 2),
    ],
)  # fmt: skip
def test_instants_are_numbers_of_seconds(name: str, value: object) -> None:
    refuses(claims(**{name: value}), saying="number of seconds")
    assert numeric_date({}, name) is None
    assert numeric_date({name: 2**53}, name) == 2**53
    assert numeric_date({name: 0}, name) == 0


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.999])
def test_an_instant_may_have_a_fraction(fraction: float) -> None:
    """RFC 7519 section 2, NumericDate. A fraction of `exp` is cut off, so a token never lives longer."""
    said = claims(exp=NOW + 60 + fraction, iat=NOW + fraction, nbf=NOW + 30 + fraction)
    check_claims(said, EXPECTED, now=NOW + fraction)
    refuses(said, saying="not valid yet|in the future", now=NOW + fraction - 30.01)
    refuses(said, saying="expired", now=NOW + 90)
    assert expiry_of(said, 30) == NOW + 90
    bounded = Expected(ISSUER, frozenset({AUDIENCE}), max_age=60)
    check_claims(claims(exp=NOW + 60 + fraction, iat=NOW + fraction), bounded, now=NOW + 1)


def test_a_longest_lifetime_needs_iat() -> None:
    expected = Expected(ISSUER, frozenset({AUDIENCE}), max_age=300)
    check_claims(claims(), expected, now=NOW)
    refuses(claims(exp=NOW + 301), expected, saying="lives longer")
    refuses(claims(iat=...), expected, saying="iat is missing")
    check_claims(claims(exp=NOW + 10**6), EXPECTED, now=NOW)


@pytest.mark.parametrize(
    "subject",
    [
        "x" * 256,
        "\u00e9" * 128,
        "a\nb",
        "a\0b",
        "\x7f",
        "\x80",
        "a\u2028b",
        "a\u2029",
        "\ud800",
        5,
    ],
)
def test_a_subject_fits_on_one_line_of_255_bytes(subject: object) -> None:
    refuses(claims(sub=subject), saying="claim sub")
    for good in ("x" * 255, "\u00e9" * 127, " a ", "A", "a", "\ufb01", "auth0|5f7c", "\U0001f600"):
        check_claims(claims(sub=good), EXPECTED, now=NOW)


@pytest.mark.parametrize(
    ("typ", "wanted", "good"),
    [
        (None, None, True),
        ("JWT", None, True),
        ("jwt", None, True),
        ("at+jwt", None, True),
        ("application/at+jwt", None, True),
        ("chat+jwt", None, False),
        ("logout+jwt", None, False),
        ("application/LOGOUT+jwt", None, False),
        ("secevent+jwt", None, False),
        ("token-introspection+jwt", None, False),
        ("dpop+jwt", None, False),
        ("", None, False),
        ("at+jwt", "at+jwt", True),
        ("application/AT+JWT", "at+jwt", True),
        ("at+jwt", "application/at+jwt", True),
        ("JWT", "at+jwt", False),
        (None, "at+jwt", False),
        ("at+jwt", "JWT", False),
    ],
)
def test_a_token_of_another_kind_is_refused(
    typ: str | None, wanted: str | None, good: bool
) -> None:
    expected = Expected(ISSUER, frozenset({AUDIENCE}), typ=wanted)
    if good:
        check_type(typ, expected)
    else:
        with pytest.raises(BadToken, match="typ"):
            check_type(typ, expected)


LOGOUT = {"http://schemas.openid.net/event/backchannel-logout": {}}


@pytest.mark.parametrize(
    "said",
    [
        {"events": LOGOUT, "sid": "s1"},
        {"events": {"https://schemas.openid.net/secevent/caep/event-type/session-revoked": {}}},
        {"events": None},
        {"events": []},
        {"typ": "Refresh"},
        {"typ": "Offline"},
        {"typ": "Logout"},
        {"token_use": "refresh_token"},
        {"token_type": "refresh"},
        {"type": "refresh"},
    ],
    ids=str,
)
def test_a_token_of_another_purpose_is_refused_whatever_its_typ(said: dict[str, Any]) -> None:
    """RFC 8725 section 3.12. A logout token may have the issuer, audience and `typ` of an access token."""
    refuses(claims(**said), saying="events|purpose")


@pytest.mark.parametrize(
    "said",
    [
        {"typ": "Bearer", "token_use": "access"},
        {"typ": "ID", "token_use": "id"},
        {"token_type": "access", "type": "access"},
        {"type": "member", "typ": 5, "token_use": ["refresh"]},
        {"event": "x", "sid": "s1"},
    ],
    ids=str,
)
def test_other_claims_about_a_token_say_nothing(said: dict[str, Any]) -> None:
    check_claims(claims(**said), EXPECTED, now=NOW)
    check_purpose(said)


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{", b'{"iss":"a","iss":"b"}', b'{"exp":NaN}', b'"x"']
)
def test_a_payload_is_one_plain_object(payload: bytes) -> None:
    with pytest.raises(BadToken, match="plain JSON object"):
        issuer_of(payload)


@pytest.mark.parametrize("payload", [b"{}", b'{"iss":1}', b'{"iss":""}', b'{"iss":["a"]}'])
def test_a_payload_names_its_issuer(payload: bytes) -> None:
    with pytest.raises(BadToken, match="iss is missing"):
        issuer_of(payload)
    assert issuer_of(b'{"iss":"a","b":1}') == ("a", {"iss": "a", "b": 1})


# -- from claims to a principal ---------------------------------------------------------------------


def principal(said: dict[str, Any], *, alias: str | None = None, **names: str) -> Any:
    return principal_from(
        said, ClaimNames(**names), issuer=ISSUER, alias=alias, expires_at=9, carrier="cookie"
    )


def test_claims_become_a_principal() -> None:
    said = claims(preferred_username="alice", name="Alice A.", email="a@example.com")
    who = principal(said)
    assert (who.issuer, who.subject, who.external_id) == (ISSUER, "user-1", "user-1")
    assert (who.username, who.name, who.email) == ("alice", "Alice A.", "a@example.com")
    assert (who.expires_at, who.carrier) == (9, "cookie")
    assert principal(said, alias="main").external_id == "main:user-1"


def test_claims_may_be_elsewhere() -> None:
    said = {"user": {"id": 42, "name": "A"}, "https://example.com/nick.name": "nick"}
    who = principal(said, id="user.id", name="user.name", username="https://example.com/nick.name")
    assert (who.subject, who.name, who.username) == ("42", "A", "nick")
    assert claim_value({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert claim_value({"a": [1]}, "a.b") is None
    assert claim_value({"a": {}}, "a.b") is None


@pytest.mark.parametrize("value", [None, "", True, 1.0, [], {}, "x" * 256, "a\nb"])
def test_without_a_usable_id_there_is_no_principal(value: object) -> None:
    with pytest.raises(BadToken, match="uid"):
        principal(claims(uid=value), id="uid")
    with pytest.raises(BadToken):
        principal(claims(sub=42))  # numbers are for an app's own claims


def test_an_alias_must_leave_room() -> None:
    assert len(principal(claims(sub="x" * 250), alias="abcd").external_id) == 255
    with pytest.raises(BadToken, match="too long"):
        principal(claims(sub="x" * 251), alias="abcd")


@pytest.mark.parametrize("value", [1, None, "", "  ", "a\nb", "x" * 256, {"a": 1}, "\ud800"])
def test_a_useless_decoration_is_left_out(value: object) -> None:
    who = principal(claims(name=value, email=value, preferred_username=value))
    assert (who.name, who.email, who.username) == (None, None, None)


LOOK_ALIKES = [
    "alice", "Alice", "ALICE", "alice ", " alice", "al\u0131ce", "\u0430lice", "alice\u200b", "alic\u00e9", "alice\u0301",
    "alice.", "a.lice", "alice@x", "alice@x@y", "alice|1", "auth0|alice", "alice:1", "1", "01", "1.0", "\uff11", "\u2460",
    "\ufb01", "fi", "stra\u00dfe", "strasse", "\u212b", "\u00c5", "A\u030a", "null", "None", "undefined", "", "0", "-0", "a/b",
    "a//b", "a%2fb", "a\\b", "a b", "a  b", "a\u00a0b",
]  # fmt: skip


def test_look_alikes_are_different_people() -> None:
    """A subject is used byte for byte or refused; it is not folded, trimmed or normalised."""
    kept = [subject for subject in LOOK_ALIKES if subject]
    assert len({principal(claims(sub=subject)).external_id for subject in kept}) == len(kept)
    assert all(principal(claims(sub=subject)).subject == subject for subject in kept)
