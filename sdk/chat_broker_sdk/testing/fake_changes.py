"""Features of the fake Chat API that keep a client's copy right: changes, a member's own side, totals, sync."""

from collections.abc import Callable
from typing import Any

from . import fake_presence, fake_rooms
from .fake_store import FakeStore, Json, Problem, Seen, number

FEATURES = (
    "changes",
    "mine",
    "sync",
    "direct",
    "external_rooms",
    "replies",
    "mentions",
    "blocks",
    "directory",
    "roles",
    "reactions",
    "pins",
    "receipts",
    "presence",
    "signals",
)
LIMITS = {
    "content": 8000,
    "metadata": 4096,
    "body": 65536,
    "answer": 524288,
    "page": 200,
    "pins": 50,
    "reactions": 20,
}
MOST_CHANGES = 200
MOST_ROOMS = 200

_SYNC = {"have", "have_version", "epoch", "messages", "limit", "cursor", "token"}


# -- changes --------------------------------------------------------------------------------------


def changes(store: FakeStore, request: Seen, room_id: str, caller: str | None) -> Json:
    """What changed in the room after `since_rev`."""
    if "since_rev" not in request.query:
        raise Problem(400, "bad_request", field="since_rev")
    member = caller or request.query.get("member_id")
    room = store.room(room_id, member)
    since, limit = number(request, "since_rev", 0), number(request, "limit", 50)
    if not 1 <= limit <= MOST_CHANGES:
        raise Problem(400, "bad_request", field="limit")
    if since > room.get("rev", 0):
        return {"items": [], "rev": room.get("rev", 0), "has_more": False, "reset": True}
    from_seq = number(request, "from_seq", 0)
    if member is not None:
        from_seq = max(from_seq, store.side(room_id, member)["from_seq"])
    items = changed(store, room_id, since, from_seq)
    return {
        "items": items[:limit],
        "rev": room.get("rev", 0),
        "has_more": len(items) > limit,
        "reset": False,
    }


def changed(
    store: FakeStore, room_id: str, since_rev: int, from_seq: int = 0, to_seq: float = float("inf")
) -> list[Json]:
    """The room's objects that changed after *since_rev*, in order of `rev`."""
    found = []
    for (kind, object_id), rev in sorted(store.changes[room_id].items(), key=lambda each: each[1]):
        if rev <= since_rev:
            continue
        change: Json = {"rev": rev, "kind": kind}
        if kind == "message":
            change["message"] = store.message(room_id, object_id)
            if not from_seq <= change["message"]["seq"] <= to_seq:
                continue
        elif kind == "member":
            change |= {"user_id": object_id, "member": store.members[room_id].get(object_id)}
        else:
            change["room"] = store.rooms[room_id]
        found.append(change)
    return found


# -- a member's own side --------------------------------------------------------------------------


def mine(store: FakeStore, room_id: str, user_id: str) -> Json:
    """The user's own side of the room."""
    side, member = store.side(room_id, user_id), store.members[room_id][user_id]
    return {
        "role": member["role"],
        "joined_at": member["joined_at"],
        "last_read_seq": member["last_read_seq"],
        "unread": store.unread(room_id, user_id),
        "mentions": store.unread(room_id, user_id, naming=user_id),
        "following": True,
        **{name: value for name, value in side.items() if name != "archived_seq"},
        "archived": _archived(store, room_id, side),
    }


def _archived(store: FakeStore, room_id: str, side: Json) -> str:
    ended = side["archived"] == "until_message" and (
        store.rooms[room_id]["last_seq"] > side["archived_seq"]
    )
    return "no" if ended else str(side["archived"])


