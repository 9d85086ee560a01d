"""Origins (RFC 6454): those that a setting lists, and those that are a server's own address in another spelling."""

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


LONGEST = 300
"""Characters of an origin that is worth reading."""


class Address(NamedTuple):
    """Where a server answers, however it is spelled."""

    secure: bool
    host: str
    port: int


def listed_origin(text: str) -> str:
    """The one origin that *text* names, as browsers write it. Raises ValueError.

    Apps have schemes of their own (`capacitor://localhost`), which are compared letter for letter. Of http and
    https the default port is left out.
    """
    if text != text.lower():
        raise ValueError("an origin is written in lower case")
    if "@" in text:
        raise ValueError("an origin has no user information")
    if "*" in text:
        raise ValueError("an origin has no wildcard: list each one")
    found = _ORIGIN.fullmatch(text)
    if found is None:
        raise ValueError("an origin is scheme://host or scheme://host:port and nothing more")
    scheme = found[1]
    if scheme not in _DEFAULT_PORTS:
        return text
    if read_address(text) is None:
        raise ValueError("an origin is scheme://host or scheme://host:port and nothing more")
    return text.removesuffix(f":{_DEFAULT_PORTS[scheme]}")


@lru_cache(maxsize=4096)  # there are few, and handshakes ask again and again
def read_address(text: str) -> Address | None:
    """The address that *text* spells; None if it is none. A websocket's scheme is that of the page it belongs to."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return None
    scheme, host, port = found.groups()
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

    *tls_may_end_before*: *own* is plain http as far as the server can see, so https of the same host is the same
    address, too.
    """
    given = read_address(origin) if len(origin) <= LONGEST else None
    if given is None:
        return False
    if given == read_address(own):
        return True
    scheme, separator, rest = own.partition("://")
    return (
        tls_may_end_before
        and scheme.lower() in {"http", "ws"}
        and given == read_address(f"https{separator}{rest}")
    )
