"""Reads database URLs: `sqlite:///path`, and `postgresql://…` with libpq's parameters (PostgreSQL 34.1.2).

asyncpg sends unknown parameters to the server as settings, and the server refuses those of libpq. So each of them is
handled here, dropped where it has no effect, or refused by name.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SESSION_ATTRIBUTES = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")

_DRIVER_PARAMETERS = frozenset(
    (
        *("host", "port", "dbname", "database", "user", "password", "passfile", "service"),
        *("sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version"),
        *("target_session_attrs", "krbsrvname", "gsslib"),
    )
)
_HANDLED_HERE = frozenset(
    ("application_name", "fallback_application_name", "options", "connect_timeout", "ssl")
)
_IGNORED = frozenset(
    (
        # All statements have a time limit, which also detects a dead connection.
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
        "tcp_user_timeout",
        *("sslcompression", "sslsni", "load_balance_hosts", "max_protocol_version"),
        # Other drivers' hints about a pooler, which is detected at the start.
        *("pgbouncer", "prepared_statement_cache_size", "statement_cache_size"),
    )
)
_ALLOWED_VALUES = {
    "channel_binding": ("disable", "prefer", "require"),
    "client_encoding": ("utf8", "utf-8", "auto"),
    "gssencmode": ("disable", "prefer"),
    "gssdelegation": ("0",),
    "min_protocol_version": ("3.0",),
    "replication": ("false", "off", "no", "0"),
    "sslcertmode": ("allow",),
    "sslmode": SSL_MODES,
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": SESSION_ATTRIBUTES,
}
_INSTEAD = {
    "hostaddr": "put the address in the place of the host",
    "schema": "write options=-c%20search_path%3DNAME",
    "connection_limit": "the number of connections is the program's own",
    "pool_timeout": "the time limits are the program's own",
}
_HOST_AND_PORT = re.compile(r"(?:\[[0-9A-Za-z:.%]+\]|[^\[\]:@\s]*)(?::(?P<port>\d*))?")


class DatabaseUrlError(ValueError):
    """The URL cannot be used. The text says why, without the password."""


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """A parsed Postgres URL. *dsn* has only the parameters that asyncpg understands."""

    dsn: str = field(repr=False)
    connect_timeout: float | None
    """Seconds; None if the URL does not set it."""
    server_settings: dict[str, str]
    system_certificates: bool
    """`sslrootcert=system`: verify with the operating system's certificates."""
    warnings: tuple[str, ...] = ()

    def arguments(self, application_name: str) -> dict[str, Any]:
        """The arguments for `asyncpg.connect` or `asyncpg.create_pool`."""
        settings = {"application_name": application_name, **self.server_settings}
        arguments: dict[str, Any] = {"dsn": self.dsn, "server_settings": settings}
        if self.system_certificates:
            arguments["ssl"] = True
        return arguments


def is_sqlite(url: str) -> bool:
    return url.startswith(SQLITE)


def sqlite_path(url: str) -> str:
    """The file path in a `sqlite:///` URL."""
    return url.removeprefix(SQLITE)


def check_database_url(url: str) -> None:
    """Raise DatabaseUrlError for a URL that names neither a SQLite file nor a Postgres server."""
    if is_sqlite(url):
        _check_sqlite(sqlite_path(url))
    elif url.startswith(POSTGRES):
        read_postgres_url(url)
    else:
        raise DatabaseUrlError("must begin with sqlite:/// or postgresql://")


def url_warnings(url: str) -> tuple[str, ...]:
    """What a valid URL asks for without effect, one sentence each."""
    return () if is_sqlite(url) else read_postgres_url(url).warnings


def shown_url(url: str) -> str:
    """The database's location for logs and messages: without user, password and parameters."""
    if is_sqlite(url):
        return str(Path(sqlite_path(url)).absolute())
    parts = _split(url)
    if parts is None or "@" in parts.path + parts.query + parts.fragment:
        return "postgresql://(hidden)"  # part of a password with a reserved character
    parameters = dict(parse_qsl(parts.query))
    hosts = unquote(parts.netloc.rpartition("@")[2]) or parameters.get("host", "") or "localhost"
    name = (
        unquote(parts.path.removeprefix("/"))
        or parameters.get("dbname")
        or parameters.get("database", "")
    )
    return f"postgresql://{hosts}/{name}".rstrip("/")


