"""The routes of the fake Chat API."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from . import (
    fake_changes,
    fake_messages,
    fake_people,
    fake_presence,
    fake_reactions,
    fake_roles,
    fake_rooms,
)
from .fake_store import FakeStore, Json, Problem, Seen, encoded, number

if TYPE_CHECKING:
    from .fake_live import FakeLive

_USER_FILTERS = ("external_user_id", "status")
_USER_FIELDS = {"username", "display_name", "email", "avatar_url", "status", "metadata"}
_ROOM_FIELDS = {"name", "description", "private", "metadata"}

LARGEST_ANSWER = 512 * 1024
"""Bytes. A list by cursor ends early where it would be larger."""


def route(
    store: "FakeStore", live: "FakeLive", request: "Seen", caller: str | None
) -> tuple[int, Any]:
    """Status and body of the response. *caller*: the user's id of a token, None for the API key."""
    path = request.path.removeprefix("/api/v1")
    if path == "/project" and (caller is None or store.features):
        return 200, _project(store)
    if path == "/auth/verify":
        return 200, _verified(store, request, caller)
    if path == "/sync" and request.method == "POST" and caller is not None:
        _need(store, "sync")
        return 200, fake_changes.sync(store, caller, request.body or {})
    parts = path.split("/")
    if parts[:3] != ["", "projects", store.project_id] or len(parts) < 4:
        raise Problem(404, "not_found")
    resource, rest = parts[3], parts[4:]
    if resource == "presence" or rest[1:] == ["signals"]:
        return _presence(store, live, request, parts[3:], caller)
    if resource == "users":
        if caller is not None:
            raise Problem(403, "forbidden")
        return _users(store, request, rest)
    if resource == "direct" and request.method == "PUT" and caller is None:
        _need(store, "direct")
        return fake_rooms.ensure_direct(store, request.body or {})
    if resource == "rooms":
        if rest and "external_rooms" in store.features:
            if request.method == "PUT" and len(rest) == 1 and caller is None:
                return fake_rooms.ensure(store, rest[0], request.body or {})
            rest = [fake_rooms.room_id(store, rest[0]), *rest[1:]]
        return _rooms(store, request, rest, caller)
    raise Problem(404, "not_found")


def _presence(
    store: "FakeStore", live: "FakeLive", request: "Seen", parts: list[str], caller: str | None
) -> tuple[int, Any]:
    """Who is online, and signals of the API key."""
    if caller is not None:
        raise Problem(403, "api_key_required")
    match request.method, parts:
        case "GET", ["presence"]:
            _need(store, "presence")
            return 200, fake_presence.asked(store, live, request)
        case "POST", ["rooms", name, "signals"]:
            _need(store, "signals")
            room_id = str(store.room(fake_rooms.room_id(store, name))["id"])
            live.signal(fake_presence.signal(store, request.body or {}, room_id), None, None)
            return 202, {}
        case "POST", ["users", user_id, "signals"]:
            _need(store, "signals")
            store.user(user_id)
            live.signal(fake_presence.signal(store, request.body or {}, None), user_id, None)
            return 202, {}
    raise Problem(404, "not_found")


def _need(store: "FakeStore", feature: str) -> None:
    """404 on a server without *feature*, as for an unknown route."""
    if feature not in store.features:
        raise Problem(404, "not_found")


def _project(store: "FakeStore") -> "Json":
    project = {"id": store.project_id, "name": "fake"}
    if not store.features:
        return project
    return {
        **project,
        "epoch": store.epoch,
        "features": [*store.features],
        "limits": fake_changes.LIMITS,
    }


def _verified(store: "FakeStore", request: "Seen", caller: str | None) -> "Json":
    if caller is None:
        raise Problem(401, "not_authenticated")
    user = store.user(caller)
    token = request.headers["authorization"].removeprefix("Bearer ")
    return {
        "valid": True,
        "user": {
            "userId": user["id"],
            "username": user["username"],
            "externalUserId": user["external_user_id"],
            "projectId": store.project_id,
        },
        "expires_at": store.timestamp(store.bearer(token)[1]),
    }


