"""The keys of one issuer: published and refreshed by one request at a time, or configured."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from chat_broker.auth.errors import BadToken, ProviderUnavailable
from chat_broker.auth.jwt.discovery import Endpoint
from chat_broker.auth.jwt.keys import Key, UnusableKey, key_from_jwk
from chat_broker.auth.provider import BadResponse, NoResponse, NotSent
from chat_broker_kit.logs.sampling import SampledEvents
from chat_broker_kit.tasks import cancel_and_wait

if TYPE_CHECKING:  # it loads httpx
    from chat_broker.auth.http import ProviderClient

log = structlog.get_logger(__name__)
sampled = SampledEvents(log)

FRESH_SECONDS = 300.0
MIN_FRESH_SECONDS = 60.0
REFRESH_AHEAD_SECONDS = 30.0
RETRY_PAUSE_SECONDS = 30.0
PROBE_INTERVAL_SECONDS = 5.0
"""Seconds between two requests of `probe` to a provider that does not respond."""
STALE_SECONDS = 3600.0
MAX_KEYS = 100


class IssuerKeys(Protocol):
    """Finds the key that the header of a token names."""

    def cached_key(self, kid: str | None, algorithm: str) -> Key | None:
        """The key, if it is at hand and no question has to be asked for it."""

    async def find(self, kid: str | None, algorithm: str) -> Key:
        """The key. Raises BadToken if there is none, ProviderUnavailable if the provider does not respond."""


class FixedKey:
    """One configured key, for tokens with any `kid`."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def cached_key(self, kid: str | None, algorithm: str) -> Key | None:  # noqa: ARG002 -- one key only
        return self._key if algorithm in self._key.algorithms else None

    async def find(self, kid: str | None, algorithm: str) -> Key:
        key = self.cached_key(kid, algorithm)
        if key is None:
            raise BadToken("the algorithm of the token is not accepted")
        return key


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of a published JWK set."""

    by_kid: Mapping[str, Key]
    without_kid: tuple[Key, ...]

    def get(self, kid: str | None, algorithm: str) -> Key | None:
        """The key with that *kid*; without a kid, the only key for *algorithm*; else None."""
        if kid is not None:
            key = self.by_kid.get(kid)
            return key if key is not None and algorithm in key.algorithms else None
        matching = [
            key for key in (*self.by_kid.values(), *self.without_kid) if algorithm in key.algorithms
        ]
        return matching[0] if len(matching) == 1 else None

    def __len__(self) -> int:
        return len(self.by_kid) + len(self.without_kid)


def read_key_set(document: Mapping[str, Any], allowed: frozenset[str] | None) -> KeySet:
    """The keys of a JWK set for *allowed* algorithms (None: the default one of each key).

    Keys for other purposes are left out. Raises BadResponse for two keys with one kid, and for no key.
    """
    members = document.get("keys")
    if not isinstance(members, list) or len(members) > MAX_KEYS:
        raise BadResponse("the key set has no list of keys, or too many")
    by_kid: dict[str, Key] = {}
    without_kid: list[Key] = []
    for member in members:
        try:
            key = key_from_jwk(member) if isinstance(member, dict) else None
        except UnusableKey:
            continue
        key = key and key.narrowed(allowed)
        if key is None:
            continue
        if key.kid is None:
            without_kid.append(key)
        elif key.kid in by_kid:
            raise BadResponse("the key set has two keys of the same kid")
        else:
            by_kid[key.kid] = key
    if not by_kid and not without_kid:
        raise BadResponse("the key set holds no key that could verify a token")
    return KeySet(by_kid, tuple(without_kid))


class RemoteKeys:
    """A published key set, cached.

    It is fresh for five minutes, or for the provider's `max-age` between one and five. A refresh
    starts 30 s before that, one at a time. An unknown kid causes one request, then none for 30 s; a
    failed request also causes a pause of 30 s. While the provider does not respond, the last set stays
    usable for an hour.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[tuple[KeySet, int | None]]],
        *,
        name: str,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._fetch = fetch
        self._name = name
        self._clock = clock
        self._set: KeySet | None = None
        self._fetched_at = 0.0
        self._fresh_for = FRESH_SECONDS
        self._failing = False
        self._requested_at = float("-inf")
        self._retry_at = clock()  # after a failure, no request before then
        self._unknown_kid_retry_at = clock()  # no request for an unknown kid before then
        self._refreshing: asyncio.Task[None] | None = None

    @property
    def state(self) -> str:
        """`ok`, `stale` (the provider does not respond, its last keys are used), or `missing`."""
        if self._usable() is None:
            return "missing"
        return "stale" if self._failing else "ok"

    async def probe(self) -> str:
        """`state`, after another request if it is not `ok` and the last request is five seconds old."""
        if self.state != "ok" and self._clock() - self._requested_at >= PROBE_INTERVAL_SECONDS:
            await self._refresh()
        return self.state

    @property
    def age(self) -> float | None:
        """Seconds since the set was read; None if it never was."""
        return None if self._set is None else self._age()

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _usable(self) -> KeySet | None:
        return self._set if self._set is not None and self._age() < STALE_SECONDS else None

    def _may_request(self) -> bool:
        return self._clock() >= self._retry_at

    def cached_key(self, kid: str | None, algorithm: str) -> Key | None:
        """The key, if it is at hand; starts a refresh in the background when one is due."""
        current, age = self._usable(), self._age()
        if current is None or (age >= self._fresh_for and not self._failing):
            return None
        if age >= self._fresh_for - REFRESH_AHEAD_SECONDS and self._may_request():
            self._start()
        return current.get(kid, algorithm)

    async def find(self, kid: str | None, algorithm: str) -> Key:
        """The key. Raises BadToken if the set lacks it, ProviderUnavailable if the provider does not respond."""
        key = self.cached_key(kid, algorithm)
        if key is not None:
            return key
        current = self._usable()
        if current is None or self._age() >= self._fresh_for:
            if self._may_request() and not (current is not None and self._failing):
                await self._refresh()
        elif self._may_request() and self._clock() >= self._unknown_kid_retry_at:
            self._unknown_kid_retry_at = self._clock() + RETRY_PAUSE_SECONDS
            await self._refresh()
        elif self._refreshing is not None:
            await self._refresh()  # the refresh under way may bring this key
        current = self._usable()
        key = current.get(kid, algorithm) if current is not None else None
        if key is not None:
            return key
        if current is None or self._failing:
            raise ProviderUnavailable(max(self._retry_at - self._clock(), 1.0))
        raise BadToken("the key of the token is not among the issuer's keys")

    async def refresh(self) -> None:
        """Request the set now, unless a request failed in the last 30 s. Never raises."""
        if self._may_request():
            await self._refresh()

    async def close(self) -> None:
        if self._refreshing is not None:
            await cancel_and_wait(self._refreshing)

    def _start(self) -> asyncio.Task[None]:
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._request())
        return self._refreshing

    async def _refresh(self) -> None:
        # A client that disconnects must not cancel the request that others wait for.
        await asyncio.shield(self._start())

    async def _request(self) -> None:
        self._requested_at = self._clock()
        try:
            keys, max_age = await self._fetch()
        except NotSent as error:
            sampled.warning("auth.keys_not_asked_for", issuer=self._name, reason=str(error))
        except (NoResponse, BadResponse) as error:
            self._retry_at = self._clock() + RETRY_PAUSE_SECONDS
            self._failing = True
            log.warning("auth.keys_unavailable", issuer=self._name, reason=str(error))
        else:
            if self._failing or self._set is None:
                log.info("auth.keys_loaded", issuer=self._name, keys=len(keys))
            self._set, self._failing, self._fetched_at = keys, False, self._clock()
            self._retry_at = self._fetched_at
            seconds = FRESH_SECONDS if max_age is None else float(max_age)
            self._fresh_for = min(max(seconds, MIN_FRESH_SECONDS), FRESH_SECONDS)
        finally:
            self._refreshing = None


class PublishedKeys:
    """Fetches the set from its URL, configured or named by the issuer's discovery document."""

    def __init__(
        self,
        http: "ProviderClient",
        *,
        issuer: str,
        jwks_url: str | None,
        allowed_hosts: frozenset[str],
        algorithms: frozenset[str] | None,
    ) -> None:
        self._http = http
        self._endpoint = Endpoint(http, issuer, "jwks_uri", jwks_url, allowed_hosts)
        self._algorithms = algorithms

    async def __call__(self) -> tuple[KeySet, int | None]:
        """The usable keys and the provider's `max-age` in seconds. Raises NoResponse or BadResponse."""
        try:
            response = await self._http.get(await self._endpoint.url())
            if response.status != 200:
                raise BadResponse(f"the key set answers {response.status}")  # noqa: TRY301 - forgets the URL, too
            keys = read_key_set(response.json_object(from_file=True), self._algorithms)
        except (NoResponse, BadResponse):
            self._endpoint.forget()
            raise
        return keys, response.max_age
