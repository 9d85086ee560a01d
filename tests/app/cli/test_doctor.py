"""`doctor` requests each provider once, names problems and remedies, and prints no secret."""

from email.utils import formatdate
from typing import Any

import httpx
import pytest

from chat_broker.cli.doctor_auth import Finding, diagnose
from chat_broker.settings import Settings
from tests.app.auth.signing import ISSUER, NOW, ec_signer, rsa_signer
from tests.app.auth.test_mode_chain import FORWARD, HEADER, HS256, INTROSPECTION, JWT


async def findings(auth: str, answers: dict[str, Any], **settings: Any) -> list[Finding]:
    def answer(request: httpx.Request) -> httpx.Response:
        found = answers.get(request.url.path, httpx.Response(404))
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, httpx.Response) else dated(found, NOW)

    whole = Settings(environment="development", auth=tuple(auth.split(",")), **settings)
    return await diagnose(whole, transport=httpx.MockTransport(answer), now=lambda: NOW)


def dated(body: Any, at: float, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=body, headers={"date": formatdate(at, usegmt=True)})


KEYS = {"keys": [rsa_signer().jwk, ec_signer("e").jwk]}
DISCOVERY = {
    "issuer": ISSUER,
    "jwks_uri": f"{ISSUER}/keys",
    "userinfo_endpoint": f"{ISSUER}/userinfo",
}
HEALTHY = {
    "/.well-known/openid-configuration": DISCOVERY,
    "/keys": KEYS,
    "/introspect": {"active": False},
    "/session": httpx.Response(401),
    "/userinfo": httpx.Response(401),
}


async def test_all_is_well() -> None:
    found = await findings(
        "jwt,introspection,forward",
        HEALTHY,
        **JWT,
        **INTROSPECTION,
        **FORWARD,
        auth_jwt_userinfo="discovery",
        public_url="https://c.example",
    )
    assert {finding.level for finding in found} == {"ok"}
    text = "\n".join(finding.message for finding in found)
    assert "2 keys for ES256, RS256" in text
    assert "agree" in text
    assert text.count("refuses a token that nobody issued") == 1


@pytest.mark.parametrize(
    ("change", "says", "mends"),
    [
        ({"/.well-known/openid-configuration": httpx.ConnectError("x")}, "does not answer", "AUTH_JWT_ISSUER"),
        ({"/.well-known/openid-configuration": {"issuer": "x"}}, "another issuer", "AUTH_JWT_ISSUER"),
        ({"/keys": httpx.Response(500)}, "answers 500", "address"),
        ({"/keys": {"keys": []}}, "no key that could verify", "AUTH_JWT_ALGORITHMS"),
        ({"/keys": dated(KEYS, NOW - 45)}, "45 s ahead of", "chrony"),
        ({"/introspect": httpx.Response(401)}, "refuses the broker itself", "CLIENT_SECRET"),
        ({"/introspect": {"active": True}}, "nobody issued, not active", "RFC 7662"),
        ({"/introspect": httpx.ReadTimeout("x")}, "does not answer", "AUTH_INTROSPECTION_URL"),
        ({"/userinfo": {"sub": "x"}}, "answers 200 to a token that nobody issued", "AUTH_JWT_USERINFO"),
        ({"/userinfo": httpx.ConnectError("x")}, "does not answer", "AUTH_JWT_USERINFO"),
        ({"/session": httpx.Response(302)}, "answers 302", "401"),
        ({"/session": httpx.ConnectError("x")}, "does not answer", "AUTH_FORWARD_URL"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named_with_what_mends_it(
    change: dict[str, Any], says: str, mends: str
) -> None:
    found = await findings(
        "jwt,introspection,forward",
        {**HEALTHY, **change},
        **JWT,
        **INTROSPECTION,
        **FORWARD,
        auth_jwt_userinfo=f"{ISSUER}/userinfo",
        public_url="https://c.example",
    )
    (wrong,) = [finding for finding in found if finding.level == "error"]
    assert says in wrong.message
    assert mends in (wrong.mend or "")


async def test_a_small_skew_is_a_warning() -> None:
    found = await findings("jwt", {**HEALTHY, "/keys": dated(KEYS, NOW + 20)}, **JWT)
    assert [f.message for f in found if f.level == "warning"] == [
        "this machine's clock is 20 s behind the provider's"
    ]


async def test_settings_alone_are_judged_too() -> None:
    found = await findings("jwt,header,dev", {}, **HS256, **HEADER, auth_jwt_cookie="app")
    assert [(f.level, f.subject) for f in found] == [
        ("warning", "dev"),
        ("ok", "header"),
        ("warning", "cookies"),
        ("ok", ISSUER),
    ]
    broken = await findings("jwt", {}, **{**JWT, "auth_jwt_algorithms": "RS256,ES256"})
    assert [f.level for f in broken] == ["error"]
    assert "between-proxy-and-broker" not in repr(found)
    assert HS256["auth_jwt_secret"] not in repr(found)
