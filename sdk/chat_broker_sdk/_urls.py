"""Builds and checks all URLs. Pure functions."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, quote_plus, urlsplit

from ._errors import ConfigurationError, ValidationError

HOSTED_URL = "https://chat-server-psq1.onrender.com"
"""The public Chat API. Used only when passed: `base_url=chat_broker_sdk.HOSTED_URL`."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FIXED_PATH = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_HOST = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_EXTERNAL_ROOM = r"external:[A-Za-z0-9._:@~-]{1,128}"
_ROOM = re.compile(f"{_ID.pattern}|{_EXTERNAL_ROOM}")
# Escaped, without what would be another path when unescaped: controls, space, `%`, `.`, `/` and `\`.
_EMOJI = r"(?=[^/?]*%)(?![^/?]*%(?:[01]|2[05EF]|5C|7F))(?:[A-Za-z0-9_~-]|%[0-9A-F]{2}){2,64}"
_EMOJI_SEGMENT = re.compile(_EMOJI)
_SEGMENT = rf"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*|{_EXTERNAL_ROOM}|{_EMOJI})"
_PATH_AND_QUERY = re.compile(rf"(?:/{_SEGMENT})+(?:\?[A-Za-z0-9_.~%=&+-]+)?")

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
        """Scheme, host and port for messages; the port also where it is the default."""
        if re.search(r":[0-9]+$", self.origin):
            return self.origin
        return f"{self.origin}:{443 if self.origin.startswith('https:') else 80}"


def base_url(text: str, *, allow_http: bool = False) -> BaseUrl:
    """The checked address of a server. Raises ConfigurationError (`bad_base_url`).

    Accepts https, and http to hosts that are not public: a loopback address, `localhost` and names under it, or
    a name without a dot (a Compose or Kubernetes service, which public DNS does not resolve). Other hosts over
    http need *allow_http*. User information, query and fragment are refused.
    """

    def refuse(why: str) -> ConfigurationError:
        # Does not quote the address, which may hold a password.
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
    is_address = _ip_address(host) is not None
    if not (is_address or (len(host) <= 253 and _HOST.fullmatch(host) and not host[-1].isdigit())):
        raise refuse("has no valid host name")
    if parts.netloc.endswith(":"):
        raise refuse("has an empty port")
    path = parts.path.rstrip("/")
    if not _FIXED_PATH.fullmatch(path):
        raise refuse("has a path with other than plain segments")
    if parts.scheme == "http" and not allow_http and not _is_not_public(host):
        raise refuse("is plain http to a public host; use https, or say allow_http=True")
    shown = f"[{host}]" if ":" in host else host
    return BaseUrl(f"{parts.scheme}://{shown}" + (f":{port}" if port else ""), path)


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_not_public(host: str) -> bool:
    address = _ip_address(host)
    if address is not None:
        return address.is_loopback
    # A name without a dot must start with a letter: `134744072` is another spelling of 8.8.8.8.
    return (
        host == "localhost"
        or host.endswith(".localhost")
        or ("." not in host and host[0].isalpha())
    )


def checked_id(value: object, name: str) -> str:
    """*value*, if it is a single path segment. Raises ValidationError (`bad_id`)."""
    if isinstance(value, str) and _is_id(value):
        return value
    raise ValidationError(
        f"{name} is not an id: 1 to 64 characters of A-Z, a-z, 0-9, _ and - are",
        code="bad_id",
    )


def checked_room(value: object) -> str:
    """*value*, if it is the id of a room, or `external:` and the app's own. Raises ValidationError (`bad_id`)."""
    if isinstance(value, str) and _is_room(value):
        return value
    raise ValidationError(
        "room_id is not an id: 1 to 64 characters of A-Z, a-z, 0-9, _ and - are, and external: with 1 to 128"
        " of these and . : @ ~",
        code="bad_id",
    )


@lru_cache(maxsize=4096)
def _is_room(text: str) -> bool:
    return _ROOM.fullmatch(text) is not None


def emoji_segment(value: object) -> str:
    """*value* as a path segment, if it may be one emoji or `:name:`. Raises ValidationError (`bad_emoji`).

    Whether it is one the server decides.
    """
    if isinstance(value, str):
        try:
            segment = quote(value, safe="")
        except UnicodeEncodeError:  # half a surrogate pair
            segment = ""
        if _EMOJI_SEGMENT.fullmatch(segment):
            return segment
    raise ValidationError(
        "emoji is neither one emoji nor a name between colons, of at most 64 bytes",
        code="bad_emoji",
    )


@lru_cache(maxsize=4096)
def _is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def url(base: BaseUrl, path: str, query: Query | None = None) -> str:
    """The URL of *path* (checked ids and the dialect's constants) on *base*.

    The last check before a request is sent: raises ValidationError for anything but plain segments and a query.
    """
    tail = path
    if query:
        pairs = [
            f"{name}={_query_value(value)}" for name, value in query.items() if value is not None
        ]
        if pairs:
            tail = f"{path}?{'&'.join(pairs)}"
    if not _is_plain(tail):
        raise ValidationError("The call does not make a plain path", code="bad_path")
    return f"{base.origin}{base.path}{tail}"


@lru_cache(maxsize=4096)
def _is_plain(tail: str) -> bool:
    return _PATH_AND_QUERY.fullmatch(tail) is not None


def _query_value(value: str | int | bool) -> str:
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
