"""Who is online, receipts and signals of the fake Chat API. Who closes the last connection is offline at once."""

import json
import re
from typing import Any, Protocol

from . import fake_people
from .fake_store import FakeStore, Json, Problem, Seen

NEW_EVENTS = frozenset({"member_updated", "receipt", "room_online", "signal"})
"""What only connections are told that know of changes."""
MOST_WATCHED, MOST_ASKED = 200, 100
DATA_BYTES = 1024

_NAME = re.compile(r"[a-z0-9._-]{1,32}")


class Live(Protocol):
    """All live connections: what presence asks of them."""

    def is_online(self, user_id: str) -> bool: ...


class Watcher(Protocol):
    """One live connection, and the users it watches."""

    user_id: str
    watched_users: frozenset[str]


# -- receipts -------------------------------------------------------------------------------------


def receipts(store: FakeStore, room_id: str, reader: str | None) -> list[Json]:
    """The receipts of a small room's members who show them; none for a reader who shows none."""
    if not store.rooms[room_id]["small"] or not (reader is None or _shows(store, reader)):
        return []
    return [
        {
            "user_id": user_id,
            "read_seq": member["last_read_seq"],
            "delivered_seq": store.side(room_id, user_id)["delivered_seq"],
        }
        for user_id, member in sorted(store.members[room_id].items())
        if _shows(store, user_id)
    ]


def of_message(store: FakeStore, room_id: str, message_id: str, reader: str | None) -> Json:
    """Who has read a message and whom it has reached. 403 in a large room, or for a reader who shows none."""
    message = store.message(room_id, message_id)
    if not store.rooms[room_id]["small"] or not (reader is None or _shows(store, reader)):
        raise Problem(403, "receipts_off")
    others = [
        each for each in receipts(store, room_id, reader) if each["user_id"] != message["user_id"]
    ]
    answer: Json = {}
    for name in ("read", "delivered"):
        ids = [each["user_id"] for each in others if each[f"{name}_seq"] >= message["seq"]]
        answer |= {name: ids, f"{name}_count": len(ids)}
    return answer


def tell_receipt(store: FakeStore, room_id: str, user_id: str) -> None:
    """Tell the room's sockets how far the user is."""
    if "receipts" not in store.features:
        return
    for each in receipts(store, room_id, None):
        if each["user_id"] == user_id:
            store.publish("receipt", room_id, {"room_id": room_id, **each})


def _shows(store: FakeStore, user_id: str) -> bool:
    return user_id not in store.users or bool(fake_people.settings(store, user_id)["receipts"])


# -- signals --------------------------------------------------------------------------------------


def signal(store: FakeStore, body: Json, room_id: str | None, sender: str | None = None) -> Json:
    """The payload of a signal. 400 for a bad one."""
    name, data = body.get("name"), body.get("data")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or set(body) - {"name", "data"}:
        raise Problem(400, "bad_request", field="name")
    if data is not None and len(json.dumps(data, separators=(",", ":")).encode()) > DATA_BYTES:
        raise Problem(400, "bad_request", field="data")
    username = None if sender is None else store.user(sender)["username"]
    return {
        "room_id": room_id,
        "user_id": sender,
        "username": username,
        "name": name,
        "data": data,
        "at": store.timestamp(),
    }


def require_may_signal(store: FakeStore, room_id: str, user_id: str) -> None:
    """403 for guests, and in a large room for plain members."""
    role = store.members[room_id][user_id]["role"]
    if role == "guest":
        raise Problem(403, "read_only")
    if role == "member" and not store.rooms[room_id]["small"]:
        raise Problem(403, "owner_only")


# -- presence -------------------------------------------------------------------------------------


def presence(store: FakeStore, live: Live, user_id: str) -> Json:
    """Whether a user is online."""
    if fake_people.settings(store, user_id)["presence"] == "hidden":
        return {"user_id": user_id, "online": None}
    seen = store.last_seen.get(user_id)
    state: Json = {"user_id": user_id, "online": live.is_online(user_id)}
    return state if seen is None else {**state, "last_seen_at": seen}


def visible(store: FakeStore, user_ids: list[str], reader: str | None) -> list[str]:
    """Those of the users whom the reader may see, each once."""
    shared = {
        member for members in store.members.values() if reader in members for member in members
    }
    return [
        user_id
        for user_id in dict.fromkeys(user_ids)
        if user_id in store.users and (reader in {None, user_id} or user_id in shared)
    ]


def asked(store: FakeStore, live: Live, request: Seen) -> Json:
    """Whether the users that the query names are online."""
    ids = request.query.get("ids", "").split(",")
    if not all(ids) or len(ids) > MOST_ASKED:
        raise Problem(400, "bad_request", field="ids")
    found = visible(store, ids, request.query.get("member_id"))
    return {"items": [presence(store, live, user_id) for user_id in found]}


def watch(store: FakeStore, live: Live, wire: Watcher, request: Any) -> Json:
    """Have a connection told of these users, and no others."""
    user_ids = request["userIds"]
    if len(user_ids) > MOST_WATCHED:
        raise Problem(400, "invalid_arguments")
    found = visible(store, user_ids, wire.user_id)
    wire.watched_users = frozenset(found)
    return {"presence": [presence(store, live, user_id) for user_id in found]}
