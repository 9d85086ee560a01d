"""What frontends may ask about their copy of rooms: bodies and queries, checked. Framework-free."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from chat_broker.api.requests import (
    LARGEST_LIMIT,
    LARGEST_SEQ,
    LONGEST_CURSOR,
    LONGEST_SEARCH,
    Body,
    Whole,
    read_number,
    read_query,
    read_window,
)
from chat_broker.chat.own_rooms import RoomQuery
from chat_broker.chat.reactions import ReactionsQuery
from chat_broker.errors import BadInput
from chat_broker_kit.text.one_line import is_one_line
from chat_broker_kit.text.timestamps import parse_timestamp

MOST_ROOMS_KNOWN = 500
MOST_ROOMS_MARKED = 200
MOST_MESSAGES = 20
LONGEST_QUERY = LONGEST_SEARCH
LONGEST_EMOJI = 64
CHANGES_QUERY = frozenset({"since_rev", "from_seq", "limit"})
REACTIONS_QUERY = frozenset({"emoji", "cursor", "limit"})
ROOMS_QUERY = frozenset({"scope", "page", "limit", "q", "sort", "kind", "archived", "cursor"})


def _instant(text: str) -> str:
    try:
        parse_timestamp(text)
    except ValueError:
        raise ValueError("must be an instant in RFC 3339, such as 2026-01-02T03:04:05Z") from None
    return text


Count = Annotated[Whole, Field(ge=0, le=LARGEST_SEQ)]
RoomReference = Annotated[str, Field(min_length=1, max_length=64)]
NamedRoom = Annotated[str, Field(min_length=1, max_length=137)]
Opaque = Annotated[str, Field(max_length=LONGEST_CURSOR)]


class SeqMark(Body):
    """The last message that has reached a device."""

    seq: Count


class RoomsRead(Body):
    """The rooms to mark as read, up to a seq each, or all of them."""

    rooms: (
        Annotated[dict[NamedRoom, Count], Field(min_length=1, max_length=MOST_ROOMS_MARKED)] | None
    ) = None
    all: Literal[True] | None = None

    def marks(self) -> dict[str, int] | None:
        """The rooms; None for all. Raises BadInput unless exactly one of both is there."""
        if (self.rooms is None) == (self.all is None):
            raise BadInput.field("rooms", "either rooms or all is needed")
        return self.rooms


class MineEdit(Body):
    """What to change about one's own side of a room; what is left out stays, null clears."""

    notify: Literal["all", "mentions", "none"] | None = None
    muted_until: Annotated[str, Field(max_length=64), AfterValidator(_instant)] | None = None
    archived: Literal["no", "until_message", "yes"] = "no"
    pinned: bool = False
    marked_unread: bool = False
    clear_history: Literal[True] = True

    def changes(self) -> dict[str, Any]:
        """The fields that were sent."""
        changes = {name: getattr(self, name) for name in self.model_fields_set}
        if changes.get("muted_until") is not None:
            changes["muted_until"] = parse_timestamp(changes["muted_until"])
        return changes


class SyncRequest(Body):
    """What the caller knows: of each room last_seq, rev and the version of their own side."""

    have: Annotated[
        dict[RoomReference, Annotated[list[Count], Field(min_length=3, max_length=3)]],
        Field(max_length=MOST_ROOMS_KNOWN),
    ] = Field({})
    have_version: Count | None = None
    epoch: Annotated[str, Field(max_length=128)] | None = None
    messages: Annotated[Whole, Field(ge=0, le=MOST_MESSAGES)] | None = None
    limit: Annotated[Whole, Field(ge=1, le=LARGEST_LIMIT)] | None = None
    cursor: Opaque | None = None
    token: Opaque | None = None


def read_changes_query(query_string: bytes) -> dict[str, Any]:
    """Which changes are asked for."""
    query = read_query(query_string, CHANGES_QUERY)
    since_rev = read_number(query, "since_rev", 0, LARGEST_SEQ)
    if since_rev is None:
        raise BadInput.field("since_rev", "is needed; 0 asks for all changes")
    return {
        "since_rev": since_rev,
        "from_seq": read_number(query, "from_seq", 0, LARGEST_SEQ),
        "limit": read_number(query, "limit", 1, LARGEST_LIMIT),
    }


def read_cursor_query(query_string: bytes) -> dict[str, Any]:
    """Which part of a list that has cursors alone."""
    query = read_query(query_string, frozenset({"cursor", "limit"}))
    return {
        "cursor": _text(query, "cursor", LONGEST_CURSOR),
        "limit": read_number(query, "limit", 1, LARGEST_LIMIT),
    }


def read_reactions_query(query_string: bytes) -> ReactionsQuery:
    """Whose reactions are asked for."""
    query = read_query(query_string, REACTIONS_QUERY)
    return ReactionsQuery(
        emoji=_text(query, "emoji", LONGEST_EMOJI),
        cursor=_text(query, "cursor", LONGEST_CURSOR),
        limit=read_number(query, "limit", 1, LARGEST_LIMIT),
    )


def read_room_query(query_string: bytes) -> RoomQuery:
    """Which rooms are asked for."""
    query = read_query(query_string, ROOMS_QUERY)
    scope = _one_of(query, "scope", ("joined", "open")) or "joined"
    sort = _one_of(query, "sort", ("activity", "created")) or "created"
    kind = _one_of(query, "kind", ("room", "direct", "thread"))
    archived = _one_of(query, "archived", ("true", "false"))
    if archived is not None and scope == "open":
        raise BadInput.field("archived", "goes with scope=joined alone")
    by_activity = sort == "activity"
    if by_activity and "page" in query:
        raise BadInput.field("page", "goes with no sort=activity: use cursor")
    if not by_activity and "cursor" in query:
        raise BadInput.field("cursor", "goes with sort=activity alone")
    window = read_window(query)
    return RoomQuery(
        scope="open" if scope == "open" else "joined",
        page=window.page,
        limit=window.limit,
        q=_text(query, "q", LONGEST_QUERY),
        by_activity=by_activity,
        kind=kind,
        archived=None if archived is None else archived == "true",
        cursor=_text(query, "cursor", LONGEST_CURSOR),
    )


def _one_of(query: dict[str, str], name: str, words: tuple[str, ...]) -> str | None:
    value = query.get(name)
    if value is not None and value not in words:
        raise BadInput.field(name, f"is {' or '.join(words)}")
    return value


def _text(query: dict[str, str], name: str, longest: int) -> str | None:
    value = query.get(name)
    if value is not None and not (0 < len(value) <= longest and is_one_line(value)):
        raise BadInput.field(name, f"must be 1 to {longest} characters in one line")
    return value
