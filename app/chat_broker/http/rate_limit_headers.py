"""What a caller is told of the limits that a request met: `RateLimit-Policy` and `RateLimit`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct


@dataclass(frozen=True, slots=True)
class Limit:
    """*amount* uses in *period* seconds. *name* is what clients read in `RateLimit-Policy`."""

    name: str
    amount: int
    period: int
    policy: str = field(init=False, compare=False, repr=False)
    """This limit as an item of the `RateLimit-Policy` header."""

    def __post_init__(self) -> None:
        policy = f'"{self.name}";q={self.amount};w={self.period}'
        object.__setattr__(self, "policy", policy)


class Usage(Struct, frozen=True):
    """What one use met: was it *allowed*, how many *remaining*, when does the window *reset* (s)?

    *retry_after*: seconds until one more would be allowed; 0 if it was.
    """

    limit: Limit
    allowed: bool
    remaining: int
    reset: int
    retry_after: int = 0


def headers_for(usages: Sequence[Usage]) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers) for what was used."""
    if not usages:
        return {}
    return {"RateLimit-Policy": _policies(usages), "RateLimit": _states(usages)}


def lines_for(usages: Sequence[Usage]) -> bytes:
    """The same as HTTP/1.1 writes it, in lower case."""
    if not usages:
        return b""
    return f"ratelimit-policy: {_policies(usages)}\r\nratelimit: {_states(usages)}\r\n".encode()


def _policies(usages: Sequence[Usage]) -> str:
    return ", ".join([usage.limit.policy for usage in usages])


def _states(usages: Sequence[Usage]) -> str:
    return ", ".join([f'"{use.limit.name}";r={use.remaining};t={use.reset}' for use in usages])
