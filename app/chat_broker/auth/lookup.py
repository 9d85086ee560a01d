"""Asks somebody else who a credential belongs to: once at a time, remembered briefly, behind a breaker."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import structlog
from starlette.requests import HTTPConnection

from chat_broker.auth.contract import ProviderUnavailable
from chat_broker.auth.provider import GATEWAY_ERRORS, Answer, BadAnswer, NoAnswer, NotSent
from chat_broker_kit.bounded_cache import BoundedCache
from chat_broker_kit.breaker import Breaker
from chat_broker_kit.logs.sampling import SampledEvents
from chat_broker_kit.urls.location import location

outages = structlog.get_logger(__name__)
log = SampledEvents(outages)

REMEMBERED = 10_000
LOOKED_EVERY = 5.0
"""Seconds after which what the last question found is too old to say how the provider is."""

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the provider said: claims, or None for *nobody's*; `good_until` is the credential's own end."""

    claims: Claims | None
    good_until: float | None = None


def cache_key(endpoint: str, client: str, credential: str) -> bytes:
    """The name under which a verdict is kept: of this endpoint, for this client, on this credential.

    Only a digest is kept, and one that never answers for another endpoint or client.
    """
    parts = (endpoint, client, sha256(credential.encode("utf-8", "surrogatepass")).hexdigest())
    return sha256("\0".join(f"{len(part)}:{part}" for part in parts).encode()).digest()


def wants_fresh_answer(request: HTTPConnection) -> bool:
    """Whether a remembered verdict is too old for this request.

    Minting is: a chat token outlives by far what is remembered here. Being wrong about a path costs
    one more question, and never lets anybody in.
    """
    return str(request.scope["path"]).rstrip("/").endswith("/token")


class Asking:
    """Verdicts of one provider. Fails closed: no verdict is ProviderUnavailable, never a guess."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        keep_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._where = location(url)
        self._keep_seconds = keep_seconds
        self._now = now
        self._breaker = Breaker(clock=clock)
        self._clock = clock
        # Nobody's credentials are kept apart, so that a flood of junk does not push out good ones.
        self._good = BoundedCache[bytes, Verdict](REMEMBERED, clock=clock)
        self._nobody = BoundedCache[bytes, Verdict](REMEMBERED, clock=clock)
        self._under_way: dict[bytes, asyncio.Task[Verdict]] = {}
        self._silent_since: float | None = None
        self._last_at = float("-inf")

    async def state(self, send: Callable[[], Awaitable[Answer]]) -> str:
        """`ok` or `silent`: by the last question, or by *send* if that was too long ago."""
        if self._clock() - self._last_at >= LOOKED_EVERY:
            try:
                answer = await send()
            except NoAnswer as error:
                if not isinstance(error, NotSent):
                    self._found_silent(str(error))
            except BadAnswer:
                self._found_answering()
            else:
                if answer.status >= 500:
                    self._found_silent(f"status {answer.status}")
                else:
                    self._found_answering()
        return "ok" if self._silent_since is None else "silent"

    async def verdict(
        self,
        key: bytes,
        send: Callable[[], Awaitable[Answer]],
        read: Callable[[Answer], Verdict],
        *,
        fresh: bool,
    ) -> Verdict:
        """The verdict kept under *key*, or a new one: *send* asks, *read* understands the answer.

        *fresh* never settles for a kept one, nor for a question that began before this call.
        """
        if not fresh:
            kept = self._good.get(key) or self._nobody.get(key)
            if kept is not None and (kept.good_until is None or self._now() < kept.good_until):
                return kept
            under_way = self._under_way.get(key)
            if under_way is not None:
                return await asyncio.shield(under_way)
        task = asyncio.create_task(self._ask(key, send, read))
        if key not in self._under_way:
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await asyncio.shield(task)

    async def _ask(
        self,
        key: bytes,
        send: Callable[[], Awaitable[Answer]],
        read: Callable[[Answer], Verdict],
    ) -> Verdict:
        if wait := self._breaker.wait():
            raise ProviderUnavailable(wait)
        try:
            answer = await send()
            if answer.status in GATEWAY_ERRORS:
                raise NoAnswer(f"status {answer.status}")  # noqa: TRY301 - treated like silence
        except NoAnswer as error:
            if isinstance(error, NotSent):
                self._breaker.undecided()
                log.warning("auth.provider_not_asked", provider=self._name, reason=str(error))
            else:
                self._breaker.failed()
                self._found_silent(str(error))
            raise ProviderUnavailable from None
        except BadAnswer as error:
            raise self._nonsense(error) from None
        self._found_answering()
        try:
            verdict = read(answer)
        except BadAnswer as error:
            raise self._nonsense(error) from None
        self._keep(key, verdict)
        return verdict

    def _keep(self, key: bytes, verdict: Verdict) -> None:
        self._good.forget(key)
        self._nobody.forget(key)
        if self._keep_seconds > 0:
            kept = self._good if verdict.claims is not None else self._nobody
            kept.put(key, verdict, until=self._clock() + self._keep_seconds)

    def _nonsense(self, error: BadAnswer) -> ProviderUnavailable:
        self._found_answering()
        log.warning(
            "auth.provider_bad_answer", provider=self._name, where=self._where, reason=str(error)
        )
        return ProviderUnavailable()

    def _found_silent(self, reason: str) -> None:
        self._last_at = self._clock()
        if self._silent_since is None:
            self._silent_since = self._last_at
        log.warning(
            "auth.provider_unreachable", provider=self._name, where=self._where, reason=reason
        )

    def _found_answering(self) -> None:
        self._breaker.answered()
        self._last_at = self._clock()
        if self._silent_since is not None:
            seconds = round(self._last_at - self._silent_since, 1)
            self._silent_since = None
            outages.info(
                "auth.provider_back", provider=self._name, where=self._where, seconds=seconds
            )
