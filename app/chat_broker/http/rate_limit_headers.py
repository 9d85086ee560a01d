"""The headers that tell callers of their rate limits: `RateLimit-Policy` and `RateLimit`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct


@dataclass(frozen=True, slots=True)
class Limit:
    """*amount* uses in *period* seconds. *name* is sent in `RateLimit-Policy`."""

    name: str
    amount: int
    period: int
    policy: str = field(init=False, compare=False, repr=False)
    """This limit as an item of the `RateLimit-Policy` header, and a comma."""
    state: str = field(init=False, compare=False, repr=False)
    """How its item of the `RateLimit` header begins."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "policy", f'"{self.name}";q={self.amount};w={self.period}, ')
        object.__setattr__(self, "state", f'"{self.name}";r=')


class Usage(Struct, frozen=True):
    """The state of *limit* after one use. *reset*: seconds until its window ends.

    *retry_after*: seconds until another use is allowed; 0 if this one was *allowed*.
    """

    limit: Limit
    allowed: bool
    remaining: int
    reset: int
    retry_after: int = 0


def headers_for(usages: Sequence[Usage]) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers) for *usages*."""
    if not usages:
        return {}
    policies, states = _items(usages)
    return {"RateLimit-Policy": policies, "RateLimit": states}


def lines_for(usages: Sequence[Usage]) -> bytes:
    """`headers_for` as the lines of an HTTP/1.1 head, in lower case."""
    if not usages:
        return b""
    policies, states = _items(usages)
    return f"ratelimit-policy: {policies}\r\nratelimit: {states}\r\n".encode()


def _items(usages: Sequence[Usage]) -> tuple[str, str]:
    """The lists of both headers."""
    policies = states = ""
    for usage in usages:
        limit = usage.limit
        policies += limit.policy
        states += f"{limit.state}{usage.remaining};t={usage.reset}, "
    return policies[:-2], states[:-2]
