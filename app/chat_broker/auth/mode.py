"""What each way of signing in has to do: find its credential, then judge it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from starlette.requests import HTTPConnection

from chat_broker.auth.bearer import Offer
from chat_broker.auth.contract import BadToken
from chat_broker.auth.subject import MAX_SUBJECT_LENGTH, check_subject, lookup
from chat_broker.chat.principal import Principal


class Mode(Protocol):
    """One way of signing in."""

    def find(self, request: HTTPConnection) -> Offer | None:
        """The credential that is this mode's to judge; None if the request has none. Asks nobody."""

    def takes(self, bearer: str) -> bool:
        """Whether *bearer*, in an `Authorization` header, is a credential of this mode, good or not. Asks nobody."""

    async def judge(self, request: HTTPConnection, offer: Offer) -> Principal | None:
        """Whose credential it is. InvalidCredentials if nobody's; None if it stands for *not signed in*."""


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Which claims become the chat user."""

    id: str = "sub"
    username: str = "preferred_username"
    name: str = "name"
    email: str = "email"


def principal_from(
    claims: Mapping[str, Any],
    names: ClaimNames,
    *,
    issuer: str,
    alias: str | None,
    expires_at: int | None,
    carrier: Literal["bearer", "cookie", "header"],
) -> Principal:
    """The principal that claims, already verified, speak of; BadToken without a usable id.

    *alias* is given where there is more than one issuer, and then starts the external id.
    """
    subject = lookup(claims, names.id)
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
        username=_plain_text(lookup(claims, names.username)),
        name=_plain_text(lookup(claims, names.name)),
        email=_plain_text(lookup(claims, names.email)),
        expires_at=expires_at,
        carrier=carrier,
    )


def lacks_names(principal: Principal) -> bool:
    """Whether the claims said nothing of what to call them."""
    return principal.username is None or principal.name is None


def completed(principal: Principal, profile: Mapping[str, Any], names: ClaimNames) -> Principal:
    """*principal* with what *profile* says where their own claims said nothing. Who it is stays."""
    return replace(
        principal,
        username=principal.username or _plain_text(lookup(profile, names.username)),
        name=principal.name or _plain_text(lookup(profile, names.name)),
        email=principal.email or _plain_text(lookup(profile, names.email)),
    )


def _plain_text(value: object) -> str | None:
    """*value* if it is a text one could show on one line; what is only decoration never refuses anybody."""
    if not isinstance(value, str):
        return None
    try:
        return check_subject(value.strip(), name="")
    except BadToken:
        return None
