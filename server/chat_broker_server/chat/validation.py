"""Checks of request fields: from parsed JSON to drafts. An error names every wrong field. Pure.

A check returns the value, or raises ValueError with a phrase such as "must be an id". Texts are stored
as they were sent.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from chat_broker_kit import strict_json
from chat_broker_kit.http.problems import FieldError
from chat_broker_kit.text.timestamps import normalize_timestamp
from chat_broker_server.chat.models import (
    MineChanges,
    RoomChanges,
    RoomDraft,
    UserChanges,
    UserDraft,
    UserSettingsChanges,
)
from chat_broker_server.chat.roles import ROLES
from chat_broker_server.errors import BadInput

Check = Callable[[Any], Any]

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
EXTERNAL = "external:"
_EXTERNAL_ID = re.compile(r"[A-Za-z0-9._:@~-]{1,128}")
EXTERNAL_ROOM = re.compile(EXTERNAL + _EXTERNAL_ID.pattern)
"""A room by the app's own id of it."""
METADATA_BYTES = 4096
LONGEST_CONTENT = 8000
MEMBER_IDS = 1000
MAX_SEQ = 2**53
ROOMS_AT_ONCE = 200
HAD_ROOMS = 500
LONGEST_EDIT_WINDOW = 10 * 365 * 24 * 3600  # seconds
LONGEST_RETENTION = 100 * 365  # days
MOST_MENTIONS = 50
EVENTS_OF_THE_SERVER = frozenset(
    ["member_joined", "member_left", "member_removed", "role_changed", "room_renamed", "pinned"]
)
"""Names of events that only the server tells in system messages."""

_USERNAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_EVENT_NAME = re.compile(r"[a-z0-9._-]{1,64}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_LINE_CONTROL = re.compile("[\x00-\x1f\x7f\u0085\u2028\u2029]")


def single_line(most: int, least: int = 1) -> Check:
    """Text of *least* to *most* characters on one line."""

    check_length = text(most, least)

    def check(value: Any) -> Any:
        return _no_control(check_length(value))

    return check


def text(most: int, least: int = 1) -> Check:
    """Text of *least* to *most* characters, with any line breaks."""

    def check(value: Any) -> Any:
        if type(value) is not str or not least <= len(value) <= most:
            raise ValueError(f"must be text of {least} to {most} characters")
        return value

    return check


def optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def as_integer(value: Any) -> Any:
    """*value*, as an int if it is a float without a fraction, since JSON does not tell 1.0 from 1."""
    return int(value) if type(value) is float and value.is_integer() else value


def integer(least: int, most: int) -> Check:
    """An integer from *least* to *most*; `1.0` and `1e3` are integers, `true` is not."""

    def check(value: Any) -> Any:
        value = as_integer(value)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"must be an integer from {least} to {most}")
        return value

    return check


def one_of(*choices: str) -> Check:
    def check(value: Any) -> Any:
        if value not in choices:
            raise ValueError(f"must be {' or '.join(choices)}")
        return value

    return check


def identifier(value: Any) -> Any:
    if type(value) is not str or not ID.fullmatch(value):
        raise ValueError("must be an id")
    return value


def external_id(value: Any) -> Any:
    """The app's own id of a room."""
    if type(value) is not str or not _EXTERNAL_ID.fullmatch(value):
        raise ValueError("must be 1 to 128 of A-Z, a-z, 0-9, '.', '_', ':', '@', '~' and '-'")
    return value


def room_name(value: Any) -> Any:
    """The id of a room, or `external:` and the app's own."""
    return value if type(value) is str and EXTERNAL_ROOM.fullmatch(value) else identifier(value)


def boolean(value: Any) -> Any:
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def metadata(value: Any) -> Any:
    """A JSON object of at most METADATA_BYTES; null becomes {}."""
    if value is None:
        return {}
    if type(value) is not dict:
        raise ValueError("must be a JSON object")
    if value and len(msgspec.json.encode(value)) > METADATA_BYTES:
        raise ValueError(f"must be at most {METADATA_BYTES} bytes of JSON")
    return value


def username(value: Any) -> Any:
    if type(value) is not str or not _USERNAME.fullmatch(value):
        raise ValueError("must be 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'")
    return value


def email(value: Any) -> Any:
    """A text with one @. Whether the address exists is not checked."""
    if type(value) is not str or len(value) > 254 or not _EMAIL.fullmatch(value):
        raise ValueError("must be an e-mail address of at most 254 characters")
    return _no_control(value)


