"""The HTTP client for identity providers: short timeouts, no redirects, bounded responses.

It loads httpx, so modules import it lazily: a broker that sends no request to a provider starts faster.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from chat_broker.auth.provider import BadResponse, NoResponse, NotSent, ProviderResponse

CONNECT_SECONDS = 1.0
TOTAL_SECONDS = 2.0
QUEUE_SECONDS = 1.0
"""The longest wait for a free connection. The rest of `TOTAL_SECONDS` is the provider's."""
MAX_BYTES = 50 * 1024
MAX_CONNECTIONS = 50


@asynccontextmanager
async def open_provider_client(
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator["ProviderClient"]:
    """A client for identity providers, closed with the block. *transport* replaces the network in tests."""
    # httpx logs every URL at INFO, httpcore every header at DEBUG, cookies and tokens included.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    async with httpx.AsyncClient(
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(TOTAL_SECONDS, connect=CONNECT_SECONDS, pool=QUEUE_SECONDS),
        limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=10),
        headers={"accept": "application/json", "accept-encoding": "identity"},
        # All users share the client: a cookie set for one must not be sent for another.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    ) as client:
        yield ProviderClient(client)


class ProviderClient:
    """Sends one request and reads a response of at most 50 KiB, within two seconds."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, url: str, headers: Sequence[tuple[str, str]] = ()) -> ProviderResponse:
        """GET *url*. Raises NoResponse or BadResponse."""
        return await self._send(self._client.build_request("GET", url, headers=list(headers)))

    async def post_form(
        self, url: str, form: Mapping[str, str], headers: Sequence[tuple[str, str]] = ()
    ) -> ProviderResponse:
        """POST *form* to *url*. Raises NoResponse or BadResponse."""
        request = self._client.build_request("POST", url, data=dict(form), headers=list(headers))
        return await self._send(request)

    async def _send(self, request: httpx.Request) -> ProviderResponse:
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
            raise NoResponse(type(error).__name__) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            raise BadResponse(type(error).__name__) from None


async def _read(response: httpx.Response) -> ProviderResponse:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadResponse("the answer is compressed, although none was asked for")
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BYTES:
            raise BadResponse(f"the answer is larger than {MAX_BYTES} bytes")
    return ProviderResponse(
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
