"""The live side of the fake Chat API: `client.socket` without a network."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from chat_broker_sdk._credentials import UserToken
from chat_broker_sdk._dialect import Events
from chat_broker_sdk._errors import WebSocketError
from chat_broker_sdk._realtime.room_feed import may_reconnect
from chat_broker_sdk._realtime.wire import ConnectFailure, ConnectOptions
from chat_broker_sdk._transports.asgi import AsgiApp, AsgiTransport

from . import fake_presence
from .fake_changes import changed, mark_delivered, mine
from .fake_presence import NEW_EVENTS
from .fake_rooms import room_id
from .fake_store import FakeStore, Json, Problem
from .fake_watch import tell, unwatch, watch

MAX_MISSED = MAX_CHANGED = 200
MISSED_AFTER_RESET = 50


class FakeTransport(AsgiTransport):
    """Carries requests and live connections to the fake."""

    def __init__(self, fake: AsgiApp, live: "FakeLive") -> None:
        super().__init__(fake)
        self._live = live

    def open_wire(
        self, on_event: Callable[[str, Any], None], on_end: Callable[[], None]
    ) -> "FakeWire":
        """A live connection that is not opened yet."""
        return FakeWire(self._live, on_event, on_end)


class FakeLive:
    """The live connections to the fake."""

    def __init__(self, store: "FakeStore") -> None:
        self.store = store
        self.wires: set[FakeWire] = set()

    def publish(
        self, event: str, room_id: str, payload: "Json", *, excluded: str | None = None
    ) -> None:
        """Send *event* (an attribute of `Events`) to all connections in the room, but those of the user *excluded*."""
        for wire in tuple(self.wires):
            if event in NEW_EVENTS and not wire.knows_changes:
                continue
            if event == "receipt" and not fake_presence.receipts(self.store, room_id, wire.user_id):
                continue
            if room_id in wire.rooms and wire.user_id != excluded:
                wire.receive(event, payload)
                if event == "room_deleted" or (
                    event == "user_left" and payload["user_id"] == wire.user_id
                ):
                    wire.rooms.discard(room_id)
        tell(tuple(self.wires), event, room_id, payload)

    def tell_user(self, user: "Json") -> None:
        """Send `user_updated` to the connections that know of changes and joined a small room with the user."""
        shared = {room["id"] for room in self.store.rooms_of(user["id"]) if room["small"]}
        for wire in tuple(self.wires):
            if wire.knows_changes and (wire.rooms & shared or user["id"] in wire.watched_users):
                wire.receive("user_updated", user)

    def tell_reload(self, user_id: str) -> None:
        """Tell the connections of the user that know `mine` that it has changed in all rooms."""
        for wire in tuple(self.wires):
            if wire.knows_changes and wire.user_id == user_id:
                wire.receive("mine", {"reload": True})

    def close_user(self, user_id: str, code: str) -> int:
        """End the connections of a user with *code*, and return how many there were."""
        wires = [wire for wire in self.wires if wire.user_id == user_id]
        for wire in wires:
            wire.end(code)
        return len(wires)

    def signal(self, payload: "Json", user_id: str | None, sender: "FakeWire | None") -> None:
        """Send a signal to the sockets of its room, but the one that sent it, or to those of a user."""
        for wire in tuple(self.wires):
            told = payload["room_id"] in wire.rooms if user_id is None else wire.user_id == user_id
            if told and wire.knows_changes and wire is not sender:
                wire.receive("signal", payload)

    def is_online(self, user_id: str) -> bool:
        """Whether the user has a connection."""
        return any(wire.user_id == user_id for wire in self.wires)

    def tell_presence(self, user_id: str) -> None:
        """Send `presence` to the connections that watch the user."""
        if user_id in self.store.users:
            change = fake_presence.presence(self.store, self, user_id)
            for wire in tuple(self.wires):
                if user_id in wire.watched_users:
                    wire.receive("presence", {"changes": [change]})

    def tell_online(self, room_id: str) -> None:
        """Send `room_online` to the room's connections."""
        if "presence" in self.store.features:
            online = {"room_id": room_id, "members_online": self.online(room_id)}
            self.publish("room_online", room_id, online)

    def opened(self, wire: "FakeWire") -> None:
        """A connection was opened."""
        came = not self.is_online(wire.user_id)
        self.wires.add(wire)
        if came:
            self.tell_presence(wire.user_id)

    def ended(self, wire: "FakeWire") -> None:
        """A connection has ended, or never was."""
        if wire not in self.wires:
            return
        self.wires.discard(wire)
        if not self.is_online(wire.user_id):
            self.store.last_seen[wire.user_id] = self.store.timestamp()
            self.tell_presence(wire.user_id)
        for joined in wire.rooms:
            self.tell_online(joined)

    def online(self, room_id: str) -> int:
        """How many users have a connection in the room."""
        return len({wire.user_id for wire in self.wires if room_id in wire.rooms})


