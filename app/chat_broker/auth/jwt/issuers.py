"""Which issuers are trusted, read from the settings with every problem named."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chat_broker.auth.jwt.claims import Expected
from chat_broker.auth.jwt.keys import (
    FAMILIES,
    PUBLIC_KEY_ALGORITHMS,
    Key,
    UnusableKey,
    key_from_pem,
    key_from_secret,
)
from chat_broker.auth.provider import url_problem

MAX_LEEWAY = 120
DISCOVERY = "discovery"

_ALIAS = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)
_ENTRY = frozenset(
    {"alias", "issuer", "audience", "jwks_url", "jwks_hosts", "public_key", "secret"}
    | {"algorithms", "typ", "leeway", "max_age", "userinfo"}
)


@dataclass(frozen=True, slots=True)
class Issuer:
    """One trusted issuer: what its tokens must say, and how its keys are found.

    `key` is a configured key; without one the keys are published, at `jwks_url` or where discovery
    says. `algorithms` None: each published key serves its own one. `userinfo`: where to ask for claims that tokens
    lack; "discovery" if its discovery document says.
    """

    alias: str
    expected: Expected
    key: Key | None = None
    jwks_url: str | None = None
    jwks_hosts: frozenset[str] = frozenset()
    algorithms: frozenset[str] | None = None
    acceptable: frozenset[str] = field(default=PUBLIC_KEY_ALGORITHMS)
    userinfo: str | None = None

    @property
    def issuer(self) -> str:
        """The exact `iss`."""
        return self.expected.issuer


def read_issuer(
    entry: Mapping[str, Any], where: Mapping[str, str]
) -> tuple[Issuer | None, list[str]]:
    """The issuer of *entry* (keys as in AUTH_JWT_ISSUERS), or None with all its problems.

    *where* says under which setting's name a problem of a key is reported.
    """
    problems: list[str] = []

    def complain(key: str, problem: str) -> None:
        problems.append(f"{where.get(key, key)}: {problem}")

    for unknown in sorted(set(entry) - _ENTRY):
        complain(unknown, "is not known")
    alias, issuer = entry.get("alias"), entry.get("issuer")
    if not isinstance(alias, str) or not _ALIAS.fullmatch(alias):
        complain("alias", "must be 1 to 32 of a-z, 0-9 and -")
    if not isinstance(issuer, str) or not issuer:
        complain("issuer", "is required")
        issuer = None
    audience = _names(entry.get("audience"))
    if not audience:
        complain("audience", "is required")
    for name in ("jwks_url",):
        url = entry.get(name)
        if url and (problem := url_problem(str(url))):
            complain(name, problem)
    sources = [name for name in ("jwks_url", "public_key", "secret") if entry.get(name)]
    if len(sources) > 1:
        complain(
            sources[0], f"and {where.get(sources[1], sources[1])} are both set; which one holds?"
        )
    if not sources and issuer is not None and (problem := url_problem(issuer)):
        complain("issuer", f"{problem}, so its keys cannot be discovered: say where they are")

    algorithms = frozenset(_names(entry.get("algorithms"))) or None
    family = "oct" if entry.get("secret") else None
    if algorithms is not None:
        problem, family = _family_problem(algorithms, secret=family == "oct")
        if problem:
            complain("algorithms", problem)
    key = _configured_key(entry, algorithms, complain)

    leeway, max_age = entry.get("leeway", 30), entry.get("max_age")
    if type(leeway) is not int or not 0 <= leeway <= MAX_LEEWAY:
        complain("leeway", f"must be 0 to {MAX_LEEWAY} seconds")
    if max_age is not None and (type(max_age) is not int or max_age <= 0):
        complain("max_age", "must be a positive number of seconds")
    typ = entry.get("typ")
    if typ is not None and not isinstance(typ, str):
        complain("typ", "must be a string")
    userinfo = entry.get("userinfo") or None
    if userinfo is not None and (problem := userinfo_problem(userinfo, issuer)):
        complain("userinfo", problem)
    if problems:
        return None, problems
    acceptable = key.algorithms if key else algorithms or PUBLIC_KEY_ALGORITHMS
    expected = Expected(issuer or "", frozenset(audience), leeway, typ or None, max_age)
    hosts = frozenset(name.lower() for name in _names(entry.get("jwks_hosts")))
    url = entry.get("jwks_url")
    return Issuer(
        str(alias), expected, key, url or None, hosts, algorithms, acceptable, userinfo
    ), []


def userinfo_problem(userinfo: object, issuer: str | None) -> str | None:
    """Why *issuer*'s tokens must not, or cannot, be shown to *userinfo* (an address, or "discovery"); or None."""
    if userinfo == DISCOVERY:
        problem = url_problem(issuer) if issuer is not None else None
        return problem and f"cannot be discovered, because the issuer {problem}: say its address"
    if not isinstance(userinfo, str):
        return f"must be an address, or {DISCOVERY}"
    return url_problem(userinfo)


def _names(value: object) -> list[str]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, list | tuple | set | frozenset):
        return [str(part) for part in value if part]
    return []


def _family_problem(algorithms: frozenset[str], *, secret: bool) -> tuple[str | None, str | None]:
    """One family an issuer (RFC 8725 section 3.1): a key must never be taken for one of another kind."""
    families = {
        family for family, members in FAMILIES.items() if not members.isdisjoint(algorithms)
    }
    known = frozenset().union(*FAMILIES.values())
    if unknown := sorted(algorithms - known):
        return f"names {', '.join(unknown)}, which is not supported", None
    if len(families) > 1:
        return "mixes families: choose HS256, or RS and PS, or ES, or EdDSA", None
    family = families.pop()
    if secret != (family == "oct"):
        return "does not fit the key: HS256 goes with a secret, and only with one", None
    return None, family


def _configured_key(
    entry: Mapping[str, Any], algorithms: frozenset[str] | None, complain: Any
) -> Key | None:
    name = "secret" if entry.get("secret") else "public_key"
    value = entry.get(name)
    if not value:
        return None
    try:
        if name == "secret":
            return key_from_secret(str(value).encode())
        key = key_from_pem(str(value)).narrowed(algorithms)
    except UnusableKey as error:
        complain(name, f"cannot be used: {error}")
        return None
    if key is None:
        complain("algorithms", "does not fit the key")
    return key


def read_issuer_list(text: str, defaults: Mapping[str, Any]) -> tuple[list[Issuer], list[str]]:
    """The issuers of AUTH_JWT_ISSUERS, a JSON list of objects, and all its problems."""
    try:
        entries = json.loads(text)
    except ValueError:
        return [], ["AUTH_JWT_ISSUERS: is not JSON"]
    if not isinstance(entries, list) or not entries:
        return [], ["AUTH_JWT_ISSUERS: must be a list of at least one object"]
    issuers: list[Issuer] = []
    problems: list[str] = []
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            problems.append(f"AUTH_JWT_ISSUERS[{position}]: must be an object")
            continue
        where = {name: f"AUTH_JWT_ISSUERS[{position}].{name}" for name in (*_ENTRY, *entry)}
        issuer, found = read_issuer({**defaults, **entry}, where)
        problems += found
        if issuer is not None:
            issuers.append(issuer)
    for what in ("alias", "issuer"):
        named = [getattr(issuer, what) for issuer in issuers]
        if len(set(named)) != len(named):
            problems.append(f"AUTH_JWT_ISSUERS: has two entries of the same {what}")
    return issuers, problems
