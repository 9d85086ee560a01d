"""The types of settings: each reads a value as operators write it, and refuses values that cannot be used."""

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from chat_broker.settings.addresses import provider_address
from chat_broker_kit.http.origins import read_address
from chat_broker_kit.setting_values import lower, split

AuthMode = Literal["jwt", "introspection", "forward", "header", "dev"]
Feature = Literal[
    "changes", "sync", "mine", "direct", "external_rooms", "roles", "replies", "mentions", "reactions",
    "pins", "receipts", "presence", "signals", "threads", "attachments", "search", "invites", "versions",
    "blocks", "directory", "moderation", "push", "retention", "erasure", "import",
]  # fmt: skip
UserField = Literal["external_user_id", "metadata"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

OWN_PATHS = (
    "/admin",
    "/dev",
    "/docs",
    "/healthz",
    "/metrics",
    "/openapi.json",
    "/readyz",
    "/socket.io",
    "/.well-known",
)


_RATE = re.compile(r"\s*([0-9]+)\s*(?:/|per)\s*([0-9]*)\s*([a-z]+)\s*", re.IGNORECASE)
_DAY = 86_400
_PERIODS = {
    "second": 1,
    "minute": 60,
    "hour": 3_600,
    "day": _DAY,
    "month": 30 * _DAY,
    "year": 360 * _DAY,
}


def read_rates(notation: str) -> list[tuple[int, int]]:
    """Amount and period in seconds of each rate in *notation*: `30/minute`, `100 per 2 hours`, separated by `;`.

    This is the notation of the `limits` library. Raises ValueError for any other.
    """
    rates = []
    for part in re.split(r"[,;|]", notation):
        match = _RATE.fullmatch(part)
        if match is None:
            raise ValueError(f"couldn't parse rate limit string '{notation}'")
        amount, times, unit = match.groups()
        period = _PERIODS.get(unit.lower()) or _PERIODS.get(unit.lower().removesuffix("s"))
        if period is None:
            raise ValueError(f"no granularity matched for {unit}")
        rates.append((int(amount), period * (int(times or 1) or 1)))
    return rates


def _rate(value: str) -> str:
    read_rates(value)
    return value


def _network(value: object) -> object:
    return ipaddress.ip_network(value, strict=False) if isinstance(value, str) else value


def _address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an http(s) address without query or fragment")
    if "@" in parts.netloc:
        raise ValueError("must not hold user information")
    if read_address(f"{parts.scheme}://{parts.netloc}") is None:
        raise ValueError("must have a host (in ASCII) and, if any, a port that exist")
    return value.rstrip("/")


def _prefix(value: str) -> str:
    if not re.fullmatch(r"(?:/[A-Za-z0-9_-]+)+", value):
        raise ValueError("must look like /chat or /api/chat")
    if any(value == path or value.startswith(path + "/") for path in OWN_PATHS):
        raise ValueError("is taken by another route of the broker")
    return value


def _userinfo(value: str | None) -> str | None:
    if value is None or value.lower() in {"off", "false", "no", "0"}:
        return None
    if value.lower() in {"discovery", "on", "true", "yes", "1"}:
        return "discovery"
    return provider_address(value)


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split)]
Rate = Annotated[str, AfterValidator(_rate)]
Networks = Annotated[
    tuple[Annotated[Network, BeforeValidator(_network)], ...], NoDecode, BeforeValidator(split)
]
Url = Annotated[str, AfterValidator(_address)]
ProviderUrl = Annotated[str, AfterValidator(provider_address)]
Port = Annotated[int, Field(ge=1, le=65535)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
CookieName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")]
AuthModes = Annotated[
    tuple[Annotated[AuthMode, BeforeValidator(lower)], ...], NoDecode, BeforeValidator(split)
]
Environment = Annotated[Literal["production", "development"], BeforeValidator(lower)]
RoutePrefix = Annotated[str, AfterValidator(_prefix)]
Features = Annotated[tuple[Feature, ...], NoDecode, BeforeValidator(split)]
UserFields = Annotated[tuple[UserField, ...], NoDecode, BeforeValidator(split)]
UserinfoSource = Annotated[str | None, AfterValidator(_userinfo)]
