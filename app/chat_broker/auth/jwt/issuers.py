"""Reads the trusted issuers from the settings, and reports every problem."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
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
_MEMBERS = frozenset(
    {"alias", "issuer", "audience", "jwks_url", "jwks_hosts", "public_key", "secret"}
    | {"algorithms", "typ", "leeway", "max_age", "userinfo"}
)


@dataclass(frozen=True, slots=True)
class Issuer:
    """One trusted issuer: the claims its tokens must have, and its keys.

    `key` is a configured key; without one, the keys are published at `jwks_url` or where the discovery
    document says. `algorithms` None: the default one of each published key. `userinfo`: the endpoint
    for claims that tokens lack, or "discovery".
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
        return self.expected.issuer


def read_issuer(
    entry: Mapping[str, Any], where: Mapping[str, str]
) -> tuple[Issuer | None, list[str]]:
    """The issuer of *entry* (members as in AUTH_JWT_ISSUERS), or None and all its problems.

    *where* maps a member to the name of the setting that a problem is reported under.
    """
    problems: list[str] = []

    def report(member: str, problem: str | None) -> None:
        if problem:
            problems.append(f"{where.get(member, member)}: {problem}")

    for unknown in sorted(set(entry) - _MEMBERS):
        report(unknown, "is not known")
    for member, problem in _claim_problems(entry):
        report(member, problem)
    for member, problem in _source_problems(entry, where):
        report(member, problem)
    algorithms = frozenset(_names(entry.get("algorithms"))) or None
    if algorithms is not None:
        report("algorithms", _family_problem(algorithms, secret=bool(entry.get("secret"))))
    key = _configured_key(entry, algorithms, report)
    userinfo, issuer_name = entry.get("userinfo") or None, entry.get("issuer")
    if userinfo is not None:
        has_issuer = isinstance(issuer_name, str) and issuer_name
        report("userinfo", userinfo_problem(userinfo, issuer_name if has_issuer else None))
    if problems:
        return None, problems
    expected = Expected(
        entry["issuer"],
        frozenset(_names(entry["audience"])),
        entry.get("leeway", 30),
        entry.get("typ") or None,
        entry.get("max_age"),
    )
    issuer = Issuer(
        entry["alias"],
        expected,
        key,
        entry.get("jwks_url") or None,
        frozenset(name.lower() for name in _names(entry.get("jwks_hosts"))),
        algorithms,
        key.algorithms if key else algorithms or PUBLIC_KEY_ALGORITHMS,
        userinfo,
    )
    return issuer, []


def _claim_problems(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Problems of the alias and of the claims that tokens must have."""
    alias, issuer = entry.get("alias"), entry.get("issuer")
    if not isinstance(alias, str) or not _ALIAS.fullmatch(alias):
        yield "alias", "must be 1 to 32 of a-z, 0-9 and -"
    if not isinstance(issuer, str) or not issuer:
        yield "issuer", "is required"
    if not _names(entry.get("audience")):
        yield "audience", "is required"
    leeway, max_age, typ = entry.get("leeway", 30), entry.get("max_age"), entry.get("typ")
    if type(leeway) is not int or not 0 <= leeway <= MAX_LEEWAY:
        yield "leeway", f"must be 0 to {MAX_LEEWAY} seconds"
    if max_age is not None and (type(max_age) is not int or max_age <= 0):
        yield "max_age", "must be a positive number of seconds"
    if typ is not None and not isinstance(typ, str):
        yield "typ", "must be a string"


def _source_problems(
    entry: Mapping[str, Any], where: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Problems of the source of the keys: a URL, a configured key, or discovery."""
    url, issuer = entry.get("jwks_url"), entry.get("issuer")
    if url and (problem := url_problem(str(url))):
        yield "jwks_url", problem
    sources = [name for name in ("jwks_url", "public_key", "secret") if entry.get(name)]
    if len(sources) > 1:
        yield sources[0], f"and {where.get(sources[1], sources[1])} are both set; which one holds?"
    if not sources and isinstance(issuer, str) and issuer and (problem := url_problem(issuer)):
        keys = where.get("jwks_url", "jwks_url")
        yield "issuer", f"{problem}, so its keys cannot be discovered: say where they are in {keys}"


def userinfo_problem(userinfo: object, issuer: str | None) -> str | None:
    """Why *userinfo* (a URL, or "discovery") cannot be *issuer*'s userinfo endpoint; None if it can."""
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


def _family_problem(algorithms: frozenset[str], *, secret: bool) -> str | None:
    """One family per issuer (RFC 8725 section 3.1): a key must not be used as one of another kind."""
    families = {
        family for family, members in FAMILIES.items() if not members.isdisjoint(algorithms)
    }
    known = frozenset().union(*FAMILIES.values())
    if unknown := sorted(algorithms - known):
        return f"names {', '.join(unknown)}, which is not supported"
    if len(families) > 1:
        return "mixes families: choose HS256, or RS and PS, or ES, or EdDSA"
    if secret != (families == {"oct"}):
        return "does not fit the key: HS256 goes with a secret, and only with one"
    return None


def _configured_key(
    entry: Mapping[str, Any], algorithms: frozenset[str] | None, report: Callable[[str, str], None]
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
        report(name, f"cannot be used: {error}")
        return None
    if key is None:
        report("algorithms", "does not fit the key")
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
        where = {name: f"AUTH_JWT_ISSUERS[{position}].{name}" for name in (*_MEMBERS, *entry)}
        issuer, entry_problems = read_issuer({**defaults, **entry}, where)
        problems += entry_problems
        if issuer is not None:
            issuers.append(issuer)
    for member in ("alias", "issuer"):
        values = [getattr(issuer, member) for issuer in issuers]
        if len(set(values)) != len(values):
            problems.append(f"AUTH_JWT_ISSUERS: has two entries of the same {member}")
    return issuers, problems
