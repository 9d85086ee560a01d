"""What a frontend may send: bodies and queries, checked the same way wherever they are read. Framework-free."""

import re
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from chat_broker.chat.broker import MOST_AT_ONCE, SomeMembers, Window
from chat_broker.chat.ids import is_id
from chat_broker.errors import BadInput, UnsupportedMediaType
from chat_broker_kit.http.media_types import is_json
from chat_broker_kit.http.problems import FieldError
from chat_broker_kit.strict_json import NotStrictJson, parse
from chat_broker_kit.text.one_line import is_one_line

LARGEST_LIMIT = 200
DEEPEST = 1_000_000
MOST_MESSAGE_IDS = 50
LARGEST_METADATA = 4096
MOST_MEMBERS = 100
MOST_MENTIONS = 50
MOST_OF_A_DIRECT_ROOM = 8
LARGEST_SEQ = 2**53
LONGEST_EDIT_WINDOW = 10 * 365 * 24 * 3600
"""Seconds for which messages may be edited, ten years at the most."""
LONGEST_RETENTION = 100 * 365
"""Days for which messages may be kept, a hundred years at the most."""
LONGEST_SOMEONE = 264
LONGEST_SEARCH = 128
LONGEST_CURSOR = 512
LONGEST_REMEMBERED = 128
"""Bytes of the longest query string whose reading is cached: longer ones would fill the memory."""

# The caller's identity comes from the credential alone. Compared without case, "_" and "-".
_IDENTITY = frozenset({
    "author", "authorid", "createdby", "creator", "creatorid", "externalid", "externaluserid",
    "owner", "ownerid", "role", "roles", "sender", "senderid", "userid", "username",
})  # fmt: skip
_HARMLESS = frozenset(
    {
        "content",
        "client_msg_id",
        "metadata",
        "reply_to",
        "mentions",
        "mention_room",
        "silent",
        "seq",
        "expires_in",
        "page",
        "limit",
        "before",
        "after",
    }
)
"""Names of frequent fields, none of which states an identity: they need no further look."""
_NUMBER = re.compile(r"[0-9]{1,16}", re.ASCII)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")

_encode = msgspec.json.Encoder().encode


def one_line(text: str) -> str:
    if not is_one_line(text):
        raise ValueError("must be one line without control characters")
    return text


def not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if len(_encode(value)) > LARGEST_METADATA:
        raise ValueError(f"must be at most {LARGEST_METADATA} bytes of JSON")
    return value


def _whole(value: Any) -> Any:
    """JSON has one kind of numbers: `1.0` and `1e3` are whole ones."""
    return int(value) if type(value) is float and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
RoomName = Annotated[
    str, Field(min_length=1, max_length=128), AfterValidator(one_line), AfterValidator(not_blank)
]
Description = Annotated[str, Field(max_length=1000)]
Content = Annotated[str, Field(min_length=1, max_length=8000)]
Metadata = Annotated[dict[str, Any], AfterValidator(_small)]
ClientId = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(one_line)]
MessageReference = Annotated[str, Field(min_length=1, max_length=64)]
Someone = Annotated[str, Field(min_length=1, max_length=LONGEST_SOMEONE)]


class Body(BaseModel):
    """Base of what may be sent: the fields that are named, of exactly these types, and no others."""

    # Each validator is built when the first such body arrives: most processes never see most kinds.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    def changes(self) -> dict[str, Any]:
        """The fields that were sent. Null metadata becomes empty metadata."""
        changes = {name: getattr(self, name) for name in self.model_fields_set}
        if changes.get("metadata", ...) is None:
            changes["metadata"] = {}
        return changes


class Nothing(Body):
    """An empty object, or nothing at all."""


class TokenWish(Body):
    """How long the token should live, in seconds; never longer than the operator allows."""

    expires_in: Annotated[Whole, Field(ge=1, le=LARGEST_SEQ)] | None = None


class RoomDraft(Body):
    """A room to create."""

    name: RoomName
    description: Description | None = None
    private: bool | None = None
    member_ids: Annotated[list[Someone], Field(max_length=MOST_MEMBERS)] | None = None
    metadata: Metadata | None = None


class SettingsEdit(Body):
    """Which settings of a room to change; others stay."""

    read_only: bool = False
    slow_mode: Annotated[Whole, Field(ge=0, le=3600)] = 0
    history: Literal["all", "joined"] = "all"
    invites: Literal["owners", "members"] = "owners"
    system_messages: bool = False
    edit_window: Annotated[Whole, Field(ge=0, le=LONGEST_EDIT_WINDOW)] = 0
    retention_days: Annotated[Whole, Field(ge=0, le=LONGEST_RETENTION)] = 0
    reactions: bool = True
    threads: bool = True
    attachments: bool = True


