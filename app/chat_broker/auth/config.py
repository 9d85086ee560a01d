"""Reads the settings of sign-in into one configuration, or reports every problem."""

from collections.abc import Iterable
from dataclasses import dataclass

from chat_broker.auth.forward import SessionEndpoint
from chat_broker.auth.header import SECRET_HEADER, ProxyHeaders, folded
from chat_broker.auth.introspection import IntrospectionEndpoint
from chat_broker.auth.jwt.issuers import (
    DISCOVERY,
    Issuer,
    read_issuer,
    read_issuer_list,
    userinfo_problem,
)
from chat_broker.auth.principal_from_claims import ClaimNames
from chat_broker.settings import BadSettings, Settings

# Headers of the connection and the body, and the one that would forward every cookie.
NEVER_FORWARDED = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "cookie", "expect", "host"}
    | {"keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """The configuration of each mode; None for a mode that `AUTH` does not name.

    *aliased*: external ids begin with the issuer's alias, because there is more than one issuer.
    """

    names: ClaimNames
    aliased: bool
    issuers: tuple[Issuer, ...] = ()
    introspection: IntrospectionEndpoint | None = None
    forward: SessionEndpoint | None = None
    header: ProxyHeaders | None = None

    @property
    def needs_http(self) -> bool:
        """Whether a mode sends requests to a provider."""
        remote = any(issuer.key is None or issuer.userinfo for issuer in self.issuers)
        return remote or self.introspection is not None or self.forward is not None


def read_auth(settings: Settings) -> AuthConfig:
    """The configuration that *settings* describe. Raises BadSettings with all problems."""
    config, problems = _read(settings)
    if problems:
        raise BadSettings(problems)
    return config


def auth_problems(settings: Settings) -> list[str]:
    """Every problem of the sign-in settings, as `NAME: why`."""
    return _read(settings)[1]


def _read(settings: Settings) -> tuple[AuthConfig, list[str]]:
    problems: list[str] = []
    modes = frozenset(settings.auth)
    issuers: list[Issuer] = []
    if "jwt" in modes:
        issuers, problems = _issuers(settings)
    if "forward" in modes:
        problems += _forward_problems(settings)
    if "header" in modes:
        problems += _header_problems(settings)

    alias_of = {issuer.issuer: issuer.alias for issuer in issuers}
    introspection_issuer = settings.auth_introspection_issuer or settings.auth_jwt_issuer or ""
    if "introspection" in modes:
        alias_of.setdefault(introspection_issuer, "introspection")
        problems += _userinfo_of_introspection(settings, introspection_issuer, issuers)[1]
    other_modes = modes & {"forward", "header", "dev"}
    aliases = set(alias_of.values()) | other_modes
    aliased = len(aliases) > 1
    if len(alias_of) + len(other_modes) > len(aliases):
        problems.append("AUTH_JWT_ISSUERS: an alias must not be the name of another mode of AUTH")

    config = AuthConfig(
        names=ClaimNames(
            id=settings.auth_claim_id,
            username=settings.auth_claim_username,
            name=settings.auth_claim_name,
            email=settings.auth_claim_email,
            avatar=settings.auth_claim_avatar,
        ),
        aliased=aliased,
        issuers=tuple(issuers),
        introspection=_introspection(
            settings, introspection_issuer, alias_of if aliased else {}, issuers
        ),
        forward=_forward(settings, "forward" if aliased else None),
        header=ProxyHeaders(
            settings.auth_header_user, settings.auth_header_name, settings.auth_header_email
        )
        if "header" in modes
        else None,
    )
    return config, problems


def _issuers(settings: Settings) -> tuple[list[Issuer], list[str]]:
    shared = {
        "algorithms": settings.auth_jwt_algorithms,
        "typ": settings.auth_jwt_typ,
        "leeway": settings.auth_jwt_leeway,
        "max_age": settings.auth_jwt_max_age,
        "jwks_hosts": settings.auth_jwt_jwks_hosts,
        "userinfo": settings.auth_jwt_userinfo,
    }
    if settings.auth_jwt_issuers is not None:
        problems = []
        if settings.auth_jwt_issuer is not None:
            problems.append(
                "AUTH_JWT_ISSUERS: and AUTH_JWT_ISSUER are both set: name all in the list"
            )
        if settings.auth_jwt_userinfo not in {None, DISCOVERY}:
            problems.append(
                "AUTH_JWT_USERINFO: one address would be shown the tokens of all of "
                f"AUTH_JWT_ISSUERS: say it in each entry, or {DISCOVERY}"
            )
        text = settings.auth_jwt_issuers.get_secret_value()
        issuers, list_problems = read_issuer_list(text, shared)
        return issuers, problems + list_problems
    secret = settings.auth_jwt_secret
    entry = {
        **shared,
        "alias": "jwt",
        "issuer": settings.auth_jwt_issuer,
        "audience": settings.auth_jwt_audience,
        "jwks_url": settings.auth_jwt_jwks_url,
        "public_key": settings.auth_jwt_public_key,
        "secret": secret.get_secret_value() if secret is not None else None,
    }
    issuer, problems = read_issuer(entry, {name: f"AUTH_JWT_{name.upper()}" for name in entry})
    return ([issuer] if issuer is not None else []), problems


def _userinfo_of_introspection(
    settings: Settings, issuer: str, issuers: Iterable[Issuer]
) -> tuple[str | None, list[str]]:
    """The userinfo endpoint for introspected tokens, as for JWTs of the same issuer, and its problems."""
    if "jwt" in settings.auth:
        return next((each.userinfo for each in issuers if each.issuer == issuer), None), []
    userinfo = settings.auth_jwt_userinfo
    problem = userinfo and userinfo_problem(userinfo, issuer)
    return (None, [f"AUTH_JWT_USERINFO: {problem}"]) if problem else (userinfo, [])


def _introspection(
    settings: Settings, issuer: str, alias_of: dict[str, str], issuers: Iterable[Issuer]
) -> IntrospectionEndpoint | None:
    secret = settings.auth_introspection_client_secret
    if "introspection" not in settings.auth or secret is None:
        return None
    explicit = frozenset(settings.auth_introspection_audience)
    return IntrospectionEndpoint(
        url=settings.auth_introspection_url or "",
        client_id=settings.auth_introspection_client_id or "",
        client_secret=secret.get_secret_value(),
        issuer=issuer,
        alias=alias_of.get(issuer),
        audience=explicit or frozenset(settings.auth_jwt_audience),
        audience_required=bool(explicit),
        cache_seconds=settings.auth_introspection_cache_seconds,
        leeway=settings.auth_jwt_leeway,
        userinfo=_userinfo_of_introspection(settings, issuer, issuers)[0],
        userinfo_hosts=frozenset(settings.auth_jwt_jwks_hosts),
        beside_dev="dev" in settings.auth,
    )


def _forward(settings: Settings, alias: str | None) -> SessionEndpoint | None:
    if "forward" not in settings.auth:
        return None
    return SessionEndpoint(
        url=settings.auth_forward_url or "",
        cookies=settings.auth_forward_cookies,
        headers=settings.auth_forward_headers,
        alias=alias,
        cache_seconds=settings.auth_forward_cache_seconds,
    )


def _forward_problems(settings: Settings) -> Iterable[str]:
    names = {name.lower() for name in settings.auth_forward_headers}
    if bad := sorted(names & NEVER_FORWARDED):
        yield f"AUTH_FORWARD_HEADERS: {', '.join(bad)} cannot be passed on"
    if "authorization" in names and not {"jwt", "introspection", "dev"}.isdisjoint(settings.auth):
        yield "AUTH_FORWARD_HEADERS: Authorization belongs to another mode of AUTH already"


def _header_problems(settings: Settings) -> Iterable[str]:
    names = {
        "AUTH_HEADER_USER": settings.auth_header_user,
        "AUTH_HEADER_NAME": settings.auth_header_name,
        "AUTH_HEADER_EMAIL": settings.auth_header_email,
    }
    seen = {folded(SECRET_HEADER.encode()): SECRET_HEADER}
    for setting, name in names.items():
        if name is None:
            continue
        key = folded(name.encode())
        if key in {"authorization", "cookie", "host", "origin", "x-forwarded-for"}:
            yield f"{setting}: {name} already means something else"
        if key in seen:
            yield f"{setting}: the same header as {seen[key]}"
        seen[key] = setting
    for network in settings.auth_header_trusted_proxies:
        if network.prefixlen == 0:
            yield f"AUTH_HEADER_TRUSTED_PROXIES: {network} is everybody"
