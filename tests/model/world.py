"""The users, rooms and clients of one run of the model, and what has to hold of each client."""

import asyncio
import copy
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec.structs import replace

from chat_broker_sdk import (
    AsyncChatClient,
    ChatError,
    Delta,
    Member,
    MemberEvent,
    Message,
    Mine,
    MineEvent,
    Room,
    RoomActivity,
    SyncResult,
)
from chat_broker_sdk._fields import without_none
from chat_broker_server.credentials.api_keys import ApiKeys
from tests.model.actions import ACTIONS, Pick
from tests.model.nodes import Node, NodeTransport
from tests.model.virtual_time import VirtualClockLoop

HEALED = 10.0
"""Seconds after which a client lacks nothing, whatever the bus has lost."""
MARKED = 12.0
"""Seconds after which sockets have marked what was delivered to them late, and other devices have heard of it without the bus."""
_URL = "http://127.0.0.1:1"
_REFUSALS = {400, 403, 404, 409}
_NOT_OF_THE_STATE = {"username", "display_name", "change"}


@dataclass
class RoomCopy:
    """What an application holds of a room, and the point up to which it lacks nothing."""

    seq: int = 0
    rev: int = 0
    epoch: str | None = None
    messages: dict[int, Message] = field(default_factory=dict)
    room: Room | None = None
    members: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    """User → rev of the membership's last change, and the role; None for who is gone."""

    def note_room(self, room: Room) -> None:
        if self.room is None or (room.rev or 0) >= (self.room.rev or 0):
            self.room = room

    def note_member(self, user_id: str, rev: int | None, role: str | None) -> None:
        known = self.members.get(user_id)
        if known is None or (rev or 0) > known[0]:
            self.members[user_id] = rev or 0, role


