"""Finds an issuer's endpoints in its OpenID Connect discovery document."""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chat_broker.auth.provider import BadResponse, is_link_local, url_problem

if TYPE_CHECKING:  # it loads httpx
    from chat_broker.auth.http import ProviderClient

WELL_KNOWN = "/.well-known/openid-configuration"


def discovery_url(issuer: str) -> str:
    """The address of the issuer's discovery document (OpenID Connect Discovery 1.0 section 4)."""
    return issuer.removesuffix("/") + WELL_KNOWN


@dataclass(slots=True)
class Endpoint:
    """The URL of one endpoint of an issuer: configured, or discovered and cached until `forget`."""

    http: "ProviderClient"
    issuer: str
    member: str
    configured: str | None
    allowed_hosts: frozenset[str]
    discovered: str | None = None

    async def url(self) -> str:
        """Raises NoResponse or BadResponse if the URL must be discovered and cannot be."""
        if url := self.configured or self.discovered:
            return url
        url = await discover_endpoint(self.http, self.issuer, self.member, self.allowed_hosts)
        self.discovered = url
        return url

    def forget(self) -> None:
        """Discover the URL again next time, because the endpoint may have moved."""
        self.discovered = None


async def discover_endpoint(
    http: "ProviderClient", issuer: str, member: str, allowed_hosts: frozenset[str]
) -> str:
    """The URL in *member* of the issuer's document, for example `jwks_uri`.

    It must have the issuer's origin (scheme, host and port), or one of *allowed_hosts*.
    Raises NoResponse or BadResponse.
    """
    response = await http.get(discovery_url(issuer))
    if response.status != 200:
        raise BadResponse(f"the discovery document answers {response.status}")
    document = response.json_object(from_file=True)
    if document.get("issuer") != issuer:
        raise BadResponse("the discovery document is another issuer's")
    url = document.get(member)
    if not isinstance(url, str):
        raise BadResponse(f"the discovery document names no {member}")
    if problem := url_problem(url):
        raise BadResponse(f"the {member} of the discovery document {problem}")
    parts = urlsplit(url)
    if is_link_local(parts.hostname or ""):
        raise BadResponse(f"the {member} of the discovery document is a link-local address")
    same_origin = _origin(url) == _origin(issuer)
    if not same_origin and not {parts.hostname, parts.netloc.lower()} & allowed_hosts:
        raise BadResponse(
            f"the {member} of the discovery document is on another host than the issuer "
            "(AUTH_JWT_JWKS_HOSTS would allow it)"
        )
    return url


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