class DirectWish(Body):
    """Whom a direct room is with, the caller apart: nobody else for a room of notes."""

    with_: Annotated[list[Someone], Field(alias="with", max_length=MOST_OF_A_DIRECT_ROOM)]


class NewMembers(Body):
    """Users to add to a room."""

    users: Annotated[list[Someone], Field(min_length=1, max_length=MOST_AT_ONCE)]


class RoomEdit(Body):
    """What to change about a room; what is left out stays, null empties."""

    name: RoomName = Field("")
    description: Description | None = None
    private: bool = False
    metadata: Metadata | None = None
    settings: SettingsEdit = SettingsEdit()

    def changes(self) -> dict[str, Any]:
        """The fields that were sent, and of the settings those that were."""
        changes = super().changes()
        if "settings" in changes:
            changes["settings"] = self.settings.changes()
        return changes


class MessageDraft(Body):
    """Something to say."""

    content: Content
    client_msg_id: ClientId | None = None
    metadata: Metadata | None = None
    reply_to: MessageReference | None = None
    mentions: Annotated[list[Someone], Field(max_length=MOST_MENTIONS)] | None = None
    mention_room: bool | None = None
    silent: bool | None = None


class MessageEdit(Body):
    """What to change about a message; what is left out stays."""

    content: Content = Field("")
    metadata: Metadata | None = None
    mentions: Annotated[list[Someone], Field(max_length=MOST_MENTIONS)] | None = None
    if_rev: Annotated[Whole, Field(ge=0, le=LARGEST_SEQ)] | None = None

    def changes(self) -> dict[str, Any]:
        """The fields that were sent. Raises BadInput for none."""
        changes = super().changes()
        if not changes.keys() - {"if_rev"}:
            raise BadInput(
                message="There is nothing to change: send content, metadata or mentions."
            )
        return changes


class ReadUpTo(Body):
    """The last message that was read."""

    seq: Whole = Field(ge=0, le=LARGEST_SEQ)


B = TypeVar("B", bound=Body)


def read_body(
    raw: bytes,
    content_type: str | None,
    kind: type[B],
    *,
    optional: bool = False,
    by_operator: bool = False,
) -> B:
    """*raw* as a *kind*. Raises BadInput with every field that is wrong, or UnsupportedMediaType.

    *optional*: nothing at all stands for an empty object. *by_operator*: may state a user's identity.
    """
    if not raw:
        if optional:
            return _checked({}, kind)
        raise BadInput(message="A JSON body is needed.")
    if content_type is None or not is_json(content_type):
        raise UnsupportedMediaType
    try:
        value = parse(raw)
    except NotStrictJson as error:
        raise BadInput("invalid_json", f"The body {error}.") from None
    if not isinstance(value, dict):
        raise BadInput(message="The body is not a JSON object.")
    if not by_operator:
        refuse_identity(value)
    return _checked(value, kind)


def _checked(value: dict[str, Any], kind: type[B]) -> B:
    try:
        # What model_validate calls, without what it looks at first.
        checked: B = kind.__pydantic_validator__.validate_python(value)
        return checked
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    unknown = [item for item in found if item["type"] == "extra_forbidden"]
    errors = [
        FieldError(
            _where(item["loc"]), "is not known here" if item in unknown else _why(item["msg"])
        )
        for item in found
    ]
    code = "unknown_field" if len(unknown) == len(found) else None
    raise BadInput(
        code, "; ".join(f"{one.field}: {one.message}" for one in errors[:10]), errors=errors[:50]
    )


def _where(location: tuple[int | str, ...]) -> str:
    """The path of a field. A name the sender chose is repeated only as far as it is a plain one."""
    path = ".".join(str(part) for part in location)
    return path if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", path) else "(unprintable)"


def _why(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def refuse_identity(names: Any) -> None:
    """Raise BadInput `identity_not_allowed` if one of *names* states an identity."""
    if _HARMLESS.issuperset(names):
        return
    for name in names:
        if name.lower().replace("_", "").replace("-", "") in _IDENTITY:
            text = "who you are comes from your credential alone; leave this out"
            field = _where((name,))
            raise BadInput(
                "identity_not_allowed", f"{field}: {text}", errors=[FieldError(field, text)]
            )


def read_query(query_string: bytes, known: frozenset[str] = frozenset()) -> dict[str, str]:
    """The parameters of a query. Raises BadInput for unknown and repeated ones, and for identities."""
    if not query_string:
        return {}
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=50,
        )
    except ValueError:
        raise BadInput("invalid_query", "The query cannot be read.") from None
    names = [name for name, _ in pairs]
    refuse_identity(names)
    for name in names:
        if name not in known:
            raise BadInput.field(_where((name,)), "is not known here", code="unknown_parameter")
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise BadInput.field(repeated, "is given twice", code="repeated_parameter")
    return dict(pairs)


