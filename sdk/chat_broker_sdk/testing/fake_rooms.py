"""Direct rooms, rooms by the app's own id, and some of many members, in the fake Chat API."""

import re
from typing import Any

from . import fake_roles
from .fake_store import FakeStore, Json, Problem, Seen, number

EXTERNAL = "external:"
MOST_USERS = 8
MOST_MEMBERS = 100

_EXTERNAL_ID = re.compile(r"[A-Za-z0-9._:@~-]{1,128}")
_DIRECT_FIELDS = {"user_ids", "created_by"}
_ROOM_FIELDS = {"name", "created_by", "description", "private", "member_ids", "metadata"}


def room_id(store: FakeStore, name: str) -> str:
    """The id of the room with this id, or `external:` and the app's own; *name* itself if there is none."""
    for room in store.rooms.values():
        if EXTERNAL + room.get("external_id", "/") == name:
            found: str = room["id"]
            return found
    return name


def create(store: FakeStore, body: Json) -> Json:
    """Create a room. 409 if its external id is taken."""
    own_id = body.get("external_id")
    if own_id is None:
        return store.create_room(body)
    if not _EXTERNAL_ID.fullmatch(str(own_id)):
        raise Problem(400, "bad_request", field="external_id")
    if room_id(store, EXTERNAL + own_id) in store.rooms:
        raise Problem(409, "external_id_taken")
    room = store.create_room(body)
    room["external_id"] = own_id
    return room


def ensure(store: FakeStore, name: str, body: Json) -> tuple[int, Json]:
    """The room that is named `external:` and the app's own id; 201 if it is new."""
    own_id = name.removeprefix(EXTERNAL)
    if not name.startswith(EXTERNAL) or set(body) - _ROOM_FIELDS or not body.get("name"):
        raise Problem(400, "bad_request")
    users = [body.get("created_by", ""), *(body.get("member_ids") or ())]
    _require_users(store, users, "member_ids")
    found = room_id(store, name)
    if found not in store.rooms:
        return 201, create(store, {**body, "external_id": own_id})
    for user_id in users:
        store.join(found, user_id)
    return 200, store.rooms[found]


def ensure_direct(store: FakeStore, body: Json) -> tuple[int, Json]:
    """The room of a set of users; 201 if it is new."""
    users = list(dict.fromkeys(body.get("user_ids") or ()))
    creator = body.get("created_by") or (users or [""])[0]
    if set(body) - _DIRECT_FIELDS or not 1 <= len(users) <= MOST_USERS or creator not in users:
        raise Problem(400, "bad_request", field="user_ids")
    _require_users(store, users)
    for room_id, pair in store.direct.items():
        if pair == set(users) and room_id in store.rooms:
            return 200, store.rooms[room_id]
    if any(store.blocked(creator, other) for other in users):
        raise Problem(403, "blocked")
    room = store.create_room(
        {"name": "-", "created_by": creator, "private": True, "member_ids": users}
    )
    room |= {"name": "", "kind": "direct"}
    store.members[room["id"]][creator]["role"] = "member"
    names = ("id", "username", "display_name", "avatar_url")
    room["members"] = [{name: store.users[each][name] for name in names} for each in sorted(users)]
    store.direct[room["id"]] = set(users)
    return 201, room


def refuse_direct(store: FakeStore, room_id: str) -> None:
    """409 if the room's members never change."""
    if room_id in store.direct:
        raise Problem(409, "direct_room")


def add_members(store: FakeStore, room_id: str, body: Json) -> Json:
    """Make all users members, or none."""
    users = list(dict.fromkeys(body.get("user_ids") or ()))
    if not 1 <= len(users) <= MOST_MEMBERS or set(body) - {"user_ids", "role", "by"}:
        raise Problem(400, "bad_request", field="user_ids")
    refuse_direct(store, room_id)
    role = fake_roles.may_add(store, room_id, body)
    _require_users(store, users)
    new = [user_id for user_id in users if user_id not in store.members[room_id]]
    added = [store.join(room_id, user_id, role) for user_id in new]
    return {"added": added, "there": [user_id for user_id in users if user_id not in new]}


def some_members(store: FakeStore, room_id: str, request: Seen) -> Json:
    """Those members whom the query asks for."""
    query, limit = request.query, number(request, "limit", 50)
    ids = query["ids"].split(",") if "ids" in query else None
    found: list[Any] = [
        member
        for user_id, member in sorted(store.members[room_id].items())
        if (ids is None or user_id in ids)
        and query.get("role") in {None, member["role"]}
        and any(
            query.get("q", "").casefold() in (member[name] or "").casefold()
            for name in ("username", "display_name")
        )
    ]
    if ids is not None:
        return {
            "items": found,
            "page": 1,
            "limit": MOST_MEMBERS,
            "total": len(found),
            "totalPages": 1,
        }
    page, total = number(request, "page", 1), len(found)
    start = (page - 1) * limit
    if "cursor" in query:
        found = [member for member in found if member["user_id"] > query["cursor"]]
        start = 0
    items = found[start : start + limit]
    more = start + limit < len(found)
    answer = {
        "items": items,
        "limit": limit,
        "next_cursor": items[-1]["user_id"] if more else None,
        "has_more": more,
    }
    if "cursor" in query:
        return answer
    return {**answer, "page": page, "total": total, "totalPages": -(-total // limit)}


def _require_users(store: FakeStore, user_ids: list[str], field: str = "user_ids") -> None:
    for at, user_id in enumerate(user_ids):
        if user_id not in store.users:
            raise Problem(404, "user_not_found", field=f"{field}[{at}]")