def _users(store: "FakeStore", request: "Seen", rest: list[str]) -> tuple[int, Any]:
    body = request.body or {}
    match request.method, rest:
        case "POST", []:
            return 201, store.create_user(body)
        case "GET", []:
            return 200, _page([u for u in store.users.values() if _matches(u, request)], request)
        case "GET", [user_id]:
            return 200, store.user(user_id)
        case "PATCH", [user_id]:
            return 200, _update_user(store, user_id, body)
        case "DELETE", [user_id]:
            store.user(user_id)
            del store.users[user_id]
            store.blocks.pop(user_id, None)
            for room_id in store.rooms:
                store.leave(room_id, user_id)
            store.close_user(user_id, "user_deleted")
            return 204, None
        case "POST", [user_id, "token"]:
            return 200, store.mint(user_id, int(body.get("expires_in", 900)))
        case "POST", [user_id, "revoke"]:
            store.user(user_id)
            store.generations[user_id] = store.generations.get(user_id, 0) + 1
            generation = store.generations[user_id]
            return 200, {
                "generation": generation,
                "sockets_closed": store.close_user(user_id, "token_revoked"),
                "nodes_acked": 1,
                "took_ms": 0,
            }
        case "POST", [user_id, "sync"]:
            _need(store, "sync")
            return 200, fake_changes.sync(store, user_id, body)
        case "GET", [user_id, "unread"]:
            _need(store, "mine")
            return 200, fake_changes.totals(store, user_id)
        case "POST", [user_id, "read"]:
            _need(store, "mine")
            return 200, fake_changes.mark_all_read(store, user_id, body)
        case "GET", [user_id, "mentions"]:
            _need(store, "mentions")
            return 200, fake_messages.mentions(store, request, user_id)
        case _, [user_id, "settings" | "blocks" | "directory", *_]:
            return _people(store, request, rest)
    raise Problem(405, "method_not_allowed")


def _update_user(store: "FakeStore", user_id: str, body: "Json") -> "Json":
    if "username" in body and store.user(user_id):
        store.refuse_taken_name(body["username"], excluded=user_id)
    before = fake_people.public(store.user(user_id))
    user = _changed(store, store.user(user_id), body, _USER_FIELDS)
    if fake_people.public(user) != before:
        store.tell_user(fake_people.public(user))
    if user["status"] != "active":
        store.close_user(user_id, "user_suspended")
    return user


def _people(store: "FakeStore", request: "Seen", rest: list[str]) -> tuple[int, Any]:
    """What a user has set, whom a user blocks and finds."""
    _need(store, "directory" if rest[1] == "directory" else "blocks")
    match request.method, rest:
        case "GET", [user_id, "settings"]:
            return 200, fake_people.settings(store, user_id)
        case "PATCH", [user_id, "settings"]:
            return 200, fake_people.update_settings(store, user_id, request.body or {})
        case "GET", [user_id, "blocks"]:
            return 200, _page(fake_people.blocks(store, user_id), request)
        case "PUT", [user_id, "blocks", other_id]:
            fake_people.block(store, user_id, other_id)
            return 204, None
        case "DELETE", [user_id, "blocks", other_id]:
            fake_people.unblock(store, user_id, other_id)
            return 204, None
        case "GET", [user_id, "directory"]:
            return 200, fake_people.directory(store, request, user_id)
    raise Problem(405, "method_not_allowed")