PAGED = frozenset({"page", "limit"})
CURSORED = PAGED | {"before", "after", "around", "ids"}


_FIRST = Window()


def read_window(query: dict[str, str]) -> Window:
    """Which part of a list is asked for: `page` and `limit`, or `before`, `after` and `limit`."""
    if not query:
        return _FIRST
    page = read_number(query, "page", 1, DEEPEST)
    limit = read_number(query, "limit", 1, LARGEST_LIMIT)
    before = read_number(query, "before", 0, LARGEST_SEQ)
    after = read_number(query, "after", 0, LARGEST_SEQ)
    around = read_number(query, "around", 0, LARGEST_SEQ)
    ids = _message_ids(query)
    cursor = next((name for name in ("before", "after", "around", "ids") if name in query), None)
    if cursor is not None and page is not None:
        raise BadInput.field("page", "goes with no cursor: use page, or before and after")
    if around is not None or ids is not None:
        _refuse_second_choice(query)
    if page is not None and page * (limit or 50) > DEEPEST:
        raise BadInput.field("page", f"page times limit is at most {DEEPEST}; use a cursor")
    return Window(page, limit, before, after, around, ids)


def _message_ids(query: dict[str, str]) -> tuple[str, ...] | None:
    text = query.get("ids")
    if text is None:
        return None
    ids = tuple(text.split(","))
    if len(ids) > MOST_MESSAGE_IDS or not all(is_id(each) for each in ids):
        raise BadInput.field(
            "ids", f"must be 1 to {MOST_MESSAGE_IDS} ids of messages, separated by commas"
        )
    return ids


def _refuse_second_choice(query: dict[str, str]) -> None:
    choices = [name for name in ("before", "after", "around", "ids") if name in query]
    if len(choices) > 1:
        raise BadInput.field(choices[-1], f"does not go with {choices[0]}")


def window_of(query_string: bytes, known: frozenset[str]) -> Window:
    """The same of a query as it came, which may hold *known* parameters."""
    if len(query_string) > LONGEST_REMEMBERED:
        return read_window(read_query(query_string, known))
    return _window_of(query_string, known)


@lru_cache(maxsize=1024)  # asked for the same again and again
def _window_of(query_string: bytes, known: frozenset[str]) -> Window:
    return read_window(read_query(query_string, known))


MEMBERS_QUERY = PAGED | {"ids", "as", "q", "cursor"}
ROLES = ("owner", "moderator", "member", "guest")


def read_members_query(query_string: bytes) -> SomeMembers | Window:
    """Which members are asked for: a page of all, or some."""
    query = read_query(query_string, MEMBERS_QUERY)
    role, ids = query.get("as"), None
    if role is not None and role not in ROLES:
        raise BadInput.field("as", f"is {' or '.join(ROLES)}")
    window = read_window({name: query[name] for name in query.keys() & PAGED})
    if len(query.keys() & {"ids", "as", "q", "cursor"}) == 0:
        return window
    if "ids" in query:
        if len(query) > 1:
            raise BadInput.field("ids", "goes alone")
        ids = tuple(query["ids"].split(","))
        if len(ids) > MOST_AT_ONCE or not all(1 <= len(each) <= LONGEST_SOMEONE for each in ids):
            raise BadInput.field("ids", f"must be 1 to {MOST_AT_ONCE} users, separated by commas")
    if "cursor" in query and window.page is not None:
        raise BadInput.field("page", "goes with no cursor")
    return SomeMembers(
        window.page,
        window.limit,
        ids,
        role,
        _line(query, "q", LONGEST_SEARCH, least=1),
        _line(query, "cursor", LONGEST_CURSOR),
    )


def _line(query: dict[str, str], name: str, longest: int, *, least: int = 0) -> str | None:
    value = query.get(name)
    if value is not None and not (least <= len(value) <= longest and is_one_line(value)):
        raise BadInput.field(name, f"must be {least} to {longest} characters in one line")
    return value


def read_number(query: dict[str, str], name: str, least: int, most: int) -> int | None:
    """The whole number *name* of a query, None if it is not there. Raises BadInput."""
    text = query.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise BadInput.field(name, f"must be a whole number from {least} to {most}")
    return int(text)


def read_idempotency_key(values: list[str]) -> str | None:
    """The `Idempotency-Key` header, if there is one. Raises BadInput for two or for an unusable one."""
    if not values:
        return None
    if len(values) > 1 or not _KEY.fullmatch(values[0]):
        raise BadInput.field(
            "Idempotency-Key", "must be one value of 1 to 255 visible ASCII characters"
        )
    return values[0]
