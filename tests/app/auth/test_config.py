"""Sign-in settings: all problems are reported at once, before the start."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from chat_broker.auth.config import auth_problems, read_auth
from chat_broker.settings import BadSettings, Settings
from tests.app.auth.signing import SECRET, Signer, ec_signer, rsa_signer
from tests.app.auth.test_mode_chain import FORWARD, HEADER, HS256, INTROSPECTION, JWT


def problems(auth: str, **settings: Any) -> list[str]:
    """All problems, of the settings and of the configuration read from them."""
    try:
        whole = Settings(environment="development", auth=tuple(auth.split(",")), **settings)
    except BadSettings as error:
        return error.problems
    return auth_problems(whole)


@pytest.mark.parametrize(
    ("auth", "settings"),
    [
        ("jwt", HS256),
        ("jwt", JWT),
        ("jwt", {**JWT, "auth_jwt_algorithms": "ES256,ES384"}),
        ("jwt", {**JWT, "auth_jwt_algorithms": "RS256,PS256"}),
        ("jwt", {**HS256, "auth_jwt_algorithms": "HS256"}),
        ("jwt", {**JWT, "auth_jwt_public_key": rsa_signer().pem}),
        ("jwt", {**JWT, "auth_jwt_public_key": ec_signer().pem, "auth_jwt_algorithms": "ES256"}),
        ("introspection", INTROSPECTION),
        ("forward", FORWARD),
        ("header", HEADER),
        ("dev", {}),
        ("jwt,introspection,forward,header,dev", {**HS256, **INTROSPECTION, **FORWARD, **HEADER}),
    ],
)
def test_what_would_run_has_no_problems(auth: str, settings: dict[str, Any]) -> None:
    assert problems(auth, **settings) == []


SMALL = Signer(rsa.generate_private_key(65537, 1024), "RS256")  # noqa: S505 - to be refused


@pytest.mark.parametrize(
    ("auth", "settings", "names"),
    [
        ("jwt", {**JWT, "auth_jwt_algorithms": "RS256,ES256"}, "AUTH_JWT_ALGORITHMS"),
        ("jwt", {**JWT, "auth_jwt_algorithms": "RS256,HS256"}, "AUTH_JWT_ALGORITHMS"),
        ("jwt", {**JWT, "auth_jwt_algorithms": "none"}, "AUTH_JWT_ALGORITHMS"),
        ("jwt", {**HS256, "auth_jwt_algorithms": "RS256"}, "AUTH_JWT_ALGORITHMS"),
        ("jwt", {**JWT, "auth_jwt_public_key": ec_signer().pem, "auth_jwt_algorithms": "RS256"}, "AUTH_JWT_ALGORITHMS"),
        ("jwt", {**JWT, "auth_jwt_public_key": SMALL.pem}, "AUTH_JWT_PUBLIC_KEY"),
        ("jwt", {**JWT, "auth_jwt_public_key": "-----BEGIN nonsense"}, "AUTH_JWT_PUBLIC_KEY"),
        ("jwt", {**HS256, "auth_jwt_secret": "x" * 31}, "AUTH_JWT_SECRET"),
        ("jwt", {**HS256, "auth_jwt_public_key": rsa_signer().pem}, "AUTH_JWT_PUBLIC_KEY: and AUTH_JWT_SECRET"),
        ("jwt", {**JWT, "auth_jwt_issuer": "http://id.example.com"}, "AUTH_JWT_ISSUER: must be https"),
        ("jwt", {"auth_jwt_issuer": "https://a.example"}, "AUTH_JWT_AUDIENCE"),
        ("jwt", {"auth_jwt_audience": "chat"}, "AUTH_JWT_ISSUER"),
        ("forward", {**FORWARD, "auth_forward_headers": "Cookie"}, "AUTH_FORWARD_HEADERS"),
        ("forward", {**FORWARD, "auth_forward_headers": "Host"}, "AUTH_FORWARD_HEADERS"),
        ("jwt,forward", {**HS256, **FORWARD, "auth_forward_headers": "Authorization"}, "AUTH_FORWARD_HEADERS"),
        ("header", {**HEADER, "auth_header_trusted_proxies": ()}, "AUTH_HEADER_TRUSTED_PROXIES"),
        ("header", {**HEADER, "auth_header_trusted_proxies": "0.0.0.0/0"}, "AUTH_HEADER_TRUSTED_PROXIES"),
        ("header", {**HEADER, "auth_header_trusted_proxies": "10.0.0.1,::/0"}, "AUTH_HEADER_TRUSTED_PROXIES"),
        ("header", {**HEADER, "auth_header_secret": None}, "AUTH_HEADER_SECRET"),
        ("header", {**HEADER, "auth_header_user": "X-Proxy-Secret"}, "AUTH_HEADER_USER"),
        ("header", {**HEADER, "auth_header_name": "X-Forwarded-User"}, "AUTH_HEADER_NAME"),
        ("header", {**HEADER, "auth_header_user": "Authorization"}, "AUTH_HEADER_USER"),
        ("jwt", {"auth_jwt_issuers": "{"}, "AUTH_JWT_ISSUERS"),
        ("jwt", {"auth_jwt_issuers": "[]"}, "AUTH_JWT_ISSUERS"),
        ("jwt", {"auth_jwt_issuers": "[1]"}, "AUTH_JWT_ISSUERS[0]"),
        ("jwt", {**JWT, "auth_jwt_issuers": '[{"alias":"a","issuer":"https://a","audience":"b"}]'}, "AUTH_JWT_ISSUERS"),
    ],
)  # fmt: skip
def test_what_would_not_run_is_named(auth: str, settings: dict[str, Any], names: str) -> None:
    found = problems(auth, **settings)
    assert any(problem.startswith(names) for problem in found), found


def test_all_problems_of_all_issuers_are_listed_at_once() -> None:
    issuers = [
        {"issuer": "http://a.example", "audience": "x", "surprise": 1},
        {"alias": "B!", "issuer": "https://b.example", "leeway": 121, "max_age": 0, "typ": 7},
        {
            "alias": "c",
            "issuer": "https://c.example",
            "audience": "x",
            "secret": "short",
            "jwks_url": "http://c",
        },
        {
            "alias": "d",
            "issuer": "https://d.example",
            "audience": "x",
            "algorithms": ["RS256", "EdDSA"],
        },
        {"alias": "d", "issuer": "https://d.example", "audience": "x"},
        {"alias": "d", "issuer": "https://d.example", "audience": "x"},
    ]
    text = "\n".join(problems("jwt", auth_jwt_issuers=json.dumps(issuers)))
    for name in (
        "[0].surprise",
        "[0].alias",
        "[0].issuer",
        "[1].alias",
        "[1].audience",
        "[1].leeway",
        "[1].max_age",
        "[1].typ",
        "[2].jwks_url: must be https",
        "[2].jwks_url: and",
        "[2].secret",
        "[3].algorithms",
        "same alias",
        "same issuer",
    ):
        assert name in text, name
    assert "short" not in text.replace("shorter", "")


def test_a_token_is_shown_only_where_its_own_issuer_is() -> None:
    """One userinfo endpoint for several issuers would receive the tokens of the others."""
    two = [
        {"alias": name, "issuer": f"https://{name}.example", "audience": "x"} for name in ("a", "b")
    ]
    one_address = problems(
        "jwt", auth_jwt_issuers=json.dumps(two), auth_jwt_userinfo="https://a.example/userinfo"
    )
    assert any("AUTH_JWT_USERINFO" in problem for problem in one_address)
    for value in ("discovery", "on", "true"):
        assert not problems("jwt", auth_jwt_issuers=json.dumps(two), auth_jwt_userinfo=value)
    two[0]["userinfo"] = "https://a.example/userinfo"
    assert not problems("jwt", auth_jwt_issuers=json.dumps(two))
    two[0]["userinfo"] = "http://a.example/userinfo"
    assert any(
        "[0].userinfo: must be https" in one
        for one in problems("jwt", auth_jwt_issuers=json.dumps(two))
    )
    named = {"auth_jwt_issuer": "my-app", "auth_jwt_audience": "x", "auth_jwt_secret": SECRET}
    assert any("AUTH_JWT_USERINFO" in p for p in problems("jwt", **named, auth_jwt_userinfo="on"))
    assert not problems("jwt", **named, auth_jwt_userinfo="off")
    assert not problems("jwt", **named, auth_jwt_userinfo="http://127.0.0.1:3000/me")
    with pytest.raises(ValueError, match="must be an https address"):
        problems("jwt", **named, auth_jwt_userinfo="http://app.example.com/me")


def test_an_alias_is_not_the_name_of_another_mode() -> None:
    issuers = '[{"alias":"dev","issuer":"https://a.example","audience":"x"}]'
    assert any("alias" in problem for problem in problems("jwt,dev", auth_jwt_issuers=issuers))
    assert problems("jwt", auth_jwt_issuers=issuers) == []


def test_starting_with_problems_raises_all_of_them() -> None:
    whole = Settings(
        environment="development",
        auth=("jwt", "header"),
        **{**JWT, **HEADER, "auth_jwt_algorithms": "RS256,ES256", "auth_header_user": "Host"},
    )
    with pytest.raises(BadSettings) as error:
        read_auth(whole)
    assert len(error.value.problems) == 2


def test_nothing_secret_is_in_a_configuration() -> None:
    whole = Settings(
        environment="development", auth=("jwt", "introspection"), **HS256, **INTROSPECTION
    )
    config = read_auth(whole)
    assert HS256["auth_jwt_secret"] not in repr(config)
    assert INTROSPECTION["auth_introspection_client_secret"] not in repr(config)
    assert config.aliased is False
    assert config.needs_http is True


PRESETS: dict[str, dict[str, Any]] = {
    "auth0": {"auth_jwt_issuer": "https://tenant.eu.auth0.com/", "auth_jwt_audience": "https://chat.example.com"},
    "clerk": {"auth_jwt_issuer": "https://clerk.example.com", "auth_jwt_audience": "chat", "auth_jwt_cookie": "__session", "auth_claim_username": "username"},
    "firebase": {
        "auth_jwt_issuer": "https://securetoken.google.com/my-project",
        "auth_jwt_audience": "my-project",
        "auth_jwt_jwks_url": "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com",
    },
    "supabase": {"auth_jwt_issuer": "https://ref.supabase.co/auth/v1", "auth_jwt_audience": "authenticated", "auth_claim_name": "user_metadata.full_name"},
    "supabase, shared secret": {"auth_jwt_issuer": "https://ref.supabase.co/auth/v1", "auth_jwt_audience": "authenticated", "auth_jwt_secret": "x" * 40},
    "cognito": {"auth_jwt_issuer": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_AbCdEfGhI", "auth_jwt_audience": "1h57kf5cpq17m0eml12EXAMPLE", "auth_claim_username": "cognito:username"},
    "keycloak": {"auth_jwt_issuer": "https://sso.example.com/realms/main", "auth_jwt_audience": "chat"},
    "entra": {"auth_jwt_issuer": "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0", "auth_jwt_audience": "66666666-7777-8888-9999-000000000000", "auth_claim_id": "oid"},
}  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
def test_the_documented_presets_are_complete(preset: str) -> None:
    assert problems("jwt", **PRESETS[preset]) == []
