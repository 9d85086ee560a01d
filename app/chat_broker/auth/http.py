"""HTTP to an identity provider: short deadlines, no redirects, small answers.

Loads httpx, so it is imported by those who ask a provider, and not by every broker that starts.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from chat_broker.auth.provider import Answer, BadAnswer, NoAnswer, NotSent

CONNECT_SECONDS = 1.0
TOTAL_SECONDS = 2.0
QUEUE_SECONDS = 1.0
"""For a free connection. The rest is a fair time for the provider."""
MAX_BYTES = 50 * 1024
MAX_CONNECTIONS = 50


@asynccontextmanager
async def open_http(transport: httpx.AsyncBaseTransport | None = None) -> AsyncIterator["Http"]:
    """A client for identity providers, closed at the end. *transport* stands in for the network."""
    # httpx writes every URL at INFO, httpcore every header at DEBUG: cookies and tokens among them.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    async with httpx.AsyncClient(
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(TOTAL_SECONDS, connect=CONNECT_SECONDS, pool=QUEUE_SECONDS),
        limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=10),
        headers={"accept": "application/json", "accept-encoding": "identity"},
        # The client serves all users: what an answer sets must never travel with another's question.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    ) as client:
        yield Http(client)


class Http:
    """One request, one bounded answer, two seconds."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, url: str, headers: Sequence[tuple[str, str]] = ()) -> Answer:
        """GET *url*. Raises NoAnswer or BadAnswer."""
        return await self._send(self._client.build_request("GET", url, headers=list(headers)))

    async def post_form(
        self, url: str, form: Mapping[str, str], headers: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """POST *form* to *url*. Raises NoAnswer or BadAnswer."""
        request = self._client.build_request("POST", url, data=dict(form), headers=list(headers))
        return await self._send(request)

    async def _send(self, request: httpx.Request) -> Answer:
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                response = await self._client.send(request, stream=True)
                try:
                    return await _read(response)
                finally:
                    await response.aclose()
        except httpx.PoolTimeout:
            raise NotSent("all connections are in use") from None
        except (httpx.TransportError, TimeoutError) as error:
            raise NoAnswer(type(error).__name__) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            raise BadAnswer(type(error).__name__) from None


async def _read(response: httpx.Response) -> Answer:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadAnswer("the answer is compressed, although none was asked for")
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BYTES:
            raise BadAnswer(f"the answer is larger than {MAX_BYTES} bytes")
    return Answer(
        status=response.status_code,
        content_type=response.headers.get("content-type", ""),
        max_age=_max_age(response.headers.get("cache-control", "")),
        date=response.headers.get("date"),
        body=bytes(body),
    )


def _max_age(cache_control: str) -> int | None:
    for directive in cache_control.lower().split(","):
        name, _, value = directive.strip().partition("=")
        if name in {"no-store", "no-cache"}:
            return 0
        if name == "max-age" and value.isascii() and value.isdigit() and len(value) < 10:
            return int(value)
    return None
