"""The part of `doctor` that checks how users sign in: settings and identity providers."""

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

import httpx

from chat_broker.auth.config import AuthConfig, auth_problems, read_auth
from chat_broker.auth.forward import SessionEndpoint
from chat_broker.auth.http import ProviderClient, open_provider_client
from chat_broker.auth.introspection import IntrospectionEndpoint
from chat_broker.auth.jwt.discovery import discover_endpoint, discovery_url
from chat_broker.auth.jwt.issuers import DISCOVERY, Issuer
from chat_broker.auth.jwt.key_sets import read_key_set
from chat_broker.auth.provider import BadResponse, NoResponse, ProviderResponse
from chat_broker.settings import Settings

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. *mend*: what repairs it, if something is wrong."""

    level: Level
    subject: str
    message: str
    mend: str | None = None


async def diagnose(
    settings: Settings,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    now: Callable[[], float] = time.time,
) -> list[Finding]:
    """Check how users sign in with *settings*. Sends requests. Findings contain no secret."""
    problems = auth_problems(settings)
    if problems:
        return [Finding("error", "settings", problem) for problem in problems]
    config = read_auth(settings)
    findings = list(_of_settings(settings, config))
    if config.needs_http:
        async with open_provider_client(transport) as http:
            doctor = _Doctor(http, now, settings.auth_jwt_leeway)
            asked: dict[str, tuple[str | None, frozenset[str]]] = {}
            for issuer in config.issuers:
                findings += [finding async for finding in doctor.issuer(issuer)]
                asked[issuer.issuer] = issuer.userinfo, issuer.jwks_hosts
            if (endpoint := config.introspection) is not None:
                asked.setdefault(endpoint.issuer, (endpoint.userinfo, endpoint.userinfo_hosts))
            for name, (where, hosts) in asked.items():
                findings += [finding async for finding in doctor.userinfo(name, where, hosts)]
            if config.introspection is not None:
                findings += [
                    finding async for finding in doctor.introspection(config.introspection)
                ]
            if config.forward is not None:
                findings += [finding async for finding in doctor.forward(config.forward)]
    return findings


def _of_settings(settings: Settings, config: AuthConfig) -> Iterator[Finding]:
    if "dev" in settings.auth:
        yield Finding(
            "warning",
            "dev",
            "anybody can sign in as anybody",
            "take dev out of AUTH before others can reach this broker",
        )
    if config.header is not None:
        networks = ", ".join(str(network) for network in settings.auth_header_trusted_proxies)
        yield Finding("ok", "header", f"identity headers are believed from {networks}")
    by_cookie = settings.auth_jwt_cookie or settings.auth_forward_cookies
    if by_cookie and not settings.cors_origins and settings.public_url is None:
        yield Finding(
            "warning",
            "cookies",
            "no origin may use a cookie to change anything",
            "list the frontends' origins in CORS_ORIGINS, or set PUBLIC_URL",
        )
    for issuer in config.issuers:
        if issuer.key is not None:
            algorithms = ", ".join(sorted(issuer.key.algorithms))
            yield Finding("ok", issuer.issuer, f"one configured key, for {algorithms}")


class _Doctor:
    def __init__(self, http: ProviderClient, now: Callable[[], float], leeway: int) -> None:
        self._http = http
        self._now = now
        self._leeway = leeway

    async def issuer(self, issuer: Issuer) -> AsyncIterator[Finding]:
        if issuer.key is not None:
            return
        name, url = issuer.issuer, issuer.jwks_url
        try:
            if url is None:
                url = await discover_endpoint(self._http, name, "jwks_uri", issuer.jwks_hosts)
                yield Finding("ok", name, f"its discovery document names {url}")
        except (NoResponse, BadResponse) as error:
            yield _fault(name, discovery_url(name), error, "check AUTH_JWT_ISSUER")
            return
        try:
            started = time.monotonic()
            answer = await self._http.get(url)
            took = (time.monotonic() - started) * 1000
            if answer.status != 200:
                yield Finding("error", name, f"{url} answers {answer.status}", "check its address")
                return
            keys = read_key_set(answer.json_object(from_file=True), issuer.algorithms)
        except (NoResponse, BadResponse) as error:
            yield _fault(name, url, error, "check AUTH_JWT_JWKS_URL and AUTH_JWT_ALGORITHMS")
            return
        usable = [*keys.by_kid.values(), *keys.without_kid]
        algorithms = sorted({name for key in usable for name in key.algorithms})
        yield Finding("ok", name, f"{len(keys)} keys for {', '.join(algorithms)}, in {took:.0f} ms")
        if skew := self._skew(name, answer):
            yield skew

    async def userinfo(
        self, issuer: str, where: str | None, hosts: frozenset[str]
    ) -> AsyncIterator[Finding]:
        """Whether the userinfo endpoint refuses an invalid token. No valid one is at hand to try."""
        if where is None:
            return
        mend = "check AUTH_JWT_USERINFO"
        try:
            if where == DISCOVERY:
                where = await discover_endpoint(self._http, issuer, "userinfo_endpoint", hosts)
            made_up = f"Bearer {secrets.token_urlsafe(16)}"
            answer = await self._http.get(where, [("authorization", made_up)])
        except (NoResponse, BadResponse) as error:
            yield _fault(issuer, f"its userinfo endpoint ({where})", error, mend)
            return
        if answer.status in {401, 403}:
            yield Finding("ok", issuer, f"{where} refuses a token that nobody issued")
        else:
            text = f"{where} answers {answer.status} to a token that nobody issued, not 401"
            yield Finding("error", issuer, text, mend)

    async def introspection(self, endpoint: IntrospectionEndpoint) -> AsyncIterator[Finding]:
        made_up = secrets.token_urlsafe(16)  # the right answer says that it is not active
        headers = [("authorization", endpoint.authorization())]
        try:
            answer = await self._http.post_form(endpoint.url, {"token": made_up}, headers)
            if answer.status in {401, 403}:
                yield Finding(
                    "error",
                    endpoint.url,
                    f"answers {answer.status}: it refuses the broker itself",
                    "check AUTH_INTROSPECTION_CLIENT_ID and AUTH_INTROSPECTION_CLIENT_SECRET",
                )
            elif answer.status == 200 and answer.json_object().get("active") is False:
                yield Finding("ok", endpoint.url, "knows a token that nobody issued for one")
            else:
                yield Finding(
                    "error",
                    endpoint.url,
                    f"answers {answer.status} about a token that nobody issued, not active: false",
                    "check that AUTH_INTROSPECTION_URL is an RFC 7662 endpoint",
                )
        except (NoResponse, BadResponse) as error:
            yield _fault(endpoint.url, endpoint.url, error, "check AUTH_INTROSPECTION_URL")
            return
        if skew := self._skew(endpoint.url, answer):
            yield skew

    async def forward(self, endpoint: SessionEndpoint) -> AsyncIterator[Finding]:
        try:
            answer = await self._http.get(endpoint.url)
        except (NoResponse, BadResponse) as error:
            yield _fault(endpoint.url, endpoint.url, error, "check AUTH_FORWARD_URL")
            return
        if answer.status in {401, 403}:
            yield Finding("ok", endpoint.url, f"answers {answer.status} to somebody not signed in")
        else:
            yield Finding(
                "error",
                endpoint.url,
                f"answers {answer.status} to somebody not signed in",
                "let it answer 401 then: with anything else chat answers 503 to visitors",
            )
        if skew := self._skew(endpoint.url, answer):
            yield skew

    def _skew(self, subject: str, answer: ProviderResponse) -> Finding | None:
        """Compare the clocks by the `Date` header, which is exact to about two seconds; None without one."""
        skew = seconds_ahead(answer.date, self._now())
        if skew is None:
            return None
        if abs(skew) <= 2:
            return Finding("ok", subject, "its clock and this machine's agree")
        direction = "ahead of" if skew > 0 else "behind"
        level: Level = "error" if abs(skew) > self._leeway else "warning"
        return Finding(
            level,
            subject,
            f"this machine's clock is {abs(skew):.0f} s {direction} the provider's",
            "keep the clock in time (chrony, systemd-timesyncd); AUTH_JWT_LEEWAY covers "
            f"{self._leeway} s",
        )


def seconds_ahead(date: str | None, here: float) -> float | None:
    """Seconds by which the clock that shows *here* is ahead of the `Date` header *date*; None without one."""
    try:
        return here - parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError):
        return None


def _fault(subject: str, url: str, error: Exception, mend: str) -> Finding:
    if isinstance(error, NoResponse):
        return Finding("error", subject, f"{url} does not answer ({error})", mend)
    return Finding("error", subject, f"{url}: {error}", mend)
