"""What an identity provider may be asked at, and how its answers are read: https, small, strict JSON."""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from chat_broker_kit.strict_json import NotStrictJson, parse_object

GATEWAY_ERRORS = frozenset({502, 503, 504})

FILE_TYPES = frozenset(
    {"", "text/plain", "text/json", "application/octet-stream", "binary/octet-stream"}
)

METADATA_HOSTS = frozenset({"metadata.google.internal", "metadata", "instance-data"})


class NoAnswer(Exception):  # noqa: N818 - named for what happened
    """The provider could not be reached, was too slow, or hung up."""


class NotSent(NoAnswer):
    """All our connections were in use: this says nothing of the provider."""


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

    def json_object(self, *, from_a_file: bool = False) -> dict[str, Any]:
        """The JSON object in the body; BadAnswer if it is labelled or shaped otherwise.

        *from_a_file*: it may lie on a plain file server, which labels it as it labels files without an ending.
        """
        kind = self.content_type.partition(";")[0].strip().lower()
        is_json = kind == "application/json" or (
            kind.startswith("application/") and kind.endswith("+json")
        )
        if not is_json and not (from_a_file and kind in FILE_TYPES):
            raise BadAnswer("the answer is not JSON")
        try:
            return parse_object(self.body, unstored=True)
        except NotStrictJson:
            raise BadAnswer("the answer is not a well-formed JSON object") from None


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
