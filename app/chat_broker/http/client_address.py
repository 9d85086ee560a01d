"""Finds the client's address and the origin of a request behind trusted proxies.

HTTP and sockets use the same code. It reads only the ASGI scope, and believes a forwarding header only as far as
trusted addresses wrote it.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Any

import structlog

from chat_broker_kit.bounded_cache import BoundedCache
from chat_broker_kit.http.origins import is_same_address

log = structlog.get_logger(__name__)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_HOPS = 20
FIRST_REQUESTS = 1000
"""Number of requests that are checked for an untrusted proxy: a proxy in front forwards from the beginning."""
LONGEST_ADDRESS = 80
LONGEST_HOST = 261
"""With its port."""
MOST_CLIENTS = 4096
LONGEST_REMEMBERED = 256
"""Bytes of forwarding headers whose result is cached: longer ones must not fill the memory."""
_HOST = re.compile(
    r"[A-Za-z0-9._-]{1,255}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?", re.ASCII
)
_WITH_PORT = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):[0-9]{1,5}|\[([0-9A-Fa-f:.]+)\]", re.ASCII
)
_FORWARDING = frozenset(
    (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip", b"forwarded")
)
_SECURE = {"https": "https", "wss": "https", "http": "http", "ws": "http"}


def read_address(text: str) -> Address | None:
    """The address that *text* spells, with or without a port. An IPv4 address mapped into IPv6 is returned as IPv4."""
    return _read_address(text) if len(text) <= LONGEST_ADDRESS else None


@lru_cache(maxsize=8192)  # the same clients recur
def _read_address(text: str) -> Address | None:
    text = text.strip()
    if match := _WITH_PORT.fullmatch(text):
        text = next(group for group in match.groups() if group is not None)
    if "%" in text:  # a zone has a meaning only on its own machine
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class Proxies:
    """The trusted proxies, and what requests through them reveal of clients."""

    def __init__(self, trusted: Iterable[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        # The result depends on the key alone, and recurs for each request of a connection.
        self._clients = BoundedCache[tuple[str | bytes | None, ...], str](MOST_CLIENTS)
        self._looks_left = FIRST_REQUESTS

    def trusts(self, address: Address | None) -> bool:
        """Whether *address* is a trusted proxy."""
        return address is not None and any(
            address.version == network.version and address in network for network in self._trusted
        )

    def client(self, scope: Mapping[str, Any]) -> str:
        """The client's address: a canonical IP, or `unknown`.

        X-Forwarded-For is read from the right, as long as addresses are trusted; the first untrusted one is the
        client. An entry that is no address ends this: the client is then the proxy that forwarded it.
        """
        if self._looks_left:
            self._look_for_a_proxy(scope)
        client = scope.get("client")
        forwarded: list[bytes] = []
        if self._trusted:  # otherwise no forwarding header is believed
            forwarded = [
                value for name, value in scope.get("headers", ()) if name == b"x-forwarded-for"
            ]
        key = (client[0] if client else None, *forwarded)
        address = self._clients.get(key)
        if address is None:
            address = self._walk(scope)
            if sum(map(len, forwarded)) <= LONGEST_REMEMBERED:
                self._clients.put(key, address)
        return address

    def _walk(self, scope: Mapping[str, Any]) -> str:
        current = peer(scope)
        if current is None:
            return "unknown"
        if not self.trusts(current):
            return str(current)
        for text in reversed(forwarded_for(scope)[-MAX_HOPS:]):
            before = read_address(text)
            if before is None:
                break
            current = before
            if not self.trusts(current):
                break
        return str(current)

    def _look_for_a_proxy(self, scope: Mapping[str, Any]) -> None:
        """Log once that an untrusted address sends forwarding headers."""
        self._looks_left -= 1
        sent = next((name for name, _ in scope.get("headers", ()) if name in _FORWARDING), None)
        address = None if sent is None else peer(scope)
        if sent is None or address is None or self.trusts(address):
            return
        self._looks_left = 0
        log.warning(
            "proxy.not_trusted",
            address=str(address),
            header=sent.decode(),
            hint=(
                f"{address} forwards requests, and is not in TRUSTED_PROXIES: its users share its address and limit,"
                " and addresses are http. If it is your proxy, set"
                f" TRUSTED_PROXIES={address} and PUBLIC_URL=https://… as browsers see it."
            ),
        )

    def secure(self, scope: Mapping[str, Any]) -> bool:
        """Whether the client uses https, according to the scheme and trusted proxies."""
        if not self._trusted and scope.get("scheme") != "https":
            return False
        return (self.origin(scope) or "").startswith("https:")

    def origin(self, scope: Mapping[str, Any]) -> str | None:
        """The origin that the client addressed (`https://host`), by the headers of trusted proxies; None if unclear."""
        scheme = _SECURE.get(str(scope.get("scheme")), "http")
        host = _only(scope, b"host")
        if self._trusted and self.trusts(peer(scope)):
            forwarded = _only(scope, b"x-forwarded-proto")
            if forwarded is not None:
                scheme = _SECURE.get(forwarded.rpartition(",")[2].strip().lower(), scheme)
            forwarded = _only(scope, b"x-forwarded-host")
            if forwarded is not None:
                host = forwarded.rpartition(",")[2].strip()
        return None if host is None or len(host) > LONGEST_HOST else _origin(scheme, host)

    def is_own_origin(self, scope: Mapping[str, Any], origin: str) -> bool:
        """Whether *origin*, in any spelling, is the one that the client addressed. A proxy may have ended TLS unannounced."""
        own = self.origin(scope)
        return own is not None and is_same_address(origin, own, tls_may_end_before=True)


@lru_cache(maxsize=1024)  # few values, and every request needs one
def _origin(scheme: str, host: str) -> str | None:
    if not _HOST.fullmatch(host):
        return None
    return f"{scheme}://{host.lower().removesuffix(':443' if scheme == 'https' else ':80')}"


def peer(scope: Mapping[str, Any]) -> Address | None:
    """The address at the other end of the connection; None if it is unknown."""
    client = scope.get("client")
    return read_address(str(client[0])) if client else None


def forwarded_for(scope: Mapping[str, Any]) -> list[str]:
    """All entries of all X-Forwarded-For headers, in order."""
    lines = [
        value.decode("latin-1")
        for name, value in scope.get("headers", ())
        if name == b"x-forwarded-for"
    ]
    return ",".join(lines).split(",") if lines else []


def _only(scope: Mapping[str, Any], name: bytes) -> str | None:
    values = [value for key, value in scope.get("headers", ()) if key == name]
    return values[0].decode("latin-1") if len(values) == 1 else None
