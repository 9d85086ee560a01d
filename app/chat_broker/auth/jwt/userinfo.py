"""Reads names from an issuer's userinfo endpoint for access tokens without them (OpenID Connect Core 5.3)."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import structlog

from chat_broker.auth.jwt.discovery import Endpoint
from chat_broker.auth.provider import BadResponse, NoResponse, NotSent, ProviderResponse
from chat_broker_kit.bounded_cache import ExpiringCache
from chat_broker_kit.breaker import Breaker

if TYPE_CHECKING:  # it loads httpx
    from chat_broker.auth.http import ProviderClient

log = structlog.get_logger(__name__)

PROFILES_KEPT = 10_000
PROFILE_SECONDS = 900.0
"""How long a profile is cached, by its subject: longer than most access tokens live."""
ASK_AGAIN_SECONDS = 30.0
"""Seconds until the next request for a profile that could not be read."""


@dataclass(frozen=True, slots=True)
class Profile:
    """An issuer's claims about one subject. *final* is False if the endpoint did not respond."""

    claims: Mapping[str, Any]
    final: bool = True


NO_PROFILE = Profile({})
"""The endpoint refuses this token."""
UNKNOWN = Profile({}, final=False)


class Userinfo:
    """Profiles of one issuer's subjects. Fails open: without a profile the user signs in without a name."""

    def __init__(
        self,
        http: "ProviderClient",
        *,
        issuer: str,
        url: str | None,
        allowed_hosts: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without *url*, the discovery document names it, on the issuer's host or one of *allowed_hosts*."""
        self._http = http
        self._issuer = issuer
        self._endpoint = Endpoint(http, issuer, "userinfo_endpoint", url, allowed_hosts)
        self._clock = clock
        self._breaker = Breaker(clock=clock)
        self._by_subject = ExpiringCache[bytes, Profile](PROFILES_KEPT, clock=clock)
        self._failed_tokens = ExpiringCache[bytes, Profile](PROFILES_KEPT, clock=clock)
        """By the digest of the token."""
        self._pending: dict[bytes, asyncio.Task[Profile]] = {}

    async def profile(self, token: str, subject: str) -> Profile:
        """The profile of *subject*, cached or requested with the user's *token*."""
        key = sha256(token.encode()).digest()
        cached = self._by_subject.get(_subject_key(subject)) or self._failed_tokens.get(key)
        if cached is not None:
            return cached
        task = self._pending.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(key, token, subject))
            self._pending[key] = task
            task.add_done_callback(lambda _: self._pending.pop(key, None))
        # A client that disconnects must not cancel the request that others wait for.
        return await asyncio.shield(task)

    async def _ask(self, key: bytes, token: str, subject: str) -> Profile:
        if self._breaker.wait():
            return UNKNOWN
        try:
            url = await self._endpoint.url()
            response = await self._http.get(url, [("authorization", f"Bearer {token}")])
            profile = _read(response, subject)
        except (NoResponse, BadResponse) as error:
            if isinstance(error, NotSent):
                self._breaker.undecided()
            else:
                self._breaker.failed()
            self._endpoint.forget()
            log.warning("auth.no_userinfo", issuer=self._issuer, reason=str(error))
            self._failed_tokens.put(key, UNKNOWN, until=self._clock() + ASK_AGAIN_SECONDS)
            return UNKNOWN
        self._breaker.answered()
        until = self._clock() + PROFILE_SECONDS
        if profile is NO_PROFILE:
            self._failed_tokens.put(key, profile, until=until)
        else:
            self._by_subject.put(_subject_key(subject), profile, until=until)
        return profile


def _subject_key(subject: str) -> bytes:
    return subject.encode("utf-8", "surrogatepass")


def _read(response: ProviderResponse, subject: str) -> Profile:
    # 401, 403: the token lacks the scope `openid`, is for another resource, or was revoked.
    if response.status in {401, 403}:
        return NO_PROFILE
    if response.status != 200:
        raise BadResponse(f"status {response.status}")
    claims = response.json_object()
    if claims.get("sub") != subject:  # OpenID Connect Core 5.3.2: then no claim may be used
        raise BadResponse("the answer is about another subject")
    return Profile(claims)
