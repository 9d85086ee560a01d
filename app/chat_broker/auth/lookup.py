"""Looks up credentials at a provider: one request per credential at a time, cached, behind a breaker."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import structlog
from starlette.requests import HTTPConnection

from chat_broker.auth.errors import ProviderUnavailable
from chat_broker.auth.provider import (
    GATEWAY_ERRORS,
    BadResponse,
    NoResponse,
    NotSent,
    ProviderResponse,
)
from chat_broker_kit.bounded_cache import ExpiringCache
from chat_broker_kit.breaker import Breaker
from chat_broker_kit.logs.sampling import SampledEvents
from chat_broker_kit.urls.location import location

outages = structlog.get_logger(__name__)
log = SampledEvents(outages)

CACHE_SIZE = 10_000
PROBE_INTERVAL_SECONDS = 5.0
"""Seconds for which the last response says whether the provider is reachable."""

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LookupResult:
    """The provider's result: claims, or None if the credential is not valid; `expires_at` in epoch seconds."""

    claims: Claims | None
    expires_at: float | None = None


SendRequest = Callable[[], Awaitable[ProviderResponse]]
ReadResponse = Callable[[ProviderResponse], LookupResult]


def cache_key(endpoint: str, client: str, credential: str) -> bytes:
    """The cache key of a result: a digest of endpoint, client and credential, so it holds no secret."""
    parts = (endpoint, client, sha256(credential.encode("utf-8", "surrogatepass")).hexdigest())
    return sha256("\0".join(f"{len(part)}:{part}" for part in parts).encode()).digest()


def needs_fresh_result(request: HTTPConnection) -> bool:
    """Whether the request must not use a cached result.

    True for minting, because a chat token lives much longer than a cached result. A wrong match of the
    path costs one more request to the provider.
    """
    return str(request.scope["path"]).rstrip("/").endswith("/token")


class CredentialLookup:
    """Results of one provider. Fails closed: without a response it raises ProviderUnavailable."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        cache_seconds: float,
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._name = name
        self._where = location(url)
        self._cache_seconds = cache_seconds
        self._now = now
        self._breaker = Breaker(clock=clock)
        self._clock = clock
        # Apart, so that a flood of invalid credentials does not push out valid ones.
        self._valid = ExpiringCache[bytes, LookupResult](CACHE_SIZE, clock=clock)
        self._invalid = ExpiringCache[bytes, LookupResult](CACHE_SIZE, clock=clock)
        self._pending: dict[bytes, asyncio.Task[LookupResult]] = {}
        self._unreachable_since: float | None = None
        self._last_at = float("-inf")

    async def state(self, send: SendRequest) -> str:
        """`ok` or `silent`, by the last response, or by *send* if that is over five seconds old."""
        if self._clock() - self._last_at >= PROBE_INTERVAL_SECONDS:
            try:
                response = await send()
            except NoResponse as error:
                if not isinstance(error, NotSent):
                    self._note_unreachable(str(error))
            except BadResponse:
                self._note_reachable()
            else:
                if response.status >= 500:
                    self._note_unreachable(f"status {response.status}")
                else:
                    self._note_reachable()
        return "ok" if self._unreachable_since is None else "silent"

    async def result(
        self, key: bytes, send: SendRequest, read: ReadResponse, *, fresh: bool
    ) -> LookupResult:
        """The result cached under *key*, or a new one: *send* requests it, *read* parses the response.

        *fresh* uses neither a cached result nor a request that was sent before this call.
        """
        if not fresh:
            cached = self._valid.get(key) or self._invalid.get(key)
            if cached is not None and (
                cached.expires_at is None or self._now() < cached.expires_at
            ):
                return cached
            pending = self._pending.get(key)
            if pending is not None:
                return await asyncio.shield(pending)
        task = asyncio.create_task(self._request(key, send, read))
        if key not in self._pending:
            self._pending[key] = task
            task.add_done_callback(lambda _: self._pending.pop(key, None))
        return await asyncio.shield(task)

    async def _request(self, key: bytes, send: SendRequest, read: ReadResponse) -> LookupResult:
        if wait := self._breaker.wait():
            raise ProviderUnavailable(wait)
        try:
            response = await send()
            if response.status in GATEWAY_ERRORS:
                raise NoResponse(f"status {response.status}")  # noqa: TRY301 - as if unreachable
        except NoResponse as error:
            if isinstance(error, NotSent):
                self._breaker.undecided()
                log.warning("auth.provider_not_asked", provider=self._name, reason=str(error))
            else:
                self._breaker.failed()
                self._note_unreachable(str(error))
            raise ProviderUnavailable from None
        except BadResponse as error:
            raise self._unusable(error) from None
        self._note_reachable()
        try:
            result = read(response)
        except BadResponse as error:
            raise self._unusable(error) from None
        self._cache(key, result)
        return result

    def _cache(self, key: bytes, result: LookupResult) -> None:
        self._valid.forget(key)
        self._invalid.forget(key)
        if self._cache_seconds > 0:
            cache = self._valid if result.claims is not None else self._invalid
            cache.put(key, result, until=self._clock() + self._cache_seconds)

    def _unusable(self, error: BadResponse) -> ProviderUnavailable:
        self._note_reachable()
        log.warning(
            "auth.provider_bad_answer", provider=self._name, where=self._where, reason=str(error)
        )
        return ProviderUnavailable()

    def _note_unreachable(self, reason: str) -> None:
        self._last_at = self._clock()
        if self._unreachable_since is None:
            self._unreachable_since = self._last_at
        log.warning(
            "auth.provider_unreachable", provider=self._name, where=self._where, reason=reason
        )

    def _note_reachable(self) -> None:
        self._breaker.answered()
        self._last_at = self._clock()
        if self._unreachable_since is not None:
            seconds = round(self._last_at - self._unreachable_since, 1)
            self._unreachable_since = None
            outages.info(
                "auth.provider_back", provider=self._name, where=self._where, seconds=seconds
            )
