"""The rate limits' key of a client address."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address


@lru_cache(maxsize=8192)
def address_key(address: str) -> str:
    """An IPv4 address, or the /64 network of an IPv6 address, of which one host may use all addresses.

    Any other text (a test client's "testclient", a socket path) is returned unchanged.
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
