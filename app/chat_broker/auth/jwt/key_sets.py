"""The keys of one issuer: published ones, kept fresh without a stampede, or one that is configured."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from chat_broker.auth.contract import BadToken
from chat_broker.auth.jwt.discovery import discover_endpoint
from chat_broker.auth.jwt.keys import Key, UnusableKey, key_from_jwk
from chat_broker.auth.provider import Answer, BadAnswer, NoAnswer, NotSent
from chat_broker_kit.logs.sampling import SampledEvents
from chat_broker_kit.tasks import end

if TYPE_CHECKING:  # it loads httpx
    from chat_broker.auth.http import Http

log = structlog.get_logger(__name__)
sampled = SampledEvents(log)

FRESH_SECONDS = 300.0
MIN_FRESH_SECONDS = 60.0
REFRESH_AHEAD_SECONDS = 30.0
COOL_DOWN_SECONDS = 30.0
LOOKED_EVERY = 5.0
"""Seconds between two questions of `look` to a provider that does not answer."""
STALE_SECONDS = 3600.0
MAX_KEYS = 100


class KeysUnavailable(Exception):  # noqa: N818 - named for what happened
    """The keys would have to be asked for, and the provider does not answer. Try in `retry_after` s."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("the keys of the identity provider cannot be had")
        self.retry_after = retry_after


class Keys(Protocol):
    """Finds the key a token says it is signed with."""

    def peek(self, kid: str | None, algorithm: str) -> Key | None:
        """The key, if it is at hand and no question has to be asked for it."""

    async def find(self, kid: str | None, algorithm: str) -> Key:
        """The key; BadToken if there is none, KeysUnavailable if that cannot be known now."""


class FixedKey:
    """One configured key, whatever `kid` a token names."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def peek(self, kid: str | None, algorithm: str) -> Key | None:  # noqa: ARG002 -- one key only
        return self._key if algorithm in self._key.algorithms else None

    async def find(self, kid: str | None, algorithm: str) -> Key:
        key = self.peek(kid, algorithm)
        if key is None:
            raise BadToken("the algorithm of the token is not accepted")
        return key


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of a published set."""

    by_kid: Mapping[str, Key]
    without_kid: tuple[Key, ...]

    def get(self, kid: str | None, algorithm: str) -> Key | None:
        """The key *kid* names; without a kid, the only key there is for that algorithm."""
        if kid is not None:
            key = self.by_kid.get(kid)
            return key if key is not None and algorithm in key.algorithms else None
        fitting = [
            key for key in (*self.by_kid.values(), *self.without_kid) if algorithm in key.algorithms
        ]
        return fitting[0] if len(fitting) == 1 else None

    def __len__(self) -> int:
        return len(self.by_kid) + len(self.without_kid)


def read_key_set(document: Mapping[str, Any], allowed: frozenset[str] | None) -> KeySet:
    """The keys of a JWK set that may verify under *allowed* algorithms (None: each its own one).

    Keys for other purposes are left out. Two keys of one name: BadAnswer, for either could be meant.
    """
    members = document.get("keys")
    if not isinstance(members, list) or len(members) > MAX_KEYS:
        raise BadAnswer("the key set has no list of keys, or too many")
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
            raise BadAnswer("the key set has two keys of the same kid")
        else:
            by_kid[key.kid] = key
    if not by_kid and not without_kid:
        raise BadAnswer("the key set holds no key that could verify a token")
    return KeySet(by_kid, tuple(without_kid))


def key_set_in(answer: Answer, allowed: frozenset[str] | None) -> KeySet:
    """The key set of an *answer*, however a file server labels it; see `read_key_set`."""
    return read_key_set(answer.json_object(from_a_file=True), allowed)


