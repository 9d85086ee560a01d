"""What messages of the fake Chat API have that most have not: replies, mentions, silence, what happened."""

from typing import Any

from .fake_store import FakeStore, Json, Problem, Seen, number

MOST_MENTIONS = 50
QUOTED = 200
OF_THE_SERVER = {
    "member_joined",
    "member_left",
    "member_removed",
    "role_changed",
    "room_renamed",
    "pinned",
}

_MORE = ("reply_to", "mentions", "mention_room", "silent", "type", "event")


def more(store: FakeStore, room_id: str, user_id: str, body: Json) -> Json:
    """The fields of a new message of *body* beyond those that all messages have."""
    if not any(body.get(name) for name in _MORE):
        return {}
    for name, feature in (("reply_to", "replies"), ("mentions", "mentions")):
        if body.get(name) and feature not in store.features:
            raise Problem(400, "bad_request", field=name)
    fields: Json = {}
    if body.get("type") == "system":
        event = body.get("event")
        if not isinstance(event, dict) or event.get("name") in {None, "", *OF_THE_SERVER}:
            raise Problem(400, "bad_request", field="event")
        fields |= {"type": "system", "event": event}
    if body.get("reply_to"):
        there = {each["id"]: each for each in store.messages[room_id]}
        if body["reply_to"] not in there:
            raise Problem(404, "message_not_found")
        fields["reply_to"] = _quote(there[body["reply_to"]])
    if body.get("mentions"):
        fields["mentions"] = named(store, room_id, body["mentions"])
    if body.get("mention_room"):
        role = store.members[room_id][user_id]["role"]
        if not store.rooms[room_id].get("small", True) and role not in {"owner", "moderator"}:
            raise Problem(403, "owner_only")
        fields["mention_room"] = True
    if body.get("silent"):
        fields["silent"] = True
    return fields


def named(store: FakeStore, room_id: str, sent: Any, before: Any = ()) -> list[str]:
    """The users of *sent*, each once. 400 about the first who is neither a member nor among those *before*."""
    if not isinstance(sent, list) or len(sent) > MOST_MENTIONS:
        raise Problem(400, "bad_request", field="mentions")
    for place, user_id in enumerate(sent):
        if user_id not in store.members[room_id] and user_id not in before:
            raise Problem(400, "bad_request", field=f"mentions[{place}]")
    return list(dict.fromkeys(sent))


def edit(store: FakeStore, message: Json, body: Json) -> None:
    """Change what *body* has of the message."""
    if message.get("type") == "system":
        raise Problem(409, "not_editable")
    if not body.keys() - {"if_rev", "user_id"}:
        raise Problem(400, "bad_request")
    for name in ("content", "metadata"):
        if name in body:
            message[name] = body[name]
    if "mentions" in body:
        before = message.pop("mentions", [])
        users = named(store, message["room_id"], body["mentions"], before)
        message.update({"mentions": users} if users else {})
    message["edited_at"] = store.timestamp()
    _follow(store, message)


def delete(store: FakeStore, message: Json) -> None:
    """Empty the message, which keeps its place and its seq."""
    for name in ("reply_to", "mentions", "mention_room", "event"):
        message.pop(name, None)
    message.update(content="", metadata={}, deleted_at=store.timestamp())
    _follow(store, message)


def counts(message: Json) -> bool:
    """Whether the message is unread for others, unless it is deleted."""
    return "silent" not in message and "type" not in message


def names(message: Json, user_id: str) -> bool:
    """Whether another user's message names the user, alone or with everybody."""
    return message["user_id"] != user_id and (
        "mention_room" in message or user_id in message.get("mentions", ())
    )


def mentions(store: FakeStore, request: Seen, user_id: str) -> Json:
    """The messages that name the user, newest first. The cursor is how many were answered."""
    store.user(user_id)
    blocked = store.blocks.get(user_id, ())
    found = [
        message
        for room in store.rooms_of(user_id)
        for message in store.messages[room["id"]]
        if names(message, user_id)
        and message["user_id"] not in blocked
        and message["seq"] >= store.side(room["id"], user_id)["from_seq"]
    ]
    found.sort(key=lambda message: (message["created_at"], message["seq"]), reverse=True)
    start, limit = number(request, "cursor", 0), number(request, "limit", 50)
    more = len(found) > start + limit
    return {
        "items": found[start : start + limit],
        "limit": limit,
        "next_cursor": str(start + limit) if more else None,
        "has_more": more,
    }


def _quote(message: Json) -> Json:
    kept = {name: message[name] for name in ("id", "seq", "user_id", "username", "display_name")}
    return {**kept, "content": message["content"][:QUOTED]}


def _follow(store: FakeStore, quoted: Json) -> None:
    """Let all messages that quote this one show it as it is now."""
    for message in store.messages[quoted["room_id"]]:
        if message.get("reply_to", {}).get("id") == quoted["id"]:
            message["reply_to"] = _quote(quoted)
