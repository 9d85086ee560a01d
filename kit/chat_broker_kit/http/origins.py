"""Origins (RFC 6454): reading those of a setting, and comparing one with a server's own address."""

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://[a-z0-9._~%:\[\]-]+")
_ADDRESS = re.compile(
    r"(https?|wss?)://([a-z0-9._-]{1,255}|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?/?",
    re.ASCII | re.IGNORECASE,
)

MAX_LENGTH = 300
"""Characters. A longer origin is not parsed."""


class Address(NamedTuple):
    """A server's address, independent of its spelling."""

    secure: bool
    host: str
    port: int


def listed_origin(text: str) -> str:
    """The origin *text* as browsers write it, without the default port of http and https. Raises ValueError.

    Other schemes (`capacitor://localhost`) are returned unchanged.
    """
    if text != text.lower():
        raise ValueError("an origin is written in lower case")
    if "@" in text:
        raise ValueError("an origin has no user information")
    if "*" in text:
        raise ValueError("an origin has no wildcard: list each one")
    match = _ORIGIN.fullmatch(text)
    if match is None:
        raise ValueError("an origin is scheme://host or scheme://host:port and nothing more")
    scheme = match[1]
    if scheme not in _DEFAULT_PORTS:
        return text
    if read_address(text) is None:
        raise ValueError("an origin is scheme://host or scheme://host:port and nothing more")
    return text.removesuffix(f":{_DEFAULT_PORTS[scheme]}")


@lru_cache(maxsize=4096)  # few different ones, read by each handshake
def read_address(text: str) -> Address | None:
    """The address of *text*; None if it is not valid. ws counts as http, wss as https."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return None
    scheme, host, port = match.groups()
    scheme = scheme.lower()
    number = int(port) if port else _DEFAULT_PORTS[scheme]
    if not 0 < number < 65536:
        return None
    if host.startswith("["):
        try:
            host = IPv6Address(host[1:-1]).compressed
        except ValueError:
            return None
    return Address(scheme in {"https", "wss"}, host.lower().rstrip("."), number)


def is_same_address(origin: str, own: str, *, tls_may_end_before: bool = False) -> bool:
    """Whether *origin*, in any spelling, is the address *own*.

    *tls_may_end_before*: a proxy may end TLS, so if *own* is http, https of the same host is the same address.
    """
    address = read_address(origin) if len(origin) <= MAX_LENGTH else None
    if address is None:
        return False
    if address == read_address(own):
        return True
    scheme, separator, rest = own.partition("://")
    return (
        tls_may_end_before
        and scheme.lower() in {"http", "ws"}
        and address == read_address(f"https{separator}{rest}")
    )