class App:
    """A user's application on one device: its copies of rooms and its list, kept by the SDK's events alone."""

    def __init__(self, world: "World", user_id: str, token: str, node: Node) -> None:
        self.world = world
        self.user_id = user_id
        self.transport = NodeTransport(node)
        self.client = AsyncChatClient(
            _URL, jwt_token=token, transport=self.transport, allow_http=True
        )
        self.copies: dict[str, RoomCopy] = {}
        self.saved: dict[str, RoomCopy] = {}
        self.joined: set[str] = set()
        self.on = False
        # Rooms of which the user's membership has ended since they were joined here.
        self.ended: set[str] = set()
        # The first message of each room that the copy holds for sure: earlier ones were hidden at some time.
        self.begins: dict[str, int] = {}
        self.wrong: list[str] = []
        self.list: dict[str, tuple[Room, Mine]] = {}
        self.list_epoch: str | None = None
        self.list_token: str | None = None
        socket = self.client.socket
        socket.on_message(self._message)
        socket.on_message_updated(self._changed)
        socket.on_message_deleted(self._changed)
        socket.on_room_updated(self._room)
        socket.on_user_joined(lambda event: self._member(event, event.role or "member"))
        socket.on_user_left(lambda event: self._member(event, None))
        socket.on_member_updated(lambda member: self._member(member, member.role))
        socket.on_reset(self._reset)
        socket.on_error(self._error)

    # -- events

    def _copy(self, room_id: str | None) -> RoomCopy | None:
        return self.copies.get(room_id or "")

    def _message(self, message: Message) -> None:
        copy_ = self._copy(message.room_id)
        if copy_ is not None and message.seq is not None:
            if message.seq <= copy_.seq:
                self.wrong.append(f"message {message.seq} was told again after {copy_.seq}")
            copy_.seq = message.seq
            copy_.messages[message.seq] = message

    def _changed(self, message: Message) -> None:
        copy_ = self._copy(message.room_id)
        if copy_ is not None and message.seq is not None:
            if message.seq > copy_.seq:
                self.wrong.append(f"a change of {message.seq} was told before it")
            self._point(copy_, message.rev)
            copy_.messages[message.seq] = message

    def _room(self, room: Room) -> None:
        copy_ = self._copy(room.id)
        if copy_ is not None:
            self._point(copy_, room.rev)
            copy_.note_room(room)

    def _member(self, event: MemberEvent | Member, role: str | None) -> None:
        copy_ = self._copy(event.room_id)
        if copy_ is not None:
            # A join and a change of the role may be told as two events of one rev.
            copy_.rev = max(copy_.rev, event.rev or 0)
            copy_.note_member(event.user_id, event.rev, role)

    def _point(self, copy_: RoomCopy, rev: int | None) -> None:
        if rev is None or rev <= copy_.rev:
            self.wrong.append(f"a change with the rev {rev} came after {copy_.rev}")
        copy_.rev = max(copy_.rev, rev or 0)

    def _reset(self, room: Room, messages: tuple[Message, ...]) -> None:
        self.wrong.append(f"reset of {room.id} with {len(messages)} messages")

    def _error(self, error: Any) -> None:
        if error.code == "room_not_found":
            # The SDK has given up a room that it could not join again.
            self.joined &= self.client.socket._feeds.keys()
        elif error.code not in {"connection_lost", "not_connected"}:
            self.wrong.append(f"error {error}")

    # -- acts

    async def connect(self, node: Node) -> None:
        if not self.on:
            self.transport.move_to(node)
            await self.client.socket.connect()
            self.on = True

    async def disconnect(self) -> None:
        if self.on:
            await self.client.socket.disconnect()
            self.on = False
            self.joined.clear()

    async def join(self, room_id: str) -> None:
        """Join from what the application has of the room; from its beginning if that is nothing."""
        if not self.on:
            return
        held = self.copies.get(room_id)
        if held is None:
            held = RoomCopy()
            for user_id, member in (await self.world.members(room_id)).items():
                held.note_member(user_id, member.rev, member.role)
            self.copies.setdefault(room_id, held)
        await self._all_told()
        held = self.copies.get(room_id)
        if held is None or not self.on:
            return
        self.joined.add(room_id)
        self.ended.discard(room_id)
        try:
            joined = await self.client.socket.join_room(
                room_id, since_seq=held.seq, since_rev=held.rev, epoch=held.epoch
            )
        except ChatError as error:
            if error.code != "room_not_found":
                raise
            self.forget(room_id)
            return
        held.epoch = joined.epoch
        if joined.room is not None:
            held.note_room(joined.room)

    async def _all_told(self) -> None:
        """Return when no event waits for its handler. Only then the copies say what the application lacks."""
        while self.client.socket._handlers.waiting:  # noqa: ASYNC110 - the clock is virtual
            await asyncio.sleep(0)

    async def leave_room(self, room_id: str) -> None:
        if self.on and room_id in self.joined:
            self.joined.discard(room_id)
            await self.client.socket.leave_room(room_id)

    def forget(self, room_id: str) -> None:
        """The room is not this user's any more."""
        self.joined.discard(room_id)
        self.copies.pop(room_id, None)
        self.saved.pop(room_id, None)

    def save(self) -> None:
        """Write down what the application would find after a crash."""
        self.saved = copy.deepcopy(self.copies)

    async def crash(self, node: Node) -> None:
        """Start again from what was saved, and join what was joined."""
        rooms = sorted(self.joined)
        self.cut()
        await self.disconnect()
        self.copies = copy.deepcopy(self.saved)
        await self.connect(node)
        for room_id in rooms:
            await self.join(room_id)

    def cut(self, *, server_notices_after: float = 0.0) -> None:
        """Break the connection; the SDK opens another one."""
        if self.transport.wire is not None:
            self.transport.wire.cut(server_notices_after=server_notices_after)
            # The SDK joins its rooms again by itself.
            self.ended.clear()

    # -- what has to hold

    async def caught_up(self) -> None:
        """Return when the SDK has connected, joined and told all that it knows of."""
        socket = self.client.socket

        def busy() -> bool:
            feeds = socket._feeds.values()
            return bool(
                not socket.connected
                or socket._joining
                or any(feed.is_behind for feed in feeds)
                or (socket._watch is not None and socket._watch._requests)
                or socket._handlers.waiting
            )

        async with asyncio.timeout(60):
            while busy():  # noqa: ASYNC110 - the clock is virtual
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.05)

    async def check(self, *, at_once: bool = False) -> None:
        """Every copy that is kept live is what the database has."""
        assert not self.wrong, self.wrong
        for room_id in sorted(self.joined):
            if room_id not in self.world.rooms or room_id in self.ended:
                continue
            members = await self.world.members(room_id)
            if self.user_id not in members:
                continue
            held = self.copies[room_id]
            mine = await self.world.api.rooms.mine(room_id, user_id=self.user_id)
            stored = await self.world.messages_of(room_id)
            from_seq = self.begins[room_id] = max(mine.from_seq, self.begins.get(room_id, 1))
            has = {seq: _state(m) for seq, m in held.messages.items() if seq >= from_seq}
            states = {seq: _state(m) for seq, m in stored.items() if seq >= from_seq}
            assert has == states, _difference(has, states)
            room = await self.world.api.rooms.get(room_id)
            assert held.room is not None, room_id
            fields = "name", "description", "private", "metadata"
            have = {name: getattr(held.room, name) for name in fields}
            want = {name: getattr(room, name) for name in fields}
            assert have == want, f"{have} not {want}"
            roles = {user: role for user, (_, role) in held.members.items() if role is not None}
            stored_roles = {user: member.role for user, member in members.items()}
            assert roles == stored_roles, f"{roles} not {stored_roles}"

    async def check_list(self) -> None:
        """After a sync the list of rooms is what the server lists, and the totals are its totals."""
        have = {
            room_id: (room.last_seq or 0, room.rev or 0, mine.version)
            for room_id, (room, mine) in self.list.items()
        }
        cursor = None
        while True:
            body = without_none(
                have=have, epoch=self.list_epoch, limit=2, cursor=cursor, token=self.list_token
            )
            answer = await self.client._api.request(
                "POST", "/api/v1/sync", SyncResult, auth="user", body=body
            )
            for room_id in answer.removed:
                self.list.pop(room_id, None)
            for delta in answer.deltas:
                assert delta.mine is not None
                self.list[delta.room.id] = delta.room, delta.mine
            cursor = answer.cursor
            if not answer.has_more:
                break
        self.list_epoch, self.list_token = answer.epoch, answer.token
        page = await self.client.rooms.list(limit=200)
        listed = {room.id: room.mine for room in page.items}
        sides = {room_id: mine for room_id, (_, mine) in self.list.items()}
        assert sides == listed, f"{sides} not {listed}"
        for room_id, (room, _) in self.list.items():
            stored = await self.world.api.rooms.get(room_id)
            assert room == stored, f"{room} not {stored}"
        totals = await self.world.api.users.unread(self.user_id)
        assert answer.unread == totals, f"{answer.unread} not {totals}"


