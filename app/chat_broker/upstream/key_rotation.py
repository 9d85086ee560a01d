"""The project's API key, changed while calls go on: no call fails because a key was rotated.

The Chat API accepts two keys for as long as the operator wants. The broker uses one. When that is refused,
it reads its settings again, turns to the new CHAT_API_KEY or to CHAT_API_KEY_NEXT, and sends the very
same call again: a call answered with 401 has not been carried out, whatever it was.
"""

import time
from collections.abc import Callable

import structlog

from chat_broker_sdk import Request, Response, Transport

log = structlog.get_logger(__name__)

REREAD_PAUSE = 1.0
"""Seconds between two looks at the settings that refused calls may cause."""

ReadKeys = Callable[[], tuple[str | None, str | None]]
"""Reads CHAT_API_KEY and CHAT_API_KEY_NEXT as they are set now."""


class _Hidden(str):
    """A key that a debugger's or crash reporter's repr does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"


class ProjectKeys:
    """The keys as they are now, best first. Shows none of them."""

    def __init__(self, read: ReadKeys, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._looked_at = -REREAD_PAUSE + clock()
        self._keys = self._fetched()
        self.in_doubt: set[str] = set()
        """Those that were refused since they were last accepted; none, as a rule."""
        self.present = self._best()
        """The key to use: the first that has not been refused, or the first, or None if none is set."""

    def __repr__(self) -> str:
        return f"<ProjectKeys {len(self._keys)}>"

    def _best(self) -> str | None:
        good = (key for key in self._keys if key not in self.in_doubt)
        return next(good, self._keys[0] if self._keys else None)

    def reread(self) -> bool:
        """Read the settings again; True if the key to use is another now.

        What cannot be read changes nothing: the keys in use stay, and the log says why.
        """
        self._looked_at = self._clock()
        before = self.present
        try:
            keys = self._fetched()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the settings, go on with what works
            log.warning("api_key.not_reread", error=type(error).__name__)
            return False
        if not keys:
            log.warning("api_key.not_reread", error="no key is set any more")
            return False
        if keys != self._keys:
            self._keys = keys
            # A key that was refused may have been let in since; the operator has just named it.
            self.in_doubt.clear()
            self.present = self._best()
        changed = self.present != before
        if changed:
            log.info("api_key.switched", because="the settings name another")
        return changed

    def refused(self, key: str) -> str | None:
        """The Chat API does not accept *key*: the one to try instead, or None."""
        self.in_doubt.add(key)
        self.present = self._best()
        if (other := self._other_than(key)) is None and self._may_look():
            self.reread()
            other = self._other_than(key)
        if other is None:
            # All were refused at some time; the others perhaps long ago.
            self.in_doubt = {key}
            self.present = self._best()
            other = self._other_than(key)
        return other

    def accepted(self, key: str) -> None:
        """The Chat API accepts *key*."""
        if key in self.in_doubt:
            self.in_doubt.discard(key)
            self.present = self._best()

    def _other_than(self, key: str) -> str | None:
        present = self.present
        return present if present != key and present not in self.in_doubt else None

    def _may_look(self) -> bool:
        return self._clock() - self._looked_at >= REREAD_PAUSE

    def _fetched(self) -> list[str]:
        return [_Hidden(key) for key in dict.fromkeys(self._read()) if key]


class RotatingTransport:
    """Carries requests over *inner* with the key of the moment in *header*.

    *given*: the key that requests come with, if that is known; while it is the present one, nothing is
    changed. Requests without that header (a user's own token) pass unchanged.
    """

    def __init__(
        self,
        inner: Transport,
        keys: ProjectKeys,
        *,
        header: str = "X-API-Key",
        prefix: str = "",
        given: str | None = None,
    ) -> None:
        self._inner = inner
        self._keys = keys
        self._header = header.lower()
        self._prefix = prefix
        self._given = given

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        """One attempt; another with each other key, of which there are two at most, while the key before it is refused."""
        keys = self._keys
        key = keys.present
        place: int | None = None
        if key is not None and key is self._given:  # as a rule; the request has it already
            started = time.monotonic()
            response = await self._inner.send(request, timeout=timeout)
            if response.status != 401 and not keys.in_doubt:
                return response
            place = self._place(request)
        else:
            place = self._place(request)
            started = time.monotonic()
            response = await self._inner.send(self._with_key(request, key, place), timeout=timeout)
        if place is None or key is None:
            return response
        tried = {key}
        while response.status == 401:
            other = keys.refused(key)
            if other is None or other in tried or len(tried) > 2:
                return response
            key = other
            tried.add(key)
            left = max(timeout - (time.monotonic() - started), 0.05)
            response = await self._inner.send(self._with_key(request, key, place), timeout=left)
            if response.status != 401:
                log.info("api_key.switched", because="the one before was refused")
        keys.accepted(key)
        return response

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._inner.aclose()

    def _place(self, request: Request) -> int | None:
        """Where in the headers the key stands."""
        for place, (name, _) in enumerate(request.headers):
            if name.lower() == self._header:
                return place
        return None

    def _with_key(self, request: Request, key: str | None, place: int | None) -> Request:
        if key is None or place is None:
            return request
        headers = request.headers
        entry = (headers[place][0], _Hidden(self._prefix + key))
        changed = (*headers[:place], entry, *headers[place + 1 :])
        return Request(request.method, request.url, changed, request.body)
