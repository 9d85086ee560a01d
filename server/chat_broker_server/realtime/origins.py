"""Which origins are the server's own."""

from collections.abc import Callable, MutableMapping
from typing import Any

from chat_broker_kit.http.origins import is_same_address

IsOwnOrigin = Callable[[MutableMapping[str, Any], str], bool]
"""Whether an origin is the address that the request of a scope came to."""


def is_named_by_host(scope: MutableMapping[str, Any], origin: str) -> bool:
    """Whether *origin* is where `Host` says that the request went: no page of another origin can forge that."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1:
        return False
    address = f"{scope.get('scheme', 'http')}://{hosts[0].decode('latin-1')}"
    return is_same_address(origin, address, tls_may_end_before=True)
