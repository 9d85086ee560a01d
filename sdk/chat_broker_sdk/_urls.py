"""The one place where URLs are made. Pure."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote_plus, urlsplit

from ._errors import ConfigurationError, ValidationError

HOSTED_URL = "https://chat-server-psq1.onrender.com"
"""The public Chat API; used only where it is named: `base_url=chat_broker_sdk.HOSTED_URL`."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FIXED_PATH = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_HOST = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_FINAL_TAIL = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+(?:\?[A-Za-z0-9_.~%=&+-]+)?")

Query = Mapping[str, str | int | bool | None]


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A checked server address: *origin* (scheme, host, port) and a fixed *path*, without a trailing slash."""

    origin: str
    path: str = ""

    def __str__(self) -> str:
        return self.origin + self.path

    @property
    def address(self) -> str:
        """Scheme, host and port, for messages: each of them may be the wrong one."""
        if re.search(r":[0-9]+$", self.origin):
            return self.origin
        return f"{self.origin}:{443 if self.origin.startswith('https:') else 80}"


def base_url(text: str, *, allow_http: bool = False) -> BaseUrl:
    """Check a server's address; raises ConfigurationError.

    https, or http to where the network is the machine's own: a loopback address, `localhost` and names
    under it, or a name without a dot (a Compose or Kubernetes service name, which no public DNS
    resolves). Everything else over http needs *allow_http*. No user information, query or fragment.
    """

    def refuse(why: str) -> ConfigurationError:
        # The address is not repeated: it may hold a password.
        return ConfigurationError(f"The base URL {why}", code="bad_base_url")

    if not text:
        raise refuse("is empty")
    if any(character <= " " or character in '\\"<>^`{|}' or character > "~" for character in text):
        raise refuse("has characters that no address has")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = None, None
    if parts is None or port == 0:
        raise refuse("is no URL")
    if parts.scheme not in {"http", "https"}:
        raise refuse("does not start with https:// or http://")
    if "@" in parts.netloc:
        raise refuse("holds user information; pass credentials as api_key or jwt_token")
    if "?" in text or "#" in text:
        raise refuse("holds a query or a fragment")
    host = parts.hostname or ""
    is_address = _address(host) is not None
    if not (is_address or (len(host) <= 253 and _HOST.fullmatch(host) and not host[-1].isdigit())):
        raise refuse("has no valid host name")
    if parts.netloc.endswith(":"):
        raise refuse("has an empty port")
    path = parts.path.rstrip("/")
    if not _FIXED_PATH.fullmatch(path):
        raise refuse("has a path with other than plain segments")
    if parts.scheme == "http" and not allow_http and not _stays_inside(host):
        raise refuse("is plain http to a public host; use https, or say allow_http=True")
    shown = f"[{host}]" if ":" in host else host
    return BaseUrl(f"{parts.scheme}://{shown}" + (f":{port}" if port else ""), path)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _stays_inside(host: str) -> bool:
    address = _address(host)
    if address is not None:
        return address.is_loopback
    # A dotless name starts with a letter here: `134744072` is another spelling of 8.8.8.8.
    return (
        host == "localhost"
        or host.endswith(".localhost")
        or ("." not in host and host[0].isalpha())
    )


def checked_id(value: object, name: str) -> str:
    """*value* if it can be one path segment and nothing else; raises ValidationError before anything is sent."""
    if isinstance(value, str) and _is_id(value):
        return value
    raise ValidationError(
        f"{name} is not an id: 1 to 64 characters of A-Z, a-z, 0-9, _ and - are",
        code="bad_id",
    )


@lru_cache(maxsize=4096)
def _is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def url(base: BaseUrl, path: str, query: Query | None = None) -> str:
    """The address of *path* (made of checked ids and the dialect's constants) on *base*.

    The last look at what leaves: host and path must be what was asked for, whatever happened before.
    """
    tail = path
    if query:
        pairs = [f"{name}={_value(value)}" for name, value in query.items() if value is not None]
        if pairs:
            tail = f"{path}?{'&'.join(pairs)}"
    if not _is_plain(tail):
        raise ValidationError("The call does not make a plain path", code="bad_path")
    return f"{base.origin}{base.path}{tail}"


@lru_cache(maxsize=4096)
def _is_plain(tail: str) -> bool:
    """Is it segments and a query, and nothing that leads elsewhere? Calls go to the same few places again and again."""
    return _FINAL_TAIL.fullmatch(tail) is not None


def _value(value: str | int | bool) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        try:
            return quote_plus(value, safe="")
        except UnicodeEncodeError:
            pass
        raise ValidationError("A filter holds half a surrogate pair", code="bad_request")
    return str(int(value))
