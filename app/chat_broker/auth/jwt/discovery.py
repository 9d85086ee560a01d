"""Where an issuer has its keys and endpoints, by its OpenID Connect discovery document."""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chat_broker.auth.provider import BadAnswer, is_link_local, url_problem

if TYPE_CHECKING:  # it loads httpx
    from chat_broker.auth.http import Http

WELL_KNOWN = "/.well-known/openid-configuration"


def discovery_url(issuer: str) -> str:
    """The address of the issuer's discovery document (OpenID Connect Discovery 1.0 section 4)."""
    return issuer.removesuffix("/") + WELL_KNOWN


async def discover_endpoint(
    http: "Http", issuer: str, member: str, allowed_hosts: frozenset[str]
) -> str:
    """The address under *member* of the issuer's document, for example `jwks_uri`.

    It must be where the issuer is (same scheme, host and port), or on one of *allowed_hosts*.
    Raises NoAnswer or BadAnswer.
    """
    answer = await http.get(discovery_url(issuer))
    if answer.status != 200:
        raise BadAnswer(f"the discovery document answers {answer.status}")
    document = answer.json_object(from_a_file=True)
    if document.get("issuer") != issuer:
        raise BadAnswer("the discovery document is another issuer's")
    url = document.get(member)
    if not isinstance(url, str):
        raise BadAnswer(f"the discovery document names no {member}")
    if problem := url_problem(url):
        raise BadAnswer(f"the {member} of the discovery document {problem}")
    parts = urlsplit(url)
    if is_link_local(parts.hostname or ""):
        raise BadAnswer(f"the {member} of the discovery document is a link-local address")
    at_home = _origin(url) == _origin(issuer)
    if not at_home and not {parts.hostname, parts.netloc.lower()} & allowed_hosts:
        raise BadAnswer(
            f"the {member} of the discovery document is on another host than the issuer "
            "(AUTH_JWT_JWKS_HOSTS would allow it)"
        )
    return url


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