def update_mine(store: FakeStore, room_id: str, user_id: str, body: Json) -> Json:
    """Change the fields of the user's own side that *body* has."""
    side, room = store.side(room_id, user_id), store.rooms[room_id]
    allowed: dict[str, Callable[[Any], bool]] = {
        "notify": lambda value: value in {"all", "mentions", "none", None},
        "muted_until": lambda value: value is None or isinstance(value, str),
        "archived": lambda value: value in {"no", "until_message", "yes"},
        "pinned": lambda value: isinstance(value, bool),
        "marked_unread": lambda value: isinstance(value, bool),
        "clear_history": lambda value: value is True,
    }
    for name, value in body.items():
        if name not in allowed or not allowed[name](value):
            raise Problem(400, "bad_request", field=name)
    before = dict(side)
    side |= {
        name: body[name] for name in ("notify", "muted_until", "marked_unread") if name in body
    }
    if "archived" in body:
        side |= {"archived": body["archived"], "archived_seq": room["last_seq"]}
    if "pinned" in body:
        side["pinned_at"] = (side["pinned_at"] or store.timestamp()) if body["pinned"] else None
    if "clear_history" in body:
        side["from_seq"] = room["last_seq"] + 1
    if side != before:
        side["version"] += 1
        store.tell_mine(room_id, user_id)
    return mine(store, room_id, user_id)


def mark_delivered(store: FakeStore, room_id: str, user_id: str, seq: int) -> Json:
    """Move the user's mark of delivery up to *seq*, never back."""
    side = store.side(room_id, user_id)
    reached = max(side["delivered_seq"], min(seq, store.rooms[room_id]["last_seq"]))
    if reached != side["delivered_seq"]:
        side |= {"delivered_seq": reached, "version": side["version"] + 1}
        store.tell_mine(room_id, user_id)
        store.tell_receipt(room_id, user_id)
    return {"delivered_seq": reached}


# -- all rooms of a user --------------------------------------------------------------------------


def rooms_of(store: FakeStore, user_id: str) -> list[Json]:
    """The user's rooms as they are listed for them, newest activity first."""
    return by_activity([for_member(store, room, user_id) for room in store.rooms_of(user_id)])


def by_activity(rooms: list[Json]) -> list[Json]:
    """*rooms*, those with the newest message first."""
    return sorted(rooms, key=place, reverse=True)


def place(room: Json) -> str:
    """The room's place in the order by activity, as text; also the cursor after it."""
    return f"{room['last_message_at'] or room['created_at']}|{room['id']}"


def for_member(store: FakeStore, room: Json, user_id: str) -> Json:
    """The room as it is listed for a member."""
    unread = store.unread(room["id"], user_id)
    if not store.features:
        return {**room, "unread": unread}
    messages = store.messages[room["id"]]
    visible = messages and messages[-1]["seq"] >= store.side(room["id"], user_id)["from_seq"]
    return {
        **room,
        "unread": unread,
        "mine": mine(store, room["id"], user_id),
        "last_message": messages[-1] if visible else None,
    }


def totals(store: FakeStore, user_id: str) -> Json:
    """What is unread in the user's rooms that are neither silenced nor archived."""
    store.user(user_id)
    counted = [
        (room, side)
        for room in store.rooms_of(user_id)
        if (side := mine(store, room["id"], user_id))["notify"] != "none"
        and (side["muted_until"] or "") <= store.timestamp()
        and side["archived"] == "no"
    ]
    unread = [room for room, side in counted if side["unread"] or side["marked_unread"]]
    return {
        "rooms": len(unread),
        "messages": sum(side["unread"] for _, side in counted),
        "mentions": sum(side["mentions"] for _, side in counted),
        "direct": sum(room["kind"] == "direct" for room in unread),
    }


