"""Connections to the fake that watch all rooms of their users."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from .fake_changes import delta, for_member, mine, sync, totals
from .fake_store import FakeStore, Json, Problem

MOST_DELIVERED = 1000


class Watcher(Protocol):
    """What this needs of a connection."""

    user_id: str
    rooms: set[str]
    knows_changes: bool
    watched: set[str] | None
    delivered: set[str]
    delivers_all: bool
    newest: int

    @property
    def store(self) -> FakeStore: ...
    def receive(self, event: str, payload: Json) -> None: ...
    def receive_now(self, event: str, payload: Json) -> None: ...
    def later(self, call: Callable[..., None], *args: Any) -> None: ...


def watch(wire: Watcher, request: Json) -> Json:
    """Answer what the client lacks, and tell its rooms from now on."""
    store = wire.store
    if "sync" not in store.features:
        raise Problem(400, "unknown_event")
    body = dict(request)
    deliver = body.pop("deliver", "all" if wire.delivers_all and "cursor" in body else "activity")
    own = {room["id"] for room in store.rooms_of(wire.user_id)}
    if deliver not in {"activity", "all"}:
        raise Problem(400, "invalid_arguments")
    if deliver == "all" and len(own) > MOST_DELIVERED:
        raise Problem(403, "too_many_rooms")
    answer = sync(store, wire.user_id, body)
    unwatch(wire)
    wire.knows_changes = True
    wire.watched, wire.delivers_all = own, deliver == "all"
    wire.newest = body.get("messages", 1)
    if wire.delivers_all:
        wire.delivered = own - wire.rooms
        wire.rooms |= own
    return answer


def unwatch(wire: Watcher) -> Json:
    """Tell the rooms no more that the client has not joined."""
    wire.rooms -= wire.delivered
    wire.watched, wire.delivered, wire.delivers_all = None, set(), False
    return {}


def tell(wires: Iterable[Watcher], event: str, room_id: str, payload: Json) -> None:
    """What an event of a room means to those who watch. Unlike a server the fake tells each activity, at once."""
    for wire in wires:
        if wire.watched is None:
            continue
        mine_is_meant = payload.get("user_id") == wire.user_id
        if event == "user_joined" and mine_is_meant:
            wire.later(_tell_added, wire, room_id)
        elif room_id not in wire.watched:
            continue
        elif event == "room_deleted" or (event == "user_left" and mine_is_meant):
            reason = "deleted" if event == "room_deleted" else wire.store.departure
            wire.watched.discard(room_id)
            wire.receive("room_removed", {"room_id": room_id, "reason": reason})
        elif room_id not in wire.rooms and _is_activity(wire.store, event, room_id, payload):
            wire.receive("room_activity", _activity(wire, room_id))


def tell_mine(store: FakeStore, wires: Iterable[Watcher], room_id: str, user_id: str) -> None:
    """Send `mine` to the connections of the user that know it."""
    if not store.features:
        return
    side = mine(store, room_id, user_id)
    payload: Json = {"room_id": room_id, "mine": side, "totals": totals(store, user_id)}
    for wire in wires:
        if wire.user_id == user_id and wire.knows_changes:
            wire.receive("mine", payload)


def _tell_added(wire: Watcher, room_id: str) -> None:
    """As the room is now: when its first members join it is not complete."""
    store = wire.store
    if wire.watched is None or wire.user_id not in store.members.get(room_id, {}):
        return
    if room_id in wire.watched:
        return
    wire.watched.add(room_id)
    if wire.delivers_all and room_id not in wire.rooms:
        wire.rooms.add(room_id)
        wire.delivered.add(room_id)
    room = for_member(store, store.rooms[room_id], wire.user_id)
    wire.receive_now("room_added", delta(store, room, None, wire.newest))


def _is_activity(store: FakeStore, event: str, room_id: str, payload: Json) -> bool:
    last = store.rooms[room_id]["last_seq"]
    changed = event in {"message_updated", "message_deleted"} and payload["seq"] == last
    return event == "message" or changed


def _activity(wire: Watcher, room_id: str) -> Json:
    room = wire.store.rooms[room_id]
    payload: dict[str, Any] = {
        "room_id": room_id,
        "last_seq": room["last_seq"],
        "rev": room.get("rev", 0),
        "last_message": wire.store.messages[room_id][-1],
    }
    if room["small"]:
        payload |= {"unread": wire.store.unread(room_id, wire.user_id), "mentions": 0}
    return payload
