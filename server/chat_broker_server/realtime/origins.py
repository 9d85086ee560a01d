"""The browser origins that may open sockets."""

from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from chat_broker_kit.http.origins import is_same_address

IsOwnOrigin = Callable[[MutableMapping[str, Any], str], bool]
"""(ASGI scope, origin) → whether the origin is the address that the request was sent to."""


def is_named_by_host(scope: MutableMapping[str, Any], origin: str) -> bool:
    """Whether *origin* is the address in the `Host` header. A page of another origin cannot forge that header."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1:
        return False
    address = f"{scope.get('scheme', 'http')}://{hosts[0].decode('latin-1')}"
    return is_same_address(origin, address, tls_may_end_before=True)


@dataclass(frozen=True, slots=True)
class OriginPolicy:
    """Allows the listed origins and the server's own; without a list every origin, since only the token identifies."""

    listed: frozenset[str] | None = None
    is_own: IsOwnOrigin = is_named_by_host

    @classmethod
    def of(cls, origins: Iterable[str] | None, is_own: IsOwnOrigin) -> "OriginPolicy":
        return cls(None if origins is None else frozenset(origins), is_own)

    def allows(self, scope: MutableMapping[str, Any], origin: str) -> bool:
        """Native clients send the address that they connect to as their origin."""
        return self.listed is None or origin in self.listed or self.is_own(scope, origin)
