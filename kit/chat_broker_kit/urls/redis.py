"""Checks Redis URLs before anything connects, and without the Redis library, which takes long to load."""

import re
from urllib.parse import parse_qsl, urlsplit

_SCHEMES = ("redis://", "rediss://", "unix://")
_PARAMETERS = frozenset(
    (
        *("db", "username", "password", "client_name", "protocol", "health_check_interval"),
        *("ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"),
        *("ssl_check_hostname", "ssl_min_version", "max_connections", "retry_on_timeout"),
        *("socket_timeout", "socket_connect_timeout", "socket_keepalive"),
    )
)


class RedisUrlError(ValueError):
    """The URL cannot be used. The text says why, without the password."""


def check_redis_url(url: str) -> None:
    """Raise RedisUrlError for a URL that cannot be used."""
    if not url.startswith(_SCHEMES):
        raise RedisUrlError("must begin with redis://, rediss:// or unix://")
    if "#" in url:
        raise RedisUrlError("has a '#'; in a password it is written %23")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - read for its ValueError
    except ValueError:
        raise RedisUrlError(
            "has no valid host:port; in a password '/' is written %2F, '?' %3F, '@' %40"
        ) from None
    if parts.netloc.count("@") > 1 or "@" in parts.path:
        raise RedisUrlError("has an '@' too many; in a password '@' is written %40, '/' %2F")
    number = parts.path.removeprefix("/")
    if parts.scheme != "unix" and number and not number.isdigit():
        raise RedisUrlError("must end with the number of a database, as in redis://host:6379/0")
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _PARAMETERS:
            shown = (
                name
                if re.fullmatch(r"\w{1,40}", name) and "@" not in parts.query
                else "a parameter"
            )
            raise RedisUrlError(f"{shown} is not supported: leave it out")