def _state(message: Message) -> dict[str, Any]:
    """A message without what is as of the answer."""
    fields = message.__struct_fields__
    return {name: getattr(message, name) for name in fields if name not in _NOT_OF_THE_STATE}


def _difference(have: dict[Any, Any], want: dict[Any, Any]) -> str:
    return "\n".join(
        f"{seq}: has {have.get(seq)}\n   not {want.get(seq)}"
        for seq in sorted(have.keys() | want.keys())
        if have.get(seq) != want.get(seq)
    )


class Watcher(App):
    """An application that shows the list of rooms, and has joined none."""

    def __init__(self, world: "World", user_id: str, token: str, node: Node) -> None:
        super().__init__(world, user_id, token, node)
        self.shown: dict[str, Shown] = {}
        socket = self.client.socket
        socket.on_room_added(self._added)
        socket.on_room_removed(lambda event: self.shown.pop(event.room_id, None))
        socket.on_room_activity(self._activity)
        socket.on_mine(self._mine)

    def _added(self, delta: Delta) -> None:
        assert delta.mine is not None
        known = self.shown.get(delta.room.id)
        last = None if known is None or delta.reset else known.last_message
        for change in delta.changed:
            if change.message is not None and last is not None and change.message.seq == last.seq:
                last = change.message
        last = delta.missed[-1] if delta.missed else last
        self.shown[delta.room.id] = Shown(delta.mine, delta.last_seq, last)

    def _activity(self, event: RoomActivity) -> None:
        known = self.shown.get(event.room_id)
        if known is None:
            self.wrong.append(f"activity of {event.room_id}, which was not added")
            return
        side = replace(known.mine, unread=event.unread or 0, mentions=event.mentions or 0)
        self.shown[event.room_id] = Shown(side, event.last_seq, event.last_message)

    async def _mine(self, event: MineEvent) -> None:
        if event.reload:
            for room in (await self.client.rooms.list(limit=200)).items:
                if room.id in self.shown and room.mine is not None:
                    self.shown[room.id] = self.shown[room.id]._replace(mine=room.mine)
        elif event.room_id in self.shown and event.mine is not None:
            self.shown[event.room_id] = self.shown[event.room_id]._replace(mine=event.mine)

    async def connect(self, node: Node) -> None:
        if not self.on:
            await super().connect(node)
            self.shown.clear()
            await self.client.socket.watch_rooms()

    async def join(self, room_id: str) -> None:
        """Join nothing."""

    async def check(self, *, at_once: bool = False) -> None:
        """The list is the server's; after a reconnect it is *at_once*, with what is worked out from messages."""
        if at_once and any(node.bus.disturbed for node in self.world.nodes):
            return  # another device of the user may have moved a mark, of which nothing was heard yet
        await asyncio.sleep(MARKED)
        await self.caught_up()
        assert not self.wrong, self.wrong
        page = await self.client.rooms.list(limit=200)
        listed = {
            room.id: Shown(room.mine, room.last_seq or 0, room.last_message)
            for room in page.items
            if room.mine is not None
        }
        has = {room_id: each.compared(whole=at_once) for room_id, each in self.shown.items()}
        want = {room_id: each.compared(whole=at_once) for room_id, each in listed.items()}
        assert has == want, _difference(has, want)


