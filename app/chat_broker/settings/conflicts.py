"""The reasons for which settings that are valid one by one cannot run together."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pydantic import SecretStr

from chat_broker_kit.process.listening import CannotListen, check_host

if TYPE_CHECKING:
    from chat_broker.settings.model import Settings

SAMPLE_BEGINS = frozenset({"change", "changeme", "example", "sample", "replace", "your", "secret"})
SAMPLE_WORDS = frozenset(
    "a admin an api auth broker change changeme chat client example here in it key me my now password"  # noqa: SIM905 - a list takes a line for each word
    " please production put real replace sample secret some the this token value with your".split()
)
MOST_DIGITS_OF_A_SAMPLE = 12


class BadSettings(Exception):  # noqa: N818 - not an error of ours
    """The broker cannot run with these settings. *problems* names each reason, without any secret.

    *settings* is None if a setting could not be read at all.
    """

    def __init__(self, problems: list[str], settings: "Settings | None" = None) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.settings = settings


def conflicts(settings: "Settings") -> Iterable[str]:
    """Each reason, as `NAME: why`, for which the broker cannot run with *settings*. `auth.config` checks the keys."""
    yield from _auth_conflicts(settings)
    yield from _secret_conflicts(settings)
    yield from _scale_conflicts(settings)
    if settings.chat_base_url is not None:
        if settings.chat_api_key is None:
            yield "CHAT_API_KEY: needed with CHAT_BASE_URL"
        if settings.chat_database_url is not None:
            yield "CHAT_DATABASE_URL: belongs to the embedded Chat API, but CHAT_BASE_URL names a remote one"
    elif settings.chat_socket_url is not None:
        yield "CHAT_SOCKET_URL: belongs to a remote Chat API; with the embedded one set PUBLIC_URL"
    try:
        check_host(settings.host)
    except CannotListen as error:
        yield str(error)
    if settings.admin_port == settings.port:
        yield "ADMIN_PORT: is the same as PORT; leave it unset for one port"


def _auth_conflicts(settings: "Settings") -> Iterable[str]:
    modes = settings.auth
    if not modes:
        yield "AUTH: name at least one of jwt, introspection, forward, header (or dev, in development)"
    if len(set(modes)) != len(modes):
        yield "AUTH: names a mode twice"
    if "dev" in modes and not settings.development:
        yield "AUTH: dev lets anybody be anybody; it needs ENVIRONMENT=development"
    needed: Mapping[str, tuple[str, ...]] = {
        "jwt": ("auth_jwt_issuer", "auth_jwt_audience"),
        "introspection": (
            "auth_introspection_url",
            "auth_introspection_client_id",
            "auth_introspection_client_secret",
        ),
        "forward": ("auth_forward_url",),
        "header": ("auth_header_trusted_proxies", "auth_header_secret"),
    }
    if settings.auth_jwt_issuers is not None:  # `auth.config` checks the entries
        needed = {**needed, "jwt": ()}
    for mode in dict.fromkeys(modes):
        for name in needed.get(mode, ()):
            if not getattr(settings, name):
                yield f"{name.upper()}: needed by AUTH={mode}"
    if "introspection" in modes and not (
        settings.auth_introspection_issuer or settings.auth_jwt_issuer
    ):
        yield "AUTH_INTROSPECTION_ISSUER: needed by AUTH=introspection, unless AUTH_JWT_ISSUER is set"
    if "forward" in modes and not (settings.auth_forward_cookies or settings.auth_forward_headers):
        yield "AUTH_FORWARD_COOKIES: name the cookies (or AUTH_FORWARD_HEADERS) that carry the app's session"


def _secret_conflicts(settings: "Settings") -> Iterable[str]:
    if settings.admin_key is not None and len(settings.admin_key.get_secret_value()) < 32:
        yield "ADMIN_KEY: must have at least 32 characters"
    if settings.development:
        return
    for name in (
        "chat_api_key",
        "chat_api_key_next",
        "admin_key",
        "auth_jwt_secret",
        "auth_header_secret",
        "auth_introspection_client_secret",
    ):
        value: SecretStr | None = getattr(settings, name)
        if value is not None and is_sample(value.get_secret_value()):
            yield f"{name.upper()}: is a sample value; put a real secret there"


def is_sample(secret: str) -> bool:
    """Whether *secret* is a sample from documentation: `change-me`, `<your key>`, `…`.

    A sample begins with a word of SAMPLE_BEGINS, and all its words are in SAMPLE_WORDS. A random secret is never
    a sample, whatever its prefix.
    """
    if "…" in secret:
        return True
    words = re.findall(r"[^\W\d_]+", secret.lower())
    digits = sum(character.isdigit() for character in secret)
    if not words or words[0] not in SAMPLE_BEGINS or digits > MOST_DIGITS_OF_A_SAMPLE:
        return False
    return SAMPLE_WORDS.issuperset(words)


def _scale_conflicts(settings: "Settings") -> Iterable[str]:
    if settings.workers == 1:
        return
    if settings.redis_url is None:
        yield "REDIS_URL: needed by WORKERS over 1"
    names = ("database_url", "chat_database_url") if settings.embedded else ("database_url",)
    for name in names:
        value: SecretStr | None = getattr(settings, name)
        if value is None or not value.get_secret_value().startswith("postgres"):
            yield f"{name.upper()}: WORKERS over 1 needs Postgres here"
