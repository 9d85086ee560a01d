"""Validation of operators' bodies and queries, as strict as for frontends."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from chat_broker.admin.audit_log import AuditSearch
from chat_broker.admin.keys import AdminScope
from chat_broker.api.requests import (
    LARGEST_LIMIT,
    Body,
    Metadata,
    Whole,
    not_blank,
    one_line,
    read_number,
)
from chat_broker.chat.policy import Action
from chat_broker.errors import BadInput
from chat_broker_kit.text.one_line import is_one_line
from chat_broker_kit.text.timestamps import format_timestamp, normalize_timestamp

LONGEST_REASON = 500
LARGEST_EXPORT = 10_000
_CURSOR = re.compile(r"(before|after)-([0-9]{1,15})", re.ASCII)


def _instant(text: str) -> str:
    """An instant of RFC 3339 in UTC with milliseconds. Raises ValueError."""
    try:
        return normalize_timestamp(text)
    except ValueError:
        raise ValueError(
            "must be an instant of RFC 3339 with its offset, like 2026-01-31T12:00:00Z"
            " or 2026-01-31T13:00:00+01:00"
        ) from None


def _in_future(text: str) -> str:
    future = _instant(text)
    if future <= format_timestamp():
        raise ValueError("must lie in the future")
    return future


_LINE = (AfterValidator(one_line), AfterValidator(not_blank), AfterValidator(str.strip))
Reason = Annotated[str, Field(min_length=1, max_length=LONGEST_REASON), *_LINE]
Future = Annotated[str, Field(max_length=64), AfterValidator(_in_future)]
Name = Annotated[str, Field(min_length=1, max_length=128), *_LINE]
Username = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Email = Annotated[str, Field(min_length=3, max_length=254), AfterValidator(one_line)]
Address = Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(one_line)]


class UserRequest(Body):
    """The fields of a user to create or update. A missing field stays as it is; null clears it."""

    username: Username = ""
    display_name: Name | None = None
    email: Email | None = None
    avatar_url: Address | None = None
    metadata: Metadata | None = None


class UserUpdateRequest(UserRequest):
    """The fields of a user to change. A missing field stays as it is; null clears it."""

    status: Literal["active", "suspended"] = "active"


class MintRequest(Body):
    """A token for another user: the reason, and the longest lifetime in seconds."""

    reason: Reason
    expires_in: Annotated[Whole, Field(ge=1, le=2**53)] | None = None


class RevokeRequest(Body):
    """The reason, and the session to revoke; without one, all sessions of the user."""

    reason: Reason
    session_id: (
        Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")] | None
    ) = None


class RevokeAllRequest(Body):
    reason: Reason


class OptionalReason(Body):
    """The body of requests that need no reason, but record one."""

    reason: Reason | None = None


class BanRequest(Body):
    """The reason, and the end of the ban; without one, it holds for good."""

    reason: Reason
    until: Future | None = None


class KeyRequest(Body):
    """An admin key to create."""

    name: Name
    scopes: Annotated[list[str], Field(min_length=1, max_length=len(AdminScope))]
    expires_at: Future | None = None

    def admin_scopes(self) -> frozenset[AdminScope]:
        """Raises BadInput for a scope that does not exist."""
        for scope in self.scopes:
            if scope not in set(AdminScope):
                raise BadInput.field("scopes", f"each must be one of {', '.join(AdminScope)}")
        return frozenset(AdminScope(scope) for scope in self.scopes)


USERS_QUERY = frozenset({"page", "limit", "q", "status"})
ROOMS_QUERY = frozenset({"page", "limit", "q"})
EXPLAIN_QUERY = frozenset({"user", "room", "action"})
AUDIT_QUERY = frozenset({"actor", "action", "subject", "since", "until", "cursor", "limit"})


def read_search_text(query: dict[str, str]) -> str | None:
    """The text to search names for; None if it is missing or empty."""
    text = query.get("q")
    if text is not None and (len(text) > 128 or not is_one_line(text)):
        raise BadInput.field("q", "must be one line of at most 128 characters")
    return text or None


def read_status(query: dict[str, str]) -> str | None:
    status = query.get("status")
    if status not in {None, "active", "suspended"}:
        raise BadInput.field("status", "is active or suspended")
    return status


def read_explain(query: dict[str, str]) -> tuple[str, str, Action]:
    """The user, the room and the action to explain."""
    missing = sorted(EXPLAIN_QUERY - query.keys())
    if missing:
        raise BadInput.field(missing[0], "is needed")
    if query["action"] not in set(Action):
        raise BadInput.field("action", f"is one of {', '.join(Action)}")
    return query["user"], query["room"], Action(query["action"])


def read_audit_search(query: dict[str, str], *, export: bool) -> tuple[AuditSearch, int]:
    """The search, and for an export the `seq` after which it begins (0: from the start)."""
    most = LARGEST_EXPORT if export else LARGEST_LIMIT
    limit = read_number(query, "limit", 1, most) or (LARGEST_EXPORT if export else 50)
    after, before = 0, None
    if (text := query.get("cursor")) is not None:
        cursor = _CURSOR.fullmatch(text)
        if cursor is None or (cursor[1] == "after") != export:
            raise BadInput.field("cursor", "is not one of this list", code="bad_cursor")
        after, before = (int(cursor[2]), None) if export else (0, int(cursor[2]))
    for name in ("actor", "action", "subject"):
        if len(query.get(name, "")) > 300 or not is_one_line(query.get(name, "")):
            raise BadInput.field(name, "must be one line of at most 300 characters")
    search = AuditSearch(
        actor=query.get("actor") or None,
        action=query.get("action") or None,
        subject=query.get("subject") or None,
        since=_bound(query, "since"),
        until=_bound(query, "until"),
        before=before,
        limit=limit,
    )
    return search, after


def _bound(query: dict[str, str], name: str) -> str | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        # An unescaped "+" in a query is read as a space; no instant holds a space.
        return _instant(text.replace(" ", "+"))
    except ValueError as error:
        raise BadInput.field(name, str(error)) from None
