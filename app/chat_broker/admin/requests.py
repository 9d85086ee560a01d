"""What operators may send: bodies and queries, as strictly read as those of frontends. Framework-free."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from chat_broker.admin.audit_log import Search
from chat_broker.admin.keys import Scope
from chat_broker.api.requests import LARGEST_LIMIT, Body, Metadata, Whole
from chat_broker.chat.policy import Action
from chat_broker.errors import BadInput
from chat_broker_kit.text.instants import instant, to_utc
from chat_broker_kit.text.one_line import is_one_line

LONGEST_REASON = 500
LARGEST_EXPORT = 10_000
_CURSOR = re.compile(r"(before|after)-([0-9]{1,15})", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,6}", re.ASCII)


def _one_line(text: str) -> str:
    if not is_one_line(text):
        raise ValueError("must be one line without control characters")
    return text


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text.strip()


def _instant(text: str) -> str:
    """An instant of RFC 3339 in our own form. Raises ValueError."""
    try:
        return to_utc(text)
    except ValueError:
        raise ValueError(
            "must be an instant of RFC 3339 with its offset, like 2026-01-31T12:00:00Z"
            " or 2026-01-31T13:00:00+01:00"
        ) from None


def _in_future(text: str) -> str:
    moment = _instant(text)
    if moment <= instant():
        raise ValueError("must lie in the future")
    return moment


Reason = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_REASON),
    AfterValidator(_one_line),
    AfterValidator(_said),
]
Future = Annotated[str, Field(max_length=64), AfterValidator(_in_future)]
Name = Annotated[
    str, Field(min_length=1, max_length=128), AfterValidator(_one_line), AfterValidator(_said)
]
Username = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Email = Annotated[str, Field(min_length=3, max_length=254), AfterValidator(_one_line)]
Address = Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_one_line)]


class UserFields(Body):
    """A user to create or update; what is left out stays, null empties."""

    username: Username = ""
    display_name: Name | None = None
    email: Email | None = None
    avatar_url: Address | None = None
    metadata: Metadata | None = None


class UserChanges(UserFields):
    """What to change about a user; what is left out stays, null empties."""

    status: Literal["active", "suspended"] = "active"


class MintOnBehalf(Body):
    """Why somebody else's token is needed, and for how long at most."""

    reason: Reason
    expires_in: Annotated[Whole, Field(ge=1, le=2**53)] | None = None


class RevokeWish(Body):
    """Why, and of which session; all of them if it is left out."""

    reason: Reason
    session_id: (
        Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")] | None
    ) = None


class Why(Body):
    """Why."""

    reason: Reason


class WhyMaybe(Body):
    """Why, if there is something to say."""

    reason: Reason | None = None


class BanWish(Body):
    """Why, and until when; for good if it is left out."""

    reason: Reason
    until: Future | None = None


class KeyWish(Body):
    """A key to make: what it is called, what it is good for, and when it ends."""

    name: Name
    scopes: Annotated[list[str], Field(min_length=1, max_length=len(Scope))]
    expires_at: Future | None = None

    def wanted(self) -> frozenset[Scope]:
        """The scopes. Raises BadInput for one that does not exist."""
        for scope in self.scopes:
            if scope not in set(Scope):
                raise BadInput.field("scopes", f"each must be one of {', '.join(Scope)}")
        return frozenset(Scope(scope) for scope in self.scopes)


def changes_of(fields: UserFields) -> dict[str, Any]:
    """What was sent, and nothing else; null metadata is empty metadata."""
    changes = {name: getattr(fields, name) for name in fields.model_fields_set}
    if changes.get("metadata", ...) is None:
        changes["metadata"] = {}
    return changes


USERS_QUERY = frozenset({"page", "limit", "q", "status"})
ROOMS_QUERY = frozenset({"page", "limit", "q"})
EXPLAIN_QUERY = frozenset({"user", "room", "action"})
AUDIT_QUERY = frozenset({"actor", "action", "subject", "since", "until", "cursor", "limit"})


def read_search_text(query: dict[str, str]) -> str | None:
    """What to look for in names; nothing looks for nothing."""
    text = query.get("q")
    if text is not None and (len(text) > 128 or not is_one_line(text)):
        raise BadInput.field("q", "must be one line of at most 128 characters")
    return text or None


def read_status(query: dict[str, str]) -> str | None:
    """Which users to list."""
    status = query.get("status")
    if status not in {None, "active", "suspended"}:
        raise BadInput.field("status", "is active or suspended")
    return status


def read_explain(query: dict[str, str]) -> tuple[str, str, Action]:
    """Who, where, what."""
    missing = sorted(EXPLAIN_QUERY - query.keys())
    if missing:
        raise BadInput.field(missing[0], "is needed")
    if query["action"] not in set(Action):
        raise BadInput.field("action", f"is one of {', '.join(Action)}")
    return query["user"], query["room"], Action(query["action"])


def read_audit_search(query: dict[str, str], *, export: bool) -> tuple[Search, int]:
    """What to look for, and (for an export) behind which place to begin."""
    limit, after, before = LARGEST_EXPORT if export else 50, 0, None
    if (text := query.get("limit")) is not None:
        most = LARGEST_EXPORT if export else LARGEST_LIMIT
        if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
            raise BadInput.field("limit", f"must be a whole number from 1 to {most}")
        limit = int(text)
    if (text := query.get("cursor")) is not None:
        cursor = _CURSOR.fullmatch(text)
        if cursor is None or (cursor[1] == "after") != export:
            raise BadInput.field("cursor", "is not one of this list", code="bad_cursor")
        after, before = (int(cursor[2]), None) if export else (0, int(cursor[2]))
    for name in ("actor", "action", "subject"):
        if len(query.get(name, "")) > 300 or not is_one_line(query.get(name, "")):
            raise BadInput.field(name, "must be one line of at most 300 characters")
    search = Search(
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
        # A "+" that was not escaped has become a space on the way; no instant has one.
        return _instant(text.replace(" ", "+"))
    except ValueError as error:
        raise BadInput.field(name, str(error)) from None