class Shown(NamedTuple):
    """What the list shows of a room."""

    mine: Mine
    last_seq: int
    last_message: Message | None

    def compared(self, *, whole: bool) -> tuple[Mine, int, dict[str, Any] | None]:
        """What must be as the server lists it. Not *whole*: without what old messages change, which is not told."""
        mine = self.mine
        if not whole:
            ended = "no" if mine.archived == "until_message" else mine.archived
            mine = replace(mine, unread=0, mentions=0, archived=ended)
        last = self.last_message
        hidden = last is None or (last.seq or 0) < mine.from_seq
        # Nothing is told of what the user does not see.
        last_seq = max(self.last_seq, mine.from_seq - 1)
        return mine, last_seq, None if last is None or hidden else _state(last)


class World:
    """A project of its own on nodes that all runs share."""

    def __init__(self, nodes: list[Node], keys: ApiKeys) -> None:
        self.nodes = nodes
        self._keys = keys
        self._stack = AsyncExitStack()
        self._numbers = 0
        self.apis: list[AsyncChatClient] = []
        self.users: list[str] = []
        self.rooms: list[str] = []
        self.messages: dict[str, list[str]] = {}
        self.apps: list[App] = []

    @property
    def api(self) -> AsyncChatClient:
        return self.apis[0]

    def node(self, number: int) -> Node:
        return self.nodes[number % len(self.nodes)]

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    async def start(self) -> None:
        """Three users in two rooms, the first with two devices, everybody connected to both."""
        _, key = await self._keys.create_project("model")
        for node in self.nodes:
            api = AsyncChatClient(_URL, api_key=key, transport=NodeTransport(node), allow_http=True)
            self.apis.append(await self._stack.enter_async_context(api))
        for name in ("ann", "bob", "eve"):
            user = await self.api.users.create(username=name, external_user_id=name)
            self.users.append(user.id)
        for private in (False, True):
            await self.open_room(self.users[0], *self.users[1:], private=private)
        for number, user_id in enumerate([*self.users, *self.users[:2]]):
            token = (await self.api.users.generate_token(user_id)).token
            kind = Watcher if number == 4 else App
            app = kind(self, user_id, token, self.node(number))
            self.apps.append(app)
            await app.connect(self.node(number))
            for room_id in self.rooms:
                await app.join(room_id)

    async def close(self) -> None:
        for app in self.apps:
            await app.disconnect()
            await app.client.aclose()
        await self._stack.aclose()

    # -- acts

    async def act(self, name: str, numbers: tuple[int, int, int, int]) -> None:
        """Do what was drawn. What the server refuses was not possible, and changes nothing."""
        try:
            await ACTIONS[name](Pick(self, *numbers))
        except ChatError as error:
            if getattr(error, "status", None) not in _REFUSALS:
                raise

    async def open_room(self, owner: str, *members: str, private: bool) -> None:
        room = await self.api.rooms.create(
            name="room", created_by=owner, member_ids=members, private=private
        )
        self.rooms.append(room.id)
        self.messages[room.id] = []

    async def delete_room(self, room_id: str, api: AsyncChatClient) -> None:
        if room_id in self.rooms:
            self.rooms.remove(room_id)
            await api.rooms.delete(room_id)
            for app in self.apps:
                app.forget(room_id)

    def note_end(self, user_id: str, room_id: str) -> None:
        """A membership ends. Who was removed has to join again to hear more."""
        for app in self.apps:
            if app.user_id == user_id:
                app.ended.add(room_id)

    def note_hidden(self, user_id: str, room_id: str, from_seq: int) -> None:
        """The user sees the room from this message on, as long as they are a member."""
        for app in self.apps:
            if app.user_id == user_id:
                app.begins[room_id] = max(from_seq, app.begins.get(room_id, 1))

    # -- what the database has

    async def members(self, room_id: str) -> dict[str, Member]:
        if room_id not in self.rooms:
            return {}
        page = await self.api.rooms.members(room_id, limit=200)
        return {member.user_id: member for member in page.items}

    async def messages_of(self, room_id: str) -> dict[int, Message]:
        return {
            message.seq or 0: message
            async for message in self.api.messages.iterate(room_id, after=0, limit=200)
        }

    async def check_all(self) -> None:
        """Whoever is connected has everything, after as long as a lost hint may take."""
        await asyncio.sleep(HEALED)
        for app in self.apps:
            if app.on:
                await app.caught_up()
                await app.check()


def running_loop() -> VirtualClockLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    return loop
