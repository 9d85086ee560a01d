"""What an issuer's userinfo endpoint says of a user whose access token holds no name (OpenID Connect Core 5.3)."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import structlog

from chat_broker.auth.jwt.discovery import discover_endpoint
from chat_broker.auth.provider import Answer, BadAnswer, NoAnswer, NotSent
from chat_broker_kit.bounded_cache import BoundedCache
from chat_broker_kit.breaker import Breaker

if TYPE_CHECKING:  # it loads httpx
    from chat_broker.auth.http import Http

log = structlog.get_logger(__name__)

PROFILES_KEPT = 10_000
PROFILE_SECONDS = 900.0
"""How long a profile is kept: of tokens that live for minutes, one a quarter of an hour is asked with."""
ASK_AGAIN_SECONDS = 30.0
"""Seconds after which a profile that could not be read is asked for again."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What an issuer says of one subject. Not *final*: it did not answer, and may do so soon."""

    claims: Mapping[str, Any]
    final: bool = True


NO_PROFILE = Profile({})
"""The endpoint tells the holder of this token nothing."""
UNKNOWN = Profile({}, final=False)


class Userinfo:
    """Profiles of one issuer's subjects. Never raises: identity is known, a name is decoration."""

    def __init__(
        self,
        http: "Http",
        *,
        issuer: str,
        url: str | None,
        allowed_hosts: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*url* None: the issuer's discovery document says where, on the issuer's own host or one of *allowed_hosts*."""
        self._http = http
        self._issuer = issuer
        self._url = url
        self._discovered: str | None = None
        self._allowed_hosts = allowed_hosts
        self._clock = clock
        self._breaker = Breaker(clock=clock)
        self._by_subject = BoundedCache[bytes, Profile](PROFILES_KEPT, clock=clock)
        self._without = BoundedCache[bytes, Profile](PROFILES_KEPT, clock=clock)
        """By the digest of a token with which no profile could be had."""
        self._under_way: dict[bytes, asyncio.Task[Profile]] = {}

    async def profile(self, token: str, subject: str) -> Profile:
        """What the endpoint says of *subject* to the holder of their *token*."""
        key = sha256(token.encode()).digest()
        kept = self._by_subject.get(_subject_key(subject)) or self._without.get(key)
        if kept is not None:
            return kept
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(key, token, subject))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        # A caller who goes away must not take the others' answer with them.
        return await asyncio.shield(task)

    async def _ask(self, key: bytes, token: str, subject: str) -> Profile:
        if self._breaker.wait():
            return UNKNOWN
        try:
            endpoint = await self._endpoint()
            answer = await self._http.get(endpoint, [("authorization", f"Bearer {token}")])
            profile = _read(answer, subject)
        except (NoAnswer, BadAnswer) as error:
            if isinstance(error, NotSent):
                self._breaker.undecided()
            else:
                self._breaker.failed()
            self._discovered = None  # it may have moved
            log.warning("auth.no_userinfo", issuer=self._issuer, reason=str(error))
            self._without.put(key, UNKNOWN, until=self._clock() + ASK_AGAIN_SECONDS)
            return UNKNOWN
        self._breaker.answered()
        until = self._clock() + PROFILE_SECONDS
        if profile is NO_PROFILE:
            self._without.put(key, profile, until=until)
        else:
            self._by_subject.put(_subject_key(subject), profile, until=until)
        return profile

    async def _endpoint(self) -> str:
        url = self._url or self._discovered
        if url is None:
            url = await discover_endpoint(
                self._http, self._issuer, "userinfo_endpoint", self._allowed_hosts
            )
            self._discovered = url
        return url


def _subject_key(subject: str) -> bytes:
    return subject.encode("utf-8", "surrogatepass")


def _read(answer: Answer, subject: str) -> Profile:
    if answer.status in {
        401,
        403,
    }:  # the token lacks the scope `openid`, is for another resource, was revoked
        return NO_PROFILE
    if answer.status != 200:
        raise BadAnswer(f"status {answer.status}")
    claims = answer.json_object()
    if claims.get("sub") != subject:  # section 5.3.2: then nothing in it may be used
        raise BadAnswer("the answer is about another subject")
    return Profile(claims)
