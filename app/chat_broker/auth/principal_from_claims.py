"""How the verified claims of a token, session or userinfo response become a principal."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from chat_broker.auth.errors import BadToken
from chat_broker.auth.subject import MAX_SUBJECT_LENGTH, check_subject, claim_value
from chat_broker.chat.principal import Principal

LONGEST_ADDRESS = 2048
"""Characters of an avatar's address."""


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """The claims that the fields of a chat user are read from (`AUTH_CLAIM_…`)."""

    id: str = "sub"
    username: str = "preferred_username"
    name: str = "name"
    email: str = "email"
    avatar: str = "picture"


def principal_from(
    claims: Mapping[str, Any],
    names: ClaimNames,
    *,
    issuer: str,
    alias: str | None,
    expires_at: int | None,
    carrier: Literal["bearer", "cookie", "header"],
) -> Principal:
    """The principal of verified claims. Raises BadToken without a usable id.

    *alias* is set where there is more than one issuer; the external id then begins with it.
    """
    subject = claim_value(claims, names.id)
    if names.id != "sub" and type(subject) is int:  # an app's own user number
        subject = str(subject)
    subject = check_subject(subject, name=names.id)
    external_id = subject if alias is None else f"{alias}:{subject}"
    if len(external_id.encode()) > MAX_SUBJECT_LENGTH:
        raise BadToken(f"the claim {names.id} is too long")
    return Principal(
        issuer=issuer,
        subject=subject,
        external_id=external_id,
        username=_plain_text(claim_value(claims, names.username)),
        name=_plain_text(claim_value(claims, names.name)),
        email=_plain_text(claim_value(claims, names.email)),
        expires_at=expires_at,
        carrier=carrier,
        avatar_url=_address(claim_value(claims, names.avatar)),
    )


def lacks_profile(principal: Principal) -> bool:
    """Whether the claims lack a username or a name."""
    return principal.username is None or principal.name is None


def with_profile(principal: Principal, profile: Mapping[str, Any], names: ClaimNames) -> Principal:
    """*principal* with names, e-mail and avatar from *profile* where its claims have none. Its id stays."""
    return replace(
        principal,
        username=principal.username or _plain_text(claim_value(profile, names.username)),
        name=principal.name or _plain_text(claim_value(profile, names.name)),
        email=principal.email or _plain_text(claim_value(profile, names.email)),
        avatar_url=principal.avatar_url or _address(claim_value(profile, names.avatar)),
    )


def _address(value: object) -> str | None:
    """*value* if it is text that may be an address. A bad one is left out, as a bad name is."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_ADDRESS:
        return None
    return value.strip() or None


def _plain_text(value: object) -> str | None:
    """*value* if it is text of one line, else None. A bad name is left out; the user still signs in."""
    if not isinstance(value, str):
        return None
    try:
        return check_subject(value.strip(), name="")
    except BadToken:
        return None
