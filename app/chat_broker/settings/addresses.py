"""Checks of addresses in settings."""

import ipaddress
from urllib.parse import urlsplit


def provider_address(value: str) -> str:
    """*value*, if the broker may send requests to an identity provider there. Raises ValueError."""
    parts = urlsplit(value)
    if parts.scheme == "http" and is_loopback(parts.hostname or ""):
        return value
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("must be an https address (plain http on loopback only)")
    if parts.username or parts.password:
        raise ValueError("must not hold user information")
    return value


def is_loopback(host: str) -> bool:
    """True for a loopback address and for `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
