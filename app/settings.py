"""Everything an operator can set, read once at start and never changed."""

import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import SecretsSettingsSource

AuthMode = Literal["jwt", "introspection", "forward", "header", "dev"]
UserField = Literal["external_user_id", "metadata"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SECRETS_DIR = "/run/secrets"
ASYMMETRIC = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
SAMPLE_BEGINS = frozenset({"change", "changeme", "example", "sample", "replace", "your", "secret"})
SAMPLE_WORD = re.compile(
    "a|admin|an|api|auth|broker|change|changeme|chat|client|example|here|in|it|key|me|my|now|password"
    "|please|production|put|real|replace|sample|secret|some|the|this|token|value|with|your"
)
MOST_DIGITS_OF_A_SAMPLE = 12
OUR_PATHS = (
    "/admin",
    "/dev",
    "/docs",
    "/healthz",
    "/metrics",
    "/openapi.json",
    "/readyz",
    "/socket.io",
    "/.well-known",
)


class BadSettings(Exception):  # noqa: N818 - not an error of ours
    """The settings would not run. *problems* names every one; no secret is repeated.

    *settings* are they, where each could be read but they do not go together.
    """

    def __init__(self, problems: list[str], settings: "Settings | None" = None) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.settings = settings


def _split(value: object) -> object:
    """A list as operators write it: `a, b`, or a JSON array."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part for part in re.split(r"[,\s]+", value) if part]


_RATE = re.compile(r"\s*([0-9]+)\s*(?:/|per)\s*([0-9]*)\s*([a-z]+)\s*", re.IGNORECASE)
_DAY = 86_400
_PERIODS = {
    "second": 1,
    "minute": 60,
    "hour": 3_600,
    "day": _DAY,
    "month": 30 * _DAY,
    "year": 360 * _DAY,
}


def read_rates(notation: str) -> list[tuple[int, int]]:
    """Amount and period in seconds of each rate: `30/minute`, `100 per 2 hours`, several with `;` between.

    The notation is that of the `limits` library. Raises ValueError for any other.
    """
    rates = []
    for part in re.split(r"[,;|]", notation):
        found = _RATE.fullmatch(part)
        if found is None:
            raise ValueError(f"couldn't parse rate limit string '{notation}'")
        amount, times, unit = found.groups()
        period = _PERIODS.get(unit.lower()) or _PERIODS.get(unit.lower().removesuffix("s"))
        if period is None:
            raise ValueError(f"no granularity matched for {unit}")
        rates.append((int(amount), period * (int(times or 1) or 1)))
    return rates


def _rate(value: str) -> str:
    read_rates(value)
    return value


def _network(value: object) -> object:
    return ipaddress.ip_network(value, strict=False) if isinstance(value, str) else value


def _origin(value: str) -> str:
    if value == "*":
        raise ValueError(
            "'*' together with credentials would open every user's chat to every site; list the origins"
        )
    parts = urlsplit(value)
    if (
        parts.scheme not in {"http", "https"}
        or not parts.netloc
        or value != f"{parts.scheme}://{parts.netloc}"
    ):
        raise ValueError("an origin is scheme://host or scheme://host:port and nothing more")
    if "@" in parts.netloc or value != value.lower():
        raise ValueError("an origin is written in lower case, without user information")
    return value


def _address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an http(s) address without query or fragment")
    if parts.username or parts.password:
        raise ValueError("must not hold user information")
    return value.rstrip("/")


def _provider(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme == "http" and _is_loopback(parts.hostname or ""):
        return value
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("must be an https address (plain http on loopback only)")
    if parts.username or parts.password:
        raise ValueError("must not hold user information")
    return value


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _prefix(value: str) -> str:
    if not re.fullmatch(r"(?:/[A-Za-z0-9_-]+)+", value):
        raise ValueError("must look like /chat or /api/chat")
    if any(value == path or value.startswith(path + "/") for path in OUR_PATHS):
        raise ValueError("is taken by another route of the broker")
    return value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Rate = Annotated[str, AfterValidator(_rate)]
Networks = Annotated[
    tuple[Annotated[Network, BeforeValidator(_network)], ...], NoDecode, BeforeValidator(_split)
]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_split)
]
Url = Annotated[str, AfterValidator(_address)]
ProviderUrl = Annotated[str, AfterValidator(_provider)]
Port = Annotated[int, Field(ge=1, le=65535)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
CookieName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")]


class Settings(BaseSettings):
    """Everything an operator can set: environment variables, `.env`, or files under SECRETS_DIR."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_file=".env",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    # How it runs
    environment: Literal["production", "development"] = Field(
        "production", description="`development` allows AUTH=dev, docs and sample secrets"
    )
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 in a container")
    port: Port = Field(8000, description="Port to listen on")
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="Processes; over 1 needs REDIS_URL and Postgres for both databases",
    )
    admin_port: Port | None = Field(
        None,
        description="Serve /admin, /metrics and docs only on this port, and no chat there; unset: the same port",
    )
    route_prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        "/chat", description="Where the routes for frontends live, for example /api/chat"
    )
    secrets_dir: Path = Field(
        Path(SECRETS_DIR),
        description="Folder of files named like settings in lower case; re-read on SIGHUP",
    )

    # The Chat API
    chat_base_url: Url | None = Field(
        None,
        description="Address of a remote Chat API; unset: the embedded one runs in this process",
    )
    chat_api_key: SecretStr | None = Field(
        None, description="Project API key; needed with CHAT_BASE_URL"
    )
    chat_api_key_next: SecretStr | None = Field(
        None, description="The key that takes over when CHAT_API_KEY is refused"
    )
    chat_allow_http: bool = Field(
        False,
        description="Send the key over plain http to CHAT_BASE_URL although its host has a public name",
    )
    chat_dialect: dict[str, Any] = Field(
        {},
        description='How another Chat API spells paths, headers and events, as JSON: {"prefix": "/v2"}',
    )
    chat_timeout: float = Field(
        10, gt=0, le=60, description="Seconds a call to the Chat API may take, with all its repeats"
    )
    chat_socket_url: Url | None = Field(
        None,
        description="Where frontends open their sockets with a remote Chat API; unset: CHAT_BASE_URL",
    )
    public_url: Url | None = Field(
        None,
        description="The broker's own address as browsers see it; unset: the one the request came to",
    )
    token_ttl: int = Field(900, ge=1, le=3600, description="Seconds a chat token lives at most")

    # State
    data_dir: Path = Field(Path("data"), description="Folder of the SQLite databases")
    database_url: SecretStr | None = Field(
        None, description="sqlite:///… or postgresql://…; unset: sqlite:///{DATA_DIR}/broker.db"
    )
    chat_database_url: SecretStr | None = Field(
        None, description="The embedded Chat API's database; unset: a SQLite file in DATA_DIR"
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis, for more than one process: counters, hints, fan-out"
    )

    # Who the app user is
    auth: Annotated[tuple[AuthMode, ...], NoDecode, BeforeValidator(_split)] = Field(
        (),
        description="How app users are recognised, in order: jwt, introspection, forward, header, dev",
    )
    auth_jwt_issuer: str | None = Field(None, description="The `iss` of the app's tokens, exactly")
    auth_jwt_audience: Words = Field((), description="The `aud` to accept; one or more")
    auth_jwt_jwks_url: ProviderUrl | None = Field(
        None, description="Where the keys are; unset: the issuer's discovery document says"
    )
    auth_jwt_public_key: str | None = Field(
        None, description="One public key as PEM text, instead of JWKS"
    )
    auth_jwt_secret: SecretStr | None = Field(
        None, description="Shared secret for HS256, at least 32 bytes, instead of JWKS"
    )
    auth_jwt_algorithms: Words = Field(
        (), description="Algorithms to accept; unset: those that fit the key"
    )
    auth_jwt_leeway: int = Field(30, ge=0, le=120, description="Seconds by which clocks may differ")
    auth_jwt_typ: str | None = Field(
        None, description="The header `typ` to require, for example at+jwt"
    )
    auth_jwt_max_age: int | None = Field(
        None, ge=1, description="Longest life of a token to accept: exp - iat, in seconds"
    )
    auth_jwt_cookie: CookieName | None = Field(
        None, description="Cookie that may carry the token instead of Authorization"
    )
    auth_jwt_jwks_hosts: Words = Field(
        (),
        description="Hosts besides the issuer's own that its discovery document may name for its keys",
    )
    auth_jwt_issuers: SecretStr | None = Field(
        None,
        description="Several issuers instead of one: a JSON list of {alias, issuer, audience, …}",
    )
    auth_introspection_url: ProviderUrl | None = Field(
        None, description="RFC 7662 endpoint for opaque tokens"
    )
    auth_introspection_client_id: str | None = Field(None, description="Our client id there")
    auth_introspection_client_secret: SecretStr | None = Field(
        None, description="Our client secret there"
    )
    auth_introspection_cache_seconds: int = Field(
        10, ge=0, le=60, description="Seconds an answer may be remembered"
    )
    auth_introspection_issuer: str | None = Field(
        None, description="Whose subjects these are; unset: AUTH_JWT_ISSUER"
    )
    auth_introspection_audience: Words = Field(
        (), description="The `aud` an answer must name; unset: AUTH_JWT_AUDIENCE, if it names any"
    )
    auth_forward_url: ProviderUrl | None = Field(None, description="The app's own session endpoint")
    auth_forward_cookies: Words = Field((), description="Cookies to pass to it")
    auth_forward_headers: Words = Field((), description="Headers to pass to it")
    auth_forward_cache_seconds: int = Field(
        5, ge=0, le=60, description="Seconds an answer may be remembered"
    )
    auth_header_user: HeaderName = Field(
        "X-Forwarded-User", description="Header in which the proxy names the user"
    )
    auth_header_name: HeaderName | None = Field(None, description="Header with the display name")
    auth_header_email: HeaderName | None = Field(None, description="Header with the e-mail address")
    auth_header_trusted_proxies: Networks = Field(
        (), description="Networks of the proxies that may set these headers (CIDR)"
    )
    auth_header_secret: SecretStr | None = Field(
        None, description="Value the proxy sends as X-Proxy-Secret"
    )
    auth_claim_id: str = Field("sub", description="Claim that identifies the user")
    auth_claim_username: str = Field(
        "preferred_username", description="Claim that becomes the chat username"
    )
    auth_claim_name: str = Field("name", description="Claim that becomes the display name")
    auth_claim_email: str = Field("email", description="Claim that becomes the e-mail address")

    # What it allows
    admin_key: SecretStr | None = Field(
        None, description="Bootstrap key with every admin scope, at least 32 characters"
    )
    rate_token: Rate = Field("30/minute", description="Tokens minted per user")
    rate_write: Rate = Field("120/minute", description="Writes per user")
    rate_read: Rate = Field("600/minute", description="Reads per user")
    rate_ip: Rate = Field("1200/minute", description="Requests per address")
    rate_auth_failures: Rate = Field("60/minute", description="Refused credentials per address")
    rate_admin_failures: Rate = Field("10/minute", description="Refused admin keys per address")
    trusted_proxies: Networks = Field(
        (), description="Networks of proxies whose X-Forwarded-* is believed (CIDR)"
    )
    cors_origins: Origins = Field((), description="Origins of frontends, exactly; * is refused")
    expose_user_fields: Annotated[tuple[UserField, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), description="What members see of each other besides names: external_user_id, metadata"
    )

    # What it tells
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least level that is logged"
    )
    log_format: Literal["json", "console"] = Field("json", description="`console` is for people")
    docs: bool | None = Field(
        None, description="Serve /docs and /openapi.json; unset: outside production"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - replaced: it knows no SECRETS_DIR
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, that over `.env`, that over files."""
        sources = [init_settings, env_settings, dotenv_settings]
        folder = secrets_folder()
        if folder is not None:
            sources.append(SecretsSettingsSource(settings_cls, secrets_dir=folder))
        return tuple(sources)

    @model_validator(mode="after")
    def _together(self) -> Self:
        if problems := list(conflicts(self)):
            raise BadSettings(problems, self)
        return self

    @property
    def development(self) -> bool:
        """Is this somebody's own machine?"""
        return self.environment == "development"

    @property
    def embedded(self) -> bool:
        """Does the Chat API run in this process?"""
        return self.chat_base_url is None

    @property
    def docs_shown(self) -> bool:
        """Are /docs and /openapi.json served?"""
        return self.development if self.docs is None else self.docs

    @property
    def broker_database(self) -> str:
        """DATABASE_URL, or the file in DATA_DIR. May hold a password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir}/broker.db"

    @property
    def own_origins(self) -> frozenset[str]:
        """Origins whose pages may use a cookie: the list, and the broker's own."""
        own = set(self.cors_origins)
        if self.public_url is not None:
            parts = urlsplit(self.public_url)
            own.add(f"{parts.scheme}://{parts.netloc}".lower())
        elif self.development:
            own |= {f"http://{host}:{self.port}" for host in ("127.0.0.1", "localhost")}
        return frozenset(own)


def secrets_folder() -> Path | None:
    """The folder of secret files, if there is one."""
    folder = Path(os.environ.get("SECRETS_DIR") or SECRETS_DIR)
    return folder if folder.is_dir() else None


def load_settings(*checks: Callable[[Settings], Iterable[str]]) -> Settings:
    """The settings of this process. Raises BadSettings with every problem, not only the first.

    *checks* are what other parts have to say about settings that they alone understand.
    """
    try:
        settings = Settings()
    except BadSettings as refused:
        raise BadSettings([*refused.problems, *_more_problems(refused.settings, checks)]) from None
    except ValidationError as refused:
        bad = {str(error["loc"][0]).lower() for error in refused.errors() if error["loc"]}
        problems = [
            f"{str(error['loc'][0]).upper()}: {error['msg'].removeprefix('Value error, ')}"
            for error in refused.errors(include_url=False, include_input=False)
        ]
    else:
        if found := _more_problems(settings, checks):
            raise BadSettings(found)
        return settings
    # With the unreadable ones at their defaults the others can still be compared with each other.
    defaults = {
        name: Settings.model_fields[name].default for name in bad if name in Settings.model_fields
    }
    readable: Settings | None
    try:
        readable = Settings(**defaults)
    except BadSettings as more:
        readable = more.settings
        problems += [text for text in more.problems if text.partition(":")[0].lower() not in bad]
    problems += [
        text
        for text in _more_problems(readable, checks)
        if text.partition(":")[0].lower() not in bad
    ]
    raise BadSettings(list(dict.fromkeys(problems)))


def _more_problems(
    settings: Settings | None, checks: Iterable[Callable[[Settings], Iterable[str]]]
) -> list[str]:
    return [text for check in checks for text in check(settings)] if settings is not None else []


def remove_secrets(environ: dict[str, str] | os._Environ[str]) -> None:
    """Take the secrets that were read out of *environ*, so that no child process and no dump of it has them."""
    for name in secret_names():
        environ.pop(name.upper(), None)
        environ.pop(name, None)


def present_keys(settings: Settings) -> tuple[str | None, str | None]:
    """CHAT_API_KEY and CHAT_API_KEY_NEXT as files and `.env` say now; else as *settings* were read."""
    return _present("chat_api_key", settings.chat_api_key), _present(
        "chat_api_key_next", settings.chat_api_key_next
    )


def _present(name: str, read_at_start: SecretStr | None) -> str | None:
    folder = secrets_folder()
    if folder is not None and (folder / name).is_file():
        return (folder / name).read_text().strip() or None
    kept = dotenv_values(".env", interpolate=False) if Path(".env").is_file() else {}
    if value := kept.get(name.upper()) or kept.get(name):
        return value
    return None if read_at_start is None else read_at_start.get_secret_value()


def secret_names() -> tuple[str, ...]:
    """The settings whose values are never shown."""
    return tuple(
        name
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    )


def conflicts(settings: Settings) -> Iterable[str]:
    """Every reason, as `NAME: why`, for which these settings would not run together."""
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
    if settings.admin_port == settings.port:
        yield "ADMIN_PORT: is the same as PORT; leave it unset for one port"
    for name in ("database_url", "chat_database_url"):
        value: SecretStr | None = getattr(settings, name)
        if value is not None and not re.match(
            r"(?:sqlite:///.|postgres(?:ql)?://.)", value.get_secret_value()
        ):
            yield f"{name.upper()}: must begin with sqlite:/// or postgresql://"
    if settings.redis_url is not None and not re.match(
        r"(?:rediss?|unix)://", settings.redis_url.get_secret_value()
    ):
        yield "REDIS_URL: must begin with redis://, rediss:// or unix://"


def _auth_conflicts(settings: Settings) -> Iterable[str]:
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
    if settings.auth_jwt_issuers is not None:  # what each entry needs is checked where it is read
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
    if "jwt" in modes:
        yield from _jwt_conflicts(settings)


def _jwt_conflicts(settings: Settings) -> Iterable[str]:
    sources = [
        name
        for name in ("auth_jwt_jwks_url", "auth_jwt_public_key", "auth_jwt_secret")
        if getattr(settings, name) is not None
    ]
    if len(sources) > 1:
        yield f"{sources[1].upper()}: only one of {', '.join(name.upper() for name in sources)} can be the key"
    if not sources and settings.auth_jwt_issuer is not None:
        try:
            _provider(settings.auth_jwt_issuer)
        except ValueError:
            yield "AUTH_JWT_JWKS_URL: needed, because AUTH_JWT_ISSUER is no https address to discover keys at"
    if settings.auth_jwt_secret is not None:
        if len(settings.auth_jwt_secret.get_secret_value().encode()) < 32:
            yield "AUTH_JWT_SECRET: must be at least 32 bytes"
        if set(settings.auth_jwt_algorithms) - {"HS256"}:
            yield "AUTH_JWT_ALGORITHMS: a shared secret is for HS256 alone"
    elif unknown := set(settings.auth_jwt_algorithms) - set(ASYMMETRIC):
        yield f"AUTH_JWT_ALGORITHMS: {', '.join(sorted(unknown))} cannot be used with public keys"
    if (
        settings.auth_jwt_public_key is not None
        and "-----BEGIN" not in settings.auth_jwt_public_key
    ):
        yield "AUTH_JWT_PUBLIC_KEY: must be PEM text (-----BEGIN PUBLIC KEY----- …)"


def _secret_conflicts(settings: Settings) -> Iterable[str]:
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
    """Is this what stands in examples, and not a secret: `change-me`, `<your key>`, `…`?

    Judged by the whole text: it begins as examples do, and no word of it is anything else. So nothing
    random is taken for a sample, whatever its maker puts before it.
    """
    if "…" in secret:
        return True
    words = re.findall(r"[^\W\d_]+", secret.lower())
    digits = sum(character.isdigit() for character in secret)
    if not words or words[0] not in SAMPLE_BEGINS or digits > MOST_DIGITS_OF_A_SAMPLE:
        return False
    return all(SAMPLE_WORD.fullmatch(word) for word in words)


def _scale_conflicts(settings: Settings) -> Iterable[str]:
    if settings.workers == 1:
        return
    if settings.redis_url is None:
        yield "REDIS_URL: needed by WORKERS over 1"
    names = ("database_url", "chat_database_url") if settings.embedded else ("database_url",)
    for name in names:
        value: SecretStr | None = getattr(settings, name)
        if value is None or not value.get_secret_value().startswith("postgres"):
            yield f"{name.upper()}: WORKERS over 1 needs Postgres here"
