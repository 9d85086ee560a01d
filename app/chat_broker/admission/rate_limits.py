"""How much one user, one address, may ask for: the limits of each kind of request.

Limits are written in the notation of the `limits` library ("30/minute", "5/second;100/hour"). The
library is not used: its memory store grows without bound and needs a timer per key, its Redis
strategies take two round trips where one is enough, and it is a tenth of what a start loads.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import repeat
from typing import Literal

from chat_broker.admission.counters import MOST_KEYS, Counters, MemoryCounters
from chat_broker.errors import TooManyRequests
from chat_broker.http.rate_limit_headers import Limit, Usage, headers_for
from chat_broker.settings import read_rates
from chat_broker_kit.bounded_cache import ExpiringCache
from chat_broker_kit.http.address_key import address_key

Kind = Literal["token", "sign_out", "write", "react", "read"]
"""What a request does. Reactions are counted apart from other writes. Signing out is counted apart: it has to work for a user who has used up everything else."""


def read_limits(name: str, notation: str) -> tuple[Limit, ...]:
    """The limits that *notation* states. Raises ValueError for anything else, zero included.

    Several ("5/second;100/hour") are told apart by their period: `name-1s`, `name-3600s`.
    """
    rates = read_rates(notation)
    several = len(rates) > 1
    limits = [
        Limit(f"{name}-{period}s" if several else name, amount, period) for amount, period in rates
    ]
    if any(limit.amount < 1 for limit in limits):
        raise ValueError(f"a limit must allow at least one use: {notation!r}")
    return tuple(limits)


@dataclass(frozen=True, slots=True)
class Rates:
    """Every limit there is."""

    token: tuple[Limit, ...]
    sign_out: tuple[Limit, ...]
    write: tuple[Limit, ...]
    react: tuple[Limit, ...]
    read: tuple[Limit, ...]
    address: tuple[Limit, ...]
    auth_failures: tuple[Limit, ...]
    admin_failures: tuple[Limit, ...]

    @classmethod
    def reading(  # noqa: PLR0913 – one keyword a setting
        cls,
        *,
        token: str,
        write: str,
        react: str,
        read: str,
        ip: str,
        auth_failures: str,
        admin_failures: str,
    ) -> "Rates":
        """From the notation of the settings RATE_TOKEN, RATE_WRITE … Raises ValueError.

        A user may sign out as often as they may ask for a token.
        """
        return cls(
            token=read_limits("token", token),
            sign_out=read_limits("sign-out", token),
            write=read_limits("write", write),
            react=read_limits("react", react),
            read=read_limits("read", read),
            address=read_limits("address", ip),
            auth_failures=read_limits("auth-failures", auth_failures),
            admin_failures=read_limits("admin-failures", admin_failures),
        )


class TooMany(TooManyRequests):
    """A user or an address has used up a limit: 429, with what the draft's headers and `Retry-After` say about it."""

    def __init__(self, usages: Sequence[Usage]) -> None:
        refused = [usage for usage in usages if not usage.allowed]
        self.retry_after = max(usage.retry_after for usage in refused)
        super().__init__(headers=headers_for(usages) | {"Retry-After": str(self.retry_after)})


class Limiter:
    """Lets users and addresses through until they have used up what they may.

    Counts in *shared* (Redis) if there is one. Fails open: while Redis does not answer, each process
    counts for itself, and *on_failure* is told every time. Guessing of keys stays limited that way.
    """

    def __init__(
        self,
        rates: Rates,
        shared: Counters | None = None,
        *,
        on_failure: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rates = rates
        self._own = MemoryCounters(clock)
        self._shared = shared
        self._on_failure = on_failure
        self._clock = clock
        self._shut = ExpiringCache[str, list[Usage]](MOST_KEYS, clock=clock)
        self._kinds: dict[Kind, tuple[Limit, ...]] = {
            "token": rates.token,
            "sign_out": rates.sign_out,
            "write": rates.write,
            "react": rates.react,
            "read": rates.read,
        }

    def check_address(self, address: str) -> None:
        """Raise TooMany if *address* is known here to have used up its limit. Counts nothing.

        Asked before anything is done for a request, so that a flood does not reach the
        authenticators; `spend` or `failed_login` do the counting, when more is known.
        """
        key = address_key(address)
        if self._shared is None:
            usages = [self._own.look(limit, key) for limit in self.rates.address]
            if not all(usage.allowed for usage in usages):
                raise TooMany(usages)
        elif (refusal := self._shut.get(key)) is not None:
            raise TooMany(refusal)

    def spend(self, kind: Kind, *, user: str, address: str) -> Awaitable[list[Usage]]:
        """Count one request of *user* from *address*. Raises TooMany. One round trip with Redis."""
        key = address_key(address)
        # Not by comprehensions: each costs as much as all of this.
        uses = [*zip(self._kinds[kind], repeat(user)), *zip(self.rates.address, repeat(key))]
        return self._hit(uses, key)

    async def count_more(self, kind: Kind, *, user: str, times: int) -> None:
        """Count up to *times* further uses of *user*, as far as the limit goes."""
        with suppress(TooMany):
            for _ in range(times):
                await self._hit([(limit, user) for limit in self._kinds[kind]], user)

    async def arrived(self, address: str) -> None:
        """Count one request from *address* of which nothing more is known. Raises TooMany."""
        key = address_key(address)
        await self._hit([(limit, key) for limit in self.rates.address], key)

    async def failed_login(self, address: str) -> None:
        """Count a refused credential. Raises TooMany when *address* has had its share of those."""
        key = address_key(address)
        await self._hit(
            [(limit, key) for limit in (*self.rates.auth_failures, *self.rates.address)], key
        )

    async def failed_admin(self, address: str) -> None:
        """Count a wrong admin key. Raises TooMany likewise; a right key is never asked for this."""
        key = address_key(address)
        await self._hit([(limit, key) for limit in self.rates.admin_failures], key)

    async def _hit(self, uses: list[tuple[Limit, str]], address: str) -> list[Usage]:
        if self._shared is None:
            usages = self._own.count(uses)
        else:
            try:
                usages = await self._shared.hit([(limit, _hidden(key)) for limit, key in uses])
            except OSError:
                self._on_failure()
                usages = self._own.count(uses)
        for usage in usages:
            if not usage.allowed:
                self._remember(address, usages)
                raise TooMany(usages)
        return usages

    def _remember(self, address: str, usages: list[Usage]) -> None:
        """An address that Redis has refused is refused here, until it may come again."""
        if self._shared is None:
            return
        waits = [u.retry_after for u in usages if not u.allowed and u.limit in self.rates.address]
        if not waits:
            return
        self._shut.put(address, usages, until=self._clock() + max(waits))


def _hidden(key: str) -> str:
    """Users' ids and addresses do not belong into Redis in clear, nor at any length."""
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