def web_address(value: Any) -> Any:
    """An http(s) URL. Other schemes, such as `javascript:`, could run in a browser that shows it."""
    if type(value) is not str or len(value) > 2048:
        raise ValueError("must be an http(s) URL of at most 2048 characters")
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname or " " in value:
        raise ValueError("must be an http(s) URL of at most 2048 characters")
    return _no_control(value)


def date_time(value: Any) -> Any:
    """A date-time of RFC 3339, as text in UTC with milliseconds."""
    try:
        return normalize_timestamp(value if type(value) is str and len(value) <= 64 else "")
    except ValueError:
        raise ValueError("must be a date and time as in 2026-01-31T12:00:00Z") from None


def true(value: Any) -> Any:
    if value is not True:
        raise ValueError("must be true")
    return value


def marks(value: Any) -> Any:
    """A JSON object from at most ROOMS_AT_ONCE rooms to numbers of messages."""
    if type(value) is not dict or len(value) > ROOMS_AT_ONCE:
        raise ValueError(f"must be an object of at most {ROOMS_AT_ONCE} rooms")
    return {room_name(room): seq(number) for room, number in value.items()}


def had_rooms(value: Any) -> Any:
    """A JSON object from at most HAD_ROOMS room ids to [last_seq, rev, version of mine]."""
    if type(value) is not dict or len(value) > HAD_ROOMS:
        raise ValueError(f"must be an object of at most {HAD_ROOMS} rooms")
    return {identifier(room_id): _three_numbers(had) for room_id, had in value.items()}


def _three_numbers(value: Any) -> Any:
    if type(value) is not list or len(value) != 3:
        raise ValueError("must have three numbers for each room: [last_seq, rev, version]")
    return [seq(number) for number in value]


def identifiers(most: int, least: int = 0) -> Check:
    """A list of *least* to *most* ids."""
    how_many = f"{least} to {most}" if least else f"at most {most}"

    def check(value: Any) -> Any:
        if type(value) is not list or not least <= len(value) <= most:
            raise ValueError(f"must be a list of {how_many} ids")
        for item in value:
            identifier(item)
        return value

    return check


def settings(value: Any) -> Any:
    """A JSON object with some settings of a room."""
    if type(value) is not dict:
        raise ValueError("must be a JSON object")
    for name, each in value.items():
        check = _SETTINGS.get(name)
        if check is None:
            raise ValueError(f"has no {name[:64]!r}; there are {', '.join(_SETTINGS)}")
        try:
            value[name] = check(each)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
    return value


class ItemError(ValueError):
    """An item of a list is wrong."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


def mentioned(value: Any) -> Any:
    """A list of at most MOST_MENTIONS user ids; null becomes []."""
    if value is None:
        return []
    if type(value) is not list or len(value) > MOST_MENTIONS:
        raise ValueError(f"must be a list of at most {MOST_MENTIONS} ids")
    for index, item in enumerate(value):
        try:
            identifier(item)
        except ValueError as error:
            raise ItemError(index, str(error)) from None
    return value


def event(value: Any) -> Any:
    """What a system message tells: a JSON object with a `name` that is none of the server's own."""
    event = metadata(value)
    name = event.get("name")
    if type(name) is not str or not _EVENT_NAME.fullmatch(name):
        raise ValueError("must have a name: 1 to 64 of a-z, 0-9, '.', '_' and '-'")
    if name in EVENTS_OF_THE_SERVER:
        raise ValueError(f"must have another name: {name} is told by the server itself")
    return event


def _true_or_false(value: Any) -> Any:
    return False if value is None else boolean(value)


content = text(LONGEST_CONTENT)
description = text(2000, least=0)
client_msg_id = single_line(128)
display_name = single_line(128)
role = one_of(*ROLES)
status = one_of("active", "suspended")
seq = integer(0, MAX_SEQ)