def read_postgres_url(url: str) -> PostgresUrl:
    """Parse a Postgres URL. Raises DatabaseUrlError, which names each unsupported parameter."""
    parts = _checked_parts(url)
    parameters = {name: value for name, value in _parameters(parts.query) if value}
    if problems := [text for name, value in parameters.items() if (text := _problem(name, value))]:
        if "@" in parts.query:  # then a name may be part of a password with a '?'
            raise DatabaseUrlError(
                "has parameters that are not supported, or a '?' in the password: that is written %3F"
            )
        raise DatabaseUrlError("; ".join(problems))
    supported = {name: value for name, value in parameters.items() if name in _DRIVER_PARAMETERS}
    if "ssl" in parameters:
        supported.setdefault("sslmode", _ssl_mode(parameters["ssl"]))
    system = supported.get("sslrootcert") == "system"
    if system:
        _check_system_certificates(supported.pop("sslmode", "verify-full"))
        del supported["sslrootcert"]
    query = urlencode(supported, quote_via=quote)
    seconds = int(parameters.get("connect_timeout", "0"))
    return PostgresUrl(
        dsn=parts._replace(query=query).geturl(),
        connect_timeout=float(seconds) if seconds > 0 else None,
        server_settings=_server_settings(parameters),
        system_certificates=system,
        warnings=tuple(_warnings(parameters)),
    )


def _check_sqlite(path: str) -> None:
    if not path:
        raise DatabaseUrlError("names no file; write sqlite:///path/of/the/file.db")
    if path == ":memory:" or "?" in path:
        raise DatabaseUrlError("must name a file, without parameters")


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _checked_parts(url: str) -> SplitResult:
    """The URL's parts. Raises DatabaseUrlError where a reserved character in the password has shifted them."""
    parts = _split(url)
    if "#" in url:
        raise DatabaseUrlError("has a '#'; in a password it is written %23")
    user, _, hosts = ("", "", "") if parts is None else parts.netloc.rpartition("@")
    if "@" in user or (parts is not None and "@" in parts.path):
        raise DatabaseUrlError("has an '@' too many; in a password '@' is written %40, '/' %2F")
    matches = [_HOST_AND_PORT.fullmatch(host) for host in hosts.split(",")]
    if parts is None or not all(matches):
        raise DatabaseUrlError(
            "has no valid host:port; in a password '/' is written %2F, '?' %3F, '[' %5B"
        )
    if any(match and match["port"] and not 0 < int(match["port"]) < 65536 for match in matches):
        raise DatabaseUrlError("has a port that is not between 1 and 65535")
    return parts


def _parameters(query: str) -> list[tuple[str, str]]:
    # libpq does not read `+` as a space.
    try:
        return parse_qsl(
            query.replace("+", "%2B"), keep_blank_values=True, strict_parsing=bool(query)
        )
    except ValueError:
        raise DatabaseUrlError("has parameters that are not name=value") from None


def _problem(name: str, value: str) -> str | None:
    """Why the parameter is not supported; None if it is."""
    if name in _ALLOWED_VALUES:
        allowed = _ALLOWED_VALUES[name]
        return None if value.lower() in allowed else f"{name} can be {', '.join(allowed)} here"
    if name == "connect_timeout":
        return None if re.fullmatch(r"-?\d{1,6}", value) else "connect_timeout is not whole seconds"
    if name == "ssl":
        return None if _ssl_mode(value) in SSL_MODES else "ssl can be true or false"
    if name == "port":
        return None if re.fullmatch(r"\d{1,5}(?:,\d{1,5})*", value) else "port is not a number"
    if name in _DRIVER_PARAMETERS | _HANDLED_HERE | _IGNORED:
        return None
    shown = name if re.fullmatch(r"\w{1,40}", name) else "a parameter"
    return f"{shown} is not supported: {_INSTEAD.get(name) or _nearest(name)}"


def _nearest(name: str) -> str:
    """Advice for an unknown name. A misspelled one must not be dropped: `sslmod=verify-full` would lose its protection."""
    known = _DRIVER_PARAMETERS | _HANDLED_HERE | _IGNORED | set(_ALLOWED_VALUES)
    import difflib  # a start with good URLs needs none of it

    nearest = difflib.get_close_matches(name, known, 1, 0.85)
    return f"did you mean {nearest[0]}?" if nearest else "leave it out"


def _ssl_mode(value: str) -> str:
    """The sslmode of `ssl=true`, which JDBC and libpq read as sslmode=require."""
    return {"true": "require", "1": "require", "false": "disable", "0": "disable"}.get(value, value)


def _check_system_certificates(mode: str) -> None:
    if mode != "verify-full":
        raise DatabaseUrlError("sslrootcert=system needs sslmode=verify-full")


def _server_settings(parameters: dict[str, str]) -> dict[str, str]:
    settings = {}
    if name := parameters.get("application_name") or parameters.get("fallback_application_name"):
        settings["application_name"] = name
    if "options" in parameters:
        settings["options"] = parameters["options"]
    return settings


_CHANNEL_BINDING = (
    "channel_binding=require is ignored, the driver has none;"
    " sslmode=verify-full&sslrootcert=system keeps others out of the middle as well"
)


def _warnings(parameters: dict[str, str]) -> list[str]:
    unbound = (
        parameters.get("channel_binding") == "require"
        and parameters.get("sslmode") != "verify-full"
    )
    return [_CHANNEL_BINDING] if unbound else []