def _rooms(
    store: "FakeStore", request: "Seen", rest: list[str], caller: str | None
) -> tuple[int, Any]:
    body = request.body or {}
    match request.method, rest:
        case "POST", []:
            return 201, fake_rooms.create(store, body)
        case "GET", []:
            return 200, _listed(store, request, caller)
        case "GET", [room_id]:
            return 200, store.room(room_id, caller)
        case "PATCH", [room_id]:
            if body.keys() - {"metadata"}:
                fake_rooms.refuse_direct(store, room_id)
            fields = {name: value for name, value in body.items() if name not in {"settings", "by"}}
            fake_roles.may_update(store, room_id, body.get("by"))
            room = _changed(store, store.room(room_id), fields, _ROOM_FIELDS)
            fake_roles.change_settings(store, room, body)
            store.change(room_id, "room", "", None)
            store.publish("room_updated", room_id, room)
            return 200, room
        case "DELETE", [room_id]:
            store.room(room_id)
            del store.rooms[room_id]
            store.publish("room_deleted", room_id, {"room_id": room_id})
            return 204, None
        case "POST", [room_id, "join"]:
            joining = caller or body.get("user_id", "")
            if caller and store.room(room_id)["private"] and caller not in store.members[room_id]:
                raise Problem(404, "not_found")
            if joining not in store.members.get(room_id, ()):
                fake_rooms.refuse_direct(store, room_id)
            return 200, store.join(room_id, joining)
        case "POST", [room_id, "leave"]:
            fake_rooms.refuse_direct(store, room_id)
            store.leave(room_id, caller or body.get("user_id", ""))
            return 204, None
        case "PUT", [room_id, "read"]:
            store.room(room_id)
            return 200, store.mark_read(room_id, caller or body.get("user_id", ""), body["seq"])
        case _, [room_id, ("delivered" | "changes" | "mine"), *_] | [room_id, "members", _, "mine"]:
            return 200, _room_state(store, request, rest, caller)
        case _, [room_id, "members", *member]:
            return _members(store, request, room_id, member, caller)
        case _, [room_id, ("messages" | "pins") as part, *message]:
            answer = _messages if part == "messages" and len(message) < 2 else _reactions
            return answer(store, request, room_id, message, caller)
    raise Problem(405, "method_not_allowed")


def _room_state(store: "FakeStore", request: "Seen", rest: list[str], caller: str | None) -> "Json":
    """What changed in a room, and a member's own side of it."""
    room_id, body = rest[0], request.body or {}
    store.room(room_id, caller)
    match request.method, rest[1:]:
        case "PUT", ["delivered"]:
            _need(store, "mine")
            user_id = caller or body.get("user_id", "")
            return fake_changes.mark_delivered(store, room_id, user_id, body["seq"])
        case "GET", ["changes"]:
            _need(store, "changes")
            return fake_changes.changes(store, request, room_id, caller)
        case _, ["mine"] if caller is not None:
            return _mine(store, request, room_id, caller)
        case _, ["members", user_id, "mine"] if caller is None:
            return _mine(store, request, room_id, user_id)
    raise Problem(404, "not_found")


def _listed(store: "FakeStore", request: "Seen", caller: str | None) -> "Json":
    query = request.query
    member = caller or query.get("member_id")
    if {"sort", "kind", "archived", "cursor"} & query.keys():
        _need(store, "mine")
    rooms = [
        room if member is None else fake_changes.for_member(store, room, member)
        for room in (store.rooms.values() if member is None else store.rooms_of(member))
        if _contains(room, ("name", "description"), request)
        and query.get("kind", room["kind"]) == room["kind"]
    ]
    if "archived" in query and member is not None:
        wanted = query["archived"] == "true"
        rooms = [room for room in rooms if (room["mine"]["archived"] != "no") == wanted]
    if query.get("sort") != "activity":
        return _page(rooms, request)
    limit, cursor = number(request, "limit", 50), query.get("cursor")
    left = [
        room
        for room in fake_changes.by_activity(rooms)
        if cursor is None or fake_changes.place(room) < cursor
    ]
    more = len(left) > limit
    next_cursor = fake_changes.place(left[limit - 1]) if more else None
    return {"items": left[:limit], "limit": limit, "next_cursor": next_cursor, "has_more": more}


def _mine(store: "FakeStore", request: "Seen", room_id: str, user_id: str) -> "Json":
    _need(store, "mine")
    store.room(room_id, user_id)
    match request.method:
        case "GET":
            return fake_changes.mine(store, room_id, user_id)
        case "PATCH":
            return fake_changes.update_mine(store, room_id, user_id, request.body or {})
    raise Problem(405, "method_not_allowed")


