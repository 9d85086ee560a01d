"""Why a database cannot be opened: what is wrong, where, and what to do. Never a password."""

import re
import socket
import sqlite3
import ssl

from chat_broker_kit.urls.database import is_sqlite, shown_url

_CERTIFICATE_FILE = re.compile(r"sslrootcert|sslcert|sslkey|root certificate file")
_ADVICE = {
    "3D000": "create it with createdb, or correct the name in the URL",
    "28P01": "correct user and password in the URL",
    "28000": "correct user and password in the URL, or pg_hba.conf on the server",
    "42501": "grant the role what it lacks, or use the role that owns the tables",
    "53300": "raise max_connections on the server, or use fewer connections",
    "57P03": "wait until it has started",
    "25006": "name the primary, or add target_session_attrs=read-write to the URL",
}
"""What to do, by SQLSTATE."""


class CannotOpenDatabase(Exception):  # noqa: N818 - a finding for the operator
    """A database cannot be used: *what* is wrong and where, and what to *do*."""

    def __init__(self, what: str, do: str) -> None:
        super().__init__(f"{what}; {do}")
        self.what = what
        self.do = do


def explain_failure(error: BaseException, url: str) -> CannotOpenDatabase:
    """The exception to raise for *error*, which was raised by opening *url*."""
    place = shown_url(url)
    if is_sqlite(url):
        return CannotOpenDatabase(*_of_sqlite(error, place))
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return CannotOpenDatabase(*_of_postgres(error, state, place))
    return CannotOpenDatabase(*_of_the_connection(error, place))


def _of_sqlite(error: BaseException, path: str) -> tuple[str, str]:
    match getattr(error, "sqlite_errorname", None):
        case "SQLITE_NOTADB":
            return f"{path} is not a SQLite database", "name another file, or move this one away"
        case "SQLITE_CORRUPT":
            return f"{path} is damaged", "restore it from a backup"
        case "SQLITE_FULL":
            return f"the disk with {path} is full", "make room"
    reason = error.strerror if isinstance(error, OSError) else type(error).__name__
    if isinstance(error, sqlite3.Error):
        reason = str(error)
    return f"{path} cannot be opened ({reason})", "check the folder, and who may write there"


def _of_postgres(error: BaseException, state: str, place: str) -> tuple[str, str]:
    """For *error*, with its SQLSTATE, from the server or a pooler."""
    text = next(iter(str(error).splitlines()), type(error).__name__)
    do = _ADVICE.get(state, "see the log of the server")
    if "startup parameter" in text:
        do = "leave it out of the URL, or name it in ignore_startup_parameters of PgBouncer"
    elif state == "08P01" and ("no such database" in text or "does not exist" in text):
        do = _ADVICE["3D000"]  # a pooler has one code for all problems
    return f"{place} refuses: {text}", do


def _of_the_connection(error: BaseException, place: str) -> tuple[str, str]:
    match error:
        case socket.gaierror():
            return f"the host of {place} is unknown", "correct the name, or the DNS of this machine"
        case TimeoutError():
            return (
                f"{place} does not answer in time",
                "check host, port and firewall, or add connect_timeout=SECONDS to the URL",
            )
        case ssl.SSLCertVerificationError():
            return (
                f"the certificate of {place} is not accepted ({error.verify_message})",
                "set sslrootcert in the URL to the file of the authority that has signed it",
            )
        case ConnectionRefusedError():
            return f"nothing listens at {place}", "start Postgres, or correct host and port"
        case FileNotFoundError() | PermissionError():
            file = error.filename if isinstance(error.filename, str) else "the socket"
            return (
                f"{place} cannot be reached ({file}: {error.strerror})",
                "correct path and rights",
            )
        case ConnectionError() if "SSL" in str(error):
            return f"{place} speaks no TLS", "turn it on there, or set sslmode=disable in the URL"
    if _CERTIFICATE_FILE.search(str(error)):
        return f"a certificate file for {place} is missing", "set sslrootcert in the URL"
    return f"{place} cannot be reached ({type(error).__name__})", "check host and port"
