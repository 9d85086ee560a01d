"""Responses of identity providers as strict JSON, and which URLs may be requested."""

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


class NoResponse(Exception):  # noqa: N818 - named for what happened
    """The provider could not be reached, was too slow, or closed the connection."""


class NotSent(NoResponse):
    """All connections were in use, so no request was sent. The provider may be well."""


class BadResponse(Exception):  # noqa: N818 - named for what happened
    """The provider's response cannot be used. The message names the fault, never the content."""


@dataclass(frozen=True, slots=True)
class ProviderResponse:
    """A complete response of at most 50 KiB. *max_age* is in seconds, from `Cache-Control`."""

    status: int
    content_type: str
    max_age: int | None
    date: str | None
    body: bytes

    def json_object(self, *, from_file: bool = False) -> dict[str, Any]:
        """The JSON object in the body. Raises BadResponse for another media type or a malformed body.

        *from_file* also accepts the media types that file servers give to files without an extension.
        """
        kind = self.content_type.partition(";")[0].strip().lower()
        is_json = kind == "application/json" or (
            kind.startswith("application/") and kind.endswith("+json")
        )
        if not is_json and not (from_file and kind in FILE_TYPES):
            raise BadResponse("the answer is not JSON")
        try:
            return parse_object(self.body, unstored=True)
        except NotStrictJson:
            raise BadResponse("the answer is not a well-formed JSON object") from None


def url_problem(url: str) -> str | None:
    """Why *url* must not be requested; None if it may. It must be https, or http on loopback."""
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
    """Whether *host* is a loopback address or a name that always resolves to one."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_link_local(host: str) -> bool:
    """Whether *host* is a link-local or metadata address, where clouds serve machine credentials."""
    if host.rstrip(".") in METADATA_HOSTS:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_link_local or mapped.is_unspecified or mapped.is_multicast)
