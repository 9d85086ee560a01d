"""How much one user, one address, may ask for: sliding windows, counted here or in Redis.

Limits are written in the notation of the `limits` library ("30/minute", "5/second;100/hour"). The
library is not used: its memory store grows without bound and needs a timer per key, its Redis
strategies take two round trips where one is enough, and it is a tenth of what a start loads.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Literal, Protocol

from chat_broker.errors import TooManyRequests
from chat_broker.http.rate_limit_headers import Limit, Usage, headers_for, lines_for
from chat_broker.settings import read_rates
from chat_broker_kit.bounded_cache import BoundedCache
from chat_broker_kit.http.client_address import address_key

Kind = Literal["token", "sign_out", "write", "read"]
"""What a request does. Signing out is counted apart: it has to work for a user who has used up everything else."""

MOST_KEYS = 50_000
"""Of each window; when it is full the older half is forgotten, so a flood of keys costs no memory."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What one kind of request is held to: limits of its user (0), then of its address (1)."""

    limits: tuple[tuple[Limit, int, str], ...]
    """Each with what stands before its remaining uses in the lines of an answer's head."""

    @classmethod
    def of(cls, user: Sequence[Limit], address: Sequence[Limit]) -> "Terms":
        """Those with these limits."""
        limits = (*((limit, 0) for limit in user), *((limit, 1) for limit in address))
        met = [Usage(limit, True, remaining=0, reset=0) for limit, _ in limits]
        before = lines_for(met).decode().split("0;t=0")
        return cls(tuple((*one, text) for one, text in zip(limits, before, strict=False)))


class Counters(Protocol):
    """Counts uses. Raises OSError when it cannot."""

    async def hit(self, uses: Sequence[tuple[Limit, str]]) -> list[Usage]:
        """Count one use of each (limit, key), unless one of them is refused: then none is counted."""


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


def judge(limit: Limit, before: float, now_used: float, elapsed: float) -> Usage:
    """One more use, given those of the window *before* and of the present one, *elapsed* s old.

    Pure; the Redis script says the same in Lua.
    """
    remaining = left_after(limit, before, now_used, elapsed)
    left = limit.period - elapsed
    if remaining >= 0:
        return Usage(limit, True, remaining, math.ceil(left))
    room = limit.amount - 1 - now_used  # for what is left of the window before
    if before and room >= 0:
        wait = limit.period * (1 - room / before) - elapsed
    else:
        wait = left + limit.period * (1 - (limit.amount - 1) / now_used)
    return Usage(limit, False, 0, math.ceil(left), max(1, math.ceil(wait)))


def left_after(limit: Limit, before: float, now_used: float, elapsed: float) -> int:
    """How many uses are left after one more; -1 if that one would be too many.

    A sliding window from two fixed ones: the older counts by the share of it that is still within
    *period* of now.
    """
    used = before * (1 - elapsed / limit.period) + now_used if before else now_used
    return int(limit.amount - used - 1) if used + 1 <= limit.amount else -1


