"""Database URLs: libpq's parameters are obeyed, left out, or refused by name; no password is repeated."""

import pytest

from chat_broker_kit.urls.database import (
    DatabaseUrlError,
    check_database_url,
    read_postgres_url,
    shown_url,
    url_warnings,
)

DRIVER = "postgresql://u:pw@db.example:6432/chat"


@pytest.mark.parametrize(
    "parameters",
    [
        "connect_timeout=10", "channel_binding=prefer", "keepalives=1&keepalives_idle=30&keepalives_interval=10",
        "keepalives_count=3", "tcp_user_timeout=1000", "gssencmode=disable", "gssencmode=prefer", "sslcompression=0",
        "sslsni=1", "client_encoding=utf8", "pgbouncer=true", "statement_cache_size=0", "load_balance_hosts=random",
        "sslcertmode=allow", "replication=false", "gssdelegation=0", "min_protocol_version=3.0",
    ],
)  # fmt: skip
def test_what_changes_nothing_never_reaches_the_driver(parameters: str) -> None:
    """The driver would send it to the server as a setting, and the server would refuse it."""
    read = read_postgres_url(f"{DRIVER}?{parameters}")
    assert read.dsn == DRIVER
    assert read.server_settings == {}


@pytest.mark.parametrize(
    "parameters",
    [
        "sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem", "target_session_attrs=read-write", "sslnegotiation=direct",
        "host=%2Frun%2Fpostgresql", "ssl_min_protocol_version=TLSv1.3", "passfile=%2Fpgpass", "krbsrvname=postgres",
    ],
)  # fmt: skip
def test_what_the_driver_understands_goes_to_it(parameters: str) -> None:
    assert read_postgres_url(f"{DRIVER}?{parameters}&keepalives=1").dsn == f"{DRIVER}?{parameters}"


def test_what_is_obeyed_here() -> None:
    """application_name and options go to the server; connect_timeout is ours; ssl=true is JDBC's word."""
    read = read_postgres_url(
        f"{DRIVER}?application_name=shop+1&options=-c%20search_path%3Dchat&ssl=true"
    )
    assert read.dsn == f"{DRIVER}?sslmode=require"
    assert read.arguments("chat-broker")["server_settings"] == {
        "application_name": "shop+1",
        "options": "-c search_path=chat",
    }
    assert read_postgres_url(f"{DRIVER}?fallback_application_name=x").server_settings == {
        "application_name": "x"
    }
    assert read_postgres_url(f"{DRIVER}?connect_timeout=7").connect_timeout == 7
    assert read_postgres_url(f"{DRIVER}?connect_timeout=0").connect_timeout is None
    assert read_postgres_url(f"{DRIVER}?ssl=false").dsn == f"{DRIVER}?sslmode=disable"
    system = read_postgres_url(f"{DRIVER}?sslmode=verify-full&sslrootcert=system")
    assert system.arguments("x")["ssl"] is True
    assert system.dsn == DRIVER


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ("foo=1&bar=2", "foo is not supported: leave it out; bar is not supported"),
        ("sslmod=verify-full", "sslmod is not supported: did you mean sslmode?"),
        ("hostaddr=10.0.0.1", "hostaddr"), ("requirepeer=postgres", "requirepeer"), ("require_auth=scram-sha-256", "require_auth"),
        ("gssencmode=require", "gssencmode can be disable, prefer"), ("client_encoding=latin1", "client_encoding"),
        ("sslmode=on", "sslmode can be disable, allow"), ("ssl=maybe", "ssl can be"), ("connect_timeout=soon", "connect_timeout"),
        ("schema=chat", "options=-c%20search_path%3DNAME"), ("target_session_attrs=master", "target_session_attrs"),
        ("replication=database", "replication"), ("sslmode=require&sslrootcert=system", "verify-full"), ("sslmode", "name=value"),
        ("statement_timeout=5", "statement_timeout"), ("port=x", "port"),
    ],
)  # fmt: skip
def test_what_cannot_be_obeyed_is_refused_by_name(parameters: str, named: str) -> None:
    with pytest.raises(DatabaseUrlError) as refused:
        check_database_url(f"{DRIVER}?{parameters}")
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("postgresql://u:se#same@h/d", "%23"), ("postgresql://u:se@same@h/d", "%40"), ("postgresql://u:se/same@h/d", "%2F"),
        ("postgresql://u:se?same@h/d", "%3F"), ("postgresql://u:[same@h/d", "%5B"), ("postgresql://u:same@h:70000/d", "65535"),
        ("postgresql://u:12?same=more@h/d", "%3F"), ("postgresql://u:12?same=more&sslmode=on@h/d", "%3F"),
        ("mysql://u:same@h/d", "sqlite:///"), ("sqlite:///", "names no file"), ("sqlite:///:memory:", "a file"),
        ("sqlite:///x.db?mode=ro", "without parameters"),
    ],
)  # fmt: skip
def test_an_address_that_is_none_says_what_to_write(url: str, hint: str) -> None:
    """Most are passwords with a reserved character. None of it is repeated, nor shown as a place."""
    with pytest.raises(DatabaseUrlError) as refused:
        check_database_url(url)
    assert hint in str(refused.value)
    assert "same" not in str(refused.value)
    assert url.startswith("mysql") or "same" not in shown_url(url)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (f"{DRIVER}?password=sesame", "postgresql://db.example:6432/chat"),
        ("postgresql:///chat?host=/run/postgresql", "postgresql:///run/postgresql/chat"),
        ("postgresql://u@h1:1,h2:2/d", "postgresql://h1:1,h2:2/d"),
        ("postgres://[::1]:5432/d", "postgresql://[::1]:5432/d"),
        ("sqlite:////srv/chat.db", "/srv/chat.db"),
    ],
)
def test_a_place_is_shown_without_secrets(url: str, place: str) -> None:
    check_database_url(url)
    assert shown_url(url) == place
    assert "pw" not in repr(read_postgres_url(url)) if url.startswith("postgres") else True


def test_what_is_asked_for_and_not_given_is_said() -> None:
    """A connection string with channel_binding=require works, and is less than it says."""
    assert (
        "sslmode=verify-full"
        in url_warnings(f"{DRIVER}?sslmode=require&channel_binding=require")[0]
    )
    assert url_warnings(f"{DRIVER}?sslmode=verify-full&channel_binding=require") == ()
