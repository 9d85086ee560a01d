"""Whose requests count together."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address


@lru_cache(maxsize=8192)
def address_key(address: str) -> str:
    """Who counts as one address: an IPv4 address, or a /64 of IPv6, of which one host has plenty.

    Anything else (a test client's "testclient", a socket path) counts as it is.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return IPv6Address(int(parsed) >> 64 << 64).compressed + "/64"
