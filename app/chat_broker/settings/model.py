"""The settings by name, type and default.

`settings/conflicts.py` says which may not be combined; the rules for the settings of `AUTH` are in `auth/config.py`.
"""

from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from chat_broker.settings.conflicts import BadSettings, conflicts
from chat_broker.settings.sources import SECRETS_DIR, secrets_folder
from chat_broker.settings.values import (
    AuthModes,
    CookieName,
    Environment,
    Features,
    HeaderName,
    Networks,
    Port,
    ProviderUrl,
    Rate,
    RoutePrefix,
    Url,
    UserFields,
    UserinfoSource,
    Words,
)
from chat_broker_kit.http.origins import listed_origin
from chat_broker_kit.setting_sources import ENCODING, SecretFiles, without_service_links
from chat_broker_kit.setting_values import (
    DatabaseUrl,
    LogFormat,
    LogLevel,
    Origins,
    RedisPrefix,
    RedisUrl,
)


class Settings(BaseSettings):
    """Everything an operator can set: environment variables, `.env`, or files under SECRETS_DIR."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_file=".env",
        env_file_encoding=ENCODING,
        env_ignore_empty=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    # How it runs
    environment: Environment = Field(
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
    drain_seconds: float = Field(
        0,
        ge=0,
        le=600,
        description="Seconds after SIGTERM in which all goes on and /readyz says 503, so that balancers look elsewhere",
    )
    admin_port: Port | None = Field(
        None,
        description="Serve /admin, /metrics and docs only on this port, and no chat there; unset: the same port",
    )
    route_prefix: RoutePrefix = Field(
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
        description="The broker's own address as browsers see it, with its path if a proxy takes one away; "
        "unset: the one the request came to",
    )
    token_ttl: int = Field(900, ge=1, le=3600, description="Seconds a chat token lives at most")

    # State
    data_dir: Path = Field(Path("data"), description="Folder of the SQLite databases")
    database_url: DatabaseUrl | None = Field(
        None, description="sqlite:///… or postgresql://…; unset: sqlite:///{DATA_DIR}/broker.db"
    )
    chat_database_url: DatabaseUrl | None = Field(
        None, description="The embedded Chat API's database; unset: a SQLite file in DATA_DIR"
    )
    redis_url: RedisUrl | None = Field(
        None, description="Redis, for more than one process: counters, hints, fan-out"
    )
    redis_prefix: RedisPrefix | None = Field(
        None,
        description="What keys and channels in Redis begin with; unset: an id that the database holds,"
        " so that deployments on one Redis stay apart",
    )

    # Who the app user is
    auth: AuthModes = Field(
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
    auth_jwt_userinfo: UserinfoSource = Field(
        None,
        description="Where names are asked for that tokens lack: discovery, or the userinfo endpoint's address",
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
    auth_claim_avatar: str = Field("picture", description="Claim that becomes the avatar's URL")

    # What it allows
    admin_key: SecretStr | None = Field(
        None, description="Bootstrap key with every admin scope, at least 32 characters"
    )
    rate_token: Rate = Field(
        "30/minute", description="Tokens minted per user; signing out as often, counted apart"
    )
    rate_write: Rate = Field("120/minute", description="Writes per user")
    rate_react: Rate = Field("120/minute", description="Reactions per user, counted apart")
    rate_read: Rate = Field("600/minute", description="Reads per user")
    rate_ip: Rate = Field("1200/minute", description="Requests per address")
    rate_auth_failures: Rate = Field("60/minute", description="Refused credentials per address")
    rate_admin_failures: Rate = Field("10/minute", description="Refused admin keys per address")
    trusted_proxies: Networks = Field(
        (), description="Networks of proxies whose X-Forwarded-* is believed (CIDR)"
    )
    cors_origins: Origins = Field(
        (), description="Origins of frontends, exactly, also capacitor://localhost; * is refused"
    )
    expose_user_fields: UserFields = Field(
        (), description="What members see of each other besides names: external_user_id, metadata"
    )

    directory: bool = Field(
        False, description="Whether users may find each other by the beginning of a name"
    )
    features_off: Features = Field(
        (), description="Features of the Chat API that no caller may use: changes, mine, sync, …"
    )

    # What it tells
    log_level: LogLevel = Field("INFO", description="Least level that is logged")
    log_format: LogFormat = Field("json", description="`console` is for people")
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
        """Arguments come first, then the environment, `.env`, and the files of SECRETS_DIR."""
        sources = [init_settings, without_service_links(env_settings), dotenv_settings]
        folder = secrets_folder()
        if folder is not None:
            sources.append(SecretFiles(settings_cls, secrets_dir=folder))
        return tuple(sources)

    @model_validator(mode="after")
    def _refuse_conflicts(self) -> Self:
        if problems := list(conflicts(self)):
            raise BadSettings(problems, self)
        return self

    @property
    def development(self) -> bool:
        return self.environment == "development"

    @property
    def embedded(self) -> bool:
        """Whether the Chat API runs in this process."""
        return self.chat_base_url is None

    @property
    def docs_shown(self) -> bool:
        """Whether /docs and /openapi.json are served."""
        return self.development if self.docs is None else self.docs

    @property
    def broker_database(self) -> str:
        """DATABASE_URL, or the file in DATA_DIR. May hold a password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir}/broker.db"

    @property
    def chat_database(self) -> str:
        """CHAT_DATABASE_URL, or the embedded Chat API's file in DATA_DIR. May hold a password."""
        if self.chat_database_url is not None:
            return self.chat_database_url.get_secret_value()
        return f"sqlite:///{self.data_dir}/chat.db"

    @property
    def own_origins(self) -> frozenset[str]:
        """Origins whose pages may authenticate with a cookie: CORS_ORIGINS and the broker's own."""
        own = set(self.cors_origins)
        if self.public_url is not None:
            parts = urlsplit(self.public_url)
            own.add(listed_origin(f"{parts.scheme}://{parts.netloc}".lower()))
        elif self.development:
            hosts = ("127.0.0.1", "localhost")
            own |= {listed_origin(f"http://{host}:{self.port}") for host in hosts}
        return frozenset(own)
