"""Reactions and pins of the fake Chat API."""

import re
import unicodedata
from typing import Any

from .fake_store import FakeStore, Json, Problem, Seen, number

MOST_EMOJI = 20
MOST_PINS = 50
SHOWN_USERS = 10
LONGEST = 64


def react(
    store: FakeStore, room_id: str, message_id: str, emoji: str, user_id: str, *, add: bool
) -> Json:
    """Add or remove a reaction of the user, and return what the message shows."""
    emoji = _checked(emoji)
    message = store.message(room_id, message_id)
    made = store.reactions.setdefault(message["id"], [])
    there = any((each["emoji"], each["user_id"]) == (emoji, user_id) for each in made)
    if add:
        _require_member(store, room_id, user_id)
        if message["deleted_at"] is not None:
            raise Problem(409, "message_deleted")
        present = {each["emoji"] for each in made}
        if emoji not in present and len(present) >= MOST_EMOJI:
            raise Problem(409, "too_many_reactions")
        if there:
            return {"reactions": _shown(made)}
        user = store.user(user_id)
        made.append(
            {
                "emoji": emoji,
                "user_id": user_id,
                "username": user["username"],
                "display_name": user["display_name"],
                "created_at": store.timestamp(),
            }
        )
    elif there:
        made[:] = [each for each in made if (each["emoji"], each["user_id"]) != (emoji, user_id)]
    else:
        return {"reactions": _shown(made)}
    message.pop("reactions", None)
    if made:
        message["reactions"] = _shown(made)
    _tell(store, message, {"kind": "reaction", "user_id": user_id, "emoji": emoji, "added": add})
    return {"reactions": _shown(made)}


def reactors(store: FakeStore, request: Seen, room_id: str, message_id: str) -> Json:
    """A page of who reacted."""
    store.message(room_id, message_id)
    made = store.reactions.get(message_id, [])
    wanted = request.query.get("emoji")
    order = list(dict.fromkeys(each["emoji"] for each in made))
    found = [
        each
        for emoji in order
        if wanted in {None, emoji}
        for each in reversed(made)
        if each["emoji"] == emoji
    ]
    limit, start = number(request, "limit", 50), number(request, "cursor", 0)
    more = len(found) > start + limit
    return {
        "items": found[start : start + limit],
        "limit": limit,
        "next_cursor": str(start + limit) if more else None,
        "has_more": more,
    }


def pin(store: FakeStore, room_id: str, message_id: str, user_id: str | None) -> Json:
    """Pin the message, if it is not pinned yet."""
    message = _pinnable(store, room_id, message_id, user_id)
    if message["deleted_at"] is not None:
        raise Problem(409, "message_deleted")
    if "pinned_at" not in message:
        if len(pins(store, room_id)) >= MOST_PINS:
            raise Problem(409, "too_many_pins")
        message["pinned_at"] = store.timestamp()
        store.pinned.append(message["id"])
        if user_id is not None:
            message["pinned_by"] = user_id
        _tell(store, message, _reason("pinned", user_id))
    return message


def unpin(store: FakeStore, room_id: str, message_id: str, user_id: str | None) -> Json:
    """End the pin of the message, if there is one."""
    message = _pinnable(store, room_id, message_id, user_id)
    if message.pop("pinned_at", None) is not None:
        message.pop("pinned_by", None)
        store.pinned.remove(message["id"])
        _tell(store, message, _reason("unpinned", user_id))
    return message


def pins(store: FakeStore, room_id: str, from_seq: int = 1) -> list[Json]:
    """The pinned messages of the room, newest pin first."""
    found = [
        each for each in store.messages[room_id] if "pinned_at" in each and each["seq"] >= from_seq
    ]
    return sorted(found, key=lambda each: store.pinned.index(each["id"]), reverse=True)


def forget(store: FakeStore, message: Json) -> None:
    """Remove what a deleted message has no more."""
    store.reactions.pop(message["id"], None)
    if message.pop("pinned_at", None) is not None:
        store.pinned.remove(message["id"])
    for name in ("reactions", "pinned_by"):
        message.pop(name, None)


def own(store: FakeStore, messages: list[Json], reader: str | None) -> dict[str, list[str]]:
    """The reader's reactions, by message, to those that do not show all users of a reaction."""
    crowded = [
        each["id"]
        for each in messages
        if any(shown["count"] > SHOWN_USERS for shown in each.get("reactions", ()))
    ]
    found = {
        message_id: [
            each["emoji"] for each in store.reactions[message_id] if each["user_id"] == reader
        ]
        for message_id in crowded
    }
    return {message_id: emoji for message_id, emoji in found.items() if emoji}


def _checked(emoji: str) -> str:
    """*emoji* in NFC. 400 for what is clearly none; the Chat API looks closer."""
    text = unicodedata.normalize("NFC", emoji)
    named = re.fullmatch(r":[^:/\s]+:", text) is not None
    shown = text[-1:] > "\x7f" and not any(each.isalpha() or each == "\ufffd" for each in text)
    if not (named or shown) or len(text.encode()) > LONGEST:
        raise Problem(400, "invalid_input", field="emoji")
    return text


def _shown(made: list[Json]) -> list[Json]:
    users: dict[str, list[str]] = {}
    for each in made:
        users.setdefault(each["emoji"], []).insert(0, each["user_id"])
    return [
        {"emoji": emoji, "count": len(ids), "user_ids": ids[:SHOWN_USERS]}
        for emoji, ids in users.items()
    ]


def _require_member(store: FakeStore, room_id: str, user_id: str) -> Json:
    member: Json | None = store.members[room_id].get(user_id)
    if member is None:
        raise Problem(403, "not_a_member")
    if member["role"] == "guest":
        raise Problem(403, "read_only")
    return member


def _pinnable(store: FakeStore, room_id: str, message_id: str, user_id: str | None) -> Json:
    message = store.message(room_id, message_id)
    if user_id is not None:
        member = _require_member(store, room_id, user_id)
        direct = store.rooms[room_id]["kind"] == "direct"
        if not direct and member["role"] not in {"owner", "moderator"}:
            raise Problem(403, "owner_only")
    return message


def _reason(kind: str, user_id: str | None) -> Json:
    return {"kind": kind, **({} if user_id is None else {"user_id": user_id})}


def _tell(store: FakeStore, message: Json, reason: dict[str, Any]) -> None:
    store.change(message["room_id"], "message", message["id"], message)
    store.publish("message_updated", message["room_id"], {**message, "change": reason})
