"""Warnings about settings that are valid but probably a mistake. `serve`, `check-config` and `doctor` print them."""

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pydantic import SecretStr

from chat_broker.settings.sources import secrets_folder
from chat_broker_kit.database.left_behind import left_behind
from chat_broker_kit.setting_sources import given_names, service_links, unknown_names
from chat_broker_kit.urls.database import url_warnings

if TYPE_CHECKING:
    from chat_broker.settings.model import Settings

PREFIXES = (
    *("AUTH_JWT_", "AUTH_INTROSPECTION_", "AUTH_FORWARD_", "AUTH_HEADER_", "AUTH_CLAIM_"),
    *("RATE_", "CHAT_", "CORS_", "TRUSTED_", "EXPOSE_"),
)
OTHERS = frozenset(
    (
        # Variables of chat-server, of the commands and of the fast path: they may be in the same `.env`.
        *("CHAT_BROKER_URL", "CHAT_BROKER_ADMIN_KEY", "FAST_PATH"),
        *("CHAT_DATABASE_POOL", "RATE_HANDSHAKES", "TOKEN_ALGORITHM", "TOKEN_ISSUER"),
    )
)
ALIKE = 0.84


def setting_warnings(settings: "Settings") -> list[str]:
    """Each warning as `NAME: what is wrong; what to type`."""
    return [
        *name_warnings(type(settings).model_fields),
        *_databases(settings),
        *_folder(settings),
        *_proxies(settings),
    ]


def name_warnings(fields: Iterable[str]) -> list[str]:
    """Warnings about misspelt names. *fields*: the names of all settings, in lower case."""
    known = {name.upper() for name in fields} | OTHERS
    names = given_names(os.environ, secrets_folder())
    return [
        *service_links(known, os.environ),
        *unknown_names(names, known, PREFIXES, alike=ALIKE),
    ]


def _databases(settings: "Settings") -> Iterator[str]:
    for setting, name in (("database_url", "broker.db"), ("chat_database_url", "chat.db")):
        if setting == "chat_database_url" and settings.chat_base_url is not None:
            yield from left_behind("CHAT_BASE_URL", settings.chat_base_url, settings.data_dir, name)
            continue
        secret: SecretStr | None = getattr(settings, setting)
        url = None if secret is None else secret.get_secret_value()
        if url is not None:
            yield from (f"{setting.upper()}: {text}" for text in url_warnings(url))
        yield from left_behind(setting.upper(), url, settings.data_dir, name)


def _folder(settings: "Settings") -> Iterator[str]:
    """A relative DATA_DIR depends on the working directory: after a start elsewhere the databases would be empty."""
    folder = settings.data_dir.absolute()
    if settings.development or settings.data_dir.is_absolute() or folder.is_dir():
        return
    if settings.database_url is None or (settings.embedded and settings.chat_database_url is None):
        yield (
            f"DATA_DIR: {settings.data_dir} is relative to where the broker is started, and {folder} will be new and empty;"
            f" set DATA_DIR={folder} to have it found from everywhere"
        )


def _proxies(settings: "Settings") -> Iterator[str]:
    """The broker terminates no TLS: in production a proxy does, and TRUSTED_PROXIES has to name it."""
    if settings.development or settings.trusted_proxies:
        return
    if settings.public_url is None:
        yield (
            "PUBLIC_URL: unset, so frontends are sent to the address that the proxy in front uses, over http;"
            " set PUBLIC_URL=https://… as browsers see it, and TRUSTED_PROXIES to the proxy's address"
        )
    elif settings.public_url.startswith("https://"):
        yield (
            "TRUSTED_PROXIES: unset, so all users share the address of the proxy in front, and its limit;"
            " set TRUSTED_PROXIES to that address or network, for example 10.0.0.0/8"
        )