def _members(
    store: "FakeStore", request: "Seen", room_id: str, rest: list[str], caller: str | None
) -> tuple[int, Any]:
    store.room(room_id, caller)
    members = store.members[room_id]
    if request.method in {"PUT", "DELETE"}:
        fake_rooms.refuse_direct(store, room_id)
    match request.method, rest:
        case "GET", [] if request.query.keys() & {"ids", "role", "q", "cursor"}:
            return 200, fake_rooms.some_members(store, room_id, request)
        case "GET", []:
            return 200, _page(members.values(), request)
        case "POST", []:
            return 200, fake_rooms.add_members(store, room_id, request.body or {})
        case "GET", [user_id] if user_id in members:
            return 200, fake_roles.whole_member(store, room_id, user_id, caller)
        case "PUT", [user_id]:
            return 200, fake_roles.put(store, room_id, user_id, request.body or {})
        case "DELETE", [user_id] if user_id in members:
            fake_roles.may_remove(store, request, room_id, user_id)
            store.leave(room_id, user_id, "removed")
            return 204, None
    raise Problem(404, "not_found")


def _messages(
    store: "FakeStore", request: "Seen", room_id: str, rest: list[str], caller: str | None
) -> tuple[int, Any]:
    store.room(room_id, caller)
    body = request.body or {}
    messages = store.messages[room_id]
    first = fake_roles.seen_from(store, request, room_id, caller)
    if first > 1:
        messages = [each for each in messages if each["seq"] >= first]
    match request.method, rest:
        case "POST", []:
            if caller and body.get("user_id", caller) != caller:
                raise Problem(403, "forbidden")
            user_id = caller or body.get("user_id", "")
            return 201, _posted(store, room_id, user_id, body)
        case "GET", []:
            page = _window(store, request, messages)
            return 200, _with_own_reactions(store, request, page, caller)
        case "GET", [message_id]:
            _need(store, "changes")
            for message in messages:
                if message["id"] == message_id:
                    return 200, message
            raise Problem(404, "message_not_found")
        case "PATCH", [message_id]:
            message = store.message(room_id, message_id)
            fake_roles.may_change(store, message, caller or body.get("user_id"), request)
            if body.get("if_rev") not in {None, message.get("rev", 0)}:
                raise Problem(409, "changed", rev=message.get("rev", 0))
            fake_messages.edit(store, message, body)
            store.change(room_id, "message", message_id, message)
            reason = {"kind": "edited", **({"user_id": caller} if caller else {})}
            store.publish("message_updated", room_id, {**message, "change": reason})
            return 200, message
        case "DELETE", [message_id]:
            message = store.message(room_id, message_id)
            fake_roles.may_change(store, message, caller or request.query.get("user_id"), request)
            if message["deleted_at"] is None:
                fake_messages.delete(store, message)
                fake_reactions.forget(store, message)
                if store.features:
                    store.rooms[room_id]["message_count"] -= 1
                store.change(room_id, "message", message_id, message)
                store.publish("message_deleted", room_id, message)
            return 204, None
    raise Problem(404, "not_found")


def _reactions(
    store: "FakeStore", request: "Seen", room_id: str, rest: list[str], caller: str | None
) -> tuple[int, Any]:
    """Reactions to a message, its pin; with nothing in *rest* the pins of the room."""
    method = request.method
    part = next((name for name in ("reactions", "receipts") if name in rest), "pins")
    _need(store, part)
    store.room(room_id, caller)
    reader = caller or request.query.get("member_id")
    hidden = 1 if reader is None else store.side(room_id, reader)["from_seq"]
    if not rest and method == "GET":
        page = {"items": fake_reactions.pins(store, room_id, hidden)}
        return 200, _with_own_reactions(store, request, page, caller)
    if len(rest) < 2:
        raise Problem(405, "method_not_allowed")
    message_id, part, *more = rest
    seqs = [each["seq"] for each in store.messages[room_id] if each["id"] == message_id]
    if not seqs or seqs[0] < hidden:
        raise Problem(404, "message_not_found")
    match method, part, more:
        case "GET", "receipts", []:
            return 200, fake_presence.of_message(store, room_id, message_id, reader)
        case "GET", "reactions", []:
            return 200, fake_reactions.reactors(store, request, room_id, message_id)
        case (("PUT" | "DELETE"), "reactions", [emoji]) if caller is not None:
            add = method == "PUT"
            return 200, fake_reactions.react(store, room_id, message_id, emoji, caller, add=add)
        case (("PUT" | "DELETE"), "reactions", [emoji, user_id]) if caller is None:
            add = method == "PUT"
            return 200, fake_reactions.react(store, room_id, message_id, emoji, user_id, add=add)
        case (("PUT" | "DELETE"), "pin", []):
            pinner = caller or (request.body or {}).get("user_id")
            act = fake_reactions.pin if method == "PUT" else fake_reactions.unpin
            return 200, act(store, room_id, message_id, pinner)
    raise Problem(404, "not_found")


