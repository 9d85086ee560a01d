"""Reads database URLs: `sqlite:///path`, and `postgresql://…` with libpq's parameters (PostgreSQL 34.1.2).

asyncpg sends every parameter that it does not know to the server as a setting, and the server refuses those
of libpq. So each of them is obeyed here, or left out where that changes nothing, or refused by name.
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

_OBEYED_BY_THE_DRIVER = frozenset(
    (
        *("host", "port", "dbname", "database", "user", "password", "passfile", "service"),
        *("sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version"),
        *("target_session_attrs", "krbsrvname", "gsslib"),
    )
)
_OBEYED_HERE = frozenset(
    ("application_name", "fallback_application_name", "options", "connect_timeout", "ssl")
)
_WITHOUT_EFFECT = frozenset(
    (
        # Every statement has a time limit of ours: a dead connection is noticed without them.
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
        "tcp_user_timeout",
        *("sslcompression", "sslsni", "load_balance_hosts", "max_protocol_version"),
        # Of other drivers: that a pooler stands in between, which is found out at the start.
        *("pgbouncer", "prepared_statement_cache_size", "statement_cache_size"),
    )
)
_ONLY_THESE_VALUES = {
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
    """The URL cannot be used. The text says why, and repeats no password."""


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """A Postgres URL that was read: *dsn* has only what asyncpg itself understands."""

    dsn: str = field(repr=False)
    connect_timeout: float | None
    """Seconds; None where the URL leaves it to the program."""
    server_settings: dict[str, str]
    system_certificates: bool
    """`sslrootcert=system`: certificates are verified with those of the operating system."""
    warnings: tuple[str, ...] = ()

    def arguments(self, application_name: str) -> dict[str, Any]:
        """What to call `asyncpg.connect` or `asyncpg.create_pool` with."""
        settings = {"application_name": application_name, **self.server_settings}
        arguments: dict[str, Any] = {"dsn": self.dsn, "server_settings": settings}
        if self.system_certificates:
            arguments["ssl"] = True
        return arguments


def is_sqlite(url: str) -> bool:
    """True for a file, False for a Postgres server."""
    return url.startswith(SQLITE)


def sqlite_path(url: str) -> str:
    """The file that a `sqlite:///` URL names."""
    return url.removeprefix(SQLITE)


def check_database_url(url: str) -> None:
    """Raises DatabaseUrlError for a URL that neither SQLite nor Postgres can be opened with."""
    if is_sqlite(url):
        _check_sqlite(sqlite_path(url))
    elif url.startswith(POSTGRES):
        read_postgres_url(url)
    else:
        raise DatabaseUrlError("must begin with sqlite:/// or postgresql://")


def url_warnings(url: str) -> tuple[str, ...]:
    """What a valid URL asks for and does not get."""
    return () if is_sqlite(url) else read_postgres_url(url).warnings


def shown_url(url: str) -> str:
    """Where the database is, for logs and messages: without user, password and parameters."""
    if is_sqlite(url):
        return str(Path(sqlite_path(url)).absolute())
    parts = _split(url)
    if parts is None or "@" in parts.path + parts.query + parts.fragment:
        return "postgresql://(hidden)"  # a password with a reserved character has spilled over
    given = dict(parse_qsl(parts.query))
    hosts = unquote(parts.netloc.rpartition("@")[2]) or given.get("host", "") or "localhost"
    name = unquote(parts.path.removeprefix("/")) or given.get("dbname") or given.get("database", "")
    return f"postgresql://{hosts}/{name}".rstrip("/")


def read_postgres_url(url: str) -> PostgresUrl:
    """Raises DatabaseUrlError, with every parameter that is wrong, for what cannot be obeyed."""
    parts = _checked_place(url)
    given = {name: value for name, value in _parameters(parts.query) if value}
    if problems := [text for name, value in given.items() if (text := _problem(name, value))]:
        if "@" in parts.query:  # then a name may be what comes behind the '?' in a password
            raise DatabaseUrlError(
                "has parameters that are not supported, or a '?' in the password: that is written %3F"
            )
        raise DatabaseUrlError("; ".join(problems))
    kept = {name: value for name, value in given.items() if name in _OBEYED_BY_THE_DRIVER}
    if "ssl" in given:
        kept.setdefault("sslmode", _ssl_mode(given["ssl"]))
    system = kept.get("sslrootcert") == "system"
    if system:
        _check_system_certificates(kept.pop("sslmode", "verify-full"))
        del kept["sslrootcert"]
    query = urlencode(kept, quote_via=quote)
    seconds = int(given.get("connect_timeout", "0"))
    return PostgresUrl(
        dsn=parts._replace(query=query).geturl(),
        connect_timeout=float(seconds) if seconds > 0 else None,
        server_settings=_server_settings(given),
        system_certificates=system,
        warnings=tuple(_warnings(given)),
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


def _checked_place(url: str) -> SplitResult:
    """The URL's parts. A password with a reserved character spills over into the next one."""
    parts = _split(url)
    if "#" in url:
        raise DatabaseUrlError("has a '#'; in a password it is written %23")
    user, _, hosts = ("", "", "") if parts is None else parts.netloc.rpartition("@")
    if "@" in user or (parts is not None and "@" in parts.path):
        raise DatabaseUrlError("has an '@' too many; in a password '@' is written %40, '/' %2F")
    found = [_HOST_AND_PORT.fullmatch(host) for host in hosts.split(",")]
    if parts is None or not all(found):
        raise DatabaseUrlError(
            "has no valid host:port; in a password '/' is written %2F, '?' %3F, '[' %5B"
        )
    if any(match and match["port"] and not 0 < int(match["port"]) < 65536 for match in found):
        raise DatabaseUrlError("has a port that is not between 1 and 65535")
    return parts