class FakeWire:
    """A Wire to the fake."""

    def __init__(
        self, live: FakeLive, on_event: Callable[[str, Any], None], on_end: Callable[[], None]
    ) -> None:
        self.user_id = ""
        self.rooms: set[str] = set()
        self.knows_changes = False
        # Of a client that watches: the rooms it is told of, and those it hears of as if it had joined them.
        self.watched: set[str] | None = None
        self.delivered: set[str] = set()
        self.delivers_all = False
        self.newest = 1
        self.watched_users: frozenset[str] = frozenset()
        self._live = live
        self._on_event = on_event
        self._on_end = on_end
        self._events = Events()
        # The fake may act on another thread, where a synchronous client's calls run.
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[None] = self._loop.create_future()

    async def open(
        self, options: ConnectOptions, token: UserToken, _seconds: float
    ) -> ConnectFailure | None:
        """Connect with *token*. Returns None when connected."""
        self._events = options.dialect.events
        try:
            self.user_id, _ = self._live.store.bearer(token.reveal())
        except Problem as problem:
            error = WebSocketError(
                f"The live connection was refused ({problem.code})", code=problem.code
            )
            return ConnectFailure(error, permanent=not may_reconnect(problem.code, None))
        self._live.opened(self)
        return None

    async def wait(self) -> None:
        """Return when the connection has ended."""
        await asyncio.wait([self._end])

    async def call(self, event: str, args: tuple[Any, ...]) -> object:
        """The acknowledgement of *event*; None if the connection has ended."""
        if self._end.done():
            return None
        events = self._events
        handlers: dict[str, Callable[[Any], Json]] = {
            events.join_room: self._join,
            events.leave_room: self._leave,
            events.send_message: self._send,
            events.start_typing: lambda room_id: self._type("user_typing", room_id),
            events.stop_typing: lambda room_id: self._type("user_stopped_typing", room_id),
            events.mark_read: self._mark_read,
            events.mark_delivered: self._mark_delivered,
            events.watch_rooms: lambda request: watch(self, request),
            events.unwatch_rooms: lambda _: unwatch(self),
            events.refresh_token: self._refresh,
            events.watch_presence: self._watch,
            events.send_signal: self._signal,
        }
        await asyncio.sleep(0)
        request = args[0] if args else {}
        if "external_rooms" in self._live.store.features:
            request = self._by_id(request)
        try:
            return {"ok": True, **_copy(handlers[event](request))}
        except Problem as problem:
            return {"ok": False, "error": {"code": problem.code, "message": str(problem)}}

    def _by_id(self, request: Any) -> Any:
        """*request* with the room's id where it names the room by the app's own."""
        store = self._live.store
        if isinstance(request, str):
            return room_id(store, request)
        if "roomId" in request:
            return {**request, "roomId": room_id(store, request["roomId"])}
        return request

    async def close(self) -> None:
        """End the connection. Does nothing if it has ended."""
        self._live.ended(self)
        self._mark_ended()

    def abandon(self) -> None:
        """Remove the connection, whose event loop is closed."""
        self._live.wires.discard(self)

    # -- from the fake -----------------------------------------------------------------------

    def receive(self, event: str, payload: "Json") -> None:
        """Deliver *event* to the client."""
        self._soon(self._on_event, getattr(self._events, event), _copy(payload))

    def receive_now(self, event: str, payload: "Json") -> None:
        """As `receive`, within a call of `later`."""
        self._on_event(getattr(self._events, event), _copy(payload))

    def later(self, call: Callable[..., None], *args: Any) -> None:
        """Call it after all that was received before."""
        self._soon(call, *args)

    @property
    def store(self) -> FakeStore:
        """The state of the fake."""
        return self._live.store

    def end(self, code: str) -> None:
        """Send the error *code*, and end the connection."""
        self._live.ended(self)
        reconnect = may_reconnect(code, None)
        error = {
            "code": code,
            "message": code.replace("_", " "),
            "closing": True,
            "reconnect": reconnect,
        }
        self._soon(self._on_event, self._events.error, error)
        self._soon(self._mark_ended)

    def _soon(self, call: Callable[..., None], *args: Any) -> None:
        if self._loop.is_closed():
            self._live.wires.discard(self)
        else:
            self._loop.call_soon_threadsafe(call, *args)

    def _mark_ended(self) -> None:
        if not self._end.done():
            self._end.set_result(None)
            self._on_end()

    # -- from the client ---------------------------------------------------------------------

    def _join(self, request: Any) -> "Json":
        store = self._live.store
        known: Json = {} if isinstance(request, str) else request
        room_id = request if isinstance(request, str) else request["roomId"]
        if room_id not in store.rooms:
            raise Problem(404, "room_not_found")
        room = store.rooms[room_id]
        if self.user_id not in store.members[room_id]:
            if room["private"]:
                raise Problem(404, "room_not_found")
            if not known.get("peek"):
                store.join(room_id, self.user_id)
        if room_id not in self.rooms:
            self.rooms.add(room_id)
            self._live.tell_online(room_id)
        self.delivered.discard(room_id)
        since = known.get("sinceSeq")
        missed = [] if since is None else [m for m in store.messages[room_id] if m["seq"] > since]
        answer = {
            "room": room,
            "members_online": self._live.online(room_id),
            "last_seq": room["last_seq"],
            "missed": missed[:MAX_MISSED],
            "has_more": len(missed) > MAX_MISSED,
        }
        if "changes" not in store.features:
            if known.keys() - {"roomId", "sinceSeq"}:
                raise Problem(400, "bad_request")
            return answer
        self.knows_changes |= bool(known.keys() & {"sinceRev", "fromSeq", "epoch", "peek"})
        if "mine" in store.features and self.user_id in store.members[room_id]:
            answer["mine"] = mine(store, room_id, self.user_id)
        answer |= self._changes(room, since, known)
        if "receipts" in store.features and self.user_id in store.members[room_id]:
            receipts = fake_presence.receipts(store, room_id, self.user_id)
            answer |= {"receipts": receipts} if receipts else {}
        return answer

    def _changes(self, room: "Json", since: int | None, known: "Json") -> "Json":
        """What else a server with the feature `changes` answers to a join."""
        store, since_rev = self._live.store, known.get("sinceRev")
        newest = room.get("rev", 0)
        answer: Json = {"rev": newest, "epoch": store.epoch, "reset": False, "changed": []}
        if since is None:
            return answer
        if (
            known.get("epoch") not in {None, store.epoch}
            or since > room["last_seq"]
            or (since_rev or 0) > newest
        ):
            missed = store.messages[room["id"]][-MISSED_AFTER_RESET:]
            return {**answer, "reset": True, "missed": missed, "has_more": False}
        if since_rev is None:
            return answer
        found = changed(store, room["id"], since_rev, known.get("fromSeq", 0), since)
        answer["changed"] = found[:MAX_CHANGED]
        return {**answer, "has_more": True} if len(found) > MAX_CHANGED else answer

    def _leave(self, room_id: str) -> "Json":
        self.rooms.discard(room_id)
        return {}

    def _send(self, draft: "Json") -> "Json":
        if draft["roomId"] not in self._live.store.rooms:
            raise Problem(404, "room_not_found")
        body = {
            "content": draft["content"],
            "client_msg_id": draft.get("clientMsgId"),
            "metadata": draft.get("metadata"),
        }
        return {"message": self._live.store.post(draft["roomId"], self.user_id, body, {})}

    def _type(self, event: str, room_id: str) -> "Json":
        if room_id not in self.rooms:
            raise Problem(400, "not_joined")
        user = self._live.store.user(self.user_id)
        payload = {
            "room_id": room_id,
            "user_id": self.user_id,
            "username": user["username"],
            "display_name": user["display_name"],
        }
        if not self._live.store.rooms[room_id]["small"]:
            return {}
        if event == "user_typing":
            payload["expires_in"] = 6
        self._live.publish(event, room_id, payload, excluded=self.user_id)
        return {}

    def _mark_read(self, mark: "Json") -> "Json":
        return self._live.store.mark_read(mark["roomId"], self.user_id, mark["seq"])

    def _mark_delivered(self, mark: "Json") -> "Json":
        store = self._live.store
        if "mine" not in store.features:
            raise Problem(400, "unknown_event")
        self.knows_changes = True
        return mark_delivered(store, mark["roomId"], self.user_id, mark["seq"])

    def _watch(self, request: "Json") -> "Json":
        if "presence" not in self._live.store.features:
            raise Problem(400, "unknown_event")
        self.knows_changes = True
        return fake_presence.watch(self._live.store, self._live, self, request)

    def _signal(self, request: "Json") -> "Json":
        store, room_id = self._live.store, request["roomId"]
        if "signals" not in store.features:
            raise Problem(400, "unknown_event")
        self.knows_changes = True
        if room_id not in self.rooms:
            raise Problem(400, "not_joined")
        fake_presence.require_may_signal(store, room_id, self.user_id)
        body = {name: value for name, value in request.items() if name != "roomId"}
        payload = fake_presence.signal(store, body, room_id, self.user_id)
        self._live.signal(payload, None, self)
        return {}

    def _refresh(self, request: "Json") -> "Json":
        user_id, expires = self._live.store.bearer(request["token"])
        if user_id != self.user_id:
            raise Problem(401, "token_invalid")
        return {"expires_at": self._live.store.timestamp(expires)}


def _copy(payload: "Json") -> "Json":
    """A snapshot: the store changes its own values later."""
    copied: Json = json.loads(json.dumps(payload))
    return copied
