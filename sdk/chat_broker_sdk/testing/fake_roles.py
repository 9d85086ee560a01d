"""Roles and settings of rooms in the fake Chat API."""

from datetime import datetime
from typing import Any

from .fake_store import FakeStore, Json, Problem, Seen, number

ROLES = ("owner", "moderator", "member", "guest")
"""All roles, the highest rank first."""
_DEFAULTS: Json = {
    "read_only": False,
    "slow_mode": 0,
    "history": "all",
    "invites": "owners",
    "system_messages": False,
    "edit_window": 0,
    "retention_days": 0,
    "reactions": True,
    "threads": True,
    "attachments": True,
}
_CHOICES = {"history": ("all", "joined"), "invites": ("owners", "members")}


def change_settings(store: FakeStore, room: Json, body: Json) -> None:
    """Change the settings that *body* has. 400 for an unknown one."""
    if "settings" not in body:
        return
    needs_roles(store)
    changes = body["settings"]
    for name, value in changes.items():
        if name not in _DEFAULTS or not _fits(name, value):
            raise Problem(400, "bad_request", field="settings")
    settings = {**room.get("settings", {}), **changes}
    settings = {name: value for name, value in settings.items() if value != _DEFAULTS[name]}
    room.pop("settings", None)
    if settings:
        room["settings"] = settings


def may_update(store: FakeStore, room_id: str, by: str | None) -> None:
    """403 `owner_only` unless the member *by* (None: the API key) may change the room."""
    if by is None:
        return
    needs_roles(store)
    store.room(room_id)
    if _role_of(store, room_id, by) != "owner":
        raise Problem(403, "owner_only")


def _fits(name: str, value: Any) -> bool:
    if name in _CHOICES:
        return value in _CHOICES[name]
    return type(value) is type(_DEFAULTS[name]) and value >= 0


def setting(room: Json, name: str) -> Any:
    """The room's setting."""
    return room.get("settings", {}).get(name, _DEFAULTS[name])


def needs_roles(store: FakeStore) -> None:
    """400 on a server without the feature, as for an unknown field."""
    if "roles" not in store.features:
        raise Problem(400, "bad_request")


def may_add(store: FakeStore, room_id: str, body: Json) -> Any:
    """The role that *body* names. 403 `owner_only` unless the member that it names may add members with it."""
    role, by = body.get("role"), body.get("by")
    if role is not None and role not in ROLES:
        raise Problem(400, "bad_request", field="role")
    if by is not None:
        needs_roles(store)
        actor = _role_of(store, room_id, by)
        if actor != "owner" and (role is not None or actor != "moderator"):
            raise Problem(403, "owner_only")
    return role


def put(store: FakeStore, room_id: str, user_id: str, body: Json) -> Json:
    """The membership, with the role that *body* names, by the member that it names."""
    role = may_add(store, room_id, body)
    present = store.members[room_id].get(user_id)
    if present is not None and present["role"] == "owner" and role not in {None, "owner"}:
        owners = [each for each in store.members[room_id].values() if each["role"] == "owner"]
        if len(owners) == 1:
            raise Problem(409, "last_owner")
    return store.join(room_id, user_id, role)


def may_remove(store: FakeStore, request: Seen, room_id: str, user_id: str) -> None:
    """403 `owner_only` unless the member that the query names may remove this one."""
    by = request.query.get("by")
    if by is None:
        return
    needs_roles(store)
    actor, other = _role_of(store, room_id, by), store.members[room_id][user_id]["role"]
    lower = actor == "moderator" and ROLES.index(other) > ROLES.index(actor)
    if by != user_id and actor != "owner" and not lower:
        raise Problem(403, "owner_only")


def _role_of(store: FakeStore, room_id: str, user_id: str) -> str:
    if user_id not in store.members[room_id]:
        raise Problem(404, "room_not_found")
    return str(store.members[room_id][user_id]["role"])


def may_change(store: FakeStore, message: Json, editor: str | None, request: Seen) -> None:
    """403 unless the user (None: the API key) may edit, or else delete, the message."""
    if editor is None:
        return
    room_id, author = message["room_id"], message["user_id"]
    members = store.members[room_id]
    if editor not in members:
        raise Problem(404, "room_not_found")
    if request.method == "DELETE":
        role = members[editor]["role"]
        of_owner = members.get(author, {}).get("role") == "owner"
        if editor == author or role == "owner" or (role == "moderator" and not of_owner):
            return
    if editor != author:
        raise Problem(403, "not_the_author")
    window = setting(store.rooms[room_id], "edit_window")
    age = store.now() - datetime.fromisoformat(message["created_at"]).timestamp()
    if window and age > window:
        raise Problem(403, "too_late")


def seen_from(store: FakeStore, request: Seen, room_id: str, caller: str | None) -> int:
    """The first message that is answered: of those that the caller sees, from `from_seq` on."""
    hidden = 1 if caller is None else int(store.side(room_id, caller)["from_seq"])
    return max(hidden, number(request, "from_seq", 1))


def whole_member(store: FakeStore, room_id: str, user_id: str, caller: str | None) -> Json:
    """The membership; for the API key and for the member with `from_seq`, unless it is 1."""
    member = store.members[room_id][user_id]
    from_seq = store.side(room_id, user_id)["from_seq"]
    if from_seq == 1 or caller not in {None, user_id} or "roles" not in store.features:
        return member
    return {**member, "from_seq": from_seq}