def _parameters(query: str) -> list[tuple[str, str]]:
    # libpq takes a `+` for what it is, and not for a space.
    try:
        return parse_qsl(
            query.replace("+", "%2B"), keep_blank_values=True, strict_parsing=bool(query)
        )
    except ValueError:
        raise DatabaseUrlError("has parameters that are not name=value") from None


def _problem(name: str, value: str) -> str | None:
    """Why the parameter cannot be used; None if it can."""
    if name in _ONLY_THESE_VALUES:
        allowed = _ONLY_THESE_VALUES[name]
        return None if value.lower() in allowed else f"{name} can be {', '.join(allowed)} here"
    if name == "connect_timeout":
        return None if re.fullmatch(r"-?\d{1,6}", value) else "connect_timeout is not whole seconds"
    if name == "ssl":
        return None if _ssl_mode(value) in SSL_MODES else "ssl can be true or false"
    if name == "port":
        return None if re.fullmatch(r"\d{1,5}(?:,\d{1,5})*", value) else "port is not a number"
    if name in _OBEYED_BY_THE_DRIVER | _OBEYED_HERE | _WITHOUT_EFFECT:
        return None
    shown = name if re.fullmatch(r"\w{1,40}", name) else "a parameter"
    return f"{shown} is not supported: {_INSTEAD.get(name) or _nearest(name)}"


def _nearest(name: str) -> str:
    """A slip must not be left out: `sslmod=verify-full` is no wish for less."""
    known = _OBEYED_BY_THE_DRIVER | _OBEYED_HERE | _WITHOUT_EFFECT | set(_ONLY_THESE_VALUES)
    import difflib  # a start with good URLs needs none of it

    nearest = difflib.get_close_matches(name, known, 1, 0.85)
    return f"did you mean {nearest[0]}?" if nearest else "leave it out"


def _ssl_mode(value: str) -> str:
    """`ssl=true` is JDBC's word for sslmode=require, to libpq too."""
    return {"true": "require", "1": "require", "false": "disable", "0": "disable"}.get(value, value)


def _check_system_certificates(mode: str) -> None:
    if mode != "verify-full":
        raise DatabaseUrlError("sslrootcert=system needs sslmode=verify-full")


def _server_settings(given: dict[str, str]) -> dict[str, str]:
    settings = {}
    if name := given.get("application_name") or given.get("fallback_application_name"):
        settings["application_name"] = name
    if "options" in given:
        settings["options"] = given["options"]
    return settings


_CHANNEL_BINDING = (
    "channel_binding=require is ignored, the driver has none;"
    " sslmode=verify-full&sslrootcert=system keeps others out of the middle as well"
)


def _warnings(given: dict[str, str]) -> list[str]:
    unbound = given.get("channel_binding") == "require" and given.get("sslmode") != "verify-full"
    return [_CHANNEL_BINDING] if unbound else []