class _Windows:
    """The present window of one limit, from *began* until *ends*, and the one before."""

    __slots__ = ("before", "began", "ends", "now", "reset", "same_until")

    def __init__(self) -> None:
        self.began = self.ends = self.same_until = 0.0
        self.reset = ""
        """How many seconds are left of the present one, rounded up, as text: right before *same_until*."""
        self.now: dict[str, int] = {}
        self.before: dict[str, int] = {}

    def turn(self, now: float, period: int) -> None:
        """Have the window that *now* lies in be the present one."""
        began = now // period * period
        if began != self.began or not self.ends:
            self.before = self.now if began == self.ends else {}
            self.now = {}
            self.began, self.ends = began, began + period
        if now >= self.same_until or not self.reset:
            left = math.ceil(self.ends - now)
            self.reset, self.same_until = str(left), self.ends - left + 1

    def forget_half(self) -> None:
        """Of the present one, the older half: these are counts, and each that is forgotten may be spent again."""
        self.now = dict(islice(self.now.items(), len(self.now) // 2, None))


class MemoryCounters:
    """Counts in this process: microseconds, bounded, on a clock that never jumps."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, most_keys: int = MOST_KEYS
    ) -> None:
        self._clock = clock
        self._most = most_keys
        self._windows: dict[str, _Windows] = {}

    async def hit(self, uses: Sequence[tuple[Limit, str]]) -> list[Usage]:
        """Count one use of each, unless one is refused."""
        return self.hit_now(uses)

    def hit_now(self, uses: Sequence[tuple[Limit, str]]) -> list[Usage]:
        """The same without a loop."""
        answers = []
        met = []
        allowed = True
        now = self._clock()
        for limit, key in uses:
            windows = self._at(now, limit)
            used = windows.now.get(key, 0)
            usage = judge(limit, windows.before.get(key, 0), used, now - windows.began)
            allowed = allowed and usage.allowed
            answers.append(usage)
            met.append((windows, key, used + 1))
        if allowed:
            for windows, key, used in met:
                windows.now[key] = used
                if len(windows.now) > self._most:
                    windows.forget_half()
        return answers

    def spend(self, terms: Terms, user: str, address: str) -> bytes | None:
        """Count one use of all that *terms* name, and answer the lines of the head that say so.

        None, and nothing is counted, if one of them would refuse it: `hit_now` says how.
        """
        text = ""
        now = self._clock()
        for limit, whose, before in terms.limits:
            windows = self._windows.get(limit.name)
            if windows is None or now >= windows.same_until:
                windows = self._at(now, limit)
            key = address if whose else user
            used = windows.now.get(key, 0)
            remaining = left_after(limit, windows.before.get(key, 0), used, now - windows.began)
            if remaining < 0:
                self._give_back(terms, limit, user, address)
                return None
            windows.now[key] = used + 1
            if len(windows.now) > self._most:
                windows.forget_half()
            text += f"{before}{remaining};t={windows.reset}"
        return f"{text}\r\n".encode() if text else b""

    def _give_back(self, terms: Terms, refused: Limit, user: str, address: str) -> None:
        """What was counted of *terms* before *refused* was met."""
        for limit, whose, _ in terms.limits:
            if limit is refused:
                return
            counted, key = self._windows[limit.name].now, address if whose else user
            if key in counted:
                counted[key] -= 1

    def look(self, limit: Limit, key: str) -> Usage:
        """What one more use would meet, without counting it."""
        now = self._clock()
        windows = self._at(now, limit)
        used = windows.now.get(key, 0)
        return judge(limit, windows.before.get(key, 0), used, now - windows.began)

    def is_full(self, limit: Limit, key: str) -> bool:
        """Would one more use be refused? Says no more than that, and so needs a tenth of the time."""
        now = self._clock()
        windows = self._at(now, limit)
        used, before = windows.now.get(key, 0), windows.before.get(key, 0)
        if used + before < limit.amount:
            return False
        return not judge(limit, before, used, now - windows.began).allowed

    def _at(self, now: float, limit: Limit) -> "_Windows":
        """The windows of *limit* as they are *now*."""
        windows = self._windows.get(limit.name)
        if windows is None:
            windows = self._windows[limit.name] = _Windows()
        windows.turn(now, limit.period)
        return windows


@dataclass(frozen=True, slots=True)
class Rates:
    """Every limit there is."""

    token: tuple[Limit, ...]
    sign_out: tuple[Limit, ...]
    write: tuple[Limit, ...]
    read: tuple[Limit, ...]
    address: tuple[Limit, ...]
    auth_failures: tuple[Limit, ...]
    admin_failures: tuple[Limit, ...]

    @classmethod
    def reading(
        cls, *, token: str, write: str, read: str, ip: str, auth_failures: str, admin_failures: str
    ) -> "Rates":
        """From the notation of the settings RATE_TOKEN, RATE_WRITE … Raises ValueError.

        A user may sign out as often as they may ask for a token.
        """
        return cls(
            token=read_limits("token", token),
            sign_out=read_limits("sign-out", token),
            write=read_limits("write", write),
            read=read_limits("read", read),
            address=read_limits("address", ip),
            auth_failures=read_limits("auth-failures", auth_failures),
            admin_failures=read_limits("admin-failures", admin_failures),
        )


class TooMany(TooManyRequests):
    """Somebody used up a limit: 429, with what the draft's headers and `Retry-After` say about it."""

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
        self._shut = BoundedCache[str, list[Usage]](MOST_KEYS, clock=clock)
        self._kinds: dict[Kind, tuple[Limit, ...]] = {
            "token": rates.token,
            "sign_out": rates.sign_out,
            "write": rates.write,
            "read": rates.read,
        }
        self._terms = {kind: Terms.of(user, rates.address) for kind, user in self._kinds.items()}

    def check_address(self, address: str) -> None:
        """Raise TooMany if *address* is known here to have used up its limit. Counts nothing.

        Asked before anything is done for a request, so that a flood does not reach the
        authenticators; `spend` or `failed_login` do the counting, when more is known.
        """
        key = address_key(address)
        if self._shared is None:
            own = self._own
            for limit in self.rates.address:
                if own.is_full(limit, key):
                    raise TooMany([own.look(limit, key) for limit in self.rates.address])
        elif (usages := self._shut.get(key)) is not None:
            raise TooMany(usages)

    def spend_here(self, kind: Kind, *, user: str, address: str) -> bytes | None:
        """`spend`, if that takes no waiting and nothing is refused; answers what `lines_for` makes of the usages.

        None, and nothing is counted, otherwise.
        """
        if self._shared is not None:
            return None
        return self._own.spend(self._terms[kind], user, address_key(address))

    async def spend(self, kind: Kind, *, user: str, address: str) -> list[Usage]:
        """Count one request of *user* from *address*. Raises TooMany. One round trip with Redis."""
        key = address_key(address)
        uses = [(limit, user) for limit in self._kinds[kind]]
        uses += [(limit, key) for limit in self.rates.address]
        return await self._hit(uses, key)

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
            usages = self._own.hit_now(uses)
        else:
            try:
                usages = await self._shared.hit([(limit, _hidden(key)) for limit, key in uses])
            except OSError:
                self._on_failure()
                usages = self._own.hit_now(uses)
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
