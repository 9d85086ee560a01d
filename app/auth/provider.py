"""HTTP to an identity provider: short deadlines, no redirects, small answers, strict JSON."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx

from app.auth.strict_object import BadJson, parse_object

CONNECT_SECONDS = 1.0
TOTAL_SECONDS = 2.0
MAX_BYTES = 50 * 1024
MAX_CONNECTIONS = 50
GATEWAY_ERRORS = frozenset({502, 503, 504})

METADATA_HOSTS = frozenset({"metadata.google.internal", "metadata", "instance-data"})


class NoAnswer(Exception):  # noqa: N818 - named for what happened
    """The provider could not be reached, was too slow, or hung up."""


class BadAnswer(Exception):  # noqa: N818 - named for what happened
    """The provider answered, but not what it should. The text names the fault, never the content."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer of at most 50 KiB."""

    status: int
    content_type: str
    max_age: int | None
    date: str | None
    body: bytes

    def json_object(self) -> dict[str, Any]:
        """The JSON object in the body; BadAnswer if it is labelled or shaped otherwise."""
        kind = self.content_type.partition(";")[0].strip().lower()
        if kind != "application/json" and not (
            kind.startswith("application/") and kind.endswith("+json")
        ):
            raise BadAnswer("the answer is not JSON")
        try:
            return parse_object(self.body)
        except BadJson:
            raise BadAnswer("the answer is not a well-formed JSON object") from None


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
        timeout=httpx.Timeout(TOTAL_SECONDS, connect=CONNECT_SECONDS),
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


def url_problem(url: str) -> str | None:
    """Why *url* must not be asked, or None: https, or plain http on loopback; no user, no fragment."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return "is not a URL"
    if not host or parts.scheme not in {"http", "https"} or url != url.strip():
        return "is not an http or https URL"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "is not a plain ASCII URL"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password"
    if parts.fragment or url.endswith("#"):
        return "must not have a fragment"
    if parts.scheme == "http" and not is_loopback(host):
        return "must be https (plain http is accepted on loopback only)"
    return None


def is_loopback(host: str) -> bool:
    """Whether *host* can only be this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_link_local(host: str) -> bool:
    """Whether *host* is where clouds keep machine credentials: a link-local or metadata address."""
    if host.rstrip(".") in METADATA_HOSTS:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_link_local or mapped.is_unspecified or mapped.is_multicast)
