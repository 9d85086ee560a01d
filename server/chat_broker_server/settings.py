"""Everything an operator can set for the Chat API server, read once at start."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from chat_broker_kit.database.left_behind import left_behind
from chat_broker_kit.setting_sources import (
    ENCODING,
    given_names,
    service_links,
    unknown_names,
    without_service_links,
)
from chat_broker_kit.setting_values import (
    DatabaseUrl,
    LogFormat,
    LogLevel,
    Origins,
    RedisPrefix,
    RedisUrl,
)
from chat_broker_kit.urls.database import url_warnings

ALIKE = 0.88
"""How much a name in the environment is like a setting before it is taken for a misspelt one. The broker's are not."""
Algorithm = Literal["EdDSA", "ES256", "HS256"]


class Settings(BaseSettings):
    """The settings of `chat-server`, from the environment, `.env` or keyword arguments."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_file=".env",
        env_file_encoding=ENCODING,
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
    )

    host: Annotated[str, Field(alias="HOST")] = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(alias="PORT", ge=0, le=65535)] = 8001
    """Port to listen on."""
    drain_seconds: Annotated[float, Field(alias="DRAIN_SECONDS", ge=0, le=600)] = 0
    """Seconds after SIGTERM in which all goes on and /readyz says 503, so that balancers look elsewhere."""
    data_dir: Annotated[Path, Field(alias="DATA_DIR")] = Path("./data")
    """Folder of the SQLite database; made if missing, readable by its owner alone."""
    chat_database_url: Annotated[DatabaseUrl | None, Field(alias="CHAT_DATABASE_URL")] = None
    """`postgresql://…` or `sqlite:///path`; without it `DATA_DIR/chat.db`."""
    redis_url: Annotated[RedisUrl | None, Field(alias="REDIS_URL")] = None
    """Redis that carries live events between replicas; not needed by a single process."""
    redis_prefix: Annotated[RedisPrefix | None, Field(alias="REDIS_PREFIX")] = None
    """What channels in Redis begin with; without it an id that the database holds."""
    cors_origins: Annotated[Origins, Field(alias="CORS_ORIGINS")] = ()
    """Origins of browsers that may call the REST routes and the socket: an exact list."""
    rate_handshakes: Annotated[int, Field(alias="RATE_HANDSHAKES", ge=0)] = 1200
    """Sockets that an address may open in a minute; 0 is no limit. Behind a proxy all clients have its address."""
    token_algorithm: Annotated[Algorithm, Field(alias="TOKEN_ALGORITHM")] = "EdDSA"  # noqa: S105 – a name
    """Algorithm of new signing keys: EdDSA, ES256 or HS256."""
    token_issuer: Annotated[str, Field(alias="TOKEN_ISSUER", min_length=1, max_length=255)] = (
        "chat-server"  # noqa: S105 – a name
    )
    """`iss` of chat tokens; the same on every replica."""
    token_ttl: Annotated[int, Field(alias="TOKEN_TTL", ge=1, le=3600)] = 900
    """Seconds a chat token lives if the caller asks for nothing else."""
    log_level: Annotated[LogLevel, Field(alias="LOG_LEVEL")] = "INFO"
    """Least severe level that is logged."""
    log_format: Annotated[LogFormat, Field(alias="LOG_FORMAT")] = "json"
    """One JSON object a line, or text for people."""
    postgres_pool: Annotated[int, Field(alias="CHAT_DATABASE_POOL", ge=2, le=200)] = 10
    """Connections to Postgres per process."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the sources are made already
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - this program reads none
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, that over `.env`."""
        return init_settings, without_service_links(env_settings), dotenv_settings

    @property
    def warnings(self) -> list[str]:
        """What is probably not meant: each as `NAME: what is the case; what to type`."""
        known = {str(field.alias) for field in type(self).model_fields.values()}
        url = self.chat_database_url
        text = None if url is None else url.get_secret_value()
        unsaid = () if text is None else url_warnings(text)
        return [
            *service_links(known, os.environ),
            *unknown_names(given_names(os.environ, None), known, alike=ALIKE),
            *(f"CHAT_DATABASE_URL: {warning}" for warning in unsaid),
            *left_behind("CHAT_DATABASE_URL", text, self.data_dir, "chat.db"),
        ]

    @model_validator(mode="after")
    def _absolute(self) -> Self:
        object.__setattr__(self, "data_dir", self.data_dir.expanduser())
        return self

    @property
    def database_url(self) -> str:
        """Where the data is: the URL that was set, or the SQLite file in the data folder."""
        if self.chat_database_url is not None:
            return self.chat_database_url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'chat.db'}"


def secret_names() -> frozenset[str]:
    """The names of the variables that hold secrets, in capitals."""
    return frozenset(
        str(field.alias)
        for field in Settings.model_fields.values()
        if "SecretStr" in str(field.annotation)
    )