def mark_all_read(store: FakeStore, user_id: str, body: Json) -> Json:
    """Mark the rooms that *body* names as read, or all. 404 if one is not the user's; then none is marked."""
    own = {room["id"]: room["last_seq"] for room in store.rooms_of(user_id)}
    marks = own if body.get("all") is True else body.get("rooms")
    if not isinstance(marks, dict) or set(body) - {"all", "rooms"} or len(body) != 1:
        raise Problem(400, "bad_request", field="rooms")
    if body.get("all") is not True and len(marks) > MOST_ROOMS:
        raise Problem(400, "bad_request", field="rooms")
    marks = {fake_rooms.room_id(store, name): seq for name, seq in marks.items()}
    if marks.keys() - own.keys():
        raise Problem(404, "room_not_found")
    for room_id, seq in marks.items():
        store.mark_read(room_id, user_id, seq)
    return {"totals": totals(store, user_id)}


def sync(store: FakeStore, user_id: str, body: Json) -> Json:
    """What a client that knows `have` lacks of the user's rooms."""
    store.user(user_id)
    messages, limit = body.get("messages", 1), body.get("limit", 50)
    have: dict[str, list[int]] = body.get("have", {})
    for name, bad in (
        ("messages", not 0 <= messages <= 20),
        ("limit", not 1 <= limit <= 200),
        ("have", len(have) > 500),
        (next(iter(set(body) - _SYNC), ""), bool(set(body) - _SYNC)),
    ):
        if bad:
            raise Problem(400, "bad_request", field=name)
    foreign = body.get("epoch") not in {None, store.epoch}
    mine_now = rooms_of(store, user_id)
    known = [room for room in mine_now if room["id"] in have]
    least = min((place(room).partition("|")[0] for room in known), default="")
    joined_after = store.joins if body.get("token") is None else int(body["token"])
    chosen = [
        room
        for room in mine_now
        if (
            foreign or have[room["id"]] != _point(room)
            if room["id"] in have
            else place(room).partition("|")[0] >= least
            or store.joined_as[room["id"], user_id] > joined_after
        )
    ]
    cursor = body.get("cursor")
    left = [room for room in chosen if cursor is None or place(room) < cursor]
    more = len(left) > limit
    answer = {
        "deltas": [
            delta(store, room, None if foreign else have.get(room["id"]), messages)
            for room in left[:limit]
        ],
        "removed": [] if cursor else sorted(have.keys() - {room["id"] for room in mine_now}),
        "unread": totals(store, user_id),
        "epoch": store.epoch,
        "version": store.versions.get(user_id, 0),
        "has_more": more,
        "cursor": place(left[limit - 1]) if more else None,
    }
    if body.get("have_version") not in {None, answer["version"]}:
        answer["reload"] = True
    for each in answer["deltas"]:
        told = fake_presence.receipts(store, each["room"]["id"], user_id)
        if told and "receipts" in store.features:
            each["receipts"] = told
        if foreign:
            each["reset"] = each["room"]["id"] in have
    return answer if more else {**answer, "token": str(store.joins)}


def _point(room: Json) -> list[int]:
    return [room["last_seq"], room.get("rev", 0), room["mine"]["version"]]


def delta(store: FakeStore, room: Json, known: list[int] | None, messages: int) -> Json:
    """What a client lacks of *room* (as listed) that knows [last_seq, rev, version] of it: *messages* newest ones."""
    room_id = room["id"]
    seq, rev, _ = known or (0, room.get("rev", 0), 0)
    reset = known is not None and (seq > room["last_seq"] or rev > room.get("rev", 0))
    if reset:
        seq, rev = 0, room.get("rev", 0)
    from_seq = room["mine"]["from_seq"]
    missed = [each for each in store.messages[room_id] if each["seq"] > max(seq, from_seq - 1)]
    found = changed(store, room_id, rev, from_seq, seq)
    return {
        "room": {name: value for name, value in room.items() if name not in {"mine", "unread"}},
        "mine": room["mine"],
        "last_seq": room["last_seq"],
        "rev": room.get("rev", 0),
        "epoch": store.epoch,
        "reset": reset,
        "missed": missed[-messages:] if messages else [],
        "changed": found[:50],
        "has_more": len(found) > 50,
    }
