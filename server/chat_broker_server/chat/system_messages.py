"""Messages in which the server tells what happened in a room."""

from typing import Any, Final

from msgspec import UNSET

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat import events, messages
from chat_broker_server.chat.events import Event
from chat_broker_server.chat.ids import new_id
from chat_broker_server.chat.models import Message

# With the names of `user_id` and `by`; without `by` if nobody else did it.
_CONTENTS: Final = {
    "member_joined": ("{user} joined.", "{by} added {user}."),
    "member_left": ("{user} left.", "{user} left."),
    "member_removed": ("{user} was removed.", "{by} removed {user}."),
    "role_changed": ("{user} is now {role}.", "{by} made {user} {role}."),
    "room_renamed": ("The room is now called {name}.", "{by} renamed the room to {name}."),
    "pinned": ("A message was pinned.", "{by} pinned a message."),
}


def named(name: str) -> str:
    """The content of a message that tells an event of this name and has none of its own."""
    words = " ".join(name.replace("_", " ").replace("-", " ").replace(".", " ").split())
    return f"{words[:1].upper()}{words[1:]}." if words else name


def post(pid: str, room_id: str, event: dict[str, Any], author_id: str) -> Steps[Event]:
    """Post a system message in a locked room. Returns the event that tells it.

    *event* has one of the six names that the server tells, and what goes with it: `user_id`, `by` (the id of another user
    who did it), `role`, `room_name`, `message_id`. The author need not be a member: it is who did it, or whom it happened to.
    """
    yield messages.take_number(pid, room_id, counts=False)
    rows = yield Query(
        "SELECT r.last_seq, r.last_message_at, r.counted, u.username, u.display_name, u.avatar_url"
        " FROM rooms r, users u WHERE r.project_id = $1 AND r.id = $2 AND u.project_id = $1"
        " AND u.id = $3",
        pid,
        room_id,
        author_id,
    )
    number, now, counted, username, display_name, avatar_url = rows[0]
    message = Message(
        new_id(),
        room_id,
        number,
        author_id,
        username,
        display_name,
        (yield from _content(pid, event)),
        None,
        {},
        now,
        None,
        None,
        avatar_url=UNSET if avatar_url is None else avatar_url,
        type="system",
        event=event,
    )
    yield from messages.insert(pid, message, counted)
    return events.message_posted(pid, message)


def _content(pid: str, event: dict[str, Any]) -> Steps[str]:
    rows = yield Query(
        "SELECT id, coalesce(display_name, username) FROM users WHERE project_id = $1"
        " AND id IN ($2, $3)",
        pid,
        event.get("user_id"),
        event.get("by"),
    )
    names = {row[0]: row[1] for row in rows}
    by = event.get("by")
    by_another = by is not None and by != event.get("user_id")
    return _CONTENTS[event["name"]][by_another].format(
        user=names.get(event.get("user_id"), "A member"),
        by=names.get(by, "A member"),
        role=_ROLES.get(event.get("role", ""), "a member"),
        name=event.get("room_name", ""),
    )


_ROLES: Final = {
    "owner": "an owner",
    "moderator": "a moderator",
    "member": "a member",
    "guest": "a guest",
}