class RemoteKeys:
    """A key set that somebody else publishes.

    Asked for again from 30 s before it is five minutes old (or as old as the provider says, between
    one and five), one question at a time. A kid that is not in the set leads to one more question, and
    then to none for 30 s; so does a question that failed. While the provider does not answer, what it
    said last holds for an hour, and then nothing does.
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
        self._asked_at = float("-inf")
        self._quiet_until = clock()  # no question before then, after a failure
        self._unknown_until = clock()  # no question for an unknown kid before then
        self._asking: asyncio.Task[None] | None = None

    @property
    def state(self) -> str:
        """`ok`, `stale` (the provider is down, its last keys hold), or `missing`."""
        if self._usable() is None:
            return "missing"
        return "stale" if self._failing else "ok"

    async def look(self) -> str:
        """`state`, after one more question if the last one failed, or was too long ago, and is not a moment old."""
        if self.state != "ok" and self._clock() - self._asked_at >= LOOKED_EVERY:
            await self._ask()
        return self.state

    @property
    def age(self) -> float | None:
        """Seconds since the set was read; None if it never was."""
        return None if self._set is None else self._age()

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _usable(self) -> KeySet | None:
        return self._set if self._set is not None and self._age() < STALE_SECONDS else None

    def _may_ask(self) -> bool:
        return self._clock() >= self._quiet_until

    def peek(self, kid: str | None, algorithm: str) -> Key | None:
        """The key, if it is at hand; starts a refresh in the background when one is due."""
        current, age = self._usable(), self._age()
        if current is None or (age >= self._fresh_for and not self._failing):
            return None
        if age >= self._fresh_for - REFRESH_AHEAD_SECONDS and self._may_ask():
            self._start()
        return current.get(kid, algorithm)

    async def find(self, kid: str | None, algorithm: str) -> Key:
        """The key; BadToken if the set does not have it, KeysUnavailable if nobody can say."""
        key = self.peek(kid, algorithm)
        if key is not None:
            return key
        current = self._usable()
        if current is None or self._age() >= self._fresh_for:
            if self._may_ask() and not (current is not None and self._failing):
                await self._ask()
        elif self._may_ask() and self._clock() >= self._unknown_until:
            self._unknown_until = self._clock() + COOL_DOWN_SECONDS
            await self._ask()
        elif self._asking is not None:
            await self._ask()  # somebody else's question may bring this very key
        current = self._usable()
        key = current.get(kid, algorithm) if current is not None else None
        if key is not None:
            return key
        if current is None or self._failing:
            raise KeysUnavailable(max(self._quiet_until - self._clock(), 1.0))
        raise BadToken("the key of the token is not among the issuer's keys")

    async def refresh(self) -> None:
        """Ask for the set now, unless a failure is too recent. Never raises."""
        if self._may_ask():
            await self._ask()

    async def close(self) -> None:
        """Drop a question that is under way."""
        if self._asking is not None:
            await end(self._asking)

    def _start(self) -> asyncio.Task[None]:
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_once())
        return self._asking

    async def _ask(self) -> None:
        # shielded: a caller who hangs up must not take the answer away from the others
        await asyncio.shield(self._start())

    async def _ask_once(self) -> None:
        self._asked_at = self._clock()
        try:
            keys, max_age = await self._fetch()
        except NotSent as error:
            sampled.warning("auth.keys_not_asked_for", issuer=self._name, reason=str(error))
        except (NoAnswer, BadAnswer) as error:
            self._quiet_until = self._clock() + COOL_DOWN_SECONDS
            self._failing = True
            log.warning("auth.keys_unavailable", issuer=self._name, reason=str(error))
        else:
            if self._failing or self._set is None:
                log.info("auth.keys_loaded", issuer=self._name, keys=len(keys))
            self._set, self._failing, self._fetched_at = keys, False, self._clock()
            self._quiet_until = self._fetched_at
            wanted = FRESH_SECONDS if max_age is None else float(max_age)
            self._fresh_for = min(max(wanted, MIN_FRESH_SECONDS), FRESH_SECONDS)
        finally:
            self._asking = None


class PublishedKeys:
    """Fetches the set from its address, or from where the issuer's discovery document says."""

    def __init__(
        self,
        http: "Http",
        *,
        issuer: str,
        jwks_url: str | None,
        allowed_hosts: frozenset[str],
        algorithms: frozenset[str] | None,
    ) -> None:
        self._http = http
        self._issuer = issuer
        self._configured = jwks_url
        self._allowed_hosts = allowed_hosts
        self._algorithms = algorithms
        self._discovered: str | None = None

    async def __call__(self) -> tuple[KeySet, int | None]:
        """The usable keys and the seconds the provider wants them kept. NoAnswer, BadAnswer."""
        url = self._configured or self._discovered
        try:
            if url is None:
                url = await discover_endpoint(
                    self._http, self._issuer, "jwks_uri", self._allowed_hosts
                )
            answer = await self._http.get(url)
            if answer.status != 200:
                raise BadAnswer(f"the key set answers {answer.status}")  # noqa: TRY301 - forgets the address, too
            keys = key_set_in(answer, self._algorithms)
        except (NoAnswer, BadAnswer):
            self._discovered = None  # it may have moved: discover anew next time
            raise
        self._discovered = url
        return keys, answer.max_age