_PROFILE: dict[str, Check] = {
    "display_name": optional(display_name),
    "email": optional(email),
    "avatar_url": optional(web_address),
    "metadata": metadata,
}
_NEW_USER = {"username": username, "external_user_id": single_line(255), **_PROFILE}
_USER_CHANGES = {"username": username, "status": status, **_PROFILE}
_ROOM: dict[str, Check] = {
    "name": single_line(128),
    "description": optional(description),
    "private": boolean,
    "metadata": metadata,
}
_member_ids = identifiers(MEMBER_IDS)
_NEW_ROOM = {
    **_ROOM,
    "created_by": identifier,
    "private": lambda value: False if value is None else boolean(value),
    "member_ids": lambda value: [] if value is None else _member_ids(value),
}
_OWN_ID = {"external_id": optional(external_id)}
_ROOM_CHANGES: dict[str, Check] = {**_ROOM, "settings": settings, "by": optional(identifier)}
_SETTINGS: dict[str, Check] = {
    "read_only": boolean,
    "slow_mode": integer(0, 3600),
    "history": one_of("all", "joined"),
    "invites": one_of("owners", "members"),
    "system_messages": boolean,
    "edit_window": integer(0, LONGEST_EDIT_WINDOW),
    "retention_days": integer(0, LONGEST_RETENTION),
    "reactions": boolean,
    "threads": boolean,
    "attachments": boolean,
}
_MINE: dict[str, Check] = {
    "notify": optional(one_of("all", "mentions", "none")),
    "muted_until": optional(date_time),
    "archived": one_of("no", "until_message", "yes"),
    "pinned": boolean,
    "marked_unread": boolean,
    "clear_history": true,
}
_USER_SETTINGS: dict[str, Check] = {
    "presence": one_of("visible", "hidden"),
    "receipts": boolean,
    "notify": optional(one_of("all", "mentions", "none")),
    "push_preview": boolean,
}
MESSAGE: dict[str, Check] = {
    "content": content,
    "user_id": optional(identifier),
    "client_msg_id": optional(client_msg_id),
    "metadata": metadata,
    "reply_to": optional(identifier),
    "mentions": mentioned,
    "mention_room": _true_or_false,
    "silent": _true_or_false,
}
SYSTEM_MESSAGE: dict[str, Check] = {
    **MESSAGE,
    "type": one_of("text", "system"),
    "event": optional(event),
}


def fields(body: Any, known: Mapping[str, Check], *required: str) -> dict[str, Any]:
    """The checked fields of a JSON object. Raises BadInput, naming every field that is wrong."""
    if type(body) is not dict:
        raise BadInput("invalid_input", "The body must be a JSON object.")
    if not body and not required:
        return {}
    errors = [FieldError(name, "is required") for name in required if name not in body]
    checked = {}
    for name, value in body.items():
        check = known.get(name)
        if check is None:
            errors.append(FieldError(name[:64], "is not a known field"))
            continue
        try:
            checked[name] = check(value)
        except ItemError as error:
            errors.append(FieldError(f"{name}[{error.index}]", str(error)))
        except ValueError as error:
            errors.append(FieldError(name, str(error)))
    if errors:
        raise BadInput.fields(errors)
    return checked


def user_draft(body: Any) -> UserDraft:
    return UserDraft(**fields(body, _NEW_USER, "username", "external_user_id"))


def user_changes(body: Any) -> UserChanges:
    return UserChanges(**fields(body, _USER_CHANGES))


def room_draft(body: Any) -> RoomDraft:
    return RoomDraft(**fields(body, _NEW_ROOM | _OWN_ID, "name", "created_by"))


def external_room_draft(external_id: str, body: Any) -> RoomDraft:
    """The draft of a room that is named in the path."""
    checked = fields(body, _NEW_ROOM, "name", "created_by")
    return RoomDraft(external_id=external_id, **checked)


def room_changes(body: Any) -> tuple[RoomChanges, str | None]:
    """The changes, and the member in whose name they are made."""
    checked = fields(body, _ROOM_CHANGES)
    by = checked.pop("by", None)
    return RoomChanges(**checked), by


def mine_changes(body: Any) -> MineChanges:
    return MineChanges(**fields(body, _MINE))


def user_settings_changes(body: Any) -> UserSettingsChanges:
    return UserSettingsChanges(**fields(body, _USER_SETTINGS))


def message(content: Any, client_msg_id: Any = None, metadata: Any = None) -> None:
    """Check the fields of a message that came as socket arguments. Raises BadInput."""
    body = {"content": content, "client_msg_id": client_msg_id, "metadata": metadata}
    try:
        strict_json.check(body)
    except strict_json.NotStrictJson as error:
        raise BadInput("invalid_input", f"The JSON {error}.") from None
    fields(body, MESSAGE, "content")


def _no_control(value: str) -> str:
    if _LINE_CONTROL.search(value):
        raise ValueError("must be on one line, without control characters")
    return value
