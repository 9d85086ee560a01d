"""Types of settings that both programs have: each reads a value as operators write it."""

import json
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from chat_broker_kit.http.origins import listed_origin
from chat_broker_kit.urls.database import check_database_url
from chat_broker_kit.urls.redis import check_redis_url


def lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _level(value: object) -> object:
    """*value* in upper case; WARN is read as WARNING."""
    if not isinstance(value, str):
        return value
    return {"WARN": "WARNING"}.get(value.upper(), value.upper())


def split(value: object) -> object:
    """Split `a, b`; read a JSON array."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part for part in re.split(r"[,\s]+", value) if part]


def _origin(value: str) -> str:
    if value == "*":
        raise ValueError(
            "'*' together with credentials would open every user's chat to every site; list the origins"
        )
    return listed_origin(value)


def _database(value: SecretStr) -> SecretStr:
    check_database_url(value.get_secret_value())
    return value


def _redis(value: SecretStr) -> SecretStr:
    check_redis_url(value.get_secret_value())
    return value


Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(split)
]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis)]
RedisPrefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9:._-]{1,64}$")]
LogFormat = Annotated[Literal["json", "console"], BeforeValidator(lower)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_level)]