def _with_own_reactions(
    store: "FakeStore", request: "Seen", page: "Json", caller: str | None
) -> "Json":
    reader = caller or request.query.get("viewer_id") or request.query.get("member_id")
    own = fake_reactions.own(store, page["items"], reader)
    return {**page, "mine": own} if own else page


def _posted(store: "FakeStore", room_id: str, user_id: str, body: "Json") -> "Json":
    if user_id not in store.members[room_id]:
        raise Problem(403, "not_a_member")
    return store.post(room_id, user_id, body, fake_messages.more(store, room_id, user_id, body))


def _changed(store: "FakeStore", thing: "Json", body: "Json", allowed: set[str]) -> "Json":
    for name in body:
        if name not in allowed:
            raise Problem(400, "bad_request", field=name)
    thing.update(body, updated_at=store.timestamp())
    return thing


def _matches(user: "Json", request: "Seen") -> bool:
    wanted = {name: request.query[name] for name in _USER_FILTERS if name in request.query}
    username = request.query.get("username")
    return (
        all(user[name] == value for name, value in wanted.items())
        and (username is None or user["username"].lower() == username.lower())
        and _contains(user, ("username", "display_name", "external_user_id"), request)
    )


def _contains(thing: "Json", names: tuple[str, ...], request: "Seen") -> bool:
    wanted = fake_people.folded(request.query.get("q", ""))
    return any(wanted in fake_people.folded(thing[name] or "") for name in names)


def _page(things: Iterable[Any], request: "Seen") -> "Json":
    page, limit = number(request, "page", 1), number(request, "limit", 50)
    if page < 1 or not 1 <= limit <= 200:
        raise Problem(400, "bad_request")
    every = list(things)
    return {
        "items": every[(page - 1) * limit : page * limit],
        "page": page,
        "limit": limit,
        "total": len(every),
        "totalPages": -(-len(every) // limit),
    }


def _window(store: "FakeStore", request: "Seen", messages: list[Any]) -> "Json":
    """The part of *messages* that the query asks for."""
    query = request.query
    if "around" in query or "ids" in query:
        _need(store, "changes")
    if "around" in query:
        return _around(messages, request)
    if "ids" in query:
        wanted = query["ids"].split(",")
        return _page([each for each in messages if each["id"] in wanted], request)
    if "after" in query:
        after = number(request, "after", 0)
        return _cursor([each for each in messages if each["seq"] > after], request)
    if "before" in query:
        before = number(request, "before", 0)
        return _cursor([each for each in reversed(messages) if each["seq"] < before], request)
    return _page(reversed(messages), request)


def _around(messages: list[Any], request: "Seen") -> "Json":
    """*limit* messages on both sides of a `seq`, or as many as there are."""
    around, limit = number(request, "around", 0), number(request, "limit", 50)
    before = [each for each in messages if each["seq"] < around]
    after = [each for each in messages if each["seq"] >= around]
    older = min(len(before), max(limit // 2, limit - len(after)))
    items = [*before[len(before) - older :], *after[: limit - older]]
    return {
        "items": items,
        "page": 1,
        "limit": limit,
        "total": len(messages),
        "totalPages": -(-len(messages) // limit),
        "has_before": older < len(before),
        "has_after": limit - older < len(after),
    }


def _cursor(things: list[Any], request: "Seen") -> "Json":
    limit = number(request, "limit", 50)
    items = _fitting(things[:limit])
    return {
        "items": items,
        "page": 1,
        "limit": limit,
        "total": len(things),
        "totalPages": -(-len(things) // limit),
        "next_cursor": items[-1]["seq"] if items else None,
        "has_more": len(things) > len(items),
    }


def _fitting(items: list[Any]) -> list[Any]:
    """As many of the first *items* as one response may hold, and at least one."""
    left = LARGEST_ANSWER - 1024
    for count, item in enumerate(items):
        left -= len(encoded(item)) + 1
        if left < 0 and count:
            return items[:count]
    return items
