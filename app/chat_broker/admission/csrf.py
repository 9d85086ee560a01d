"""What a request must show besides a credential that a browser sends by itself.

A cookie comes along with whatever another site makes a browser send. These are the signs that our own
page, or a listed one, meant it: a header no form and no image can set, and what the browser itself says
about where the request came from (`Origin`, Fetch Metadata).
"""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import HTTPConnection

from chat_broker.chat.principal import Carrier
from chat_broker.errors import Refused

CSRF_HEADER = "X-Chat-CSRF"
CSRF_VALUE = "1"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_MESSAGES = {
    "header": f"With a cookie, this request needs the header {CSRF_HEADER}: {CSRF_VALUE}.",
    "origin": "With a cookie, this request needs an Origin that is on the broker's list.",
    "read": (
        "With a cookie, this request must come from the same origin or a listed one, "
        f"or have the header {CSRF_HEADER}: {CSRF_VALUE}."
    ),
    "site": "This request comes from another site.",
}


class BrowserRules:
    """Decides whether a browser's own credential counts. Bearer tokens are never sent by a browser itself.

    *origins* is the exact list of those who may use it. *is_own_origin* says whether an origin is the one that a
    request came to; it only matters for what a browser or a proxy adds as a header.
    """

    def __init__(
        self,
        origins: frozenset[str],
        is_own_origin: Callable[[Mapping[str, Any], str], bool] = lambda _scope, _origin: False,
    ) -> None:
        self._origins = origins
        self._is_own_origin = is_own_origin

    def check(self, request: HTTPConnection, carrier: Carrier) -> None:
        """Raises Refused (`csrf_failed`) unless the request may use a credential of that *carrier*."""
        if carrier == "bearer":
            return
        scope = request.scope
        signs = _Signs(scope["headers"])
        if carrier == "header":
            problem = self._ambient_problem(scope, signs)
        elif scope.get("method", "GET") in SAFE_METHODS:
            problem = self._read_problem(signs)
        else:
            problem = self._write_problem(signs)
        if problem is not None:
            raise Refused("csrf_failed", _MESSAGES[problem])

    def _write_problem(self, signs: "_Signs") -> str | None:
        if signs.csrf != [CSRF_VALUE]:
            return "header"
        return None if self._listed(signs) else "origin"

    def _read_problem(self, signs: "_Signs") -> str | None:
        meant = signs.site == ["same-origin"] or self._listed(signs) or signs.csrf == [CSRF_VALUE]
        return None if meant else "read"

    def _ambient_problem(self, scope: Mapping[str, Any], signs: "_Signs") -> str | None:
        """The proxy's own login is a cookie as a rule, of which we see nothing.

        So identity headers count as ambient wherever a browser says that another site is behind the
        request. A program that sends neither Origin nor Fetch Metadata is no browser.
        """
        if signs.origin:
            here = self._listed(signs) or (
                len(signs.origin) == 1 and self._is_own_origin(scope, signs.origin[0])
            )
            return None if here or signs.site == ["same-origin"] else "site"
        return None if signs.site in ([], ["same-origin"], ["none"]) else "site"

    def _listed(self, signs: "_Signs") -> bool:
        return len(signs.origin) == 1 and signs.origin[0] in self._origins


class _Signs:
    """The headers that tell where a request came from; a repeated one is a list of two, and fits nothing."""

    __slots__ = ("csrf", "origin", "site")

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.csrf: list[str] = []
        self.origin: list[str] = []
        self.site: list[str] = []
        for name, value in headers:
            if name == b"origin":
                self.origin.append(value.decode("latin-1"))
            elif name == b"x-chat-csrf":
                self.csrf.append(value.decode("latin-1").strip())
            elif name == b"sec-fetch-site":
                self.site.append(value.decode("latin-1").strip())
